/* lane_down.c - out of the rings of sockets, to the TUN, the host kernel or another (lane.h) */

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "csum.h"
#include "lane.h"
#include "lane_run.h"
#include "udp.h"

#define PREFIX_MAX	(TUN_PI_LEN + VNET_LEN)

static const uint16_t ETH_P_IP = 0x0800, ETH_P_IPV6 = 0x86dd;

/* What a flow down is found by: the socket, and the record's destination. */
struct down_key {
	uint32_t slot;
	uint16_t family;
	uint16_t port;
	uint8_t address[16];
	uint32_t id_no;
	uint32_t scope_id;
	uint32_t connected;
	uint32_t zero;
};

_Static_assert(sizeof(struct down_key) == FLOW_KEY, "a key of the way down");

static struct down_key key_of(const struct lane_sock *sk, const struct record *head)
{
	struct down_key key = { .slot = sk->slot };

	if (head->flags & RECORD_CONNECTED) {
		key.connected = 1;	/* the address is not looked at */
		return key;
	}
	key.family = head->family;
	key.port = head->port;
	memcpy(key.address, head->address, sizeof(key.address));
	key.id_no = head->id_no;
	key.scope_id = head->scope_id;
	return key;
}

/* The flow that a record takes, or NULL if it is for the walk. */
static const struct flow *way_of(struct lane *lane, const struct lane_sock *sk,
				 const struct record *head)
{
	size_t payload = head->length - RECORD_HLEN;
	struct down_key key = key_of(sk, head);
	const struct flow *flow;

	if (head->flags & ~RECORD_CONNECTED)
		return NULL;
	flow = flow_find(&lane->down, &key, flow_hash(&lane->down, &key));
	if (!flow || !lane_counts_still(lane, flow, sk))
		return NULL;
	if (head->segment_size) {
		if (head->segment_size > flow->segment_max ||
		    payload > RECORD_PAYLOAD_MAX ||
		    record_segments(payload, head->segment_size) > LANE_SEGMENTS ||
		    (flow->kind == FLOW_TUN && !lane->uso))
			return NULL;
	} else if (payload > flow->payload_max) {
		return NULL;
	}
	return flow;
}

static void run_add(struct run *run, uint64_t at, const uint8_t *payload, size_t octets)
{
	run->at[run->n_parts] = at;
	run->parts[run->n_parts].iov_base = (void *)(uintptr_t)payload;
	run->parts[run->n_parts++].iov_len = octets;
	run->payload += octets;
}

/* Whether a record has the destination of a run. */
static bool same_way(const struct record *a, const struct record *b)
{
	if (a->flags != b->flags)
		return false;
	if (a->flags & RECORD_CONNECTED)
		return true;
	return a->family == b->family && a->port == b->port && a->id_no == b->id_no &&
	       a->scope_id == b->scope_id &&
	       !memcmp(a->address, b->address, sizeof(a->address));
}

/* Take the records that go out together with the first one; it is at @payload. */
static void gather(struct lane *lane, struct lane_sock *sk, struct run *run,
		   const uint8_t *payload)
{
	size_t first = run->head.length - RECORD_HLEN;
	struct record next = run->head;
	enum ring_says says;

	run->n_parts = 1;
	run->payload = 0;
	run->segment_size = run->head.segment_size;
	run->segments = record_segments(first, run->segment_size);
	run_add(run, sk->tx.pos, payload, first);
	ring_pop(&sk->tx, &next);
	if (run->segment_size || !first || first > run->flow->segment_max ||
	    (run->flow->kind == FLOW_TUN && !lane->uso))
		return;
	while (run->segments < LANE_RUN && run->payload + first <= RECORD_PAYLOAD_MAX) {
		size_t octets;

		payload = ring_front(&sk->tx, &next, &says);
		if (!payload || next.segment_size || !same_way(&run->head, &next))
			break;
		octets = next.length - RECORD_HLEN;
		if (!octets || octets > first)
			break;
		run_add(run, sk->tx.pos, payload, octets);
		ring_pop(&sk->tx, &next);
		run->segments++;
		if (octets < first)
			break;
	}
	if (run->segments > 1)
		run->segment_size = (uint16_t)first;
}

