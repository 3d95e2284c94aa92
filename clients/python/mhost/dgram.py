"""mhost.Socket: the stdlib socket's datagram methods on an AF_MHOST socket."""

from __future__ import annotations

import errno
import operator
import os
import socket
import struct
import sys
import termios
from collections.abc import Iterable
from typing import Any

from mhost.errqueue import Ancillary, error_message, fit, no_error
from mhost.exchange import REPLY_TIMEOUT_S
from mhost.handle import RCVTIMEO, SNDTIMEO, Handle
from mhost.names import Address
from mhost.sk import check_send_flags
from mhostd.cmsg import pack_cmsgs, unpack_cmsgs
from mhostd.uapi import (
    BATCH_OCTETS,
    CONTROL_MAX,
    GetName,
    GetSockOpt,
    Record,
    Shutdown,
    SockaddrMhost,
    pack_data,
)

Buffer = bytes | bytearray | memoryview

_BUFFERS_MAX = 1024  # UIO_MAXIOV of linux/uio.h
_TIMEVAL = struct.Struct("=qq")
_SOURCE = struct.Struct("=HH16sII")  # octets 8..12 and 16..40 of a record's header
_SOL_UDP, _UDP_SEGMENT, _UDP_GRO = 17, 103, 104  # linux/udp.h
_SEGMENT_MESSAGE = (_SOL_UDP, _UDP_SEGMENT)
_NOBODY: Any = None  # the source of what recvfrom() returns after shutdown()
_BINDTODEVICE = (socket.SOL_SOCKET, socket.SO_BINDTODEVICE)
_IFNAMSIZ = 16  # octets, linux/if.h
_SO_ERROR = (socket.SOL_SOCKET, socket.SO_ERROR)
_FIONREAD, _SIOCOUTQ = termios.FIONREAD, termios.TIOCOUTQ


