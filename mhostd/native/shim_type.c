/* shim_type.c - a security session as Python has it: arguments in, results out
 *
 * _pure_shim.py is the specification. The lock is held for so short a time, and never by
 * who waits for something, that nobody here lets go of the GIL for it.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <string.h>

#include "shim_type.h"

typedef struct {
	PyObject_HEAD
	struct shim *shim;
} ShimObject;

/**
 * read_uint() - read an argument that is a number in @min..@max
 * @arg:	the argument; integers of any size are compared, never wrapped
 * @call:	the name of the function
 * @name:	what it is
 * @min:	the smallest number allowed
 * @max:	the largest number allowed
 * @value:	where to put it
 *
 * Return: 0, or -1 with TypeError or ValueError set
 */
static int read_uint(PyObject *arg, const char *call, const char *name, uint64_t min,
		     uint64_t max, uint64_t *value)
{
	PyObject *number = PyNumber_Index(arg);

	if (!number)
		return -1;
	*value = PyLong_AsUnsignedLongLong(number);
	Py_DECREF(number);
	if (PyErr_Occurred()) {
		if (!PyErr_ExceptionMatches(PyExc_OverflowError))
			return -1;
		PyErr_Clear();
	} else if (*value >= min && *value <= max) {
		return 0;
	}
	PyErr_Format(PyExc_ValueError, "%s: %s %S is not in %llu..%llu", call, name,
		     arg, (unsigned long long)min, (unsigned long long)max);
	return -1;
}

/* Shim(rx_key, tx_key, remote_id) */
static PyObject *shim_type_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "rx_key", "tx_key", "remote_id", NULL };
	Py_ssize_t rx_len, tx_len;
	const char *rx_key, *tx_key;
	PyObject *args_id;
	uint64_t id;
	ShimObject *self;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "y#y#O:Shim", names, &rx_key, &rx_len,
					 &tx_key, &tx_len, &args_id))
		return NULL;
	if (rx_len != SIPHASH_KEY || tx_len != SIPHASH_KEY)
		return PyErr_Format(PyExc_ValueError, "Shim: %s of %zd octets; want 16",
				    rx_len != SIPHASH_KEY ? "rx_key" : "tx_key",
				    rx_len != SIPHASH_KEY ? rx_len : tx_len);
	if (read_uint(args_id, "Shim", "remote_id", 1, UINT32_MAX, &id))
		return NULL;
	self = (ShimObject *)PyType_GenericNew(type, NULL, NULL);
	if (!self)
		return NULL;
	self->shim = shim_new((const uint8_t *)rx_key, (const uint8_t *)tx_key, (uint32_t)id);
	if (!self->shim) {
		PyErr_SetFromErrno(PyExc_OSError);
		Py_DECREF(self);
		return NULL;
	}
	return (PyObject *)self;
}

static void shim_dealloc(ShimObject *self)
{
	PyTypeObject *type = Py_TYPE((PyObject *)self);

	shim_put(self->shim);
	PyObject_Free(self);
	Py_DECREF(type);
}

/**
 * shim_of() - the session of a Shim; shim_get() it to keep it
 *
 * The type has no subclasses, and no other deallocates as it does.
 *
 * Return: the session, or NULL with TypeError set
 */
struct shim *shim_of(PyObject *object)
{
	if (PyType_GetSlot(Py_TYPE(object), Py_tp_dealloc) == (void *)shim_dealloc)
		return ((ShimObject *)object)->shim;
	PyErr_Format(PyExc_TypeError, "%R is no Shim", object);
	return NULL;
}

/* Sequence numbers are used up: what errno says, and the way out. */
static PyObject *exhausted(const char *call)
{
	PyObject *text = PyUnicode_FromFormat(
		"%s: no sequence number after %llu; a new session is due", call,
		(unsigned long long)SHIM_SEQ_MAX);
	PyObject *args = text ? Py_BuildValue("(iN)", EOVERFLOW, text) : NULL;

	if (args)
		PyErr_SetObject(PyExc_OSError, args);
	Py_XDECREF(args);
	return NULL;
}

