/* sk_opts.c - setsockopt, getsockopt and ioctl of a socket (sk.h) */

#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/ioctl.h>

#include "mhost.h"
#include "raw.h"
#include "request.h"
#include "sk.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT	103
#endif
#ifndef UDP_GRO
#define UDP_GRO	104
#endif

#define CREDIT_SHARE	4
#define RCVBUF_MAX	450000	/* over ZeroMQ: what a ring holds, however it is cut */

/*
 * Those that our end of the pair of sockets has as well as any: how long its calls wait, and
 * what changes nothing for datagrams.
 */
static bool is_own(int level, int option)
{
	static const int own[] = { SO_RCVTIMEO, SO_SNDTIMEO, SO_KEEPALIVE, SO_LINGER, SO_OOBINLINE,
				   SO_BUSY_POLL, SO_INCOMING_CPU, SO_PRIORITY, SO_COOKIE };

	for (size_t i = 0; level == SOL_SOCKET && i < sizeof(own) / sizeof(*own); i++)
		if (own[i] == option)
			return true;
	return false;
}

struct membership {
	int32_t level, leave, join;
};

static const struct membership memberships[] = {
	{ IPPROTO_IP, IP_DROP_MEMBERSHIP, IP_ADD_MEMBERSHIP },
	{ IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP, IP_ADD_SOURCE_MEMBERSHIP },
	{ IPPROTO_IPV6, IPV6_LEAVE_GROUP, IPV6_JOIN_GROUP },
};

static bool is_join(int level, int option)
{
	for (int i = 0; i < 3; i++)
		if (memberships[i].level == level && memberships[i].join == option)
			return true;
	return false;
}

/* Which one a leave takes back, 0 if it is none. */
static int left_by(int level, int option)
{
	for (int i = 0; i < 3; i++)
		if (memberships[i].level == level && memberships[i].leave == option)
			return memberships[i].join;
	return 0;
}

/* With the lock: remember what is to be set again after a restart. */
static void remember(struct sk *sk, const struct option *o)
{
	struct option gone = *o;
	uint32_t n = 0;

	gone.option = left_by(o->level, o->option);
	for (uint32_t i = 0; i < sk->n_options; i++) {
		struct option *each = sk->options + i;
		bool same = gone.option ? !memcmp(each, &gone, sizeof(gone)) :
			    each->level == o->level && each->option == o->option &&
			    (!is_join(o->level, o->option) || !memcmp(each, o, sizeof(*o)));

		if (!same)
			sk->options[n++] = *each;
	}
	sk->n_options = n;
	if (!gone.option && n < OPTIONS_MAX)
		sk->options[sk->n_options++] = *o;
}

static void request_of(struct request *rq, const struct sk *sk, const struct option *o)
{
	request_begin_sk(rq, "setsockopt", 6, sk);
	mp_int(&rq->out, o->level);
	mp_int(&rq->out, o->option);
	if (o->len)
		mp_bin(&rq->out, o->octets, o->len);
	else
		mp_int(&rq->out, o->number);
}

static void set_credit(struct sk *sk, uint32_t rcvbuf)
{
	sk->credit = sk->shared ? 0 : rcvbuf / CREDIT_SHARE + 1;
}

/* Those of the daemon; a small value is a number, any other one a structure or text. */
static int set_there(const struct end *end, int level, int option, const void *value,
		     socklen_t len)
{
	struct option o = { .level = level, .option = option };
	struct sk *sk = end->sk;
	uint8_t octets[OPTION_MAX];
	struct request rq;
	struct reply reply;
	bool text = level == SOL_SOCKET && option == SO_BINDTODEVICE;
	int err;

	if (len > sizeof(octets))
		return EINVAL;
	memcpy(octets, value, len);
	if (len == sizeof(o.number) && !text) {
		memcpy(&o.number, octets, sizeof(o.number));
		if (level == SOL_SOCKET && option == SO_RCVBUF && !sk->shared &&
		    o.number > RCVBUF_MAX / 2)
			o.number = RCVBUF_MAX / 2;
	} else {
		o.len = len;
		memcpy(o.octets, octets, len < sizeof(o.octets) ? len : sizeof(o.octets));
	}
	request_of(&rq, sk, &o);
	if (o.len > sizeof(o.octets) || (!len && !o.len)) {	/* too long to be remembered */
		request_begin_sk(&rq, "setsockopt", 6, sk);
		mp_int(&rq.out, level);
		mp_int(&rq.out, option);
		mp_bin(&rq.out, octets, len);
	}
	err = request_ask(end->view, &rq, 0, &reply);
	if (err)
		return err;
	if (!sk_lock(end))
		return 0;
	if (o.len <= sizeof(o.octets))
		remember(sk, &o);
	if (level == IPPROTO_IPV6 && option == IPV6_V6ONLY)
		sk->v6only = o.len ? octets[0] : o.number;
	if (level == SOL_SOCKET && option == SO_RCVBUF)
		set_credit(sk, (uint32_t)o.number * 2);
	if ((level == IPPROTO_IP && option == IP_RECVERR) ||
	    (level == IPPROTO_IPV6 && option == IPV6_RECVERR) ||
	    (level == SOL_MHOST && option == MHOST_RECVERR))
		if (!o.number && !o.len) {
			sk->n_queued = 0;
			sk_settle(sk);
		}
	sk_unlock(sk);
	return 0;
}

