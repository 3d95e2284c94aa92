/* ring.c - records between two processes that share memory (ring.h) */

#include <string.h>

#include "ring.h"

#define MASK	((uint64_t)RING_OCTETS - 1)

/**
 * ring_open() - begin where the shared positions stand
 * @r:		to fill in
 * @lane:	LANE_OCTETS of shared memory, at a page
 * @tx:		the ring from the application to the daemon, else the other one
 * @producer:	we put, else we take
 */
void ring_open(struct ring *r, void *lane, bool tx, bool producer)
{
	uint8_t *base = lane;

	r->ctl = (struct ring_ctl *)(void *)(base + (tx ? sizeof(struct ring_ctl) : 0));
	r->data = base + LANE_HEAD + (tx ? RING_OCTETS : 0);
	r->pos = atomic_load(producer ? &r->ctl->head : &r->ctl->tail);
	r->other = atomic_load(producer ? &r->ctl->tail : &r->ctl->head);
	r->released = r->pos;
}

/**
 * ring_sane() - whether positions found in shared memory can be those of a ring
 * @r:		just opened
 * @producer:	by the producer, else by the consumer
 */
bool ring_sane(const struct ring *r, bool producer)
{
	uint64_t used = producer ? r->pos - r->other : r->other - r->pos;

	return used <= RING_OCTETS && !(r->pos % RECORD_ALIGN) &&
	       !(r->other % RECORD_ALIGN);
}

/* Believe the consumer's position if it lies between the last one and ours. */
static bool see_tail(struct ring *r)
{
	uint64_t tail = atomic_load_explicit(&r->ctl->tail, memory_order_acquire);

	if (tail - r->other > r->pos - r->other || tail % RECORD_ALIGN)
		return false;
	r->other = tail;
	return true;
}

/**
 * ring_reserve() - room for one record, header included
 * @r:		of a producer
 * @octets:	RECORD_HLEN and the payload
 * @says:	RING_WAIT if there is no room now, RING_BROKEN if the other side writes
 *		nonsense
 *
 * Return: where to write it, aligned to RECORD_ALIGN; NULL if @says is not RING_OK
 */
uint8_t *ring_reserve(struct ring *r, size_t octets, enum ring_says *says)
{
	uint64_t need = record_align(octets);
	uint64_t to_end = RING_OCTETS - (r->pos & MASK);
	uint64_t total = need > to_end ? need + to_end : need;

	*says = RING_OK;
	if (r->pos + total - r->other > RING_OCTETS) {
		if (!see_tail(r)) {
			*says = RING_BROKEN;
			return NULL;
		}
		if (r->pos + total - r->other > RING_OCTETS) {
			*says = RING_WAIT;
			return NULL;
		}
	}
	if (need > to_end) {
		uint32_t length = (uint32_t)to_end;
		uint16_t flags = RECORD_PAD;

		memcpy(r->data + (r->pos & MASK), &length, sizeof(length));
		memcpy(r->data + (r->pos & MASK) + sizeof(length), &flags, sizeof(flags));
		r->pos += to_end;
	}
	return r->data + (r->pos & MASK);
}

/* The record that ring_reserve() made room for is written; nobody sees it yet. */
void ring_commit(struct ring *r, size_t octets)
{
	r->pos += record_align(octets);
}

/* The consumer sees what was committed. */
void ring_publish(struct ring *r)
{
	atomic_store_explicit(&r->ctl->head, r->pos, memory_order_release);
}

/* Octets that the consumer has not taken yet; all of the ring if it writes nonsense. */
size_t ring_used(struct ring *r)
{
	return see_tail(r) ? (size_t)(r->pos - r->other) : RING_OCTETS;
}

/* Believe the producer's position if it lies between ours and a full ring. */
static bool see_head(struct ring *r)
{
	uint64_t head = atomic_load_explicit(&r->ctl->head, memory_order_acquire);

	if (head - r->pos > RING_OCTETS || head % RECORD_ALIGN)
		return false;
	r->other = head;
	return true;
}

/**
 * ring_front() - the oldest record
 * @r:		of a consumer
 * @header:	a copy of its header, which the other side can no longer change; its
 *		length is checked against what has been put
 * @says:	RING_WAIT if there is none, RING_BROKEN if there is nonsense
 *
 * Return: its payload, @header->length less RECORD_HLEN octets that the other side may
 * still change; NULL if @says is not RING_OK
 */
const uint8_t *ring_front(struct ring *r, struct record *header, enum ring_says *says)
{
	for (;;) {
		const uint8_t *at = r->data + (r->pos & MASK);
		uint64_t to_end = RING_OCTETS - (r->pos & MASK);
		uint64_t most;

		*says = RING_OK;
		if (r->pos == r->other) {
			if (!see_head(r))
				break;
			if (r->pos == r->other) {
				*says = RING_WAIT;
				return NULL;
			}
		}
		most = r->other - r->pos < to_end ? r->other - r->pos : to_end;
		memcpy(header, at, RECORD_ALIGN);	/* length, flags, segment size */
		if (header->flags & RECORD_PAD) {
			/* None is as long as the ring: at its start every record fits. */
			if (header->length != to_end || to_end > r->other - r->pos ||
			    to_end == RING_OCTETS)
				break;
			r->pos += to_end;
			continue;
		}
		if (header->length < RECORD_HLEN || record_align(header->length) > most)
			break;
		memcpy((uint8_t *)header + RECORD_ALIGN, at + RECORD_ALIGN,
		       RECORD_HLEN - RECORD_ALIGN);
		return at + RECORD_HLEN;
	}
	*says = RING_BROKEN;
	return NULL;
}

/* Step over the record that ring_front() gave; the producer does not see it yet. */
void ring_pop(struct ring *r, const struct record *header)
{
	r->pos += record_align(header->length);
}

/* The producer may use the room again. */
void ring_release(struct ring *r)
{
	r->released = r->pos;
	atomic_store_explicit(&r->ctl->tail, r->pos, memory_order_release);
}

/* Whether there is nothing to take, as far as the producer says now. */
bool ring_empty(struct ring *r)
{
	return r->pos == r->other &&
	       atomic_load_explicit(&r->ctl->head, memory_order_acquire) == r->pos;
}
