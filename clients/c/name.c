/* name.c - hosts and long addresses by a number, and addresses as programs have them
 *
 * The daemon's handle of a host is good in one session. A program may keep what it was given
 * for as long as it likes, so its numbers (smh_id_no) are ours: of a struct name, from 1.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "name.h"
#include "request.h"
#include "session.h"

#define SIN6_LEN_RFC2133	24	/* Linux include/linux/ipv6.h */

static const uint8_t any[ADDRESS_MAX];
static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };	/* RFC 4291, 2.5.5.2 */

/* --- names */

static uint32_t number_of(const struct session *s, const struct name *name)
{
	return s->tag << NAME_BITS | ((uint32_t)(name - s->names) + 1);
}

/*
 * What a number stands for: of this session, or of another one that this process has, as a
 * child has its parent's. NULL if it is of none.
 */
static struct name *numbered(struct session *s, uint32_t id_no)
{
	uint32_t at = id_no & NAMES_MAX, tag = id_no >> NAME_BITS;

	for (struct view *view = views; s->tag != tag && view < views + VIEWS_MAX; view++)
		if (view->s && view->s->tag == tag)
			s = view->s;
	return s->tag == tag && at && at <= s->names_end ? s->names + at - 1 : NULL;
}

/* With the lock: one to fill in; hosts are kept, addresses make room in turn. */
static struct name *room(struct session *s)
{
	static uint32_t hand;

	if (s->names_end < NAMES_MAX)
		return s->names + s->names_end++;
	for (uint32_t i = 0; i < NAMES_MAX; i++) {
		struct name *name = s->names + hand++ % NAMES_MAX;

		if (name->place.family != AF_MHOST)
			return name;
	}
	return NULL;
}

static struct name *by_text(struct session *s, const char *text)
{
	struct name *name = s->names, *end = s->names + s->names_end;

	while (name < end && !(name->place.family == AF_MHOST && !strcmp(name->text, text)))
		name++;
	if (name < end)
		return name;
	name = room(s);
	if (name) {
		*name = (struct name){ .place.family = AF_MHOST };
		snprintf(name->text, sizeof(name->text), "%s", text);
	}
	return name;
}

/* Ask what the daemon calls a host now; with or without the lock, as @hold says. */
static int look_up(struct view *view, const char *text, struct place *place,
		   uint32_t *generation, bool hold)
{
	struct session *s = view->s;
	struct request rq;
	struct reply reply;
	struct mp_in in;
	int err;

	for (;;) {
		*generation = s->generation;
		request_begin(&rq, "lookup", 3);
		mp_str(&rq.out, text, strlen(text));
		if (hold)
			err = session_ask(view, request_emit, &rq, now_ns() + REQUEST_NS, true,
					  &reply);
		else
			err = request_ask(view, &rq, *generation, &reply);
		if (err != ESTALE || hold)
			break;
	}
	if (!err && hold)
		err = reply.error;
	in = reply_value(&reply);
	if (!err && !get_place(&in, place))
		err = EPROTO;
	return err;
}

/**
 * name_of_text() - the number of a host
 * @view:	the session
 * @text:	its name
 * @id_no:	set
 *
 * Return: 0, or an errno: EINVAL if it is no host name
 */
int name_of_text(struct view *view, const char *text, uint32_t *id_no)
{
	struct place place;
	uint32_t generation;
	struct name *name;
	int err;

	if (strlen(text) > HOST_NAME_MAX_)
		return EINVAL;
	err = look_up(view, text, &place, &generation, false);
	if (err)
		return err;
	session_lock(view);
	name = by_text(view->s, text);
	if (name) {
		name->place.id_no = place.id_no;
		name->generation = generation;
		*id_no = number_of(view->s, name);
	}
	session_unlock(view);
	return name ? 0 : ENOBUFS;
}

/* The number of an address that no struct sockaddr_mhost holds; 0 if there is no room. */
uint32_t name_of_place(struct view *view, const struct place *place)
{
	struct session *s = view->s;
	struct place bare = *place;
	struct name *name;
	uint32_t id_no;

	bare.port = 0;
	bare.id_no = 0;
	session_lock(view);
	for (name = s->names; name < s->names + s->names_end; name++)
		if (!memcmp(&name->place, &bare, sizeof(bare)))
			break;
	if (name == s->names + s->names_end)
		name = room(s);
	if (name)
		*name = (struct name){ .place = bare };
	id_no = name ? number_of(s, name) : 0;
	session_unlock(view);
	return id_no;
}

/* Named: what a host is called, before its handle is met for the first time. */
void name_learn(struct session *s, struct mp_in *in)
{
	char text[HOST_NAME_MAX_ + 1];
	struct place place;
	const uint8_t *octets;
	struct name *name;
	size_t len;

	if (!get_place(in, &place) || place.family != AF_MHOST)
		return;
	octets = mp_get_octets(in, &len);
	if (in->bad || len >= sizeof(text))
		return;
	memcpy(text, octets, len);
	text[len] = 0;
	name = by_text(s, text);
	if (name) {
		name->place.id_no = place.id_no;
		name->generation = s->generation;
	}
}