class Socket(Handle):
    """One AF_MHOST datagram socket; its protocol is always UDP.

    Addresses are tuples (host, port). `host` is an IPv4 or IPv6 literal, `proto:address`
    for a plug-in family ("testproto:7"), or a host name, which the daemon translates for
    each datagram; "" and "*" bind everywhere. What recvfrom() returns can be sent to.

    The first send to a destination waits for the daemon and raises its error; later ones
    do not wait, and an error of theirs is raised by the next send to that destination
    and, on a connected socket, is SO_ERROR, as with a kernel socket. With IP_RECVERR,
    IPV6_RECVERR or MHOST_RECVERR set, errors that came back are SO_ERROR also on another,
    and recvmsg(MSG_ERRQUEUE) tells of each.

    It may be used from several threads, and signal handlers that return interrupt no call
    (PEP 475). A child made by fork() opens sockets of its own.

    An error that waits makes fileno() readable, where a kernel socket has POLLERR: an
    eventfd has no such event.
    """

    _like_linux = False  # getsockname() names the address that a connected one sends from

    # --- names

    def bind(self, address: Address) -> None:
        """Bind everywhere ("" or "*"), to one L3, to one address, or to one host."""
        self._check_open()
        if address is None:
            raise TypeError("bind(): AF_MHOST address must be a tuple (host, port), not None")
        self._sk.bind(address)

    def connect(self, address: Address | None) -> None:
        """Set the peer of send() and recv(); None dissolves it (AF_UNSPEC in C)."""
        self._check_open()
        self._sk.connect(address)

    def connect_ex(self, address: Address | None) -> int:
        """As connect(), but return the errno."""
        try:
            self.connect(address)
        except OSError as err:
            return err.errno or errno.EIO
        return 0

    def getsockname(self) -> Address:
        """Where it is bound: ("*", port) for everywhere."""
        return self._name(peer=False)

    def getpeername(self) -> Address:
        """The peer of connect(); ENOTCONN if there is none."""
        return self._name(peer=True)

    def _name(self, *, peer: bool) -> Address:
        self._check_open()
        value = self._sk.ask(lambda seq: GetName(seq, self._sk.number, peer, self._like_linux))
        return self._sk.names.spell(SockaddrMhost(*value))

    def shutdown(self, how: int) -> None:
        """Stop receiving (blocked calls return b""), sending (EPIPE), or both."""
        self._check_open()
        if operator.index(how) not in (socket.SHUT_RD, socket.SHUT_WR, socket.SHUT_RDWR):
            raise OSError(errno.EINVAL, f"shutdown: {how} is not SHUT_RD, SHUT_WR or SHUT_RDWR")
        if how in (socket.SHUT_RD, socket.SHUT_RDWR):
            self._sk.arrived.shutdown()
        self._sk.shut_write |= how in (socket.SHUT_WR, socket.SHUT_RDWR)
        self._sk.refresh()
        self._sk.ask(lambda seq: Shutdown(seq, self._sk.number, how))

    # --- options

    def setsockopt(
        self, level: int, optname: int, value: int | Buffer | None, optlen: int | None = None
    ) -> None:
        """Set an option; its value is an int, or the octets of a structure."""
        self._check_open()
        key = (level, optname)
        if value is None:
            number = errno.EINVAL if (optlen or 0) < 4 else errno.EFAULT
            raise OSError(number, f"setsockopt: no value, {optlen} octets")
        if key in self._timeo_s:
            self._timeo_s[key] = _seconds(value)
            return
        if level == _SOL_UDP and optname in (_UDP_SEGMENT, _UDP_GRO):
            self._set_offload(optname, value)
            return
        kept = int(value) if isinstance(value, int) else bytes(value)  # True is an int too
        if isinstance(kept, int) and not -(2**31) <= kept < 2**31:
            raise TypeError(f"setsockopt: {kept} is out of the range of a C int")
        self._sk.set_option(level, optname, kept)
        if key == (socket.SOL_SOCKET, socket.SO_RCVBUF):
            self._sk.set_rcvbuf(self.getsockopt(level, optname))

    def _set_offload(self, optname: int, value: int | Buffer) -> None:
        """UDP_SEGMENT and UDP_GRO (linux/udp.h): what a call sends, or takes, at once."""
        ring = self._sk.arrived.ring
        number = value if isinstance(value, int) else int.from_bytes(bytes(value)[:4], "little")
        if optname == _UDP_GRO:
            ring.whole = bool(number)
        elif 0 <= number <= 0xFFFF:
            ring.segment = number
        else:
            raise OSError(errno.EINVAL, f"setsockopt: UDP_SEGMENT {number} is not in 0..65535")

    def getsockopt(self, level: int, optname: int, buflen: int = 0) -> Any:
        """Return an option: an int, or with buflen at most so many octets."""
        self._check_open()
        if not 0 <= buflen <= 1024:
            raise OSError(f"getsockopt: buflen {buflen} is not in 0..1024")
        key = (level, optname)
        value: int | bytes
        if key == _SO_ERROR:
            value = self._sk.arrived.pending_error()
        elif key == (_SOL_UDP, _UDP_SEGMENT):
            value = self._sk.arrived.ring.segment
        elif key == (_SOL_UDP, _UDP_GRO):
            value = int(self._sk.arrived.ring.whole)
        elif key in self._timeo_s:
            seconds = self._timeo_s[key]
            value = _TIMEVAL.pack(int(seconds), round(seconds % 1 * 1e6))
        else:
            sk = self._sk  # its number is another one after a restart of the daemon
            value = sk.ask(lambda seq: GetSockOpt(seq, sk.number, level, optname))
        if key == _BINDTODEVICE and value and buflen < _IFNAMSIZ:
            raise OSError(
                errno.EINVAL, f"getsockopt: buflen {buflen}; a name takes up to {_IFNAMSIZ}"
            )
        octets = value if isinstance(value, bytes) else value.to_bytes(4, "little", signed=True)
        if level == socket.IPPROTO_IP and 0 < buflen < 4 and not any(octets[1:]):
            return octets[:1]  # as ip_sockglue.c of Linux, where a small value fits
        return octets[:buflen] if buflen else int.from_bytes(octets[:4], "little", signed=True)

    def ioctl(self, request: int, _arg: int = 0) -> int:
        """FIONREAD: octets of the next datagram. SIOCOUTQ: those that wait to be sent."""
        self._check_open()
        if request == _FIONREAD:
            return self._sk.arrived.next_size()
        if request == _SIOCOUTQ:
            return self._sk.unanswered()
        raise OSError(errno.ENOTTY, f"ioctl: 0x{request:x} is neither FIONREAD nor SIOCOUTQ")

    # --- sending

    # send, sendto, recv, recvfrom and their _into are FastSocket's; what is not plain is
    # for the method with an underscore in front.

    def _send(self, data: Buffer, flags: int = 0) -> int:
        return self._send_payload(bytes(memoryview(data)), flags)

    def sendall(self, data: Buffer, flags: int = 0) -> None:
        """As send(): a datagram goes whole or not at all."""
        self._send_payload(bytes(memoryview(data)), flags)

    def _sendto(self, data: Buffer, *args: Any) -> int:
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
        """Send one datagram gathered from several buffers, with control messages.

        Those of IPv4 and IPv6: IP_TTL, IP_TOS, IP_PKTINFO, IPV6_HOPLIMIT, IPV6_TCLASS,
        IPV6_PKTINFO; each counts if the datagram goes over its family.
        """
        views = [bytes(memoryview(each)) for each in buffers]
        if len(views) > _BUFFERS_MAX:
            text = f"sendmsg: {len(views)} buffers exceed {_BUFFERS_MAX}"
            raise OSError(errno.EMSGSIZE, text)
        messages = [(level, type_, bytes(data)) for level, type_, data in ancdata]
        sizes = [data for level, type_, data in messages if (level, type_) == _SEGMENT_MESSAGE]
        segment = int.from_bytes(sizes[-1][:2], sys.byteorder) if sizes else None
        control = pack_cmsgs(each for each in messages if each[:2] != _SEGMENT_MESSAGE)
        if len(control) > CONTROL_MAX:
            raise OSError(
                errno.ENOBUFS,
                f"sendmsg: control messages of {len(control)} octets exceed {CONTROL_MAX}",
            )
        if address is None:
            return self._send_payload(b"".join(views), flags, control, segment)
        payload = b"".join(views)
        return self._send_named(payload, flags, address, "sendmsg", control, segment)

    def sendmmsg(
        self,
        messages: Iterable[Buffer | tuple[Buffer, Address]],
        flags: int = 0,
        address: Address | None = None,
    ) -> int:
        """Send a datagram from each message: (data, address), or data alone.

        Data alone goes to `address`, or to the peer of connect(). It waits as send()
        does, and goes faster than as many calls.

        Returns:
            How many were sent: less than all if one failed; its error is raised if it
            was the first, else by the next call, as sendmmsg(2) has it.
        """
        each = list(messages)
        sent = 0
        while sent < len(each):
            if not flags:
                sent += self._put_many(each, sent, address)
                sent += self._post_many(each, sent, address)
                if sent == len(each):
                    break
            data, to = _message(each[sent], address)
            try:
                if to is None:
                    self._send(data, flags)
                else:
                    self._sendto(data, flags, to)
            except OSError:
                if not sent:
                    raise
                break
            sent += 1
        return sent

    def _post_many(
        self,
        messages: list[Buffer | tuple[Buffer, Address]],
        start: int,
        address: Address | None,
    ) -> int:
        """Over ZeroMQ: those from `start` on that go in one message; how many."""
        sk = self._sk
        if self._closed or sk.shared or sk.channel.inherited:
            return 0
        if sk.shut_write or sk.arrived.has_error:
            return 0
        instance, prefix = sk.channel.instance, pack_data(sk.number, b"")
        count, message = self._pack_many(messages, start, address, prefix, BATCH_OCTETS)
        return count if count and sk.post(message, instance) else 0

    def _give_credit(self) -> None:
        self._sk.give_credit()

    def _send_payload(
        self, payload: bytes, flags: int, control: bytes = b"", segment: int | None = None
    ) -> int:
        self._check_open()
        if flags:
            check_send_flags(flags)
        waits = self._timeout_s != 0 and not flags & socket.MSG_DONTWAIT
        deadline = self._deadline(flags, SNDTIMEO)
        try:
            return self._sk.send(payload, None, deadline, waits, control, segment=segment)
        except (TimeoutError, BlockingIOError) as err:
            raise self._too_late(err, flags) from None

    def _send_named(
        self,
        payload: bytes,
        flags: int,
        address: object,
        call: str,
        control: bytes = b"",
        segment: int | None = None,
    ) -> int:
        self._check_open()
        if flags:
            check_send_flags(flags)
        waits = self._timeout_s != 0 and not flags & socket.MSG_DONTWAIT
        deadline = self._deadline(flags, SNDTIMEO)
        # A non-blocking call cannot do without a look-up either.
        patience_s = REPLY_TIMEOUT_S if self._timeout_s is None else self._timeout_s or 1.0
        patience_s = min(patience_s, REPLY_TIMEOUT_S)
        send = self._sk.send_named
        try:
            return send(payload, address, call, patience_s, deadline, waits, control, segment)
        except (TimeoutError, BlockingIOError) as err:
            raise self._too_late(err, flags) from None

    def _too_late(self, err: OSError, flags: int) -> OSError:
        """What a call gives that waited in vain: as settimeout() or as SOSNDTIMEO says."""
        if self._timeout_s and not flags & socket.MSG_DONTWAIT:
            return TimeoutError("timed out")
        if err.errno is None:  # the deadline of SOSNDTIMEO
            return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return err

    # --- receiving

    def _recv(self, bufsize: int, flags: int = 0) -> bytes:
        return self.recvmsg(bufsize, 0, flags)[0] if flags else self._payload(bufsize)

    def _payload(self, bufsize: int) -> bytes:
        record = self._receive(0, bufsize)
        return record.payload[:bufsize] if record else b""

    def _recvfrom(self, bufsize: int, flags: int = 0) -> tuple[bytes, Address]:
        if flags & socket.MSG_ERRQUEUE:
            data, _ancdata, _flags, address = self.recvmsg(bufsize, 0, flags)
            return data, address
        record = self._receive(flags, bufsize)
        if record is None:
            return b"", _NOBODY
        return record.payload[:bufsize], self._sk.names.spell(record.sa)

    def recvmmsg(self, vlen: int, bufsize: int, flags: int = 0) -> list[tuple[bytes, Address]]:
        """Receive up to `vlen` datagrams: wait for the first, take those that have come."""
        if vlen < 1:
            raise ValueError(f"recvmmsg: vlen {vlen}; want 1 or more")
        found = [] if flags else self._take_many(vlen, bufsize)
        if not found:
            found = [self._recvfrom(bufsize, flags)]
            try:
                while len(found) < vlen and found[-1][1] is not None:
                    more = [] if flags else self._take_many(vlen - len(found), bufsize)
                    found += more or [self._recvfrom(bufsize, flags | socket.MSG_DONTWAIT)]
            except OSError:
                pass  # there is no more now; an error comes with the next call
        return found

    def _spell(self, source: bytes) -> Address:
        """The address of a source as the header of a record has it (_fast_socket.c)."""
        family, port, address, id_no, scope_id = _SOURCE.unpack(source)
        return self._sk.names.spell(SockaddrMhost(family, port, address, id_no, scope_id))

    def _recvfrom_into(
        self, buffer: bytearray | memoryview, nbytes: int = 0, flags: int = 0
    ) -> tuple[int, Address]:
        view = memoryview(buffer).cast("B")
        if not 0 <= nbytes <= len(view):
            raise ValueError(f"nbytes {nbytes} is not in 0..{len(view)}, what the buffer holds")
        payload, _ancdata, _flags, address = self._recvmsg(flags, 0)
        kept = payload[: nbytes or len(view)]
        view[: len(kept)] = kept
        return len(payload if flags & socket.MSG_TRUNC else kept), address

    def recvmsg(
        self, bufsize: int, ancbufsize: int = 0, flags: int = 0
    ) -> tuple[bytes, Ancillary, int, Address]:
        """Receive one datagram with what is known about it.

        Args:
            bufsize: octets of payload at most.
            ancbufsize: octets for control messages, as socket.CMSG_SPACE() counts them.
            flags: MSG_PEEK, MSG_DONTWAIT, MSG_TRUNC; with MSG_ERRQUEUE take the oldest
                error instead, which is never waited for.

        Returns:
            Payload, control messages, flags (MSG_TRUNC if the payload was cut, MSG_CTRUNC
            if the control messages were, MSG_ERRQUEUE), source; of an error the datagram
            that failed and its destination.
        """
        if bufsize < 0 or ancbufsize < 0:
            raise ValueError("negative buffersize in recv")
        payload, messages, said, address = self._recvmsg(flags, bufsize)
        ancdata, cut = fit(messages, ancbufsize)
        if len(payload) > bufsize:
            cut |= socket.MSG_TRUNC
        cut |= flags & socket.MSG_CMSG_CLOEXEC
        return payload[:bufsize], ancdata, said | cut, address

    def recvmsg_into(
        self, buffers: Iterable[bytearray | memoryview], ancbufsize: int = 0, flags: int = 0
    ) -> tuple[int, Ancillary, int, Address]:
        """As recvmsg(), scattered over several buffers.

        Returns:
            Octets in them (with MSG_TRUNC those of the datagram), and as recvmsg().
        """
        if ancbufsize < 0:
            raise ValueError("invalid ancillary data buffer length")
        views = [memoryview(each).cast("B") for each in buffers]
        room = sum(map(len, views))
        payload, messages, said, address = self._recvmsg(flags, room)
        ancdata, cut = fit(messages, ancbufsize)
        if len(payload) > room:
            cut |= socket.MSG_TRUNC
        at = 0
        for view in views:
            part = payload[at : at + len(view)]
            view[: len(part)] = part
            at += len(part)
        said |= cut | flags & socket.MSG_CMSG_CLOEXEC
        return len(payload) if flags & socket.MSG_TRUNC else at, ancdata, said, address

    def _recvmsg(self, flags: int, bufsize: int) -> tuple[bytes, Ancillary, int, Address]:
        """The whole of one datagram, or of one error."""
        if flags & socket.MSG_ERRQUEUE:
            self._check_open()
            event = self._sk.arrived.take_error()
            if event is None or event.queued is None:
                raise no_error()
            address = self._sk.names.spell(event.sa)
            quoted = bytes(event.queued[-1])
            return quoted, [error_message(event)], socket.MSG_ERRQUEUE, address
        record = self._receive(flags, bufsize)
        if record is None:
            return b"", [], 0, _NOBODY
        messages = [(each.level, each.type, each.data) for each in unpack_cmsgs(record.control)]
        if record.segment_size:
            size = record.segment_size.to_bytes(4, sys.byteorder)
            messages.append((_SOL_UDP, _UDP_GRO, size))
        return record.payload, messages, 0, self._sk.names.spell(record.sa)

    def _receive(self, flags: int, bufsize: int = 0) -> Record | None:
        """Take the oldest datagram, waiting as the mode says; None after shutdown."""
        if bufsize < 0:
            raise ValueError("negative buffersize in recv")
        sk = self._sk
        deadline = self._deadline(flags, RCVTIMEO)
        while True:
            self._check_open()
            record = sk.take(peek=bool(flags & socket.MSG_PEEK))
            if record is not None:
                return record
            if sk.arrived.shut and self._timeout_s != 0 and not flags & socket.MSG_DONTWAIT:
                return None
            if not sk.arrived.wait(deadline, lambda: self._closed):
                if self._timeout_s and not flags & socket.MSG_DONTWAIT:
                    raise TimeoutError("timed out")
                raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def _message(
    message: Buffer | tuple[Buffer, Address], address: Address | None
) -> tuple[Buffer, Address | None]:
    """Data and destination of one element of what sendmmsg() is given."""
    if isinstance(message, tuple):
        if len(message) != 2:
            raise TypeError("sendmmsg(): a message is data, or a tuple (data, address)")
        return message
    return message, address


def _seconds(value: int | Buffer) -> float:
    """Read a struct timeval of SORCVTIMEO or SOSNDTIMEO; 0 is for ever."""
    octets = b"" if isinstance(value, int) else bytes(value)
    if len(octets) < _TIMEVAL.size:
        raise OSError(
            errno.EINVAL, f"setsockopt: struct timeval has {_TIMEVAL.size} octets, two of time"
        )
    seconds, microseconds = _TIMEVAL.unpack_from(octets)
    if not 0 <= microseconds < 10**6:
        raise OSError(errno.EDOM, f"setsockopt: {microseconds} µs is not in 0..999999")
    if seconds < 0:
        return 1e-9  # as Linux: it does not wait
    return float(seconds + microseconds / 1e6)
