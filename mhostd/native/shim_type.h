/* shim_type.h - a security session (shim.h) as Python has it */
#ifndef MHOSTD_SHIM_TYPE_H
#define MHOSTD_SHIM_TYPE_H

#include <Python.h>

#include "shim.h"

extern PyType_Spec shim_spec;

struct shim *shim_of(PyObject *object);

#endif
