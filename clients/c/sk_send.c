/* sk_send.c - sending from a socket (sk.h)
 *
 * A datagram to a destination that is known to be good goes in the ring (quick()). The first
 * one to a destination goes over ZeroMQ and waits for the daemon, whose errno is the call's;
 * so does one with control messages.
 */

#include <limits.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>

#include "mhost.h"
#include "name.h"
#include "raw.h"
#include "request.h"
#include "sk.h"

#define BUFFERS_MAX	1024	/* UIO_MAXIOV of linux/uio.h */
#define SEGMENTS_MAX_	128	/* UDP_MAX_SEGMENTS of Linux include/linux/udp.h */
#define ANSWER_NS	20000000ull	/* how long a call that does not wait waits for an answer */

#ifndef UDP_SEGMENT
#define UDP_SEGMENT	103
#endif

/**
 * struct datagram_out - what one call sends
 * @iov:	payload
 * @n_iov:	buffers of it
 * @octets:	in all of them
 * @asked:	destination as the program gave it, of family 0 for the peer of connect()
 * @place:	as the daemon has it, in the session of @generation (0 is any)
 * @control:	control messages for the daemon
 * @n_control:	octets of them
 * @segment:	octets of each datagram; 0 if it is one
 */
struct datagram_out {
	const struct iovec *iov;
	size_t n_iov;
	size_t octets;
	struct place asked;
	struct place place;
	uint32_t generation;
	const uint8_t *control;
	size_t n_control;
	uint16_t segment;
};

/* --- the message */

static size_t sum_of(const struct iovec *iov, size_t n)
{
	size_t octets = 0;

	for (size_t i = 0; i < n; i++) {
		if (iov[i].iov_len > INT_MAX || octets + iov[i].iov_len > INT_MAX)
			return SIZE_MAX;
		octets += iov[i].iov_len;
	}
	return octets;
}

static void gather(uint8_t *to, const struct iovec *iov, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (iov[i].iov_len)
			memcpy(to, iov[i].iov_base, iov[i].iov_len);
		to += iov[i].iov_len;
	}
}

/* Take UDP_SEGMENT out of the control messages; 0, or an errno. */
static int read_control(const struct msghdr *message, struct datagram_out *d, uint8_t *copy)
{
	struct msghdr walk = *message;
	size_t len = 0;

	if (!message->msg_controllen)
		return 0;
	if (message->msg_controllen > RECORD_CONTROL_MAX)
		return ENOBUFS;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&walk); c; c = CMSG_NXTHDR(&walk, c)) {
		size_t left = (size_t)((uint8_t *)walk.msg_control + walk.msg_controllen -
				       (uint8_t *)c);

		if (c->cmsg_len < CMSG_LEN(0) || c->cmsg_len > left)
			return EINVAL;
		if (c->cmsg_level == IPPROTO_UDP && c->cmsg_type == UDP_SEGMENT) {
			if (c->cmsg_len != CMSG_LEN(sizeof(d->segment)))
				return EINVAL;
			memcpy(&d->segment, CMSG_DATA(c), sizeof(d->segment));
			continue;
		}
		memset(copy + len, 0, CMSG_ALIGN(c->cmsg_len));
		memcpy(copy + len, c, c->cmsg_len);
		len += CMSG_ALIGN(c->cmsg_len);
	}
	d->control = copy;
	d->n_control = len;
	return 0;
}

static void head_of(const struct datagram_out *d, uint32_t cookie, uint16_t flags,
		    struct record *head)
{
	*head = (struct record){
		.flags = flags,
		.segment_size = d->segment && d->octets > d->segment ? d->segment : 0,
		.family = d->place.family,
		.port = d->place.port,
		.cookie = cookie,
		.id_no = d->place.id_no,
		.scope_id = d->place.scope_id,
	};
	memcpy(head->address, d->place.address, ADDRESS_MAX);
	if (!d->place.family)
		head->flags |= RECORD_CONNECTED;
	if (d->n_control)
		head->flags |= RECORD_CONTROL;
}

struct emission {
	const struct sk *sk;
	const struct datagram_out *d;
	uint16_t flags;
};

