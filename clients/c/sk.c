/* sk.c - opening, naming and closing a socket, and making it anew (sk.h) */

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "connection.h"
#include "fds.h"
#include "mhost.h"
#include "name.h"
#include "raw.h"
#include "request.h"
#include "sk.h"

#define CLOSE_NS	1000000000ull	/* how long close() waits for the daemon */
#define BIND_NS		1000000000ull	/* how long another session may keep our port */
#define RCVBUF_DEFAULT	212992		/* octets, the daemon's */
#define CREDIT_SHARE	4		/* credit goes back a quarter of the buffer at a time */

bool sk_polled_default = true;

static _Thread_local int held;	/* locks of sockets, by a call and by handlers within it */

static struct sk *locked(const struct end *end, int err)
{
	struct sk *sk = end->sk;

	if (err == EOWNERDEAD)
		pthread_mutex_consistent(&sk->lock);
	else if (err)
		return NULL;
	held++;
	if (end->local->shm && sk->lane.shm != end->local->shm)
		app_lane_at(&sk->lane, end->local->shm);
	sk->lane.near = end->local->near;
	sk->lane.far = end->local->far;
	return sk;
}

/* Take the lock of a socket, if nobody has it. */
struct sk *sk_trylock(const struct end *end)
{
	return locked(end, pthread_mutex_trylock(&end->sk->lock));
}

/*
 * Take the lock of a socket whose memory this process has. NULL if this thread has one
 * already, and it cannot be had at once: a signal handler has come in between.
 */
struct sk *sk_lock(const struct end *end)
{
	if (__builtin_expect(held, 0))
		return sk_trylock(end);
	return locked(end, pthread_mutex_lock(&end->sk->lock));
}

void sk_unlock(struct sk *sk)
{
	held--;
	pthread_mutex_unlock(&sk->lock);
}

/*
 * With the lock: have what comes next make the descriptor readable; whether something has
 * come. The octet of an error that was told in between is not to be lost.
 */
bool sk_arm(struct sk *sk)
{
	bool come = app_lane_arm(&sk->lane);

	if (sk->seen == app_lane_errors(&sk->lane))
		return come;
	app_lane_raise(&sk->lane);
	return true;
}

/* With the lock: have the descriptor say what there is. */
void sk_settle(struct sk *sk)
{
	if (sk->error || sk->n_queued || sk->shut_rd)
		app_lane_raise(&sk->lane);
	else if (sk->polled)
		sk_arm(sk);
}

/* Somebody may look from now on whether the descriptor is readable. */
void sk_watch(const struct end *end)
{
	if (end->sk->polled || !sk_lock(end))
		return;
	end->sk->polled = true;
	sk_settle(end->sk);
	sk_unlock(end->sk);
}

/* Whether its session is there. */
bool sk_up(const struct end *end)
{
	struct session *s = end->view->s;

	return s->up && end->sk->generation == s->generation;
}

/* O_NONBLOCK is the descriptor's own, which dup() and fork() share as they should. */
bool sk_nonblocking(const struct end *end, int flags)
{
	if (flags & MSG_DONTWAIT)
		return true;
	flags = raw_fcntl(end->local->near, F_GETFL, 0);
	return flags >= 0 && flags & O_NONBLOCK;
}

/* SO_ERROR, which is gone then; 0 or a negative errno. */
int sk_error(const struct end *end)
{
	struct sk *sk = end->sk;
	int error;

	if (sk->seen != sk_errors(end))
		session_catch_up(end);
	if (!sk_lock(end))
		return -EAGAIN;
	error = sk->error;
	sk->error = 0;
	if (error)
		sk_settle(sk);
	sk_unlock(sk);
	return -error;
}

/* --- opening and closing */

static void ask_for_socket(struct request *rq)
{
	request_begin(rq, "socket", 5);
	mp_u32(&rq->out, AF_MHOST);
	mp_u32(&rq->out, SOCK_DGRAM);
	mp_u32(&rq->out, 0);
}

