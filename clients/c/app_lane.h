/* app_lane.h - the application's side of a socket in shared memory (native/ring.h)
 *
 * Not thread-safe: the caller has a lock of its own, but for sleeping. No octet of the
 * ring is believed more than once: headers are copied before they are looked at.
 */
#ifndef MHOST_APP_LANE_H
#define MHOST_APP_LANE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "ring.h"

/**
 * struct app_lane - one socket
 * @shm:	LANE_OCTETS
 * @near:	our end of the pair of sockets; readable while something has come
 * @far:	a copy of the daemon's end, to say so ourselves
 * @rx:		what has come
 * @tx:		what is sent
 * @claimed:	we have cleared @rx.ctl->wake ourselves, so that no octet comes
 * @whole:	super-packets are taken in one piece
 * @taken:	octets of payload of the first record that were taken (a super-packet)
 * @consumed:	octets of records that were taken, until somebody gives credit for them
 * @stale:	records before this position are of an earlier session
 * @slept_ns:	how long somebody slept last who waited for a datagram
 */
struct app_lane {
	void *shm;
	int near;
	int far;
	struct ring rx;
	struct ring tx;
	bool claimed;
	bool whole;
	size_t taken;
	uint64_t consumed;
	uint64_t stale;
	_Atomic uint64_t slept_ns;
};

/**
 * struct datagram - what app_lane_front() finds
 * @head:	of its record; @head.id_no is 0 if the record is stale
 * @control:	control messages, in the ring
 * @n_control:	octets of them
 * @payload:	in the ring
 * @n_payload:	octets of it
 * @at:		position of the record
 * @part:	octets of payload that stand before it there
 */
struct datagram {
	struct record head;
	const uint8_t *control;
	size_t n_control;
	const uint8_t *payload;
	size_t n_payload;
	uint64_t at;
	size_t part;
};

int app_lane_make(int *memfd, int *near, int *far);
int app_lane_open(struct app_lane *lane, int memfd, int near, int far);
int app_lane_move(struct app_lane *lane, int memfd);
void app_lane_at(struct app_lane *lane, void *shm);
void app_lane_again(struct app_lane *lane);
void app_lane_close(struct app_lane *lane);

enum ring_says app_lane_front(struct app_lane *lane, struct datagram *datagram);
bool app_lane_pop(struct app_lane *lane, const struct datagram *datagram);

size_t app_lane_fill(struct app_lane *lane, const uint8_t *octets, size_t len);

uint8_t *app_lane_reserve(struct app_lane *lane, const struct record *head, size_t payload,
			  enum ring_says *says);
void app_lane_commit(struct app_lane *lane, size_t payload);
void app_lane_publish(struct app_lane *lane);

/* Errors of this socket that the daemon has told over ZeroMQ, or is telling now. */
static inline uint32_t app_lane_errors(const struct app_lane *lane)
{
	return atomic_load_explicit(&lane->rx.ctl->errors, memory_order_acquire);
}

bool app_lane_linger(const struct app_lane *lane);
int app_lane_sleep(struct app_lane *lane, short events, const struct timespec *timeout);
bool app_lane_arm(struct app_lane *lane);
void app_lane_raise(struct app_lane *lane);
void app_lane_settle(struct app_lane *lane);
void app_lane_give_up(struct app_lane *lane);
void app_lane_want_room(struct app_lane *lane);

#endif
