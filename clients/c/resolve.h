/* resolve.h - where a host is (resolve.c) */
#ifndef MHOST_RESOLVE_H
#define MHOST_RESOLVE_H

#include "session.h"

struct addrinfo;

int host_locators(struct view *view, const char *node, struct place *places, size_t *n);
int host_addrinfo(const char *node, const char *service, const struct addrinfo *hints,
		  struct addrinfo **list);

#endif
