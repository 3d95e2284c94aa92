/* resolve.c - getaddrinfo(3) and getnameinfo(3) with the hosts that mhostd knows
 *
 * What is given is what glibc's own freeaddrinfo() takes: an entry and its address are one
 * block, the canonical name is another.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"
#include "mhost.h"
#include "name.h"
#include "request.h"
#include "resolve.h"

#define LOCATORS_MAX	64

/* One more entry behind @tail; 0, or EAI_MEMORY. */
static int add(struct addrinfo ***tail, int family, const void *address, socklen_t len)
{
	struct addrinfo *entry = calloc(1, sizeof(*entry) + sizeof(struct sockaddr_storage));

	if (!entry)
		return EAI_MEMORY;
	entry->ai_family = family;
	entry->ai_socktype = SOCK_DGRAM;
	entry->ai_protocol = IPPROTO_UDP;
	entry->ai_addrlen = len;
	entry->ai_addr = (struct sockaddr *)(void *)(entry + 1);
	memcpy(entry->ai_addr, address, len);
	**tail = entry;
	*tail = &entry->ai_next;
	return 0;
}

static int add_place(struct addrinfo ***tail, struct view *view, const struct place *place)
{
	struct sk sk_any = { .family = AF_MHOST };
	struct end end = { .view = view, .sk = &sk_any };
	struct sockaddr_storage to;
	socklen_t len = sizeof(to);

	place_put(&end, place, &to, &len);
	return add(tail, to.ss_family, &to, len);
}

static int port_of(const char *service, int flags, uint16_t *port)
{
	char *end;
	long number = service ? strtol(service, &end, 10) : 0;
	struct servent found, *servent = NULL;
	char octets[1024];

	*port = 0;
	if (!service || !*service)
		return 0;
	if (!*end) {
		*port = (uint16_t)number;
		return number < 0 || number > 0xffff ? EAI_SERVICE : 0;
	}
	if (flags & AI_NUMERICSERV)
		return EAI_NONAME;
	if (getservbyname_r(service, "udp", &found, octets, sizeof(octets), &servent) || !servent)
		return EAI_SERVICE;
	*port = ntohs((uint16_t)servent->s_port);
	return 0;
}

static int eai_of(int err)
{
	switch (err) {
	case 0:
		return 0;
	case EINVAL:
	case EHOSTUNREACH:
		return EAI_NONAME;
	case EAFNOSUPPORT:
		return EAI_FAMILY;
	case ETIMEDOUT:
		return EAI_AGAIN;
	}
	errno = err;
	return EAI_SYSTEM;
}

/* `proto:address` of a plug-in: what the daemon reads. */
static int plug_in(struct view *view, const char *node, struct place *place)
{
	struct request rq;
	struct reply reply;
	struct mp_in in;
	int err;

	request_begin(&rq, "lookup", 3);
	mp_str(&rq.out, node, strlen(node));
	err = request_ask(view, &rq, 0, &reply);
	in = reply_value(&reply);
	return err || get_place(&in, place) ? err : EPROTO;
}

/**
 * host_locators() - where a host is, as the daemon knows it
 * @view:	the session
 * @node:	its name
 * @places:	filled in, in the order of use
 * @n:		room for so many; set to how many there are
 *
 * Return: 0, or an errno
 */
int host_locators(struct view *view, const char *node, struct place *places, size_t *n)
{
	struct request rq;
	struct reply reply;
	struct mp_in in;
	size_t found;
	int err;

	if (strlen(node) > HOST_NAME_MAX_)
		return EINVAL;
	request_begin(&rq, "resolve", 3);
	mp_str(&rq.out, node, strlen(node));
	err = request_ask(view, &rq, 0, &reply);
	if (err)
		return err;
	in = reply_value(&reply);
	found = mp_get_array(&in);
	if (found < *n)
		*n = found;
	for (size_t i = 0; i < *n; i++)
		if (!get_place(&in, places + i))
			return EPROTO;
	return 0;
}

