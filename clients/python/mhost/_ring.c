/* _ring.c - mhost._ring.Ring: the memory of one socket, for Python */

#include "_ring.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <string.h>
#include <structmember.h>
#include <time.h>

static PyObject *broken(void)
{
	PyErr_SetString(PyExc_RuntimeError, "mhostd wrote nonsense in a socket's memory");
	return NULL;
}

/* What of a record's header says where it is from: all but flags, length and cookie. */
void source_of(const struct record *head, uint8_t *key)
{
	memcpy(key, &head->family, 4);
	memcpy(key + 4, head->address, 24);
}

_Static_assert(offsetof(struct record, scope_id) + 4 - offsetof(struct record, address) == 24,
	       "address, id_no and scope_id are copied at once");

/* ring(memfd, near, far) */
static PyObject *ring_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	RingObject *self;
	int memfd, near, far;

	(void)kwargs;
	if (!PyArg_ParseTuple(args, "iii:Ring", &memfd, &near, &far))
		return NULL;
	self = (RingObject *)PyType_GenericNew(type, NULL, NULL);
	if (!self)
		return NULL;
	self->known = PyDict_New();
	self->sources = PyDict_New();
	self->peer = Py_NewRef(Py_None);
	if (!self->known || !self->sources) {
		Py_DECREF(self);
		return NULL;
	}
	if (app_lane_open(&self->lane, memfd, near, far)) {
		PyErr_SetFromErrno(PyExc_OSError);
		Py_DECREF(self);
		return NULL;
	}
	self->open = true;
	return (PyObject *)self;
}

static void ring_dealloc(RingObject *self)
{
	PyTypeObject *type = Py_TYPE((PyObject *)self);

	app_lane_close(&self->lane);
	Py_XDECREF(self->known);
	Py_XDECREF(self->sources);
	Py_XDECREF(self->peer);
	Py_XDECREF(self->last_to);
	Py_XDECREF(self->last_from);
	PyObject_Free(self);
	Py_DECREF(type);
}

/* Wait for those who look at the memory without the GIL; they are brief. */
static void await_users(RingObject *self)
{
	while (self->users) {
		Py_BEGIN_ALLOW_THREADS
		sched_yield();
		Py_END_ALLOW_THREADS
	}
}

/* close() -> None: give the memory back */
static PyObject *py_close(RingObject *self, PyObject *none)
{
	(void)none;
	self->open = false;
	await_users(self);
	app_lane_close(&self->lane);
	Py_RETURN_NONE;
}

/* forget() -> None: no destination is known to be good any more */
static PyObject *py_forget(RingObject *self, PyObject *none)
{
	(void)none;
	PyDict_Clear(self->known);
	set_ref(&self->peer, Py_NewRef(Py_None));
	Py_CLEAR(self->last_to);
	Py_RETURN_NONE;
}

/* move(memfd) -> None: to new memory, before another daemon is given it */
static PyObject *py_move(RingObject *self, PyObject *args)
{
	int memfd;

	if (!PyArg_ParseTuple(args, "i:move", &memfd))
		return NULL;
	await_users(self);
	if (self->open && app_lane_move(&self->lane, memfd))
		return PyErr_SetFromErrno(PyExc_OSError);
	self->seen = 0;
	PyDict_Clear(self->sources);
	Py_CLEAR(self->last_from);
	Py_RETURN_NONE;
}

/* As app_lane_linger(), and other threads of Python run. */
void ring_linger(RingObject *ring)
{
	ring->users++;
	Py_BEGIN_ALLOW_THREADS
	app_lane_linger(&ring->lane);
	Py_END_ALLOW_THREADS
	ring->users--;
}

/* --- what has come */

/*
 * Take the datagram that app_lane_front() found: the descriptor says so, where somebody may
 * look at it. False if Python ran meanwhile and another thread took it, or closed the ring.
 */
bool ring_took(RingObject *ring, const struct datagram *datagram)
{
	if (!ring->open || !app_lane_pop(&ring->lane, datagram))
		return false;
	if (ring->polled && !ring->held)
		app_lane_settle(&ring->lane);
	return true;
}

/*
 * take(peek) -> (family, port, address, id_no, scope_id, cookie, segment_size, control,
 * payload) or None
 */
static PyObject *py_take(RingObject *self, PyObject *args)
{
	struct datagram d;
	PyObject *tuple;
	int peek;

	if (!PyArg_ParseTuple(args, "p:take", &peek))
		return NULL;
	for (;;) {
		switch (self->open ? app_lane_front(&self->lane, &d) : RING_WAIT) {
		case RING_WAIT:
			Py_RETURN_NONE;
		case RING_BROKEN:
			return broken();
		case RING_OK:
			break;
		}
		tuple = Py_BuildValue("HHy#IIIHy#y#", d.head.family, d.head.port, d.head.address,
				      (Py_ssize_t)sizeof(d.head.address), d.head.id_no,
				      d.head.scope_id, d.head.cookie, d.head.segment_size,
				      d.control ? (const char *)d.control : "",
				      (Py_ssize_t)d.n_control, d.payload,
				      (Py_ssize_t)d.n_payload);
		if (!tuple || peek || ring_took(self, &d))
			return tuple;
		Py_DECREF(tuple);
	}
}

