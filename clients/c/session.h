/* session.h - a session with the daemon, and its sockets, which forked processes share
 *
 * All that a session has is in one memory (struct session), which is a memfd, so that a
 * child has it after fork() and a program after exec(): whoever has a copy of a socket's
 * descriptor can use it. What differs from process to process, descriptors and where
 * something is mapped, is in struct view.
 *
 * There is one connection. Whoever waits for an answer reads it, one at a time (`reader`);
 * a thread of the library, the keeper, sees to it that there is one again after the daemon
 * was restarted, and reads for sockets whose datagrams come over ZeroMQ.
 *
 * Locks: a session's and a socket's, both robust and process-shared; neither is held while
 * anybody waits. Who has a session's only tries to get a socket's: a signal handler may have
 * interrupted who has that, and wait for the session. Signals are blocked with the session's.
 */
#ifndef MHOST_SESSION_H
#define MHOST_SESSION_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "app_lane.h"
#include "msgpack.h"
#include "zmtp.h"

#define SOCKS_MAX	8192	/* of one session */
#define NAME_BITS	12	/* of a number (smh_id_no); above them is the session's tag */
#define NAMES_MAX	4095	/* hosts that a session knows by a number */
#define SLOTS_MAX	128	/* answers that are waited for at once */
#define VIEWS_MAX	16	/* sessions that one process has, most of them inherited */
#define KNOWN_MAX	128	/* destinations that one socket remembers as good */
#define KNOWN_WAYS	4	/* of them: where one may be */
#define FAILED_MAX	4
#define OPTIONS_MAX	80	/* that are set again after a restart, memberships too */
#define QUEUE_MAX	8	/* errors on the error queue of one socket */
#define QUOTED_MAX	576	/* octets of the datagram that an error quotes */
#define VALUE_MAX	4096	/* octets of the value of an answer */
#define LATER_MAX	16	/* messages for sockets that are busy */
#define LATER_OCTETS	1024	/* of such a message, which may be cut */
#define TEXT_MAX	256
#define HOST_NAME_MAX_	253	/* octets, RFC 1035 section 2.3.4 in text form */
#define ADDRESS_MAX	16

#define REQUEST_NS	10000000000ull	/* how long an answer may take */

/* Where a datagram goes or comes from, as the daemon has it; the port in host order. */
struct place {
	uint16_t family;
	uint16_t port;
	uint8_t address[ADDRESS_MAX];
	uint32_t id_no;
	uint32_t scope_id;
};

/**
 * struct name - what a program knows by a number: the session's tag, then from 1
 * @family:	AF_MHOST of a host, else of an address that no sockaddr of 16 octets holds
 * @place:	with AF_MHOST, id_no is the daemon's handle in @generation
 * @text:	of a host
 */
struct name {
	struct place place;
	uint32_t generation;
	char text[HOST_NAME_MAX_ + 1];
};

struct option {
	int32_t level;
	int32_t option;
	uint32_t len;		/* of octets; 0 if it is a number */
	union {
		int32_t number;
		uint8_t octets[32];
	};
};

/* An error on the error queue: struct sock_extended_err and its datagram. */
struct queued {
	struct place to;
	struct place offender;	/* of family 0 if there is none */
	int32_t error;
	uint32_t info;
	uint8_t origin, type, code, local;
	uint32_t len;
	uint8_t payload[QUOTED_MAX];
};

struct known {
	struct place place;
	bool good;
};

/**
 * struct sk - one socket; @lock guards it
 * @used:	it is one; the session's lock guards this, @number and @generation
 * @number:	the daemon's
 * @generation:	of the session in which @number is good
 * @inode:	of our end of the pair of sockets
 * @family:	AF_MHOST, AF_INET or AF_INET6, as the program sees it
 * @shared:	datagrams go through the memory, else over ZeroMQ
 * @polled:	somebody may look whether the descriptor is readable
 * @unanswered:	datagrams for whose answer nobody waits
 * @credit:	octets of records at which the daemon is told (over ZeroMQ only)
 * @seen:	of @lane.rx.ctl->errors
 * @from:	the last source that is known by a number, and in which session it had its handle
 * @to:		the same of the last destination
 * @bound:	bind() was called, with @bound_at; autobound otherwise if @port is not 0
 */
