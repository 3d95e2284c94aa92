/* lane_type.c - the fast lane as Python has it: arguments in, results out */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lane.h"
#include "lane_type.h"

typedef struct {
	PyObject_HEAD
	struct lane *lane;
} LaneObject;

/* Take the lock; without the GIL where somebody has it. */
void lane_take_lock(struct lane *lane)
{
	if (!pthread_mutex_trylock(&lane->lock))
		return;
	Py_BEGIN_ALLOW_THREADS
	pthread_mutex_lock(&lane->lock);
	Py_END_ALLOW_THREADS
}

struct lane *lane_of(PyObject *object)
{
	return ((LaneObject *)object)->lane;
}

/* Take the lock and find a socket; NULL without the lock and with LookupError set. */
static struct lane_sock *take_sock(struct lane *lane, unsigned int slot)
{
	struct lane_sock *sk;

	lane_take_lock(lane);
	sk = lane_sock(lane, slot);
	if (!sk) {
		pthread_mutex_unlock(&lane->lock);
		PyErr_Format(PyExc_LookupError, "no socket in slot %u", slot);
	}
	return sk;
}

static PyObject *lane_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
	static char *names[] = { "tun", "vnet", "uso", NULL };
	int tun = -1, vnet = 0, uso = 0;
	LaneObject *self;

	if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|ipp:Lane", names, &tun, &vnet, &uso))
		return NULL;
	self = (LaneObject *)PyType_GenericNew(type, NULL, NULL);
	if (!self)
		return NULL;
	self->lane = calloc(1, sizeof(*self->lane));
	if (!self->lane || lane_init(self->lane, tun, vnet, uso)) {
		PyErr_SetFromErrno(PyExc_OSError);
		Py_DECREF(self);
		return NULL;
	}
	return (PyObject *)self;
}

static void lane_dealloc(LaneObject *self)
{
	PyTypeObject *type = Py_TYPE((PyObject *)self);

	if (self->lane) {
		lane_stop(self->lane);
		lane_free(self->lane);
		free(self->lane);
	}
	PyObject_Free(self);
	Py_DECREF(type);
}

/* fileno() -> int: readable while something waits for the walk */
static PyObject *py_fileno(LaneObject *self, PyObject *none)
{
	(void)none;
	return PyLong_FromLong(self->lane->walk);
}

/* start() -> None: work on a thread of its own */
static PyObject *py_start(LaneObject *self, PyObject *none)
{
	(void)none;
	errno = lane_start(self->lane);
	if (errno)
		return PyErr_SetFromErrno(PyExc_OSError);
	Py_RETURN_NONE;
}

/* stop() -> None: end the thread */
static PyObject *py_stop(LaneObject *self, PyObject *none)
{
	(void)none;
	Py_BEGIN_ALLOW_THREADS
	lane_stop(self->lane);
	Py_END_ALLOW_THREADS
	Py_RETURN_NONE;
}

/* run() -> int: once, here, all that there is; how many frames and records that was */
static PyObject *py_run(LaneObject *self, PyObject *none)
{
	struct lane *lane = self->lane;
	size_t n, all = 0;

	(void)none;
	Py_BEGIN_ALLOW_THREADS
	do {
		lane->tun_ready = lane->tun >= 0;
		n = lane_up(lane, LANE_BATCH);
		pthread_mutex_lock(&lane->lock);
		for (uint32_t i = 0; i < lane->n_socks; i++)
			if (lane->socks[i] && !lane->socks[i]->at_walk)
				lane_activate(lane, lane->socks[i]);
		lane_bury(lane);
		pthread_mutex_unlock(&lane->lock);
		n += lane_encap_up(lane, false) + lane_encap_up(lane, true);
		for (uint32_t i = 0; i < 2 * lane->n_socks; i++)
			if (lane->socks[i / 2])
				n += lane_host_up(lane, lane->socks[i / 2]->slot, i % 2);
		n += lane_down(lane, 0);
		all += n;
	} while (n);
	Py_END_ALLOW_THREADS
	return PyLong_FromSize_t(all);
}

/* A list of (kind, what, octets) from a copy of the lane's items. */
static PyObject *items_list(const uint8_t *at, uint32_t n)
{
	PyObject *list = PyList_New(0);

	while (list && n--) {
		struct lane_item item;
		PyObject *tuple;

		memcpy(&item, at, sizeof(item));
		at += sizeof(item);
		tuple = Py_BuildValue("IIy#", item.kind, item.what, at,
				      (Py_ssize_t)item.octets);
		at += record_align(item.octets);
		if (!tuple || PyList_Append(list, tuple))
			Py_CLEAR(list);
		Py_XDECREF(tuple);
	}
	return list;
}

