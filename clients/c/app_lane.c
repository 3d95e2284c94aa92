/* app_lane.c - the application's side of a socket in shared memory (app_lane.h) */

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "app_lane.h"
#include "packed.h"
#include "raw.h"

#ifndef OCTET_MS
#define OCTET_MS	20	/* how long an octet may take that the daemon is sending */
#endif

#define LINGER_NS	50000
#define LINGER_YIELDS	4	/* at least */

/* The state in which a daemon is given the memory. */
static void begin(struct app_lane *lane)
{
	char octet[8];

	ring_open(&lane->rx, lane->shm, false, false);
	ring_open(&lane->tx, lane->shm, true, true);
	atomic_store(&lane->tx.ctl->wake, 1);
	lane->stale = atomic_load(&lane->rx.ctl->head);
	while (raw_recv(lane->near, octet, sizeof(octet), MSG_DONTWAIT) > 0)
		;
	while (raw_recv(lane->far, octet, sizeof(octet), MSG_DONTWAIT) > 0)
		;
	lane->claimed = false;
	ring_want(&lane->rx.ctl->wake);
	if (!ring_empty(&lane->rx))
		app_lane_raise(lane);
}

/**
 * app_lane_make() - what the daemon is to be given of a socket
 * @memfd:	LANE_OCTETS, sealed
 * @near:	our end of a pair of sockets
 * @far:	the daemon's
 *
 * Return: 0, or -1 with errno set and all three -1
 */
int app_lane_make(int *memfd, int *near, int *far)
{
	int pair[2] = { -1, -1 }, least = 1, err;

	*memfd = *near = *far = -1;
	/* First our end: it has the lowest number that is free, as socket(2) would give. */
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		return -1;
	*memfd = memfd_create("mhost", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (*memfd >= 0 && !ftruncate(*memfd, LANE_OCTETS) &&
	    !fcntl(*memfd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL)) {
		setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &least, sizeof(least));
		*near = pair[0];
		*far = pair[1];
		return 0;
	}
	err = errno;
	if (*memfd >= 0)
		raw_close(*memfd);
	raw_close(pair[0]);
	raw_close(pair[1]);
	*memfd = -1;
	errno = err;
	return -1;
}

/**
 * app_lane_open() - map the memory of a socket
 * @lane:	to fill in
 * @memfd:	LANE_OCTETS, all zero
 * @near:	our end of the pair of sockets
 * @far:	a copy of the daemon's
 *
 * Return: 0, or -1 with errno set
 */
int app_lane_open(struct app_lane *lane, int memfd, int near, int far)
{
	void *shm = mmap(NULL, LANE_OCTETS, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);

	if (shm == MAP_FAILED)
		return -1;
	*lane = (struct app_lane){ .shm = shm, .near = near, .far = far };
	begin(lane);
	return 0;
}

/* Copy what has come and was not taken into other memory, at the same positions. */
static void move_rx(struct app_lane *lane, void *shm)
{
	struct ring old = lane->rx, new;
	uint64_t head = atomic_load(&old.ctl->head);

	ring_open(&new, shm, false, false);
	if (head - old.pos > RING_OCTETS)
		head = old.pos;
	for (uint64_t at = old.pos; at < head; at += RECORD_ALIGN)
		memcpy(new.data + at % RING_OCTETS, old.data + at % RING_OCTETS, RECORD_ALIGN);
	atomic_store(&new.ctl->tail, old.pos);
	atomic_store(&new.ctl->head, head);
	atomic_store(&new.ctl->wake, atomic_load(&old.ctl->wake));
}

/**
 * app_lane_move() - begin again with another daemon, in new memory
 * @lane:	the socket
 * @memfd:	LANE_OCTETS, new
 *
 * What waits is kept; what was not taken is forgotten, for it names hosts as the daemon
 * before did. So is a wake-up that this one began and did not carry out.
 *
 * Return: 0, or -1 with errno set and nothing changed
 */
int app_lane_move(struct app_lane *lane, int memfd)
{
	void *shm = mmap(NULL, LANE_OCTETS, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);

	if (shm == MAP_FAILED)
		return -1;
	move_rx(lane, shm);
	munmap(lane->shm, LANE_OCTETS);
	lane->shm = shm;
	begin(lane);
	return 0;
}

/* The same socket where its memory is mapped at another place. */
void app_lane_at(struct app_lane *lane, void *shm)
{
	struct app_lane here = { .shm = shm };

	ring_open(&here.rx, shm, false, false);
	ring_open(&here.tx, shm, true, true);
	lane->shm = shm;
	lane->rx.ctl = here.rx.ctl;
	lane->rx.data = here.rx.data;
	lane->tx.ctl = here.tx.ctl;
	lane->tx.data = here.tx.data;
}