/* Octets of the packets that a run becomes. */
static uint64_t run_bytes(const struct run *run)
{
	return run->payload + (uint64_t)run->segments * run->flow->hlen;
}

/* Write a run to the TUN; 0 or errno. */
int lane_write_tun(const struct lane *lane, struct run *run)
{
	size_t hlen = run->flow->hlen, l3 = hlen - UDP_HLEN, prefix = TUN_PI_LEN;
	uint8_t octets[PREFIX_MAX + FRAME_HLEN_MAX] = { 0 };
	struct vnet vnet = { 0 };
	uint16_t type = run->flow->family == AF_INET ? ETH_P_IP : ETH_P_IPV6;
	uint8_t *headers;

	octets[2] = (uint8_t)(type >> 8);
	octets[3] = (uint8_t)type;
	if (lane->vnet)
		prefix += VNET_LEN;
	headers = octets + prefix;
	memcpy(headers, run->flow->headers, hlen);
	frame_headers(headers, hlen, run->flow->family, run->payload);
	if (run->segments > 1) {
		vnet = (struct vnet){ VNET_NEEDS_CSUM, VNET_GSO_UDP_L4, (uint16_t)hlen,
				      run->segment_size, (uint16_t)l3, UDP_AT_CHECK };
	} else {
		uint8_t *check = headers + l3 + UDP_AT_CHECK;
		uint16_t sum = csum_fold(headers + l3, UDP_HLEN, 0);

		sum = (uint16_t)~csum_fold(run->parts[1].iov_base, run->payload, sum);
		if (!sum)
			sum = 0xffff;	/* RFC 768: 0 says "no checksum" */
		check[0] = (uint8_t)(sum >> 8);
		check[1] = (uint8_t)sum;
	}
	if (lane->vnet)
		vnet_emit(&vnet, octets + TUN_PI_LEN);
	run->parts[0] = (struct iovec){ octets, prefix + hlen };
	return writev(lane->tun, run->parts, (int)run->n_parts) < 0 ? errno : 0;
}

/* Count a run that was written to the TUN, or was not; with the lock. */
void lane_tun_done(struct lane *lane, const struct run *run, int err)
{
	if (!err) {
		lane->counts.tx_packets += run->segments;
		lane->counts.tx_bytes += run_bytes(run);
	} else if (err == EAGAIN || err == ENOBUFS) {
		lane->counts.tx_full += run->segments;
	} else {
		lane->counts.tx_failed += run->segments;
	}
}

/**
 * to_tun() - write a run to the TUN
 *
 * Without the lock, which the write would hold too long: the thread alone releases what
 * it has taken from a ring, and a socket that is gone keeps its memory until lane_bury().
 *
 * Return: true, it is done with
 */
static bool to_tun(struct lane *lane, struct run *run)
{
	struct flow flow = *run->flow;	/* the table may change meanwhile */
	int err;

	run->flow = &flow;
	pthread_mutex_unlock(&lane->lock);
	err = lane_write_tun(lane, run);
	pthread_mutex_lock(&lane->lock);
	lane_tun_done(lane, run, err);
	return true;
}

/**
 * to_host() - send a run through the host kernel's UDP, without the lock as to_tun()
 * @before:	where the run begins in the ring; moved to the first that was not sent
 *
 * Return: false if the walk must send the rest, and say what is wrong
 */
