/* raw.h - system calls that no library stands in front of
 *
 * The preloader gives `send`, `recv` and others another meaning for the descriptors of our
 * sockets; what moves octets on those descriptors itself must not meet it again. Nor are
 * these cancellation points (pthreads(7)): most are made with a lock held.
 */
#ifndef MHOST_RAW_H
#define MHOST_RAW_H

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static inline ssize_t raw_send(int fd, const void *octets, size_t len, int flags)
{
	return syscall(SYS_sendto, fd, octets, len, flags, NULL, 0);
}

static inline ssize_t raw_recv(int fd, void *octets, size_t len, int flags)
{
	return syscall(SYS_recvfrom, fd, octets, len, flags, NULL, NULL);
}

/* @timeout is for as long as it lasts; NULL for ever. */
static inline int raw_poll(struct pollfd *fds, nfds_t n, const struct timespec *timeout)
{
	struct timespec left = timeout ? *timeout : (struct timespec){ 0 };

	return (int)syscall(SYS_ppoll, fds, n, timeout ? &left : NULL, NULL, _NSIG / 8);
}

static inline int raw_poll_ms(struct pollfd *fds, nfds_t n, int ms)
{
	struct timespec timeout = { ms / 1000, (long)(ms % 1000) * 1000000 };

	return raw_poll(fds, n, ms < 0 ? NULL : &timeout);
}

/*
 * Nothing that a signal handler calls comes in between until raw_unblock(): the calls of a
 * socket are among those that a handler may make (signal-safety(7)).
 */
static inline void raw_block(sigset_t *old)
{
	sigset_t all;

	sigfillset(&all);
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, old, _NSIG / 8);
}

static inline void raw_unblock(const sigset_t *old)
{
	syscall(SYS_rt_sigprocmask, SIG_SETMASK, old, NULL, _NSIG / 8);
}

static inline int raw_close(int fd)
{
	return (int)syscall(SYS_close, fd);
}

static inline int raw_fcntl(int fd, int command, long argument)
{
	return (int)syscall(SYS_fcntl, fd, command, argument);
}

#endif
