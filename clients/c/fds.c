/* fds.c - which descriptors of this process are ours (fds.h) */

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "connection.h"
#include "fds.h"
#include "raw.h"
#include "sk.h"

#define SK_BITS		16

_Atomic uint32_t fd_table[FDS_MAX];
_Atomic int fds_end;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;	/* of refs and near */
static pid_t process;

static uint32_t entry_of(const struct end *end)
{
	return (uint32_t)(end->view - views) << SK_BITS | (end->index + 1);
}

static void set(int fd, uint32_t entry)
{
	int end = fds_end;

	if ((uint32_t)fd >= FDS_MAX)
		return;
	while (entry && end <= fd && !atomic_compare_exchange_weak(&fds_end, &end, fd + 1))
		;
	atomic_store(&fd_table[fd], entry);
}

static void find(uint32_t entry, struct end *end)
{
	end->view = views + (entry >> SK_BITS);
	end->index = (entry & ((1u << SK_BITS) - 1)) - 1;
	end->sk = end->view->s->sks + end->index;
	end->local = end->view->local + end->index;
}

static void forked(void)
{
	process = getpid();
	pthread_mutex_init(&lock, NULL);
	for (struct view *view = views; view < views + VIEWS_MAX; view++)
		for (uint32_t i = 0; view->used && i < view->s->sks_end; i++) {
			struct end end = { view, view->s->sks + i, view->local + i, i };

			end.local->users = 0;	/* other threads are not here */
			if (end.local->refs > 0)
				sk_watch(&end);	/* two processes have it */
		}
	keeper_forked();
	views_forked();
}

/* Before anything else; again in each process. */
void fds_begin(void)
{
	if (!process) {
		process = getpid();
		pthread_atfork(NULL, NULL, forked);
	}
}

/* Whether this is a child made by vfork(), whose memory is its parent's. */
bool fds_borrowed(void)
{
	return process && process != getpid();
}

/**
 * end_get() - the socket of a descriptor
 * @fd:		which
 * @end:	filled in; end_put() gives it back
 *
 * Return: false with errno EBADF if it is none
 */
bool end_get(int fd, struct end *end)
{
	if (fd_is_ours(fd)) {
		find(fd_table[fd], end);
		end->local->users++;
		if (end->local->refs > 0 && end->local->shm) {
			keeper_start();
			return true;
		}
		end_put(end);
	}
	errno = EBADF;
	return false;
}

/* A call is over; what was closed under way is freed by the last. */
void end_put(const struct end *end)
{
	if (--end->local->users == 0 && end->local->refs == 0)
		sk_free(end);
}

/* --- descriptors that the program does not know of */

/* More descriptors, if the hard limit has them; whether it did. */
bool fds_raise_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) || limit.rlim_cur >= limit.rlim_max)
		return false;
	limit.rlim_cur = limit.rlim_cur > limit.rlim_max / 4 ? limit.rlim_max : limit.rlim_cur * 4;
	return !setrlimit(RLIMIT_NOFILE, &limit);
}

/* Move a new descriptor out of the program's way; its number then, or -1 if @fd is. */
int fd_keep(int fd)
{
	int kept = -1;

	if (fd < 0)
		return fd;
	do
		kept = raw_fcntl(fd, F_DUPFD_CLOEXEC, FDS_KEPT_MIN);
	while (kept < 0 && (errno == EINVAL || errno == EMFILE) && fds_raise_limit());
	if (kept >= 0)
		raw_close(fd);
	else
		kept = fd;	/* the limit is as low as that */
	set(kept, FD_KEPT);
	return kept;
}

void fd_drop(int fd)
{
	if (fd < 0)
		return;
	set(fd, 0);
	raw_close(fd);
}

/* --- the program's */

/* A descriptor is this socket's from now on. */
void fd_add(int fd, const struct end *end)
{
	sigset_t old;

	raw_block(&old);
	pthread_mutex_lock(&lock);
	if (end->local->refs++ == 0)
		end->local->near = fd;
	set(fd, entry_of(end));
	pthread_mutex_unlock(&lock);
	raw_unblock(&old);
}

/* Take one away; whether it was the last in this process. */
static bool take_away(int fd, const struct end *end)
{
	uint32_t entry = entry_of(end);
	sigset_t old;
	bool last;

	raw_block(&old);
	pthread_mutex_lock(&lock);
	set(fd, 0);
	if (end->local->near == fd && end->local->refs > 1)
		for (int other = 0; other < fds_end; other++)
			if (fd_table[other] == entry) {
				end->local->near = other;
				break;
			}
	last = --end->local->refs == 0;
	pthread_mutex_unlock(&lock);
	raw_unblock(&old);
	return last;
}

/**
 * fd_close() - close(2) of a socket's descriptor
 *
 * With the last copy there is, of whatever process, the socket is closed and its port free
 * when this returns.
 */
int fd_close(int fd)
{
	struct end end;
	bool last;
	int err;

	if (fds_borrowed() || !end_get(fd, &end))
		return raw_close(fd);
	last = take_away(fd, &end);
	err = raw_close(fd);
	if (last)
		sk_close(&end);
	end_put(&end);
	return err;
}

/* After a system call has copied @fd to @result: remember that. */
int fd_dup(int fd, int result)
{
	struct end end;

	if (result < 0 || fds_borrowed() || !end_get(fd, &end))
		return result;
	sk_watch(&end);
	fd_add(result, &end);
	end_put(&end);
	return result;
}

/* dup2(2) and dup3(2), where one of the two is ours. */
int fd_dup2(int fd, int other, int flags)
{
	int result;

	if (fd_is_kept(other) || fd_is_kept(fd)) {
		errno = EBADF;
		return -1;
	}
	if (fd == other)
		return raw_fcntl(fd, F_GETFD, 0) < 0 ? -1 : fd;
	if (raw_fcntl(fd, F_GETFD, 0) < 0)
		return -1;
	if (fd_is_ours(other) && !fds_borrowed())
		fd_close(other);
	result = (int)syscall(SYS_dup3, fd, other, flags);
	return fd_is_ours(fd) ? fd_dup(fd, result) : result;
}
