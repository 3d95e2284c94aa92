/* preload.c - libmhost_preload.so: the calls of a datagram socket, on AF_MHOST sockets
 *
 * Set by `mhostctl run` as LD_PRELOAD. A descriptor that is not ours costs one branch
 * (fd_is_ours()) and goes to the C library. Descriptors are real, so what is not here works
 * too, but for what would move octets on one by another way: io_uring, sendfile, splice, and
 * system calls that are made without the C library.
 */

#undef _FILE_OFFSET_BITS	/* or fcntl() is another name of fcntl64() */

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "connection.h"
#include "fds.h"
#include "mhost.h"
#include "raw.h"
#include "resolve.h"
#include "sk.h"
#include "wrap.h"

static bool inet_too;	/* AF_INET and AF_INET6 sockets are ours as well */

__attribute__((constructor)) static void start(void)
{
	const char *families = getenv("MHOST_PRELOAD");

	inet_too = families && (!strcmp(families, "inet") || !strcmp(families, "all"));
	sk_polled_default = false;	/* we see who polls */
	fds_inherit();
}

/* --- opening and closing */

static void say_once(int err)
{
	static _Atomic bool said;
	const char *address = getenv("MHOST_SOCKET");

	if (atomic_exchange(&said, true))
		return;
	dprintf(STDERR_FILENO,
		"%s: no mhostd at %s (%s); UDP sockets are the kernel's\n",
		program_invocation_short_name,
		address && *address ? address : "ipc:///run/mhostd/mhost.sock", strerror(err));
}

WRAP(int, socket, (int family, int type, int protocol))
{
	int kind = type & ~(SOCK_NONBLOCK | SOCK_CLOEXEC), fd;
	struct view *view;

	if (family == AF_MHOST) {
		fd = mhost_socket(family, type, protocol);
		if (fd < 0 && errno != ESOCKTNOSUPPORT && errno != EPROTONOSUPPORT &&
		    errno != EINVAL && errno != EMFILE && errno != ENFILE && errno != ENOMEM)
			errno = EAFNOSUPPORT;	/* there is no daemon: the kernel has none */
		return fd;
	}
	if (!inet_too || (family != AF_INET && family != AF_INET6) || kind != SOCK_DGRAM ||
	    (protocol && protocol != IPPROTO_UDP))
		return REAL(socket)(family, type, protocol);
	fd = session_here(&view);
	if (fd) {
		say_once(fd);
		return REAL(socket)(family, type, protocol);
	}
	return mhost_socket(family, type, protocol);
}

WRAP(int, close, (int fd))
{
	if (fd_is_kept(fd)) {
		errno = EBADF;	/* a program that closes what it does not know */
		return -1;
	}
	return fd_is_ours(fd) ? fd_close(fd) : REAL(close)(fd);
}

/* Close a run of descriptors but for those that the program does not know of. */
static int close_run(unsigned int first, unsigned int last, unsigned int flags)
{
	unsigned int known = (unsigned int)fds_end;

	for (; first <= last && first < known; first++) {
		if (fd_is_kept((int)first))
			continue;
		if (flags & CLOSE_RANGE_CLOEXEC)
			raw_fcntl((int)first, F_SETFD, FD_CLOEXEC);
		else
			close((int)first);
	}
	return first > last ? 0 : (int)syscall(SYS_close_range, first, last, flags);
}

WRAP(int, close_range, (unsigned int first, unsigned int last, int flags))
{
	if (!fds_end || first > last || (unsigned int)flags & ~CLOSE_RANGE_CLOEXEC)
		return REAL(close_range)(first, last, flags);
	return close_run(first, last, (unsigned int)flags);
}

WRAP(void, closefrom, (int first))
{
	if (fds_end)
		close_run(first < 0 ? 0 : (unsigned int)first, ~0u, 0);
	else
		REAL(closefrom)(first);
}

WRAP(int, dup, (int fd))
{
	return fd_is_ours(fd) ? fd_dup(fd, REAL(dup)(fd)) : REAL(dup)(fd);
}

