/* lane_type.h - the fast lane, and who pumps for it, as Python has them */
#ifndef MHOSTD_LANE_TYPE_H
#define MHOSTD_LANE_TYPE_H

#include <Python.h>

extern PyType_Spec lane_spec;
extern PyType_Spec pump_spec;

#endif