/* next() -> int: a sequence number for seal_as() */
static PyObject *py_next(ShimObject *self, PyObject *none)
{
	uint64_t seq;

	(void)none;
	if (shim_next(self->shim, &seq))
		return exhausted("next");
	return PyLong_FromUnsignedLongLong(seq);
}

/* Seal with the next sequence number, or with @args_seq if it is given. */
static PyObject *seal(ShimObject *self, const char *call, PyObject *args_path,
		      PyObject *args_next, PyObject *args_seq, Py_buffer *inner)
{
	struct iovec part = { .iov_base = inner->buf, .iov_len = (size_t)inner->len };
	uint64_t path, next, seq = 0;
	PyObject *packet = NULL;
	uint8_t *out;
	ssize_t n;

	if (read_uint(args_path, call, "path", 0, SHIM_PATHS - 1, &path) ||
	    read_uint(args_next, call, "next", 0, UINT8_MAX, &next) ||
	    (args_seq && read_uint(args_seq, call, "seq", 1, SHIM_SEQ_MAX, &seq)))
		return NULL;
	if (inner->len > SHIM_INNER_MAX)
		return PyErr_Format(PyExc_ValueError, "%s: inner of %zd octets exceeds %d", call,
				    inner->len, SHIM_INNER_MAX);
	packet = PyBytes_FromStringAndSize(NULL, inner->len + SHIM_OVERHEAD);
	if (!packet)
		return NULL;
	out = (uint8_t *)PyBytes_AsString(packet);
	n = args_seq ? shim_seal_as(self->shim, (uint8_t)path, (uint8_t)next, seq, &part, 1, out) :
		       shim_seal(self->shim, (uint8_t)path, (uint8_t)next, &part, 1, out);
	if (n >= 0)
		return packet;
	Py_DECREF(packet);
	return exhausted(call);
}

/**
 * py_seal() - seal(path, next, inner) -> bytes
 * @args:	path, next: 0..255; inner: any buffer of at most SHIM_INNER_MAX octets
 *
 * Return: the packet, or NULL with TypeError, ValueError or OSError set
 */
static PyObject *py_seal(ShimObject *self, PyObject *args)
{
	PyObject *path, *next, *packet;
	Py_buffer inner;

	if (!PyArg_ParseTuple(args, "OOy*:seal", &path, &next, &inner))
		return NULL;
	packet = seal(self, "seal", path, next, NULL, &inner);
	PyBuffer_Release(&inner);
	return packet;
}

/* seal_as(path, next, seq, inner) -> bytes: seal() with 1..SHIM_SEQ_MAX */
static PyObject *py_seal_as(ShimObject *self, PyObject *args)
{
	PyObject *path, *next, *seq, *packet;
	Py_buffer inner;

	if (!PyArg_ParseTuple(args, "OOOy*:seal_as", &path, &next, &seq, &inner))
		return NULL;
	packet = seal(self, "seal_as", path, next, seq, &inner);
	PyBuffer_Release(&inner);
	return packet;
}

/* open(packet) -> (next, path, seq, inner), or enum shim_says as a negative number */
static PyObject *py_open(ShimObject *self, PyObject *args)
{
	struct shim_view view;
	enum shim_says says;
	PyObject *ret = NULL;
	Py_buffer packet;

	if (!PyArg_ParseTuple(args, "y*:open", &packet))
		return NULL;
	says = shim_open(self->shim, packet.buf, (size_t)packet.len, &view);
	if (says == SHIM_OK)
		ret = Py_BuildValue("(iiKy#)", view.next, view.path, (unsigned long long)view.seq,
				    (const char *)view.inner, (Py_ssize_t)view.len);
	else
		ret = PyLong_FromLong(-(long)says);
	PyBuffer_Release(&packet);
	return ret;
}

/* Append a new reference to a list, and let go of it. */
static int append(PyObject *list, PyObject *item)
{
	int err = item ? PyList_Append(list, item) : -1;

	Py_XDECREF(item);
	return err;
}

