/* _fast_socket.c - the calls of mhost.Socket that need no Python (mhost._ring.FastSocket)
 *
 * Each does the plain thing at once: a datagram to a destination that is known to be good
 * and has room, a datagram that has come. Everything else, and every error, is for the
 * method of the same name with an underscore in front, in mhost/dgram.py.
 */

#include "_ring.h"

#include <string.h>
#include <structmember.h>

typedef struct {
	PyObject_HEAD
	PyObject *ring;		/* RingObject, None without shared memory or once closed */
	char blocks;		/* calls wait */
} FastSocket;

/* The ring, if datagrams may be put in it or taken from it at once. */
static RingObject *ring_of(PyObject *self)
{
	PyObject *ring = ((FastSocket *)(void *)self)->ring;

	if (!ring || ring == Py_None)
		return NULL;
	return ((RingObject *)(void *)ring)->open ? (RingObject *)(void *)ring : NULL;
}

/* A dict of the arguments that were given by name; their values follow the others. */
static PyObject *named(PyObject *const *values, PyObject *names)
{
	PyObject *dict = PyDict_New();

	for (Py_ssize_t i = 0; dict && i < PyTuple_Size(names); i++)
		if (PyDict_SetItem(dict, PyTuple_GetItem(names, i), values[i]))
			Py_CLEAR(dict);
	return dict;
}

/* Call a method in Python; @names may be NULL. */
static PyObject *slow_named(PyObject *self, const char *name, PyObject *const *args,
			    Py_ssize_t n, PyObject *names)
{
	PyObject *method = PyObject_GetAttrString(self, name);
	PyObject *tuple = method ? PyTuple_New(n) : NULL;
	PyObject *dict = tuple && names ? named(args + n, names) : NULL;
	PyObject *result = NULL;

	if (tuple && (dict || !names)) {
		for (Py_ssize_t i = 0; i < n; i++)
			PyTuple_SetItem(tuple, i, Py_NewRef(args[i]));
		result = PyObject_Call(method, tuple, dict);
	}
	Py_XDECREF(dict);
	Py_XDECREF(tuple);
	Py_XDECREF(method);
	return result;
}

static PyObject *slow(PyObject *self, const char *name, PyObject *const *args, Py_ssize_t n)
{
	return slow_named(self, name, args, n, NULL);
}

/* --- sending */

/* Find the header for an address; false if it is not known to be good. */
static bool known_head(RingObject *ring, PyObject *address, struct record *head)
{
	PyObject *found;

	if (ring->last_to == address) {
		*head = ring->last_head;
		return true;
	}
	if (!PyTuple_CheckExact(address))
		return false;
	found = PyDict_GetItemWithError(ring->known, address);
	if (!found) {
		PyErr_Clear();		/* what cannot be hashed is no address */
		return false;
	}
	memcpy(head, PyBytes_AsString(found), sizeof(*head));
	ring->last_head = *head;	/* first: what follows may run a finaliser */
	set_ref(&ring->last_to, Py_NewRef(address));
	return true;
}

/* Octets that one call may send: with UDP_SEGMENT so many datagrams. */
static size_t segments_max(const RingObject *ring)
{
	return ring->segment ? (size_t)ring->segment * SEGMENTS_MAX : RECORD_PAYLOAD_MAX;
}

/*
 * Put one datagram, or those that UDP_SEGMENT makes of it, published later; false if the slow
 * path must see it.
 */
static bool put(RingObject *ring, const struct record *head, PyObject *data, Py_ssize_t *octets)
{
	enum ring_says says;
	Py_buffer payload;
	uint8_t *at = NULL;

	if (PyObject_GetBuffer(data, &payload, PyBUF_SIMPLE)) {
		PyErr_Clear();
		return false;
	}
	*octets = payload.len;
	if (ring->open && payload.len <= RECORD_PAYLOAD_MAX &&
	    (size_t)payload.len <= segments_max(ring)) {
		struct record copy = *head;

		if (ring->segment && payload.len > ring->segment)
			copy.segment_size = (uint16_t)ring->segment;
		at = app_lane_reserve(&ring->lane, &copy, (size_t)payload.len, &says);
	}
	if (at) {
		memcpy(at, payload.buf, (size_t)payload.len);
		app_lane_commit(&ring->lane, (size_t)payload.len);
	}
	PyBuffer_Release(&payload);
	return at != NULL;
}

