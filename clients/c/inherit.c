/* inherit.c - sockets that go with exec() (fds.h)
 *
 * A program that is started with a descriptor of a socket finds in MHOST_INHERIT what else it
 * needs: the memory of the session, its box, and for each socket the memory and the other
 * end of the pair; their descriptors stay open over this exec() alone.
 *
 *	MHOST_INHERIT=session,box,box[;fd,index,memfd,far]...[ session,...]...
 *
 * Another program may have left it, or a descriptor be another one by now: inodes are
 * compared before anything is believed.
 */

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "connection.h"
#include "fds.h"
#include "raw.h"
#include "sk.h"

#define VARIABLE	"MHOST_INHERIT="

extern char **environ;

/* What fds_lend() gives: the new environment, and what it has opened to exec(). */
struct loan {
	size_t n;
	int *fds;
	char *text;
	char *environment[];
};

static bool is_near(int fd, const struct sk *sk)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISSOCK(st.st_mode) && st.st_ino == sk->inode;
}

/*
 * Whether a descriptor is a socket's and goes on. Between vfork() and exec() a program may
 * have copied it without our knowing (fds_borrowed()), or closed it.
 */
static bool goes_on(int fd, struct end *end)
{
	int flags = raw_fcntl(fd, F_GETFD, 0);

	if (flags < 0 || flags & FD_CLOEXEC)
		return false;
	if (fd_is_ours(fd) && end_get(fd, end)) {
		if (is_near(fd, end->sk))
			return true;
		end_put(end);
	}
	for (int other = 0; fds_borrowed() && other < fds_end; other++)
		if (fd_is_ours(other) && end_get(other, end)) {
			if (is_near(fd, end->sk))
				return true;
			end_put(end);
		}
	return false;
}

/* Let a descriptor go on, and remember it. */
static void lend(struct loan *loan, int fd)
{
	if (fd >= 0 && !raw_fcntl(fd, F_SETFD, 0))
		loan->fds[loan->n++] = fd;
}

struct going {
	int fd;
	struct end end;
};

/* The sockets of one session, as text; what they need goes on. */
static void lend_view(struct loan *loan, struct view *view, const struct going *going, size_t n,
		      FILE *text)
{
	bool first = true;

	for (size_t i = 0; i < n; i++) {
		const struct end *end = &going[i].end;

		if (end->view != view)
			continue;
		if (first) {
			fprintf(text, " %d,%d,%d", view->memfd, view->box[0], view->box[1]);
			lend(loan, view->memfd);
			lend(loan, view->box[0]);
			lend(loan, view->box[1]);
		}
		first = false;
		sk_watch(end);
		fprintf(text, ";%d,%u,%d,%d", going[i].fd, end->index, end->local->memfd,
			end->local->far);
		lend(loan, end->local->memfd);
		lend(loan, end->local->far);
	}
}

static void put_all(struct going *going, size_t n)
{
	while (n)
		end_put(&going[--n].end);
	free(going);
}

/**
 * fds_lend() - before exec(): let go on what the sockets need that go on
 * @environment: of the new program
 *
 * Return: its environment now, for fds_take_back() if exec() fails or has made a copy;
 * @environment itself if no socket goes on
 */
char **fds_lend(char *const *environment)
{
	size_t n = 0, count = 0, len, at = 0;
	struct loan *loan;
	struct going *going = NULL;
	FILE *text;

	for (int fd = 0; fd < fds_end; fd++) {
		struct end end;

		if ((!fd_is_ours(fd) && !fds_borrowed()) || !goes_on(fd, &end))
			continue;
		if (!(n % 64)) {
			struct going *more = realloc(going, (n + 64) * sizeof(*going));

			if (!more) {
				end_put(&end);
				break;
			}
			going = more;
		}
		going[n++] = (struct going){ fd, end };
	}
	if (!n)
		return (char **)(uintptr_t)environment;
	while (environment && environment[count])
		count++;
	loan = calloc(1, sizeof(*loan) + (count + 2) * sizeof(char *));
	if (!loan || !(loan->fds = calloc(3 * VIEWS_MAX + 2 * n, sizeof(int))) ||
	    !(text = open_memstream(&loan->text, &len))) {
		put_all(going, n);
		if (loan)
			free(loan->fds);
		free(loan);
		return (char **)(uintptr_t)environment;
	}
	fprintf(text, VARIABLE);
	for (struct view *view = views; view < views + VIEWS_MAX; view++)
		if (view->used)
			lend_view(loan, view, going, n, text);
	fclose(text);
	put_all(going, n);
	for (size_t i = 0; i < count; i++)
		if (strncmp(environment[i], VARIABLE, strlen(VARIABLE)))
			loan->environment[at++] = environment[i];
	loan->environment[at] = loan->text;
	return loan->environment;
}

/* After it has failed, or the new program has been started: all is as before. */
void fds_take_back(char **lent)
{
	struct loan *loan = (struct loan *)(void *)((char *)lent -
						    offsetof(struct loan, environment));

	for (size_t i = 0; i < loan->n; i++)
		raw_fcntl(loan->fds[i], F_SETFD, FD_CLOEXEC);
	free(loan->text);
	free(loan->fds);
	free(loan);
}

/* --- in the new program */

static struct view *take_view(int memfd, const int box[2])
{
	struct stat st;
	struct view *view = views;

	while (view < views + VIEWS_MAX && view->used)
		view++;
	if (view == views + VIEWS_MAX || fstat(memfd, &st) ||
	    st.st_size != sizeof(struct session) || view_map(view, memfd))
		return NULL;
	if (view->s->magic != sizeof(struct session)) {
		munmap(view->s, sizeof(struct session));
		return NULL;
	}
	view->memfd = fd_keep(memfd);
	view->box[0] = fd_keep(box[0]);
	view->box[1] = fd_keep(box[1]);
	return view;
}

static void take_sk(struct view *view, int fd, uint32_t index, int memfd, int far)
{
	struct end end = { view, view->s->sks + index, view->local + index, index };
	struct stat near, memory;
	void *shm;

	if (index >= view->s->sks_end || fd < 0 || fstat(fd, &near) || fstat(memfd, &memory) ||
	    near.st_ino != end.sk->inode || memory.st_size != LANE_OCTETS)
		return;
	if (!end.local->shm) {
		shm = mmap(NULL, LANE_OCTETS, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
		if (shm == MAP_FAILED)
			return;
		end.local->memfd = fd_keep(memfd);
		end.local->far = fd_keep(far);
		end.local->shm = shm;
	}
	fd_add(fd, &end);
}

/* Take what an exec() has left us; before anything else of this library. */
void fds_inherit(void)
{
	const char *at = getenv("MHOST_INHERIT");
	int memfd, box[2], fd, far, n;
	struct view *view;
	uint32_t index;
	bool any = false;

	if (!at)
		return;
	fds_begin();
	while (sscanf(at, " %d,%d,%d%n", &memfd, &box[0], &box[1], &n) == 3) {
		at += n;
		view = take_view(memfd, box);
		while (sscanf(at, ";%d,%u,%d,%d%n", &fd, &index, &memfd, &far, &n) == 4) {
			at += n;
			if (view)
				take_sk(view, fd, index, memfd, far);
		}
		if (view)
			any = view->used = true;
	}
	unsetenv("MHOST_INHERIT");
	if (any)
		keeper_start();
}
