"""Who may bind below net.ipv4.ip_unprivileged_port_start, 1024 as a rule (ip(7)).

Linux asks for CAP_NET_BIND_SERVICE of the process that calls bind(2). Here the daemon
calls it, so it asks /proc of the process that the connection belongs to.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from pathlib import Path

from mhostd.sock import Client

_CAP_NET_BIND_SERVICE = 1 << 10  # linux/capability.h
_SO_PEERPIDFD = 77  # asm-generic/socket.h, since Linux 6.5
_PID = struct.Struct("=i")  # the first field of struct ucred
_PORT_START = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")


def port_limit(client: Client, port: int) -> int:
    """Return below what a client may not bind, 0 if it may bind this port.

    The capability decides and not the uid: root can have dropped it.
    """
    start = int(_PORT_START.read_text())
    return start if port < start and not may_bind(client) else 0


def may_bind(client: Client) -> bool:
    """Whether a process has CAP_NET_BIND_SERVICE in our user namespace."""
    try:
        status = Path(f"/proc/{client.pid}/status").read_text()
        ours = _user_namespace(client.pid) == _user_namespace(os.getpid())
    except OSError:
        return False  # it has ended, or /proc is mounted with hidepid
    return has_net_bind_service(status) and ours and _lives(client.pidfd)


def has_net_bind_service(status: str) -> bool:
    """Read the effective capabilities of /proc/PID/status, proc(5)."""
    for line in status.splitlines():
        name, _colon, value = line.partition(":")
        if name == "CapEff":
            return bool(int(value, 16) & _CAP_NET_BIND_SERVICE)
    return False


def _user_namespace(pid: int) -> str:
    """The namespace, or where ptrace(2) rights are missing to see it, its map.

    An unprivileged user can give a namespace no map but of its own uid
    (user_namespaces(7)), so that none looks like ours.
    """
    mapped = Path(f"/proc/{pid}/uid_map").read_text()
    try:
        return mapped + os.readlink(f"/proc/{pid}/ns/user")
    except PermissionError:
        return mapped + os.readlink("/proc/self/ns/user")


def open_pidfd(fd: int) -> int:
    """Return a pidfd of the process at the other end of a connection, -1 without one.

    While it lives, no other process has its pid. Taken when the connection is accepted,
    as by then the process can hardly have ended and its pid been used again; where the
    kernel knows SO_PEERPIDFD, it cannot at all.
    """
    try:
        with socket.socket(fileno=os.dup(fd)) as s:
            try:
                return s.getsockopt(socket.SOL_SOCKET, _SO_PEERPIDFD)
            except OSError as err:
                if err.errno != errno.ENOPROTOOPT:
                    return -1
                credentials = s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PID.size)
        return os.pidfd_open(_PID.unpack_from(credentials)[0])
    except OSError:
        return -1  # gone meanwhile, or no descriptor is left: it is not privileged


def _lives(pidfd: int) -> bool:
    """A pidfd is readable once its process has ended, pidfd_open(2)."""
    if pidfd < 0:
        return False
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return not poll.poll(0)
