"""Taking over a socket's shared memory: descriptors come over a UNIX socket of their own.

    client -> LANE (version, socket number) with [memfd, end of a pair of sockets]
    daemon -> errno in four octets, then a text

Whose socket it is the kernel says (SO_PEERCRED of the connection): process and user must
be those of the ZeroMQ connection on which it was opened.
"""

from __future__ import annotations

import array
import contextlib
import errno
import logging
import os
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from mhostd.errors import MhostError
from mhostd.fast import FastLane
from mhostd.ipc.pump import Pumps
from mhostd.sock import Sock
from mhostd.structs import Watch
from mhostd.uapi import LANE, VERSION

CONNECTIONS_MAX = 4096
REQUESTS_PER_WAKE = 64

_UCRED = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_ERRNO = struct.Struct("=i")
_NO_LINGER = struct.pack("=ii", 0, 0)
_DESCRIPTORS = 2
_ANCILLARY = socket.CMSG_SPACE(_DESCRIPTORS * array.array("i").itemsize)

log = logging.getLogger(__name__)


class Handover:
    """The listener, and the connections of the clients."""

    def __init__(
        self,
        path: str,
        fast: FastLane,
        pumps: Pumps,
        socks: dict[int, Sock],
        watch: Watch,
        admit: Callable[[str], object],
    ) -> None:
        """Listen; the caller holds the lock of the ZeroMQ socket beside it.

        Args:
            path: of the listener; whoever may not use it is kept out by its mode.
            fast: who takes the descriptors.
            pumps: those of the sockets that have sent or received something already.
            socks: by number.
            watch: of the poller.
            admit: lets the group in that may use the ZeroMQ socket.

        Raises:
            MhostError: the path cannot be bound.
        """
        self._path = path
        self._fast = fast
        self._pumps = pumps
        self._socks = socks
        self._watch = watch
        self._clients: dict[int, socket.socket] = {}
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        self._listener = socket.socket(
            socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK
        )
        mask = os.umask(0o117)
        try:
            Path(path).unlink(missing_ok=True)
            self._listener.bind(path)
            self._listener.listen(128)
            admit(path)
        except OSError as err:
            self._listener.close()
            os.close(self._spare)
            number = err.errno or errno.EIO
            raise MhostError(number, f"socket {path}: {os.strerror(number)}") from None
        finally:
            os.umask(mask)
        watch(self._listener.fileno(), self._accept)

    def _accept(self) -> None:
        try:
            client, _address = self._listener.accept()
        except OSError as err:  # it has hung up meanwhile, or there is no descriptor left
            if err.errno in (errno.EMFILE, errno.ENFILE):
                self._refuse()
            return
        if len(self._clients) >= CONNECTIONS_MAX:
            client.close()
            return
        client.setblocking(False)
        fd = client.fileno()
        self._clients[fd] = client
        self._watch(fd, lambda: self._on_readable(client))

    def _refuse(self) -> None:
        """Hang up on a connection for which there is no descriptor but the spare one."""
        os.close(self._spare)
        with contextlib.suppress(OSError):
            self._listener.accept()[0].close()
        self._spare = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)

    def _on_readable(self, client: socket.socket) -> None:
        for _ in range(REQUESTS_PER_WAKE):
            try:
                message, ancillary, _flags, _address = client.recvmsg(
                    LANE.size + 1, _ANCILLARY, socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                return
            except OSError:
                message, ancillary = b"", []
            with contextlib.ExitStack() as cleanup:
                fds = _descriptors(ancillary)
                for fd in fds:
                    cleanup.callback(_close, fd)
                if not message:
                    self._hang_up(client)
                    return
                try:
                    self._take(client, message, fds)
                    answer = _ERRNO.pack(0)
                except OSError as err:
                    text = err.strerror or ""
                    answer = _ERRNO.pack(err.errno or errno.EIO) + text.encode()
            try:
                client.send(answer)
            except OSError:  # it asks without reading the answers
                self._hang_up(client)
                return

    def _take(self, client: socket.socket, message: bytes, fds: list[int]) -> None:
        if len(message) != LANE.size or len(fds) != _DESCRIPTORS:
            raise MhostError(
                errno.EINVAL,
                f"lane: {len(message)} octets with {len(fds)} descriptors; want {LANE.size} "
                f"with {_DESCRIPTORS}",
            )
        version, number = LANE.unpack(message)
        if version != VERSION:
            raise MhostError(
                errno.EPROTONOSUPPORT,
                f"lane: protocol version {version}; this daemon speaks {VERSION}",
            )
        ucred = client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        pid, uid, _gid = _UCRED.unpack(ucred)
        sk = self._socks.get(number)
        if sk is None or (sk.client.pid, sk.client.uid) != (pid, uid):
            raise MhostError(errno.EBADF, f"lane: socket {number} is not this process's")
        if sk.pumped:
            self._pumps.give_way(sk)
        if sk.slot >= 0:
            raise MhostError(errno.EBUSY, f"lane: socket {number} has shared memory already")
        try:
            self._fast.add(sk, *fds)
        except OSError as err:
            number = err.errno or errno.EIO
            raise MhostError(
                number, f"lane: {os.strerror(number)}; docs/ipc.md says what is wanted"
            ) from None
        sk.rmem_sent = 0  # no credit is given any more, and none is needed
        self._fast.limit(sk)

    def _hang_up(self, client: socket.socket) -> None:
        fd = client.fileno()
        self._watch(fd, None)
        self._clients.pop(fd, None)
        client.close()

    def close(self) -> None:
        """Stop listening and remove the file; sockets stay as they are."""
        self._watch(self._listener.fileno(), None)
        for client in list(self._clients.values()):
            self._hang_up(client)
        self._listener.close()
        os.close(self._spare)
        Path(self._path).unlink(missing_ok=True)


def _close(fd: int) -> None:
    """Close what a client has given; a TCP socket that lingers must not hold us up."""
    with contextlib.suppress(OSError):
        s = socket.socket(fileno=fd)
        try:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        finally:
            s.detach()
    os.close(fd)


def _descriptors(ancillary: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, type_, data in ancillary:
        if (level, type_) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
