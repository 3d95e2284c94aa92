"""mhost.Socket: the stdlib socket's datagram methods on an AF_MHOST socket."""

from __future__ import annotations

import errno
import os
import socket
import time
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, Self

from mhost.channel import REPLY_TIMEOUT_S, Channel, OtherSessionError
from mhost.daemon import channel
from mhost.names import Address, names_of
from mhost.receive import ReceiveQueue
from mhostd.uapi import (
    ADDRESS_MAX,
    AF_MHOST,
    MHOST_PKTINFO,
    MHOST_RECVPKTINFO,
    RECORD_CONNECTED,
    RECORD_REPLY,
    SOL_MHOST,
    UDP_PAYLOAD_MAX,
    AnsweredRequest,
    Bind,
    Connect,
    Consumed,
    GetName,
    GetSockOpt,
    Record,
    Reply,
    SetSockOpt,
    Shutdown,
    SockaddrMhost,
    SockError,
    pack_data,
    pack_record,
)
from mhostd.uapi import Socket as SocketRequest

DESTINATIONS_MAX = 1024  # that one socket remembers as good
RCVBUF_DEFAULT = 212_992  # octets, the daemon's default
_FLAGS = socket.MSG_DONTWAIT | socket.MSG_PEEK | socket.MSG_TRUNC
_NOWHERE = SockaddrMhost(0)

Buffer = bytes | bytearray | memoryview
Ancillary = list[tuple[int, int, bytes]]


