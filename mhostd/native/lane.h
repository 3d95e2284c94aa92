/* lane.h - the fast lane: frames and records that the walk need not see
 *
 *   up    TUN -> frame_parse -> flow -> ring of a socket       else -> the walk
 *   down  ring of a socket -> flow -> headers -> TUN, or the   else -> the walk
 *         ring of another socket
 *
 * One mutex guards everything here. The thread takes it for each frame and for each run
 * of records, Python for each call; nobody sleeps with it.
 */
#ifndef MHOSTD_LANE_H
#define MHOSTD_LANE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "flow.h"
#include "lane_peer.h"
#include "ring.h"

#define LANE_BATCH	64	/* frames, or records for the walk, at a time */
#define LANE_PUBLISH	8	/* frames after which applications see them that are awake */
#define LANE_RUN	64	/* records that become one super-packet */
#define LANE_SEGMENTS	512	/* datagrams of a super-packet that an application made */
#define LANE_BUDGET	1024	/* records of one socket before it is another's turn */
#define LANE_ITEMS	1024	/* that wait for the walk; then frames are dropped */
#define LANE_ITEM_OCTETS (4u << 20)
#define LANE_ITEM_RESERVE 65536	/* octets of it for what must not be lost */
#define LANE_SOCKS_MAX	16384	/* in all; each takes a mapping and a descriptor */
#define LANE_MARKS	4096	/* hashes of flows with frames that wait for the walk */

#define LANE_SLOT_BITS	20	/* of a socket's slot; those above tell its users apart */
#define LANE_SLOT_MASK	((1u << LANE_SLOT_BITS) - 1)

#define LANE_HOST_BATCH	16	/* datagrams of the host kernel at a time */
#define LANE_HOST_FAMILY 0x10000 /* in struct flow_key: the host kernel's, to a slot */

/* Octets of the longest record: control messages with their length, and a payload. */
#define LANE_RECORD_MAX	(RECORD_HLEN + 8 + RECORD_CONTROL_MAX + FRAME_MAX + 1)

enum lane_item_kind { ITEM_FRAME, ITEM_RECORDS, ITEM_GONE, ITEM_DATAGRAM, ITEM_HOST,
		      ITEM_HOST6, ITEM_ENCAP, ITEM_OPENED, ITEM_WARM, ITEM_ENCAP_ERROR };

/**
 * struct lane_item - what the walk is given, followed by @octets, padded to 8
 * @kind:	a frame, a record of a socket, a socket whose application is gone, a record
 *		with what the host kernel received for a socket, or a socket of the host
 *		kernel that has an error (ITEM_HOST for IPv4, ITEM_HOST6 for IPv6); a packet
 *		to the association port, or the datagram in one that was opened, both behind
 *		a struct lane_encap; a peer with traffic; an error on the association port
 * @what:	EtherType of a frame, the slot of the socket, number of the peer, or 1 for IPv6
 * @octets:	of the packet, or of the record
 */
struct lane_item {
	uint32_t kind;
	uint32_t what;
	uint32_t octets;
};

/**
 * struct lane_counts - what was done here, in packets (segments of super-packets)
 * @rx_packets:	received from the TUN and not handed to the walk
 * @rx_bytes:	octets of those packets
 * @tx_packets:	written to the TUN
 * @tx_bytes:	octets of those packets
 * @tx_full:	not written, the device was full
 * @tx_failed:	not written for another reason
 * @host_full:	not sent, the host kernel's socket was full
 * @lo_packets:	from one socket of ours to another
 * @lo_bytes:	octets of the packets that would have been
 * @delivered:	put in a ring
 * @rcvbuff:	dropped, a receive buffer was full
 * @host_packets: received from the host kernel and not handed to the walk
 * @host_backlog: the same of those of the host kernel
 * @backlog:	dropped, too much waited for the walk
 * @backlog_bytes: octets of those packets
 * @shim_malformed: to the association port, dropped: not of our protocol
 * @shim_replayed: the same: has come before
 * @shim_tag:	the same: not from the peer
 * @shim_refused: the same: too many that only the walk can judge
 */
struct lane_counts {
	uint64_t rx_packets;
	uint64_t rx_bytes;
	uint64_t tx_packets;
	uint64_t tx_bytes;
	uint64_t tx_full;
	uint64_t tx_failed;
	uint64_t host_full;
	uint64_t lo_packets;
	uint64_t lo_bytes;
	uint64_t delivered;
	uint64_t rcvbuff;
	uint64_t host_packets;
	uint64_t host_backlog;
	uint64_t backlog;
	uint64_t backlog_bytes;
	uint64_t shim_malformed;
	uint64_t shim_replayed;
	uint64_t shim_tag;
	uint64_t shim_refused;
};

/**
 * struct lane_sock - a socket whose data is in shared memory
 * @slot:	its place in struct lane, and a number that the next one there has not
 * @epoch:	see flow.h
 * @shm:	LANE_OCTETS
 * @far:	our end of its socket pair
 * @host:	its sockets of the host kernel, for IPv4 and IPv6, -1 for none
 * @rx:		to the application
 * @tx:		from the application
 * @rcvbuf:	octets of records that may wait in @rx
 * @at_walk:	records that the walk has and has not finished; the others wait
 * @active:	in the queue of those with something to send
 * @touched:	has records that are not published yet
 * @undrained:	octets wait on @far, so that the application sees no room
 * @broken:	it wrote nonsense in its memory; nothing goes in or out any more
 * @rx_datagrams: put in @rx here
 * @tx_datagrams: sent from here
 * @rx_drops:	dropped here, the buffer was full
 */
