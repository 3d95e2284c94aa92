/* shim.c - the data plane of one security session (shim.h) */

#include <endian.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "shim.h"

#define WORD_BITS	64

_Static_assert((SHIM_WORDS & (SHIM_WORDS - 1)) == 0, "words are found by a mask");
_Static_assert(SHIM_WORDS * WORD_BITS >= SHIM_WINDOW + WORD_BITS, "RFC 6479 section 2");

/**
 * shim_new() - a session in which nothing was sent or received
 * @rx_key:	SIPHASH_KEY octets, for what comes
 * @tx_key:	SIPHASH_KEY octets, for what goes out
 * @remote_id:	the other side's number of the session (host order)
 *
 * Return: the session, held once, or NULL with errno set
 */
struct shim *shim_new(const uint8_t *rx_key, const uint8_t *tx_key, uint32_t remote_id)
{
	struct shim *shim = calloc(1, sizeof(*shim));

	if (!shim)
		return NULL;
	errno = pthread_mutex_init(&shim->lock, NULL);
	if (errno) {
		free(shim);
		return NULL;
	}
	atomic_init(&shim->refs, 1);
	shim->remote_id = remote_id;
	memcpy(shim->rx_key, rx_key, SIPHASH_KEY);
	memcpy(shim->tx_key, tx_key, SIPHASH_KEY);
	return shim;
}

/* Hold it once more; who does this holds it, or keeps somebody from letting it go. */
struct shim *shim_get(struct shim *shim)
{
	atomic_fetch_add_explicit(&shim->refs, 1, memory_order_relaxed);
	return shim;
}

/* Let it go; the last one takes the keys out of memory. */
void shim_put(struct shim *shim)
{
	if (!shim || atomic_fetch_sub_explicit(&shim->refs, 1, memory_order_acq_rel) != 1)
		return;
	pthread_mutex_destroy(&shim->lock);
	explicit_bzero(shim, sizeof(*shim));
	free(shim);
}

/* --- what goes out */

/* The next sequence number, 0 if there is none left; with the lock. */
static uint64_t next_seq(struct shim *shim)
{
	return shim->tx_seq < SHIM_SEQ_MAX ? ++shim->tx_seq : 0;
}

/**
 * shim_next() - take a sequence number, for one datagram on several paths
 * @seq:	where to put it (host order)
 *
 * Return: 0, or -EOVERFLOW: they are used up, and a new session is due
 */
int shim_next(struct shim *shim, uint64_t *seq)
{
	pthread_mutex_lock(&shim->lock);
	*seq = next_seq(shim);
	pthread_mutex_unlock(&shim->lock);
	return *seq ? 0 : -EOVERFLOW;
}

/* Octets of all parts; SIZE_MAX if that is too many. */
static size_t parts_len(const struct iovec *parts, size_t n_parts)
{
	size_t len = 0;

	for (size_t i = 0; i < n_parts; i++) {
		if (parts[i].iov_len > SHIM_INNER_MAX - len)
			return SIZE_MAX;
		len += parts[i].iov_len;
	}
	return len;
}

/* Write the packet; nothing here changes or is guarded. */
static ssize_t emit(const struct shim *shim, uint8_t path, uint8_t next, uint64_t seq,
		    const struct iovec *parts, size_t n_parts, uint8_t *out)
{
	uint32_t id = htobe32(shim->remote_id);
	size_t len = SHIM_HLEN;

	seq = htobe64(seq);
	out[0] = SHIM_DATA;
	out[1] = next;
	out[2] = path;
	out[3] = 0;
	memcpy(out + 4, &id, sizeof(id));
	memcpy(out + 8, &seq, sizeof(seq));
	for (size_t i = 0; i < n_parts; i++) {
		if (parts[i].iov_len)
			memcpy(out + len, parts[i].iov_base, parts[i].iov_len);
		len += parts[i].iov_len;
	}
	siphash128(shim->tx_key, out, SHIM_HLEN, out + SHIM_HLEN, len - SHIM_HLEN, out + len);
	return (ssize_t)(len + SIPHASH_LEN);
}

/**
 * shim_seal() - make a packet, which counts as sent on its path
 * @path:	our number of the path
 * @next:	IP protocol of what is inside
 * @parts:	the inner packet, SHIM_INNER_MAX octets at most
 * @n_parts:	how many
 * @out:	room for SHIM_OVERHEAD octets more than the inner packet has; no part may
 *		overlap it
 *
 * Return: octets of the packet, -EMSGSIZE, or -EOVERFLOW as of shim_next()
 */
