"""One ZeroMQ connection to the daemon for all sockets of a process.

The lane is not thread-safe and its descriptor is edge-triggered, so one lock guards it,
and whoever holds the lock takes off all that has arrived. One thread, the pump, waits
for the descriptor; it turns what comes into each socket's own queue and eventfd.

After the daemon was restarted the pump says Hello again and every socket makes itself
anew: the same options, the same port, the same peer.
"""

from __future__ import annotations

import errno
import itertools
import os
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakSet, WeakValueDictionary

from mhost.lane import Lane
from mhostd.uapi import (
    DATA_MAGIC,
    VERSION,
    AnsweredRequest,
    Close,
    Hello,
    Named,
    Record,
    Reply,
    Request,
    Reset,
    Show,
    SockError,
    decode_event,
    encode,
    unpack_data,
)

REPLY_TIMEOUT_S = 10.0
HELLO_TIMEOUT_S = 3.0
HELLO_RETRY_S = 0.5
CLOSE_TIMEOUT_S = 1.0
FULL_RETRY_S = 0.0005


class Member(Protocol):
    """What the channel calls on a socket."""

    def deliver(self, records: list[Record]) -> None:
        """Datagrams have come."""

    def fail(self, event: SockError) -> None:
        """A datagram that was sent earlier has failed."""

    def restore(self) -> None:
        """The session is another one: create, bind and connect again.

        Raises:
            OtherSessionError: it has ended too.
        """


class OtherSessionError(OSError):
    """The session is another one: handles and numbers mean nothing, make them again."""


class _Waiter:
    """Somebody waits for the reply to a request."""

    def __init__(self, done: Callable[[Reply], None] | None = None) -> None:
        self.reply: Reply | None = None
        self.lost = False
        self.arrived = threading.Event()
        self.done = done


