"""One socket of the daemon, as this process has it: what dup() shares.

It sends, takes what the channel brings, and makes itself anew in another session.
"""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

from mhost.channel import Channel
from mhost.daemon import channel
from mhost.exchange import OtherSessionError
from mhost.names import Address, names_of
from mhost.receive import ReceiveQueue
from mhostd.uapi import (
    ADDRESS_MAX,
    MHOST_RECVERR,
    RECORD_CONNECTED,
    RECORD_HLEN,
    RECORD_REPLY,
    SOL_MHOST,
    UDP_PAYLOAD_MAX,
    AnsweredRequest,
    Bind,
    Connect,
    Consumed,
    Record,
    Reply,
    SetSockOpt,
    SockaddrMhost,
    SockError,
    Socket,
    pack_data,
    pack_record,
)

SEGMENTS_MAX = 128  # UDP_MAX_SEGMENTS of Linux include/linux/udp.h
CREDIT_SHARE = 4  # credit goes back a quarter of the receive buffer at a time
DESTINATIONS_MAX = 1024  # that one socket remembers as good
RCVBUF_DEFAULT = 212_992  # octets, the daemon's default
NOWHERE = SockaddrMhost(0)

# Memberships add up; what leaves one takes back what joined it (linux/in.h, linux/in6.h).
_JOINS = {(0, 35), (0, 39), (41, 20)}
_RECVERR = {(0, 11), (41, 25), (SOL_MHOST, MHOST_RECVERR)}
_LEAVES = {(0, 36): (0, 35), (0, 40): (0, 39), (41, 21): (41, 20)}


