/* pump_type.c - the application's side of a socket that speaks ZeroMQ, in the daemon */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <string.h>
#include <structmember.h>
#include <unistd.h>

#include "lane_type.h"
#include "packed.h"

typedef struct {
	PyObject_HEAD
	struct app_lane lane;
	int memfd, near, far;	/* -1 once closed */
} PumpObject;

static void close_all(PumpObject *self)
{
	app_lane_close(&self->lane);
	for (int i = 0; i < 3; i++) {
		int *fd = (int *[]){ &self->memfd, &self->near, &self->far }[i];

		if (*fd >= 0)
			close(*fd);
		*fd = -1;
	}
}

/* Pump(): new memory, and a new pair of sockets */
static PyObject *pump_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	PumpObject *self = (PumpObject *)PyType_GenericNew(type, args, kwargs);

	if (!self)
		return NULL;
	self->memfd = self->near = self->far = -1;
	if (app_lane_make(&self->memfd, &self->near, &self->far) ||
	    app_lane_open(&self->lane, self->memfd, self->near, self->far)) {
		PyErr_SetFromErrno(PyExc_OSError);
		Py_DECREF(self);
		return NULL;
	}
	return (PyObject *)self;
}

static void pump_dealloc(PumpObject *self)
{
	PyTypeObject *type = Py_TYPE((PyObject *)self);

	close_all(self);
	PyObject_Free(self);
	Py_DECREF(type);
}

/* close() -> None */
static PyObject *py_close(PumpObject *self, PyObject *none)
{
	(void)none;
	close_all(self);
	Py_RETURN_NONE;
}

/* shared() -> None: the memory is mapped on both sides, its descriptor is not needed */
static PyObject *py_shared(PumpObject *self, PyObject *none)
{
	(void)none;
	if (self->memfd >= 0)
		close(self->memfd);
	self->memfd = -1;
	Py_RETURN_NONE;
}

static PyObject *closed(void)
{
	PyErr_SetString(PyExc_ValueError, "the pump is closed");
	return NULL;
}

/**
 * py_put() - put(message, at) -> int
 * @args:	message: a data message; at: where its next record begins
 *
 * Return: where the first record begins that is not in the ring, the length of the
 * message if all are
 */
static PyObject *py_put(PumpObject *self, PyObject *args)
{
	Py_buffer message;
	Py_ssize_t at;

	if (!PyArg_ParseTuple(args, "y*n:put", &message, &at))
		return NULL;
	if (self->near < 0 || at < 0 || at > message.len) {
		PyBuffer_Release(&message);
		return closed();
	}
	const uint8_t *octets = (const uint8_t *)message.buf + at;
	size_t len = (size_t)(message.len - at);

	if (packed_plain(octets, len)) {
		at += (Py_ssize_t)packed_put(&self->lane.tx, octets, len);
		app_lane_publish(&self->lane);
	}
	PyBuffer_Release(&message);
	return PyLong_FromSsize_t(at);
}

/**
 * py_take() - take(prefix, most) -> bytes
 * @args:	prefix: of the data message; most: octets of records
 *
 * Return: a data message; no more than the prefix if nothing has come
 */
static PyObject *py_take(PumpObject *self, PyObject *args)
{
	const char *prefix;
	Py_ssize_t hlen, most, used = 0;
	PyObject *result = NULL;
	char *out;

	if (!PyArg_ParseTuple(args, "y#n:take", &prefix, &hlen, &most))
		return NULL;
	if (self->near < 0 || most < 0)
		return closed();
	out = PyMem_Malloc((size_t)hlen + ((size_t)most > PACKED_MAX ? (size_t)most : PACKED_MAX));
	if (!out)
		return PyErr_NoMemory();
	memcpy(out, prefix, (size_t)hlen);
	used = (Py_ssize_t)packed_take(&self->lane, (uint8_t *)out + hlen, (size_t)most);
	result = PyBytes_FromStringAndSize(out, hlen + used);
	PyMem_Free(out);
	return result;
}

/* arm() -> bool: near is readable once something comes; True if it has */
static PyObject *py_arm(PumpObject *self, PyObject *none)
{
	(void)none;
	return self->near < 0 ? closed() : PyBool_FromLong(app_lane_arm(&self->lane));
}

#define METHOD(name, flags) { #name, (PyCFunction)(void (*)(void))py_##name, flags, NULL }

static PyMethodDef pump_methods[] = {
	METHOD(close, METH_NOARGS),
	METHOD(shared, METH_NOARGS),
	METHOD(put, METH_VARARGS),
	METHOD(take, METH_VARARGS),
	METHOD(arm, METH_NOARGS),
	{ NULL, NULL, 0, NULL },
};

static PyMemberDef pump_members[] = {
	{ "memfd", T_INT, offsetof(PumpObject, memfd), READONLY, NULL },
	{ "near", T_INT, offsetof(PumpObject, near), READONLY, NULL },
	{ "far", T_INT, offsetof(PumpObject, far), READONLY, NULL },
	{ NULL, 0, 0, 0, NULL },
};

static PyType_Slot pump_slots[] = {
	{ Py_tp_new, (void *)pump_new },
	{ Py_tp_dealloc, (void *)pump_dealloc },
	{ Py_tp_methods, pump_methods },
	{ Py_tp_members, pump_members },
	{ Py_tp_doc, (void *)"The application's side of a socket; see mhostd/ipc/pump.py." },
	{ 0, NULL },
};

PyType_Spec pump_spec = {
	.name = "mhostd.native._native.Pump",
	.basicsize = sizeof(PumpObject),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = pump_slots,
};
