/* flow.h - what the walk has found out about a flow, so that it need not be asked again
 *
 * A flow is an answer of the walk that C may repeat: this socket gets what comes from
 * there, this header takes what goes there. An entry counts for as long as three
 * numbers are what they were when it was made: that of everything (hosts, routes, faults,
 * protocols), that of its socket, that of the port. Changing one forgets the entries.
 *
 * The table is a cache: 4 entries share a place, the oldest makes room.
 */
#ifndef MHOSTD_FLOW_H
#define MHOSTD_FLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"

#define FLOW_SETS	(1u << 14)
#define FLOW_WAYS	4
#define FLOW_KEY	40	/* octets of a key */

enum flow_kind { FLOW_RX, FLOW_TUN, FLOW_LO, FLOW_HOST, FLOW_PEER };

/**
 * struct flow - one entry
 * @key:	a struct flow_key up, the socket and the record's destination down
 * @epoch:	of everything, 0 if the entry is empty
 * @sock_epoch:	of the socket
 * @port_epoch:	of the port up; down nobody looks
 * @slot:	of the socket
 * @kind:	up, down over the TUN, to ourselves, through the host kernel's UDP, or to an
 *		associated host
 * @id_no:	up: handle of the host that it comes from, or 0
 * @l3:		up: number of the L3 handler
 * @family:	down: AF_INET or AF_INET6
 * @payload_max: down: octets of one datagram at most; what is longer is for the walk
 * @segment_max: down: octets of each at most where several go in one piece
 * @hlen:	down: octets in @headers
 * @headers:	down: L3 and UDP, but for lengths and checksums; of the host kernel a
 *		struct sockaddr, of an associated host its number, flags and the UDP header
 */
struct flow {
	uint8_t key[FLOW_KEY];
	uint32_t epoch;
	uint32_t sock_epoch;
	uint32_t port_epoch;
	uint32_t slot;
	uint32_t kind;
	uint32_t id_no;
	uint32_t l3;
	uint32_t family;
	uint32_t payload_max;
	uint32_t segment_max;
	uint32_t hlen;
	uint8_t headers[FRAME_HLEN_MAX];
};

struct flow_table {
	struct flow *flows;	/* FLOW_SETS * FLOW_WAYS */
	uint64_t seed;
};

_Static_assert(sizeof(struct flow_key) == FLOW_KEY, "a key of the way up");

int flow_table_init(struct flow_table *table);
void flow_table_free(struct flow_table *table);
uint64_t flow_hash(const struct flow_table *table, const void *key);
struct flow *flow_find(const struct flow_table *table, const void *key, uint64_t hash);
struct flow *flow_add(struct flow_table *table, const void *key);

#endif
