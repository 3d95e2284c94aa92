/* fds.h - which descriptors of this process are ours, and how they live and end
 *
 * As in Linux a socket lives as long as any copy of its descriptor: dup(), fork() and exec()
 * make copies, and the daemon sees when the last one is gone (docs/ipc.md, section 7).
 *
 * Descriptors that a program does not know of are kept from FDS_KEPT_MIN on, so that the
 * program's own have the numbers that they would have without us.
 */
#ifndef MHOST_FDS_H
#define MHOST_FDS_H

#include <stdbool.h>

#include "session.h"

#define FDS_MAX		(1u << 20)	/* descriptors above are never ours */
#define FDS_KEPT_MIN	1024
#define FD_KEPT		0xffffffffu	/* in fd_table: the program does not know of it */

/* By descriptor: 0, FD_KEPT, or a view and a socket of it. */
extern _Atomic uint32_t fd_table[FDS_MAX];
extern _Atomic int fds_end;	/* from here on it has none; 0 where there never was one */

/* Whether a descriptor is a socket's: all that other descriptors cost. */
static inline bool fd_is_ours(int fd)
{
	uint32_t entry = (uint32_t)fd < FDS_MAX ?
		atomic_load_explicit(&fd_table[fd], memory_order_relaxed) : 0;

	return __builtin_expect(entry != 0, 0) && entry != FD_KEPT;
}

static inline bool fd_is_kept(int fd)
{
	return (uint32_t)fd < FDS_MAX &&
	       atomic_load_explicit(&fd_table[fd], memory_order_relaxed) == FD_KEPT;
}

void fds_begin(void);
bool fds_raise_limit(void);
bool fds_borrowed(void);

bool end_get(int fd, struct end *end);
void end_put(const struct end *end);

int fd_keep(int fd);
void fd_drop(int fd);
void fd_add(int fd, const struct end *end);
int fd_close(int fd);
int fd_dup(int fd, int result);
int fd_dup2(int fd, int other, int flags);

/* exec() (inherit.c) */
char **fds_lend(char *const *environment);
void fds_take_back(char **lent);
void fds_inherit(void);

#endif