static int host(struct addrinfo ***tail, struct view *view, const char *node, int family,
		uint16_t port)
{
	struct sockaddr_mhost mhost = { .smh_family = AF_MHOST, .smh_port = htons(port) };
	struct place places[LOCATORS_MAX];
	size_t n = LOCATORS_MAX;
	int err = host_locators(view, node, places, &n);

	if (!err && !n)
		err = EHOSTUNREACH;
	if (!err && (family == AF_UNSPEC || family == AF_MHOST)) {
		err = name_of_text(view, node, &mhost.smh_id_no);
		if (!err)
			err = add(tail, AF_MHOST, &mhost, sizeof(mhost)) ? ENOMEM : 0;
	}
	for (size_t i = 0; i < n && !err; i++) {
		places[i].port = port;
		if (family == AF_UNSPEC || family == places[i].family)
			err = add_place(tail, view, places + i) ? ENOMEM : 0;
	}
	return eai_of(err);
}

/**
 * host_addrinfo() - the addresses of a host that mhostd knows, as getaddrinfo(3) has them
 * @node:	its name
 * @service:	as of getaddrinfo(3)
 * @hints:	the same; AF_INET, AF_INET6 or AF_UNSPEC for both
 * @list:	set
 *
 * Return: 0, or EAI_NONAME
 */
int host_addrinfo(const char *node, const char *service, const struct addrinfo *hints,
		  struct addrinfo **list)
{
	struct addrinfo numeric = hints ? *hints : (struct addrinfo){ 0 };
	struct addrinfo **tail = list;
	struct place places[LOCATORS_MAX];
	size_t n = LOCATORS_MAX;
	char text[INET6_ADDRSTRLEN];
	struct view *view;

	*list = NULL;
	if (!node || numeric.ai_flags & AI_NUMERICHOST || strchr(node, ':') ||
	    session_here(&view) || host_locators(view, node, places, &n))
		return EAI_NONAME;
	numeric.ai_flags |= AI_NUMERICHOST;
	numeric.ai_flags &= ~AI_CANONNAME;
	for (size_t i = 0; i < n; i++) {
		int family = places[i].family;

		if ((family != AF_INET && family != AF_INET6) ||
		    (numeric.ai_family && numeric.ai_family != family) ||
		    !inet_ntop(family, places[i].address, text, sizeof(text)) ||
		    getaddrinfo(text, service, &numeric, tail))
			continue;
		while (*tail)
			tail = &(*tail)->ai_next;
	}
	if (*list && hints && hints->ai_flags & AI_CANONNAME)
		(*list)->ai_canonname = strdup(node);
	return *list ? 0 : EAI_NONAME;
}

/* What AF_MHOST sockets take: the host itself, then where it is; or a plug-in's address. */
static int mhost_addrinfo(const char *node, const char *service, const struct addrinfo *hints,
			  struct addrinfo **list)
{
	int family = hints ? hints->ai_family : AF_UNSPEC, flags = hints ? hints->ai_flags : 0;
	struct addrinfo *found = NULL, **tail = &found;
	struct place place = { .family = AF_MHOST };
	struct view *view;
	uint16_t port;
	int err = port_of(service, flags, &port);

	if (err)
		return err;
	err = session_here(&view);
	if (err) {
		errno = err;
		return EAI_SYSTEM;
	}
	if (!node || !*node || !strcmp(node, "*")) {
		place.port = port;
		err = add_place(&tail, view, &place);
	} else if (strchr(node, ':')) {
		err = eai_of(plug_in(view, node, &place));
		place.port = port;
		if (!err)
			err = add_place(&tail, view, &place);
	} else {
		err = host(&tail, view, node, family, port);
	}
	if (!err && !found)
		err = EAI_NONAME;
	if (!err && flags & AI_CANONNAME && node)
		found->ai_canonname = strdup(node);
	if (err)
		freeaddrinfo(found);
	else
		*list = found;
	return err;
}

/* Whether only the C library, and addresses of IPv4 and IPv6, are asked for. */
static bool is_plain(const char *node, const struct addrinfo *hints)
{
	if (!hints)
		return false;
	if (hints->ai_family != AF_UNSPEC && hints->ai_family != AF_MHOST)
		return true;
	return hints->ai_family == AF_UNSPEC &&
	       ((hints->ai_socktype && hints->ai_socktype != SOCK_DGRAM) ||
		(hints->ai_protocol && hints->ai_protocol != IPPROTO_UDP) ||
		(!node && hints->ai_flags & AI_PASSIVE));
}

