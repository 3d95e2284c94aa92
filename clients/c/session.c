/* session.c - asking the daemon, and who waits for which answer (session.h) */

#include <linux/futex.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "connection.h"
#include "name.h"
#include "raw.h"
#include "request.h"
#include "session.h"
#include "sk.h"

#define NAP_NS		1000000ull	/* while something is about to be put right */
#define LOOK_NS		100000000ull	/* how often a waiter looks whether others are alive */
#define CATCH_UP_NS	500000000ull	/* how long an error may take that was told */

/* Of a slot; above these bits a number that changes when its waiter is to look again. */
enum { FREE, WAITING, NOBODY_WAITS, FILLED, LOST, STATES = 7, NUDGE = 8 };

static _Thread_local char errtext[TEXT_MAX];

const char *mhost_errtext(void)
{
	return errtext;
}

void set_errtext(const char *text)
{
	snprintf(errtext, sizeof(errtext), "%s", text);
}

uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

static void futex_wait(_Atomic uint32_t *word, uint32_t value, uint64_t ns)
{
	struct timespec t = { (time_t)(ns / 1000000000), (long)(ns % 1000000000) };

	syscall(SYS_futex, word, FUTEX_WAIT, value, &t, NULL, 0);
}

static void futex_wake(_Atomic uint32_t *word)
{
	syscall(SYS_futex, word, FUTEX_WAKE, INT32_MAX, NULL, NULL, 0);
}

/* How long to wait now: until the deadline (0 is never), and no longer than @most. */
static uint64_t left_ns(uint64_t deadline, uint64_t most)
{
	uint64_t now = now_ns();

	if (!deadline)
		return most;
	if (now >= deadline)
		return 0;
	return deadline - now < most ? deadline - now : most;
}

static _Thread_local sigset_t signals;	/* as they were before session_lock() */

void session_lock(struct view *view)
{
	struct session *s = view->s;
	sigset_t old;

	raw_block(&old);
	signals = old;
	if (pthread_mutex_lock(&s->lock) == EOWNERDEAD) {
		pthread_mutex_consistent(&s->lock);
		if (s->midway)		/* what it had taken of a message is lost */
			session_lose(view);
	}
}

void session_unlock(struct view *view)
{
	sigset_t old = signals;

	pthread_mutex_unlock(&view->s->lock);
	raw_unblock(&old);
}

/*
 * With the lock: whether somebody else waits on the connection, and is still there. It is this
 * thread if we are in a signal handler; then what it interrupted does not go on before us.
 */
static bool has_reader(const struct session *s)
{
	return s->reader && s->reader != (int32_t)syscall(SYS_gettid) &&
	       !(syscall(SYS_tgkill, s->reader_pid, s->reader, 0) && errno == ESRCH);
}

static void set_state(struct slot *slot, uint32_t state)
{
	atomic_store(&slot->state, (slot->state & ~(uint32_t)STATES) + NUDGE + state);
}

/* The same, of one that somebody waits for. */
static void tell(struct slot *slot, uint32_t state)
{
	set_state(slot, state);
	futex_wake(&slot->state);
}

static uint32_t state_of(const struct slot *slot)
{
	return atomic_load(&slot->state) & STATES;
}

/* With the lock: the connection is of no use; who waits asks again. */
void session_lose(struct view *view)
{
	struct session *s = view->s;

	if (atomic_exchange(&s->up, 0))
		keeper_poke();
	if (view->conn >= 0 && view->generation == s->generation)
		shutdown(view->conn, SHUT_RDWR);	/* for other processes' keepers */
	zmtp_begin(&s->in);
	s->n_later = 0;
	s->midway = false;
	s->reader = 0;
	for (struct slot *slot = s->slots; slot < s->slots + SLOTS_MAX; slot++)
		if (state_of(slot) == WAITING)
			tell(slot, LOST);
		else if (state_of(slot) == NOBODY_WAITS)
			set_state(slot, FREE);
}

/* There is a session again. */
void session_wake(struct view *view)
{
	futex_wake(&view->s->up);
}

/* --- what comes */

static struct sk *sk_numbered(struct session *s, uint32_t number)
{
	for (struct sk *sk = s->sks; sk < s->sks + s->sks_end; sk++)
		if (sk->used && sk->number == number && sk->generation == s->generation)
			return sk;
	return NULL;
}

