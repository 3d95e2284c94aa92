/* lane_type.h - the fast lane as Python has it */
#ifndef MHOSTD_LANE_TYPE_H
#define MHOSTD_LANE_TYPE_H

#include <Python.h>

extern PyType_Spec lane_spec;

#endif
