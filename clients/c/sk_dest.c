/* sk_dest.c - what a socket knows of its destinations, and of datagrams that failed (sk.h) */

#include <string.h>

#include "msgpack.h"
#include "request.h"
#include "sk.h"

static bool same(const struct place *a, const struct place *b)
{
	return !memcmp(a, b, sizeof(*a));
}

/* The few places where a destination may be remembered. */
static struct known *known_at(struct sk *sk, const struct place *place)
{
	uint64_t words[4] = { 0 }, sum = 0;

	memcpy(words, place, sizeof(*place));
	for (size_t i = 0; i < 4; i++)
		sum = (sum ^ words[i]) * 0x9e3779b97f4a7c15ull;
	return sk->known + (sum >> 32) % (KNOWN_MAX / KNOWN_WAYS) * KNOWN_WAYS;
}

static struct known *find(struct sk *sk, const struct place *place)
{
	struct known *known = known_at(sk, place);

	for (int i = 0; i < KNOWN_WAYS; i++)
		if (known[i].good && same(&known[i].place, place))
			return known + i;
	return NULL;
}

/* Whether a datagram to there was handed on before, and nothing was said against it since. */
bool sk_is_good(struct sk *sk, const struct place *place)
{
	return place->family ? find(sk, place) != NULL : sk->to_peer.good;
}

static void set_good(struct sk *sk, const struct place *place, bool good)
{
	struct known *known = place->family ? find(sk, place) : &sk->to_peer;

	if (!known && good) {	/* the one that has been there for longest goes */
		known = known_at(sk, place);
		memmove(known + 1, known, (KNOWN_WAYS - 1) * sizeof(*known));
		known->place = *place;
	}
	if (known)
		known->good = good;
}

/* The error of an earlier datagram to there, once. */
int sk_take_failed(struct sk *sk, const struct place *place)
{
	for (int i = 0; i < FAILED_MAX; i++)
		if (sk->failed[i].error && same(&sk->failed[i].place, place)) {
			int error = sk->failed[i].error;

			sk->failed[i].error = 0;
			return error;
		}
	return 0;
}

static void set_failed(struct sk *sk, const struct place *place, int error)
{
	int at = 0;

	for (int i = 0; i < FAILED_MAX; i++)
		if (!sk->failed[i].error || same(&sk->failed[i].place, place))
			at = i;
	sk->failed[at].place = *place;
	sk->failed[at].error = error;
}

void sk_answered(struct sk *sk, const struct place *place, int error, uint16_t port)
{
	if (error) {
		set_good(sk, place, false);
		return;
	}
	if (!sk->port)
		sk->port = port;
	set_good(sk, place, true);
}

/* The answer to a datagram that nobody waited for has come; false if the socket is busy. */
bool sk_answered_later(const struct end *end, const struct place *place, int error, uint16_t port)
{
	struct sk *sk = end->sk;

	if (!sk->used)
		return true;
	if (!sk_trylock(end))
		return false;
	sk_answered(sk, place, error, port);
	if (error)
		set_failed(sk, place, error);
	if (sk->unanswered)
		sk->unanswered--;
	sk_unlock(sk);
	return true;
}

static void queue_error(struct sk *sk, int error, const struct place *to, bool local,
			struct mp_in *in)
{
	struct queued *queued = sk->queue + sk->n_queued;
	const uint8_t *octets;
	size_t len;

	if (sk->n_queued == QUEUE_MAX)
		return;		/* as in Linux what comes when it is full is lost */
	*queued = (struct queued){ .to = *to, .error = error, .local = local };
	mp_get_array(in);
	queued->origin = (uint8_t)mp_get_int(in);
	queued->type = (uint8_t)mp_get_int(in);
	queued->code = (uint8_t)mp_get_int(in);
	queued->info = (uint32_t)mp_get_int(in);
	if (!mp_take_nil(in))
		get_place(in, &queued->offender);
	octets = mp_get_octets(in, &len);
	queued->len = (uint32_t)(len < QUOTED_MAX ? len : QUOTED_MAX);
	memcpy(queued->payload, octets, queued->len);
	if (!in->bad)
		sk->n_queued++;
}

/*
 * SockError: a datagram failed after it was sent; @in is behind the socket's number. False if
 * the socket is busy.
 */
bool sk_failed(const struct end *end, struct mp_in *in)
{
	static const struct place peer;
	struct sk *sk = end->sk;
	int error = (int)mp_get_int(in);
	bool local, fatal, queued;
	struct place place;

	mp_skip(in);		/* the text */
	get_place(in, &place);
	local = mp_get_bool(in);
	fatal = mp_get_bool(in);
	queued = !mp_take_nil(in);
	if (in->bad)
		return true;
	if (!sk_trylock(end))
		return false;
	sk->seen++;
	if (queued) {
		set_good(sk, &peer, false);
		queue_error(sk, error, &place, local, in);
		if (!local)
			sk->error = error;
	} else if (sk->connected && !(local && sk_is_good(sk, &place))) {
		set_good(sk, &peer, false);
		if (fatal)
			sk->error = error;
	} else if (local) {
		set_failed(sk, &place, error);
	}
	set_good(sk, &place, false);
	if (end->local->shm)
		sk_settle(sk);
	sk_unlock(sk);
	return true;
}