/* UDP_SEGMENT, UDP_GRO and MHOST_POLLED, which the daemon has no part in; 1 if it is none. */
static int set_here(const struct end *end, int level, int option, const void *value,
		    socklen_t len)
{
	struct sk *sk = end->sk;
	int number;

	if (!(level == IPPROTO_UDP && (option == UDP_SEGMENT || option == UDP_GRO)) &&
	    !(level == SOL_MHOST && option == MHOST_POLLED))
		return 1;
	if (len < sizeof(number))
		return -EINVAL;
	memcpy(&number, value, sizeof(number));
	if (level == IPPROTO_UDP && option == UDP_SEGMENT && (number < 0 || number > 0xffff))
		return -EINVAL;
	if (!sk_lock(end))
		return -EAGAIN;
	if (level == SOL_MHOST)
		sk->polled = number;
	else if (option == UDP_SEGMENT)
		sk->segment = (uint16_t)number;
	else
		sk->lane.whole = number;
	if (sk->polled)
		sk_settle(sk);
	sk_unlock(sk);
	return 0;
}

int sk_setsockopt(const struct end *end, int level, int option, const void *value, socklen_t len)
{
	int done;

	if (is_own(level, option))
		return syscall(SYS_setsockopt, end->local->near, level, option, value, len) < 0 ?
		       -errno : 0;
	if ((int)len < 0)
		return -EINVAL;
	if (!value)
		return len < sizeof(int) ? -EINVAL : -EFAULT;
	done = set_here(end, level, option, value, len);
	return done <= 0 ? done : -set_there(end, level, option, value, len);
}

static int get_there(const struct end *end, int level, int option, uint8_t *octets, size_t *len)
{
	const uint8_t *at;
	struct request rq;
	struct reply reply;
	struct mp_in in;
	int32_t number;
	int err;

	request_begin_sk(&rq, "getsockopt", 5, end->sk);
	mp_int(&rq.out, level);
	mp_int(&rq.out, option);
	err = request_ask(end->view, &rq, 0, &reply);
	if (err)
		return err;
	in = reply_value(&reply);
	if (mp_is_octets(&in)) {
		at = mp_get_octets(&in, len);
		if (*len > OPTION_MAX)
			return EPROTO;
		memcpy(octets, at, *len);
	} else {
		number = (int32_t)mp_get_int(&in);
		*len = sizeof(number);
		memcpy(octets, &number, sizeof(number));
	}
	return in.bad ? EPROTO : 0;
}

int sk_getsockopt(const struct end *end, int level, int option, void *value, socklen_t *len)
{
	uint8_t octets[OPTION_MAX] = { 0 };
	struct sk *sk = end->sk;
	size_t n = sizeof(int32_t);
	int32_t number = 0;
	bool here = true;
	int err = 0;

	if (is_own(level, option))
		return syscall(SYS_getsockopt, end->local->near, level, option, value, len) < 0 ?
		       -errno : 0;
	if ((int)*len < 0)
		return -EINVAL;
	if (level == SOL_SOCKET && option == SO_ERROR)
		number = -sk_error(end);
	else if (level == SOL_SOCKET && option == SO_DOMAIN)
		number = sk->family;
	else if (level == IPPROTO_UDP && option == UDP_SEGMENT)
		number = sk->segment;
	else if (level == IPPROTO_UDP && option == UDP_GRO)
		number = sk->lane.whole;
	else if (level == SOL_MHOST && option == MHOST_POLLED)
		number = sk->polled;
	else
		here = false;
	if (here)
		memcpy(octets, &number, sizeof(number));
	else
		err = get_there(end, level, option, octets, &n);
	if (err == EOPNOTSUPP && sk->family == AF_INET6)
		err = ENOPROTOOPT;	/* as ipv6_sockglue.c of Linux */
	if (err)
		return -err;
	if (level == SOL_SOCKET && option == SO_BINDTODEVICE && n > *len)
		return -EINVAL;
	if (level == IPPROTO_IP && n == 4 && *len > 0 && *len < 4 && !octets[1] && !octets[2] &&
	    !octets[3])
		n = 1;		/* as ip_sockglue.c of Linux, where a small value fits */
	if (n > *len)
		n = *len;
	memcpy(value, octets, n);
	*len = (socklen_t)n;
	return 0;
}

/* FIONREAD: octets of the next datagram. SIOCOUTQ: those the daemon has not taken. */
int sk_ioctl(const struct end *end, unsigned long request, void *argument)
{
	struct sk *sk = end->sk;
	int number = 0;

	switch (request) {
	case FIONREAD:
		number = (int)sk_next_size(end);
		break;
	case SIOCOUTQ:
		if (sk_lock(end)) {
			number = (int)ring_used(&sk->lane.tx);
			sk_unlock(sk);
		}
		break;
	}
	memcpy(argument, &number, sizeof(number));
	return 0;
}

/* As before, in another session; a group whose interface is gone is an error of the socket. */
int sk_set_again(const struct end *end)
{
	struct sk *sk = end->sk;
	struct request rq;
	struct reply reply;
	int err = 0;

	for (uint32_t i = 0; i < sk->n_options && !err; i++) {
		request_of(&rq, sk, sk->options + i);
		err = session_ask(end->view, request_emit, &rq, now_ns() + REQUEST_NS, true, &reply);
		if (!err && reply.error)
			sk->error = reply.error;
	}
	return err;
}
