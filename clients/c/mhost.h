/* mhost.h - AF_MHOST sockets: libmhost, or the same calls under `mhostctl run`
 *
 * Every call has the arguments, the result and the errno of the one in <sys/socket.h>
 * whose name it has behind `mhost_`, on a descriptor that poll(2) and its kin take. A
 * descriptor that is not one of these sockets is given to the C library. libmhost(3) is
 * the manual.
 */
#ifndef MHOST_H
#define MHOST_H

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/uio.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define AF_MHOST	27
#define PF_MHOST	AF_MHOST
#define AF_TESTPROTO	1	/* the plug-ins, for who names them outright */
#define AF_OTHERPROTO	3

#define SOL_MHOST		0x6d68
#define MHOST_RECVPKTINFO	1	/* int: attach MHOST_PKTINFO to what recvmsg returns */
#define MHOST_PKTINFO		2	/* control message: "<L3 name> <device> <locator>[ <path>]" */
#define MHOST_RECVERR		3	/* int: queue errors of every L3; the message with one */
#define MHOST_POLICY		5	/* int, MHOST_POLICY_*: which paths datagrams take */
#define MHOST_MTU		6	/* int, to read: payload that one packet to the peer holds */
#define MHOST_FRESHNESS		7	/* int: ms after which what comes is lost; 0 is never */
#define MHOST_POLICY_HOST	0	/* that of the host, by configuration */
#define MHOST_POLICY_FAILOVER	1	/* the best path */
#define MHOST_POLICY_DUPLICATE	2	/* every path; doubles are removed where they arrive */
#define MHOST_POLLED		4	/* int: 0 if nobody polls the descriptor; libmhost(3) */

/**
 * struct sockaddr_mhost - a host, or an address of a plug-in's family
 * @smh_family:	AF_MHOST, or the family of a plug-in
 * @smh_port:	UDP port, network order
 * @smh_id_no:	which host, as mhost_getaddrinfo() or a source gave it; 0 is everywhere.
 *		The number means nothing to another program.
 * @smh_opaque:	with a plug-in's family its address, in network order, zero padded
 *
 * A struct sockaddr_in or sockaddr_in6 goes wherever this goes.
 */
struct sockaddr_mhost {
	sa_family_t smh_family;
	in_port_t smh_port;
	uint32_t smh_id_no;
	char smh_opaque[8];
};

struct addrinfo;
struct mmsghdr;
struct timespec;

int mhost_socket(int family, int type, int protocol);
int mhost_bind(int fd, const struct sockaddr *address, socklen_t len);
int mhost_connect(int fd, const struct sockaddr *address, socklen_t len);
int mhost_getsockname(int fd, struct sockaddr *address, socklen_t *len);
int mhost_getpeername(int fd, struct sockaddr *address, socklen_t *len);
int mhost_setsockopt(int fd, int level, int option, const void *value, socklen_t len);
int mhost_getsockopt(int fd, int level, int option, void *value, socklen_t *len);
int mhost_ioctl(int fd, unsigned long request, void *argument);
int mhost_shutdown(int fd, int how);
int mhost_dup(int fd);
int mhost_dup2(int fd, int other);
int mhost_close(int fd);

ssize_t mhost_send(int fd, const void *octets, size_t len, int flags);
ssize_t mhost_sendto(int fd, const void *octets, size_t len, int flags,
		     const struct sockaddr *to, socklen_t to_len);
ssize_t mhost_sendmsg(int fd, const struct msghdr *message, int flags);
int mhost_sendmmsg(int fd, struct mmsghdr *messages, unsigned int n, int flags);
ssize_t mhost_recv(int fd, void *octets, size_t len, int flags);
ssize_t mhost_recvfrom(int fd, void *octets, size_t len, int flags,
		       struct sockaddr *from, socklen_t *from_len);
ssize_t mhost_recvmsg(int fd, struct msghdr *message, int flags);
int mhost_recvmmsg(int fd, struct mmsghdr *messages, unsigned int n, int flags,
		   struct timespec *timeout);

int mhost_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		      struct addrinfo **list);
void mhost_freeaddrinfo(struct addrinfo *list);
int mhost_getnameinfo(const struct sockaddr *address, socklen_t len, char *host,
		      socklen_t host_len, char *service, socklen_t service_len, int flags);

/* What the daemon said with the last error of this thread, and the way out; "" if it
 * said nothing. */
const char *mhost_errtext(void);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif

#endif