/* fill(message, at) -> int: put what came over ZeroMQ there; where the rest begins */
static PyObject *py_fill(RingObject *self, PyObject *args)
{
	Py_buffer message;
	Py_ssize_t at;

	if (!PyArg_ParseTuple(args, "y*n:fill", &message, &at))
		return NULL;
	if (self->open && at >= 0 && at < message.len)
		at += (Py_ssize_t)app_lane_fill(&self->lane, (uint8_t *)message.buf + at,
						(size_t)(message.len - at));
	PyBuffer_Release(&message);
	return PyLong_FromSsize_t(at);
}

/* next_size() -> int: octets of payload of the oldest datagram, -1 if there is none */
static PyObject *py_next_size(RingObject *self, PyObject *none)
{
	struct datagram d;

	(void)none;
	if (!self->open || app_lane_front(&self->lane, &d) != RING_OK)
		return PyLong_FromLong(-1);
	return PyLong_FromSize_t(d.n_payload);
}

/* arm() -> bool: the next datagram makes the descriptor readable; True if one is there */
static PyObject *py_arm(RingObject *self, PyObject *none)
{
	(void)none;
	return PyBool_FromLong(self->open && app_lane_arm(&self->lane));
}

/* raise_() -> None: make the descriptor readable */
static PyObject *py_raise(RingObject *self, PyObject *none)
{
	(void)none;
	if (self->open)
		app_lane_raise(&self->lane);
	Py_RETURN_NONE;
}

/* --- what is sent */

/* put(header, payload) -> bool: False if there is no room */
static PyObject *py_put(RingObject *self, PyObject *args)
{
	Py_buffer header, payload;
	enum ring_says says = RING_BROKEN;
	uint8_t *at = NULL;

	if (!PyArg_ParseTuple(args, "y*y*:put", &header, &payload))
		return NULL;
	if (!self->open) {
		says = RING_WAIT;
	} else if (header.len == RECORD_HLEN && payload.len <= RECORD_PAYLOAD_MAX) {
		struct record head;

		memcpy(&head, header.buf, sizeof(head));
		at = app_lane_reserve(&self->lane, &head, (size_t)payload.len, &says);
		if (at) {
			memcpy(at, payload.buf, (size_t)payload.len);
			app_lane_commit(&self->lane, (size_t)payload.len);
			app_lane_publish(&self->lane);
		}
	}
	PyBuffer_Release(&header);
	PyBuffer_Release(&payload);
	return says == RING_BROKEN ? broken() : PyBool_FromLong(says == RING_OK);
}

/* want_room() -> None: have the descriptor be writable only when there is room again */
static PyObject *py_want_room(RingObject *self, PyObject *none)
{
	(void)none;
	if (self->open)
		app_lane_want_room(&self->lane);
	Py_RETURN_NONE;
}

/* give_up() -> None: wake who waits for room */
static PyObject *py_give_up(RingObject *self, PyObject *none)
{
	(void)none;
	if (self->open)
		app_lane_give_up(&self->lane);
	Py_RETURN_NONE;
}

/* unsent() -> int: octets of records that the daemon has not taken */
static PyObject *py_unsent(RingObject *self, PyObject *none)
{
	(void)none;
	return PyLong_FromSize_t(self->open ? ring_used(&self->lane.tx) : 0);
}

/* errors() -> int: how many the daemon has told */
static PyObject *py_errors(RingObject *self, PyObject *none)
{
	(void)none;
	return PyLong_FromUnsignedLong(self->open ? app_lane_errors(&self->lane) : 0);
}

/* behind() -> bool: an error was told that has not come */
static PyObject *py_behind(RingObject *self, PyObject *none)
{
	(void)none;
	return PyBool_FromLong(self->open && app_lane_errors(&self->lane) != self->seen);
}

/* --- waiting */

/**
 * py_sleep() - sleep(room, timeout_s) -> bool
 * @args:	room: wait until the descriptor is writable, else until it is readable;
 *		timeout_s: None for ever
 *
 * A signal handler that returns does not end it (PEP 475).
 *
 * Return: False if the time is up; NULL with what a handler raised
 */