/**
 * app_lane_again() - begin again with another daemon, in the same memory
 * @lane:	the socket; nobody else has its memory any more
 *
 * As app_lane_move(), for who keeps the descriptor of the memory.
 */
void app_lane_again(struct app_lane *lane)
{
	atomic_store(&lane->tx.ctl->tail, atomic_load(&lane->tx.ctl->head));
	atomic_store(&lane->tx.ctl->room, 0);
	begin(lane);
}

void app_lane_close(struct app_lane *lane)
{
	if (lane->shm)
		munmap(lane->shm, LANE_OCTETS);
	lane->shm = NULL;
}

/* --- what has come */

/**
 * app_lane_front() - the oldest datagram
 * @lane:	the socket
 * @datagram:	filled in
 *
 * Return: RING_OK, RING_WAIT if there is none, RING_BROKEN if the daemon wrote nonsense
 */
enum ring_says app_lane_front(struct app_lane *lane, struct datagram *datagram)
{
	struct record *head = &datagram->head;
	enum ring_says says;
	const uint8_t *at = ring_front(&lane->rx, head, &says);
	size_t octets;

	if (!at)
		return says;
	datagram->at = lane->rx.pos;
	datagram->part = lane->taken;
	octets = head->length - RECORD_HLEN;
	datagram->control = NULL;
	datagram->n_control = 0;
	if (head->flags & RECORD_CONTROL) {
		uint32_t n;

		if (octets < 8)
			return RING_BROKEN;
		memcpy(&n, at, sizeof(n));
		if (n % RECORD_ALIGN || n > octets - 8)
			return RING_BROKEN;
		datagram->control = at + 8;
		datagram->n_control = n;
		at += 8 + n;
		octets -= 8 + n;
	}
	if (lane->taken > octets)
		return RING_BROKEN;
	at += lane->taken;
	octets -= lane->taken;
	if (head->segment_size && octets > head->segment_size && !lane->whole)
		octets = head->segment_size;
	if (lane->rx.pos < lane->stale)
		head->id_no = 0;
	datagram->payload = at;
	datagram->n_payload = octets;
	return RING_OK;
}

/**
 * app_lane_pop() - step over the datagram that app_lane_front() found
 * @lane:	the socket
 * @datagram:	what it found
 *
 * Return: false if another thread has taken it since
 */
bool app_lane_pop(struct app_lane *lane, const struct datagram *datagram)
{
	size_t control = datagram->head.flags & RECORD_CONTROL ? 8 + datagram->n_control : 0;

	if (datagram->at != lane->rx.pos || datagram->part != lane->taken)
		return false;
	/* What is taken need not be told of: the octet would come when it is gone. */
	if (atomic_load_explicit(&lane->rx.ctl->wake, memory_order_relaxed) &&
	    ring_wanted(&lane->rx.ctl->wake))
		lane->claimed = true;
	lane->taken += datagram->n_payload;
	if (lane->taken + control + RECORD_HLEN < datagram->head.length)
		return true;	/* a super-packet, and more of it */
	lane->taken = 0;
	lane->consumed += record_align(datagram->head.length);
	ring_pop(&lane->rx, &datagram->head);
	ring_release(&lane->rx);
	return true;
}

/**
 * app_lane_fill() - what has come over ZeroMQ, as the daemon would put it there
 * @lane:	a socket whose memory the daemon has not been given
 * @octets:	records, one behind the other
 * @len:	octets
 *
 * Return: how many of the octets; what follows has no room, or is no record
 */
