/* module.c - the Python face of mhostd.native: arguments in, results out */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdlib.h>

#include "csum.h"
#include "frame.h"
#include "lane_type.h"
#include "shim_type.h"
#include "siphash.h"
#include "udp.h"

/**
 * read_range() - read an argument that is a number in 0..@max
 * @arg:	the argument; integers of any size are compared, never wrapped
 * @name:	what it is, with the name of the function
 * @limit:	@max as the text has it
 * @max:	the largest number allowed
 * @value:	where to put it
 *
 * Return: 0, or -1 with TypeError or ValueError set
 */
static int read_range(PyObject *arg, const char *name, const char *limit,
		      long long max, long long *value)
{
	int overflow;

	*value = PyLong_AsLongLongAndOverflow(arg, &overflow);
	if (*value == -1 && !overflow && PyErr_Occurred())
		return -1;
	if (!overflow && *value >= 0 && *value <= max)
		return 0;
	PyErr_Format(PyExc_ValueError, "%s %S is not in 0..%s", name, arg, limit);
	return -1;
}

/**
 * py_csum_fold() - csum_fold(data, psum=0, /) -> int
 * @args:	data: any buffer; psum: partial sum, 0..0xffffffff
 *
 * Return: the folded sum, or NULL with TypeError or ValueError set
 */
static PyObject *py_csum_fold(PyObject *self, PyObject *args)
{
	PyObject *start = NULL;
	long long psum = 0;
	Py_buffer data;
	uint16_t sum;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*|O:csum_fold", &data, &start))
		return NULL;
	if (start &&
	    read_range(start, "csum_fold: psum", "0xffffffff", UINT32_MAX, &psum)) {
		PyBuffer_Release(&data);
		return NULL;
	}
	sum = csum_fold(data.buf, (size_t)data.len, (uint32_t)psum);
	PyBuffer_Release(&data);
	return PyLong_FromLong(sum);
}

/**
 * py_csum_copy() - csum_copy(to, data, psum, /) -> int
 * @args:	to: writable, as long as data; data, psum: as of csum_fold()
 *
 * Return: the sum, or NULL with TypeError or ValueError set
 */
static PyObject *py_csum_copy(PyObject *self, PyObject *args)
{
	PyObject *args_psum, *ret = NULL;
	Py_buffer to, data;
	long long psum;

	(void)self;
	if (!PyArg_ParseTuple(args, "w*y*O:csum_copy", &to, &data, &args_psum))
		return NULL;
	if (to.len != data.len)
		PyErr_Format(PyExc_ValueError, "csum_copy: room for %zd octets; want %zd",
			     to.len, data.len);
	else if (!read_range(args_psum, "csum_copy: psum", "0xffffffff", UINT32_MAX, &psum))
		ret = PyLong_FromLong(csum_copy(to.buf, data.buf, (size_t)data.len,
						(uint32_t)psum));
	PyBuffer_Release(&to);
	PyBuffer_Release(&data);
	return ret;
}

/* csum_avx2(wanted, /) -> bool: whether AVX2 is used from now on */
static PyObject *py_csum_avx2(PyObject *self, PyObject *wanted)
{
	int want = PyObject_IsTrue(wanted);

	(void)self;
	return want < 0 ? NULL : PyBool_FromLong(csum_avx2(want));
}

/**
 * py_udp_push() - udp_push(buf, source, dest, psum, /) -> None
 * @args:	buf: writable, UDP_HLEN octets of room then the payload; source,
 *		dest: ports; psum: partial sum of the pseudo-header
 *
 * Return: None, or NULL with TypeError or ValueError set
 */
static PyObject *py_udp_push(PyObject *self, PyObject *args)
{
	PyObject *args_source, *args_dest, *args_psum;
	long long source, dest, psum;
	PyObject *ret = NULL;
	Py_buffer buf;

	(void)self;
	if (!PyArg_ParseTuple(args, "w*OOO:udp_push", &buf, &args_source, &args_dest,
			      &args_psum))
		return NULL;
	if (buf.len < UDP_HLEN || buf.len > UDP_LEN_MAX) {
		PyErr_Format(PyExc_ValueError,
			     "udp_push: buf of %zd octets; want 8..65535", buf.len);
		goto out;
	}
	if (read_range(args_source, "udp_push: source port", "65535", UINT16_MAX,
		       &source) ||
	    read_range(args_dest, "udp_push: dest port", "65535", UINT16_MAX, &dest) ||
	    read_range(args_psum, "udp_push: psum", "4294967295", UINT32_MAX, &psum))
		goto out;
	udp_push(buf.buf, (size_t)buf.len, (uint16_t)source, (uint16_t)dest,
		 (uint32_t)psum);
	ret = Py_NewRef(Py_None);
out:
	PyBuffer_Release(&buf);
	return ret;
}

