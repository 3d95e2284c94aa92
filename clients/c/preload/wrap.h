/* wrap.h - standing in front of a function of the C library */
#ifndef MHOST_WRAP_H
#define MHOST_WRAP_H

#include <dlfcn.h>
#include <stdint.h>

#define EXPORT	__attribute__((visibility("default")))

/* Have REAL() of a function of the C library. */
#define FIND(type, name, parameters) \
	static __typeof__(type (*) parameters) real_##name(void) \
	{ \
		static __typeof__(type (*) parameters) found; \
		if (__builtin_expect(!found, 0)) \
			found = (__typeof__(found))(uintptr_t)dlsym(RTLD_NEXT, #name); \
		return found; \
	}

/* Define a function that stands in front of one. */
#define WRAP(type, name, parameters) \
	FIND(type, name, parameters) \
	FRONT(type, name, parameters)

#define FRONT(type, name, parameters) \
	type name parameters EXPORT; \
	type name parameters

#define REAL(name)	(real_##name())

/* One that has a twin in mhost.h. */
#define PASS(type, name, parameters, arguments) \
	WRAP(type, name, parameters) \
	{ \
		return FIRST arguments ? mhost_##name arguments : REAL(name) arguments; \
	}
#define FIRST(fd, ...)	fd_is_ours(fd)

#endif