struct lane_sock {
	uint32_t slot;
	uint32_t epoch;
	void *shm;
	int far;
	int host[2];
	struct ring rx;
	struct ring tx;
	uint32_t rcvbuf;
	uint32_t at_walk;
	bool active;
	bool touched;
	bool undrained;
	bool broken;
	uint64_t rx_datagrams;
	uint64_t tx_datagrams;
	uint64_t rx_drops;
};

struct lane {
	pthread_mutex_t lock;
	pthread_cond_t drained;	/* something was taken from a ring that somebody waits for */
	uint32_t n_waiting;
	pthread_cond_t idle;	/* the thread has left a descriptor alone */
	int busy;		/* the one that it uses without the lock, or -1 */
	pthread_t thread;
	bool running;
	atomic_bool stop;
	int tun;		/* -1 if there is none */
	int epoll;
	int wake;		/* eventfd: the thread is to look again */
	int walk;		/* eventfd: something waits for the walk */
	bool vnet;		/* frames have a struct virtio_net_hdr */
	bool uso;		/* and may be super-packets of UDP, both ways */
	bool tun_ready;		/* it may have something */
	bool tun_lost;		/* nothing comes from it any more */
	atomic_bool hold;	/* no frame is read until the walk has none */

	struct lane_sock **socks;
	uint32_t n_socks;
	uint32_t n_open;
	uint32_t first_free;	/* no slot below it is free */
	uint32_t sock_epochs;	/* the last that was given */
	struct lane_sock **active;	/* room for n_socks each */
	uint32_t n_active;
	struct lane_sock **touched;
	uint32_t n_touched;
	struct lane_sock **dead;
	uint32_t n_dead, room_dead;

	uint32_t epoch;
	uint32_t port_epochs[65536];
	struct flow_table up;
	struct flow_table down;
	struct peer_table peers;

	uint8_t *items;		/* LANE_ITEM_OCTETS, for the walk */
	size_t items_used;
	uint32_t n_items;
	uint32_t n_frames;	/* of them, frames and datagrams of the host kernel */
	bool crowded;		/* a receive buffer was half full: its application is slow */
	bool walk_full;		/* something did not fit, until the walk takes them */
	uint16_t marks[LANE_MARKS];

	struct lane_counts counts;
	uint8_t *frame;		/* one that was read, or LANE_HOST_BATCH datagrams */
	uint8_t *segment;	/* one of its segments */
};

int lane_init(struct lane *lane, int tun, bool vnet, bool uso);
void lane_free(struct lane *lane);

int lane_sock_add(struct lane *lane, int memfd, int far, uint32_t rcvbuf);
void lane_sock_del(struct lane *lane, uint32_t slot);
void lane_bury(struct lane *lane);
struct lane_sock *lane_sock(struct lane *lane, uint32_t slot);

bool lane_put(struct lane *lane, struct lane_sock *sk, const void *record, size_t octets);
void lane_publish(struct lane *lane);
void lane_publish_some(struct lane *lane);
void lane_sent(struct lane *lane, struct lane_sock *sk, uint32_t count);
bool lane_item(struct lane *lane, enum lane_item_kind kind, uint32_t what, const void *data,
	       size_t octets);

size_t lane_up(struct lane *lane, size_t most);
size_t lane_down(struct lane *lane, uint32_t keep);
bool lane_drain(struct lane *lane, struct lane_sock *sk, uint32_t timeout_ms);
void lane_down_key(const struct lane_sock *sk, const struct record *head, uint8_t *key);
void lane_doorbell(struct lane_sock *sk);
void lane_activate(struct lane *lane, struct lane_sock *sk);
void lane_deactivate(struct lane *lane, uint32_t at);
void lane_deliver(struct lane *lane, struct lane_sock *sk, const struct record *head,
		  const struct iovec *parts, size_t n_parts, uint32_t segments);

int lane_host_add(struct lane *lane, struct lane_sock *sk, bool v6, int fd);
void lane_host_del(struct lane *lane, struct lane_sock *sk, bool v6);
int lane_host_watch(struct lane *lane, struct lane_sock *sk, bool v6);
size_t lane_host_up(struct lane *lane, uint32_t slot, bool v6);
void lane_host_error(struct lane *lane, struct lane_sock *sk, bool v6);
int lane_host_down(int fd, const struct flow *flow, struct iovec *parts, size_t n_parts,
		   uint16_t segment_size, const void *pin, size_t pin_len, size_t *sent);
void lane_host_key(struct flow_key *key, uint32_t slot, uint32_t scope_id);
bool lane_counts_still(const struct lane *lane, const struct flow *flow,
		       const struct lane_sock *sk);
struct record lane_record_of(const struct flow_key *key, const struct flow *flow,
			     uint16_t segment_size);
struct lane_sock *lane_who_gets(struct lane *lane, const struct flow_key *key,
				uint64_t hash, const struct flow **found);

int lane_start(struct lane *lane);
void lane_stop(struct lane *lane);
void lane_notify(int eventfd);

#endif
