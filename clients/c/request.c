/* request.c - the messages to the daemon (request.h) */

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "request.h"

/**
 * request_begin() - [tag, seq, ...]
 * @rq:		the message; what follows is written to @rq->out
 * @tag:	what is asked
 * @fields:	in the array, with tag and seq
 */
void request_begin(struct request *rq, const char *tag, uint32_t fields)
{
	rq->out = (struct mp_out){ rq->octets, rq->octets + sizeof(rq->octets), false };
	rq->sk = NULL;
	rq->sk_at = 0;
	mp_array(&rq->out, fields);
	mp_str(&rq->out, tag, strlen(tag));
	mp_u32(&rq->out, 0);
	rq->seq_at = (size_t)(rq->out.at - rq->octets) - 4;
}

/* [tag, seq, sock, ...] */
void request_begin_sk(struct request *rq, const char *tag, uint32_t fields, const struct sk *sk)
{
	request_begin(rq, tag, fields);
	rq->sk = sk;
	mp_u32(&rq->out, 0);
	rq->sk_at = (size_t)(rq->out.at - rq->octets) - 4;
}

static void put_place(struct request *rq, const struct place *place, size_t len)
{
	mp_array(&rq->out, 5);
	mp_u32(&rq->out, place->family);
	mp_u32(&rq->out, place->port);
	mp_bin(&rq->out, place->address, len);
	mp_u32(&rq->out, place->id_no);
	mp_u32(&rq->out, place->scope_id);
}

/* An address; the daemon knows how long one of its family is. */
void request_place(struct request *rq, const struct place *place)
{
	put_place(rq, place, place->family == 27 ? 0 : ADDRESS_MAX);
}

/* The same, where an address of zeros is all of the family. */
void request_any_place(struct request *rq, const struct place *place)
{
	static const uint8_t any[ADDRESS_MAX];

	put_place(rq, place, memcmp(place->address, any, ADDRESS_MAX) ? ADDRESS_MAX : 0);
}

/* emit_fn of a struct request */
size_t request_emit(void *argument, uint32_t seq, uint8_t *out)
{
	struct request *rq = argument;
	size_t len = (size_t)(rq->out.at - rq->octets);
	uint32_t number = htonl(seq);

	memcpy(rq->octets + rq->seq_at, &number, sizeof(number));
	if (rq->sk_at) {
		if (!rq->sk->number)
			return 0;	/* a daemon was restarted, and it is not there yet */
		number = htonl(rq->sk->number);
		memcpy(rq->octets + rq->sk_at, &number, sizeof(number));
	}
	memcpy(out, rq->octets, len);
	return len;
}

/**
 * request_ask() - ask, and wait for the answer
 * @view:	the session
 * @rq:		what
 * @generation:	as of session_exchange()
 * @reply:	filled in
 *
 * Return: 0, or an errno: the daemon's too, whose text is this thread's errtext then
 */
int request_ask(struct view *view, struct request *rq, uint32_t generation, struct reply *reply)
{
	int err = rq->out.bad ? EINVAL : 0;

	set_errtext("");
	if (!err)
		err = session_exchange(view, generation, request_emit, rq, now_ns() + REQUEST_NS,
				       reply);
	if (!err && reply->error) {
		set_errtext(reply->text);
		err = reply->error;
	}
	return err;
}

struct mp_in reply_value(const struct reply *reply)
{
	return (struct mp_in){ reply->value, reply->value + reply->len, false };
}

/* Read [family, port, address, id_no, scope_id]; false if it is none. */
bool get_place(struct mp_in *in, struct place *place)
{
	uint32_t n = mp_get_array(in);
	const uint8_t *octets;
	size_t len;

	*place = (struct place){ 0 };
	if (n != 5)
		in->bad = true;
	place->family = (uint16_t)mp_get_int(in);
	place->port = (uint16_t)mp_get_int(in);
	octets = mp_get_octets(in, &len);
	if (len > ADDRESS_MAX)
		in->bad = true;
	else
		memcpy(place->address, octets, len);
	place->id_no = (uint32_t)mp_get_int(in);
	place->scope_id = (uint32_t)mp_get_int(in);
	return !in->bad;
}
