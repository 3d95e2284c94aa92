"""Where the daemon is, and this process's one connection to it."""

from __future__ import annotations

import atexit
import errno
import os
import socket
import threading

from mhost.channel import Channel
from mhostd.uapi import DEFAULT_SOCKET


def daemon_address() -> str:
    """Where the daemon is: MHOST_SOCKET, or the usual place."""
    return os.environ.get("MHOST_SOCKET") or DEFAULT_SOCKET


def probe(address: str) -> None:
    """See whether a daemon listens, which ZeroMQ would not say.

    Raises:
        ConnectionRefusedError: nobody does; the text says what to do.
        PermissionError: this user may not connect.
        ValueError: the address is no `ipc://` one.
    """
    if not address.startswith("ipc://"):
        raise ValueError(f"MHOST_SOCKET is {address!r}; want ipc:///path")
    path = address.removeprefix("ipc://")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        try:
            s.connect("\0" + path[1:] if path.startswith("@") else path)
        except PermissionError:
            raise PermissionError(
                errno.EACCES, f"{address} is not open to you; join the group mhost"
            ) from None
        except OSError as err:
            raise ConnectionRefusedError(
                errno.ECONNREFUSED,
                f"no mhostd at {address} ({err.strerror}); start it with `systemctl start "
                "mhostd` or `mhostd --config FILE`, or set MHOST_SOCKET",
            ) from None


_channels: dict[str, Channel] = {}
_channels_lock = threading.Lock()


def channel() -> Channel:
    """Return this process's connection to the daemon that MHOST_SOCKET names."""
    address = daemon_address()
    with _channels_lock:
        found = _channels.get(address)
        if found is not None and not found.up:
            probe(address)  # says at once that there is none
        if found is None:
            probe(address)
            found = _channels[address] = Channel(address)
        return found


def close_all() -> None:
    """End every connection of this process."""
    for each in list(_channels.values()):
        each.close()
    _channels.clear()


def _after_fork_in_child() -> None:
    """Libzmq does not survive a fork: the child gets connections of its own."""
    global _channels, _channels_lock
    for each in _channels.values():
        each.disown()
    _inherited.extend(_channels.values())  # kept, so that nothing finalises them here
    _channels, _channels_lock = {}, threading.Lock()


_inherited: list[Channel] = []
atexit.register(close_all)
os.register_at_fork(after_in_child=_after_fork_in_child)