struct sk {
	pthread_mutex_t lock;
	uint32_t used;
	uint32_t number;
	uint32_t generation;
	uint64_t inode;
	struct app_lane lane;
	uint16_t family;
	uint16_t port;
	uint16_t segment;
	bool shared, polled, bound, connected, shut_rd, shut_wr, v6only;
	int32_t error;
	_Atomic uint32_t unanswered;
	uint32_t credit;
	uint32_t seen;
	struct place bound_at;	/* id_no is a struct name's */
	struct place peer;	/* the same */
	struct known to_peer;
	struct known known[KNOWN_MAX];
	struct {
		struct place place;
		int32_t error;
	} failed[FAILED_MAX];
	struct {
		uint32_t handle, generation, name;
	} from, to;
	uint32_t n_options;
	struct option options[OPTIONS_MAX];
	uint32_t n_queued;
	struct queued queue[QUEUE_MAX];
};

/* A message for a socket whose lock somebody has. */
struct later {
	uint32_t len;
	uint8_t octets[LATER_OCTETS];
};

/* Where an answer goes. */
struct slot {
	_Atomic uint32_t state;
	uint32_t seq;
	uint32_t sk;		/* of a datagram for whose answer nobody waits: index */
	struct place place;	/* and where it went */
	int32_t error;
	char text[TEXT_MAX];
	uint32_t len;
	uint8_t value[VALUE_MAX];
};

struct session {
	uint64_t magic;
	uint32_t tag;			/* which session a number is of; 20 bits */
	pthread_mutex_t lock;
	_Atomic uint32_t up;		/* there is one; futex */
	_Atomic uint32_t generation;	/* counts sessions; the descriptors are in the mailbox */
	_Atomic uint32_t unshared;	/* sockets whose datagrams come over ZeroMQ */
	uint32_t seq;
	bool midway;			/* in a message on the connection, either way */
	int32_t reader;			/* thread that waits on the connection; 0 is nobody */
	int32_t reader_pid;
	char path[108];			/* of the daemon's socket */
	char lane_path[108];
	uint32_t sks_end;		/* none is used from here on */
	uint32_t names_end;
	uint8_t out[ZMTP_MESSAGE_MAX + ZMTP_FRAME_HLEN];
	struct zmtp in;
	uint32_t n_later;
	struct later later[LATER_MAX];
	struct slot slots[SLOTS_MAX];
	struct name names[NAMES_MAX];
	struct sk sks[SOCKS_MAX];
};

/**
 * struct local - what this process has of a socket
 * @shm:	where its memory is mapped
 * @near:	one of the descriptors that the program has of it
 * @refs:	how many of those there are
 * @users:	calls under way
 */
struct local {
	void *shm;
	int near;
	int far;
	int memfd;
	_Atomic int refs;
	_Atomic int users;
};

/**
 * struct view - what this process has of a session
 * @memfd:	the memory, to hand on
 * @box:	a pair of sockets that keeps copies of the connections for other processes
 * @conn:	the connection of @generation, -1 if we have not got it
 * @link:	over which sockets' memory is handed over, -1 where it is not
 * @mine:	made by this process: new sockets are opened in it
 */
struct view {
	struct session *s;
	int memfd;
	int box[2];
	int conn;
	int link;
	uint32_t generation;
	bool mine;
	bool used;
	struct local *local;
};

/* A socket and what this process has of it. */
struct end {
	struct view *view;
	struct sk *sk;
	struct local *local;
	uint32_t index;
};

/* An answer; its value is still MessagePack. */
struct reply {
	int error;
	char text[TEXT_MAX];
	size_t len;
	uint8_t value[VALUE_MAX];
};

/*
 * What writes a message: into @out, of ZMTP_MESSAGE_MAX octets, with the lock of the
 * session held. Returns the octets written, 0 if it cannot be.
 */
typedef size_t emit_fn(void *argument, uint32_t seq, uint8_t *out);

extern struct view views[VIEWS_MAX];

uint64_t now_ns(void);
void set_errtext(const char *text);

void session_lock(struct view *view);
void session_unlock(struct view *view);
void session_lose(struct view *view);
void session_wake(struct view *view);
void session_take(struct view *view);
int session_ask(struct view *view, emit_fn *emit, void *argument, uint64_t deadline,
		bool hold, struct reply *reply);
int session_exchange(struct view *view, uint32_t generation, emit_fn *emit, void *argument,
		     uint64_t deadline, struct reply *reply);
int session_post(struct view *view, uint32_t generation, emit_fn *emit, void *argument,
		 const struct end *end, const struct place *place);
void session_catch_up(const struct end *end);
void session_drain(struct view *view);

#endif
