/* exec.c - sockets that go on in another program (inherit.c) */

#include <errno.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fds.h"
#include "wrap.h"

extern char **environ;

/* Do something with the environment that a new program is to have. */
#define LENDING(type, environment, call) do { \
	char **lent; \
	type result_; \
	int err_; \
	if (!fds_end) \
		break; \
	lent = fds_lend(environment); \
	if (lent == (char **)(uintptr_t)(environment)) \
		break; \
	result_ = call; \
	err_ = errno; \
	fds_take_back(lent); \
	errno = err_; \
	return result_; \
} while (0)

WRAP(int, execve, (const char *path, char *const argv[], char *const envp[]))
{
	LENDING(int, envp, REAL(execve)(path, argv, lent));
	return REAL(execve)(path, argv, envp);
}

WRAP(int, execvpe, (const char *file, char *const argv[], char *const envp[]))
{
	LENDING(int, envp, REAL(execvpe)(file, argv, lent));
	return REAL(execvpe)(file, argv, envp);
}

WRAP(int, fexecve, (int fd, char *const argv[], char *const envp[]))
{
	LENDING(int, envp, REAL(fexecve)(fd, argv, lent));
	return REAL(fexecve)(fd, argv, envp);
}

FRONT(int, execv, (const char *path, char *const argv[]))
{
	return execve(path, argv, environ);
}

FRONT(int, execvp, (const char *file, char *const argv[]))
{
	return execvpe(file, argv, environ);
}

/* The arguments of execl() and its kin, on the stack; they end in NULL. */
#define ARGUMENTS(argv, first, more) \
	va_list more; \
	size_t n_ = 1; \
	va_start(more, first); \
	while (va_arg(more, char *)) \
		n_++; \
	va_end(more); \
	char *argv[n_ + 1]; \
	argv[0] = (char *)(uintptr_t)(first); \
	va_start(more, first); \
	for (size_t i_ = 1; i_ <= n_; i_++) \
		argv[i_] = va_arg(more, char *)

FRONT(int, execl, (const char *path, const char *first, ...))
{
	ARGUMENTS(argv, first, more);
	va_end(more);
	return execve(path, argv, environ);
}

FRONT(int, execlp, (const char *file, const char *first, ...))
{
	ARGUMENTS(argv, first, more);
	va_end(more);
	return execvpe(file, argv, environ);
}

FRONT(int, execle, (const char *path, const char *first, ...))
{
	char **envp;

	ARGUMENTS(argv, first, more);
	envp = va_arg(more, char **);
	va_end(more);
	return execve(path, argv, envp);
}

WRAP(int, posix_spawn, (pid_t *restrict pid, const char *restrict path,
			const posix_spawn_file_actions_t *actions,
			const posix_spawnattr_t *restrict attributes,
			char *const argv[restrict], char *const envp[restrict]))
{
	LENDING(int, envp, REAL(posix_spawn)(pid, path, actions, attributes, argv, lent));
	return REAL(posix_spawn)(pid, path, actions, attributes, argv, envp);
}

WRAP(int, posix_spawnp, (pid_t *restrict pid, const char *restrict file,
			 const posix_spawn_file_actions_t *actions,
			 const posix_spawnattr_t *restrict attributes,
			 char *const argv[restrict], char *const envp[restrict]))
{
	LENDING(int, envp, REAL(posix_spawnp)(pid, file, actions, attributes, argv, lent));
	return REAL(posix_spawnp)(pid, file, actions, attributes, argv, envp);
}

/* The shell of these is started within the C library, with `environ`. */
WRAP(int, system, (const char *command))
{
	char **own = environ, **lent = fds_end ? fds_lend(environ) : environ;
	int result;

	environ = lent;
	result = REAL(system)(command);
	environ = own;
	if (lent != own)
		fds_take_back(lent);
	return result;
}

WRAP(FILE *, popen, (const char *command, const char *mode))
{
	char **own = environ, **lent = fds_end ? fds_lend(environ) : environ;
	FILE *result;

	environ = lent;
	result = REAL(popen)(command, mode);
	environ = own;
	if (lent != own)
		fds_take_back(lent);
	return result;
}