/**
 * py_segments() - segments(vnet, packet, /) -> list[bytes]
 * @args:	vnet: struct virtio_net_hdr, 10 octets; packet: from its L3 header on
 *
 * Return: the packets, their checksums complete, or NULL with ValueError set
 */
static PyObject *py_segments(PyObject *self, PyObject *args)
{
	Py_buffer header, packet;
	PyObject *list = NULL;
	struct vnet vnet;
	uint8_t *out;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*y*:segments", &header, &packet))
		return NULL;
	out = malloc(FRAME_MAX);
	if (header.len != VNET_LEN || packet.len > FRAME_MAX) {
		PyErr_Format(PyExc_ValueError,
			     "segments: header of %zd octets, packet of %zd; want 10, at most %d",
			     header.len, packet.len, FRAME_MAX);
	} else if (!out) {
		PyErr_NoMemory();
	} else {
		size_t n;

		vnet_parse(&vnet, header.buf);
		n = frame_segments(&vnet, packet.buf, (size_t)packet.len);
		list = PyList_New(0);
		for (size_t i = 0; list && i < n; i++) {
			size_t octets = frame_segment(&vnet, packet.buf, (size_t)packet.len, i,
						      out);
			PyObject *each = PyBytes_FromStringAndSize((char *)out,
								   (Py_ssize_t)octets);

			if (!each || PyList_Append(list, each))
				Py_CLEAR(list);
			Py_XDECREF(each);
		}
	}
	free(out);
	PyBuffer_Release(&header);
	PyBuffer_Release(&packet);
	return list;
}

/**
 * py_siphash128() - siphash128(key, data, more=b"", /) -> bytes
 * @args:	key: 16 octets; data: any buffer; more: what follows it
 *
 * Return: 16 octets, or NULL with TypeError or ValueError set
 */
static PyObject *py_siphash128(PyObject *self, PyObject *args)
{
	Py_buffer key, data, more = { .buf = "", .len = 0 };
	uint8_t hash[SIPHASH_LEN];
	PyObject *ret = NULL;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*y*|y*:siphash128", &key, &data, &more))
		return NULL;
	if (key.len != SIPHASH_KEY) {
		PyErr_Format(PyExc_ValueError, "siphash128: key of %zd octets; want 16", key.len);
	} else {
		siphash128(key.buf, data.buf, (size_t)data.len, more.buf, (size_t)more.len, hash);
		ret = PyBytes_FromStringAndSize((char *)hash, SIPHASH_LEN);
	}
	PyBuffer_Release(&key);
	PyBuffer_Release(&data);
	PyBuffer_Release(&more);
	return ret;
}

static PyMethodDef methods[] = {
	{ "csum_fold", py_csum_fold, METH_VARARGS, "See mhostd/native/_pure.py." },
	{ "csum_copy", py_csum_copy, METH_VARARGS, "See mhostd/native/_pure.py." },
	{ "csum_avx2", py_csum_avx2, METH_O, "Whether to use AVX2 where it is; for tests." },
	{ "udp_push", py_udp_push, METH_VARARGS, "See mhostd/native/_pure.py." },
	{ "siphash128", py_siphash128, METH_VARARGS, "See mhostd/native/_pure_shim.py." },
	{ "segments", py_segments, METH_VARARGS, "See mhostd/native/_pure.py." },
	{ NULL, NULL, 0, NULL },
};

static int module_exec(PyObject *module)
{
	PyType_Spec *specs[] = { &lane_spec, &pump_spec, &shim_spec };
	const char *names[] = { "Lane", "Pump", "Shim" };

	for (int i = 0; i < 3; i++) {
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
	.m_name = "mhostd.native._native",
	.m_methods = methods,
	.m_slots = module_slots,
};

PyMODINIT_FUNC PyInit__native(void)
{
	return PyModuleDef_Init(&module);
}
