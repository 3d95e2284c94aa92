"""One ZeroMQ connection to the daemon for all sockets of a process.

One thread, the pump, waits for the lane's descriptor; what comes, by it or by whoever
asks (mhost.exchange), goes to the socket that it is for.

After the daemon was restarted the pump says Hello again and every socket makes itself
anew: the same options, the same port, the same peer.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Protocol
from weakref import WeakSet, WeakValueDictionary

from mhost.exchange import Exchange, OtherSessionError, Waiter
from mhost.shm import LaneLink
from mhostd.uapi import (
    DATA_MAGIC,
    VERSION,
    Close,
    Hello,
    Named,
    Reply,
    Reset,
    SockError,
    decode_event,
    encode,
    unpack_data,
)

HELLO_TIMEOUT_S = 3.0
HELLO_RETRY_S = 0.5
CLOSE_TIMEOUT_S = 1.0


class Member(Protocol):
    """What the channel calls on a socket."""

    def deliver(self, message: bytes) -> None:
        """Datagrams have come, in a data message."""

    def fail(self, event: SockError) -> None:
        """A datagram that was sent earlier has failed."""

    def lost(self) -> None:
        """The session has ended."""

    def disown(self) -> None:
        """It is another process's, from before a fork."""

    def refresh(self) -> None:
        """There is a session again."""

    def room(self, there: bool) -> None:
        """Whether it is writable, over ZeroMQ."""

    def restore(self) -> None:
        """The session is another one: create, bind and connect again.

        Raises:
            OtherSessionError: it has ended too.
        """