size_t app_lane_fill(struct app_lane *lane, const uint8_t *octets, size_t len)
{
	struct ring rx;
	size_t done;

	ring_open(&rx, lane->shm, false, true);
	done = packed_put(&rx, octets, len);
	ring_publish(&rx);
	if (ring_wanted(&rx.ctl->wake))
		raw_send(lane->far, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	return done;
}

/* --- what is sent */

/**
 * app_lane_reserve() - begin a record
 * @lane:	the socket
 * @head:	its header; the length is filled in
 * @payload:	octets that the caller will write behind it
 * @says:	RING_WAIT if there is no room now
 *
 * Return: where the payload goes; NULL if @says is not RING_OK
 */
uint8_t *app_lane_reserve(struct app_lane *lane, const struct record *head, size_t payload,
			  enum ring_says *says)
{
	struct record copy = *head;
	uint8_t *at = ring_reserve(&lane->tx, RECORD_HLEN + payload, says);

	if (!at)
		return NULL;
	copy.length = (uint32_t)(RECORD_HLEN + payload);
	memcpy(at, &copy, sizeof(copy));
	return at + RECORD_HLEN;
}

/* The payload is there; the daemon sees it after app_lane_publish(). */
void app_lane_commit(struct app_lane *lane, size_t payload)
{
	ring_commit(&lane->tx, RECORD_HLEN + payload);
}

/* Have the daemon see what was committed, and wake it if it sleeps. */
void app_lane_publish(struct app_lane *lane)
{
	ring_publish(&lane->tx);
	if (ring_wanted(&lane->tx.ctl->wake))
		raw_send(lane->near, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* --- readiness */

/* Take off what waits on our end; if an octet is about to come, wait for it a little. */
static void take_octets(struct app_lane *lane, bool owed)
{
	struct pollfd near = { lane->near, POLLIN, 0 };
	char octet[8];

	do {
		while (raw_recv(lane->near, octet, sizeof(octet), MSG_DONTWAIT) > 0)
			owed = false;
		/* A daemon that was killed in between sends none; a late one is the next arm's. */
	} while (owed && raw_poll_ms(&near, 1, OCTET_MS) > 0);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/**
 * app_lane_linger() - let others run a little, in case what is waited for comes at once
 * @lane:	the socket
 *
 * To sleep and be woken costs more than a datagram does, for the daemon too: while one
 * comes within LINGER_NS of the other it is better not to. Needs no lock.
 *
 * Return: whether something has come
 */
bool app_lane_linger(const struct app_lane *lane)
{
	bool dense = atomic_load_explicit(&lane->slept_ns, memory_order_relaxed) < LINGER_NS;
	uint64_t until = dense ? now_ns() + LINGER_NS : 0;
	int yields = 0;

	do {
		sched_yield();
		if (atomic_load_explicit(&lane->rx.ctl->head, memory_order_acquire) !=
		    lane->rx.pos)
			return true;
	} while (++yields < LINGER_YIELDS || (dense && now_ns() < until));
	return false;
}

/**
 * app_lane_sleep() - sleep on our end of the pair of sockets; needs no lock
 * @lane:	the socket
 * @events:	POLLIN or POLLOUT
 * @timeout:	for how long, NULL for ever
 *
 * Return: as ppoll()
 */
int app_lane_sleep(struct app_lane *lane, short events, const struct timespec *timeout)
{
	struct pollfd near = { lane->near, events, 0 };
	uint64_t before = now_ns();
	int n = raw_poll(&near, 1, timeout), err = errno;

	if (events == POLLIN)
		atomic_store_explicit(&lane->slept_ns, now_ns() - before, memory_order_relaxed);
	errno = err;
	return n;
}

/**
 * app_lane_arm() - have the next record make the socket readable; it is not until then
 *
 * There are three states: an octet waits on our end (or is about to), `wake` is set and
 * none does, or we have claimed the octet and none comes.
 *
 * Return: whether something has come; then the socket is readable again
 */
bool app_lane_arm(struct app_lane *lane)
{
	if (!ring_empty(&lane->rx)) {
		app_lane_settle(lane);
		return true;
	}
	take_octets(lane, !atomic_load(&lane->rx.ctl->wake) && !lane->claimed);
	lane->claimed = false;
	ring_want(&lane->rx.ctl->wake);
	if (ring_empty(&lane->rx))
		return false;
	app_lane_raise(lane);
	return true;
}

/* Make the socket readable ourselves, if it is not. */
void app_lane_raise(struct app_lane *lane)
{
	if (lane->claimed || ring_wanted(&lane->rx.ctl->wake))
		raw_send(lane->far, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	lane->claimed = false;
}

/* Have the socket be readable if something has come and was not taken. */
void app_lane_settle(struct app_lane *lane)
{
	if (ring_empty(&lane->rx))
		app_lane_arm(lane);
	else if (lane->claimed)
		app_lane_raise(lane);
}

/* Nothing is sent any more: wake who waits for room. */
void app_lane_give_up(struct app_lane *lane)
{
	char octet[8];

	while (raw_recv(lane->far, octet, sizeof(octet), MSG_DONTWAIT) > 0)
		;
}

/**
 * app_lane_want_room() - be told when half of the ring is free: our end is writable then
 *
 * The caller tries once more before it waits. First the flag, so that the daemon leaves
 * the octets where they are, which say that there is no room.
 */
void app_lane_want_room(struct app_lane *lane)
{
	ring_want(&lane->tx.ctl->room);
	while (raw_send(lane->near, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL) > 0)
		;
}
