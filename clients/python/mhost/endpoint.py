"""AF_MHOST under asyncio: create_datagram_endpoint for asyncio's and uvloop's loops."""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, TypeVar

from mhost.dgram import Socket
from mhost.names import Address

DATAGRAMS_PER_WAKE = 256
READ_SIZE = 65536
ERROR_SIZE = socket.CMSG_SPACE(64)  # octets; the largest offender has 28
SO_EE_ORIGIN_LOCAL = 1  # linux/errqueue.h

_ERROR = struct.Struct("=IB")  # errno and origin of struct sock_extended_err

_P = TypeVar("_P", bound=asyncio.DatagramProtocol)


class MhostDatagramTransport(asyncio.DatagramTransport):
    """The transport: what is written goes out at once, for the daemon has the queue."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: Socket, protocol: asyncio.DatagramProtocol
    ) -> None:
        super().__init__({"socket": sock})
        self._loop = loop
        self._sock = sock
        self._protocol = protocol
        self._closing = False
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._start)

    def _start(self) -> None:
        if not self._closing:
            self._loop.add_reader(self._sock.fileno(), self._on_readable)

    def _on_readable(self) -> None:
        for _ in range(DATAGRAMS_PER_WAKE):
            if self._closing:
                return
            try:
                data, address = self._sock.recvfrom(READ_SIZE)
            except BlockingIOError:
                self._drain_errors()
                return
            except OSError as err:
                self._protocol.error_received(err)
            else:
                self._protocol.datagram_received(data, address)

    def _drain_errors(self) -> None:
        """Tell the protocol of errors that are on the error queue only: those of this host.

        A protocol that wants more of them reads the queue in its error_received().
        """
        try:
            while not self._closing:
                queued = self._sock.recvmsg(0, ERROR_SIZE, socket.MSG_ERRQUEUE)[1]
                number, origin = _ERROR.unpack_from(queued[-1][2])
                if origin == SO_EE_ORIGIN_LOCAL:
                    self._protocol.error_received(OSError(number, os.strerror(number)))
        except BlockingIOError:
            pass

    def sendto(self, data: Any, addr: Any = None) -> None:
        """Send one datagram, to `addr` or to the peer given at creation."""
        if self._closing:
            return
        try:
            if addr is None:
                self._sock.send(data)
            else:
                self._sock.sendto(data, addr)
        except BlockingIOError:
            pass  # the lane is full: as a full device queue, it loses the datagram
        except OSError as err:
            self._protocol.error_received(err)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known: "socket", "sockname" or "peername"."""
        if name == "sockname":
            return self._sock.getsockname()
        if name == "peername":
            try:
                return self._sock.getpeername()
            except OSError:
                return default
        return super().get_extra_info(name, default)

    def is_closing(self) -> bool:
        """Whether close() or abort() was called."""
        return self._closing

    def close(self) -> None:
        """Stop, and tell the protocol that the connection is lost."""
        self._end(None)

    def abort(self) -> None:
        """The same; nothing waits here to be sent."""
        self._end(None)

    def _end(self, err: Exception | None) -> None:
        if self._closing:
            return
        self._closing = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.call_soon(self._lost, err)

    def _lost(self, err: Exception | None) -> None:
        self._protocol.connection_lost(err)
        self._sock.close()


async def create_datagram_endpoint(
    protocol_factory: Callable[[], _P],
    local_addr: Address | None = None,
    remote_addr: Address | None = None,
    *,
    sock: Socket | None = None,
) -> tuple[MhostDatagramTransport, _P]:
    """As loop.create_datagram_endpoint, on an AF_MHOST socket of the running loop.

    Args:
        protocol_factory: makes the asyncio.DatagramProtocol.
        local_addr: where to bind.
        remote_addr: whom to connect to; names are resolved off the loop.
        sock: a socket to use instead; it becomes non-blocking.

    Raises:
        ValueError: both a socket and an address were given.
        OSError: as Socket, bind and connect.
    """
    if sock is not None and (local_addr or remote_addr):
        raise ValueError("give `sock` or addresses, not both")
    loop = asyncio.get_running_loop()
    if sock is None:
        sock = await loop.run_in_executor(None, _open, local_addr, remote_addr)
    sock.setblocking(False)
    protocol = protocol_factory()
    return MhostDatagramTransport(loop, sock, protocol), protocol


def _open(local_addr: Address | None, remote_addr: Address | None) -> Socket:
    sock = Socket()
    try:
        if local_addr is not None:
            sock.bind(local_addr)
        if remote_addr is not None:
            sock.connect(remote_addr)
    except OSError:
        sock.close()
        raise
    return sock