/**
 * name_place() - where a number leads now
 * @view:	the session
 * @id_no:	of a struct name
 * @port:	host order
 * @place:	filled in
 * @generation:	in which its handle is good; 0 is any
 * @hold:	the lock of the session is held
 *
 * Return: 0, or an errno: EHOSTUNREACH if there is no such number
 */
int name_place(struct view *view, uint32_t id_no, uint16_t port, struct place *place,
	       uint32_t *generation, bool hold)
{
	struct session *s = view->s;
	struct name *found, name = { 0 };
	bool foreign;
	int err = 0;

	if (!hold)
		session_lock(view);
	found = numbered(s, id_no);
	if (found)
		name = *found;
	foreign = id_no >> NAME_BITS != s->tag;
	*generation = s->generation;
	if (!hold)
		session_unlock(view);
	if (!name.place.family)
		return EHOSTUNREACH;
	*place = name.place;
	if (place->family != AF_MHOST) {
		*generation = 0;
	} else if (foreign || name.generation != *generation) {
		err = look_up(view, name.text, place, generation, hold);
		if (!err && !foreign) {
			if (!hold)
				session_lock(view);
			found->place.id_no = place->id_no;
			found->generation = *generation;
			if (!hold)
				session_unlock(view);
		}
	}
	place->port = port;
	return err;
}

static uint32_t by_handle(struct view *view, uint32_t handle, uint32_t *generation)
{
	struct session *s = view->s;
	uint32_t found = 0;

	session_lock(view);
	*generation = s->generation;
	for (struct name *name = s->names; name < s->names + s->names_end && !found; name++)
		if (name->place.family == AF_MHOST && name->place.id_no == handle &&
		    name->generation == *generation)
			found = number_of(s, name);
	session_unlock(view);
	return found;
}

/* The number of the host that a datagram is from; 0 if the daemon does not say. */
uint32_t name_of_source(const struct end *end, uint32_t handle)
{
	struct view *view = end->view;
	struct sk *sk = end->sk;
	char text[HOST_NAME_MAX_ + 1];
	uint32_t generation, found;
	const uint8_t *octets;
	struct request rq;
	struct reply reply;
	struct mp_in in;
	size_t len;

	if (sk->from.handle == handle && sk->from.generation == view->s->generation)
		return sk->from.name;
	found = by_handle(view, handle, &generation);
	if (!found) {
		session_drain(view);	/* its name may be on the way */
		found = by_handle(view, handle, &generation);
	}
	if (!found) {
		struct place place = { .family = AF_MHOST, .id_no = handle };

		request_begin(&rq, "spell", 3);
		request_place(&rq, &place);
		if (request_ask(view, &rq, generation, &reply))
			return 0;
		in = reply_value(&reply);
		octets = mp_get_octets(&in, &len);
		if (in.bad || !len || len >= sizeof(text))
			return 0;
		memcpy(text, octets, len);
		text[len] = 0;
		if (name_of_text(view, text, &found))
			return 0;
	}
	sk->from.handle = handle;
	sk->from.generation = generation;
	sk->from.name = found;
	return found;
}

/* What a number stands for, in text; 0, or EHOSTUNREACH. */
int name_text(struct view *view, uint32_t id_no, char *text, size_t len)
{
	struct name *found, name = { 0 };

	session_lock(view);
	found = numbered(view->s, id_no);
	if (found)
		name = *found;
	session_unlock(view);
	if (name.place.family == AF_MHOST)
		return snprintf(text, len, "%s", name.text) < (int)len ? 0 : ENAMETOOLONG;
	if (name.place.family == AF_INET6)
		return inet_ntop(AF_INET6, name.place.address, text, (socklen_t)len) ? 0 : errno;
	return EHOSTUNREACH;
}

/* --- addresses */

static int of_in(const struct sockaddr *address, socklen_t len, struct place *place)
{
	struct sockaddr_in in;

	if (len < sizeof(in))
		return EINVAL;
	memcpy(&in, address, sizeof(in));
	*place = (struct place){ .family = AF_INET, .port = ntohs(in.sin_port) };
	memcpy(place->address, &in.sin_addr, 4);
	return 0;
}

static int of_in6(const struct sockaddr *address, socklen_t len, bool v6only,
		  struct place *place)
{
	struct sockaddr_in6 in6 = { 0 };

	if (len < SIN6_LEN_RFC2133)
		return EINVAL;
	memcpy(&in6, address, len < sizeof(in6) ? len : sizeof(in6));
	*place = (struct place){ .family = AF_INET6, .port = ntohs(in6.sin6_port) };
	memcpy(place->address, &in6.sin6_addr, ADDRESS_MAX);
	if (!memcmp(place->address, mapped, sizeof(mapped))) {
		if (v6only)
			return ENETUNREACH;
		place->family = AF_INET;
		memmove(place->address, place->address + 12, 4);
		memset(place->address + 4, 0, ADDRESS_MAX - 4);
	} else {
		place->scope_id = in6.sin6_scope_id;
	}
	return 0;
}

