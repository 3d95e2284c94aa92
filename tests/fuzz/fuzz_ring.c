/* fuzz_ring.c - any octets in shared memory: both sides of both rings keep within it
 *
 * The input is a sequence of commands of 8 octets or more: what the other side writes
 * (a position, a header somewhere, a flag), and what we do.
 */

#include <assert.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "app_lane.h"

static uint8_t sum;

/* Look at every octet that we were promised. */
static void touch(const uint8_t *at, size_t octets)
{
	for (size_t i = 0; i < octets; i++)
		sum ^= at[i];
}

static void take(struct ring *ring)
{
	struct record head;
	enum ring_says says;
	const uint8_t *payload = ring_front(ring, &head, &says);

	if (!payload) {
		assert(says != RING_OK);
		return;
	}
	assert(head.length >= RECORD_HLEN && head.length <= RING_OCTETS);
	touch(payload, head.length - RECORD_HLEN);
	ring_pop(ring, &head);
	ring_release(ring);
}

static void give(struct ring *ring, size_t octets)
{
	enum ring_says says;
	uint8_t *at = ring_reserve(ring, octets, &says);
	uint32_t length = (uint32_t)octets;

	if (!at)
		return;
	memset(at, 0, octets);
	memcpy(at, &length, sizeof(length));
	ring_commit(ring, octets);
	ring_publish(ring);
}

static void take_datagram(struct app_lane *lane)
{
	struct datagram d;

	if (app_lane_front(lane, &d) != RING_OK)
		return;
	touch(d.control, d.n_control);
	touch(d.payload, d.n_payload);
	app_lane_pop(lane, &d);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t *shm;	/* of the heap, so that a step too far is seen */
	static int pair[2];
	struct ring up, down;
	struct app_lane lane = { 0 };
	char octet;

	if (!shm && (posix_memalign((void **)&shm, 4096, LANE_OCTETS) ||
		     socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair)))
		abort();
	memset(shm, 0, LANE_HEAD);
	for (int i = 0; i < 2; i++)
		while (recv(pair[i], &octet, 1, MSG_DONTWAIT) > 0)
			;
	ring_open(&up, shm, false, true);	/* the daemon's two */
	ring_open(&down, shm, true, false);
	lane.shm = shm;				/* the application's */
	lane.near = pair[0];
	lane.far = pair[1];
	ring_open(&lane.rx, shm, false, false);
	ring_open(&lane.tx, shm, true, true);
	for (; size >= 8; data += 8, size -= 8) {
		uint32_t what, value;

		memcpy(&what, data, sizeof(what));
		memcpy(&value, data + 4, sizeof(value));
		switch (what & 15) {
		case 0:
			atomic_store(&down.ctl->head, down.pos + value % (2 * RING_OCTETS));
			break;
		case 1:
			atomic_store(&up.ctl->tail, up.pos - value % (2 * RING_OCTETS));
			break;
		case 2:
			atomic_store(&up.ctl->head, (uint64_t)value << (what >> 27));
			break;
		case 3:
			atomic_store(&down.ctl->tail, (uint64_t)value << (what >> 27));
			break;
		case 4:		/* a header where the daemon will read */
			memcpy(down.data + (down.pos & (RING_OCTETS - 1)), &value, 4);
			memcpy(down.data + (down.pos & (RING_OCTETS - 1)) + 4, &what, 4);
			break;
		case 5:		/* and where the application will */
			memcpy(lane.rx.data + (lane.rx.pos & (RING_OCTETS - 1)), &value, 4);
			memcpy(lane.rx.data + (lane.rx.pos & (RING_OCTETS - 1)) + 4, &what, 4);
			break;
		case 6:
		case 7:
			take(&down);
			break;
		case 8:
		case 9:
			take_datagram(&lane);
			break;
		case 10:
			give(&up, RECORD_HLEN + value % 65536);
			break;
		case 11:
			give(&lane.tx, RECORD_HLEN + value % 65536);
			break;
		case 12:
			atomic_store(&up.ctl->wake, value & 1);
			break;
		case 13:
			assert(ring_used(&up) <= RING_OCTETS);
			break;
		case 14:
			app_lane_raise(&lane);
			break;
		default:
			app_lane_settle(&lane);
		}
	}
	return 0;
}
