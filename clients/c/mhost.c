/* mhost.c - the calls of mhost.h: a descriptor, what it is of, and errno */

#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "connection.h"
#include "fds.h"
#include "mhost.h"
#include "sk.h"

#define SOCK_MAX	11	/* linux/net.h */
#define IPPROTO_MAX_	263	/* linux/in.h */
#define FLAGS		(SOCK_NONBLOCK | SOCK_CLOEXEC)

/* What a call of Linux gives for a result of ours. */
static ssize_t give(ssize_t result)
{
	if (result >= 0)
		return result;
	errno = (int)-result;
	return -1;
}

/* One call on the socket of a descriptor, or @other if that is none of ours. */
#define CALL(fd, ours, other) do { \
	struct end end; \
	ssize_t result_; \
	if (!fd_is_ours(fd)) \
		return other; \
	if (!end_get(fd, &end)) \
		return -1; \
	result_ = (ours); \
	end_put(&end); \
	return (__typeof__(other))give(result_); \
} while (0)

/* Whether a socket of the kernel's is on mhostd: datagrams of IPv4 and IPv6 are. */
static bool is_udp(int family, int type, int protocol)
{
	return (family == AF_INET || family == AF_INET6) && type == SOCK_DGRAM &&
	       (!protocol || protocol == IPPROTO_UDP);
}

/* 0, or the errno with which Linux refuses these. */
static int check(int type, int protocol)
{
	if (type < 0 || type >= SOCK_MAX || protocol < 0 || protocol >= IPPROTO_MAX_)
		return EINVAL;
	if (type != SOCK_DGRAM)
		return ESOCKTNOSUPPORT;
	return protocol && protocol != IPPROTO_UDP ? EPROTONOSUPPORT : 0;
}

int mhost_socket(int family, int type, int protocol)
{
	int kind = type & ~FLAGS, err;
	struct view *view;

	if (family != AF_MHOST && !is_udp(family, kind, protocol))
		return socket(family, type, protocol);
	err = check(kind, protocol);
	if (!err)
		err = session_here(&view);
	return (int)give(err ? -err : sk_open(view, family, type & FLAGS));
}

int mhost_bind(int fd, const struct sockaddr *address, socklen_t len)
{
	CALL(fd, sk_bind(&end, address, len), bind(fd, address, len));
}

int mhost_connect(int fd, const struct sockaddr *address, socklen_t len)
{
	CALL(fd, sk_connect(&end, address, len), connect(fd, address, len));
}

int mhost_getsockname(int fd, struct sockaddr *address, socklen_t *len)
{
	CALL(fd, sk_getname(&end, false, address, len), getsockname(fd, address, len));
}

int mhost_getpeername(int fd, struct sockaddr *address, socklen_t *len)
{
	CALL(fd, sk_getname(&end, true, address, len), getpeername(fd, address, len));
}

int mhost_setsockopt(int fd, int level, int option, const void *value, socklen_t len)
{
	CALL(fd, sk_setsockopt(&end, level, option, value, len),
	     setsockopt(fd, level, option, value, len));
}

int mhost_getsockopt(int fd, int level, int option, void *value, socklen_t *len)
{
	CALL(fd, sk_getsockopt(&end, level, option, value, len),
	     getsockopt(fd, level, option, value, len));
}

int mhost_ioctl(int fd, unsigned long request, void *argument)
{
	if (request != FIONREAD && request != SIOCOUTQ)		/* of the descriptor itself */
		return (int)syscall(SYS_ioctl, fd, request, argument);
	CALL(fd, sk_ioctl(&end, request, argument), ioctl(fd, request, argument));
}

int mhost_shutdown(int fd, int how)
{
	CALL(fd, sk_shutdown(&end, how), shutdown(fd, how));
}

int mhost_dup(int fd)
{
	return fd_is_ours(fd) ? fd_dup(fd, dup(fd)) : dup(fd);
}

int mhost_dup2(int fd, int other)
{
	return fd_is_ours(fd) || fd_is_ours(other) ? fd_dup2(fd, other, 0) : dup2(fd, other);
}

int mhost_close(int fd)
{
	return fd_is_ours(fd) ? fd_close(fd) : close(fd);
}

ssize_t mhost_sendmsg(int fd, const struct msghdr *message, int flags)
{
	CALL(fd, sk_sendmsg(&end, message, flags), sendmsg(fd, message, flags));
}

ssize_t mhost_sendto(int fd, const void *octets, size_t len, int flags,
		     const struct sockaddr *to, socklen_t to_len)
{
	struct iovec one = { (void *)(uintptr_t)octets, len };
	struct msghdr message = {
		.msg_name = (void *)(uintptr_t)to, .msg_namelen = to ? to_len : 0,
		.msg_iov = &one, .msg_iovlen = 1,
	};

	CALL(fd, !octets && len ? -EFAULT : sk_sendmsg(&end, &message, flags),
	     sendto(fd, octets, len, flags, to, to_len));
}

ssize_t mhost_send(int fd, const void *octets, size_t len, int flags)
{
	return mhost_sendto(fd, octets, len, flags, NULL, 0);
}

int mhost_sendmmsg(int fd, struct mmsghdr *messages, unsigned int n, int flags)
{
	CALL(fd, sk_sendmmsg(&end, messages, n, flags), sendmmsg(fd, messages, n, flags));
}

ssize_t mhost_recvmsg(int fd, struct msghdr *message, int flags)
{
	CALL(fd, sk_recvmsg(&end, message, flags), recvmsg(fd, message, flags));
}

ssize_t mhost_recvfrom(int fd, void *octets, size_t len, int flags, struct sockaddr *from,
		       socklen_t *from_len)
{
	struct iovec one = { octets, len };
	struct msghdr message = {
		.msg_name = from, .msg_namelen = from && from_len ? *from_len : 0,
		.msg_iov = &one, .msg_iovlen = 1,
	};
	ssize_t n;
	struct end end;

	if (!fd_is_ours(fd))
		return recvfrom(fd, octets, len, flags, from, from_len);
	if (!end_get(fd, &end))
		return -1;
	n = !octets && len ? -EFAULT : sk_recvmsg(&end, &message, flags);
	end_put(&end);
	if (n >= 0 && from && from_len)
		*from_len = message.msg_namelen;
	return give(n);
}

ssize_t mhost_recv(int fd, void *octets, size_t len, int flags)
{
	return mhost_recvfrom(fd, octets, len, flags, NULL, NULL);
}

int mhost_recvmmsg(int fd, struct mmsghdr *messages, unsigned int n, int flags,
		   struct timespec *timeout)
{
	CALL(fd, sk_recvmmsg(&end, messages, n, flags, timeout),
	     recvmmsg(fd, messages, n, flags, timeout));
}
