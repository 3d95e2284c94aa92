/* lane_host.c - the host kernel's UDP sockets in the fast lane
 *
 * The descriptors are the walk's (mhostd/host_udp.py). The thread uses one at a time
 * without the lock and says so in `busy`, so that who closes it can wait for that.
 */

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "lane.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT	103	/* linux/udp.h */
#endif
#ifndef UDP_GRO
#define UDP_GRO		104
#endif

/* What epoll says of a socket of the host kernel: its slot, and which one it is. */
static uint64_t event_of(const struct lane_sock *sk, bool v6)
{
	return (uint64_t)sk->slot | (uint64_t)(v6 ? 2 : 1) << 32;
}

/* Have the thread look at a socket of the host kernel; 0 or -1 with errno set. */
int lane_host_watch(struct lane *lane, struct lane_sock *sk, bool v6)
{
	struct epoll_event event = { .events = EPOLLIN, .data.u64 = event_of(sk, v6) };

	if (sk->host[v6] < 0)
		return 0;
	return epoll_ctl(lane->epoll, EPOLL_CTL_ADD, sk->host[v6], &event);
}

/**
 * lane_host_add() - receive and send through a socket of the host kernel
 * @lane:	with its lock held
 * @sk:		whose it is
 * @v6:		AF_INET6, else AF_INET
 * @fd:		non-blocking; it stays the caller's, who calls lane_host_del() first
 *
 * What the kernel has put together from several datagrams (UDP_GRO) comes in one piece
 * from now on.
 *
 * Return: 0, or -1 with errno set
 */
int lane_host_add(struct lane *lane, struct lane_sock *sk, bool v6, int fd)
{
	int on = 1;

	if (setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof(on)))
		return -1;
	sk->host[v6] = fd;
	if (!lane_host_watch(lane, sk, v6))
		return 0;
	sk->host[v6] = -1;
	return -1;
}

/* Leave a socket of the host kernel alone; when this returns it may be closed. */
void lane_host_del(struct lane *lane, struct lane_sock *sk, bool v6)
{
	int fd = sk->host[v6];

	if (fd < 0)
		return;
	sk->host[v6] = -1;
	epoll_ctl(lane->epoll, EPOLL_CTL_DEL, fd, NULL);
	while (lane->busy == fd)
		pthread_cond_wait(&lane->idle, &lane->lock);
}

/* Its error queue has something: the walk takes it off, then watches it again. */
void lane_host_error(struct lane *lane, struct lane_sock *sk, bool v6)
{
	if (sk->host[v6] < 0)
		return;
	if (lane_item(lane, v6 ? ITEM_HOST6 : ITEM_HOST, sk->slot, NULL, 0))
		epoll_ctl(lane->epoll, EPOLL_CTL_DEL, sk->host[v6], NULL);
}

/* --- up */

/* What a flow of the host kernel is found by: the source, and the socket in `daddr`. */
void lane_host_key(struct flow_key *key, uint32_t slot, uint32_t scope_id)
{
	memset(key->daddr, 0, sizeof(key->daddr));
	memcpy(key->daddr, &slot, sizeof(slot));
	memcpy(key->daddr + 4, &scope_id, sizeof(scope_id));
	key->dest = 0;
	key->family |= LANE_HOST_FAMILY;
}

static struct record source_of(const struct sockaddr_storage *from)
{
	struct record head = { .family = from->ss_family };

	if (from->ss_family == AF_INET) {
		const struct sockaddr_in *in = (const void *)from;

		head.port = ntohs(in->sin_port);
		memcpy(head.address, &in->sin_addr, 4);
	} else {
		const struct sockaddr_in6 *in6 = (const void *)from;

		head.port = ntohs(in6->sin6_port);
		memcpy(head.address, &in6->sin6_addr, 16);
		head.scope_id = in6->sin6_scope_id;
	}
	return head;
}

static uint16_t gro_size(struct msghdr *msg)
{
	for (struct cmsghdr *c = CMSG_FIRSTHDR(msg); c; c = CMSG_NXTHDR(msg, c)) {
		int size;

		if (c->cmsg_level != SOL_UDP || c->cmsg_type != UDP_GRO)
			continue;
		memcpy(&size, CMSG_DATA(c), sizeof(size));
		return (uint16_t)size;
	}
	return 0;
}

/* Hand what the kernel received to the walk, each datagram for itself. */
static void datagram_to_walk(struct lane *lane, const struct lane_sock *sk, struct record head,
			     const uint8_t *payload, size_t octets, uint16_t step,
			     uint64_t hash)
{
	size_t at = 0;

	do {
		size_t part = step && octets - at > step ? step : octets - at;

		head.length = (uint32_t)(RECORD_HLEN + part);
		memcpy(lane->segment, &head, sizeof(head));
		memcpy(lane->segment + RECORD_HLEN, payload + at, part);
		if (lane_item(lane, ITEM_DATAGRAM, sk->slot, lane->segment, head.length))
			lane->marks[hash % LANE_MARKS]++;
		else
			lane->counts.host_backlog++;
		at += part;
	} while (at < octets);
}