WRAP(int, dup2, (int fd, int other))
{
	if (fd_is_ours(fd) || fd_is_ours(other) || fd_is_kept(other))
		return fd_dup2(fd, other, 0);
	return REAL(dup2)(fd, other);
}

WRAP(int, dup3, (int fd, int other, int flags))
{
	if ((fd_is_ours(fd) || fd_is_ours(other) || fd_is_kept(other)) && fd != other)
		return fd_dup2(fd, other, flags);
	return REAL(dup3)(fd, other, flags);
}

FIND(int, fcntl64, (int fd, int command, ...))

static int fcntl_of(int fd, int command, void *argument)
{
	int result = REAL(fcntl64)(fd, command, argument);

	if ((command == F_DUPFD || command == F_DUPFD_CLOEXEC) && fd_is_ours(fd))
		return fd_dup(fd, result);
	return result;
}

FRONT(int, fcntl, (int fd, int command, ...))
{
	va_list more;
	void *argument;

	va_start(more, command);
	argument = va_arg(more, void *);
	va_end(more);
	return fcntl_of(fd, command, argument);
}

FRONT(int, fcntl64, (int fd, int command, ...))
{
	va_list more;
	void *argument;

	va_start(more, command);
	argument = va_arg(more, void *);
	va_end(more);
	return fcntl_of(fd, command, argument);
}

FIND(int, ioctl, (int fd, unsigned long request, ...))

FRONT(int, ioctl, (int fd, unsigned long request, ...))
{
	va_list more;
	void *argument;

	va_start(more, request);
	argument = va_arg(more, void *);
	va_end(more);
	return fd_is_ours(fd) ? mhost_ioctl(fd, request, argument) :
				REAL(ioctl)(fd, request, argument);
}

/* --- names and options */

PASS(int, bind, (int fd, const struct sockaddr *address, socklen_t len), (fd, address, len))
PASS(int, connect, (int fd, const struct sockaddr *address, socklen_t len), (fd, address, len))
PASS(int, getsockname, (int fd, struct sockaddr *restrict address, socklen_t *restrict len),
     (fd, address, len))
PASS(int, getpeername, (int fd, struct sockaddr *restrict address, socklen_t *restrict len),
     (fd, address, len))
PASS(int, setsockopt, (int fd, int level, int option, const void *value, socklen_t len),
     (fd, level, option, value, len))
PASS(int, getsockopt, (int fd, int level, int option, void *restrict value,
		       socklen_t *restrict len), (fd, level, option, value, len))
PASS(int, shutdown, (int fd, int how), (fd, how))

WRAP(int, listen, (int fd, int backlog))
{
	if (!fd_is_ours(fd))
		return REAL(listen)(fd, backlog);
	errno = EOPNOTSUPP;
	return -1;
}

WRAP(int, accept, (int fd, struct sockaddr *restrict address, socklen_t *restrict len))
{
	if (!fd_is_ours(fd))
		return REAL(accept)(fd, address, len);
	errno = EOPNOTSUPP;
	return -1;
}

WRAP(int, accept4, (int fd, struct sockaddr *restrict address, socklen_t *restrict len,
		    int flags))
{
	if (!fd_is_ours(fd))
		return REAL(accept4)(fd, address, len, flags);
	errno = EOPNOTSUPP;
	return -1;
}

/* --- sending and receiving */

PASS(ssize_t, send, (int fd, const void *octets, size_t len, int flags),
     (fd, octets, len, flags))
PASS(ssize_t, sendto, (int fd, const void *octets, size_t len, int flags,
		       const struct sockaddr *to, socklen_t to_len),
     (fd, octets, len, flags, to, to_len))
