"""The door: ZeroMQ in the place of the system call. docs/ipc.md specifies it."""