static bool to_host(struct lane *lane, struct lane_sock *sk, struct run *run,
		    uint64_t *before)
{
	struct flow flow = *run->flow;
	int fd = sk->host[flow.family == AF_INET6], err;
	size_t sent = 0;

	if (fd < 0)
		return false;
	run->flow = &flow;
	lane->busy = fd;
	pthread_mutex_unlock(&lane->lock);
	err = lane_host_down(fd, &flow, run->parts + 1, run->n_parts - 1,
			     run->segment_size, NULL, 0, &sent);
	pthread_mutex_lock(&lane->lock);
	lane->busy = -1;
	pthread_cond_broadcast(&lane->idle);
	if (err == EAGAIN || err == ENOBUFS) {	/* as a full device queue */
		lane->counts.host_full += run->segments - sent;
		return true;
	}
	if (!err)
		return true;
	*before = run->at[1 + sent];
	sk->tx_datagrams += sent;
	return false;
}

/* Give a run to another socket of ours; false if the walk must say whose it is. */
static bool to_socket(struct lane *lane, const struct run *run)
{
	const uint8_t *headers = run->flow->headers;
	const uint8_t *udp = headers + run->flow->hlen - UDP_HLEN;
	struct flow_key key = { .family = run->flow->family };
	const struct flow *flow;
	struct lane_sock *sk;
	struct record head;

	if (key.family == AF_INET) {
		memcpy(key.saddr, headers + 12, 4);
		memcpy(key.daddr, headers + 16, 4);
	} else {
		memcpy(key.saddr, headers + 8, 16);
		memcpy(key.daddr, headers + 24, 16);
	}
	key.source = (uint16_t)(udp[0] << 8 | udp[1]);
	key.dest = (uint16_t)(udp[2] << 8 | udp[3]);
	sk = lane_who_gets(lane, &key, flow_hash(&lane->up, &key), &flow);
	if (!sk)
		return false;
	head = lane_record_of(&key, flow, run->segment_size);
	lane->counts.lo_packets += run->segments;
	lane->counts.lo_bytes += run_bytes(run);
	lane_deliver(lane, sk, &head, run->parts + 1, run->n_parts - 1, run->segments);
	return true;
}

/* A socket whose memory has nonsense in it: the walk closes it. */
static void give_up(struct lane *lane, struct lane_sock *sk)
{
	sk->broken = true;
	lane_item(lane, ITEM_GONE, sk->slot, NULL, 0);
}

/* Hand the first record, and those behind it that no flow takes, to the walk. */
static void records_to_walk(struct lane *lane, struct lane_sock *sk, struct record *head,
			    const uint8_t *payload)
{
	uint8_t *room = lane->segment;
	enum ring_says says;

	do {
		if (head->length > LANE_RECORD_MAX) {
			give_up(lane, sk);
			break;
		}
		memcpy(room, head, RECORD_HLEN);
		memcpy(room + RECORD_HLEN, payload, head->length - RECORD_HLEN);
		if (!lane_item(lane, ITEM_RECORDS, sk->slot, room, head->length))
			break;		/* later: the walk asks for more */
		ring_pop(&sk->tx, head);
		sk->at_walk++;
		payload = ring_front(&sk->tx, head, &says);
	} while (payload && sk->at_walk < LANE_BATCH && !way_of(lane, sk, head));
	ring_release(&sk->tx);
}

/* The application waits for room, and half of the ring is free again. */
static void tell_room(struct lane_sock *sk)
{
	if (sk->undrained || atomic_load_explicit(&sk->tx.ctl->room, memory_order_relaxed))
		lane_doorbell(sk);
}

/* What flow_add() is given for a record of a socket. */
void lane_down_key(const struct lane_sock *sk, const struct record *head, uint8_t *key)
{
	struct down_key down = key_of(sk, head);

	memcpy(key, &down, sizeof(down));
}

/**
 * down_sock() - send what one socket has put in its ring
 * @lane:	with its lock held; it is let go while a frame is written
 * @sk:		the socket
 *
 * Return: how many records it was; 0 if there is nothing to be done now
 */
