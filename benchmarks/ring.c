/* ring.c - a C program on a socket in shared memory
 *
 * load.py opens the socket and calls these; with app_lane.c and ring.c of the project they
 * are a library. They wait as a program does that blocks.
 */

#include <poll.h>
#include <string.h>
#include <time.h>

#include "app_lane.h"

#define BATCH	64
#define BUFFER	65536

static struct app_lane lane;
static unsigned char buffer[BUFFER];

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* Begin; the descriptors are the caller's. 0, or -1 with errno set. */
int ring_begin(int memfd, int near, int far)
{
	return app_lane_open(&lane, memfd, near, far);
}

/* Room for one record, however long that takes. */
static uint8_t *reserve(const struct record *head, size_t octets)
{
	enum ring_says says;
	uint8_t *at;

	while (!(at = app_lane_reserve(&lane, head, octets, &says))) {
		app_lane_publish(&lane);
		app_lane_want_room(&lane);
		at = app_lane_reserve(&lane, head, octets, &says);
		if (at)
			break;
		app_lane_sleep(&lane, POLLOUT, NULL);
	}
	return at;
}

/* Wait for a datagram; false if none comes for that long. */
static bool await(struct datagram *d, double seconds)
{
	struct timespec patience = { (time_t)seconds, (long)((seconds - (time_t)seconds) * 1e9) };

	while (app_lane_front(&lane, d) != RING_OK) {
		if (app_lane_linger(&lane) || app_lane_arm(&lane))
			continue;
		if (app_lane_sleep(&lane, POLLIN, &patience) <= 0)
			return false;
	}
	return true;
}

/* Send with UDP_SEGMENT, as many datagrams at a time as peer.c does. */
double ring_send(const struct record *to, size_t size, double seconds)
{
	double start = now(), t = start;
	size_t several = (BUFFER - 1000) / size;
	struct record head = *to;
	long count = 0;

	if (several > BATCH)
		several = BATCH;
	head.segment_size = (uint16_t)size;
	while (t < start + seconds) {
		for (int i = 0; i < 16; i++) {
			memcpy(reserve(&head, several * size), buffer, several * size);
			app_lane_commit(&lane, several * size);
			app_lane_publish(&lane);
			count += (long)several;
		}
		t = now();
	}
	return (double)count / (t - start);
}

/* Receive with UDP_GRO, into a buffer of ours; datagrams a second from the first one on. */
double ring_recv(double seconds)
{
	double start, end;
	struct datagram d;
	long count = 0;

	lane.whole = true;
	if (!await(&d, 10))
		return 0;
	start = end = now();
	while (end < start + seconds && await(&d, 0.5)) {
		memcpy(buffer, d.payload, d.n_payload);
		app_lane_pop(&lane, &d);
		count += record_segments(d.n_payload, d.head.segment_size);
		end = now();
	}
	return end > start ? (double)count / (end - start) : 0;
}

/* Send back what comes, until nothing comes for that long; how many that was. */
double ring_echo(double seconds)
{
	struct datagram d;
	long count = 0;

	while (await(&d, count ? seconds : 10)) {
		do {
			struct record head = d.head;

			head.flags = 0;
			head.segment_size = 0;
			head.cookie = 0;
			memcpy(reserve(&head, d.n_payload), d.payload, d.n_payload);
			app_lane_commit(&lane, d.n_payload);
			app_lane_pop(&lane, &d);
			count++;
		} while (app_lane_front(&lane, &d) == RING_OK);
		app_lane_publish(&lane);
	}
	return (double)count;
}
