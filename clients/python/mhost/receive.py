"""What has come for one socket, and a descriptor that says whether there is something."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import deque
from collections.abc import Callable

from mhost._ring import Ring
from mhost.shm import memory, pair
from mhostd.uapi import (
    DATA_HLEN,
    Record,
    SockaddrMhost,
    SockError,
    record_size,
    unpack_records,
)

NAP_S = 0.005  # how often a blocked call looks while errors are queued that it does not take
ERROR_TIMEOUT_S = 0.5  # how long an error may take that the daemon has told
ERRORS_MAX = 256  # in the error queue; as in Linux what comes when it is full is lost


class ReceiveQueue:
    """Datagrams, errors, and a descriptor that is readable while there is either.

    Datagrams come in the socket's memory (`ring`), or over ZeroMQ, which the pump of the
    channel fills in; so it does with errors. Any thread may take from it.

    Attributes:
        ring: the memory. `ring.held` says that something else is there, which the fast
            calls leave to take().
        near: our end of the pair of sockets, which is the socket's descriptor.
        far: a copy of the daemon's end.
    """

    def __init__(self, in_pump: Callable[[], bool] = lambda: False) -> None:
        """Begin empty; `in_pump` says whether the thread is the one that brings errors."""
        self.in_pump = in_pump
        self._lock = threading.RLock()  # a signal handler may come in again
        self._news = threading.Condition(self._lock)
        self._records: deque[Record] = deque()
        self._errors: deque[SockError] = deque()
        self._waiting = 0
        self._sleepers: list[Callable[[], bool]] = []  # whether each is to wait no longer
        self._error = 0
        self._shut = False
        self._closed = self._freed = False
        self._memfd = memory()
        with contextlib.ExitStack() as undo:
            undo.callback(os.close, self._memfd)
            self.near, self.far = pair()
            undo.callback(os.close, self.near)
            undo.callback(os.close, self.far)
            self.ring = Ring(self._memfd, self.near, self.far)
            undo.pop_all()

    def fileno(self) -> int:
        """Our end of the pair, truthful from now on; -1 once closed."""
        if not self.ring.polled:
            with self._lock:
                self.ring.polled = True
                self._settle()
        return -1 if self._closed else self.near

    @property
    def shut(self) -> bool:
        """Nothing is waited for any more."""
        return self._shut

    @property
    def has_error(self) -> bool:
        """There is a pending error."""
        self._catch_up()
        return self._error != 0

    def _catch_up(self) -> None:
        """Wait for the errors that the daemon has told and the pump has not brought yet.

        So that an error is there before what came after it, whichever way each took.
        """
        if not self.ring.behind() or self.in_pump():
            return
        with self._lock:
            self._news.wait_for(lambda: self._closed or not self.ring.behind(), ERROR_TIMEOUT_S)
            if not self._closed and self.ring.behind():
                self.ring.seen = self.ring.errors()  # it is lost, as that daemon is

    def counted(self) -> None:
        """The pump has brought one of them, and it was dealt with."""
        with self._lock:
            self.ring.seen = (self.ring.seen + 1) & 0xFFFF_FFFF
            self._news.notify_all()

    def take(self, *, peek: bool = False) -> Record | None:
        """Take the oldest datagram, or look at it; None if there is none.

        Raises:
            OSError: the pending error, once.
        """
        self._catch_up()
        with self._lock:
            if self._error:
                err, self._error = self._error, 0
                self._settle()
                raise OSError(err, os.strerror(err))
            record = self._take_ring(peek)
            if record is not None or not self._records:
                return record
            if peek:
                return self._records[0]
            record = self._records.popleft()
            self.ring.consumed += record_size(len(record.payload), len(record.control))
            if not self._records:
                self._settle()
            return record

    def _take_ring(self, peek: bool) -> Record | None:
        found = self.ring.take(peek)
        if found is None:
            return None
        family, port, address, id_no, scope_id, cookie, segment, control, payload = found
        sa = SockaddrMhost(family, port, address, id_no, scope_id)
        segment = segment if segment < len(payload) else 0
        return Record(sa, payload, 0, segment, cookie, control)

    def forget_errors(self) -> None:
        """Empty the error queue, as turning IP_RECVERR off does."""
        with self._lock:
            self._errors.clear()
            self._settle()

    def take_error(self) -> SockError | None:
        """Take the oldest of the error queue; the pending error is the next one's then."""
        self._catch_up()
        with self._lock:
            if not self._errors:
                return None
            event = self._errors.popleft()
            following = self._errors[0] if self._errors else event
            if not following.local:  # as sock_dequeue_err_skb of Linux
                self._error = 0 if following is event else following.errno
            elif not event.local:
                self._error = 0
            self._settle()
            return event

    def next_size(self) -> int:
        """Octets of payload of the oldest datagram, 0 if there is none (FIONREAD)."""
        with self._lock:
            if self._records:
                return len(self._records[0].payload)
            return max(0, self.ring.next_size())

    def wait(self, deadline: float | None, given_up: Callable[[], bool]) -> bool:
        """Wait until take() may give something; what is on the error queue does not count.

        A signal handler that returns does not end it (PEP 475).

        Args:
            deadline: of time.monotonic(), None for never.
            given_up: whether to wait no longer; looked at again after wake().

        Returns:
            False once the deadline is past; True says no more than: look again.
        """
        left = None if deadline is None else deadline - time.monotonic()
        with self._lock:
            if self._closed or given_up():
                return True
            late = left is not None and left <= 0
            if not late and (self._records or self._error or self._shut):
                return True
            if self._leaving() and not late:  # they have not seen yet what wakes them
                self._news.wait(NAP_S if left is None else min(left, NAP_S))
                return True
            if not (self._something() or self._leaving()):
                self.ring.held = False
                if self.ring.arm() and not late:
                    return True
            if late:
                return False
            if self._errors:  # they make the descriptor readable: it is nothing to sleep on
                return self._errors_only(deadline, given_up)
            self._waiting += 1
            self._sleepers.append(given_up)
        try:
            self._sleep(False, left)
        finally:
            with self._lock:
                self._sleepers.remove(given_up)
                if given_up():
                    self._settle()
        return True

    def _leaving(self) -> bool:
        """Some who sleep are to wait no longer: until they are gone it stays readable."""
        return any(given_up() for given_up in self._sleepers)

    def _something(self) -> bool:
        """There is something that is not in the memory."""
        return bool(self._records or self._errors or self._error) or self._shut

    def _errors_only(self, deadline: float | None, given_up: Callable[[], bool]) -> bool:
        """Go on with wait() until there is more than what is on the error queue."""
        while self._errors and not (self._records or self._error or self._shut):
            left = None if deadline is None else deadline - time.monotonic()
            if self._closed or given_up() or self.ring.next_size() >= 0:
                return True
            if left is not None and left <= 0:
                return False
            self._news.wait(NAP_S if left is None else min(left, NAP_S))
        return True

    def room(self, there: bool) -> None:
        """Whether the descriptor is writable, where the memory is our own."""
        if there:
            self.ring.give_up()
        else:
            self.ring.want_room()

    def wait_room(self, left: float | None) -> None:
        """Wait until there may be room in the memory again, or the socket is closed.

        Raises:
            OSError: EBADF, it is.
        """
        with self._lock:
            sleeps = not self._closed
            self._waiting += sleeps
        if sleeps:
            self._sleep(True, left)
        if self._closed:
            raise OSError(errno.EBADF, "the socket is closed")

    def _sleep(self, room: bool, left: float | None) -> None:
        """Sleep on the descriptor; `_waiting` counts us already."""
        try:
            self.ring.sleep(room, left)
        finally:
            with self._lock:
                self._waiting -= 1
                if self._closed:
                    self.free()

    def wake(self) -> None:
        """Have those who wait look again whether to go on."""
        with self._lock:
            self._settle()

    def pending_error(self) -> int:
        """Return SO_ERROR and clear it."""
        self._catch_up()
        with self._lock:
            err, self._error = self._error, 0
            self._settle()
        return err

    def credit(self) -> int:
        """Octets to tell the daemon about now; 0 while they are less than a share."""
        with self._lock:
            octets = self.ring.consumed
            if not 0 < self.ring.credit <= octets:
                return 0
            self.ring.consumed = 0
        return octets

    def uncredited(self, octets: int) -> None:
        """They could not be told; they go with the next ones."""
        with self._lock:
            self.ring.consumed += octets

    # --- the other side

    def deliver(self, message: bytes) -> None:
        """Datagrams have come over ZeroMQ; what the ring has no room for waits behind it."""
        with self._lock:
            at = DATA_HLEN if self._records else self.ring.fill(message, DATA_HLEN)
            if at < len(message):
                self._records.extend(unpack_records(message, at))
                self._settle()

    def fail(self, err: int) -> None:
        """Set the pending error."""
        with self._lock:
            self._error = err
            self._settle()

    def queue_error(self, event: SockError) -> None:
        """Put an error on the error queue; one that came back is the pending error too."""
        with self._lock:
            if len(self._errors) < ERRORS_MAX:
                self._errors.append(event)
            if not event.local:
                self._error = event.errno
            self._settle()

    def shutdown(self) -> None:
        """Wake whoever waits; what is queued can still be taken."""
        with self._lock:
            self._shut = True
            self._settle()

    def renew(self) -> None:
        """The daemon is another one: its handles name other hosts."""
        with self._lock:
            old, self._records = self._records, deque()
            for record in old:
                self._records.append(record._replace(sa=record.sa._replace(id_no=0)))
            self.ring.consumed = 0
            self._close_memfd()
            self._memfd = memory()
            self.ring.move(self._memfd)
            self._settle()

    def give(self, hand_over: Callable[[int, int], bool]) -> bool:
        """Have the daemon given the memory; whether it took it."""
        try:
            return hand_over(self._memfd, self.far)
        finally:
            self._close_memfd()

    def _close_memfd(self) -> None:
        """It is mapped, and takes a descriptor."""
        if self._memfd >= 0:
            os.close(self._memfd)
        self._memfd = -1

    def close(self) -> None:
        """Nothing is taken any more; wake whoever waits."""
        with self._lock:
            self._closed = True
            self._records.clear()
            self._errors.clear()
            self.ring.sending, self.ring.held = False, True
            self.ring.raise_()
            self.ring.give_up()
            self._news.notify_all()

    def free(self) -> None:
        """Give back memory and descriptors, once nobody sleeps on them; close() was called."""
        with self._lock:
            if self._freed or self._waiting:
                return
            self._freed = True
            self.ring.close()
            self._close_memfd()
            os.close(self.near)
            os.close(self.far)

    def _settle(self) -> None:
        """Have the descriptor say what there is."""
        if self._closed:
            return
        held = self._something() or self._leaving()
        self.ring.held = held
        if held:
            self.ring.raise_()
        elif self.ring.polled:
            self.ring.arm()
        self._news.notify_all()