static size_t down_sock(struct lane *lane, struct lane_sock *sk)
{
	struct run run;
	size_t done = 0;

	while (done < LANE_BUDGET && !sk->at_walk && !sk->broken) {
		enum ring_says says;
		const uint8_t *payload = ring_front(&sk->tx, &run.head, &says);
		uint64_t before = sk->tx.pos;
		bool sent;

		if (!payload) {
			if (says == RING_BROKEN)
				give_up(lane, sk);
			break;
		}
		run.flow = way_of(lane, sk, &run.head);
		if (!run.flow) {
			records_to_walk(lane, sk, &run.head, payload);
			done += sk->at_walk;
			break;
		}
		gather(lane, sk, &run, payload);
		if (run.flow->kind == FLOW_LO)
			sent = to_socket(lane, &run);
		else if (run.flow->kind == FLOW_TUN)
			sent = to_tun(lane, &run);
		else if (run.flow->kind == FLOW_PEER)
			sent = lane_to_peer(lane, sk, &run, &before);
		else
			sent = to_host(lane, sk, &run, &before);
		if (!sent) {
			sk->tx.pos = before;
			payload = ring_front(&sk->tx, &run.head, &says);
			if (!payload) {		/* it was changed under us */
				give_up(lane, sk);
				break;
			}
			records_to_walk(lane, sk, &run.head, payload);
			done += sk->at_walk;
			break;
		}
		done += run.n_parts - 1;
		sk->tx_datagrams += run.segments;
		ring_release(&sk->tx);
		tell_room(sk);
	}
	tell_room(sk);
	return done;
}

/**
 * lane_down() - send what applications have put in their rings
 * @lane:	without its lock
 * @keep:	so many sockets are soon looked at again
 *
 * Another socket that has nothing left asks for a doorbell and leaves the queue.
 *
 * Return: how many records it was
 */
size_t lane_down(struct lane *lane, uint32_t keep)
{
	size_t done = 0;

	pthread_mutex_lock(&lane->lock);
	for (uint32_t i = 0; i < lane->n_active;) {
		struct lane_sock *sk = lane->active[i];
		size_t n = down_sock(lane, sk);

		done += n;
		if (lane->n_waiting)
			pthread_cond_broadcast(&lane->drained);
		pthread_mutex_unlock(&lane->lock);	/* others wait for it, too */
		pthread_mutex_lock(&lane->lock);
		if (i >= lane->n_active || lane->active[i] != sk)
			continue;	/* it was let go meanwhile */
		if (n && !sk->at_walk && !sk->broken) {
			i++;
			continue;
		}
		if (!sk->at_walk && !sk->broken) {
			if (lane->n_active <= keep) {
				i++;
				continue;
			}
			ring_want(&sk->tx.ctl->wake);
			if (!ring_empty(&sk->tx)) {
				i++;
				continue;
			}
		}
		lane_deactivate(lane, i);
	}
	lane_publish(lane);
	pthread_mutex_unlock(&lane->lock);
	return done;
}

/**
 * lane_drain() - wait until what a socket has put in its ring by now has gone
 * @lane:	with its lock held; it is let go meanwhile
 * @sk:		the socket
 * @timeout_ms:	for how long
 *
 * Return: true if it has gone; false if the walk has some of it, or the time is up
 */
bool lane_drain(struct lane *lane, struct lane_sock *sk, uint32_t timeout_ms)
{
	uint64_t target = atomic_load(&sk->tx.ctl->head);
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += (long)timeout_ms % 1000 * 1000000;
	until.tv_sec += timeout_ms / 1000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (!sk->at_walk && !sk->broken &&
	       target - sk->tx.released - 1 < RING_OCTETS) {
		int err;

		lane_activate(lane, sk);
		lane_notify(lane->wake);
		lane->n_waiting++;
		err = pthread_cond_timedwait(&lane->drained, &lane->lock, &until);
		lane->n_waiting--;
		if (err)
			return false;
	}
	return !sk->at_walk;
}
