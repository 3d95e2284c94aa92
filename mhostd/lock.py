"""Locks that refuse a second daemon, by name, and leave nothing behind."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

from mhostd.errors import MhostError

_UCRED = struct.Struct("=iII")


class SocketLock:
    """A lock file beside an ipc:// socket, because bind() would steal one in use."""

    def __init__(self, address: str) -> None:
        """Take the lock, and make the directory if there is none.

        Raises:
            MhostError: EADDRINUSE, naming the process that has it.
        """
        self._path = Path(address.removeprefix("ipc://") + ".lock")
        self._path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        while True:
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            try:
                fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.read(self._fd, 32).decode().strip() or "unknown"
                os.close(self._fd)
                raise MhostError(
                    errno.EADDRINUSE,
                    f"socket {address} belongs to mhostd with pid {holder}; stop that "
                    "one, or set ipc.socket and ipc.admin_socket to other paths",
                ) from None
            if self._is_still_there():
                break
            os.close(self._fd)  # its last holder has just unlinked it
        os.truncate(self._fd, 0)
        os.write(self._fd, f"{os.getpid()}\n".encode())

    def _is_still_there(self) -> bool:
        try:
            return self._path.stat().st_ino == os.fstat(self._fd).st_ino
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Give it back, and leave no file."""
        self._path.unlink(missing_ok=True)
        os.close(self._fd)


class DeviceLock:
    """An abstract UNIX socket: its name lives in the network namespace, as devices do."""

    def __init__(self, device: str) -> None:
        """Take the lock.

        Raises:
            MhostError: EBUSY, naming the process that has it.
        """
        name = f"\0mhostd/device/{device}"
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._sock.bind(name)
        except OSError as err:
            self._sock.close()
            if err.errno != errno.EADDRINUSE:
                raise
            raise MhostError(
                errno.EBUSY,
                f"device {device} belongs to mhostd with pid {_holder(name)}; stop that "
                "one, or name another device",
            ) from None
        self._sock.listen()

    def close(self) -> None:
        """Give it back."""
        self._sock.close()


def _holder(name: str) -> str:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        try:
            s.connect(name)
        except OSError:
            return "unknown"
        pid, _uid, _gid = _UCRED.unpack(
            s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        )
        return str(pid)
