/* lane_peer.c - datagrams to and from associated hosts in the fast lane (lane_peer.h) */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>

#include "lane.h"
#include "lane_run.h"
#include "udp.h"

#ifndef UDP_GRO
#define UDP_GRO		104	/* linux/udp.h */
#endif

#define IPPROTO_OF_UDP	17
#define SEALED_MAX	64	/* datagrams in one piece: UDP_MAX_SEGMENTS of old kernels */
#define EVENT_ENCAP	(UINT64_MAX - 2)	/* and one less for IPv6 */

int peer_table_init(struct peer_table *table)
{
	table->host[0] = table->host[1] = -1;
	table->sealed = malloc(FRAME_MAX);
	return table->sealed ? 0 : -1;
}

void peer_table_free(struct peer_table *table)
{
	for (uint32_t i = 0; i < table->n_peers; i++) {
		if (table->peers[i])
			shim_put(table->peers[i]->tx);
		free(table->peers[i]);
	}
	for (uint32_t i = 0; i < PEER_BUCKETS; i++) {
		while (table->buckets[i]) {
			struct lane_session *session = table->buckets[i];

			table->buckets[i] = session->next;
			shim_put(session->shim);
			free(session);
		}
	}
	free(table->peers);
	free(table->sealed);
}

/* The peer of that number, or NULL. */
struct lane_peer *lane_peer(const struct lane *lane, uint32_t number)
{
	return number < lane->peers.n_peers ? lane->peers.peers[number] : NULL;
}

/**
 * lane_peer_set() - say where the datagrams to a peer go from now on
 * @lane:	with its lock held
 * @number:	of the peer; small, as they are places in a list
 * @peer:	copied; its shim is held once more
 *
 * Return: 0, or -1 if there is no memory
 */
int lane_peer_set(struct lane *lane, uint32_t number, const struct lane_peer *peer)
{
	struct peer_table *table = &lane->peers;
	struct lane_peer *old;

	if (number >= table->n_peers) {
		uint32_t room = table->n_peers ? table->n_peers : 16;
		void *more;

		while (room <= number)
			room *= 2;
		more = realloc(table->peers, room * sizeof(*table->peers));
		if (!more)
			return -1;
		table->peers = more;
		memset(table->peers + table->n_peers, 0,
		       (room - table->n_peers) * sizeof(*table->peers));
		table->n_peers = room;
	}
	old = table->peers[number];
	if (!old) {
		old = calloc(1, sizeof(*old));
		if (!old)
			return -1;
		table->peers[number] = old;
	}
	uint64_t copies = old->copies, copies_ns = old->copies_ns;

	shim_put(old->tx);
	*old = *peer;
	old->copies = copies;
	old->copies_ns = copies_ns;
	if (old->tx)
		shim_get(old->tx);
	return 0;
}

void lane_peer_del(struct lane *lane, uint32_t number)
{
	struct lane_peer *peer = lane_peer(lane, number);

	if (!peer)
		return;
	lane->peers.peers[number] = NULL;
	shim_put(peer->tx);
	free(peer);
}

static struct lane_session **session_at(struct lane *lane, uint32_t id)
{
	struct lane_session **at = &lane->peers.buckets[id % PEER_BUCKETS];

	while (*at && (*at)->id != id)
		at = &(*at)->next;
	return at;
}

/**
 * lane_session_add() - open what comes with an association id
 * @lane:	with its lock held
 * @id:		not in use
 * @peer:	number of the peer
 * @shim:	held once more
 *
 * Return: 0, or -1 if there is no memory
 */
int lane_session_add(struct lane *lane, uint32_t id, uint32_t peer, struct shim *shim)
{
	struct lane_session **at = session_at(lane, id);

	if (!*at) {
		*at = calloc(1, sizeof(**at));
		if (!*at)
			return -1;
	} else {
		shim_put((*at)->shim);
	}
	(*at)->id = id;
	(*at)->peer = peer;
	(*at)->shim = shim_get(shim);
	return 0;
}

void lane_session_del(struct lane *lane, uint32_t id)
{
	struct lane_session **at = session_at(lane, id), *session = *at;

	if (!session)
		return;
	*at = session->next;
	shim_put(session->shim);
	free(session);
}

/* --- the association port of the host kernel */

/* Have the thread look at it; 0 or -1 with errno set. */
int lane_encap_watch(struct lane *lane, bool v6)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = EVENT_ENCAP - v6 };

	if (lane->peers.host[v6] < 0)
		return 0;
	return epoll_ctl(lane->epoll, EPOLL_CTL_ADD, lane->peers.host[v6], &event);
}

