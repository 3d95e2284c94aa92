"""Asking the daemon over a connection: requests, records, and who waits for the answer."""

from __future__ import annotations

import errno
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

from mhost.lane import Lane
from mhostd.uapi import AnsweredRequest, Reply, Request, encode

REPLY_TIMEOUT_S = 10.0
FULL_RETRY_S = 0.0005


class OtherSessionError(OSError):
    """The session is another one: handles and numbers mean nothing, make them again."""


class Waiter:
    """Somebody waits for the reply to a request."""

    def __init__(self, done: Callable[[Reply], None] | None = None) -> None:
        self.reply: Reply | None = None
        self.lost = False
        self.arrived = threading.Event()
        self.done = done


class Exchange:
    """What any thread does with the connection; Channel, which extends it, has the pump.

    The lane is not thread-safe and its descriptor is edge-triggered, so one lock guards it,
    and whoever holds the lock takes off all that has arrived.

    Attributes:
        address: where the daemon is.
        instance: which session this is.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.instance = ""
        self._lock = threading.RLock()
        self._ready = threading.Condition(self._lock)
        self._up = False
        self._closed = False
        self._seq = itertools.count(1)
        self._waiters: dict[int, Waiter] = {}
        self._lane = Lane(address)
        self._pump = threading.Thread(target=self._run, name="mhost-channel", daemon=True)

    @property
    def up(self) -> bool:
        """There is a session."""
        return self._up

    def _run(self) -> None:
        """What the pump does."""
        raise NotImplementedError

    def _poll(self, timeout_s: float | None) -> None:
        """The pump waits until something comes, and takes it."""
        raise NotImplementedError

    def _drain(self) -> None:
        """With the lock: take everything that has arrived."""
        raise NotImplementedError

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
            waiter = Waiter()
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
        self, message: Callable[[int], bytes], deadline: float | None, waiter: Waiter
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
                        self._post(message, deadline, Waiter(done))
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

    def _wait(self, waiter: Waiter, deadline: float | None) -> None:
        if threading.current_thread() is not self._pump:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            waiter.arrived.wait(left)
            return
        while not waiter.arrived.is_set():  # the pump waits for nobody but itself
            left = REPLY_TIMEOUT_S if deadline is None else deadline - time.monotonic()
            if left <= 0 or self._closed:
                return
            self._poll(left)


def check(reply: Reply) -> Any:
    """Return the value of a reply, or raise what it says."""
    if reply.errno:
        raise OSError(reply.errno, reply.text)
    return reply.value