/**
 * mhost_getaddrinfo() - getaddrinfo(3), of hosts and of what AF_MHOST sockets take
 * @node:	a host name, an IPv4 or IPv6 literal, `proto:address`; NULL or "*" is everywhere
 * @service:	a number, or a name of /etc/services
 * @hints:	ai_family: AF_MHOST for the host itself, AF_UNSPEC for that and then its
 *		locators; with another family, or for streams, it is getaddrinfo(3), which
 *		learns the hosts of mhostd
 * @list:	set; freeaddrinfo(3) frees it
 *
 * Return: 0, or EAI_* as of getaddrinfo(3)
 */
int mhost_getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
		      struct addrinfo **list)
{
	struct addrinfo numeric = { .ai_socktype = SOCK_DGRAM };
	int err;

	if (is_plain(node, hints)) {
		err = getaddrinfo(node, service, hints, list);
		return err && !host_addrinfo(node, service, hints, list) ? 0 : err;
	}
	if (hints && ((hints->ai_socktype && hints->ai_socktype != SOCK_DGRAM) ||
		      (hints->ai_protocol && hints->ai_protocol != IPPROTO_UDP)))
		return EAI_SOCKTYPE;
	if (node && *node && strcmp(node, "*")) {
		numeric.ai_flags = (hints ? hints->ai_flags : 0) | AI_NUMERICHOST;
		err = getaddrinfo(node, service, &numeric, list);
		if (err != EAI_NONAME || (hints && hints->ai_flags & AI_NUMERICHOST))
			return err;
	}
	return mhost_addrinfo(node, service, hints, list);
}

void mhost_freeaddrinfo(struct addrinfo *list)
{
	freeaddrinfo(list);
}

/* A plug-in's address, as the daemon spells it. */
static int spell(struct view *view, const struct place *place, char *text, size_t len)
{
	struct request rq;
	struct reply reply;
	const uint8_t *at;
	struct mp_in in;
	size_t n;
	int err;

	request_begin(&rq, "spell", 3);
	request_place(&rq, place);
	err = request_ask(view, &rq, 0, &reply);
	if (err)
		return err;
	in = reply_value(&reply);
	at = mp_get_octets(&in, &n);
	return snprintf(text, len, "%.*s", (int)n, (const char *)at) < (int)len ? 0 : ENAMETOOLONG;
}

/**
 * mhost_getnameinfo() - getnameinfo(3), of every address that these sockets take
 *
 * A known host is written as its name, whatever @flags; an address of a plug-in as
 * mhost_getaddrinfo() reads it.
 */
int mhost_getnameinfo(const struct sockaddr *address, socklen_t len, char *host_,
		      socklen_t host_len, char *service, socklen_t service_len, int flags)
{
	struct sockaddr_mhost mhost;
	struct view *view;
	int err = 0;

	if (len < sizeof(mhost) || address->sa_family == AF_INET || address->sa_family == AF_INET6)
		return getnameinfo(address, len, host_, host_len, service, service_len, flags);
	memcpy(&mhost, address, sizeof(mhost));
	if (service && snprintf(service, service_len, "%u", ntohs(mhost.smh_port)) >=
			       (int)service_len)
		return EAI_OVERFLOW;
	if (!host_ || !host_len)
		return 0;
	err = session_here(&view);
	if (!err && mhost.smh_family == AF_MHOST && !mhost.smh_id_no) {
		err = snprintf(host_, host_len, "*") < (int)host_len ? 0 : ENAMETOOLONG;
	} else if (!err && mhost.smh_family == AF_MHOST) {
		err = name_text(view, mhost.smh_id_no, host_, host_len);
	} else if (!err) {
		struct place place = { .family = mhost.smh_family };

		memcpy(place.address, mhost.smh_opaque, sizeof(mhost.smh_opaque));
		err = spell(view, &place, host_, host_len);
	}
	return err == ENAMETOOLONG ? EAI_OVERFLOW : eai_of(err);
}