/* As lane_host_add(); the socket also says to which address and interface packets come. */
int lane_encap_add(struct lane *lane, bool v6, int fd)
{
	int on = 1;

	if (setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)))
		return -1;
	lane->peers.host[v6] = fd;
	if (!lane_encap_watch(lane, v6))
		return 0;
	lane->peers.host[v6] = -1;
	return -1;
}

/* Leave it alone; when this returns it may be closed. */
void lane_encap_del(struct lane *lane, bool v6)
{
	int fd = lane->peers.host[v6];

	if (fd < 0)
		return;
	lane->peers.host[v6] = -1;
	epoll_ctl(lane->epoll, EPOLL_CTL_DEL, fd, NULL);
	while (lane->busy == fd)
		pthread_cond_wait(&lane->idle, &lane->lock);
}

/* Its error queue has something: the walk takes it off, then watches it again. */
void lane_encap_error(struct lane *lane, bool v6)
{
	if (lane->peers.host[v6] < 0)
		return;
	if (lane_item(lane, ITEM_ENCAP_ERROR, v6, NULL, 0))
		epoll_ctl(lane->epoll, EPOLL_CTL_DEL, lane->peers.host[v6], NULL);
}

/* --- up */

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* Whether the walk may be given one more packet that nobody here could judge. */
static bool strange_passes(struct peer_table *table)
{
	uint64_t now;

	if (!table->strange) {
		now = now_ns();
		if (now - table->strange_ns < 1000000000 / 10)
			return false;
		table->strange_ns = now;
		table->strange = PEER_STRANGE_S / 10;
	}
	table->strange--;
	return true;
}

static bool from_known(const struct lane_peer *peer, const struct lane_encap *from)
{
	for (uint32_t i = 0; i < peer->n_sources; i++) {
		const struct peer_source *source = peer->sources + i;

		if (source->family == from->family && source->port == from->port &&
		    !memcmp(source->address, from->saddr, sizeof(source->address)))
			return true;
	}
	return false;
}

/* Whether the peer's path of that number is where a packet came from. */
static bool on_its_path(const struct lane_peer *peer, const struct lane_encap *from,
			uint8_t number)
{
	for (uint32_t i = 0; i < peer->n_sources; i++) {
		const struct peer_source *source = peer->sources + i;

		if (source->number == number && source->family == from->family &&
		    source->port == from->port &&
		    !memcmp(source->address, from->saddr, sizeof(source->address)))
			return true;
	}
	return false;
}

/* Hand a packet to the walk, with what it needs to know. */
static void encap_to_walk(struct lane *lane, enum lane_item_kind kind,
			  const struct lane_encap *from, const uint8_t *octets, size_t len)
{
	memcpy(lane->segment, from, sizeof(*from));
	memcpy(lane->segment + sizeof(*from), octets, len);
	if (!lane_item(lane, kind, 0, lane->segment, sizeof(*from) + len))
		lane->counts.host_backlog++;
}

/* Have the walk look at a peer's traffic from now on. */
static void warm(struct lane *lane, uint32_t number, struct lane_peer *peer)
{
	if (!peer->warm && lane_item(lane, ITEM_WARM, number, NULL, 0))
		peer->warm = true;
}

/* The datagram inside a packet that was opened; true if a socket has it. */
static bool inner_up(struct lane *lane, const struct lane_peer *peer,
		     const struct shim_view *view, uint64_t *hash)
{
	const uint8_t *udp = view->inner;
	struct flow_key key = { .family = AF_INET6 };
	const struct flow *flow;
	struct lane_sock *sk;
	struct record head;
	struct iovec payload;

	if (view->next != IPPROTO_OF_UDP || view->len < UDP_HLEN ||
	    (size_t)(udp[4] << 8 | udp[5]) != view->len)
		return false;
	memcpy(key.saddr, peer->identifier, sizeof(key.saddr));
	memcpy(key.daddr, lane->peers.ours, sizeof(key.daddr));
	key.source = (uint16_t)(udp[0] << 8 | udp[1]);
	key.dest = (uint16_t)(udp[2] << 8 | udp[3]);
	*hash = flow_hash(&lane->up, &key);
	sk = lane_who_gets(lane, &key, *hash, &flow);
	if (!sk)
		return false;
	head = lane_record_of(&key, flow, 0);
	payload = (struct iovec){ (void *)(uintptr_t)(udp + UDP_HLEN), view->len - UDP_HLEN };
	lane_deliver(lane, sk, &head, &payload, 1, 1);
	return true;
}

