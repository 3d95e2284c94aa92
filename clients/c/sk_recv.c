/* sk_recv.c - receiving from a socket (sk.h) */

#include <time.h>	/* before the next one, which forgets to */

#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>

#include "mhost.h"
#include "name.h"
#include "raw.h"
#include "request.h"
#include "sk.h"

#ifndef UDP_GRO
#define UDP_GRO	104
#endif

/* --- parts of a message */

static size_t room_in(const struct msghdr *message)
{
	size_t octets = 0;

	for (size_t i = 0; i < message->msg_iovlen; i++)
		octets += message->msg_iov[i].iov_len;
	return octets;
}

static void scatter(const struct msghdr *message, const uint8_t *from, size_t len)
{
	for (size_t i = 0; i < message->msg_iovlen && len; i++) {
		size_t n = message->msg_iov[i].iov_len < len ? message->msg_iov[i].iov_len : len;

		if (n)
			memcpy(message->msg_iov[i].iov_base, from, n);
		from += n;
		len -= n;
	}
}

/* Cut control messages to a buffer as put_cmsg() of Linux does; @room is what is left. */
static void put_cmsg(struct msghdr *message, size_t *room, int level, int type,
		     const void *data, size_t len)
{
	size_t used = message->msg_controllen, whole = CMSG_SPACE(len);
	struct cmsghdr head = { .cmsg_len = CMSG_LEN(len), .cmsg_level = level, .cmsg_type = type };
	uint8_t *at = (uint8_t *)message->msg_control + used;

	if (*room < CMSG_LEN(0)) {
		message->msg_flags |= MSG_CTRUNC;
		return;
	}
	if (*room < head.cmsg_len) {
		message->msg_flags |= MSG_CTRUNC;
		head.cmsg_len = *room;
	}
	memcpy(at, &head, sizeof(head));
	if (head.cmsg_len > CMSG_LEN(0))
		memcpy(at + CMSG_LEN(0), data, head.cmsg_len - CMSG_LEN(0));
	if (whole > *room)
		whole = *room;
	message->msg_controllen = used + whole;
	*room -= whole;
}

/* What the daemon wrote as control messages, which it may still change. */
static void put_control(struct msghdr *message, size_t *room, const uint8_t *control, size_t len)
{
	struct cmsghdr head;

	while (len >= sizeof(head)) {
		size_t step;

		memcpy(&head, control, sizeof(head));
		if (head.cmsg_len < CMSG_LEN(0) || head.cmsg_len > len)
			return;
		put_cmsg(message, room, head.cmsg_level, head.cmsg_type, control + CMSG_LEN(0),
			 head.cmsg_len - CMSG_LEN(0));
		step = CMSG_ALIGN(head.cmsg_len);
		if (step >= len)
			return;
		control += step;
		len -= step;
	}
}

/* --- one datagram */

/* With the lock: copy the one in front out, and step over it unless it is peeked at. */
static ssize_t take(struct sk *sk, const struct datagram *d, struct msghdr *message, int flags,
		    struct place *from)
{
	size_t room = room_in(message), control_room = message->msg_controllen;
	const struct record *head = &d->head;
	bool several = sk->lane.whole && head->segment_size && d->n_payload > head->segment_size;
	size_t octets = d->n_payload;

	*from = (struct place){ .family = head->family, .port = head->port, .id_no = head->id_no,
				.scope_id = head->scope_id };
	memcpy(from->address, head->address, ADDRESS_MAX);
	scatter(message, d->payload, octets);
	message->msg_controllen = 0;
	message->msg_flags = octets > room ? MSG_TRUNC : 0;
	if (d->n_control)
		put_control(message, &control_room, d->control, d->n_control);
	if (several) {
		int size = head->segment_size;

		put_cmsg(message, &control_room, IPPROTO_UDP, UDP_GRO, &size, sizeof(size));
	}
	if (!(flags & MSG_PEEK)) {
		app_lane_pop(&sk->lane, d);
		sk_settle(sk);
	}
	return (ssize_t)(flags & MSG_TRUNC || octets < room ? octets : room);
}

