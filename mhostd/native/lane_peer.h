/* lane_peer.h - associated hosts in the fast lane: datagrams in shims (shim.h)
 *
 *   down  ring of a socket -> flow -> peer -> its paths: TUN or host kernel
 *   up    association port -> session -> flow -> ring of a socket      else -> the walk
 *
 * Which session and which paths a peer has is the walk's to say (mhostd/fast_peers.py).
 */
#ifndef MHOSTD_LANE_PEER_H
#define MHOSTD_LANE_PEER_H

#include <stdbool.h>
#include <stdint.h>

#include "frame.h"
#include "shim.h"

#define PEER_PATHS	4	/* that one datagram takes at most */
#define PEER_SOURCES	24	/* from where its datagrams may come */
#define PEER_CONTROL	64	/* octets of control messages that pin a path */
#define PEER_BUCKETS	4096	/* of sessions */
#define PEER_COPIES_S	12500000 /* octets a second of copies on further paths (host/peer.py) */
#define PEER_STRANGE_S	2000	/* packets a second that only the walk can judge */

/* Flags of a flow: what its socket has asked for. */
#define PEER_FAILOVER	1
#define PEER_DUPLICATE	2

/**
 * struct peer_path - where a datagram goes
 * @kind:	FLOW_TUN or FLOW_HOST
 * @family:	AF_INET or AF_INET6
 * @room:	octets of UDP payload that fit
 * @hlen:	octets in @headers
 * @control_len: octets in @control
 * @number:	ours, of the path
 * @headers:	as in struct flow
 * @control:	a control message for sendmsg(2)
 */
struct peer_path {
	uint32_t kind;
	uint32_t family;
	uint32_t room;
	uint32_t hlen;
	uint32_t control_len;
	uint8_t number;
	uint8_t headers[FRAME_HLEN_MAX];
	uint8_t control[PEER_CONTROL] __attribute__((aligned(8)));
};

/**
 * struct peer_source - where the peer's datagrams on one of its paths come from
 * @family:	AF_INET or AF_INET6
 * @port:	of UDP (host order)
 * @number:	the peer's, of the path
 * @address:	padded with zero octets
 */
struct peer_source {
	uint32_t family;
	uint16_t port;
	uint8_t number;
	uint8_t address[16];
};

/**
 * struct lane_peer - an associated host
 * @identifier:	its address
 * @tx:		what seals now, or NULL
 * @duplicate:	each datagram takes every path
 * @warm:	the walk knows that there is traffic
 * @copies:	octets of copies that may go on further paths now
 * @copies_ns:	when that was
 * @n_paths:	in @paths; the first is the one that is taken
 * @n_sources:	in @sources
 */
struct lane_peer {
	uint8_t identifier[16];
	struct shim *tx;
	bool duplicate;
	bool warm;
	uint64_t copies;
	uint64_t copies_ns;
	uint32_t n_paths;
	uint32_t n_sources;
	struct peer_path paths[PEER_PATHS];
	struct peer_source sources[PEER_SOURCES];
};

/**
 * struct lane_session - what opens the packets of one association id
 * @next:	in its bucket
 * @id:		ours
 * @peer:	number of the peer
 * @shim:	held
 */
struct lane_session {
	struct lane_session *next;
	uint32_t id;
	uint32_t peer;
	struct shim *shim;
};

/**
 * struct peer_table - all of them, and the port that they have in common
 * @peers:	by number, NULL where there is none
 * @n_peers:	room in @peers
 * @buckets:	sessions by id
 * @ours:	our identifier
 * @port:	the association port (host order), 0 while there is none
 * @host:	its sockets of the host kernel, for IPv4 and IPv6, -1 for none
 * @sealed:	FRAME_MAX octets: packets that are about to go out
 * @strange:	packets that the walk may still be given
 * @strange_ns:	when that was counted
 */
struct peer_table {
	struct lane_peer **peers;
	uint32_t n_peers;
	struct lane_session *buckets[PEER_BUCKETS];
	uint8_t ours[16];
	uint16_t port;
	int host[2];
	uint8_t *sealed;
	uint32_t strange;
	uint64_t strange_ns;
};

/**
 * struct lane_encap - what the walk is told of a packet on the association port
 * @id:		association id, of one that was opened here
 * @path:	the peer's number of its path
 * @next:	IP protocol of what is inside
 * @port:	source port (host order)
 * @seq:	sequence number
 * @family:	AF_INET or AF_INET6
 * @scope_id:	of the source
 * @saddr:	source, padded with zero octets
 * @daddr:	destination, the same
 * @ifindex:	of the interface, 0 off the TUN
 * @kernel:	the host kernel received it, else it came off the TUN
 */
struct lane_encap {
	uint32_t id;
	uint8_t path;
	uint8_t next;
	uint16_t port;
	uint64_t seq;
	uint32_t family;
	uint32_t scope_id;
	uint8_t saddr[16];
	uint8_t daddr[16];
	uint32_t ifindex;
	uint32_t kernel;
};

struct lane;
struct lane_sock;
struct run;

int peer_table_init(struct peer_table *table);
void peer_table_free(struct peer_table *table);
struct lane_peer *lane_peer(const struct lane *lane, uint32_t number);
int lane_peer_set(struct lane *lane, uint32_t number, const struct lane_peer *peer);
void lane_peer_del(struct lane *lane, uint32_t number);
int lane_session_add(struct lane *lane, uint32_t id, uint32_t peer, struct shim *shim);
void lane_session_del(struct lane *lane, uint32_t id);

int lane_encap_add(struct lane *lane, bool v6, int fd);
void lane_encap_del(struct lane *lane, bool v6);
int lane_encap_watch(struct lane *lane, bool v6);
void lane_encap_error(struct lane *lane, bool v6);
size_t lane_encap_up(struct lane *lane, bool v6);
bool lane_encap(struct lane *lane, const struct lane_encap *from, const uint8_t *packet,
		size_t len);
bool lane_to_peer(struct lane *lane, struct lane_sock *sk, struct run *run,
		  uint64_t *before);

#endif