static void count_drop(struct lane_counts *counts, enum shim_says says)
{
	if (says == SHIM_MALFORMED)
		counts->shim_malformed++;
	else if (says == SHIM_REPLAYED)
		counts->shim_replayed++;
	else
		counts->shim_tag++;
}

/**
 * lane_encap() - one packet to the association port
 * @lane:	with its lock held
 * @from:	where it came from; the rest is filled in here
 * @packet:	UDP payload
 * @len:	of it
 *
 * Return: true if it ended here, false if the walk has it (or it was dropped before that)
 */
bool lane_encap(struct lane *lane, const struct lane_encap *from, const uint8_t *packet,
		size_t len)
{
	struct lane_session *session = NULL;
	struct lane_encap told = *from;
	struct lane_peer *peer = NULL;
	struct shim_view view;
	enum shim_says says;
	uint64_t hash = 0;
	uint32_t id;

	if (len >= SHIM_HLEN) {
		memcpy(&id, packet + 4, sizeof(id));
		session = *session_at(lane, ntohl(id));
	}
	if (session)
		peer = lane_peer(lane, session->peer);
	if (!peer || packet[0] != SHIM_DATA) {
		/* What a peer sends from where it is need not wait behind strangers. */
		if ((peer && from_known(peer, from)) || strange_passes(&lane->peers)) {
			encap_to_walk(lane, ITEM_ENCAP, &told, packet, len);
			return false;
		}
		lane->counts.shim_refused++;
		return true;
	}
	says = shim_open(session->shim, packet, len, &view);
	if (says != SHIM_OK) {
		count_drop(&lane->counts, says);
		return true;
	}
	warm(lane, session->peer, peer);
	if (on_its_path(peer, from, view.path) && inner_up(lane, peer, &view, &hash))
		return true;
	told.id = session->id;
	told.path = view.path;
	told.next = view.next;
	told.seq = view.seq;
	if (hash)
		lane->marks[hash % LANE_MARKS]++;
	encap_to_walk(lane, ITEM_OPENED, &told, view.inner, view.len);
	return false;
}

/* Where a message of the host kernel came from, and to; its segment size. */
static uint16_t arrival(struct msghdr *msg, struct lane_encap *from)
{
	const struct sockaddr_storage *name = msg->msg_name;
	uint16_t step = 0;

	*from = (struct lane_encap){ .family = name->ss_family, .kernel = 1 };
	if (name->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)name;

		from->port = ntohs(in->sin_port);
		memcpy(from->saddr, &in->sin_addr, 4);
	} else {
		const struct sockaddr_in6 *in6 = (const void *)name;

		from->port = ntohs(in6->sin6_port);
		from->scope_id = in6->sin6_scope_id;
		memcpy(from->saddr, &in6->sin6_addr, 16);
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
			int size;

			memcpy(&size, CMSG_DATA(c), sizeof(size));
			step = (uint16_t)size;
		} else if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			struct in_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			memcpy(from->daddr, &info.ipi_addr, 4);
			from->ifindex = (uint32_t)info.ipi_ifindex;
		} else if (c->cmsg_level == IPPROTO_IPV6 && c->cmsg_type == IPV6_PKTINFO) {
			struct in6_pktinfo info;

			memcpy(&info, CMSG_DATA(c), sizeof(info));
			memcpy(from->daddr, &info.ipi6_addr, 16);
			from->ifindex = info.ipi6_ifindex;
		}
	}
	return step;
}

/**
 * lane_encap_up() - take what the association port of the host kernel has received
 * @lane:	without its lock
 * @v6:		which one
 *
 * Return: how many messages it was
 */
