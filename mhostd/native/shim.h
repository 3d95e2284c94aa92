/* shim.h - the data plane of one security session between two hosts
 *
 *   octet  0     1     2     3     4           8                 16
 *          +-----+-----+-----+-----+-----------+-----------------+---------+---------+
 *          |v t  |next |path | 0   | id        | sequence number | inner   | tag: 16 |
 *          +-----+-----+-----+-----+-----------+-----------------+---------+---------+
 *
 * v is the version, 1, and t the type, 5 for data; `next` is the IP protocol of what is
 * inside, `path` the sender's number of the path, `id` the receiver's of the session. The
 * tag is SipHash-2-4-128 over all that is in front of it.
 *
 * The mutex guards what changes; each function takes it, and computes no tag with it.
 */
#ifndef MHOSTD_SHIM_H
#define MHOSTD_SHIM_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "siphash.h"

#define SHIM_DATA	0x15	/* version 1, type 5 */
#define SHIM_HLEN	16	/* octets of header */
#define SHIM_OVERHEAD	(SHIM_HLEN + SIPHASH_LEN)
#define SHIM_INNER_MAX	(65535 - SHIM_OVERHEAD)	/* octets */
#define SHIM_SEQ_MAX	(UINT64_MAX - 1)	/* the last that is sent */
#define SHIM_PATHS	256
#define SHIM_WINDOW	8192	/* sequence numbers, the highest one included */
#define SHIM_WORDS	256	/* of the bitmap: a power of 2, more than the window takes */

/* What may become of a packet. */
enum shim_says { SHIM_OK, SHIM_MALFORMED, SHIM_REPLAYED, SHIM_BAD_TAG };

#define SHIM_SAYS	4

/**
 * struct shim_path - what came over a path with a good tag
 * @count:	packets, also those that had come before, here or over another path
 * @highest:	the highest sequence number among them
 */
struct shim_path {
	uint64_t count;
	uint64_t highest;
};

/**
 * struct shim - one session, both ways
 * @refs:	who holds it
 * @remote_id:	the other side's number of the session (host order)
 * @rx_key:	of what comes; never changes, nor does @tx_key
 * @tx_key:	of what goes out
 * @lock:	guards what follows
 * @tx_seq:	the last sequence number that was given out, 0 for none
 * @rx_max:	the highest that came, 0 for none
 * @seen:	a bit for each sequence number, modulo the size (RFC 6479)
 * @counts:	packets that came, by enum shim_says
 * @sent:	packets sealed for each path
 * @received:	by path
 */
struct shim {
	atomic_uint refs;
	uint32_t remote_id;
	uint8_t rx_key[SIPHASH_KEY];
	uint8_t tx_key[SIPHASH_KEY];
	pthread_mutex_t lock;
	uint64_t tx_seq;
	uint64_t rx_max;
	uint64_t seen[SHIM_WORDS];
	uint64_t counts[SHIM_SAYS];
	uint64_t sent[SHIM_PATHS];
	struct shim_path received[SHIM_PATHS];
};

/**
 * struct shim_view - a packet whose tag is right
 * @seq:	sequence number (host order)
 * @inner:	within the packet
 * @len:	octets of @inner
 * @path:	the sender's number of the path
 * @next:	IP protocol of @inner
 */
struct shim_view {
	uint64_t seq;
	const uint8_t *inner;
	size_t len;
	uint8_t path;
	uint8_t next;
};

struct shim *shim_new(const uint8_t *rx_key, const uint8_t *tx_key, uint32_t remote_id);
struct shim *shim_get(struct shim *shim);
void shim_put(struct shim *shim);

int shim_next(struct shim *shim, uint64_t *seq);
ssize_t shim_seal(struct shim *shim, uint8_t path, uint8_t next, const struct iovec *parts,
		  size_t n_parts, uint8_t *out);
ssize_t shim_seal_as(struct shim *shim, uint8_t path, uint8_t next, uint64_t seq,
		     const struct iovec *parts, size_t n_parts, uint8_t *out);
enum shim_says shim_open(struct shim *shim, const uint8_t *packet, size_t len,
			 struct shim_view *view);

#endif