/* sent() -> list[tuple[int, int]]: (path, packets) of each path with any */
static PyObject *py_sent(ShimObject *self, PyObject *none)
{
	uint64_t sent[SHIM_PATHS];
	PyObject *list = PyList_New(0);

	(void)none;
	pthread_mutex_lock(&self->shim->lock);
	memcpy(sent, self->shim->sent, sizeof(sent));
	pthread_mutex_unlock(&self->shim->lock);
	for (int i = 0; list && i < SHIM_PATHS; i++)
		if (sent[i] &&
		    append(list, Py_BuildValue("(iK)", i, (unsigned long long)sent[i])))
			Py_CLEAR(list);
	return list;
}

/* received() -> list[tuple[int, int, int]]: (path, packets, highest sequence number) */
static PyObject *py_received(ShimObject *self, PyObject *none)
{
	struct shim_path paths[SHIM_PATHS];
	PyObject *list = PyList_New(0);

	(void)none;
	pthread_mutex_lock(&self->shim->lock);
	memcpy(paths, self->shim->received, sizeof(paths));
	pthread_mutex_unlock(&self->shim->lock);
	for (int i = 0; list && i < SHIM_PATHS; i++)
		if (paths[i].count &&
		    append(list, Py_BuildValue("(iKK)", i, (unsigned long long)paths[i].count,
					       (unsigned long long)paths[i].highest)))
			Py_CLEAR(list);
	return list;
}

/* counts() -> (ok, malformed, replayed, bad_tag) */
static PyObject *py_counts(ShimObject *self, PyObject *none)
{
	unsigned long long n[SHIM_SAYS];

	(void)none;
	pthread_mutex_lock(&self->shim->lock);
	for (int i = 0; i < SHIM_SAYS; i++)
		n[i] = self->shim->counts[i];
	pthread_mutex_unlock(&self->shim->lock);
	return Py_BuildValue("(KKKK)", n[SHIM_OK], n[SHIM_MALFORMED], n[SHIM_REPLAYED],
			     n[SHIM_BAD_TAG]);
}

/* One number under the lock. */
static PyObject *number(ShimObject *self, const uint64_t *at)
{
	uint64_t value;

	pthread_mutex_lock(&self->shim->lock);
	value = *at;
	pthread_mutex_unlock(&self->shim->lock);
	return PyLong_FromUnsignedLongLong(value);
}

static PyObject *get_tx_seq(ShimObject *self, void *none)
{
	(void)none;
	return number(self, &self->shim->tx_seq);
}

static PyObject *get_rx_max(ShimObject *self, void *none)
{
	(void)none;
	return number(self, &self->shim->rx_max);
}

#define METHOD(name, flags) { #name, (PyCFunction)(void (*)(void))py_##name, flags, NULL }

static PyMethodDef shim_methods[] = {
	METHOD(next, METH_NOARGS),
	METHOD(seal, METH_VARARGS),
	METHOD(seal_as, METH_VARARGS),
	METHOD(open, METH_VARARGS),
	METHOD(sent, METH_NOARGS),
	METHOD(received, METH_NOARGS),
	METHOD(counts, METH_NOARGS),
	{ NULL, NULL, 0, NULL },
};

static PyGetSetDef shim_getset[] = {
	{ "tx_seq", (getter)get_tx_seq, NULL, NULL, NULL },
	{ "rx_max", (getter)get_rx_max, NULL, NULL, NULL },
	{ NULL, NULL, NULL, NULL, NULL },
};

static PyType_Slot shim_slots[] = {
	{ Py_tp_new, (void *)shim_type_new },
	{ Py_tp_dealloc, (void *)shim_dealloc },
	{ Py_tp_methods, shim_methods },
	{ Py_tp_getset, shim_getset },
	{ Py_tp_doc, (void *)"The data plane of a session; see mhostd/native/_pure_shim.py." },
	{ 0, NULL },
};

PyType_Spec shim_spec = {
	.name = "mhostd.native._native.Shim",
	.basicsize = sizeof(ShimObject),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = shim_slots,
};