/* Tell the daemon what was taken that came over ZeroMQ, once it is worth it. */
static size_t emit_consumed(void *argument, uint32_t seq, uint8_t *out)
{
	struct sk *sk = argument;
	struct mp_out mp = { out, out + 64, false };

	(void)seq;
	if (!sk->number)
		return 0;
	mp_array(&mp, 3);
	mp_str(&mp, "consumed", 8);
	mp_u32(&mp, sk->number);
	mp_u32(&mp, (uint32_t)sk->lane.consumed);
	sk->lane.consumed = 0;
	return (size_t)(mp.at - out);
}

/*
 * Sleep until the descriptor is readable. To look at its octet is a call that SO_RCVTIMEO,
 * O_NONBLOCK, signals (SA_RESTART) and cancellation end as they end recvfrom(2).
 */
static int sleep_for_octet(struct app_lane *lane, int near)
{
	uint64_t before = now_ns();
	ssize_t n;
	char octet;
	int old;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	n = raw_recv(near, &octet, 1, MSG_PEEK);
	pthread_setcanceltype(old, NULL);
	atomic_store_explicit(&lane->slept_ns, now_ns() - before, memory_order_relaxed);
	return n < 0 ? errno : 0;
}

/* With the lock, which is let go meanwhile: wait for something; 0, or an errno. */
static int wait_for_more(const struct end *end)
{
	struct sk *sk = end->sk;
	struct app_lane here = sk->lane;
	int near = end->local->near, err = 0;
	bool come;

	sk_unlock(sk);
	come = app_lane_linger(&here);
	if (!sk_lock(end))
		return EAGAIN;
	if (!come && !sk_arm(sk) && !sk->error && !sk->shut_rd) {
		sk_unlock(sk);
		err = sleep_for_octet(&here, near);
		if (!sk_lock(end))
			return EAGAIN;
		sk->lane.slept_ns = here.slept_ns;
	}
	return err;
}

/* With the lock: what is not in the ring; 1 if there is nothing, else what the call gives. */
static int beside(struct sk *sk)
{
	if (sk->error) {
		int error = sk->error;

		sk->error = 0;
		sk_settle(sk);
		return -error;
	}
	return 1;
}

static ssize_t receive(const struct end *end, struct msghdr *message, int flags,
		       struct place *from)
{
	struct sk *sk = end->sk;
	bool credit = false;
	ssize_t result;
	struct datagram d;

	from->family = 0;
	if (!sk_lock(end))
		return -EAGAIN;
	for (;;) {
		enum ring_says says;

		if (sk->seen != app_lane_errors(&sk->lane)) {
			sk_unlock(sk);
			session_catch_up(end);
			if (!sk_lock(end))
				return -EAGAIN;
		}
		result = beside(sk);
		if (result <= 0)
			break;
		says = app_lane_front(&sk->lane, &d);
		if (says == RING_OK) {
			result = take(sk, &d, message, flags, from);
			credit = sk->credit && sk->lane.consumed >= sk->credit;
			break;
		}
		result = says == RING_BROKEN ? -EIO : 0;
		if (says == RING_BROKEN || sk->shut_rd) {
			message->msg_controllen = 0;
			message->msg_flags = 0;
			break;
		}
		if (sk_nonblocking(end, flags)) {
			if (!sk->n_queued && sk_arm(sk))
				continue;
			result = -EAGAIN;
			break;
		}
		result = -wait_for_more(end);
		if (result)
			break;
	}
	sk_unlock(sk);
	if (credit)
		session_post(end->view, 0, emit_consumed, sk, NULL, NULL);
	return result;
}

/* --- the error queue */

static socklen_t offender_of(const struct queued *queued, struct sockaddr_storage *to)
{
	const struct place *place = &queued->offender;

	if (queued->to.family == AF_INET) {
		struct sockaddr_in *in = (struct sockaddr_in *)(void *)to;

		in->sin_family = place->family;
		memcpy(&in->sin_addr, place->address, 4);
		return sizeof(*in);
	}
	if (queued->to.family == AF_INET6) {
		struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)(void *)to;

		in6->sin6_family = place->family;
		memcpy(&in6->sin6_addr, place->address, ADDRESS_MAX);
		in6->sin6_scope_id = place->scope_id;
		return sizeof(*in6);
	}
	struct sockaddr_mhost *mhost = (struct sockaddr_mhost *)(void *)to;

	mhost->smh_family = place->family;
	memcpy(mhost->smh_opaque, place->address, sizeof(mhost->smh_opaque));
	return sizeof(*mhost);
}

