"""The memory of a socket, and the connection over which the daemon is given it.

docs/ipc.md, section 7, has the layout; _ring.c moves datagrams in it.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import threading

from mhostd.uapi import LANE, LANE_OCTETS, VERSION

HAND_OVER_TIMEOUT_S = 1.0

_ERRNO = struct.Struct("=i")
_ANSWER_MAX = 1024  # octets
_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def memory() -> int:
    """Make the memory of one socket; a page of it is used until datagrams come."""
    memfd = os.memfd_create("mhost", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.ftruncate(memfd, LANE_OCTETS)
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(memfd)
        raise
    return memfd


def pair() -> tuple[int, int]:
    """Make the pair of sockets that say when something has come, and when there is room."""
    near, far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # as few octets as it may be
    return near.detach(), far.detach()


class LaneLink:
    """A connection to the daemon's socket for memory; any thread may use it."""

    def __init__(self, path: str) -> None:
        """Connect; OSError if nobody listens."""
        self._lock = threading.Lock()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            self._socket.settimeout(HAND_OVER_TIMEOUT_S)
            self._socket.connect(path)
        except BaseException:
            self._socket.close()
            raise

    def hand_over(self, number: int, memfd: int, far: int) -> bool:
        """Give the daemon a socket's memory; whether it took it."""
        fds = array.array("i", [memfd, far])
        try:
            with self._lock:
                self._socket.sendmsg(
                    [LANE.pack(VERSION, number)],
                    [(socket.SOL_SOCKET, socket.SCM_RIGHTS, fds)],
                )
                answer = self._socket.recv(_ANSWER_MAX)
        except OSError:
            self.close()  # a late answer would be taken for the next one's
            return False
        return len(answer) >= _ERRNO.size and _ERRNO.unpack_from(answer)[0] == 0

    def close(self) -> None:
        """End it; the sockets stay as they are."""
        self._socket.close()
