/* resolve.h - where a host is (resolve.c) */
#ifndef MHOST_RESOLVE_H
#define MHOST_RESOLVE_H

#include "session.h"

int host_locators(struct view *view, const char *node, struct place *places, size_t *n);

#endif