/* One message of the kernel; with the lock. */
static void one_host_up(struct lane *lane, struct lane_sock *sk, struct msghdr *msg,
			size_t octets)
{
	struct record head = source_of(msg->msg_name);
	struct flow_key key = { .source = head.port, .family = head.family };
	uint16_t step = gro_size(msg);
	struct iovec payload = { msg->msg_iov->iov_base, octets };
	const struct flow *flow;
	uint32_t segments;
	uint64_t hash;

	memcpy(key.saddr, head.address, sizeof(key.saddr));
	lane_host_key(&key, sk->slot, head.scope_id);
	hash = flow_hash(&lane->up, &key);
	if (step >= octets)
		step = 0;
	if (lane_who_gets(lane, &key, hash, &flow) != sk) {
		datagram_to_walk(lane, sk, head, payload.iov_base, octets, step, hash);
		return;
	}
	head.segment_size = step;
	head.cookie = flow->l3;
	head.id_no = flow->id_no;
	segments = record_segments(octets, step);
	lane->counts.host_packets += segments;
	lane_deliver(lane, sk, &head, &payload, 1, segments);
}

/**
 * lane_host_up() - take what a socket of the host kernel has received
 * @lane:	without its lock
 * @slot:	whose it is
 * @v6:		which one
 *
 * Return: how many messages it was
 */
size_t lane_host_up(struct lane *lane, uint32_t slot, bool v6)
{
	struct sockaddr_storage names[LANE_HOST_BATCH];
	uint8_t controls[LANE_HOST_BATCH][64];
	struct mmsghdr msgs[LANE_HOST_BATCH];
	struct iovec parts[LANE_HOST_BATCH];
	struct lane_sock *sk;
	int fd, n, err;

	pthread_mutex_lock(&lane->lock);
	sk = lane_sock(lane, slot);
	fd = sk && !lane->hold ? sk->host[v6] : -1;
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
	if (sk == lane_sock(lane, slot) && sk->host[v6] == fd) {
		for (int i = 0; i < n; i++)
			one_host_up(lane, sk, &msgs[i].msg_hdr, msgs[i].msg_len);
		if (n < 0 && err != EAGAIN && err != EINTR)
			lane_host_error(lane, sk, v6);
	}
	lane_publish(lane);
	pthread_mutex_unlock(&lane->lock);
	return n > 0 ? (size_t)n : 0;
}

/* --- down */

/**
 * lane_host_down() - send datagrams of one size, the last of which may be shorter
 * @fd:		a socket of the host kernel
 * @flow:	where to
 * @parts:	of the payload
 * @n_parts:	of them
 * @segment_size: octets of each datagram, 0 if it is one
 * @pin:	control messages, at most PEER_CONTROL octets, that go with each
 * @pin_len:	of them
 * @sent:	how many parts were sent when an errno is returned
 *
 * Where the kernel does not take them in one piece (UDP_SEGMENT) they go one by one.
 *
 * Return: 0 or errno
 */
int lane_host_down(int fd, const struct flow *flow, struct iovec *parts, size_t n_parts,
		   uint16_t segment_size, const void *pin, size_t pin_len, size_t *sent)
{
	union {
		struct cmsghdr align;
		uint8_t octets[PEER_CONTROL + CMSG_SPACE(sizeof(uint16_t))];
	} control = { 0 };
	struct msghdr msg = {
		.msg_name = (void *)(uintptr_t)flow->headers, .msg_namelen = flow->hlen,
		.msg_iov = parts, .msg_iovlen = n_parts,
	};
	struct cmsghdr *c;

	*sent = 0;
	if (pin_len) {
		memcpy(control.octets, pin, pin_len);
		msg.msg_control = control.octets;
		msg.msg_controllen = pin_len;
	}
	if (segment_size) {
		c = (struct cmsghdr *)(void *)(control.octets + pin_len);
		msg.msg_control = control.octets;
		msg.msg_controllen = pin_len + CMSG_SPACE(sizeof(segment_size));
		c->cmsg_level = SOL_UDP;
		c->cmsg_type = UDP_SEGMENT;
		c->cmsg_len = CMSG_LEN(sizeof(segment_size));
		memcpy(CMSG_DATA(c), &segment_size, sizeof(segment_size));
	}
	if (sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
		return 0;
	if (!segment_size || n_parts < 2 || errno == EAGAIN || errno == ENOBUFS)
		return errno;
	msg.msg_control = pin_len ? control.octets : NULL;
	msg.msg_controllen = pin_len;
	msg.msg_iovlen = 1;
	for (; *sent < n_parts; ++*sent) {
		msg.msg_iov = parts + *sent;
		if (sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
			return errno;
	}
	return 0;
}