/* A buffer that was given back may have run Python, which may have closed the ring. */
static void publish(RingObject *ring)
{
	if (ring->open)
		app_lane_publish(&ring->lane);
}

static PyObject *fast_sendto(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	RingObject *ring = ring_of(self);
	struct record head;
	Py_ssize_t octets;

	if (n == 2 && ring && ring->sending && !ring_held(ring) &&
	    known_head(ring, args[1], &head) && put(ring, &head, args[0], &octets)) {
		publish(ring);
		return PyLong_FromSsize_t(octets);
	}
	return slow(self, "_sendto", args, n);
}

static PyObject *fast_send(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	RingObject *ring = ring_of(self);
	struct record head;
	Py_ssize_t octets;

	if (n == 1 && ring && ring->sending && !ring_held(ring) && ring->peer != Py_None) {
		memcpy(&head, PyBytes_AsString(ring->peer), sizeof(head));
		if (put(ring, &head, args[0], &octets)) {
			publish(ring);
			return PyLong_FromSsize_t(octets);
		}
	}
	return slow(self, "_send", args, n);
}

/* What one element of put_many() sends where; false if the slow path must see it. */
static bool element(RingObject *ring, PyObject *item, const struct record *all,
		    PyObject **data, struct record *head)
{
	*data = item;
	if (PyTuple_Check(item)) {
		if (PyTuple_Size(item) != 2)
			return false;
		*data = PyTuple_GetItem(item, 0);
		return known_head(ring, PyTuple_GetItem(item, 1), head);
	}
	if (all)
		*head = *all;
	return all != NULL;
}

/* Where messages go that have no address of their own; NULL if the slow path must say. */
static const struct record *for_all(RingObject *ring, PyObject *address, struct record *head)
{
	if (address != Py_None)
		return known_head(ring, address, head) ? head : NULL;
	if (ring->peer == Py_None)
		return NULL;
	memcpy(head, PyBytes_AsString(ring->peer), sizeof(*head));
	return head;
}

/* Write one record behind the others; false if the slow path must see it, or it has no room. */
static bool pack(const RingObject *ring, struct record *head, PyObject *data, uint8_t *out,
		 Py_ssize_t *used, Py_ssize_t most)
{
	Py_buffer payload;
	size_t length, padded;
	bool fits;

	if (PyObject_GetBuffer(data, &payload, PyBUF_SIMPLE)) {
		PyErr_Clear();
		return false;
	}
	length = RECORD_HLEN + (size_t)payload.len;
	padded = record_align(length);
	fits = payload.len <= RECORD_PAYLOAD_MAX && padded <= (size_t)(most - *used) &&
	       (!ring->segment || payload.len <= ring->segment);
	if (fits) {
		head->length = (uint32_t)length;
		memcpy(out + *used, head, RECORD_HLEN);
		memcpy(out + *used + RECORD_HLEN, payload.buf, (size_t)payload.len);
		memset(out + *used + length, 0, padded - length);
		*used += (Py_ssize_t)padded;
	}
	PyBuffer_Release(&payload);
	return fits;
}

/**
 * put_many() - _put_many(messages, start, address, /) -> int
 * @args:	messages: a list of buffers, or of tuples (buffer, address); start: the first
 *		to be sent; address: of those that have none, None for the peer of connect()
 *
 * Return: how many were put in the ring, up to the first that was not
 */
static PyObject *put_many(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	RingObject *ring = ring_of(self);
	Py_ssize_t start, octets, i;
	struct record to_all, head;
	const struct record *all;
	PyObject *data;

	if (n != 3 || !PyList_Check(args[0])) {
		PyErr_SetString(PyExc_TypeError, "_put_many(list, int, tuple or None)");
		return NULL;
	}
	start = i = PyLong_AsSsize_t(args[1]);
	if (start < 0 || !ring || !ring->sending || ring_held(ring))
		return PyErr_Occurred() ? NULL : PyLong_FromLong(0);
	all = for_all(ring, args[2], &to_all);
	while (i < PyList_Size(args[0]) &&
	       element(ring, PyList_GetItem(args[0], i), all, &data, &head) &&
	       put(ring, &head, data, &octets))
		i++;
	if (i > start)
		publish(ring);
	return PyLong_FromSsize_t(i - start);
}

/**
 * pack_many() - _pack_many(messages, start, address, prefix, most, /) -> (int, bytes)
 * @args:	as of put_many(); prefix: of the data message; most: octets of records
 *
 * Return: how many are in it, up to the first that is for the slow path, and the message
 */