/* emit_fn of a data message with one record */
static size_t emit(void *argument, uint32_t seq, uint8_t *out)
{
	const struct emission *e = argument;
	const struct datagram_out *d = e->d;
	uint8_t *at = out + DATA_HLEN + RECORD_HLEN;
	struct record head;

	if (!e->sk->number)
		return 0;
	memset(out, 0, DATA_HLEN);
	out[0] = DATA_MAGIC;
	out[1] = UAPI_VERSION;
	memcpy(out + 4, &e->sk->number, 4);
	head_of(d, e->flags & RECORD_REPLY ? seq : 0, e->flags, &head);
	if (d->n_control) {
		uint32_t lengths[2] = { (uint32_t)d->n_control, 0 };

		memcpy(at, lengths, sizeof(lengths));
		memcpy(at + 8, d->control, d->n_control);
		at += 8 + d->n_control;
	}
	gather(at, d->iov, d->n_iov);
	at += d->octets;
	head.length = (uint32_t)(at - out - DATA_HLEN);
	memcpy(out + DATA_HLEN, &head, sizeof(head));
	while ((at - out) % RECORD_ALIGN)
		*at++ = 0;
	return (size_t)(at - out);
}

/* --- in the ring */

/* With the lock: what stands against sending now; 0, or an errno. */
static int check(struct sk *sk, const struct datagram_out *d)
{
	int error = sk->error;

	if (!d->asked.family && !sk->connected)
		return EDESTADDRREQ;
	if (d->octets > RECORD_PAYLOAD_MAX)
		return EMSGSIZE;
	if (d->segment && d->octets > (size_t)d->segment * SEGMENTS_MAX_)
		return EINVAL;
	if (sk->shut_wr)
		return EPIPE;
	if (error) {
		sk->error = 0;
		sk_settle(sk);
	}
	return error;
}

/* With the lock: whether datagrams may go through the memory; none is behind that did not. */
static bool may_put(const struct end *end)
{
	const struct sk *sk = end->sk;

	return sk->shared && sk_up(end) && !sk->unanswered &&
	       sk->seen == app_lane_errors(&sk->lane);
}

/* With the lock: put a datagram in the ring, published later; RING_WAIT: not now. */
static enum ring_says put(struct sk *sk, const struct datagram_out *d)
{
	enum ring_says says;
	struct record head;
	uint8_t *at;

	head_of(d, 0, 0, &head);
	at = app_lane_reserve(&sk->lane, &head, d->octets, &says);
	if (at) {
		gather(at, d->iov, d->n_iov);
		app_lane_commit(&sk->lane, d->octets);
	}
	return says;
}

/*
 * With the lock: put a datagram in the ring if nothing stands against it; false if
 * slow() must see it.
 */
static bool quick(const struct end *end, struct datagram_out *d)
{
	struct sk *sk = end->sk;

	if (d->asked.family == AF_MHOST && d->asked.id_no) {
		if (sk->to.name != d->asked.id_no ||
		    sk->to.generation != end->view->s->generation)
			return false;
		d->place = d->asked;
		d->place.id_no = sk->to.handle;
	} else {
		d->place = d->asked;
	}
	return !d->n_control && may_put(end) && sk_is_good(sk, &d->place) && !sk->error &&
	       !sk->shut_wr && d->octets <= RECORD_PAYLOAD_MAX &&
	       !(d->segment && d->octets > (size_t)d->segment * SEGMENTS_MAX_) &&
	       put(sk, d) == RING_OK;
}

/*
 * Sleep until the daemon has taken half of the ring: the octet that is sent then finds room.
 * To send it has signals, SO_SNDTIMEO and cancellation end the wait as they do in Linux.
 */
static int sleep_for_room(int near)
{
	ssize_t n;
	int old;

	pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &old);
	n = raw_send(near, "", 1, MSG_NOSIGNAL);
	pthread_setcanceltype(old, NULL);
	return n < 0 ? errno : 0;
}