size_t lane_encap_up(struct lane *lane, bool v6)
{
	struct sockaddr_storage names[LANE_HOST_BATCH];
	uint64_t controls[LANE_HOST_BATCH][16];
	struct mmsghdr msgs[LANE_HOST_BATCH];
	struct iovec parts[LANE_HOST_BATCH];
	int fd, n, err;

	pthread_mutex_lock(&lane->lock);
	fd = lane->hold ? -1 : lane->peers.host[v6];
	lane->busy = fd;
	pthread_mutex_unlock(&lane->lock);
	if (fd < 0)
		return 0;
	for (size_t i = 0; i < LANE_HOST_BATCH; i++) {
		parts[i] = (struct iovec){ lane->frame + i * (FRAME_MAX + 1), FRAME_MAX };
		msgs[i].msg_hdr = (struct msghdr){
			.msg_name = names + i, .msg_namelen = sizeof(names[i]),
			.msg_iov = parts + i, .msg_iovlen = 1,
			.msg_control = controls[i], .msg_controllen = sizeof(controls[i]),
		};
	}
	n = recvmmsg(fd, msgs, LANE_HOST_BATCH, MSG_DONTWAIT, NULL);
	err = errno;
	pthread_mutex_lock(&lane->lock);
	lane->busy = -1;
	pthread_cond_broadcast(&lane->idle);
	if (lane->peers.host[v6] == fd) {
		for (int i = 0; i < n; i++) {
			struct lane_encap from;
			size_t len = msgs[i].msg_len, at = 0;
			size_t step = arrival(&msgs[i].msg_hdr, &from);
			uint8_t *octets = parts[i].iov_base;

			if (!step)
				step = len ? len : 1;
			do {
				size_t part = len - at > step ? step : len - at;

				if (lane_encap(lane, &from, octets + at, part))
					lane->counts.host_packets++;
				at += step;
			} while (at < len);
		}
		if (n < 0 && err != EAGAIN && err != EINTR)
			lane_encap_error(lane, v6);
	}
	lane_publish(lane);
	pthread_mutex_unlock(&lane->lock);
	return n > 0 ? (size_t)n : 0;
}

/* --- down */

/**
 * struct sealing - datagrams of a run that are sealed and go out together
 * @n:		of them
 * @len:	octets of each; the last may be shorter
 * @total:	octets of all
 * @seqs:	their sequence numbers
 * @inner:	their payloads
 * @udp:	their UDP headers
 */
struct sealing {
	size_t n;
	size_t len;
	size_t total;
	uint64_t seqs[SEALED_MAX];
	struct iovec inner[SEALED_MAX];
	uint8_t udp[SEALED_MAX][UDP_HLEN];
};

/* Seal them for one path; 0 or errno. */
static int seal_all(struct lane *lane, struct shim *shim, struct sealing *s, uint8_t path)
{
	uint8_t *out = lane->peers.sealed;

	for (size_t i = 0; i < s->n; i++) {
		struct iovec parts[2] = { { s->udp[i], UDP_HLEN }, s->inner[i] };
		ssize_t len = shim_seal_as(shim, path, IPPROTO_OF_UDP, s->seqs[i], parts, 2,
					   out);

		if (len < 0)
			return (int)-len;
		out += len;
	}
	return 0;
}

/* Send what seal_all() has made over one path; 0 or errno. */
static int send_sealed(struct lane *lane, const struct sealing *s,
		       const struct peer_path *path, int fd)
{
	struct flow flow = { .kind = path->kind, .family = path->family, .hlen = path->hlen };
	struct run out = { .flow = &flow };
	size_t sent;

	memcpy(flow.headers, path->headers, path->hlen);
	if (path->kind == FLOW_HOST) {
		struct iovec parts[SEALED_MAX];

		for (size_t i = 0, at = 0; i < s->n; i++, at += s->len)
			parts[i] = (struct iovec){ lane->peers.sealed + at,
						   i < s->n - 1 ? s->len : s->total - at };
		return lane_host_down(fd, &flow, parts, s->n, s->n > 1 ? (uint16_t)s->len : 0,
				      path->control, path->control_len, &sent);
	}
	for (size_t at = 0; at < s->total;) {
		size_t part = lane->uso ? s->total : s->len;
		int err;

		part = part < s->total - at ? part : s->total - at;
		out.parts[1] = (struct iovec){ lane->peers.sealed + at, part };
		out.n_parts = 2;
		out.payload = part;
		out.segments = lane->uso ? (uint32_t)s->n : 1;
		out.segment_size = out.segments > 1 ? (uint16_t)s->len : 0;
		err = lane_write_tun(lane, &out);
		pthread_mutex_lock(&lane->lock);
		lane_tun_done(lane, &out, err);
		pthread_mutex_unlock(&lane->lock);
		if (err)
			return err == EAGAIN || err == ENOBUFS ? 0 : err;
		at += part;
	}
	return 0;
}

/* The next datagrams of a run from (part, at) on. */
static void gather_sealing(struct lane *lane, struct sealing *s, struct shim *shim,
			   const struct run *run, size_t step, const uint8_t *ports,
			   size_t *part, size_t *at)
{
	(void)lane;
	s->n = s->total = 0;
	while (*part < run->n_parts && s->n < SEALED_MAX &&
	       s->total + s->len <= RECORD_PAYLOAD_MAX) {
		const struct iovec *from = run->parts + *part;
		size_t left = from->iov_len - *at, len = left < step ? left : step;
		size_t ulen = UDP_HLEN + len;
		uint8_t *udp = s->udp[s->n];

		if (shim_next(shim, &s->seqs[s->n]))
			return;
		s->inner[s->n] = (struct iovec){ (uint8_t *)from->iov_base + *at, len };
		memcpy(udp, ports, 4);
		udp[4] = (uint8_t)(ulen >> 8);
		udp[5] = (uint8_t)ulen;
		udp[6] = udp[7] = 0;
		s->n++;
		s->total += ulen + SHIM_OVERHEAD;
		*at += len;
		if (*at >= from->iov_len) {
			++*part;
			*at = 0;
		}
		if (len < step)
			return;		/* only the last may be shorter */
	}
}

