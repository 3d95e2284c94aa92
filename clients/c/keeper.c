/* keeper.c - a thread that sees to it that there is a connection (connection.h) */

#include <pthread.h>
#include <sys/eventfd.h>

#include "connection.h"
#include "fds.h"
#include "raw.h"
#include "session.h"

#define RETRY_MS	50	/* between two attempts to reach a daemon that is away */
#define RETRY_MAX_MS	500	/* the same, after some of them */
#define KEEPER_STACK	(256 << 10)

static _Atomic bool keeper_runs;
static int keeper_eventfd = -1;

/* One look at a session; whether it is there. */
static bool keep(struct view *view, struct pollfd *fd)
{
	struct session *s = view->s;
	int err = 0;

	session_lock(view);
	if (fd->revents && s->up && view->generation == s->generation)
		session_take(view);
	if (!s->up || view->generation != s->generation)
		err = connection_begin(view);
	*fd = (struct pollfd){ view->conn, s->unshared ? POLLIN : 0, 0 };
	session_unlock(view);
	return !err;
}

static void *keeper(void *nothing)
{
	struct pollfd fds[VIEWS_MAX + 1] = { { 0 } };
	int retry = RETRY_MS;
	uint64_t count;

	(void)nothing;
	for (;;) {
		int timeout = -1;

		for (int i = 0; i < VIEWS_MAX; i++) {
			if (!views[i].used)
				fds[i] = (struct pollfd){ -1, 0, 0 };
			else if (!keep(views + i, fds + i))
				timeout = retry;
		}
		retry = timeout < 0 ? RETRY_MS : retry < RETRY_MAX_MS ? retry + 10 : retry;
		fds[VIEWS_MAX] = (struct pollfd){ keeper_eventfd, POLLIN, 0 };
		raw_poll_ms(fds, VIEWS_MAX + 1, timeout);
		if (fds[VIEWS_MAX].revents)
			syscall(SYS_read, keeper_eventfd, &count, sizeof(count));
	}
	return NULL;
}

/* Have the keeper look at once. */
void keeper_poke(void)
{
	uint64_t one = 1;

	if (keeper_eventfd >= 0)
		syscall(SYS_write, keeper_eventfd, &one, sizeof(one));
}

/* See to it that this process has a keeper. */
void keeper_start(void)
{
	pthread_attr_t attributes;
	sigset_t all, old;
	pthread_t thread;

	if (keeper_runs || atomic_exchange(&keeper_runs, true))
		return;
	keeper_eventfd = fd_keep(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, KEEPER_STACK);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);	/* the program's signals are not for it */
	if (pthread_create(&thread, &attributes, keeper, NULL))
		keeper_runs = false;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	pthread_attr_destroy(&attributes);
}

/* In a child: its keeper is not there. */
void keeper_forked(void)
{
	keeper_runs = false;
	if (keeper_eventfd >= 0)
		fd_drop(keeper_eventfd);
	keeper_eventfd = -1;
}