static PyObject *py_sleep(RingObject *self, PyObject *args)
{
	struct timespec now, until = { 0, 0 };
	PyObject *timeout;
	int room, n;

	if (!PyArg_ParseTuple(args, "pO:sleep", &room, &timeout))
		return NULL;
	if (timeout != Py_None) {
		double seconds = PyFloat_AsDouble(timeout);

		if (seconds == -1.0 && PyErr_Occurred())
			return NULL;
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec += (time_t)seconds;
		until.tv_nsec += (long)((seconds - (double)(time_t)seconds) * 1e9);
	}
	do {
		struct timespec left, *wait = NULL;

		if (timeout != Py_None) {
			clock_gettime(CLOCK_MONOTONIC, &now);
			left.tv_sec = until.tv_sec - now.tv_sec;
			left.tv_nsec = until.tv_nsec - now.tv_nsec;
			while (left.tv_nsec < 0) {
				left.tv_nsec += 1000000000;
				left.tv_sec--;
			}
			while (left.tv_nsec >= 1000000000) {
				left.tv_nsec -= 1000000000;
				left.tv_sec++;
			}
			if (left.tv_sec < 0)
				left = (struct timespec){ 0, 0 };
			wait = &left;
		}
		Py_BEGIN_ALLOW_THREADS
		n = app_lane_sleep(&self->lane, room ? POLLOUT : POLLIN, wait);
		Py_END_ALLOW_THREADS
		if (n < 0 && (errno != EINTR || PyErr_CheckSignals()))
			return PyErr_Occurred() ? NULL : PyErr_SetFromErrno(PyExc_OSError);
	} while (n < 0);
	return PyBool_FromLong(n);
}

#define METHOD(name, py, flags) { name, (PyCFunction)(void (*)(void))py, flags, NULL }

static PyMethodDef ring_methods[] = {
	METHOD("close", py_close, METH_NOARGS),
	METHOD("forget", py_forget, METH_NOARGS),
	METHOD("move", py_move, METH_VARARGS),
	METHOD("take", py_take, METH_VARARGS),
	METHOD("fill", py_fill, METH_VARARGS),
	METHOD("next_size", py_next_size, METH_NOARGS),
	METHOD("arm", py_arm, METH_NOARGS),
	METHOD("raise_", py_raise, METH_NOARGS),
	METHOD("put", py_put, METH_VARARGS),
	METHOD("want_room", py_want_room, METH_NOARGS),
	METHOD("give_up", py_give_up, METH_NOARGS),
	METHOD("unsent", py_unsent, METH_NOARGS),
	METHOD("errors", py_errors, METH_NOARGS),
	METHOD("behind", py_behind, METH_NOARGS),
	METHOD("sleep", py_sleep, METH_VARARGS),
	{ NULL, NULL, 0, NULL },
};

static PyMemberDef ring_members[] = {
	{ "held", T_BOOL, offsetof(RingObject, held), 0, NULL },
	{ "segment", T_UINT, offsetof(RingObject, segment), 0, NULL },
	{ "whole", T_BOOL, offsetof(RingObject, lane.whole), 0, NULL },
	{ "credit", T_UINT, offsetof(RingObject, credit), 0, NULL },
	{ "consumed", T_ULONGLONG, offsetof(RingObject, lane.consumed), 0, NULL },
	{ "seen", T_UINT, offsetof(RingObject, seen), 0, NULL },
	{ "polled", T_BOOL, offsetof(RingObject, polled), 0, NULL },
	{ "sending", T_BOOL, offsetof(RingObject, sending), 0, NULL },
	{ "known", T_OBJECT_EX, offsetof(RingObject, known), READONLY, NULL },
	{ "peer", T_OBJECT_EX, offsetof(RingObject, peer), 0, NULL },
	{ NULL, 0, 0, 0, NULL },
};

static PyType_Slot ring_slots[] = {
	{ Py_tp_new, (void *)ring_new },
	{ Py_tp_dealloc, (void *)ring_dealloc },
	{ Py_tp_methods, ring_methods },
	{ Py_tp_members, ring_members },
	{ Py_tp_doc, (void *)"The memory of one socket." },
	{ 0, NULL },
};

PyType_Spec ring_spec = {
	.name = "mhost._ring.Ring",
	.basicsize = sizeof(RingObject),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = ring_slots,
};

static int module_exec(PyObject *module)
{
	PyType_Spec *specs[] = { &ring_spec, &fast_socket_spec };
	const char *names[] = { "Ring", "FastSocket" };

	for (int i = 0; i < 2; i++) {
		PyObject *type = PyType_FromSpec(specs[i]);
		int err = type ? PyModule_AddObjectRef(module, names[i], type) : -1;

		Py_XDECREF(type);
		if (err)
			return -1;
	}
	return 0;
}

static PyModuleDef_Slot module_slots[] = {
	{ Py_mod_exec, (void *)module_exec },
	{ 0, NULL },
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "mhost._ring",
	.m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__ring(void)
{
	return PyModuleDef_Init(&module);
}