/* Whether the limit of copies lets that many octets more go. */
static bool may_copy(struct lane_peer *peer, uint64_t octets)
{
	uint64_t now = now_ns(), most = PEER_COPIES_S / 10, past = now - peer->copies_ns;

	if (past > 100000000)
		past = 100000000;
	peer->copies += past * PEER_COPIES_S / 1000000000;
	if (peer->copies > most)
		peer->copies = most;
	peer->copies_ns = now;
	if (peer->copies < octets)
		return false;
	peer->copies -= octets;
	return true;
}

/**
 * lane_to_peer() - send a run to an associated host
 * @lane:	with its lock held; it is let go while packets are sealed and sent
 * @sk:		whose it is
 * @run:	of a flow of kind FLOW_PEER: number of the peer, flags, UDP header
 * @before:	where the run begins in the ring; moved to the first that was not sent
 *
 * Return: false if the walk must send the rest, and say what is wrong
 */
bool lane_to_peer(struct lane *lane, struct lane_sock *sk, struct run *run, uint64_t *before)
{
	struct peer_path paths[PEER_PATHS];
	struct sealing sealing;
	uint32_t number, flags, n_paths, rest = 0;
	size_t step = run->segment_size ? run->segment_size : run->payload;
	size_t part = 1, at = 0, sent = 0;
	struct lane_peer *peer;
	struct shim *shim;
	uint8_t ports[4];
	int err = 0, full = 0;

	memcpy(&number, run->flow->headers, sizeof(number));
	memcpy(&flags, run->flow->headers + 4, sizeof(flags));
	memcpy(ports, run->flow->headers + 8, sizeof(ports));
	peer = lane_peer(lane, number);
	if (!peer || !peer->tx || !peer->n_paths)
		return false;
	n_paths = flags & PEER_DUPLICATE || (peer->duplicate && !(flags & PEER_FAILOVER)) ?
		  peer->n_paths : 1;
	sealing.len = step + UDP_HLEN + SHIM_OVERHEAD;
	for (uint32_t i = 0; i < n_paths; i++)
		if (sealing.len <= peer->paths[i].room)
			paths[rest++] = peer->paths[i];
	n_paths = rest;
	if (!n_paths || sealing.len > peer->paths[0].room)
		return false;
	if (n_paths > 1 && !may_copy(peer, (uint64_t)sealing.len * run->segments *
				     (n_paths - 1)))
		n_paths = 1;
	shim = shim_get(peer->tx);
	warm(lane, number, peer);
	while (part < run->n_parts) {
		size_t first = part;
		bool done = false;

		pthread_mutex_unlock(&lane->lock);
		gather_sealing(lane, &sealing, shim, run, step, ports, &part, &at);
		err = sealing.n ? 0 : EOVERFLOW;
		for (uint32_t i = 0; i < n_paths && sealing.n; i++) {
			int v6 = paths[i].family == AF_INET6, fd = -1;

			if (paths[i].kind == FLOW_HOST) {
				pthread_mutex_lock(&lane->lock);
				fd = lane->busy = lane->peers.host[v6];
				pthread_mutex_unlock(&lane->lock);
			}
			err = seal_all(lane, shim, &sealing, paths[i].number);
			if (!err && paths[i].kind == FLOW_HOST && fd < 0)
				err = ENETDOWN;
			if (!err)
				err = send_sealed(lane, &sealing, paths + i, fd);
			if (err == EAGAIN || err == ENOBUFS) {
				full++;
				err = 0;
			}
			done = done || !err;
			pthread_mutex_lock(&lane->lock);
			lane->busy = -1;
			pthread_cond_broadcast(&lane->idle);
			pthread_mutex_unlock(&lane->lock);
		}
		pthread_mutex_lock(&lane->lock);
		lane->counts.host_full += (uint64_t)full * sealing.n;
		full = 0;
		if (!done) {
			*before = run->at[first];
			sk->tx_datagrams += sent;
			break;
		}
		err = 0;
		sent += sealing.n;
	}
	shim_put(shim);
	return part >= run->n_parts && !err;
}