/* recvmsg(2) with MSG_ERRQUEUE, which never waits. */
static ssize_t receive_error(const struct end *end, struct msghdr *message, int flags,
			     struct place *to)
{
	struct {
		struct sock_extended_err err;
		struct sockaddr_storage offender;
	} data = { { 0 }, { 0 } };
	size_t room = room_in(message), control_room = message->msg_controllen, len;
	struct sk *sk = end->sk;
	struct queued queued;
	int level, type;

	if (sk->seen != sk_errors(end))
		session_catch_up(end);
	if (!sk_lock(end))
		return -EAGAIN;
	if (!sk->n_queued) {
		sk_unlock(sk);
		return -EAGAIN;
	}
	queued = sk->queue[0];
	memmove(sk->queue, sk->queue + 1, --sk->n_queued * sizeof(queued));
	/* The pending error is the next one's, as sock_dequeue_err_skb() of Linux has it. */
	if (sk->n_queued && !sk->queue[0].local)
		sk->error = sk->queue[0].error;
	else if (!queued.local)
		sk->error = 0;
	sk_settle(sk);
	sk_unlock(sk);
	data.err = (struct sock_extended_err){
		.ee_errno = (uint32_t)queued.error, .ee_origin = queued.origin,
		.ee_type = queued.type, .ee_code = queued.code, .ee_info = queued.info,
	};
	len = sizeof(data.err) + offender_of(&queued, &data.offender);
	level = queued.to.family == AF_INET ? IPPROTO_IP :
		queued.to.family == AF_INET6 ? IPPROTO_IPV6 : SOL_MHOST;
	type = level == IPPROTO_IP ? IP_RECVERR :
	       level == IPPROTO_IPV6 ? IPV6_RECVERR : MHOST_RECVERR;
	scatter(message, queued.payload, queued.len);
	message->msg_controllen = 0;
	message->msg_flags = MSG_ERRQUEUE | (queued.len > room ? MSG_TRUNC : 0);
	put_cmsg(message, &control_room, level, type, &data, len);
	*to = queued.to;
	to->id_no = 0;
	return (ssize_t)(flags & MSG_TRUNC || queued.len < room ? queued.len : room);
}

/* --- the calls */

ssize_t sk_recvmsg(const struct end *end, struct msghdr *message, int flags)
{
	struct place from = { 0 };
	ssize_t n;

	if (!message->msg_control)
		message->msg_controllen = 0;
	n = flags & MSG_ERRQUEUE ? receive_error(end, message, flags, &from) :
				   receive(end, message, flags, &from);
	if (n < 0)
		return n;
	if (message->msg_name && from.family)
		place_put(end, &from, message->msg_name, &message->msg_namelen);
	else if (message->msg_name)
		message->msg_namelen = 0;
	message->msg_flags |= flags & MSG_CMSG_CLOEXEC;
	return n;
}

int sk_recvmmsg(const struct end *end, struct mmsghdr *messages, unsigned int n, int flags,
		struct timespec *timeout)
{
	uint64_t deadline = 0;
	unsigned int done = 0;

	if (timeout && (timeout->tv_sec < 0 || timeout->tv_nsec < 0 || timeout->tv_nsec > 999999999))
		return -EINVAL;
	if (timeout)
		deadline = now_ns() + (uint64_t)timeout->tv_sec * 1000000000 +
			   (uint64_t)timeout->tv_nsec;
	while (done < n) {
		ssize_t got = sk_recvmsg(end, &messages[done].msg_hdr, flags & ~MSG_WAITFORONE);

		if (got < 0)
			return done ? (int)done : (int)got;
		messages[done++].msg_len = (unsigned int)got;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		/* As in Linux it is looked at between two datagrams only. */
		if (timeout && now_ns() >= deadline)
			break;
		if (!messages[done - 1].msg_hdr.msg_flags && got == 0 && end->sk->shut_rd)
			break;
	}
	return (int)done;
}

/* FIONREAD: octets of the next datagram. */
size_t sk_next_size(const struct end *end)
{
	struct datagram d;
	size_t octets = 0;

	if (!sk_lock(end))
		return 0;
	if (app_lane_front(&end->sk->lane, &d) == RING_OK)
		octets = d.n_payload;
	sk_unlock(end->sk);
	return octets;
}
