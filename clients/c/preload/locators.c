/* locators.c - names of mhostd for programs that know IPv4 and IPv6 only */

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "connection.h"
#include "fds.h"
#include "mhost.h"
#include "resolve.h"
#include "wrap.h"

#define LOCATORS_MAX	64

/* The addresses of a host that mhostd knows, as getaddrinfo() has them; 0, or EAI_*. */
int wrap_locators(const char *node, const char *service, const struct addrinfo *hints,
		  struct addrinfo **list)
{
	struct addrinfo numeric = hints ? *hints : (struct addrinfo){ 0 };
	struct addrinfo **tail = list;
	struct place places[LOCATORS_MAX];
	size_t n = LOCATORS_MAX;
	char text[INET6_ADDRSTRLEN];
	struct view *view;

	*list = NULL;
	if (session_here(&view) || host_locators(view, node, places, &n))
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
