/* fuzz_packed.c - any octets as the records of a data message: into a ring, and out again */

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "packed.h"

#define ROOM	(1u << 17)	/* as many octets as a message may have */

static struct app_lane lane;
static uint8_t *shm;	/* of the heap, so that a step too far is seen */

/* Put records in an empty ring at that position and take them; octets in @out. */
static size_t through(const uint8_t *octets, size_t len, uint64_t at, uint8_t *out, bool plain)
{
	struct ring up;
	size_t put;

	memset(shm, 0, LANE_HEAD);
	lane.taken = 0;
	ring_open(&up, shm, false, true);
	atomic_store(&up.ctl->head, at);
	atomic_store(&up.ctl->tail, at);
	ring_open(&up, shm, false, true);
	ring_open(&lane.rx, shm, false, false);
	put = packed_put(&up, octets, len);
	assert(put <= len && (!plain || put == len));
	ring_publish(&up);
	return packed_take(&lane, out, ROOM);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *out, *again;
	static int pair[2];
	uint8_t *copy;
	size_t taken;
	uint64_t at;
	bool plain;

	if (!size)
		return 0;
	if (!shm && (posix_memalign((void **)&shm, 4096, LANE_OCTETS) || !(out = malloc(ROOM)) ||
		     !(again = malloc(ROOM)) || socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair)))
		abort();
	lane.shm = shm;
	lane.near = pair[0];
	lane.far = pair[1];
	at = RING_OCTETS - (uint64_t)data[0] * RECORD_ALIGN;	/* there may be a pad */
	copy = malloc(--size);
	if (size)
		memcpy(copy, data + 1, size);
	plain = packed_plain(copy, size);
	taken = through(copy, size, at, out, plain);
	assert(taken <= ROOM);
	if (plain) {		/* one datagram in each: nothing changes any more */
		assert(packed_plain(out, taken));
		assert(through(out, taken, 0, again, true) == taken);
		assert(!memcmp(out, again, taken));
	}
	free(copy);
	return 0;
}
