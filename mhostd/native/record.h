/* record.h - one datagram between application and daemon (docs/ipc.md, mhostd/uapi.py)
 *
 *   octet 0        4       6       8       10      12       16         32      36
 *         +--------+-------+-------+-------+-------+--------+----------+-------+-------+
 *         | length | flags | segsz | family| port  | cookie | address  | id_no | scope |
 *         +--------+-------+-------+-------+-------+--------+----------+-------+-------+
 *
 * Both ends share one machine: integers are in its byte order, the address is in
 * network order. A record begins at a multiple of RECORD_ALIGN.
 */
#ifndef MHOSTD_RECORD_H
#define MHOSTD_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define RECORD_HLEN		40
#define RECORD_ALIGN		8
#define RECORD_REPLY		1	/* down: answer with a Reply whose seq is the cookie */
#define RECORD_CONNECTED	2	/* down: to the peer of connect() */
#define RECORD_CONTROL		4	/* control messages stand before the payload */
#define RECORD_PAD		0x8000	/* in a ring: no datagram, the next one is at its start */

#define RECORD_PAYLOAD_MAX	65507	/* octets, of one datagram or of a run of segments */
#define RECORD_CONTROL_MAX	1024	/* octets of control messages */

/**
 * struct record - the header of a record
 * @length:	octets of header and payload, without padding
 * @flags:	RECORD_* bits
 * @segment_size: octets of each datagram in the payload (the last may be shorter);
 *		0 if it is one datagram
 * @family:	address family of @address
 * @port:	UDP port (host order)
 * @cookie:	down: seq of the Reply; up: number of the L3 handler
 * @address:	L3 address, padded with zero octets
 * @id_no:	handle of a host, or 0
 * @scope_id:	interface index of a link-local address, or 0
 */
struct record {
	uint32_t length;
	uint16_t flags;
	uint16_t segment_size;
	uint16_t family;
	uint16_t port;
	uint32_t cookie;
	uint8_t address[16];
	uint32_t id_no;
	uint32_t scope_id;
};

_Static_assert(sizeof(struct record) == RECORD_HLEN, "struct record is the wire");

/* Octets that @octets take with their padding. */
static inline size_t record_align(size_t octets)
{
	return (octets + RECORD_ALIGN - 1) & ~(size_t)(RECORD_ALIGN - 1);
}

/* How many datagrams a record holds; an empty payload is one. */
static inline uint32_t record_segments(size_t payload, uint16_t segment_size)
{
	if (!segment_size || !payload)
		return 1;
	return (uint32_t)((payload + segment_size - 1) / segment_size);
}

#endif
