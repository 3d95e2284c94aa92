/* lane_type.h - the fast lane, and who pumps for it, as Python has them */
#ifndef MHOSTD_LANE_TYPE_H
#define MHOSTD_LANE_TYPE_H

#include <Python.h>

struct lane;

extern PyType_Spec lane_spec;
extern PyType_Spec pump_spec;

struct lane *lane_of(PyObject *object);
void lane_take_lock(struct lane *lane);

PyObject *lane_py_peer_set(PyObject *self, PyObject *args);
PyObject *lane_py_peer_del(PyObject *self, PyObject *args);
PyObject *lane_py_peer_cold(PyObject *self, PyObject *args);
PyObject *lane_py_session_add(PyObject *self, PyObject *args);
PyObject *lane_py_session_del(PyObject *self, PyObject *args);
PyObject *lane_py_encap(PyObject *self, PyObject *args);
PyObject *lane_py_encap_add(PyObject *self, PyObject *args);
PyObject *lane_py_encap_del(PyObject *self, PyObject *args);
PyObject *lane_py_encap_watch(PyObject *self, PyObject *args);

#endif