static void on_data(struct view *view, const uint8_t *message, size_t len)
{
	uint32_t number, index;
	struct sk *sk;

	if (len < DATA_HLEN)
		return;
	memcpy(&number, message + 4, sizeof(number));
	sk = sk_numbered(view->s, number);
	index = sk ? (uint32_t)(sk - view->s->sks) : 0;
	/* Without the socket's lock: who has the session's is the one that puts. */
	if (sk && view->local[index].shm) {
		struct app_lane lane = { .shm = view->local[index].shm,
					 .far = view->local[index].far };

		app_lane_fill(&lane, message + DATA_HLEN, len - DATA_HLEN);
	}
}

/* False if it is for a socket that is busy. */
static bool on_reply(struct view *view, struct mp_in *in)
{
	struct session *s = view->s;
	uint32_t seq = (uint32_t)mp_get_int(in);
	struct slot *slot = s->slots;
	const uint8_t *text;
	size_t len;

	while (slot < s->slots + SLOTS_MAX &&
	       !(slot->seq == seq && (state_of(slot) == WAITING || state_of(slot) == NOBODY_WAITS)))
		slot++;
	if (slot == s->slots + SLOTS_MAX)
		return true;		/* nobody waits for it any more */
	slot->error = (int32_t)mp_get_int(in);
	text = mp_get_octets(in, &len);
	snprintf(slot->text, sizeof(slot->text), "%.*s", (int)len, (const char *)text);
	slot->len = (uint32_t)(in->end - in->at);
	if (in->bad || slot->len > sizeof(slot->value)) {
		slot->error = EMSGSIZE;
		slot->len = 0;
	}
	memcpy(slot->value, in->at, slot->len);
	if (state_of(slot) == WAITING) {
		tell(slot, FILLED);
	} else {
		struct mp_in value = { slot->value, slot->value + slot->len, false };
		uint32_t index = slot->sk;
		struct end end = { view, s->sks + index, view->local + index, index };

		if (!sk_answered_later(&end, &slot->place, slot->error,
				       (uint16_t)mp_get_int(&value)))
			return false;
		set_state(slot, FREE);
	}
	return true;
}

/* False if it is for a socket that is busy. */
static bool on_message(struct view *view, const uint8_t *message, size_t len)
{
	struct mp_in in = { message, message + len, false };
	const uint8_t *tag;
	size_t n;

	if (len && message[0] == DATA_MAGIC) {
		on_data(view, message, len);
		return true;
	}
	if (mp_get_array(&in) < 2)
		return true;
	tag = mp_get_octets(&in, &n);
	if (n == 5 && !memcmp(tag, "reply", n)) {
		return on_reply(view, &in);
	} else if (n == 10 && !memcmp(tag, "sock_error", n)) {
		struct sk *sk = sk_numbered(view->s, (uint32_t)mp_get_int(&in));
		uint32_t index = sk ? (uint32_t)(sk - view->s->sks) : 0;
		struct end end = { view, sk, view->local + index, index };

		return !sk || sk_failed(&end, &in);
	} else if (n == 5 && !memcmp(tag, "named", n)) {
		name_learn(view->s, &in);
	} else if (n == 5 && !memcmp(tag, "reset", n) && view->s->up) {
		session_lose(view);
	}
	return true;
}

/* Keep a message until its socket is not busy; of an error what it quotes may be cut. */
static void keep(struct session *s, const uint8_t *message, size_t len)
{
	struct later *later = s->later + s->n_later;

	if (s->n_later == LATER_MAX)
		return;		/* an error is given up then, as in a full queue */
	later->len = (uint32_t)(len < LATER_OCTETS ? len : LATER_OCTETS);
	memcpy(later->octets, message, later->len);
	s->n_later++;
}

/* Those that were kept, in their order; a socket that is busy still keeps its own. */
static void take_kept(struct view *view)
{
	struct session *s = view->s;
	uint32_t n = s->n_later;

	s->n_later = 0;
	for (uint32_t i = 0; i < n; i++) {
		struct later each = s->later[i];

		if (!on_message(view, each.octets, each.len))
			keep(s, each.octets, each.len);
	}
}