class Channel(Exchange):
    """The connection.

    Attributes:
        inherited: it is another process's, from before a fork.
        on_named: called when the daemon says what an address is called.
    """

    def __init__(self, address: str) -> None:
        """Connect and say Hello; mhost.daemon has seen that somebody listens.

        Raises:
            OSError: nobody answers, or it refuses; the text says what to do.
        """
        super().__init__(address)
        self.inherited = False
        self._orphans: deque[int] = deque()
        self.on_named: Callable[[Named], None] = lambda _event: None
        self._hello_at: float | None = None
        self._in_hello = self._saying_hello = False
        self._why: OSError | None = None
        self._members: WeakValueDictionary[int, Member] = WeakValueDictionary()
        self._joined: WeakSet[Member] = WeakSet()
        self._crowded: WeakSet[Member] = WeakSet()
        self._link: LaneLink | None = None
        self._drainer = 0  # thread that takes what has come now
        self._pump.start()
        with self._ready:
            self._ready.wait_for(lambda: self._up, HELLO_TIMEOUT_S)
        if not self._up:
            self.close()
            raise self._why or ConnectionRefusedError(
                errno.ECONNREFUSED,
                f"mhostd at {address} does not answer; see `systemctl status mhostd`",
            )

    # --- what is closed

    def close_socket(self, number: int) -> None:
        """Close a socket and wait a little until it is; one that is away has closed it."""
        waiter = Waiter()
        deadline = time.monotonic() + CLOSE_TIMEOUT_S
        with self._lock:
            if not self._up:
                return
            try:
                seq = self._post(lambda seq: encode(Close(seq, number)), deadline, waiter)
            except OtherSessionError:
                return
            except BlockingIOError:
                self.abandon(number)
                return
        waiter.arrived.wait(max(0.0, deadline - time.monotonic()))
        with self._lock:
            self._waiters.pop(seq, None)

    def abandon(self, number: int) -> None:
        """Have the pump close a socket; takes no lock, so a finaliser may call it."""
        self._orphans.append(number)
        self._lane.wake()

    def _close_orphans(self) -> None:
        while self._orphans:
            number = self._orphans.popleft()
            self._members.pop(number, None)
            if not self.notify(Close(0, number)):
                self._orphans.append(number)
                return

    # --- members

    def join(self, number: int, member: Member) -> None:
        """A socket has this number in this session."""
        with self._lock:
            self._members[number] = member
            self._joined.add(member)

    def leave(self, number: int, member: Member) -> None:
        """It is closed."""
        with self._lock:
            self._members.pop(number, None)
            self._joined.discard(member)

    def hand_over(self, number: int, memfd: int, far: int) -> bool:
        """Give the daemon the memory of a socket; whether it uses it from now on."""
        link = self._link
        return link is not None and link.hand_over(number, memfd, far)

    def await_room(self, member: Member) -> None:
        """The lane is full, or leads nowhere: a socket is not writable until that is over."""
        with self._lock:
            member.room(False)
            self._crowded.add(member)
            self._make_room()

    def _make_room(self) -> None:
        """With the lock: if something could be sent, those who wait for that are writable."""
        if self._crowded and self._up and self._lane.writable():
            crowded, self._crowded = self._crowded, WeakSet()
            for member in list(crowded):
                member.room(True)

    def in_pump(self) -> bool:
        """Whether this thread is the pump, or takes what has come in its place."""
        return threading.get_ident() in (self._pump.ident, self._drainer)

    def disown(self) -> None:
        """This is a child made by fork(): the connection is its parent's."""
        self.inherited = True
        for member in list(self._joined):
            member.disown()

    # --- the pump

    def _run(self) -> None:
        """Until the end; an unexpected error costs the session and not the thread."""
        while not self._closed:
            try:
                self._poll(None)
            except Exception as err:
                if self._closed:
                    return
                warnings.warn(f"mhost: {err!r}; connecting again", stacklevel=1)
                with self._lock:
                    self._lose()
                    self._hello_at = time.monotonic() + HELLO_RETRY_S

    def _poll(self, timeout_s: float | None) -> None:
        if self._hello_at is not None and not self._in_hello:
            left = max(0.0, self._hello_at - time.monotonic())
            timeout_s = left if timeout_s is None else min(left, timeout_s)
        self._lane.wait(timeout_s)
        with self._lock:
            if not self._closed:
                for connected in self._lane.changes():
                    self._hello_at = time.monotonic() if connected else None
                    if not connected:
                        self._lose()
                self._drain()
                self._make_room()
                self._close_orphans()
                due = self._hello_at is not None and self._hello_at <= time.monotonic()
                if due and not self._in_hello:
                    self._hello()

    def _lose(self) -> None:
        """The daemon went away: whoever waits for an answer asks again later."""
        self._up = False
        for member in list(self._joined):
            member.lost()
        self._orphans.clear()
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters.values():
            waiter.lost = True
            waiter.arrived.set()

    def _hello(self) -> None:
        """Open a session; a daemon that is another one gets every socket anew."""
        name = os.path.basename(sys.argv[0] if sys.argv else "") or "python"
        program = name.encode(errors="replace").decode()[:64]
        self._hello_at = None
        self._in_hello = True
        try:
            self._session(program)
        except OSError as err:
            self._why = err
            self._hello_at = time.monotonic() + HELLO_RETRY_S
        finally:
            self._in_hello = False

    def _session(self, program: str) -> None:
        self._saying_hello = True  # what the daemon refused before it is no news
        try:
            value = self.request(lambda seq: Hello(seq, VERSION, program), HELLO_TIMEOUT_S)
        finally:
            self._saying_hello = False
        _version, self.instance, _l3, _admin, *more = value
        self._connect_link(str(more[0]) if more else "")
        for member in list(self._joined):
            member.restore()
        self._up = True
        for member in list(self._joined):
            member.refresh()
        self._make_room()
        self._ready.notify_all()

    def _connect_link(self, path: str) -> None:
        """Have a connection for memory, where the daemon takes it and nobody minds."""
        if self._link is not None:
            self._link.close()
        self._link = None
        if path and os.environ.get("MHOST_LANE") != "zmq":
            try:
                self._link = LaneLink(path)
            except OSError:
                pass  # it goes over ZeroMQ

    def _drain(self) -> None:
        """With the lock: take everything that has arrived."""
        self._drainer = threading.get_ident()
        try:
            self._take_all()
        finally:
            self._drainer = 0

    def _take_all(self) -> None:
        while (message := self._lane.recv()) is not None:
            if message[0] == DATA_MAGIC:
                number, _records = unpack_data(message)
                member = self._members.get(number)
                if member is not None:
                    member.deliver(message)
                continue
            event = decode_event(message)
            if isinstance(event, Reply):
                waiter = self._waiters.get(event.seq)
                if waiter is not None:
                    waiter.reply = event
                    waiter.arrived.set()
                    if waiter.done is not None:
                        del self._waiters[event.seq]
                        waiter.done(event)
            elif isinstance(event, SockError):
                member = self._members.get(event.sock)
                if member is not None:
                    member.fail(event)
            elif isinstance(event, Named):
                self.on_named(event)
            elif isinstance(event, Reset) and not self._saying_hello:
                self._lose()
                self._hello_at = time.monotonic()
                self._lane.wake()  # saying Hello is the pump's

    def close(self) -> None:
        """End the connection; the daemon frees what was open on it."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._up = False
            self._ready.notify_all()
        self._lane.wake()
        if threading.current_thread() is not self._pump:
            self._pump.join(1.0)
        self._lane.close()
        if self._link is not None:
            self._link.close()