/* take() -> list of (kind, what, octets): what waits for the walk */
static PyObject *py_take(LaneObject *self, PyObject *none)
{
	struct lane *lane = self->lane;
	uint8_t *copy = NULL;
	PyObject *list;
	uint64_t count;
	uint32_t n;

	(void)none;
	lane_take_lock(lane);
	if (read(lane->walk, &count, sizeof(count)) < 0)
		count = 0;
	n = lane->n_items;
	if (n) {
		copy = malloc(lane->items_used);
		if (!copy) {
			pthread_mutex_unlock(&lane->lock);
			return PyErr_NoMemory();
		}
		memcpy(copy, lane->items, lane->items_used);
	}
	if (lane->walk_full)
		lane_notify(lane->wake);
	lane->walk_full = false;
	lane->items_used = lane->n_items = lane->n_frames = 0;
	memset(lane->marks, 0, sizeof(lane->marks));
	pthread_mutex_unlock(&lane->lock);
	list = items_list(copy, n);
	free(copy);
	return list;
}

/* go_on() -> None: the walk has seen what take() gave; frames are read again */
static PyObject *py_go_on(LaneObject *self, PyObject *none)
{
	struct lane *lane = self->lane;

	(void)none;
	lane_take_lock(lane);
	if (lane->hold && !lane->n_frames) {
		lane->hold = false;
		lane_notify(lane->wake);
	}
	pthread_mutex_unlock(&lane->lock);
	Py_RETURN_NONE;
}

/* lost() -> bool: the TUN was deleted */
static PyObject *py_lost(LaneObject *self, PyObject *none)
{
	(void)none;
	return PyBool_FromLong(self->lane->tun_lost);
}

/* --- sockets */