PASS(ssize_t, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
PASS(int, sendmmsg, (int fd, struct mmsghdr *messages, unsigned int n, int flags),
     (fd, messages, n, flags))
PASS(ssize_t, recv, (int fd, void *octets, size_t len, int flags), (fd, octets, len, flags))
PASS(ssize_t, recvfrom, (int fd, void *restrict octets, size_t len, int flags,
			 struct sockaddr *restrict from, socklen_t *restrict from_len),
     (fd, octets, len, flags, from, from_len))
PASS(ssize_t, recvmsg, (int fd, struct msghdr *message, int flags), (fd, message, flags))
PASS(int, recvmmsg, (int fd, struct mmsghdr *messages, unsigned int n, int flags,
		     struct timespec *timeout), (fd, messages, n, flags, timeout))

WRAP(ssize_t, read, (int fd, void *octets, size_t len))
{
	return fd_is_ours(fd) ? mhost_recv(fd, octets, len, 0) : REAL(read)(fd, octets, len);
}

WRAP(ssize_t, write, (int fd, const void *octets, size_t len))
{
	return fd_is_ours(fd) ? mhost_send(fd, octets, len, 0) : REAL(write)(fd, octets, len);
}

WRAP(ssize_t, readv, (int fd, const struct iovec *iov, int n))
{
	struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)iov,
				  .msg_iovlen = (size_t)n };

	return fd_is_ours(fd) ? mhost_recvmsg(fd, &message, 0) : REAL(readv)(fd, iov, n);
}

WRAP(ssize_t, writev, (int fd, const struct iovec *iov, int n))
{
	struct msghdr message = { .msg_iov = (struct iovec *)(uintptr_t)iov,
				  .msg_iovlen = (size_t)n };

	return fd_is_ours(fd) ? mhost_sendmsg(fd, &message, 0) : REAL(writev)(fd, iov, n);
}

FIND(long, syscall, (long number, ...))

/*
 * libuv makes these two with syscall(2). Of the others none is taken here: the library makes
 * its own system calls on these descriptors in this way (raw.h). Six arguments are read,
 * however many there are, as the C library's own does.
 */