static PyObject *pack_many(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	RingObject *ring = ring_of(self);
	struct record to_all, head;
	Py_ssize_t start, i, most, used;
	const struct record *all;
	PyObject *data, *result;
	uint8_t *out;

	if (n != 5 || !PyList_Check(args[0]) || !PyBytes_Check(args[3])) {
		PyErr_SetString(PyExc_TypeError, "_pack_many(list, int, tuple, bytes, int)");
		return NULL;
	}
	start = i = PyLong_AsSsize_t(args[1]);
	most = PyLong_AsSsize_t(args[4]);
	if (start < 0 || most < 0 || !ring)
		return PyErr_Occurred() ? NULL : Py_BuildValue("ny", (Py_ssize_t)0, "");
	used = PyBytes_Size(args[3]);
	most += used;
	out = PyMem_Malloc((size_t)most);
	if (!out)
		return PyErr_NoMemory();
	memcpy(out, PyBytes_AsString(args[3]), (size_t)used);
	all = for_all(ring, args[2], &to_all);
	while (i < PyList_Size(args[0]) &&
	       element(ring, PyList_GetItem(args[0], i), all, &data, &head) &&
	       pack(ring, &head, data, out, &used, most))
		i++;
	result = Py_BuildValue("ny#", i - start, (char *)out, used);
	PyMem_Free(out);
	return result;
}

/* --- receiving */

/* The address tuple of where a datagram is from, borrowed; NULL if it was not spelt yet. */
static PyObject *known_source(RingObject *ring, const struct record *head)
{
	uint8_t source[SOURCE_LEN];
	PyObject *key, *tuple;

	source_of(head, source);
	if (ring->last_from && !memcmp(source, ring->last_source, sizeof(source)))
		return ring->last_from;
	key = PyBytes_FromStringAndSize((const char *)source, sizeof(source));
	tuple = key ? PyDict_GetItemWithError(ring->sources, key) : NULL;
	Py_XDECREF(key);
	if (tuple) {
		set_ref(&ring->last_from, Py_NewRef(tuple));
		memcpy(ring->last_source, source, sizeof(source));
	}
	return tuple;
}

/* Spell the source of a datagram, which runs Python; 0, or -1 with an exception set. */
static int spell(PyObject *self, RingObject *ring, const struct record *head)
{
	uint8_t source[SOURCE_LEN];
	PyObject *key, *tuple;
	int err = -1;

	source_of(head, source);
	key = PyBytes_FromStringAndSize((const char *)source, sizeof(source));
	tuple = key ? slow(self, "_spell", &key, 1) : NULL;
	if (PyDict_Size(ring->sources) >= SOURCES_MAX)
		PyDict_Clear(ring->sources);
	if (tuple)
		err = PyDict_SetItem(ring->sources, key, tuple);
	Py_XDECREF(tuple);
	Py_XDECREF(key);
	return err;
}

/* Have the daemon told of what was taken, once it is worth it: it goes over ZeroMQ. */
static void credit(PyObject *self, const RingObject *ring)
{
	PyObject *none;

	if (!ring->credit || ring->lane.consumed < ring->credit)
		return;
	none = slow(self, "_give_credit", NULL, 0);
	if (!none)
		PyErr_Clear();		/* the connection has ended, and with it the account */
	Py_XDECREF(none);
}

/* Find the datagram that is taken at once; false if the slow path must say. */
static bool front(RingObject *ring, Py_ssize_t bufsize, struct datagram *d)
{
	return bufsize >= 0 && ring && ring->open && !ring_held(ring) &&
	       app_lane_front(&ring->lane, d) == RING_OK;
}

static PyObject *payload_of(const struct datagram *d, Py_ssize_t bufsize)
{
	size_t octets = d->n_payload < (size_t)bufsize ? d->n_payload : (size_t)bufsize;

	return PyBytes_FromStringAndSize((const char *)d->payload, (Py_ssize_t)octets);
}

/**
 * front_and_source() - find the datagram that is taken at once, and where it is from
 * @bufsize:	octets at most
 * @d:		filled in
 *
 * Another thread may take it while its source is spelt; then the next one is looked at.
 *
 * Return: its address; NULL with an exception set, or without one if the slow path must say
 */
static PyObject *front_and_source(PyObject *self, RingObject *ring, Py_ssize_t bufsize,
				  struct datagram *d)
{
	while (front(ring, bufsize, d)) {
		PyObject *address = known_source(ring, &d->head);

		if (address)
			return Py_NewRef(address);
		if (PyErr_Occurred() || spell(self, ring, &d->head))
			return NULL;
	}
	return NULL;
}

