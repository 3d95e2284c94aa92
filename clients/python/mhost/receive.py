"""What has come for one socket, and a descriptor that says whether there is something."""

from __future__ import annotations

import os
import select
import threading
import time
from collections import deque

from mhostd.uapi import Record, record_size

CREDIT_SHARE = 4  # credit goes back a quarter of the receive buffer at a time


class ReceiveQueue:
    """Records, the pending error, and an eventfd that is readable while there is either.

    The pump of the channel fills it and any thread may take from it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._records: deque[Record] = deque()
        self._consumed = 0
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
            self._consumed += record_size(len(record.payload))
            if not self._records:
                self._settle()
            return record

    def wait(self, deadline: float | None) -> bool:
        """Wait until there is something; False if there is nothing by the deadline.

        Args:
            deadline: of time.monotonic(), None for never.
        """
        left = None if deadline is None else deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        poll = select.poll()
        poll.register(self._eventfd, select.POLLIN)
        poll.poll(None if left is None else left * 1000)
        return True

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
        """Close the eventfd and forget what is queued."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self._eventfd)
                self._records.clear()

    def _settle(self) -> None:
        ready = bool(self._records) or bool(self._error) or self._shut
        if ready != self._ready and not self._closed:
            self._ready = ready
            if ready:
                os.eventfd_write(self._eventfd, 1)
            else:
                os.eventfd_read(self._eventfd)
