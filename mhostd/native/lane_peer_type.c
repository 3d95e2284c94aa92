/* lane_peer_type.c - associated hosts in the fast lane, as Python has them */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <string.h>

#include "lane.h"
#include "lane_type.h"
#include "shim_type.h"

#define PEERS_MAX	65536

/* One path of peer_set(): (number, kind, family, room, headers, control). */
static int read_path(PyObject *tuple, struct peer_path *path)
{
	const char *headers, *control;
	Py_ssize_t hlen, clen;

	if (!PyArg_ParseTuple(tuple, "bIIIy#y#:peer_set", &path->number, &path->kind,
			      &path->family, &path->room, &headers, &hlen, &control, &clen))
		return -1;
	if (hlen < 16 || hlen > FRAME_HLEN_MAX || clen > PEER_CONTROL ||
	    (path->kind != FLOW_TUN && path->kind != FLOW_HOST) ||
	    (path->kind == FLOW_TUN && hlen < 28)) {
		PyErr_SetString(PyExc_ValueError, "peer_set: a header of a wrong length");
		return -1;
	}
	memcpy(path->headers, headers, (size_t)hlen);
	memcpy(path->control, control, (size_t)clen);
	path->hlen = (uint32_t)hlen;
	path->control_len = (uint32_t)clen;
	return 0;
}

/* One source of peer_set(): (number, family, address, port). */
static int read_source(PyObject *tuple, struct peer_source *source)
{
	const char *address;
	Py_ssize_t len;

	if (!PyArg_ParseTuple(tuple, "bIy#H:peer_set", &source->number, &source->family,
			      &address, &len, &source->port))
		return -1;
	if (len > (Py_ssize_t)sizeof(source->address)) {
		PyErr_SetString(PyExc_ValueError, "peer_set: an address exceeds 16 octets");
		return -1;
	}
	memcpy(source->address, address, (size_t)len);
	return 0;
}

/**
 * lane_py_peer_set() - peer_set(number, identifier, shim, duplicate, warm, paths, sources)
 *
 * Where datagrams to a peer go, and from where its own come; what was said before is
 * forgotten. shim is None while there is nothing to seal with.
 */
PyObject *lane_py_peer_set(PyObject *self, PyObject *args)
{
	struct lane *lane = lane_of(self);
	struct lane_peer peer = { 0 };
	PyObject *shim, *paths, *sources;
	const char *identifier;
	Py_ssize_t len, n;
	unsigned int number;
	int duplicate, warm, err;

	if (!PyArg_ParseTuple(args, "Iy#OppOO:peer_set", &number, &identifier, &len, &shim,
			      &duplicate, &warm, &paths, &sources))
		return NULL;
	if (len != sizeof(peer.identifier) || number >= PEERS_MAX || !PyList_Check(paths) ||
	    !PyList_Check(sources) || PyList_Size(paths) > PEER_PATHS) {
		PyErr_Format(PyExc_ValueError, "peer_set: want a number below %d, 16 octets, "
			     "and lists of at most %d paths", PEERS_MAX, PEER_PATHS);
		return NULL;
	}
	memcpy(peer.identifier, identifier, sizeof(peer.identifier));
	peer.duplicate = duplicate;
	peer.warm = warm;
	if (shim != Py_None) {
		peer.tx = shim_of(shim);
		if (!peer.tx)
			return NULL;
	}
	for (n = 0; n < PyList_Size(paths); n++)
		if (read_path(PyList_GetItem(paths, n), peer.paths + n))
			return NULL;
	peer.n_paths = (uint32_t)n;
	n = PyList_Size(sources) < PEER_SOURCES ? PyList_Size(sources) : PEER_SOURCES;
	peer.n_sources = (uint32_t)n;
	while (n--)
		if (read_source(PyList_GetItem(sources, n), peer.sources + n))
			return NULL;
	lane_take_lock(lane);
	err = lane_peer_set(lane, number, &peer);
	pthread_mutex_unlock(&lane->lock);
	if (err)
		return PyErr_NoMemory();
	Py_RETURN_NONE;
}