/* With the lock of the session: the daemon has the socket under this number. */
static void opened(const struct end *end, uint32_t number)
{
	struct session *s = end->view->s;
	struct sk *sk = end->sk;
	bool shared = !connection_hand_over(end->view, number, end->local->memfd, end->local->far);

	if (sk->generation && !sk->shared)
		s->unshared--;
	if (!shared && !s->unshared++)
		keeper_poke();	/* it reads from now on */
	sk->shared = shared;
	sk->credit = shared ? 0 : RCVBUF_DEFAULT / CREDIT_SHARE;
	sk->number = number;
	sk->generation = s->generation;
}

static uint32_t take_sk(struct session *s)
{
	for (uint32_t i = 0; i < SOCKS_MAX; i++)
		if (!s->sks[i].used) {
			memset(s->sks + i, 0, sizeof(s->sks[i]));
			shared_mutex(&s->sks[i].lock);
			s->sks[i].used = 1;
			if (i >= s->sks_end)
				s->sks_end = i + 1;
			return i;
		}
	return SOCKS_MAX;
}

/* The memory and the pair of sockets, in a place of the session; 0 or an errno. */
static int make(struct view *view, struct end *end)
{
	struct local *local;
	struct stat st;
	int memfd, near, far;

	while (app_lane_make(&memfd, &near, &far))
		if (errno != EMFILE || !fds_raise_limit())
			return errno;	/* two of three are not the program's */
	session_lock(view);
	end->view = view;
	end->index = take_sk(view->s);
	session_unlock(view);
	if (end->index == SOCKS_MAX) {
		raw_close(memfd);
		raw_close(near);
		raw_close(far);
		set_errtext("socket: this process has as many as there may be; close some");
		return EMFILE;
	}
	end->sk = view->s->sks + end->index;
	end->local = local = view->local + end->index;
	local->far = fd_keep(far);
	local->memfd = fd_keep(memfd);
	local->near = near;
	local->users = 1;
	if (app_lane_open(&end->sk->lane, local->memfd, near, local->far)) {
		int err = errno;

		raw_close(near);
		end_put(end);
		return err;
	}
	local->shm = end->sk->lane.shm;
	if (!fstat(near, &st))
		end->sk->inode = st.st_ino;
	return 0;
}

/**
 * sk_open() - socket(2)
 * @view:	session of this process
 * @family:	AF_MHOST, AF_INET or AF_INET6
 * @flags:	SOCK_NONBLOCK, SOCK_CLOEXEC
 *
 * Return: the descriptor, or a negative errno
 */
int sk_open(struct view *view, int family, int flags)
{
	struct session *s = view->s;
	struct request rq;
	struct reply reply;
	struct end end;
	int err = make(view, &end), near;

	if (err)
		return -err;
	near = end.local->near;
	end.sk->family = (uint16_t)family;
	end.sk->polled = sk_polled_default;
	for (;;) {
		uint32_t generation = s->generation;
		struct mp_in in;

		ask_for_socket(&rq);
		err = request_ask(view, &rq, generation, &reply);
		if (err == ESTALE)
			continue;
		if (err)
			break;
		in = reply_value(&reply);
		session_lock(view);
		if (generation == s->generation)
			opened(&end, (uint32_t)mp_get_int(&in));
		session_unlock(view);
		if (end.sk->generation)
			break;
	}
	if (err) {
		raw_close(near);
		end_put(&end);
		return -err;
	}
	if (!(flags & SOCK_CLOEXEC))
		raw_fcntl(near, F_SETFD, 0);
	if (flags & SOCK_NONBLOCK)
		raw_fcntl(near, F_SETFL, O_RDWR | O_NONBLOCK);
	fd_add(near, &end);
	end_put(&end);
	return near;
}

/* No descriptor of it is left in this process: if none is anywhere, its port is free now. */
void sk_close(const struct end *end)
{
	struct pollfd far = { end->local->far, 0, 0 };
	struct request rq;
	struct reply reply;

	raw_poll_ms(&far, 1, 0);
	if (!(far.revents & POLLHUP) || !sk_up(end))
		return;
	request_begin_sk(&rq, "close", 3, end->sk);
	session_exchange(end->view, end->sk->generation, request_emit, &rq, now_ns() + CLOSE_NS,
			 &reply);
}

