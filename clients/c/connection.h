/* connection.h - reaching the daemon, again when need be (session.h) */
#ifndef MHOST_CONNECTION_H
#define MHOST_CONNECTION_H

#include "session.h"

int session_here(struct view **view);
int connection_begin(struct view *view);
bool connection_get(struct view *view);
int connection_hand_over(struct view *view, uint32_t number, int memfd, int far);
void view_unused(struct view *view);
void views_forked(void);
int view_map(struct view *view, int memfd);
void shared_mutex(pthread_mutex_t *lock);

void keeper_start(void);
void keeper_poke(void);
void keeper_forked(void);

#endif
