/* lane_thread.c - the thread of the fast lane (lane.h): when it works, and when it sleeps */

#include <errno.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "lane.h"

#define EVENTS		64
#define EVENTS_OF_ITSELF 4	/* the TUN, its eventfd, the association port twice */
#define HOLD_US		100
#define LINGER_NS	50000
#define LINGER_SOCKS	16	/* that it looks at meanwhile, without a doorbell */

static void on_event(struct lane *lane, const struct epoll_event *event)
{
	struct lane_sock *sk;
	eventfd_t count;

	if (event->data.u64 == UINT64_MAX) {
		lane->tun_ready = true;
		return;
	}
	if (event->data.u64 == UINT64_MAX - 1) {
		eventfd_read(lane->wake, &count);
		return;
	}
	if (event->data.u64 > UINT64_MAX - EVENTS_OF_ITSELF) {
		if (event->events & EPOLLERR)
			lane_encap_error(lane, event->data.u64 == UINT64_MAX - 3);
		return;
	}
	sk = lane_sock(lane, (uint32_t)event->data.u64);
	if (!sk)
		return;
	if (event->data.u64 >> 32) {
		if (event->events & EPOLLERR)
			lane_host_error(lane, sk, event->data.u64 >> 33);
		return;
	}
	if (event->events & (EPOLLHUP | EPOLLERR) &&
	    lane_item(lane, ITEM_GONE, sk->slot, NULL, 0))
		epoll_ctl(lane->epoll, EPOLL_CTL_DEL, sk->far, NULL);
	lane_doorbell(sk);
	if (!sk->at_walk)
		lane_activate(lane, sk);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/**
 * struct rest - when the thread sleeps, and when it stays awake a little
 * @since:	when there was something to do last, in ns
 * @slept:	how long it slept last, in ns
 *
 * To be woken costs more than a datagram does, and most of it is paid by who sends. So
 * while one comes within LINGER_NS of the other nobody sleeps; who needs the core has it.
 */
struct rest {
	uint64_t since;
	uint64_t slept;
};

static bool lingers(const struct rest *rest)
{
	return rest->slept < LINGER_NS && now_ns() - rest->since < LINGER_NS;
}

/* Sleep until there is something to do; how many events that is. */
static int sleep_on(struct lane *lane, struct rest *rest, struct epoll_event *events)
{
	uint64_t before = now_ns();
	int n = epoll_wait(lane->epoll, events, EVENTS, -1);

	rest->slept = now_ns() - before;
	return n;
}

static void *lane_run(void *arg)
{
	struct epoll_event events[EVENTS];
	struct rest rest = { 0 };
	struct lane *lane = arg;
	bool busy = true;
	size_t done = 1;

	while (!atomic_load(&lane->stop)) {
		bool awake = lingers(&rest);
		int n;

		if (awake && !done)
			sched_yield();
		n = busy || awake ? epoll_wait(lane->epoll, events, EVENTS, 0)
				  : sleep_on(lane, &rest, events);
		pthread_mutex_lock(&lane->lock);
		for (int i = 0; i < n; i++)
			on_event(lane, events + i);
		lane_bury(lane);
		pthread_mutex_unlock(&lane->lock);
		done = lane_up(lane, LANE_BATCH);
		for (int i = 0; i < n; i++)
			if (events[i].data.u64 > UINT64_MAX - EVENTS_OF_ITSELF &&
			    events[i].data.u64 < UINT64_MAX - 1)
				done += lane_encap_up(lane,
						      events[i].data.u64 == UINT64_MAX - 3);
			else if (events[i].data.u64 >> 32 &&
				 events[i].data.u64 < UINT64_MAX - 1)
				done += lane_host_up(lane, (uint32_t)events[i].data.u64,
						     events[i].data.u64 >> 33);
		done += lane_down(lane, awake ? LINGER_SOCKS : 0);
		if (done)
			rest.since = now_ns();
		/* Where the walk has too much, it says when it has not. */
		busy = ((lane->tun_ready && !lane->hold) || lane->n_active) &&
		       (done || !lane->walk_full);
		if (lane->hold)		/* what the host kernel has is not taken either */
			usleep(HOLD_US);
	}
	return NULL;
}

/**
 * lane_start() - begin to work by itself
 * @lane:	initialised
 *
 * Return: 0 or errno
 */
int lane_start(struct lane *lane)
{
	struct epoll_event tun = { .events = EPOLLIN | EPOLLET, .data.u64 = UINT64_MAX };
	struct epoll_event wake = { .events = EPOLLIN, .data.u64 = UINT64_MAX - 1 };
	int err;

	if (epoll_ctl(lane->epoll, EPOLL_CTL_ADD, lane->wake, &wake) ||
	    (lane->tun >= 0 && epoll_ctl(lane->epoll, EPOLL_CTL_ADD, lane->tun, &tun)))
		return errno;
	err = pthread_create(&lane->thread, NULL, lane_run, lane);
	lane->running = !err;
	return err;
}

/* Stop working; without the lock. */
void lane_stop(struct lane *lane)
{
	if (!lane->running)
		return;
	atomic_store(&lane->stop, true);
	lane_notify(lane->wake);
	pthread_join(lane->thread, NULL);
	lane->running = false;
}