/* sock_add(memfd, far, rcvbuf) -> slot; OSError EINVAL if a descriptor is no such thing */
static PyObject *py_sock_add(LaneObject *self, PyObject *args)
{
	unsigned int rcvbuf;
	int memfd, far, slot, err;

	if (!PyArg_ParseTuple(args, "iiI:sock_add", &memfd, &far, &rcvbuf))
		return NULL;
	lane_take_lock(self->lane);
	slot = lane_sock_add(self->lane, memfd, far, rcvbuf);
	err = errno;
	lane_notify(self->lane->wake);
	pthread_mutex_unlock(&self->lane->lock);
	if (slot < 0) {
		errno = err;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	return PyLong_FromLong(slot);
}

/* sock_del(slot) -> None */
static PyObject *py_sock_del(LaneObject *self, PyObject *args)
{
	unsigned int slot;

	if (!PyArg_ParseTuple(args, "I:sock_del", &slot) || !take_sock(self->lane, slot))
		return NULL;
	lane_sock_del(self->lane, slot);
	if (!self->lane->running)
		lane_bury(self->lane);
	lane_notify(self->lane->wake);
	pthread_mutex_unlock(&self->lane->lock);
	Py_RETURN_NONE;
}

/* sock_rcvbuf(slot, octets) -> None */
static PyObject *py_sock_rcvbuf(LaneObject *self, PyObject *args)
{
	struct lane_sock *sk;
	unsigned int slot, rcvbuf;

	if (!PyArg_ParseTuple(args, "II:sock_rcvbuf", &slot, &rcvbuf))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	sk->rcvbuf = rcvbuf;
	pthread_mutex_unlock(&self->lane->lock);
	Py_RETURN_NONE;
}

/* used(slot) -> int: octets of records that the application has not taken */
static PyObject *py_used(LaneObject *self, PyObject *args)
{
	struct lane_sock *sk;
	unsigned int slot;
	size_t used;

	if (!PyArg_ParseTuple(args, "I:used", &slot))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	used = ring_used(&sk->rx);
	pthread_mutex_unlock(&self->lane->lock);
	return PyLong_FromSize_t(used);
}

/* hung_up(slot) -> bool: no copy of the application's end is left */
static PyObject *py_hung_up(LaneObject *self, PyObject *args)
{
	struct pollfd far = { -1, 0, 0 };
	struct lane_sock *sk;
	unsigned int slot;

	if (!PyArg_ParseTuple(args, "I:hung_up", &slot))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	far.fd = sk->far;
	poll(&far, 1, 0);
	pthread_mutex_unlock(&self->lane->lock);
	return PyBool_FromLong(far.revents & POLLHUP);
}

/* put(slot, record) -> bool: False if there is no room; seen after publish() */
static PyObject *py_put(LaneObject *self, PyObject *args)
{
	struct lane_sock *sk;
	unsigned int slot;
	Py_buffer record;
	bool done = false;

	if (!PyArg_ParseTuple(args, "Iy*:put", &slot, &record))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (sk) {
		uint32_t length = 0;

		if (record.len >= RECORD_HLEN)
			memcpy(&length, record.buf, sizeof(length));
		if (length >= RECORD_HLEN && length <= (size_t)record.len)
			done = lane_put(self->lane, sk, record.buf, length);
		pthread_mutex_unlock(&self->lane->lock);
	}
	PyBuffer_Release(&record);
	return sk ? PyBool_FromLong(done) : NULL;
}

/* error(slot, wake) -> None: another one is told to it over ZeroMQ, for who sleeps if @wake */
static PyObject *py_error(LaneObject *self, PyObject *args)
{
	struct lane_sock *sk;
	unsigned int slot;
	int wake;

	if (!PyArg_ParseTuple(args, "Ip:error", &slot, &wake))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	atomic_fetch_add(&sk->rx.ctl->errors, 1);
	if (wake && ring_wanted(&sk->rx.ctl->wake))
		send(sk->far, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
	pthread_mutex_unlock(&self->lane->lock);
	Py_RETURN_NONE;
}

/* publish() -> None: applications see what was put */
static PyObject *py_publish(LaneObject *self, PyObject *none)
{
	(void)none;
	lane_take_lock(self->lane);
	lane_publish(self->lane);
	pthread_mutex_unlock(&self->lane->lock);
	Py_RETURN_NONE;
}

/* sent(slot, count) -> None: the walk is done with so many of its records */
static PyObject *py_sent(LaneObject *self, PyObject *args)
{
	struct lane_sock *sk;
	unsigned int slot, count;

	if (!PyArg_ParseTuple(args, "II:sent", &slot, &count))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	lane_sent(self->lane, sk, count);
	lane_notify(self->lane->wake);
	pthread_mutex_unlock(&self->lane->lock);
	Py_RETURN_NONE;
}

/* drain(slot, timeout_ms) -> bool: what it has put by now has gone, but to the walk */
static PyObject *py_drain(LaneObject *self, PyObject *args)
{
	struct lane_sock *sk;
	unsigned int slot, timeout_ms;
	bool gone;

	if (!PyArg_ParseTuple(args, "II:drain", &slot, &timeout_ms))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	Py_BEGIN_ALLOW_THREADS
	gone = lane_drain(self->lane, sk, timeout_ms);
	pthread_mutex_unlock(&self->lane->lock);
	Py_END_ALLOW_THREADS
	return PyBool_FromLong(gone);
}

/* sock_counts(slot) -> (rx_datagrams, tx_datagrams, rx_drops), of the fast lane alone */
static PyObject *py_sock_counts(LaneObject *self, PyObject *args)
{
	unsigned long long rx, tx, drops;
	struct lane_sock *sk;
	unsigned int slot;

	if (!PyArg_ParseTuple(args, "I:sock_counts", &slot))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	rx = sk->rx_datagrams;
	tx = sk->tx_datagrams;
	drops = sk->rx_drops;
	pthread_mutex_unlock(&self->lane->lock);
	return Py_BuildValue("KKK", rx, tx, drops);
}

/* counts() -> tuple: struct lane_counts in its order */
static PyObject *py_counts(LaneObject *self, PyObject *none)
{
	struct lane_counts c;

	(void)none;
	lane_take_lock(self->lane);
	c = self->lane->counts;
	pthread_mutex_unlock(&self->lane->lock);
	return Py_BuildValue("KKKKKKKKKKKKKKKKKKK", c.rx_packets, c.rx_bytes, c.tx_packets, c.tx_bytes,
			     c.tx_full, c.tx_failed, c.host_full, c.lo_packets, c.lo_bytes, c.delivered,
			     c.rcvbuff, c.host_packets, c.host_backlog, c.backlog,
			     c.backlog_bytes, c.shim_malformed, c.shim_replayed, c.shim_tag,
			     c.shim_refused);
}

/* --- flows */

/**
 * py_flow_up() - flow_up(slot, family, saddr, daddr, source, dest, id_no, l3, scope_id) -> bool
 *
 * An empty daddr is a flow of the host kernel, which has seen to whom it goes.
 *
 * Return: False if frames of the flow wait for the walk, which must see them first; then
 * no other frame is read until go_on() finds that none is left
 */
static PyObject *py_flow_up(LaneObject *self, PyObject *args)
{
	unsigned int slot, id_no, l3, scope_id;
	struct flow_key key = { 0 };
	const char *saddr, *daddr;
	Py_ssize_t slen, dlen;
	struct lane_sock *sk;
	struct flow *flow;
	bool waits;

	if (!PyArg_ParseTuple(args, "IIy#y#HHIII:flow_up", &slot, &key.family, &saddr, &slen,
			      &daddr, &dlen, &key.source, &key.dest, &id_no, &l3, &scope_id))
		return NULL;
	if (slen > 16 || dlen > 16) {
		PyErr_SetString(PyExc_ValueError, "flow_up: an address exceeds 16 octets");
		return NULL;
	}
	memcpy(key.saddr, saddr, (size_t)slen);
	memcpy(key.daddr, daddr, (size_t)dlen);
	if (!dlen)
		lane_host_key(&key, slot, scope_id);
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	waits = self->lane->marks[flow_hash(&self->lane->up, &key) % LANE_MARKS];
	if (waits) {
		self->lane->hold = true;
	} else {
		flow = flow_add(&self->lane->up, &key);
		flow->epoch = self->lane->epoch;
		flow->sock_epoch = sk->epoch;
		flow->port_epoch = self->lane->port_epochs[key.dest];
		flow->slot = slot;
		flow->kind = FLOW_RX;
		flow->id_no = id_no;
		flow->l3 = l3;
	}
	pthread_mutex_unlock(&self->lane->lock);
	return PyBool_FromLong(!waits);
}

/* flow_down(slot, record header, kind, family, headers, payload_max, segment_max) -> None */
static PyObject *py_flow_down(LaneObject *self, PyObject *args)
{
	unsigned int slot, kind, family, payload_max, segment_max;
	Py_ssize_t record_len, hlen;
	uint8_t key[FLOW_KEY];
	const char *record, *headers;
	struct record head;
	struct lane_sock *sk;
	struct flow *flow;

	if (!PyArg_ParseTuple(args, "Iy#IIy#II:flow_down", &slot, &record, &record_len, &kind,
			      &family, &headers, &hlen, &payload_max, &segment_max))
		return NULL;
	if (record_len < RECORD_HLEN || hlen > FRAME_HLEN_MAX || hlen < 16 ||
	    kind < FLOW_TUN || kind > FLOW_PEER || (kind < FLOW_HOST && hlen < 28)) {
		PyErr_SetString(PyExc_ValueError, "flow_down: a header of a wrong length");
		return NULL;
	}
	memcpy(&head, record, sizeof(head));
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	lane_down_key(sk, &head, key);
	flow = flow_add(&self->lane->down, key);
	flow->epoch = self->lane->epoch;
	flow->sock_epoch = sk->epoch;
	flow->slot = slot;
	flow->kind = kind;
	flow->family = family;
	flow->payload_max = payload_max;
	flow->segment_max = segment_max;
	flow->hlen = (uint32_t)hlen;
	memcpy(flow->headers, headers, (size_t)hlen);
	pthread_mutex_unlock(&self->lane->lock);
	Py_RETURN_NONE;
}

/* --- sockets of the host kernel */

/* host_add(slot, v6, fd) -> None: the lane receives and sends through it */
static PyObject *py_host_add(LaneObject *self, PyObject *args)
{
	struct lane_sock *sk;
	unsigned int slot;
	int v6, fd, err;

	if (!PyArg_ParseTuple(args, "Ipi:host_add", &slot, &v6, &fd))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	err = lane_host_add(self->lane, sk, v6, fd) ? errno : 0;
	pthread_mutex_unlock(&self->lane->lock);
	if (err) {
		errno = err;
		return PyErr_SetFromErrno(PyExc_OSError);
	}
	Py_RETURN_NONE;
}

/* host_del(slot, v6) -> None: it may be closed now */
static PyObject *py_host_del(LaneObject *self, PyObject *args)
{
	struct lane_sock *sk;
	unsigned int slot;
	int v6;

	if (!PyArg_ParseTuple(args, "Ip:host_del", &slot, &v6))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	lane_host_del(self->lane, sk, v6);
	pthread_mutex_unlock(&self->lane->lock);
	Py_RETURN_NONE;
}

/* host_watch(slot, v6) -> None: its error queue is empty again */
static PyObject *py_host_watch(LaneObject *self, PyObject *args)
{
	struct lane_sock *sk;
	unsigned int slot;
	int v6;

	if (!PyArg_ParseTuple(args, "Ip:host_watch", &slot, &v6))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	lane_host_watch(self->lane, sk, v6);
	pthread_mutex_unlock(&self->lane->lock);
	Py_RETURN_NONE;
}

/* forget() -> None: no flow counts any more */
static PyObject *py_forget(LaneObject *self, PyObject *none)
{
	(void)none;
	lane_take_lock(self->lane);
	if (!++self->lane->epoch)
		self->lane->epoch = 1;
	pthread_mutex_unlock(&self->lane->lock);
	Py_RETURN_NONE;
}

/* forget_sock(slot) -> None: no flow of this socket does */
static PyObject *py_forget_sock(LaneObject *self, PyObject *args)
{
	struct lane_sock *sk;
	unsigned int slot;

	if (!PyArg_ParseTuple(args, "I:forget_sock", &slot))
		return NULL;
	sk = take_sock(self->lane, slot);
	if (!sk)
		return NULL;
	sk->epoch = ++self->lane->sock_epochs;
	pthread_mutex_unlock(&self->lane->lock);
	Py_RETURN_NONE;
}

/* forget_port(port) -> None: no flow up to this port does */
static PyObject *py_forget_port(LaneObject *self, PyObject *args)
{
	unsigned short port;

	if (!PyArg_ParseTuple(args, "H:forget_port", &port))
		return NULL;
	lane_take_lock(self->lane);
	self->lane->port_epochs[port]++;
	pthread_mutex_unlock(&self->lane->lock);
	Py_RETURN_NONE;
}

#define METHOD(name, flags) { #name, (PyCFunction)(void (*)(void))py_##name, flags, NULL }

static PyMethodDef lane_methods[] = {
	METHOD(fileno, METH_NOARGS),
	METHOD(start, METH_NOARGS),
	METHOD(stop, METH_NOARGS),
	METHOD(run, METH_NOARGS),
	METHOD(take, METH_NOARGS),
	METHOD(go_on, METH_NOARGS),
	METHOD(lost, METH_NOARGS),
	METHOD(sock_add, METH_VARARGS),
	METHOD(sock_del, METH_VARARGS),
	METHOD(sock_rcvbuf, METH_VARARGS),
	METHOD(sock_counts, METH_VARARGS),
	METHOD(used, METH_VARARGS),
	METHOD(hung_up, METH_VARARGS),
	METHOD(put, METH_VARARGS),
	METHOD(error, METH_VARARGS),
	METHOD(publish, METH_NOARGS),
	METHOD(sent, METH_VARARGS),
	METHOD(drain, METH_VARARGS),
	METHOD(counts, METH_NOARGS),
	METHOD(host_add, METH_VARARGS),
	METHOD(host_del, METH_VARARGS),
	METHOD(host_watch, METH_VARARGS),
	METHOD(flow_up, METH_VARARGS),
	METHOD(flow_down, METH_VARARGS),
	METHOD(forget, METH_NOARGS),
	METHOD(forget_sock, METH_VARARGS),
	METHOD(forget_port, METH_VARARGS),
	{ "peer_set", lane_py_peer_set, METH_VARARGS, NULL },
	{ "peer_del", lane_py_peer_del, METH_VARARGS, NULL },
	{ "peer_cold", lane_py_peer_cold, METH_VARARGS, NULL },
	{ "session_add", lane_py_session_add, METH_VARARGS, NULL },
	{ "session_del", lane_py_session_del, METH_VARARGS, NULL },
	{ "encap", lane_py_encap, METH_VARARGS, NULL },
	{ "encap_add", lane_py_encap_add, METH_VARARGS, NULL },
	{ "encap_del", lane_py_encap_del, METH_VARARGS, NULL },
	{ "encap_watch", lane_py_encap_watch, METH_VARARGS, NULL },
	{ NULL, NULL, 0, NULL },
};

static PyType_Slot lane_slots[] = {
	{ Py_tp_new, (void *)lane_new },
	{ Py_tp_dealloc, (void *)lane_dealloc },
	{ Py_tp_methods, lane_methods },
	{ Py_tp_doc, (void *)"The fast lane; see mhostd/fast.py." },
	{ 0, NULL },
};

PyType_Spec lane_spec = {
	.name = "mhostd.native._native.Lane",
	.basicsize = sizeof(LaneObject),
	.flags = Py_TPFLAGS_DEFAULT,
	.slots = lane_slots,
};