ssize_t shim_seal(struct shim *shim, uint8_t path, uint8_t next, const struct iovec *parts,
		  size_t n_parts, uint8_t *out)
{
	uint64_t seq;

	if (parts_len(parts, n_parts) == SIZE_MAX)
		return -EMSGSIZE;
	pthread_mutex_lock(&shim->lock);
	seq = next_seq(shim);
	shim->sent[path] += seq != 0;
	pthread_mutex_unlock(&shim->lock);
	return seq ? emit(shim, path, next, seq, parts, n_parts, out) : -EOVERFLOW;
}

/**
 * shim_seal_as() - shim_seal() with a sequence number that the caller has
 * @seq:	1..SHIM_SEQ_MAX, of shim_next(); a higher one is never given out again,
 *		nor is one below it
 *
 * Return: as of shim_seal(), or -EINVAL for a @seq that none may have
 */
ssize_t shim_seal_as(struct shim *shim, uint8_t path, uint8_t next, uint64_t seq,
		     const struct iovec *parts, size_t n_parts, uint8_t *out)
{
	if (!seq)
		return -EINVAL;
	if (seq > SHIM_SEQ_MAX)
		return -EOVERFLOW;
	if (parts_len(parts, n_parts) == SIZE_MAX)
		return -EMSGSIZE;
	pthread_mutex_lock(&shim->lock);
	if (seq > shim->tx_seq)
		shim->tx_seq = seq;
	shim->sent[path]++;
	pthread_mutex_unlock(&shim->lock);
	return emit(shim, path, next, seq, parts, n_parts, out);
}

/* --- what comes */

/* Whether a sequence number is new, which it then is no more; with the lock. */
static bool mark(struct shim *shim, uint64_t seq)
{
	uint64_t word = seq / WORD_BITS, bit = UINT64_C(1) << seq % WORD_BITS;
	uint64_t *at = &shim->seen[word & (SHIM_WORDS - 1)];

	if (seq > shim->rx_max) {
		uint64_t last = shim->rx_max / WORD_BITS, ahead = word - last;

		if (ahead > SHIM_WORDS)
			ahead = SHIM_WORDS;
		for (uint64_t i = 0; i < ahead; i++)
			shim->seen[(word - i) & (SHIM_WORDS - 1)] = 0;
		shim->rx_max = seq;
	} else if (shim->rx_max - seq >= SHIM_WINDOW || *at & bit) {
		return false;
	}
	*at |= bit;
	return true;
}

/* Whether the tag behind @len octets is right, in a time that does not depend on it. */
static bool tag_is_right(const struct shim *shim, const uint8_t *packet, size_t len)
{
	uint64_t want[SIPHASH_LEN / 8], got[SIPHASH_LEN / 8];

	siphash128(shim->rx_key, packet, SHIM_HLEN, packet + SHIM_HLEN, len - SHIM_HLEN,
		   (uint8_t *)want);
	memcpy(got, packet + len, SIPHASH_LEN);
	return !((want[0] ^ got[0]) | (want[1] ^ got[1]));
}

/* Read the header. Whose session it is, the caller has seen by the id. */
static bool parse(struct shim_view *view, const uint8_t *packet, size_t len)
{
	uint64_t seq;

	if (len < SHIM_OVERHEAD || len > SHIM_OVERHEAD + SHIM_INNER_MAX ||
	    packet[0] != SHIM_DATA || packet[3])
		return false;
	memcpy(&seq, packet + 8, sizeof(seq));
	view->seq = be64toh(seq);
	view->inner = packet + SHIM_HLEN;
	view->len = len - SHIM_OVERHEAD;
	view->path = packet[2];
	view->next = packet[1];
	return view->seq != 0;
}

/**
 * shim_open() - check a packet, and count it
 * @packet:	from its header to its tag
 * @len:	octets
 * @view:	filled in if it is SHIM_OK
 *
 * A tag is checked of every packet, and first: what is seen again counts as received on
 * its path if it is genuine, for loss is measured from that; what is not genuine changes
 * nothing but a counter.
 *
 * Return: SHIM_OK, SHIM_MALFORMED, SHIM_BAD_TAG, or SHIM_REPLAYED: the tag is right, but
 * the sequence number was seen before or is below the window
 */
enum shim_says shim_open(struct shim *shim, const uint8_t *packet, size_t len,
			 struct shim_view *view)
{
	enum shim_says says = SHIM_OK;

	if (!parse(view, packet, len))
		says = SHIM_MALFORMED;
	else if (!tag_is_right(shim, packet, len - SIPHASH_LEN))
		says = SHIM_BAD_TAG;

	pthread_mutex_lock(&shim->lock);
	if (says == SHIM_OK) {
		struct shim_path *path = &shim->received[view->path];

		path->count++;
		if (view->seq > path->highest)
			path->highest = view->seq;
		if (!mark(shim, view->seq))
			says = SHIM_REPLAYED;
	}
	shim->counts[says]++;
	pthread_mutex_unlock(&shim->lock);
	return says;
}