/* peer_del(number) -> None */
PyObject *lane_py_peer_del(PyObject *self, PyObject *args)
{
	struct lane *lane = lane_of(self);
	unsigned int number;

	if (!PyArg_ParseTuple(args, "I:peer_del", &number))
		return NULL;
	lane_take_lock(lane);
	lane_peer_del(lane, number);
	pthread_mutex_unlock(&lane->lock);
	Py_RETURN_NONE;
}

/* peer_cold(number) -> None: say when there is traffic again */
PyObject *lane_py_peer_cold(PyObject *self, PyObject *args)
{
	struct lane *lane = lane_of(self);
	struct lane_peer *peer;
	unsigned int number;

	if (!PyArg_ParseTuple(args, "I:peer_cold", &number))
		return NULL;
	lane_take_lock(lane);
	peer = lane_peer(lane, number);
	if (peer)
		peer->warm = false;
	pthread_mutex_unlock(&lane->lock);
	Py_RETURN_NONE;
}

/* session_add(id, number, shim) -> None: open what comes with that association id */
PyObject *lane_py_session_add(PyObject *self, PyObject *args)
{
	struct lane *lane = lane_of(self);
	unsigned int id, number;
	struct shim *shim;
	PyObject *object;
	int err;

	if (!PyArg_ParseTuple(args, "IIO:session_add", &id, &number, &object))
		return NULL;
	shim = shim_of(object);
	if (!shim)
		return NULL;
	lane_take_lock(lane);
	err = lane_session_add(lane, id, number, shim);
	pthread_mutex_unlock(&lane->lock);
	if (err)
		return PyErr_NoMemory();
	Py_RETURN_NONE;
}

/* session_del(id) -> None */
PyObject *lane_py_session_del(PyObject *self, PyObject *args)
{
	struct lane *lane = lane_of(self);
	unsigned int id;

	if (!PyArg_ParseTuple(args, "I:session_del", &id))
		return NULL;
	lane_take_lock(lane);
	lane_session_del(lane, id);
	pthread_mutex_unlock(&lane->lock);
	Py_RETURN_NONE;
}

/* encap(identifier, port) -> None: our identifier, and the association port */
PyObject *lane_py_encap(PyObject *self, PyObject *args)
{
	struct lane *lane = lane_of(self);
	const char *identifier;
	unsigned short port;
	Py_ssize_t len;

	if (!PyArg_ParseTuple(args, "y#H:encap", &identifier, &len, &port))
		return NULL;
	if (len != sizeof(lane->peers.ours)) {
		PyErr_SetString(PyExc_ValueError, "encap: an identifier has 16 octets");
		return NULL;
	}
	lane_take_lock(lane);
	memcpy(lane->peers.ours, identifier, sizeof(lane->peers.ours));
	lane->peers.port = port;
	pthread_mutex_unlock(&lane->lock);
	Py_RETURN_NONE;
}

/* encap_add(v6, fd) -> None: the association port of the host kernel */
PyObject *lane_py_encap_add(PyObject *self, PyObject *args)
{
	struct lane *lane = lane_of(self);
	int v6, fd, err;

	if (!PyArg_ParseTuple(args, "pi:encap_add", &v6, &fd))
		return NULL;
	lane_take_lock(lane);
	err = lane_encap_add(lane, v6, fd) ? errno : 0;
	pthread_mutex_unlock(&lane->lock);
	if (err) {
		errno = err;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	Py_RETURN_NONE;
}

/* encap_del(v6) -> None: it may be closed now */
PyObject *lane_py_encap_del(PyObject *self, PyObject *args)
{
	struct lane *lane = lane_of(self);
	int v6;

	if (!PyArg_ParseTuple(args, "p:encap_del", &v6))
		return NULL;
	lane_take_lock(lane);
	lane_encap_del(lane, v6);
	pthread_mutex_unlock(&lane->lock);
	Py_RETURN_NONE;
}

/* encap_watch(v6) -> None: its error queue is empty again */
PyObject *lane_py_encap_watch(PyObject *self, PyObject *args)
{
	struct lane *lane = lane_of(self);
	int v6;

	if (!PyArg_ParseTuple(args, "p:encap_watch", &v6))
		return NULL;
	lane_take_lock(lane);
	lane_encap_watch(lane, v6);
	pthread_mutex_unlock(&lane->lock);
	Py_RETURN_NONE;
}
