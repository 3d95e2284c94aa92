/* ring.h - records between two processes that share memory and do not trust each other
 *
 * A socket has one sealed memfd of LANE_OCTETS, made by the application:
 *
 *   octet 0      struct ring_ctl rx: the daemon puts, the application takes
 *         256    struct ring_ctl tx: the application puts, the daemon takes
 *         4096   RING_OCTETS of records for rx
 *         4096 + RING_OCTETS     the same for tx
 *
 * Positions count octets ever put and never wrap; a record stands at its position modulo
 * RING_OCTETS and never reaches over the end: there a pad record (RECORD_PAD, of which
 * only `length` and `flags` are there) leads to the start. Whoever reads a position of
 * the other side compares it with its own before it believes it.
 *
 * Waking, for both directions: whoever finds nothing to do sets a flag and looks again;
 * whoever has something for it publishes that, clears the flag and, if it was set, sends
 * one octet on the socket pair. `wake` is for who waits for records, `room` for who waits
 * for room. The daemon sends none for records that were taken before it came to that, as
 * the application's end is readable only while there is something.
 */
#ifndef MHOSTD_RING_H
#define MHOSTD_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "record.h"

#define RING_OCTETS	(1u << 20)
#define LANE_HEAD	4096
#define LANE_OCTETS	(LANE_HEAD + 2 * (size_t)RING_OCTETS)

/**
 * struct ring_ctl - what both sides see of one ring
 * @head:	octets ever put; written by the producer
 * @wake:	the consumer wants to be woken by the next record
 * @errors:	of rx: errors of this socket that were told over ZeroMQ so far
 * @tail:	octets ever taken; written by the consumer
 * @room:	the producer wants to be woken when there is room
 */
struct ring_ctl {
	_Alignas(64) _Atomic uint64_t head;
	_Alignas(64) _Atomic uint64_t tail;
	_Alignas(64) _Atomic uint32_t wake;
	_Atomic uint32_t errors;
	_Alignas(64) _Atomic uint32_t room;
};

_Static_assert(sizeof(struct ring_ctl) == 256, "struct ring_ctl is the wire");

/**
 * struct ring - one side's own view; the other side cannot change it
 * @ctl:	in shared memory
 * @data:	in shared memory, RING_OCTETS
 * @pos:	our own position: @ctl->head of a producer, @ctl->tail of a consumer
 * @other:	the other side's position, as last believed
 * @released:	of a consumer: the position that the producer was told last
 */
struct ring {
	struct ring_ctl *ctl;
	uint8_t *data;
	uint64_t pos;
	uint64_t other;
	uint64_t released;
};

/* What ring_front() and ring_reserve() say beside a pointer. */
enum ring_says { RING_OK, RING_WAIT, RING_BROKEN };

void ring_open(struct ring *r, void *lane, bool tx, bool producer);
bool ring_sane(const struct ring *r, bool producer);

uint8_t *ring_reserve(struct ring *r, size_t octets, enum ring_says *says);
void ring_commit(struct ring *r, size_t octets);
void ring_publish(struct ring *r);
size_t ring_used(struct ring *r);

const uint8_t *ring_front(struct ring *r, struct record *header, enum ring_says *says);
void ring_pop(struct ring *r, const struct record *header);
void ring_release(struct ring *r);
bool ring_empty(struct ring *r);

/* Whether the consumer has taken all that was published, as far as it says now. */
static inline bool ring_all_taken(const struct ring *r)
{
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(&r->ctl->tail, memory_order_acquire) == r->pos;
}

/* Ask for an octet; the caller looks again at what it waits for before it sleeps. */
static inline void ring_want(_Atomic uint32_t *flag)
{
	atomic_store_explicit(flag, 1, memory_order_release);
	atomic_thread_fence(memory_order_seq_cst);
}

/* Whether the other side has asked for an octet; who gets true must send it. */
static inline bool ring_wanted(_Atomic uint32_t *flag)
{
	atomic_thread_fence(memory_order_seq_cst);
	return atomic_load_explicit(flag, memory_order_relaxed) &&
	       atomic_exchange_explicit(flag, 0, memory_order_acq_rel);
}

#endif
