/* module.c - the Python face of mhostd.native: arguments in, results out */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include "csum.h"
#include "udp.h"

/**
 * py_csum_fold() - csum_fold(data, psum=0, /) -> int
 * @args:	data: any buffer; psum: partial sum, 0..0xffffffff
 *
 * Return: the folded sum, or NULL with TypeError or ValueError set
 */
static PyObject *py_csum_fold(PyObject *self, PyObject *args)
{
	long long psum = 0;
	Py_buffer data;
	uint16_t sum;

	(void)self;
	if (!PyArg_ParseTuple(args, "y*|L:csum_fold", &data, &psum))
		return NULL;
	if (psum < 0 || psum > UINT32_MAX) {
		PyBuffer_Release(&data);
		return PyErr_Format(PyExc_ValueError,
				    "csum_fold: psum %lld is not in 0..0xffffffff",
				    psum);
	}
	sum = csum_fold(data.buf, (size_t)data.len, (uint32_t)psum);
	PyBuffer_Release(&data);
	return PyLong_FromLong(sum);
}

static int check_range(const char *name, long long value, long long max)
{
	if (value >= 0 && value <= max)
		return 0;
	PyErr_Format(PyExc_ValueError, "udp_push: %s %lld is not in 0..%lld", name,
		     value, max);
	return -1;
}

/**
 * py_udp_push() - udp_push(buf, source, dest, psum, /) -> None
 * @args:	buf: writable, UDP_HLEN octets of room then the payload; source,
 *		dest: ports; psum: partial sum of the pseudo-header
 *
 * Integers are read wide and checked here: the narrow formats wrap silently.
 *
 * Return: None, or NULL with TypeError or ValueError set
 */
static PyObject *py_udp_push(PyObject *self, PyObject *args)
{
	long long source, dest, psum;
	PyObject *ret = NULL;
	Py_buffer buf;

	(void)self;
	if (!PyArg_ParseTuple(args, "w*LLL:udp_push", &buf, &source, &dest, &psum))
		return NULL;
	if (buf.len < UDP_HLEN || buf.len > UDP_LEN_MAX) {
		PyErr_Format(PyExc_ValueError,
			     "udp_push: buf of %zd octets; want 8..65535", buf.len);
		goto out;
	}
	if (check_range("source port", source, UINT16_MAX) ||
	    check_range("dest port", dest, UINT16_MAX) ||
	    check_range("psum", psum, UINT32_MAX))
		goto out;
	udp_push(buf.buf, (size_t)buf.len, (uint16_t)source, (uint16_t)dest,
		 (uint32_t)psum);
	ret = Py_NewRef(Py_None);
out:
	PyBuffer_Release(&buf);
	return ret;
}

static PyMethodDef methods[] = {
	{ "csum_fold", py_csum_fold, METH_VARARGS, "See mhostd/native/_pure.py." },
	{ "udp_push", py_udp_push, METH_VARARGS, "See mhostd/native/_pure.py." },
	{ NULL, NULL, 0, NULL },
};

static struct PyModuleDef module = {
	PyModuleDef_HEAD_INIT,
	.m_name = "mhostd.native._native",
	.m_methods = methods,
};

PyMODINIT_FUNC PyInit__native(void)
{
	return PyModuleDef_Init(&module);
}