class Sk:
    """The socket behind one or more mhost.Socket objects.

    Attributes:
        arrived: what has come for it.
        rcvbuf: octets, as the daemon has it.
        port: local port, 0 while unbound.
        peer: what connect() was given.
        refs: Socket objects that have it, under `refs_lock`.
        shared: its data goes through the memory in `arrived`, else over ZeroMQ.
    """

    def __init__(self, family: int, type_: int, proto: int) -> None:
        """Open it; OSError as mhost.Socket."""
        self.channel: Channel = channel()
        self.names = names_of(self.channel)
        self.arrived = ReceiveQueue(self.channel.in_pump)
        self.rcvbuf = RCVBUF_DEFAULT
        self.port = 0
        self.peer: Address | None = None
        self.refs = 1
        self.refs_lock = threading.RLock()  # a finaliser may take it within
        self.shut_write = False
        self.shared = False
        self._unanswered: dict[object, int] = {}
        self._create = lambda seq: Socket(seq, family, type_, proto)
        self._known: dict[SockaddrMhost, None] = {}
        self._failed: dict[SockaddrMhost, tuple[int, str]] = {}
        self._options: list[tuple[int, int, int | bytes]] = []
        self._bound: Address | None = None
        try:
            self.number = int(self.channel.request(self._create))
        except BaseException:
            self.arrived.close()
            self.arrived.free()
            raise
        self.channel.join(self.number, self)
        self._share()
        self.refresh()

    def _share(self) -> None:
        """Have the daemon use the memory, if it can."""
        hand_over = self.channel.hand_over
        self.shared = self.arrived.give(lambda *fds: hand_over(self.number, *fds))
        self.set_rcvbuf(self.rcvbuf)

    def set_rcvbuf(self, octets: int) -> None:
        """The receive buffer, as the daemon has it; credit for it is given in shares."""
        self.rcvbuf = octets
        self.arrived.ring.credit = 0 if self.shared else octets // CREDIT_SHARE or 1

    def refresh(self) -> None:
        """Say whether the fast calls may put datagrams in the memory."""
        self.arrived.ring.sending = self._may_put() and not self.shut_write

    def _may_put(self) -> bool:
        """Datagrams may go through the memory: none that went another way is behind."""
        return self.shared and self.channel.up and not self._unanswered

    def close(self) -> None:
        """Close it; its port is free when this returns, and what was sent has gone."""
        self.channel.leave(self.number, self)
        self.arrived.close()
        self.channel.close_socket(self.number)
        self.arrived.free()

    def abandon(self) -> None:
        """Close it soon; takes no lock of the channel, so a finaliser may call it."""
        self.arrived.close()
        self.channel.abandon(self.number)
        self.arrived.free()

    def ask(self, build: Callable[[int], AnsweredRequest]) -> Any:
        """Ask the daemon something and wait for the answer."""
        return self.channel.request(build)

    def set_option(self, level: int, option: int, value: int | bytes) -> None:
        """setsockopt(2) in the daemon, and again in each new session."""
        self.ask(lambda seq: SetSockOpt(seq, self.number, level, option, value))
        key = (level, option)
        if key in _RECVERR and not (any(value) if isinstance(value, bytes) else value):
            self.arrived.forget_errors()
        if key in _LEAVES:
            join = (*_LEAVES[key], value)
            if join in self._options:
                self._options.remove(join)
            return
        if key not in _JOINS:
            self._options = [each for each in self._options if each[:2] != key]
        self._options.append((level, option, value))

    # --- names

    def bind(self, address: Address) -> None:
        """Bind, here and in each new session."""
        self.port = self._rename(address, "bind", Bind)
        self._bound = (address[0], self.port)

    def connect(self, address: Address | None) -> None:
        """Set the peer; None dissolves the association."""
        self.port = self._rename(address, "connect", Connect)
        self.peer = address
        self._forget(NOWHERE)
        self._failed.pop(NOWHERE, None)

    def _rename(self, address: Address | None, call: str, kind: type[Bind | Connect]) -> int:
        """As _name(), in whatever session there is."""
        while True:
            try:
                return self._name(address, call, kind)
            except OtherSessionError:
                continue

    def _name(self, address: Address | None, call: str, kind: type[Bind | Connect]) -> int:
        """Bind or connect; return the local port."""
        instance = self.channel.instance
        sa = None if address is None else self.names.parse(address, call)

        def build(seq: int) -> Bind | Connect:
            return kind(seq, self.number, sa)  # type: ignore[arg-type]

        return int(self.channel.request(build, instance=instance))

    # --- sending

    def send_named(
        self,
        payload: bytes,
        address: object,
        call: str,
        patience_s: float,
        deadline: float | None,
        waits: bool,
        control: bytes = b"",
        segment: int | None = None,
    ) -> int:
        """As send(), to an address that a look-up of at most `patience_s` makes."""
        while True:
            instance = self.channel.instance
            try:
                sa = self.names.parse(address, call, patience_s)
                return self.send(
                    payload, sa, deadline, waits, control, instance, address, segment
                )
            except OtherSessionError:
                continue  # the handle was of a daemon that is gone

    def send(
        self,
        payload: bytes,
        sa: SockaddrMhost | None,
        deadline: float | None,
        waits: bool,
        control: bytes = b"",
        instance: str = "",
        address: object = None,
        segment: int | None = None,
    ) -> int:
        """Send one datagram, or several.

        Args:
            payload: octets.
            sa: destination, None for the peer of connect().
            deadline: of time.monotonic(), until when to wait for room; None for ever.
            waits: the first send to a destination waits for the daemon's answer, and so
                does one with control messages; those that do not are answered all the
                same, and until all are, none goes through the memory.
            control: control messages, packed (mhostd.cmsg).
            instance: the session in which `sa` has a meaning.
            address: what `sa` was made of.
            segment: octets of each datagram, if `payload` is longer than that; 0 is one,
                None is as UDP_SEGMENT was set.
        """
        if segment is None:
            segment = self.arrived.ring.segment
        segment = segment if len(payload) > segment else 0
        if segment and len(payload) > segment * SEGMENTS_MAX:
            raise OSError(
                errno.EINVAL,
                f"sendto: {len(payload)} octets are more than {SEGMENTS_MAX} datagrams of "
                f"{segment}, as UDP_SEGMENT says; send less at a time",
            )
        if len(payload) > UDP_PAYLOAD_MAX:
            if sa is None and self.peer is None:
                raise OSError(errno.EDESTADDRREQ, "send: no destination; connect first")
            raise OSError(
                errno.EMSGSIZE,
                f"sendto: payload of {len(payload)} octets exceeds {UDP_PAYLOAD_MAX}; "
                "send it in several datagrams",
            )
        if self.shut_write:
            raise BrokenPipeError(errno.EPIPE, "sendto: shut down for writing")
        err = self.arrived.pending_error() if self.arrived.has_error else 0
        if err:
            raise OSError(err, os.strerror(err))
        key = NOWHERE if sa is None else key_of(sa)
        failed = self._failed.pop(key, None)
        if failed is not None and not waits:
            raise OSError(*failed)  # others wait for this datagram's own answer
        connected = RECORD_CONNECTED if sa is None else 0

        def first(cookie: int) -> bytes:
            flags = connected | RECORD_REPLY
            record = Record(key, payload, flags, segment, cookie, control)
            return pack_data(self.number, pack_record(record))

        if key in self._known and not control and self._may_put():
            record = Record(key, payload, connected, segment)
            self._put(record, deadline, instance, address)
        elif key in self._known and not control and not (self.shared and self._unanswered):
            later = lambda _cookie: pack_data(  # noqa: E731
                self.number, pack_record(Record(key, payload, connected, segment))
            )
            self._post(later, deadline, instance)
            self._remember(key, connected, address)
        elif waits:
            try:
                self._answered(key, self.channel.exchange(first, deadline, instance))
            except TimeoutError:
                raise TimeoutError("timed out") from None
            if key in self._failed:
                raise OSError(*self._failed.pop(key))
        else:
            token = object()

            def done(reply: Reply) -> None:
                self._unanswered.pop(token, None)
                self._answered(key, reply)
                self.refresh()

            self._unanswered[token] = len(payload)
            self.refresh()
            try:
                self._post(first, deadline, instance, done)
            except BaseException:
                self._unanswered.pop(token, None)
                self.refresh()
                raise
        return len(payload)

    def _post(
        self,
        message: Callable[[int], bytes],
        deadline: float | None,
        instance: str,
        done: Callable[[Reply], None] | None = None,
    ) -> None:
        """As Channel.post_record(); without room it is not writable until there is some."""
        try:
            self.channel.post_record(message, deadline, instance, done)
        except BlockingIOError:
            self.channel.await_room(self)
            raise

    def room(self, there: bool) -> None:
        """Whether it is writable, over ZeroMQ; the daemon says so in memory that it has."""
        if not self.shared:
            self.arrived.room(there)

    def post(self, message: bytes, instance: str) -> bool:
        """Send a data message made in that session, without waiting; False if it can't be."""
        try:
            self.channel.post_record(lambda _cookie: message, time.monotonic(), instance)
        except OSError:  # full, or another session: send() waits
            return False
        return True

    def _put(
        self, record: Record, deadline: float | None, instance: str, address: object
    ) -> None:
        """Put a datagram in the memory, and have the fast calls do so with the next ones.

        Raises:
            BlockingIOError: there is no room until the deadline.
            OtherSessionError: the session is not `instance`.
            OSError: EBADF, the socket was closed meanwhile.
        """
        ring, (key, payload, connected, *_rest) = self.arrived.ring, record
        header = pack_record(record._replace(payload=b""))[:RECORD_HLEN]
        while not ring.put(header, payload):
            ring.want_room()
            if ring.put(header, payload):
                break
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise BlockingIOError(
                    errno.EAGAIN, "the memory shared with mhostd is full; wait, or send less"
                )
            self.arrived.wait_room(left)
            if instance and instance != self.channel.instance:
                raise OtherSessionError(errno.ESTALE, "mhostd was restarted meanwhile")
        self._remember(key, connected, address)

    def _remember(self, key: SockaddrMhost, connected: int, address: object) -> None:
        """Have the fast calls send to a destination that is known to be good."""
        if key not in self._known or not self.channel.up:
            return
        ring = self.arrived.ring
        header = pack_record(Record(key, b"", connected))[:RECORD_HLEN]
        if connected:
            ring.peer = header
        elif isinstance(address, tuple):
            if len(ring.known) >= DESTINATIONS_MAX:
                ring.known.clear()
            ring.known[address] = header

    def _forget(self, key: SockaddrMhost) -> None:
        """The next datagram to there is a first one again."""
        self._known.pop(key, None)
        self.arrived.ring.forget()

    def unanswered(self) -> int:
        """Octets that nobody waits for and the daemon has not taken or answered yet."""
        return sum(list(self._unanswered.values())) + self.arrived.ring.unsent()

    def _answered(self, key: SockaddrMhost, reply: Reply) -> None:
        """The first datagram to a destination went out, or did not."""
        if reply.errno:
            self._failed[key] = (reply.errno, reply.text)
            return
        self.port = self.port or int(reply.value)
        if len(self._known) >= DESTINATIONS_MAX:
            self._forget(next(iter(self._known)))
        self._known[key] = None

    # --- receiving

    def take(self, *, peek: bool = False) -> Record | None:
        """Take the oldest datagram and give credit for it; OSError is the pending error."""
        record = self.arrived.take(peek=peek)
        if record is not None:
            self.give_credit()
        return record

    def give_credit(self) -> None:
        """Tell the daemon what was taken that came over ZeroMQ, if it is worth it."""
        octets = self.arrived.credit()
        if octets and not self.channel.notify(Consumed(self.number, octets)):
            self.arrived.uncredited(octets)

    # --- called by the channel

    def deliver(self, message: bytes) -> None:
        """Datagrams have come, in a data message."""
        self.arrived.deliver(message)

    def fail(self, event: SockError) -> None:
        """A datagram that was sent earlier has failed."""
        self._fail(event)
        if self.shared or self.arrived.ring.behind():
            self.arrived.counted()

    def _fail(self, event: SockError) -> None:
        key = key_of(event.sa)
        if event.queued is not None:
            self._forget(NOWHERE)
            self.arrived.queue_error(event)
        elif self.peer is not None and not (event.local and key in self._known):
            self._forget(NOWHERE)
            if event.fatal:
                self.arrived.fail(event.errno)
            return
        self._forget(key)
        if event.local and event.queued is None:
            self._failed[key] = (event.errno, event.text)

    def lost(self) -> None:
        """The daemon went away."""
        self.arrived.ring.sending = False

    def disown(self) -> None:
        """This is a child made by fork(): the fast calls leave its parent's memory alone."""
        self.arrived.ring.sending, self.arrived.ring.held = False, True

    def restore(self) -> None:
        """The daemon is another one: create, set, bind and connect again."""
        self._known.clear()
        self._failed.clear()
        self._unanswered.clear()
        self.arrived.ring.forget()
        self.arrived.renew()
        try:
            self.number = int(self.channel.request(self._create))
            self.channel.join(self.number, self)
            self._share()
            for each in self._options:
                self._set_again(*each)
            if self.port:
                self._name((self._bound[0] if self._bound else "*", self.port), "bind", Bind)
            if self.peer:
                self._name(self.peer, "connect", Connect)
        except OtherSessionError:
            raise
        except OSError as err:
            self.arrived.fail(err.errno or errno.EIO)

    def _set_again(self, level: int, option: int, value: int | bytes) -> None:
        """As before; a group whose interface is gone is an error of the socket, no more."""
        try:
            self.ask(lambda seq: SetSockOpt(seq, self.number, level, option, value))
        except OtherSessionError:
            raise
        except OSError as err:
            if (level, option) not in _JOINS:
                raise
            self.arrived.fail(err.errno or errno.EIO)


def key_of(sa: SockaddrMhost) -> SockaddrMhost:
    """A destination as records have it, its address padded to 16 octets."""
    return sa._replace(address=sa.address.ljust(ADDRESS_MAX, b"\0"))


_detached: dict[int, Sk] = {}


def detach(fd: int, sk: Sk) -> None:
    """Keep a socket that no Socket object has any more."""
    _detached[fd] = sk


def attach(fd: int) -> Sk:
    """Return the socket that detach() left under a descriptor; EBADF if there is none."""
    try:
        return _detached.pop(fd)
    except KeyError:
        raise OSError(
            errno.EBADF, f"descriptor {fd} is none that mhost.Socket.detach() returned"
        ) from None


def check_send_flags(flags: int) -> None:
    """Of the flags of send(2) those that would change what is sent are refused."""
    if not -(2**31) <= flags < 2**31:
        raise OverflowError("signed integer is out of range of a C int")
    refused = flags & (socket.MSG_OOB | socket.MSG_MORE | socket.MSG_DONTROUTE)
    if refused:
        raise OSError(errno.EOPNOTSUPP, f"flags 0x{refused:x} are not supported")
