/* connection.c - reaching the daemon, again when need be (connection.h) */

#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include "connection.h"
#include "fds.h"
#include "raw.h"
#include "request.h"
#include "session.h"
#include "sk.h"

#define HELLO_NS	3000000000ull
#define PROGRAM_MAX	64	/* characters that Hello may have */

/* --- the connection */

static int connect_to(const char *path, int type)
{
	static const struct timeval patience = { 1, 0 };
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	size_t len = strlen(path);
	int fd;

	if (len >= sizeof(to.sun_path)) {
		errno = EINVAL;
		return -1;
	}
	memcpy(to.sun_path, path, len);
	if (path[0] == '@')	/* an abstract one */
		to.sun_path[0] = 0;
	else
		len++;
	fd = fd_keep(socket(AF_UNIX, type | SOCK_CLOEXEC, 0));
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	len += offsetof(struct sockaddr_un, sun_path);
	if (connect(fd, (struct sockaddr *)&to, (socklen_t)len)) {
		int err = errno;

		fd_drop(fd);
		errno = err;
		return -1;
	}
	return fd;
}

static void drop(int *fd)
{
	if (*fd >= 0)
		fd_drop(*fd);
	*fd = -1;
}

/* Keep copies of both connections where other processes of the session find them. */
static void put_in_box(const struct view *view)
{
	union {
		char octets[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec one = { (void *)(uintptr_t)&view->generation, sizeof(view->generation) };
	struct msghdr message = {
		.msg_iov = &one, .msg_iovlen = 1,
		.msg_control = control.octets, .msg_controllen = sizeof(control.octets),
	};
	int fds[2] = { view->conn, view->link >= 0 ? view->link : view->conn };
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
	char old[8];

	while (raw_recv(view->box[0], old, sizeof(old), MSG_DONTWAIT) > 0)
		;
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(cmsg), fds, sizeof(fds));
	syscall(SYS_sendmsg, view->box[1], &message, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/**
 * connection_get() - with the lock: have the connection of the session as it is now
 *
 * Return: false if there is none to be had
 */
bool connection_get(struct view *view)
{
	union {
		char octets[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	uint32_t generation = 0;
	struct iovec one = { &generation, sizeof(generation) };
	struct msghdr message = {
		.msg_iov = &one, .msg_iovlen = 1,
		.msg_control = control.octets, .msg_controllen = sizeof(control.octets),
	};
	struct cmsghdr *cmsg;
	int fds[2];

	if (view->generation == view->s->generation)
		return view->conn >= 0;
	/* To look at a message with descriptors makes copies of them, and leaves it there. */
	if (syscall(SYS_recvmsg, view->box[0], &message,
		    MSG_PEEK | MSG_DONTWAIT | MSG_CMSG_CLOEXEC) <= 0)
		return false;
	cmsg = CMSG_FIRSTHDR(&message);
	if (!cmsg || cmsg->cmsg_type != SCM_RIGHTS || cmsg->cmsg_len != CMSG_LEN(sizeof(fds)))
		return false;
	memcpy(fds, CMSG_DATA(cmsg), sizeof(fds));
	drop(&view->conn);
	drop(&view->link);
	view->conn = fd_keep(fds[0]);
	view->link = fd_keep(fds[1]);
	view->generation = generation;
	return generation == view->s->generation;
}

/**
 * connection_hand_over() - with the lock: give the daemon the memory of a socket
 * @view:	the session
 * @number:	the socket's
 * @memfd:	its memory
 * @far:	the other end of its pair of sockets
 *
 * Return: 0, or the daemon's errno; then its datagrams come over ZeroMQ
 */
int connection_hand_over(struct view *view, uint32_t number, int memfd, int far)
{
	union {
		char octets[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	uint32_t head[2] = { UAPI_VERSION, number };
	struct iovec one = { head, sizeof(head) };
	struct msghdr message = {
		.msg_iov = &one, .msg_iovlen = 1,
		.msg_control = control.octets, .msg_controllen = sizeof(control.octets),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
	int fds[2] = { memfd, far };
	char answer[1024];
	int32_t err;

	if (view->link < 0)
		return EOPNOTSUPP;
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fds));
	memcpy(CMSG_DATA(cmsg), fds, sizeof(fds));
	if (syscall(SYS_sendmsg, view->link, &message, MSG_NOSIGNAL) < 0 ||
	    raw_recv(view->link, answer, sizeof(answer), 0) < (ssize_t)sizeof(err)) {
		drop(&view->link);	/* a late answer would be taken for the next one's */
		return EIO;
	}
	memcpy(&err, answer, sizeof(err));
	return err;
}

/* --- beginning a session */

/* Greet, and wait to be greeted: libzmq hangs up on who sends more before that. */
static int greet(struct view *view)
{
	uint64_t deadline = now_ns() + HELLO_NS;
	uint8_t first[ZMTP_HELLO_LEN];
	struct session *s = view->s;

	zmtp_hello(first);
	if (raw_send(view->conn, first, sizeof(first), MSG_NOSIGNAL) != sizeof(first))
		return ECONNRESET;
	while (!zmtp_open(&s->in)) {
		struct pollfd conn = { view->conn, POLLIN, 0 };

		if (now_ns() >= deadline)
			return ETIMEDOUT;
		raw_poll_ms(&conn, 1, 100);
		session_take(view);
		if (conn.revents && !s->in.phase && !s->in.end)
			return ECONNRESET;	/* it was lost */
	}
	return 0;
}

/* Hello; what the value says of the memory of sockets is kept. */
static int hello(struct view *view)
{
	const char *name = program_invocation_short_name;
	char program[PROGRAM_MAX];
	struct session *s = view->s;
	struct request rq;
	struct reply reply;
	const uint8_t *path;
	struct mp_in in;
	size_t n = 0;
	int err;

	for (; name[n] && n < sizeof(program); n++)
		program[n] = name[n] >= ' ' && name[n] < 0x7f ? name[n] : '?';
	request_begin(&rq, "hello", 4);
	mp_u32(&rq.out, UAPI_VERSION);
	mp_str(&rq.out, program, n);
	err = session_ask(view, request_emit, &rq, now_ns() + HELLO_NS, true, &reply);
	if (err)
		return err;
	set_errtext(reply.text);
	if (reply.error)
		return reply.error;
	in = reply_value(&reply);
	n = mp_get_array(&in);
	for (int i = 0; i < 4; i++)	/* version, instance, l3, admin_socket */
		mp_skip(&in);
	s->lane_path[0] = 0;
	if (n > 4) {
		path = mp_get_octets(&in, &n);
		if (n < sizeof(s->lane_path))
			snprintf(s->lane_path, sizeof(s->lane_path), "%.*s", (int)n,
				 (const char *)path);
	}
	return in.bad ? EPROTO : 0;
}

static int begin(struct view *view)
{
	const char *lane = getenv("MHOST_LANE");
	struct session *s = view->s;
	int err;

	drop(&view->conn);
	drop(&view->link);
	view->conn = connect_to(s->path, SOCK_STREAM);
	if (view->conn < 0)
		return errno;
	zmtp_begin(&s->in);
	view->generation = ++s->generation;
	for (struct sk *sk = s->sks; sk < s->sks + s->sks_end; sk++)
		sk->number = 0;
	err = greet(view);
	if (!err)
		err = hello(view);
	if (err)
		return err;
	if (s->lane_path[0] && !(lane && !strcmp(lane, "zmq")))
		view->link = connect_to(s->lane_path, SOCK_SEQPACKET);
	put_in_box(view);
	return 0;
}

/* With the lock: make those sockets anew that this process has. */
static int restore(struct view *view)
{
	struct session *s = view->s;
	int err = 0;

	for (uint32_t i = 0; i < s->sks_end && !err; i++) {
		struct end end = { view, s->sks + i, view->local + i, i };

		if (end.sk->used && !end.sk->number && end.local->refs > 0 && end.sk->generation)
			err = sk_restore(&end);
		if (!s->in.phase && s->generation == view->generation)
			err = ECONNRESET;	/* it was lost again */
	}
	return err;
}

/**
 * connection_begin() - with the lock: have a session, with every socket in it
 *
 * Return: 0, or an errno; ECONNREFUSED and the like if there is no daemon
 */
int connection_begin(struct view *view)
{
	struct session *s = view->s;
	int err = 0;

	if (!s->up)
		err = begin(view);
	else if (!connection_get(view))
		err = ECONNRESET;
	if (!err)
		err = restore(view);
	if (err) {
		session_lose(view);
		drop(&view->conn);
		return err;
	}
	if (!s->up) {
		atomic_store(&s->up, 1);
		session_wake(view);
	}
	return 0;
}

/* --- sessions of this process */

struct view views[VIEWS_MAX];
static pthread_mutex_t views_lock = PTHREAD_MUTEX_INITIALIZER;

static const char *daemon_path(void)
{
	const char *address = getenv("MHOST_SOCKET");

	if (!address || !*address)
		address = DEFAULT_SOCKET;
	return strncmp(address, "ipc://", 6) ? NULL : address + 6;
}

void shared_mutex(pthread_mutex_t *lock)
{
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_ERRORCHECK);
	pthread_mutex_init(lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
}

/* Map the memory of a session; 0, or an errno. */
int view_map(struct view *view, int memfd)
{
	size_t size = SOCKS_MAX * sizeof(struct local);
	void *s = mmap(NULL, sizeof(struct session), PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	void *local = mmap(NULL, size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (s == MAP_FAILED || local == MAP_FAILED) {
		if (s != MAP_FAILED)
			munmap(s, sizeof(struct session));
		if (local != MAP_FAILED)
			munmap(local, size);
		return ENOMEM;
	}
	*view = (struct view){ .s = s, .local = local, .memfd = memfd, .conn = -1, .link = -1,
			       .box = { -1, -1 } };
	return 0;
}

static void unmap(struct view *view)
{
	munmap(view->s, sizeof(struct session));
	munmap(view->local, SOCKS_MAX * sizeof(struct local));
	view->s = NULL;
}

/* A session is of no use to this process any more: others may have it still. */
static void let_go(struct view *view)
{
	view->used = false;
	drop(&view->conn);
	drop(&view->link);
	drop(&view->box[0]);
	drop(&view->box[1]);
	drop(&view->memfd);
}

/* Let go of an inherited session once no socket of it is open here. */
void view_unused(struct view *view)
{
	for (uint32_t i = 0; i < view->s->sks_end; i++)
		if (view->local[i].refs > 0 || view->local[i].users > 0)
			return;
	let_go(view);
	keeper_poke();
}

static int make(struct view *view, const char *path)
{
	int memfd = fd_keep(memfd_create("mhost-session", MFD_CLOEXEC)), err;
	struct session *s;

	if (memfd < 0)
		return errno;
	err = ftruncate(memfd, sizeof(struct session)) ? errno : view_map(view, memfd);
	if (err) {
		fd_drop(memfd);
		return err;
	}
	s = view->s;
	s->magic = sizeof(struct session);
	while (!s->tag)
		s->tag = (uint32_t)(now_ns() * 0x9e3779b97f4a7c15ull >> 44) ^
			 (uint32_t)getpid() % (1u << 20);
	shared_mutex(&s->lock);
	snprintf(s->path, sizeof(s->path), "%s", path);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, view->box)) {
		err = errno;
	} else {
		view->box[0] = fd_keep(view->box[0]);
		view->box[1] = fd_keep(view->box[1]);
		session_lock(view);
		err = connection_begin(view);
		session_unlock(view);
	}
	if (err) {
		let_go(view);
		unmap(view);
		return err;
	}
	view->mine = view->used = true;
	return 0;
}

/**
 * session_here() - the session in which this process opens sockets
 * @view:	set to it
 *
 * Return: 0, or an errno if there is no daemon or it says so
 */
int session_here(struct view **view)
{
	const char *path = daemon_path();
	struct view *room = NULL;
	sigset_t old;
	int err = 0;

	if (!path || strlen(path) >= sizeof(room->s->path)) {
		set_errtext("MHOST_SOCKET: want ipc:///path");
		return EINVAL;
	}
	fds_begin();
	raw_block(&old);
	pthread_mutex_lock(&views_lock);
	*view = NULL;
	for (struct view *each = views; each < views + VIEWS_MAX; each++) {
		if (each->used && each->mine && !strcmp(each->s->path, path))
			*view = each;
		if (!each->used && !room)
			room = each;
	}
	if (*view) {
		session_lock(*view);
		if (!(*view)->s->up)
			err = connection_begin(*view);	/* says at once that there is none */
		session_unlock(*view);
	} else if (room) {
		err = make(room, path);
		*view = room;
	} else {
		err = EMFILE;
	}
	pthread_mutex_unlock(&views_lock);
	raw_unblock(&old);
	if (!err)
		keeper_start();
	return err;
}

/* In a child: the sessions are its parent's. */
void views_forked(void)
{
	pthread_mutex_init(&views_lock, NULL);
	for (struct view *view = views; view < views + VIEWS_MAX; view++) {
		if (!view->used)
			continue;
		view->mine = false;
		view_unused(view);
	}
}