/* Put a datagram in the ring, however long that takes; 0, or an errno. */
static int put_waiting(const struct end *end, const struct datagram_out *d, bool nonblocking)
{
	struct sk *sk = end->sk;
	int near = end->local->near, err;

	for (;;) {
		enum ring_says says;

		if (!sk_lock(end))
			return EAGAIN;
		says = RING_BROKEN;
		if (may_put(end) && sk_is_good(sk, &d->place)) {
			says = put(sk, d);
			if (says == RING_WAIT) {
				app_lane_want_room(&sk->lane);
				says = put(sk, d);
			}
			if (says == RING_OK)
				app_lane_publish(&sk->lane);
		}
		sk_unlock(sk);
		if (says == RING_OK)
			return 0;
		if (says == RING_BROKEN)
			return ESTALE;		/* it has to go another way */
		if (nonblocking)
			return EAGAIN;
		err = sleep_for_room(near);
		if (err)
			return err;
	}
}

/* --- over ZeroMQ */

static uint64_t send_deadline(const struct end *end)
{
	struct timeval t = { 0, 0 };
	socklen_t len = sizeof(t);

	syscall(SYS_getsockopt, end->local->near, SOL_SOCKET, SO_SNDTIMEO, &t, &len);
	if (!t.tv_sec && !t.tv_usec)
		return 0;
	return now_ns() + (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_usec * 1000;
}

/* Send, and let the answer come when it does; a little is waited for it all the same. */
static int post(const struct end *end, struct emission *e)
{
	uint64_t deadline = now_ns() + ANSWER_NS;
	struct sk *sk = end->sk;
	bool answers = e->flags & RECORD_REPLY;
	int err;

	if (answers) {
		if (!sk_lock(end))
			return EAGAIN;
		sk->unanswered++;
		sk_unlock(sk);
	}
	err = session_post(end->view, e->d->generation, emit, e, answers ? end : NULL,
			   &e->d->place);
	while (!err && answers && sk->unanswered && now_ns() < deadline) {
		struct pollfd conn = { end->view->conn, POLLIN, 0 };

		raw_poll_ms(&conn, 1, 1);
		session_drain(end->view);
	}
	if (answers && sk_lock(end)) {
		if (err && sk->unanswered)
			sk->unanswered--;
		if (!err)
			err = sk_take_failed(sk, &e->d->place);
		sk_unlock(sk);
	}
	return err;
}

static int ask(const struct end *end, struct emission *e)
{
	const struct datagram_out *d = e->d;
	struct reply reply;
	struct mp_in in;
	int err;

	e->flags = RECORD_REPLY;
	err = session_exchange(end->view, d->generation, emit, e, send_deadline(end), &reply);
	if (err)
		return err == ETIMEDOUT ? EAGAIN : err;
	in = reply_value(&reply);
	if (sk_lock(end)) {
		sk_answered(end->sk, &d->place, reply.error,
			 reply.error ? 0 : (uint16_t)mp_get_int(&in));
		sk_unlock(end->sk);
	}
	if (reply.error)
		set_errtext(reply.text);
	return reply.error;
}

/* Whatever quick() did not do; 0, or an errno. */
static int slow(const struct end *end, struct datagram_out *d, int flags)
{
	struct emission e = { end->sk, d, 0 };
	struct sk *sk = end->sk;
	bool nonblocking = sk_nonblocking(end, flags), good, ring;
	int err;

	for (;;) {
		if (sk->seen != sk_errors(end))
			session_catch_up(end);
		err = place_now(end, &d->asked, &d->place, &d->generation, false);
		if (err)
			return err;
		if (!sk_lock(end))
			return EAGAIN;
		if (d->asked.family == AF_MHOST && d->asked.id_no) {
			sk->to.name = d->asked.id_no;
			sk->to.handle = d->place.id_no;
			sk->to.generation = d->generation;
		}
		err = check(sk, d);
		if (!err) {
			err = sk_take_failed(sk, &d->place);
			if (err && !nonblocking)
				err = 0;	/* it has an answer of its own */
		}
		good = sk_is_good(sk, &d->place) && !d->n_control;
		ring = good && may_put(end);
		good = good && !sk->shared && sk_up(end);
		sk_unlock(sk);
		if (err)
			return err;
		if (ring) {
			err = put_waiting(end, d, nonblocking);
		} else if (good || nonblocking) {
			e.flags = good ? 0 : RECORD_REPLY;
			err = post(end, &e);
			if (err == EAGAIN && !nonblocking)
				err = ask(end, &e);
		} else {
			err = ask(end, &e);
		}
		if (err != ESTALE)
			return err;
	}
}

/* What a call gives, read; 0, or an errno. */
static int read_message(const struct end *end, const struct msghdr *message, int flags,
			struct datagram_out *d, uint8_t *control)
{
	int err = 0;

	if (message->msg_iovlen > BUFFERS_MAX)
		return EMSGSIZE;
	*d = (struct datagram_out){
		.iov = message->msg_iov,
		.n_iov = message->msg_iovlen,
		.octets = sum_of(message->msg_iov, message->msg_iovlen),
		.segment = end->sk->segment,
	};
	if (d->octets == SIZE_MAX)
		return EINVAL;
	if (d->octets > 0xffff)
		return EMSGSIZE;
	if (end->sk->family == AF_INET6)	/* udpv6_sendmsg() of Linux does not look at it */
		flags &= ~MSG_OOB;
	if (flags & (MSG_OOB | MSG_MORE | MSG_DONTROUTE))
		return EOPNOTSUPP;
	if (message->msg_name && message->msg_namelen) {
		const struct sockaddr *to = message->msg_name;

		err = place_of(end, to, message->msg_namelen, &d->asked);
		if (err == EAFNOSUPPORT && end->sk->family == AF_INET && !to->sa_family) {
			struct sockaddr_in in;	/* as udp_sendmsg() of Linux */

			memcpy(&in, to, sizeof(in));
			in.sin_family = AF_INET;
			err = place_of(end, (struct sockaddr *)&in, sizeof(in), &d->asked);
		}
		if (err == EAFNOSUPPORT && end->sk->family == AF_INET6)
			err = EINVAL;
		if (!err && !d->asked.port)
			err = EINVAL;
	}
	if (!err && message->msg_controllen)
		err = read_control(message, d, control);
	return err;
}

ssize_t sk_sendmsg(const struct end *end, const struct msghdr *message, int flags)
{
	uint8_t control[RECORD_CONTROL_MAX + CMSG_ALIGN(1)];
	struct datagram_out d;
	bool done = false;
	int err = read_message(end, message, flags, &d, control);

	if (!err && d.asked.family)
		err = -sk_bind_first(end);
	if (err)
		return -err;
	if (sk_lock(end)) {
		done = quick(end, &d);
		if (done)
			app_lane_publish(&end->sk->lane);
		sk_unlock(end->sk);
	}
	if (!done)
		err = slow(end, &d, flags);
	return err ? -err : (ssize_t)d.octets;
}

/* As many as go at once, with one word to the daemon; how many. */
static unsigned int quick_many(const struct end *end, struct mmsghdr *messages, unsigned int n,
			       int flags)
{
	struct datagram_out d;
	unsigned int done = 0;

	if (!sk_lock(end))
		return 0;
	while (done < n && !messages[done].msg_hdr.msg_controllen &&
	       !read_message(end, &messages[done].msg_hdr, flags, &d, NULL) && quick(end, &d)) {
		messages[done].msg_len = (unsigned int)d.octets;
		done++;
	}
	if (done)
		app_lane_publish(&end->sk->lane);
	sk_unlock(end->sk);
	return done;
}

int sk_sendmmsg(const struct end *end, struct mmsghdr *messages, unsigned int n, int flags)
{
	unsigned int done = 0;

	if (n > BUFFERS_MAX)
		n = BUFFERS_MAX;
	while (done < n) {
		ssize_t sent;

		done += quick_many(end, messages + done, n - done, flags);
		if (done == n)
			break;
		sent = sk_sendmsg(end, &messages[done].msg_hdr, flags);
		if (sent < 0)
			return done ? (int)done : (int)sent;
		messages[done++].msg_len = (unsigned int)sent;
	}
	return (int)done;
}
