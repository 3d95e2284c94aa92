"""What has come for one socket, and a descriptor that says whether there is something."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable

from mhostd.uapi import Record, SockError, record_size

CREDIT_SHARE = 4  # credit goes back a quarter of the receive buffer at a time
ERRORS_MAX = 256  # in the error queue; as in Linux what comes when it is full is lost


class ReceiveQueue:
    """Records, errors, and an eventfd that is readable while there is either.

    The pump of the channel fills it and any thread may take from it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal handler may come in again
        self._arrival = threading.Condition(self._lock)
        self._records: deque[Record] = deque()
        self._errors: deque[SockError] = deque()
        self._consumed = 0
        self._waiting = 0
        self._error = 0
        self._shut = False
        self._ready = False
        self._closed = False
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def fileno(self) -> int:
        """The eventfd; -1 once closed."""
        return -1 if self._closed else self._eventfd

    @property
    def shut(self) -> bool:
        """Nothing is waited for any more."""
        return self._shut

    @property
    def has_error(self) -> bool:
        """There is a pending error."""
        return self._error != 0

    def take(self, *, peek: bool = False) -> Record | None:
        """Take the oldest record, or look at it; None if there is none.

        Raises:
            OSError: the pending error, once.
        """
        with self._lock:
            if self._error:
                err, self._error = self._error, 0
                self._settle()
                raise OSError(err, os.strerror(err))
            if not self._records:
                return None
            if peek:
                return self._records[0]
            record = self._records.popleft()
            self._consumed += record_size(len(record.payload), len(record.control))
            if not self._records:
                self._settle()
            return record

    def forget_errors(self) -> None:
        """Empty the error queue, as turning IP_RECVERR off does."""
        with self._lock:
            self._errors.clear()
            self._settle()

    def take_error(self) -> SockError | None:
        """Take the oldest of the error queue; the pending error is the next one's then."""
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
            return len(self._records[0].payload) if self._records else 0

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
        if left is not None and left <= 0:
            return False
        with self._lock:
            if self._records or self._error or self._shut or self._closed or given_up():
                return True
            self._waiting += 1
            try:
                self._arrival.wait(left)
            finally:
                self._waiting -= 1
        return True

    def wake(self) -> None:
        """Have those who wait look again whether to go on."""
        with self._lock:
            self._arrival.notify_all()

    def pending_error(self) -> int:
        """Return SO_ERROR and clear it."""
        with self._lock:
            err, self._error = self._error, 0
            self._settle()
        return err

    def credit(self, rcvbuf: int) -> int:
        """Octets to tell the daemon about now; 0 while they are less than a share."""
        if self._consumed * CREDIT_SHARE < rcvbuf:
            return 0
        with self._lock:
            octets, self._consumed = self._consumed, 0
        return octets

    def uncredited(self, octets: int) -> None:
        """They could not be told; they go with the next ones."""
        with self._lock:
            self._consumed += octets

    # --- the other side

    def deliver(self, records: list[Record]) -> None:
        """Datagrams have come."""
        with self._lock:
            self._records.extend(records)
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

    def forget_handles(self) -> None:
        """The daemon is another one: its handles name other hosts."""
        with self._lock:
            old, self._records = self._records, deque()
            for record in old:
                self._records.append(record._replace(sa=record.sa._replace(id_no=0)))
            self._consumed = 0

    def close(self) -> None:
        """Close the eventfd, forget what is queued, wake whoever waits."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._eventfd)
                self._records.clear()
                self._errors.clear()
                self._arrival.notify_all()

    def _settle(self) -> None:
        ready = bool(self._records or self._errors or self._error) or self._shut
        if ready != self._ready and not self._closed:
            self._ready = ready
            if ready:
                os.eventfd_write(self._eventfd, 1)
            else:
                os.eventfd_read(self._eventfd)
        if ready and self._waiting:
            self._arrival.notify_all()