/**
 * take_one() - take a datagram that is there
 * @bufsize:	octets at most; what is more is cut off
 *
 * Return: (data, address); NULL as front_and_source()
 */
static PyObject *take_one(PyObject *self, RingObject *ring, Py_ssize_t bufsize)
{
	struct datagram d;
	PyObject *address = front_and_source(self, ring, bufsize, &d);
	PyObject *data, *result;

	if (!address)
		return NULL;
	data = payload_of(&d, bufsize);
	result = data ? PyTuple_New(2) : NULL;
	if (!result) {
		Py_XDECREF(data);
		Py_DECREF(address);
		return NULL;
	}
	PyTuple_SetItem(result, 0, data);
	PyTuple_SetItem(result, 1, address);
	if (!ring_took(ring, &d))
		Py_CLEAR(result);	/* a finaliser ran, and took it or closed the socket */
	else
		credit(self, ring);
	return result;
}

/* Whether it is worth to look once more before the slow path puts us to sleep. */
static bool linger(PyObject *self, RingObject *ring)
{
	if (!ring || !((FastSocket *)(void *)self)->blocks || ring_held(ring))
		return false;
	ring_linger(ring);
	return ring->open;
}

static Py_ssize_t size_of(PyObject *arg)
{
	Py_ssize_t size = PyLong_Check(arg) ? PyLong_AsSsize_t(arg) : -1;

	if (size < 0)
		PyErr_Clear();		/* the slow path says what is wrong */
	return size;
}

static PyObject *fast_recvfrom(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	RingObject *ring = ring_of(self);

	if (n == 1) {
		Py_ssize_t size = size_of(args[0]);
		PyObject *result = take_one(self, ring, size);

		if (!result && !PyErr_Occurred() && size >= 0 && linger(self, ring))
			result = take_one(self, ring, size);
		if (result || PyErr_Occurred())
			return result;
	}
	return slow(self, "_recvfrom", args, n);
}

/**
 * take_into() - take a datagram that is there into a buffer
 * @buffer:	writable
 * @size:	octets of it to use, at most
 *
 * Return: (octets, address); NULL as front_and_source()
 */
static PyObject *take_into(PyObject *self, RingObject *ring, const Py_buffer *buffer,
			   Py_ssize_t size)
{
	struct datagram d;
	PyObject *address = front_and_source(self, ring, size, &d);
	PyObject *result;
	size_t octets;

	if (!address)
		return NULL;
	octets = d.n_payload < (size_t)size ? d.n_payload : (size_t)size;
	memcpy(buffer->buf, d.payload, octets);
	result = Py_BuildValue("nN", (Py_ssize_t)octets, address);
	if (result && !ring_took(ring, &d))
		Py_CLEAR(result);
	else if (result)
		credit(self, ring);
	return result;
}

/* (octets, address) from the arguments (buffer, nbytes=0); NULL as front_and_source() */
static PyObject *fast_into(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	RingObject *ring = ring_of(self);
	Py_ssize_t size = n == 2 ? size_of(args[1]) : 0;
	PyObject *result = NULL;
	Py_buffer buffer;

	if (n < 1 || n > 2 || size < 0)
		return NULL;
	if (PyObject_GetBuffer(args[0], &buffer, PyBUF_WRITABLE)) {
		PyErr_Clear();
		return NULL;
	}
	if (size <= buffer.len) {
		if (!size)
			size = buffer.len;
		result = take_into(self, ring, &buffer, size);
		if (!result && !PyErr_Occurred() && linger(self, ring))
			result = take_into(self, ring, &buffer, size);
	}
	PyBuffer_Release(&buffer);
	return result;
}

static PyObject *fast_recvfrom_into(PyObject *self, PyObject *const *args, Py_ssize_t n,
				    PyObject *names)
{
	PyObject *result = names ? NULL : fast_into(self, args, n);

	if (result || PyErr_Occurred())
		return result;
	return slow_named(self, "_recvfrom_into", args, n, names);
}

static PyObject *fast_recv_into(PyObject *self, PyObject *const *args, Py_ssize_t n,
				PyObject *names)
{
	PyObject *result = names ? NULL : fast_into(self, args, n), *octets;

	if (!result && !PyErr_Occurred())
		result = slow_named(self, "_recvfrom_into", args, n, names);
	if (!result)
		return NULL;
	octets = Py_NewRef(PyTuple_GetItem(result, 0));
	Py_DECREF(result);
	return octets;
}

