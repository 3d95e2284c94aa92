/* lane.c - the sockets of the fast lane, and what is handed to the walk (lane.h) */

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "lane.h"

#ifndef SO_PASSRIGHTS
#define SO_PASSRIGHTS	83	/* asm-generic/socket.h, since Linux 6.16 */
#endif

#define DOORBELL_MAX	64

/**
 * lane_init() - a lane without sockets and without a thread
 * @lane:	zeroed
 * @tun:	descriptor to read frames from and write them to, -1 for none
 * @vnet:	frames have a struct virtio_net_hdr
 * @uso:	super-packets of UDP may be written
 *
 * Return: 0, or -1 with errno set; lane_free() is due then too
 */
int lane_init(struct lane *lane, int tun, bool vnet, bool uso)
{
	lane->epoll = lane->wake = lane->walk = lane->busy = -1;
	pthread_mutex_init(&lane->lock, NULL);
	pthread_cond_init(&lane->drained, NULL);
	pthread_cond_init(&lane->idle, NULL);
	lane->tun = tun;
	lane->vnet = vnet;
	lane->uso = uso;
	lane->tun_ready = tun >= 0;
	lane->epoch = 1;
	lane->epoll = epoll_create1(EPOLL_CLOEXEC);
	lane->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	lane->walk = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	lane->items = malloc(LANE_ITEM_OCTETS);
	lane->frame = malloc((size_t)LANE_HOST_BATCH * (FRAME_MAX + 1));
	lane->segment = malloc(LANE_RECORD_MAX + sizeof(struct lane_encap));
	if (lane->epoll < 0 || lane->wake < 0 || lane->walk < 0 || !lane->items ||
	    !lane->frame || !lane->segment || flow_table_init(&lane->up) ||
	    flow_table_init(&lane->down) || peer_table_init(&lane->peers))
		return -1;
	return 0;
}

void lane_free(struct lane *lane)
{
	for (uint32_t i = 0; i < lane->n_socks; i++)
		if (lane->socks[i])
			lane_sock_del(lane, lane->socks[i]->slot);
	lane_bury(lane);
	for (int i = 0; i < 3; i++) {
		int fd = (int[]){ lane->epoll, lane->wake, lane->walk }[i];

		if (fd >= 0)
			close(fd);
	}
	flow_table_free(&lane->up);
	flow_table_free(&lane->down);
	peer_table_free(&lane->peers);
	free(lane->socks);
	free(lane->active);
	free(lane->touched);
	free(lane->dead);
	free(lane->items);
	free(lane->frame);
	free(lane->segment);
	pthread_cond_destroy(&lane->drained);
	pthread_cond_destroy(&lane->idle);
	pthread_mutex_destroy(&lane->lock);
}

/* Wake whoever waits on an eventfd. */
void lane_notify(int eventfd)
{
	uint64_t one = 1;

	if (write(eventfd, &one, sizeof(one)) < 0)
		return;		/* EAGAIN: it is readable as it is */
}

/* --- sockets */

/* Room for one more in every list that may hold each socket. */
static int grow(struct lane *lane)
{
	uint32_t room = lane->n_socks ? 2 * lane->n_socks : 64;
	struct lane_sock ***lists[] = { &lane->socks, &lane->active, &lane->touched };

	for (size_t i = 0; i < sizeof(lists) / sizeof(*lists); i++) {
		void *more = realloc(*lists[i], room * sizeof(**lists[i]));

		if (!more)
			return -1;
		*lists[i] = more;
	}
	memset(lane->socks + lane->n_socks, 0,
	       (room - lane->n_socks) * sizeof(*lane->socks));
	lane->n_socks = room;
	return 0;
}

/* Whether a descriptor is a memory that nobody can take from under us. */
static bool is_lane(int memfd)
{
	int seals = fcntl(memfd, F_GET_SEALS);
	struct stat st;

	return seals >= 0 && seals & F_SEAL_SHRINK && !fstat(memfd, &st) &&
	       st.st_size == (off_t)LANE_OCTETS;
}

