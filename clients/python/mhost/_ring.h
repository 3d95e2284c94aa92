/* _ring.h - what the two types of mhost._ring share */
#ifndef MHOST_RING_TYPE_H
#define MHOST_RING_TYPE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdbool.h>

#include "app_lane.h"

#define SOURCES_MAX	4096	/* addresses of one socket that are kept as tuples */
#define SEGMENTS_MAX	128	/* UDP_MAX_SEGMENTS of Linux include/linux/udp.h */
#define SOURCE_LEN	28	/* octets of a header that say where a datagram is from */

/**
 * struct ring_object - mhost._ring.Ring
 * @lane:	the socket's memory
 * @open:	@lane may be used
 * @users:	threads that look at the memory without the GIL
 * @seen:	of the errors that the daemon has told, those that have come
 * @segment:	octets of each datagram of a payload that is longer (UDP_SEGMENT), or 0
 * @credit:	octets of @lane.consumed that are worth to be told to the daemon, 0 if none is
 * @held:	something that is not in the ring makes the socket readable: the slow
 *		path is to look first
 * @polled:	somebody may be waiting for the descriptor, so that it must be truthful
 * @sending:	datagrams to known destinations may be put in the ring at once
 * @known:	dict: address tuple -> header of a record, of destinations that are good
 * @peer:	the same of the peer of connect(), or None
 * @sources:	dict: SOURCE_LEN octets of a header -> address tuple
 * @last_to:	the key of @known used last, or NULL
 * @last_head:	its header
 * @last_from:	the value of @sources used last, or NULL
 * @last_source: its key
 */
typedef struct {
	PyObject_HEAD
	struct app_lane lane;
	bool open;
	uint32_t users;
	uint32_t seen;
	uint32_t segment;
	uint32_t credit;
	char held;
	char polled;
	char sending;
	PyObject *known;
	PyObject *peer;
	PyObject *sources;
	PyObject *last_to;
	struct record last_head;
	PyObject *last_from;
	uint8_t last_source[SOURCE_LEN];
} RingObject;

/* Whether something that is not in the ring is to be looked at first. */
static inline bool ring_held(const RingObject *ring)
{
	return ring->held || app_lane_errors(&ring->lane) != ring->seen;
}

extern PyType_Spec ring_spec, fast_socket_spec;

/* Put a new reference in the place of an old one. */
static inline void set_ref(PyObject **place, PyObject *value)
{
	PyObject *old = *place;

	*place = value;
	Py_XDECREF(old);
}

void ring_linger(RingObject *ring);
void source_of(const struct record *head, uint8_t *key);
bool ring_took(RingObject *ring, const struct datagram *datagram);

#endif