static PyObject *fast_recv(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	RingObject *ring = ring_of(self);
	struct datagram d;

	if (n == 1) {
		Py_ssize_t size = size_of(args[0]);

		if (front(ring, size, &d) ||
		    (size >= 0 && linger(self, ring) && front(ring, size, &d))) {
			PyObject *data = payload_of(&d, size);

			if (!data)
				return NULL;
			if (ring_took(ring, &d)) {
				credit(self, ring);
				return data;
			}
			Py_DECREF(data);
		}
	}
	return slow(self, "_recv", args, n);
}

/**
 * take_many() - _take_many(most, bufsize, /) -> list of (data, address)
 *
 * Return: those that have come by now, none if the slow path must say
 */
static PyObject *take_many(PyObject *self, PyObject *const *args, Py_ssize_t n)
{
	RingObject *ring = ring_of(self);
	Py_ssize_t most, size;
	PyObject *list;

	if (n != 2) {
		PyErr_SetString(PyExc_TypeError, "_take_many(int, int)");
		return NULL;
	}
	most = size_of(args[0]);
	size = size_of(args[1]);
	list = PyList_New(0);
	while (list && PyList_Size(list) < most) {
		PyObject *each = take_one(self, ring, size);

		if (!each)
			break;
		if (PyList_Append(list, each))
			Py_CLEAR(list);
		Py_DECREF(each);
	}
	if (list && PyErr_Occurred()) {
		if (!PyList_Size(list))
			Py_CLEAR(list);
		else
			PyErr_Clear();	/* the next call meets it again */
	}
	return list;
}

static void fast_dealloc(PyObject *self)
{
	PyTypeObject *type = Py_TYPE(self);
	freefunc free_it = (freefunc)PyType_GetSlot(type, Py_tp_free);

	Py_XDECREF(((FastSocket *)(void *)self)->ring);
	free_it(self);		/* of the subclass: with or without a garbage collector's head */
	Py_DECREF(type);
}

#define METHOD(name, py, doc) { name, (PyCFunction)(void (*)(void))py, METH_FASTCALL, doc }
#define NAMED(name, py, doc) \
	{ name, (PyCFunction)(void (*)(void))py, METH_FASTCALL | METH_KEYWORDS, doc }

static PyMethodDef fast_methods[] = {
	METHOD("sendto", fast_sendto,
	       "Send one datagram; the arguments are (data, address) or (data, flags, address)."),
	METHOD("send", fast_send, "send(data, flags=0): to the peer of connect()."),
	METHOD("recvfrom", fast_recvfrom,
	       "recvfrom(bufsize, flags=0): one datagram and where it came from; a known host\n"
	       "by its name."),
	METHOD("recv", fast_recv,
	       "recv(bufsize, flags=0): one datagram; what does not fit bufsize is cut off."),
	NAMED("recv_into", fast_recv_into,
	      "recv_into(buffer, nbytes=0, flags=0): one datagram into a buffer; its octets there."),
	NAMED("recvfrom_into", fast_recvfrom_into,
	      "recvfrom_into(buffer, nbytes=0, flags=0): as recv_into(), and where it came from;\n"
	      "with MSG_TRUNC its whole length."),
	METHOD("_put_many", put_many, NULL),
	METHOD("_pack_many", pack_many, NULL),
	METHOD("_take_many", take_many, NULL),
	{ NULL, NULL, 0, NULL },
};

static PyMemberDef fast_members[] = {
	{ "_ring", T_OBJECT, offsetof(FastSocket, ring), 0, NULL },
	{ "_blocks", T_BOOL, offsetof(FastSocket, blocks), 0, NULL },
	{ NULL, 0, 0, 0, NULL },
};

static PyType_Slot fast_slots[] = {
	{ Py_tp_new, (void *)PyType_GenericNew },
	{ Py_tp_dealloc, (void *)fast_dealloc },
	{ Py_tp_methods, fast_methods },
	{ Py_tp_members, fast_members },
	{ Py_tp_doc, (void *)"The calls of mhost.Socket that need no Python." },
	{ 0, NULL },
};

PyType_Spec fast_socket_spec = {
	.name = "mhost._ring.FastSocket",
	.basicsize = sizeof(FastSocket),
	.flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
	.slots = fast_slots,
};