/* Whether a descriptor is an end of a pair that keeps octets apart. */
static bool is_pair(int far)
{
	int type, domain;
	socklen_t len = sizeof(int);

	return !getsockopt(far, SOL_SOCKET, SO_DOMAIN, &domain, &len) &&
	       domain == AF_UNIX && (len = sizeof(int)) &&
	       !getsockopt(far, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_SEQPACKET;
}

/**
 * lane_sock_add() - take over the data of a socket
 * @lane:	with its lock held
 * @memfd:	sealed, LANE_OCTETS; it may be closed afterwards
 * @far:	our end of its socket pair; a duplicate is made
 * @rcvbuf:	octets
 *
 * Return: its slot, or -1 with errno set: EINVAL if a descriptor is not what it should be
 */
int lane_sock_add(struct lane *lane, int memfd, int far, uint32_t rcvbuf)
{
	struct epoll_event event = { .events = EPOLLIN | EPOLLET };
	struct lane_sock *sk;
	uint32_t place = lane->first_free;
	int off = 0;

	if (!is_lane(memfd) || !is_pair(far)) {
		errno = EINVAL;
		return -1;
	}
	while (place < lane->n_socks && lane->socks[place])
		place++;
	if (lane->n_open >= LANE_SOCKS_MAX) {
		errno = ENOMEM;
		return -1;
	}
	if (place == lane->n_socks && grow(lane))
		return -1;
	sk = calloc(1, sizeof(*sk));
	if (!sk)
		return -1;
	sk->epoch = ++lane->sock_epochs;	/* no flow of an earlier socket here counts */
	sk->slot = (sk->epoch << LANE_SLOT_BITS | place) & INT32_MAX;
	sk->rcvbuf = rcvbuf;
	sk->host[0] = sk->host[1] = -1;
	sk->shm = mmap(NULL, LANE_OCTETS, PROT_READ | PROT_WRITE, MAP_SHARED, memfd, 0);
	sk->far = fcntl(far, F_DUPFD_CLOEXEC, 0);
	if (sk->shm == MAP_FAILED || sk->far < 0)
		goto fail;
	ring_open(&sk->rx, sk->shm, false, true);
	ring_open(&sk->tx, sk->shm, true, false);
	if (!ring_sane(&sk->rx, true) || !ring_sane(&sk->tx, false)) {
		errno = EINVAL;
		goto fail;
	}
	event.data.u64 = sk->slot;
	if (epoll_ctl(lane->epoll, EPOLL_CTL_ADD, sk->far, &event))
		goto fail;
	setsockopt(sk->far, SOL_SOCKET, SO_PASSRIGHTS, &off, sizeof(off));
	lane->n_open++;
	lane->socks[place] = sk;
	lane->first_free = place + 1;
	lane_activate(lane, sk);
	return (int)sk->slot;
fail:
	if (sk->shm != MAP_FAILED)
		munmap(sk->shm, LANE_OCTETS);
	if (sk->far >= 0)
		close(sk->far);
	free(sk);
	return -1;
}

/* The socket in a slot, or NULL. */
struct lane_sock *lane_sock(struct lane *lane, uint32_t slot)
{
	uint32_t place = slot & LANE_SLOT_MASK;
	struct lane_sock *sk = place < lane->n_socks ? lane->socks[place] : NULL;

	return sk && sk->slot == slot ? sk : NULL;
}

static void remove_from(struct lane_sock **list, uint32_t *n, const struct lane_sock *sk)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < *n; i++)
		if (list[i] != sk)
			list[kept++] = list[i];
	*n = kept;
}

/**
 * lane_sock_del() - let a socket go
 * @lane:	with its lock held
 * @slot:	a socket's
 *
 * The thread may be writing from its memory at this moment, without the lock; so what it
 * takes up is given back by lane_bury().
 */
void lane_sock_del(struct lane *lane, uint32_t slot)
{
	struct lane_sock *sk = lane_sock(lane, slot);
	uint32_t place = slot & LANE_SLOT_MASK;

	lane_host_del(lane, sk, false);
	lane_host_del(lane, sk, true);
	if (lane->n_dead == lane->room_dead) {
		uint32_t room = lane->room_dead ? 2 * lane->room_dead : 64;
		void *more = realloc(lane->dead, room * sizeof(*lane->dead));

		if (!more)
			return;		/* it stays until the daemon ends */
		lane->dead = more;
		lane->room_dead = room;
	}
	lane->n_open--;
	lane->socks[place] = NULL;
	if (place < lane->first_free)
		lane->first_free = place;
	if (sk->active)
		remove_from(lane->active, &lane->n_active, sk);
	if (sk->touched)
		remove_from(lane->touched, &lane->n_touched, sk);
	sk->broken = true;
	epoll_ctl(lane->epoll, EPOLL_CTL_DEL, sk->far, NULL);
	lane->dead[lane->n_dead++] = sk;
}

/* Give back what sockets took up that are gone; with the lock, while nobody uses them. */
void lane_bury(struct lane *lane)
{
	while (lane->n_dead) {
		struct lane_sock *sk = lane->dead[--lane->n_dead];

		munmap(sk->shm, LANE_OCTETS);
		close(sk->far);
		free(sk);
	}
}

/* --- what the walk is given */

/**
 * lane_item() - hand something to the walk
 * @lane:	with its lock held
 * @kind:	of struct lane_item
 * @what:	of struct lane_item
 * @data:	octets of the packet, or one record
 * @octets:	in @data
 *
 * Return: false if too much waits already
 */
bool lane_item(struct lane *lane, enum lane_item_kind kind, uint32_t what, const void *data,
	       size_t octets)
{
	struct lane_item item = { kind, what, (uint32_t)octets };
	size_t need = sizeof(item) + record_align(octets);
	size_t room = LANE_ITEM_OCTETS - lane->items_used;

	if ((octets && (lane->n_items >= LANE_ITEMS || need + LANE_ITEM_RESERVE > room)) ||
	    need > room) {
		lane->walk_full = true;
		return false;
	}
	lane->n_frames += kind == ITEM_FRAME || kind == ITEM_DATAGRAM || kind == ITEM_OPENED;
	memcpy(lane->items + lane->items_used, &item, sizeof(item));
	if (octets)
		memcpy(lane->items + lane->items_used + sizeof(item), data, octets);
	lane->items_used += need;
	if (!lane->n_items++)
		lane_notify(lane->walk);
	return true;
}