class Socket:
    """One AF_MHOST datagram socket; its protocol is always UDP.

    Addresses are tuples (host, port). `host` is an IPv4 or IPv6 literal, `proto:address`
    for a plug-in family ("testproto:7"), or a host name, which the daemon translates for
    each datagram; "" and "*" bind everywhere. What recvfrom() returns can be sent to.

    The first send to a destination waits for the daemon and raises its error; later ones
    do not wait, and an error of theirs is raised by the next send to that destination
    and, on a connected socket, is SO_ERROR, as with a kernel socket.

    It may be used from several threads. A child made by fork() opens sockets of its own.
    """

    def __init__(
        self, family: int = AF_MHOST, type: int = socket.SOCK_DGRAM, proto: int = 0
    ) -> None:
        """Open it.

        Raises:
            ConnectionRefusedError: no daemon answers; the text says what to do.
            OSError: EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EMFILE.
        """
        self.family, self.type, self.proto = AF_MHOST, socket.SOCK_DGRAM, socket.IPPROTO_UDP
        self._closed = True  # until it is open, for __del__
        blocking = not type & socket.SOCK_NONBLOCK
        type_ = type & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._channel: Channel = channel()
        self._names = names_of(self._channel)
        self._create = lambda seq: SocketRequest(seq, family, type_, proto)
        self._timeout_s: float | None = None if blocking else 0.0
        self._rcvbuf = RCVBUF_DEFAULT
        self._shut_write = False
        self._pktinfo = False
        self._known: dict[SockaddrMhost, None] = {}
        self._failed: dict[SockaddrMhost, tuple[int, str]] = {}
        self._options: dict[tuple[int, int], int] = {}
        self._bound: Address | None = None
        self._port = 0
        self._peer: Address | None = None
        self._arrived = ReceiveQueue()
        try:
            self._number = int(self._channel.request(self._create))
        except BaseException:
            self._arrived.close()
            raise
        self._closed = False
        self._channel.join(self._number, self)

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"fd={self.fileno()}, port={self._port}"
        return f"<mhost.Socket {state}, peer={self._peer}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed and not self._channel.inherited:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            self._closed = True
            self._arrived.close()
            self._channel.abandon(self._number)

    def fileno(self) -> int:
        """A descriptor that is readable when recvfrom() would return; -1 once closed."""
        return -1 if self._closed else self._arrived.fileno()

    def close(self) -> None:
        """Close it; its port is free when this returns."""
        if self._closed:
            return
        self._closed = True
        if not self._channel.inherited:  # a child's copy of the locks may be held
            self._channel.leave(self._number, self)
            self._arrived.close()
            self._channel.close_socket(self._number)

    # --- modes

    def setblocking(self, flag: bool) -> None:
        """Block for ever, or not at all."""
        self._timeout_s = None if flag else 0.0

    def getblocking(self) -> bool:
        """Whether it blocks at all."""
        return self._timeout_s != 0.0

    def settimeout(self, value: float | None) -> None:
        """Block for that many seconds; None for ever, 0 not at all."""
        if value is not None and value < 0:
            raise ValueError("Timeout value out of range")
        self._timeout_s = value

    def gettimeout(self) -> float | None:
        """Return what settimeout() was given."""
        return self._timeout_s

    @property
    def timeout(self) -> float | None:
        """The same, as in the stdlib."""
        return self._timeout_s

    def _deadline(self, flags: int = 0) -> float | None:
        if flags & socket.MSG_DONTWAIT:
            return time.monotonic()
        return None if self._timeout_s is None else time.monotonic() + self._timeout_s

    # --- names

    def bind(self, address: Address) -> None:
        """Bind everywhere ("" or "*"), to one L3, to one address, or to one host."""
        self._port = self._rename(address, "bind", Bind)
        self._bound = (address[0], self._port)

    def connect(self, address: Address | None) -> None:
        """Set the peer of send() and recv(); None dissolves it (AF_UNSPEC in C)."""
        self._port = self._rename(address, "connect", Connect)
        self._peer = address
        self._known.pop(_NOWHERE, None)
        self._failed.pop(_NOWHERE, None)

    def connect_ex(self, address: Address | None) -> int:
        """As connect(), but return the errno."""
        try:
            self.connect(address)
        except OSError as err:
            return err.errno or errno.EIO
        return 0

    def getsockname(self) -> Address:
        """Where it is bound: ("*", port) for everywhere."""
        value = self._ask(lambda seq: GetName(seq, self._number, False))
        return self._names.spell(SockaddrMhost(*value))

    def getpeername(self) -> Address:
        """The peer of connect(); ENOTCONN if there is none."""
        value = self._ask(lambda seq: GetName(seq, self._number, True))
        return self._names.spell(SockaddrMhost(*value))

    def shutdown(self, how: int) -> None:
        """Stop receiving (blocked calls return b""), sending (EPIPE), or both."""
        if how not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise OSError(errno.EINVAL, f"shutdown: {how} is not SHUT_RD, SHUT_WR or SHUT_RDWR")
        if how in (socket.SHUT_RD, socket.SHUT_RDWR):
            self._arrived.shutdown()
        self._shut_write |= how in (socket.SHUT_WR, socket.SHUT_RDWR)
        self._ask(lambda seq: Shutdown(seq, self._number, how))

    # --- options

    def setsockopt(self, level: int, optname: int, value: int | Buffer) -> None:
        """Set an option; its value is an int, or an int in four octets."""
        number = value if isinstance(value, int) else int.from_bytes(value[:4], "little")
        if (level, optname) == (SOL_MHOST, MHOST_RECVPKTINFO):
            self._pktinfo = bool(number)
            return
        self._ask(lambda seq: SetSockOpt(seq, self._number, level, optname, number))
        self._options[level, optname] = number
        if (level, optname) == (socket.SOL_SOCKET, socket.SO_RCVBUF):
            self._rcvbuf = self.getsockopt(level, optname)

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> Any:
        """Return an option: an int, or with buflen 4 its octets."""
        if (level, optname) == (socket.SOL_SOCKET, socket.SO_ERROR):
            value = self._arrived.pending_error()
        elif (level, optname) == (SOL_MHOST, MHOST_RECVPKTINFO):
            value = int(self._pktinfo)
        else:
            value = int(self._ask(lambda seq: GetSockOpt(seq, self._number, level, optname)))
        return value.to_bytes(buflen, "little") if buflen else value

    # --- sending

    def send(self, data: Buffer, flags: int = 0) -> int:
        """Send one datagram to the peer of connect()."""
        return self._send(bytes(memoryview(data)), flags, None)

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """As send(): a datagram goes whole or not at all."""
        self._send(bytes(memoryview(data)), flags, None)

    def sendto(self, data: Buffer, *args: Any) -> int:
        """Send one datagram; the arguments are (data, address) or (data, flags, address)."""
        if len(args) not in (1, 2):
            raise TypeError(f"sendto() takes 2 or 3 arguments ({len(args) + 1} given)")
        flags = args[0] if len(args) == 2 else 0
        return self._send_named(bytes(memoryview(data)), flags, args[-1], "sendto")

    def sendmsg(
        self,
        buffers: Iterable[Buffer],
        ancdata: Iterable[tuple[int, int, Buffer]] = (),
        flags: int = 0,
        address: Address | None = None,
    ) -> int:
        """Send one datagram gathered from several buffers."""
        for level, kind, _data in ancdata:
            raise OSError(errno.EINVAL, f"sendmsg: control message {level}/{kind} is not known")
        payload = b"".join(map(memoryview, buffers))
        if address is None:
            return self._send(payload, flags, None)
        return self._send_named(payload, flags, address, "sendmsg")

    def _send_named(self, payload: bytes, flags: int, address: object, call: str) -> int:
        while True:
            instance = self._channel.instance
            try:
                sa = self._names.parse(address, call, self._patience_s())
                return self._send(payload, flags, sa, instance)
            except OtherSessionError:
                continue  # the handle was of a daemon that is gone

    def _send(
        self, payload: bytes, flags: int, sa: SockaddrMhost | None, instance: str = ""
    ) -> int:
        self._check_flags(flags, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        self._check_open()
        if self._shut_write:
            raise BrokenPipeError(errno.EPIPE, "sendto: shut down for writing")
        if len(payload) > UDP_PAYLOAD_MAX:
            raise OSError(
                errno.EMSGSIZE,
                f"sendto: payload of {len(payload)} octets exceeds {UDP_PAYLOAD_MAX}; "
                "send it in several datagrams",
            )
        if sa is None:
            self._raise_pending()
        key = _NOWHERE if sa is None else _key(sa)
        failed = self._failed.pop(key, None)
        if failed is not None and self._timeout_s == 0:
            raise OSError(*failed)  # others wait for this datagram's own answer
        connected = RECORD_CONNECTED if sa is None else 0
        deadline = self._deadline(flags)

        def first(cookie: int) -> bytes:
            record = Record(key, payload, connected | RECORD_REPLY, 0, cookie)
            return pack_data(self._number, pack_record(record))

        if key in self._known:
            later = lambda _cookie: pack_data(  # noqa: E731
                self._number, pack_record(Record(key, payload, connected))
            )
            self._channel.post_record(later, deadline, instance)
        elif deadline is None or self._timeout_s:
            try:
                self._answered(key, self._channel.exchange(first, deadline, instance))
            except TimeoutError:
                raise TimeoutError("timed out") from None
            if key in self._failed:
                raise OSError(*self._failed.pop(key))
        else:
            done = lambda reply: self._answered(key, reply)  # noqa: E731
            self._channel.post_record(first, deadline, instance, done)
        return len(payload)

    def _answered(self, key: SockaddrMhost, reply: Reply) -> None:
        """The first datagram to a destination went out, or did not."""
        if reply.errno:
            self._failed[key] = (reply.errno, reply.text)
            return
        self._port = self._port or int(reply.value)
        if len(self._known) >= DESTINATIONS_MAX:
            self._known.pop(next(iter(self._known)), None)
        self._known[key] = None

    # --- receiving

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        """Receive one datagram; what does not fit bufsize is cut off."""
        record = self._receive(flags, bufsize)
        return record.payload[:bufsize] if record else b""

    def recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Address]:
        """Receive one datagram and where it came from; a known host by its name."""
        record = self._receive(flags, bufsize)
        if record is None:
            return b"", ("", 0)
        return record.payload[:bufsize], self._names.spell(record.sa)

    def recv_into(self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0) -> int:
        """Receive one datagram into a buffer; return its octets there."""
        return self.recvfrom_into(buffer, nbytes, flags)[0]

    def recvfrom_into(
        self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0
    ) -> tuple[int, Address]:
        """Receive one datagram into a buffer; with MSG_TRUNC return its whole length."""
        view = memoryview(buffer).cast("B")
        if not 0 <= nbytes <= len(view):
            raise ValueError(f"nbytes {nbytes} is not in 0..{len(view)}, what the buffer holds")
        record = self._receive(flags)
        if record is None:
            return 0, ("", 0)
        payload = record.payload[: nbytes or len(view)]
        view[: len(payload)] = payload
        whole = flags & socket.MSG_TRUNC
        return len(record.payload if whole else payload), self._names.spell(record.sa)

    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0
    ) -> tuple[bytes, Ancillary, int, Address]:
        """Receive one datagram with what is known about it.

        Args:
            bufsize: octets of payload at most.
            ancbufsize: octets for control messages; none come with 0.
            flags: MSG_PEEK, MSG_DONTWAIT, MSG_TRUNC.

        Returns:
            Payload, control messages, flags (MSG_TRUNC if it was cut), source. With
            MHOST_RECVPKTINFO set there is one control message, MHOST_PKTINFO: the L3
            handler and the locator that it came from, as "inet 10.0.0.1".
        """
        record = self._receive(flags, bufsize)
        if record is None:
            return b"", [], 0, ("", 0)
        ancdata: Ancillary = []
        if self._pktinfo and ancbufsize:
            l3 = self._channel.l3_name(record.cookie)
            text = f"{l3} {self._names.text(record.sa._replace(id_no=0))}".encode()
            ancdata.append((SOL_MHOST, MHOST_PKTINFO, text))
        cut = socket.MSG_TRUNC if len(record.payload) > bufsize else 0
        return record.payload[:bufsize], ancdata, cut, self._names.spell(record.sa)

    def _receive(self, flags: int, bufsize: int = 0) -> Record | None:
        """Take the oldest datagram, waiting as the mode says; None after shutdown."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        self._check_flags(flags, _FLAGS)
        deadline = self._deadline(flags)
        while True:
            self._check_open()
            record = self._arrived.take(peek=bool(flags & socket.MSG_PEEK))
            if record is not None:
                octets = self._arrived.credit(self._rcvbuf)
                if octets and not self._channel.notify(Consumed(self._number, octets)):
                    self._arrived.uncredited(octets)
                return record
            if self._arrived.shut:
                return None
            if not self._arrived.wait(deadline):
                if self._timeout_s and not flags & socket.MSG_DONTWAIT:
                    raise TimeoutError("timed out")
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    # --- called by the channel

    def deliver(self, records: list[Record]) -> None:
        """Datagrams have come."""
        self._arrived.deliver(records)

    def fail(self, event: SockError) -> None:
        """A datagram that was sent earlier has failed."""
        key = _key(event.sa)
        if self._peer is not None and not (event.local and key in self._known):
            self._known.pop(_NOWHERE, None)
            self._arrived.fail(event.errno)
            return
        self._known.pop(key, None)
        if event.local:
            self._failed[key] = (event.errno, event.text)

    def restore(self) -> None:
        """The daemon is another one: create, set, bind and connect again."""
        self._known.clear()
        self._arrived.forget_handles()
        try:
            self._number = int(self._channel.request(self._create))
            self._channel.join(self._number, self)
            for (level, option), value in self._options.items():
                self._ask(lambda seq: SetSockOpt(seq, self._number, level, option, value))  # noqa: B023
            if self._port:
                self._name((self._bound[0] if self._bound else "*", self._port), "bind", Bind)
            if self._peer:
                self._name(self._peer, "connect", Connect)
        except OtherSessionError:
            raise
        except OSError as err:
            self._arrived.fail(err.errno or errno.EIO)

    # --- small things

    def _ask(self, build: Callable[[int], AnsweredRequest]) -> Any:
        self._check_open()
        return self._channel.request(build)

    def _rename(self, address: Address | None, call: str, kind: type[Bind | Connect]) -> int:
        """As _name(), in whatever session there is."""
        self._check_open()
        while True:
            try:
                return self._name(address, call, kind)
            except OtherSessionError:
                continue

    def _name(self, address: Address | None, call: str, kind: type[Bind | Connect]) -> int:
        """Bind or connect; return the local port."""
        instance = self._channel.instance
        sa = None if address is None else self._names.parse(address, call)

        def build(seq: int) -> Bind | Connect:
            return kind(seq, self._number, sa)  # type: ignore[arg-type]

        return int(self._channel.request(build, instance=instance))

    def _patience_s(self) -> float:
        """How long a look-up may take: a non-blocking call cannot do without it either."""
        return min(REPLY_TIMEOUT_S, 1.0 if self._timeout_s == 0 else self._timeout_s or 1e9)

    def _raise_pending(self) -> None:
        err = self._arrived.pending_error()
        if err:
            raise OSError(err, os.strerror(err))

    def _check_open(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the socket is closed")
        if self._channel.inherited:
            raise OSError(
                errno.EBADF, "the socket was opened before fork(); open it in the child"
            )

    @staticmethod
    def _check_flags(flags: int, known: int) -> None:
        if flags & ~known:
            raise OSError(errno.EOPNOTSUPP, f"flags 0x{flags & ~known:x} are not supported")


def _key(sa: SockaddrMhost) -> SockaddrMhost:
    """A destination as records have it, its address padded to 16 octets."""
    return sa._replace(address=sa.address.ljust(ADDRESS_MAX, b"\0"))