/**
 * place_of() - read what a program gives as an address
 * @end:	the socket
 * @address:	struct sockaddr_in, _in6 or _mhost, as its family has it
 * @len:	octets
 * @place:	filled in; id_no is a struct name's
 *
 * Return: 0, or an errno as the kernel's: EINVAL (too short or too long), EAFNOSUPPORT
 */
int place_of(const struct end *end, const struct sockaddr *address, socklen_t len,
	     struct place *place)
{
	struct sockaddr_mhost mhost;
	uint16_t family, own = end->sk->family;

	if (len < sizeof(family) || len > sizeof(struct sockaddr_storage))
		return EINVAL;
	if (!address)
		return EFAULT;
	memcpy(&family, address, sizeof(family));
	if (own == AF_INET && len < sizeof(struct sockaddr_in))
		return EINVAL;
	if (own == AF_INET6 && family == AF_INET6 && len < SIN6_LEN_RFC2133)
		return EINVAL;
	if (family == AF_INET && (own != AF_INET6 || !end->sk->v6only))
		return of_in(address, len, place);
	if (family == AF_INET && own == AF_INET6)
		return ENETUNREACH;
	if (family == AF_INET6 && own != AF_INET)
		return of_in6(address, len, own == AF_INET6 && end->sk->v6only, place);
	if (own != AF_MHOST || family == AF_UNSPEC)
		return EAFNOSUPPORT;
	if (len < sizeof(mhost))
		return EINVAL;
	memcpy(&mhost, address, sizeof(mhost));
	*place = (struct place){ .family = family, .port = ntohs(mhost.smh_port) };
	if (family == AF_MHOST)
		place->id_no = mhost.smh_id_no;
	else
		memcpy(place->address, mhost.smh_opaque, sizeof(mhost.smh_opaque));
	return 0;
}

/* As a datagram has it now; @generation and @hold as of name_place(). */
int place_now(const struct end *end, const struct place *asked, struct place *place,
	      uint32_t *generation, bool hold)
{
	if (asked->family == AF_MHOST && asked->id_no)
		return name_place(end->view, asked->id_no, asked->port, place, generation, hold);
	*place = *asked;
	*generation = 0;
	return 0;
}

static socklen_t put_in6(const struct place *place, struct sockaddr_in6 *in6)
{
	*in6 = (struct sockaddr_in6){ .sin6_family = AF_INET6, .sin6_port = htons(place->port) };
	if (place->family == AF_INET) {
		memcpy(&in6->sin6_addr, mapped, sizeof(mapped));
		memcpy(in6->sin6_addr.s6_addr + 12, place->address, 4);
	} else if (place->family == AF_INET6) {
		memcpy(&in6->sin6_addr, place->address, ADDRESS_MAX);
		in6->sin6_scope_id = place->scope_id;
	}
	return sizeof(*in6);
}

static socklen_t put_in(const struct place *place, struct sockaddr_in *in)
{
	*in = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(place->port) };
	if (place->family == AF_INET)
		memcpy(&in->sin_addr, place->address, 4);
	return sizeof(*in);
}

/* A host by its number, what fits by its octets, and what does not by a number again. */
static socklen_t put_mhost(const struct end *end, const struct place *place, socklen_t room_,
			   struct sockaddr_storage *to)
{
	struct sockaddr_mhost *mhost = (struct sockaddr_mhost *)(void *)to;
	uint32_t host = 0;

	if (place->family != AF_MHOST && place->id_no)
		host = name_of_source(end, place->id_no);
	if (!host && place->family == AF_INET)
		return put_in(place, (struct sockaddr_in *)(void *)to);
	if (!host && place->family == AF_INET6 && room_ >= sizeof(struct sockaddr_in6))
		return put_in6(place, (struct sockaddr_in6 *)(void *)to);
	*mhost = (struct sockaddr_mhost){ .smh_family = AF_MHOST, .smh_port = htons(place->port) };
	if (host) {
		mhost->smh_id_no = host;
	} else if (place->family == AF_MHOST) {
		mhost->smh_id_no = place->id_no;
	} else if (place->family != AF_INET6 && !memcmp(place->address + 8, any, 8)) {
		mhost->smh_family = place->family;
		memcpy(mhost->smh_opaque, place->address, sizeof(mhost->smh_opaque));
	} else {
		mhost->smh_id_no = name_of_place(end->view, place);
	}
	return sizeof(*mhost);
}

/**
 * place_put() - write an address as the program expects it
 * @end:	the socket
 * @place:	as the daemon has it (of family AF_MHOST, id_no is a struct name's)
 * @address:	cut to @len octets
 * @len:	set to what it has
 */
void place_put(const struct end *end, const struct place *place, void *address, socklen_t *len)
{
	struct sockaddr_storage to = { 0 };
	socklen_t n;

	if (end->sk->family == AF_INET)
		n = put_in(place, (struct sockaddr_in *)(void *)&to);
	else if (end->sk->family == AF_INET6)
		n = put_in6(place, (struct sockaddr_in6 *)(void *)&to);
	else
		n = put_mhost(end, place, *len, &to);
	memcpy(address, &to, n < *len ? n : *len);
	*len = n;
}