/* With the lock: take what has come; the connection may turn out to be gone. */
void session_take(struct view *view)
{
	struct session *s = view->s;
	uint32_t generation = s->generation;
	const uint8_t *message;
	enum zmtp_says says;

	if (s->n_later)
		take_kept(view);
	while (view->conn >= 0 && view->generation == generation && s->generation == generation) {
		size_t room, len;
		uint8_t *at = zmtp_room(&s->in, &room);
		ssize_t got;

		s->midway = true;
		got = raw_recv(view->conn, at, room, MSG_DONTWAIT);
		s->midway = got > 0;
		if (got < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (got <= 0) {
			session_lose(view);
			return;
		}
		zmtp_got(&s->in, (size_t)got);
		while ((says = zmtp_message(&s->in, &message, &len)) == ZMTP_MESSAGE) {
			if (!on_message(view, message, len))
				keep(s, message, len);
			if (s->in.phase == 0)
				return;		/* it was lost meanwhile */
		}
		s->midway = false;
		if (says == ZMTP_BROKEN) {
			session_lose(view);
			return;
		}
	}
}

void session_drain(struct view *view)
{
	session_lock(view);
	if (view->s->up && connection_get(view))
		session_take(view);
	session_unlock(view);
}

/* Wait for the errors of a socket that the daemon has told in its memory. */
void session_catch_up(const struct end *end)
{
	uint64_t deadline = now_ns() + CATCH_UP_NS;
	struct view *view = end->view;
	struct sk *sk = end->sk;

	for (;;) {
		struct pollfd conn = { .events = POLLIN };
		uint64_t left;

		session_drain(view);
		if (!sk_lock(end))
			return;
		left = left_ns(deadline, NAP_NS);
		if (!left)
			sk->seen = app_lane_errors(&sk->lane);	/* lost, as that daemon is */
		if (sk->seen == app_lane_errors(&sk->lane)) {
			sk_unlock(sk);
			return;
		}
		sk_unlock(sk);
		conn.fd = view->conn;
		raw_poll_ms(&conn, 1, 1);
	}
}

/* --- asking */

/*
 * Wait until there is a session, and return 0 with its lock; or ESTALE if it is another one
 * than @generation (0 is any), ETIMEDOUT without the lock.
 */
static int lock_up(struct view *view, uint32_t generation, uint64_t deadline)
{
	struct session *s = view->s;

	for (;;) {
		uint64_t left;

		session_lock(view);
		if (s->up && !connection_get(view))
			session_lose(view);
		if (s->up) {
			if (!generation || generation == s->generation)
				return 0;
			session_unlock(view);
			return ESTALE;
		}
		session_unlock(view);
		keeper_poke();
		left = left_ns(deadline, LOOK_NS);
		if (!left)
			return ETIMEDOUT;
		futex_wait(&s->up, 0, left);
	}
}

/* With the lock: write what emit() makes, as a message; 0, EAGAIN or ECONNRESET. */
static int send_message(struct view *view, emit_fn *emit, void *argument, uint32_t seq)
{
	struct session *s = view->s;
	uint8_t *body = s->out + ZMTP_FRAME_HLEN, head[ZMTP_FRAME_HLEN], *at;
	size_t len = emit(argument, seq, body), n;

	if (!len)
		return EAGAIN;
	n = zmtp_frame(head, len);
	at = body - n;
	memcpy(at, head, n);
	len += n;
	s->midway = true;
	while (len) {
		struct pollfd conn = { view->conn, POLLOUT, 0 };
		ssize_t sent = raw_send(view->conn, at, len, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (sent > 0) {
			at += sent;
			len -= (size_t)sent;
		} else if (sent < 0 && errno == EAGAIN) {
			if (!raw_poll_ms(&conn, 1, (int)(REQUEST_NS / 1000000)))
				return ECONNRESET;	/* it does not even read */
		} else if (sent == 0 || errno != EINTR) {
			return ECONNRESET;
		}
	}
	s->midway = false;
	return 0;
}

static struct slot *slot_take(struct session *s)
{
	for (struct slot *slot = s->slots; slot < s->slots + SLOTS_MAX; slot++)
		if (state_of(slot) == FREE) {
			if (!++s->seq)
				s->seq = 1;
			slot->seq = s->seq;
			return slot;
		}
	return NULL;
}

/* With the lock, which is let go meanwhile unless @hold: wait for an answer. */
static void await(struct view *view, struct slot *slot, uint64_t deadline, bool hold)
{
	struct session *s = view->s;
	bool read = false;

	while (state_of(slot) == WAITING) {
		/* Over ZeroMQ the keeper reads as well, and may take what we poll for. */
		uint64_t left = left_ns(deadline, s->unshared ? NAP_NS : LOOK_NS);
		uint32_t state = slot->state;

		if (!left)
			break;
		if (!hold && has_reader(s)) {
			session_unlock(view);
			futex_wait(&slot->state, state, left);
			session_lock(view);
			continue;
		}
		struct pollfd conn = { view->conn, POLLIN, 0 };

		if (!hold) {
			s->reader = (int32_t)syscall(SYS_gettid);
			s->reader_pid = getpid();
			session_unlock(view);
		}
		raw_poll_ms(&conn, 1, (int)((left + 999999) / 1000000));
		if (!hold) {
			session_lock(view);
			s->reader = 0;
		}
		read = true;
		session_take(view);
	}
	for (struct slot *each = s->slots; read && each < s->slots + SLOTS_MAX; each++)
		if (each != slot && state_of(each) == WAITING) {
			tell(each, WAITING);	/* somebody else reads now */
			break;
		}
}

/**
 * session_ask() - with the lock: send a message, and wait for its answer
 * @hold:	keep the lock meanwhile: the session is being begun
 *
 * Return: 0; EAGAIN if it cannot be sent now; ECONNRESET; ESTALE; ETIMEDOUT
 */
int session_ask(struct view *view, emit_fn *emit, void *argument, uint64_t deadline,
		bool hold, struct reply *reply)
{
	struct slot *slot = slot_take(view->s);
	int err;

	if (!slot)
		return EAGAIN;
	err = send_message(view, emit, argument, slot->seq);
	if (err)
		return err;
	set_state(slot, WAITING);
	await(view, slot, deadline, hold);
	err = state_of(slot) == FILLED ? 0 : state_of(slot) == LOST ? ESTALE : ETIMEDOUT;
	if (!err) {
		reply->error = slot->error;
		memcpy(reply->text, slot->text, sizeof(reply->text));
		reply->len = slot->len;
		memcpy(reply->value, slot->value, slot->len);
	}
	set_state(slot, FREE);
	return err;
}

/**
 * session_exchange() - ask the daemon, and again after a restart
 * @view:	the session
 * @generation:	of the session that the message is good in; 0 is any
 * @emit:	writes the message
 * @argument:	of @emit
 * @deadline:	of now_ns(), 0 for ever
 * @reply:	filled in
 *
 * Return: 0; ESTALE if the session is another one by now; ETIMEDOUT
 */
int session_exchange(struct view *view, uint32_t generation, emit_fn *emit, void *argument,
		     uint64_t deadline, struct reply *reply)
{
	for (;;) {
		int err = lock_up(view, generation, deadline);

		if (err)
			return err;
		err = session_ask(view, emit, argument, deadline, false, reply);
		if (err == ECONNRESET)
			session_lose(view);
		session_unlock(view);
		if (!err || err == ETIMEDOUT)
			return err;
		if (err == ESTALE && generation)
			return err;
		if (err == EAGAIN) {	/* its socket is not there yet, or nobody answers */
			if (deadline && now_ns() >= deadline)
				return ETIMEDOUT;
			struct timespec nap = { 0, NAP_NS };

			nanosleep(&nap, NULL);
		}
	}
}

/**
 * session_post() - tell the daemon something, and do not wait
 * @view:	the session
 * @generation:	of the session that the message is good in; 0 is any
 * @emit:	writes the message
 * @argument:	of @emit
 * @end:	whose datagram it is, NULL if no answer comes
 * @place:	where that goes
 *
 * Return: 0; ESTALE; EAGAIN if it cannot be now
 */
int session_post(struct view *view, uint32_t generation, emit_fn *emit, void *argument,
		 const struct end *end, const struct place *place)
{
	struct slot *slot = NULL;
	int err = lock_up(view, generation, now_ns() + 1);

	if (err)
		return err == ETIMEDOUT ? EAGAIN : err;
	if (end)
		slot = slot_take(view->s);
	if (end && !slot) {
		session_take(view);	/* answers may have come */
		slot = slot_take(view->s);
	}
	err = end && !slot ? EAGAIN : send_message(view, emit, argument, slot ? slot->seq : 0);
	if (!err && slot) {
		slot->sk = end->index;
		slot->place = *place;
		set_state(slot, NOBODY_WAITS);
	}
	if (err == ECONNRESET)
		session_lose(view);
	session_unlock(view);
	return err == ECONNRESET ? EAGAIN : err;
}