/* Give back what this process has of it; the last of all frees its place in the session. */
void sk_free(const struct end *end)
{
	struct local *local = end->local;
	struct pollfd far = { -1, 0, 0 };
	void *shm = __atomic_exchange_n(&local->shm, NULL, __ATOMIC_ACQ_REL);

	/* Two that find nobody else there may come at once. */
	far.fd = __atomic_exchange_n(&local->far, -1, __ATOMIC_ACQ_REL);
	if (far.fd <= 0)
		return;
	raw_poll_ms(&far, 1, 0);
	if (shm)
		munmap(shm, LANE_OCTETS);
	fd_drop(far.fd);
	fd_drop(__atomic_exchange_n(&local->memfd, -1, __ATOMIC_ACQ_REL));
	if (far.revents & POLLHUP) {
		session_lock(end->view);
		if (end->sk->generation && !end->sk->shared)
			end->view->s->unshared--;
		end->sk->used = 0;
		session_unlock(end->view);
	}
	if (!end->view->mine)
		view_unused(end->view);
}

/* --- names */

static void set_port(struct sk *sk, const struct reply *reply)
{
	struct mp_in in = reply_value(reply);
	int64_t port = mp_get_int(&in);

	if (!in.bad && port)
		sk->port = (uint16_t)port;
}

/* Where bind() to an address of zeros is, as the family of the socket has it. */
static void widen(const struct sk *sk, struct place *place)
{
	static const uint8_t any[ADDRESS_MAX];

	if (sk->family == AF_INET6 && place->family == AF_INET6 &&
	    !memcmp(place->address, any, ADDRESS_MAX))
		*place = (struct place){ .family = AF_MHOST, .port = place->port };
}

/* bind and connect: ask with the address as it is now; @asked of family 0 is nil. */
static int name(const struct end *end, const char *call, const struct place *asked,
		struct reply *reply, bool hold)
{
	uint32_t generation = 0;
	struct request rq;
	struct place place;
	int err;

	for (;;) {
		err = place_now(end, asked, &place, &generation, hold);
		if (err)
			return err;
		request_begin_sk(&rq, call, 4, end->sk);
		if (!asked->family)
			mp_nil(&rq.out);
		else if (!strcmp(call, "bind"))
			request_any_place(&rq, &place);
		else
			request_place(&rq, &place);
		if (hold) {
			err = session_ask(end->view, request_emit, &rq, now_ns() + REQUEST_NS,
					  true, reply);
			return err ? err : reply->error;
		}
		err = request_ask(end->view, &rq, generation, reply);
		if (err != ESTALE)
			return err;
	}
}

int sk_bind(const struct end *end, const struct sockaddr *address, socklen_t len)
{
	struct sk *sk = end->sk;
	struct reply reply;
	struct place place;
	int err = place_of(end, address, len, &place);

	if (err == EAFNOSUPPORT && sk->family == AF_INET && address->sa_family == AF_UNSPEC) {
		struct sockaddr_in in;

		memcpy(&in, address, sizeof(in));
		in.sin_family = AF_INET;
		if (in.sin_addr.s_addr)
			return -EAFNOSUPPORT;
		err = place_of(end, (struct sockaddr *)&in, sizeof(in), &place);
	}
	if (err)
		return -err;
	widen(sk, &place);
	err = name(end, "bind", &place, &reply, false);
	if (err)
		return -err;
	if (!sk_lock(end))
		return -EAGAIN;
	sk->bound = true;
	sk->bound_at = place;
	set_port(sk, &reply);
	sk_unlock(sk);
	return 0;
}

/* An AF_INET socket that is not bound hears from IPv4 only, whoever binds it. */
int sk_bind_first(const struct end *end)
{
	static const struct sockaddr_in any = { .sin_family = AF_INET };
	int err;

	if (end->sk->family != AF_INET || end->sk->port)
		return 0;
	err = sk_bind(end, (const struct sockaddr *)&any, sizeof(any));
	return err == -EINVAL ? 0 : err;	/* another thread has */
}

static void forget_good(struct sk *sk)
{
	memset(sk->known, 0, sizeof(sk->known));
	sk->to_peer.good = false;
}

