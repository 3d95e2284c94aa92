/* sk.h - what a socket does (sk*.c)
 *
 * Each returns 0 or a length, or an errno with a minus sign, as in Linux.
 */
#ifndef MHOST_SK_H
#define MHOST_SK_H

#include <sys/socket.h>

#include "session.h"

struct mmsghdr;

/*
 * Errors of a socket that the daemon has told. Without the lock: the pointers in struct
 * app_lane may be another process's, our own mapping is not.
 */
static inline uint32_t sk_errors(const struct end *end)
{
	const struct ring_ctl *rx = end->local->shm;

	return atomic_load_explicit(&rx->errors, memory_order_acquire);
}

/* sk.c */
extern bool sk_polled_default;	/* of a new socket: whether somebody may poll it unseen */

struct sk *sk_lock(const struct end *end);
struct sk *sk_trylock(const struct end *end);
void sk_unlock(struct sk *sk);
bool sk_arm(struct sk *sk);
void sk_settle(struct sk *sk);
void sk_watch(const struct end *end);
bool sk_up(const struct end *end);
bool sk_nonblocking(const struct end *end, int flags);
int sk_error(const struct end *end);

int sk_open(struct view *view, int family, int flags);
void sk_close(const struct end *end);
void sk_free(const struct end *end);
int sk_restore(const struct end *end);

int sk_bind(const struct end *end, const struct sockaddr *address, socklen_t len);
int sk_connect(const struct end *end, const struct sockaddr *address, socklen_t len);
int sk_bind_first(const struct end *end);
int sk_getname(const struct end *end, bool peer, void *address, socklen_t *len);
int sk_shutdown(const struct end *end, int how);

/* sk_opts.c */
int sk_setsockopt(const struct end *end, int level, int option, const void *value,
		  socklen_t len);
int sk_getsockopt(const struct end *end, int level, int option, void *value, socklen_t *len);
int sk_ioctl(const struct end *end, unsigned long request, void *argument);
int sk_set_again(const struct end *end);

/* sk_dest.c */
bool sk_is_good(struct sk *sk, const struct place *place);
int sk_take_failed(struct sk *sk, const struct place *place);
void sk_answered(struct sk *sk, const struct place *place, int error, uint16_t port);
bool sk_answered_later(const struct end *end, const struct place *place, int error,
		       uint16_t port);
bool sk_failed(const struct end *end, struct mp_in *in);

/* sk_send.c */
ssize_t sk_sendmsg(const struct end *end, const struct msghdr *message, int flags);
int sk_sendmmsg(const struct end *end, struct mmsghdr *messages, unsigned int n, int flags);

/* sk_recv.c */
ssize_t sk_recvmsg(const struct end *end, struct msghdr *message, int flags);
int sk_recvmmsg(const struct end *end, struct mmsghdr *messages, unsigned int n, int flags,
		struct timespec *timeout);
size_t sk_next_size(const struct end *end);

#endif