class Channel:
    """The connection.

    Attributes:
        instance: which session this is.
        inherited: it is another process's, from before a fork.
        on_named: called when the daemon says what an address is called.
        l3_names: L3 handlers by number.
    """

    def __init__(self, address: str) -> None:
        """Connect and say Hello; mhost.daemon has seen that somebody listens.

        Raises:
            OSError: nobody answers, or it refuses; the text says what to do.
        """
        self.inherited = False
        self.instance = ""
        self.l3_names: dict[int, str] = {}
        self.address = address
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        self._up = False
        self._closed = False
        self._orphans: deque[int] = deque()
        self.on_named: Callable[[Named], None] = lambda _event: None
        self._hello_at: float | None = None
        self._in_hello = self._saying_hello = False
        self._why: OSError | None = None
        self._seq = itertools.count(1)
        self._waiters: dict[int, _Waiter] = {}
        self._members: WeakValueDictionary[int, Member] = WeakValueDictionary()
        self._joined: WeakSet[Member] = WeakSet()
        self._lane = Lane(address)
        self._pump = threading.Thread(target=self._run, name="mhost-channel", daemon=True)
        self._pump.start()
        with self._ready:
            self._ready.wait_for(lambda: self._up, HELLO_TIMEOUT_S)
        if not self._up:
            self.close()
            raise self._why or ConnectionRefusedError(
                errno.ECONNREFUSED,
                f"mhostd at {address} does not answer; see `systemctl status mhostd`",
            )

    # --- requests

    def request(
        self,
        build: Callable[[int], AnsweredRequest],
        timeout_s: float = REPLY_TIMEOUT_S,
        instance: str = "",
    ) -> Any:
        """Ask, and wait for the answer; asked again if the daemon was restarted.

        Args:
            build: makes the request from its sequence number.
            timeout_s: 10 s unless given.
            instance: as in exchange().

        Returns:
            The value of the reply.

        Raises:
            OSError: what the daemon refused, with its errno and text.
            TimeoutError: it did not answer.
        """
        deadline = time.monotonic() + timeout_s
        return check(self.exchange(lambda seq: encode(build(seq)), deadline, instance))

    def exchange(
        self, message: Callable[[int], bytes], deadline: float | None, instance: str = ""
    ) -> Reply:
        """Send a message and wait for its reply; sent again after a restart.

        Args:
            message: makes it from the number that the Reply will carry.
            deadline: of time.monotonic(), None for never.
            instance: the session whose handles the message has.

        Raises:
            TimeoutError: there was no reply by then.
            OtherSessionError: the session is not that one.
        """
        while True:
            waiter = _Waiter()
            with self._lock:
                self._wait_until_up(deadline, instance)
                try:
                    seq = self._post(message, deadline, waiter)
                except OtherSessionError:
                    if instance:
                        raise
                    continue
            try:
                self._wait(waiter, deadline)
            finally:
                with self._lock:
                    self._waiters.pop(seq, None)
            if waiter.reply is not None:
                return waiter.reply
            if waiter.lost and threading.current_thread() is self._pump:
                raise OtherSessionError(errno.ESTALE, "the session ended meanwhile")
            if not waiter.lost:
                raise TimeoutError(
                    errno.ETIMEDOUT, f"mhostd at {self.address} did not answer in time"
                )

    def notify(self, request: Request) -> bool:
        """Tell the daemon something that nobody waits for; False if the lane is full."""
        with self._lock:
            if self._up:
                try:
                    self._send(encode(request), time.monotonic())
                except BlockingIOError:
                    return False
            return True

    def _post(
        self, message: Callable[[int], bytes], deadline: float | None, waiter: _Waiter
    ) -> int:
        """With the lock: send a message whose reply is for that waiter."""
        seq = next(self._seq)
        self._waiters[seq] = waiter
        try:
            self._send(message(seq), deadline)
        except BaseException:
            self._waiters.pop(seq, None)
            raise
        return seq

    def close_socket(self, number: int) -> None:
        """Close a socket and wait a little until it is; one that is away has closed it."""
        waiter = _Waiter()
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

    def post_record(
        self,
        message: Callable[[int], bytes],
        deadline: float | None,
        instance: str,
        done: Callable[[Reply], None] | None = None,
    ) -> None:
        """Send a data message and do not wait; `done` is called with its answer, if any.

        Raises:
            BlockingIOError: the lane is full, or the daemon away, until the deadline.
            OtherSessionError: the session is not `instance`.
        """
        with self._lock:
            while True:
                self._wait_until_up(deadline, instance)
                try:
                    if done is not None:
                        self._post(message, deadline, _Waiter(done))
                    else:
                        self._send(message(0), deadline)
                except OtherSessionError:
                    if instance:
                        raise
                else:
                    return

    def _send(self, message: bytes, deadline: float | None) -> None:
        """With the lock: hand over one message, then take what has arrived.

        Raises:
            BlockingIOError: the lane is full until the deadline.
            OtherSessionError: the message was made for a session that has ended.
        """
        instance = self.instance
        pump = threading.current_thread() is self._pump
        while not self._lane.send(message):
            if deadline is not None and time.monotonic() >= deadline:
                raise BlockingIOError(
                    errno.EAGAIN, "the lane to mhostd is full; wait, or send less"
                )
            self._ready.wait(FULL_RETRY_S)
            if not pump and (not self._up or self.instance != instance):
                raise OtherSessionError(errno.ESTALE, "the session ended")
        if self._lane.readable():
            self._drain()

    def _wait_until_up(self, deadline: float | None, instance: str = "") -> None:
        if threading.current_thread() is self._pump:
            return
        while not self._up:
            if self._closed:
                raise OSError(errno.EBADF, "the connection to mhostd is closed")
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                raise BlockingIOError(
                    errno.EAGAIN, f"mhostd at {self.address} is away; its sockets come back"
                )
            self._ready.wait(left)
        if instance and instance != self.instance:
            raise OtherSessionError(errno.ESTALE, "mhostd was restarted meanwhile")

    def _wait(self, waiter: _Waiter, deadline: float | None) -> None:
        if threading.current_thread() is not self._pump:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            waiter.arrived.wait(left)
            return
        while not waiter.arrived.is_set():  # the pump waits for nobody but itself
            left = REPLY_TIMEOUT_S if deadline is None else deadline - time.monotonic()
            if left <= 0 or self._closed:
                return
            self._poll(left)

    @property
    def up(self) -> bool:
        """There is a session."""
        return self._up

    def l3_name(self, number: int) -> str:
        """Return the name of an L3 handler that a record says it came over."""
        if number not in self.l3_names:
            rows = self.request(lambda seq: Show(seq, "l3"))
            self.l3_names = {row["number"]: row["name"] for row in rows}
        return self.l3_names.get(number, str(number))

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
                self._close_orphans()
                due = self._hello_at is not None and self._hello_at <= time.monotonic()
                if due and not self._in_hello:
                    self._hello()

    def _lose(self) -> None:
        """The daemon went away: whoever waits for an answer asks again later."""
        self._up = False
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
        _version, instance, l3, *_more = value
        self.l3_names = {number: name for number, name, _family in l3}
        self.instance = instance
        for member in list(self._joined):
            member.restore()
        self._up = True
        self._ready.notify_all()

    def _drain(self) -> None:
        """With the lock: take everything that has arrived."""
        while (message := self._lane.recv()) is not None:
            if message[0] == DATA_MAGIC:
                number, records = unpack_data(message)
                member = self._members.get(number)
                if member is not None:
                    member.deliver(list(records))
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


def check(reply: Reply) -> Any:
    """Return the value of a reply, or raise what it says."""
    if reply.errno:
        raise OSError(reply.errno, reply.text)
    return reply.value