/* The walk is done with records of a socket; those behind them may go. */
void lane_sent(struct lane *lane, struct lane_sock *sk, uint32_t count)
{
	sk->at_walk -= count < sk->at_walk ? count : sk->at_walk;
	if (!sk->at_walk)
		lane_activate(lane, sk);
}

/* --- to applications */

/**
 * lane_deliver() - put datagrams in a socket's ring; published later
 * @lane:	with its lock held
 * @sk:		the socket
 * @head:	of the record; its length is filled in
 * @parts:	of the payload
 * @n_parts:	of them
 * @segments:	datagrams in the payload
 *
 * As in Linux a datagram is let in while the buffer is not full yet.
 */
void lane_deliver(struct lane *lane, struct lane_sock *sk, const struct record *head,
		  const struct iovec *parts, size_t n_parts, uint32_t segments)
{
	struct record copy = *head;
	size_t octets = RECORD_HLEN;
	enum ring_says says;
	uint8_t *at = NULL;

	for (size_t i = 0; i < n_parts; i++)
		octets += parts[i].iov_len;
	if (!sk->broken && (sk->rx.pos - sk->rx.other < sk->rcvbuf ||
			    ring_used(&sk->rx) < sk->rcvbuf))
		at = ring_reserve(&sk->rx, octets, &says);
	if (!at) {
		lane->counts.rcvbuff += segments;
		sk->rx_drops += segments;
		return;
	}
	if (sk->rx.pos - sk->rx.other > sk->rcvbuf / 2)
		lane->crowded = true;	/* as far as we have looked */
	copy.length = (uint32_t)octets;
	memcpy(at, &copy, sizeof(copy));
	at += sizeof(copy);
	for (size_t i = 0; i < n_parts; i++) {
		memcpy(at, parts[i].iov_base, parts[i].iov_len);
		at += parts[i].iov_len;
	}
	ring_commit(&sk->rx, octets);
	lane->counts.delivered += segments;
	sk->rx_datagrams += segments;
	if (!sk->touched) {
		sk->touched = true;
		lane->touched[lane->n_touched++] = sk;
	}
}

/**
 * lane_put() - put a record that the walk has made in a socket's ring; published later
 * @lane:	with its lock held
 * @sk:		the socket
 * @record:	header and payload
 * @octets:	of it, without padding
 *
 * Return: false if there is no room; the receive buffer's limit is the walk's to see
 */
bool lane_put(struct lane *lane, struct lane_sock *sk, const void *record, size_t octets)
{
	enum ring_says says;
	uint8_t *at = sk->broken ? NULL : ring_reserve(&sk->rx, octets, &says);

	if (!at)
		return false;
	memcpy(at, record, octets);
	ring_commit(&sk->rx, octets);
	if (!sk->touched) {
		sk->touched = true;
		lane->touched[lane->n_touched++] = sk;
	}
	return true;
}

/* Have applications see what was put in their rings, those that are awake. */
void lane_publish_some(struct lane *lane)
{
	for (uint32_t i = 0; i < lane->n_touched; i++)
		ring_publish(&lane->touched[i]->rx);
}

/* Have applications see what was put in their rings. */
void lane_publish(struct lane *lane)
{
	for (uint32_t i = 0; i < lane->n_touched; i++) {
		struct lane_sock *sk = lane->touched[i];

		sk->touched = false;
		ring_publish(&sk->rx);
		if (!ring_all_taken(&sk->rx) && ring_wanted(&sk->rx.ctl->wake))
			send(sk->far, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	}
	lane->n_touched = 0;
}

/* --- from applications */

/* Have the thread look at what a socket wants to send. */
void lane_activate(struct lane *lane, struct lane_sock *sk)
{
	if (!sk->active && !sk->broken) {
		sk->active = true;
		lane->active[lane->n_active++] = sk;
	}
}

void lane_deactivate(struct lane *lane, uint32_t at)
{
	lane->active[at]->active = false;
	lane->active[at] = lane->active[--lane->n_active];
}

/* Take the octets of a socket's doorbell off, unless they say that it waits for room. */
void lane_doorbell(struct lane_sock *sk)
{
	char octets[8];

	if (atomic_load(&sk->tx.ctl->room)) {
		if (atomic_load(&sk->tx.ctl->head) - sk->tx.pos > RING_OCTETS / 2) {
			sk->undrained = true;
			return;
		}
		atomic_store(&sk->tx.ctl->room, 0);
	}
	sk->undrained = false;
	/* Their number is bounded by our end's buffer, unless more come at the same time. */
	for (int i = 0; i < DOORBELL_MAX; i++)
		if (recv(sk->far, octets, sizeof(octets), MSG_DONTWAIT) <= 0)
			break;
}
