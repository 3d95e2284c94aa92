/* name.h - hosts and long addresses by a number, and addresses as programs have them */
#ifndef MHOST_NAME_H
#define MHOST_NAME_H

#include <sys/socket.h>

#include "mhost.h"
#include "session.h"

int name_of_text(struct view *view, const char *text, uint32_t *id_no);
uint32_t name_of_place(struct view *view, const struct place *place);
int name_place(struct view *view, uint32_t id_no, uint16_t port, struct place *place,
	       uint32_t *generation, bool hold);
uint32_t name_of_source(const struct end *end, uint32_t handle);
void name_learn(struct session *s, struct mp_in *in);
int name_text(struct view *view, uint32_t id_no, char *text, size_t len);

int place_of(const struct end *end, const struct sockaddr *address, socklen_t len,
	     struct place *place);
int place_now(const struct end *end, const struct place *asked, struct place *place,
	      uint32_t *generation, bool hold);
void place_put(const struct end *end, const struct place *place, void *address,
	       socklen_t *len);

#endif
