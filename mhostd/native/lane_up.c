/* lane_up.c - off the TUN and into the rings of sockets (lane.h) */

#include <errno.h>
#include <sched.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lane.h"

/* Whether an entry says what the walk would say now. */
bool lane_counts_still(const struct lane *lane, const struct flow *flow,
		       const struct lane_sock *sk)
{
	return sk && flow->epoch == lane->epoch && flow->sock_epoch == sk->epoch;
}

/* The socket of a flow that comes up, or NULL if the walk must say. */
struct lane_sock *lane_who_gets(struct lane *lane, const struct flow_key *key,
				uint64_t hash, const struct flow **found)
{
	struct flow *flow = flow_find(&lane->up, key, hash);
	struct lane_sock *sk = flow ? lane_sock(lane, flow->slot) : NULL;

	if (!lane_counts_still(lane, flow, sk) ||
	    flow->port_epoch != lane->port_epochs[key->dest])
		return NULL;
	*found = flow;
	return sk;
}

/* The header of the records of a flow that comes up. */
struct record lane_record_of(const struct flow_key *key, const struct flow *flow,
			     uint16_t segment_size)
{
	struct record head = {
		.segment_size = segment_size,
		.family = (uint16_t)key->family,
		.port = key->source,
		.cookie = flow->l3,
		.id_no = flow->id_no,
	};

	memcpy(head.address, key->saddr, sizeof(head.address));
	return head;
}

/* Hand a packet to the walk, each of its segments for itself. */
static void frame_to_walk(struct lane *lane, const struct vnet *vnet, uint32_t ethertype,
			  const uint8_t *packet, size_t len, const uint64_t *hash)
{
	size_t segments = frame_segments(vnet, packet, len);

	for (size_t i = 0; i < segments; i++) {
		size_t octets = frame_segment(vnet, packet, len, i, lane->segment);

		if (!lane_item(lane, ITEM_FRAME, ethertype, lane->segment, octets)) {
			lane->counts.backlog++;
			lane->counts.backlog_bytes += octets;
		} else if (hash) {
			lane->marks[*hash % LANE_MARKS]++;
		}
	}
}

/* A frame to the association port, each of its segments for itself. */
static void frame_encap(struct lane *lane, const struct udp_frame *frame, size_t hlen)
{
	struct lane_encap from = { .family = frame->key.family, .port = frame->key.source };
	size_t step = frame->segment_size ? frame->segment_size : frame->len, at = 0;

	memcpy(from.saddr, frame->key.saddr, sizeof(from.saddr));
	memcpy(from.daddr, frame->key.daddr, sizeof(from.daddr));
	do {
		size_t part = frame->len - at > step ? step : frame->len - at;

		if (lane_encap(lane, &from, frame->payload + at, part)) {
			lane->counts.rx_packets++;
			lane->counts.rx_bytes += hlen + part;
		}
		at += part;
	} while (at < frame->len);
}

/* One frame off the TUN; with the lock. */
static void one_up(struct lane *lane, const uint8_t *octets, size_t len)
{
	size_t prefix = TUN_PI_LEN + (lane->vnet ? VNET_LEN : 0), hlen;
	const struct flow *flow = NULL;
	struct vnet vnet = { 0 };
	struct lane_sock *sk = NULL;
	struct udp_frame frame;
	uint32_t segments;
	uint64_t hash = 0;
	bool udp;

	if (len < prefix)
		return;
	if (lane->vnet)
		vnet_parse(&vnet, octets + TUN_PI_LEN);
	udp = frame_parse(&frame, &vnet, octets + prefix, len - prefix);
	if (udp && lane->peers.port && frame.key.dest == lane->peers.port) {
		frame_encap(lane, &frame, len - prefix - frame.len);
		return;
	}
	if (udp) {
		hash = flow_hash(&lane->up, &frame.key);
		sk = lane_who_gets(lane, &frame.key, hash, &flow);
	}
	if (!sk) {
		frame_to_walk(lane, &vnet, (uint32_t)(octets[2] << 8 | octets[3]),
			      octets + prefix, len - prefix, udp ? &hash : NULL);
		return;
	}
	segments = record_segments(frame.len, frame.segment_size);
	hlen = len - prefix - frame.len;
	lane->counts.rx_packets += segments;
	lane->counts.rx_bytes += frame.len + segments * hlen;
	struct record head = lane_record_of(&frame.key, flow, frame.segment_size);
	struct iovec payload = { (void *)(uintptr_t)frame.payload, frame.len };

	lane_deliver(lane, sk, &head, &payload, 1, segments);
}

/**
 * lane_up() - take frames off the TUN
 * @lane:	without its lock
 * @most:	frames
 *
 * Return: how many there were
 */
size_t lane_up(struct lane *lane, size_t most)
{
	size_t prefix = TUN_PI_LEN + (lane->vnet ? VNET_LEN : 0), n;
	bool crowded = false;

	for (n = 0; n < most && lane->tun_ready && !lane->hold; n++) {
		ssize_t len = read(lane->tun, lane->frame, prefix + FRAME_MAX);

		if (len < 0) {
			lane->tun_ready = false;
			if (errno == EBADFD) {		/* ip link del */
				lane->tun_lost = true;
				lane_notify(lane->walk);
			}
			break;
		}
		pthread_mutex_lock(&lane->lock);
		one_up(lane, lane->frame, (size_t)len);
		if (n % LANE_PUBLISH == LANE_PUBLISH - 1) {
			lane_publish_some(lane);
			crowded = lane->crowded;
			lane->crowded = false;
		}
		pthread_mutex_unlock(&lane->lock);
		if (crowded)
			sched_yield();
		crowded = false;
	}
	if (n) {
		pthread_mutex_lock(&lane->lock);
		lane_publish(lane);
		pthread_mutex_unlock(&lane->lock);
	}
	return n;
}