int sk_connect(const struct end *end, const struct sockaddr *address, socklen_t len)
{
	struct sk *sk = end->sk;
	struct place place = { 0 };
	struct reply reply;
	int err = 0;

	if (len < sizeof(address->sa_family) || len > sizeof(struct sockaddr_storage))
		return -EINVAL;
	if (!address)
		return -EFAULT;
	if (address->sa_family != AF_UNSPEC) {
		err = -place_of(end, address, len, &place);
		if (!err)
			err = sk_bind_first(end);
	}
	if (!err)
		err = -name(end, "connect", &place, &reply, false);
	if (err)
		return err;
	if (!sk_lock(end))
		return -EAGAIN;
	sk->connected = place.family != 0;
	sk->peer = place;
	sk->to_peer = (struct known){ .place = place };
	set_port(sk, &reply);
	sk_unlock(sk);
	return 0;
}

/* The struct name of a handle that the daemon gives; of any other address as it is. */
static void by_name(const struct end *end, struct place *place)
{
	if (place->family == AF_MHOST && place->id_no)
		place->id_no = name_of_source(end, place->id_no);
}

int sk_getname(const struct end *end, bool peer, void *address, socklen_t *len)
{
	struct request rq;
	struct reply reply;
	struct place place;
	struct mp_in in;
	int err;

	if (*len > INT32_MAX)
		return -EINVAL;
	request_begin_sk(&rq, "getname", 5, end->sk);
	mp_bool(&rq.out, peer);
	mp_bool(&rq.out, end->sk->family != AF_MHOST);	/* what it would send from */
	err = request_ask(end->view, &rq, 0, &reply);
	if (err)
		return -err;
	in = reply_value(&reply);
	if (!get_place(&in, &place))
		return -EPROTO;
	by_name(end, &place);
	place_put(end, &place, address, len);
	return 0;
}

int sk_shutdown(const struct end *end, int how)
{
	struct sk *sk = end->sk;
	struct request rq;
	struct reply reply;

	if (how < SHUT_RD || how > SHUT_RDWR)
		return -EINVAL;
	if (!sk_lock(end))
		return -EAGAIN;
	sk->shut_rd |= how != SHUT_WR;
	sk->shut_wr |= how != SHUT_RD;
	sk_settle(sk);
	sk_unlock(sk);
	request_begin_sk(&rq, "shutdown", 4, sk);
	mp_u32(&rq.out, (uint32_t)how);
	return -request_ask(end->view, &rq, 0, &reply);
}

/* --- another session */

/* The port may be that of our last session for as long as the daemon has not seen it end. */
static int bind_again(const struct end *end, const struct place *at)
{
	uint64_t deadline = now_ns() + BIND_NS;
	struct reply reply;
	int err;

	for (;;) {
		err = name(end, "bind", at, &reply, true);
		if (err != EADDRINUSE || now_ns() >= deadline)
			return err;
		raw_poll_ms(NULL, 0, 5);
	}
}

/**
 * sk_restore() - with the lock of the session: create, set, bind and connect again
 *
 * Return: 0, or an errno if the session has ended again; what the daemon refuses is an
 * error of the socket
 */
int sk_restore(const struct end *end)
{
	struct sk *sk = end->sk;
	struct place at = { 0 };
	struct request rq;
	struct reply reply;
	struct mp_in in;
	int err;

	if (!sk_trylock(end))
		return EAGAIN;		/* soon again */
	forget_good(sk);
	memset(sk->failed, 0, sizeof(sk->failed));
	sk->unanswered = 0;
	app_lane_again(&sk->lane);
	sk->seen = app_lane_errors(&sk->lane);
	sk_settle(sk);
	sk_unlock(sk);
	ask_for_socket(&rq);
	err = session_ask(end->view, request_emit, &rq, now_ns() + REQUEST_NS, true, &reply);
	if (err || reply.error)
		return err ? err : reply.error;
	in = reply_value(&reply);
	opened(end, (uint32_t)mp_get_int(&in));
	err = sk_set_again(end);
	if (!err && sk->port) {
		if (sk->bound)
			at = sk->bound_at;
		else
			at.family = AF_MHOST;
		at.port = sk->port;
		err = bind_again(end, &at);
	}
	if (!err && sk->connected)
		err = name(end, "connect", &sk->peer, &reply, true);
	if (err == ECONNRESET || err == ETIMEDOUT || err == ESTALE)
		return err;
	if (err && sk_trylock(end)) {
		sk->error = err;
		sk_settle(sk);
		sk_unlock(sk);
	}
	return 0;
}