__attribute__((no_sanitize_address)) FRONT(long, syscall, (long number, ...))
{
	long a[6];
	va_list more;

	va_start(more, number);
	for (int i = 0; i < 6; i++)
		a[i] = va_arg(more, long);
	va_end(more);
	if ((number == SYS_sendmmsg || number == SYS_recvmmsg) && fd_is_ours((int)a[0])) {
		struct mmsghdr *messages = (struct mmsghdr *)(uintptr_t)a[1];

		if (number == SYS_sendmmsg)
			return mhost_sendmmsg((int)a[0], messages, (unsigned int)a[2], (int)a[3]);
		return mhost_recvmmsg((int)a[0], messages, (unsigned int)a[2], (int)a[3],
				      (struct timespec *)(uintptr_t)a[4]);
	}
	return REAL(syscall)(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}

/* What _FORTIFY_SOURCE makes of recv(), recvfrom() and read(). */
FRONT(ssize_t, __recv_chk, (int fd, void *octets, size_t len, size_t room, int flags))
{
	if (len > room)
		abort();
	return recv(fd, octets, len, flags);
}

FRONT(ssize_t, __recvfrom_chk, (int fd, void *octets, size_t len, size_t room, int flags,
		       struct sockaddr *from, socklen_t *from_len))
{
	if (len > room)
		abort();
	return recvfrom(fd, octets, len, flags, from, from_len);
}

FRONT(ssize_t, __read_chk, (int fd, void *octets, size_t len, size_t room))
{
	if (len > room)
		abort();
	return read(fd, octets, len);
}

/* --- waiting: somebody looks at these from now on */

static void watched(int fd)
{
	struct end end;

	if (!fd_is_ours(fd) || !end_get(fd, &end))
		return;
	sk_watch(&end);
	end_put(&end);
}

static void watched_all(struct pollfd *fds, nfds_t n)
{
	for (nfds_t i = 0; fds_end && i < n; i++)
		watched(fds[i].fd);
}

/* As a kernel socket says that it has an error. */
static int with_errors(struct pollfd *fds, nfds_t n, int result)
{
	struct end end;

	for (nfds_t i = 0; result > 0 && fds_end && i < n; i++) {
		if (!(fds[i].revents & POLLIN) || !fd_is_ours(fds[i].fd) ||
		    !end_get(fds[i].fd, &end))
			continue;
		if (end.sk->seen != sk_errors(&end))
			session_catch_up(&end);
		if (end.sk->error || end.sk->n_queued)
			fds[i].revents |= POLLERR;
		end_put(&end);
	}
	return result;
}

WRAP(int, poll, (struct pollfd *fds, nfds_t n, int timeout))
{
	watched_all(fds, n);
	return with_errors(fds, n, REAL(poll)(fds, n, timeout));
}

WRAP(int, ppoll, (struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		  const sigset_t *mask))
{
	watched_all(fds, n);
	return with_errors(fds, n, REAL(ppoll)(fds, n, timeout, mask));
}

FRONT(int, __poll_chk, (struct pollfd *fds, nfds_t n, int timeout, size_t room))
{
	if (room / sizeof(*fds) < n)
		abort();
	return poll(fds, n, timeout);
}

FRONT(int, __ppoll_chk, (struct pollfd *fds, nfds_t n, const struct timespec *timeout,
		const sigset_t *mask, size_t room))
{
	if (room / sizeof(*fds) < n)
		abort();
	return ppoll(fds, n, timeout, mask);
}

static void watched_set(int n, const fd_set *set)
{
	for (int fd = 0; set && fd < n && fd < fds_end && fd < FD_SETSIZE; fd++)
		if (FD_ISSET(fd, set))
			watched(fd);
}

WRAP(int, select, (int n, fd_set *restrict in, fd_set *restrict out, fd_set *restrict except,
		   struct timeval *restrict timeout))
{
	watched_set(n, in);
	watched_set(n, out);
	return REAL(select)(n, in, out, except, timeout);
}

WRAP(int, pselect, (int n, fd_set *restrict in, fd_set *restrict out, fd_set *restrict except,
		    const struct timespec *restrict timeout, const sigset_t *restrict mask))
{
	watched_set(n, in);
	watched_set(n, out);
	return REAL(pselect)(n, in, out, except, timeout, mask);
}

WRAP(int, epoll_ctl, (int epfd, int op, int fd, struct epoll_event *event))
{
	if (op != EPOLL_CTL_DEL)
		watched(fd);
	return REAL(epoll_ctl)(epfd, op, fd, event);
}

/* A child that only waits needs its keeper too. */
static void look_after(void)
{
	struct end end;

	for (int fd = 0; fd < fds_end; fd++)
		if (fd_is_ours(fd) && end_get(fd, &end)) {
			end_put(&end);
			return;
		}
}

WRAP(int, epoll_wait, (int epfd, struct epoll_event *events, int n, int timeout))
{
	if (fds_end)
		look_after();
	return REAL(epoll_wait)(epfd, events, n, timeout);
}

WRAP(int, epoll_pwait, (int epfd, struct epoll_event *events, int n, int timeout,
			const sigset_t *mask))
{
	if (fds_end)
		look_after();
	return REAL(epoll_pwait)(epfd, events, n, timeout, mask);
}

/* --- names */

WRAP(int, getaddrinfo, (const char *restrict node, const char *restrict service,
			const struct addrinfo *restrict hints,
			struct addrinfo **restrict list))
{
	int family = hints ? hints->ai_family : AF_UNSPEC, err;

	if (family == AF_MHOST)
		return mhost_getaddrinfo(node, service, hints, list);
	err = REAL(getaddrinfo)(node, service, hints, list);
	if (err != EAI_NONAME && err != EAI_AGAIN && err != EAI_NODATA && err != EAI_FAIL)
		return err;
	return host_addrinfo(node, service, hints, list) ? err : 0;
}

WRAP(int, getnameinfo, (const struct sockaddr *restrict address, socklen_t len,
			char *restrict host, socklen_t host_len, char *restrict service,
			socklen_t service_len, int flags))
{
	if (address && len >= sizeof(struct sockaddr_mhost) && address->sa_family == AF_MHOST)
		return mhost_getnameinfo(address, len, host, host_len, service, service_len,
					 flags);
	return REAL(getnameinfo)(address, len, host, host_len, service, service_len, flags);
}
