"""The ZeroMQ side of a connection: a DEALER, what its monitor says, and a way to wait.

Not thread-safe, but for wake() and wait(): the channel's lock guards the rest.
"""

from __future__ import annotations

import os
import select
import struct
from collections.abc import Iterator

import zmq

from mhostd.uapi import MESSAGE_MAX

BACKLOG_MESSAGES = 1000

_MONITOR_EVENT = struct.Struct("=HI")  # zmq_socket_monitor(3), first frame


class Lane:
    """One DEALER that connects again by itself, and queues nothing meanwhile."""

    def __init__(self, address: str) -> None:
        """Begin to connect."""
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._dealer = self._context.socket(zmq.DEALER)
        self._dealer.immediate = True  # never queue for a daemon that is not there
        self._dealer.sndhwm = BACKLOG_MESSAGES
        self._dealer.rcvhwm = 0  # the daemon is held to each socket's receive buffer
        self._dealer.maxmsgsize = MESSAGE_MAX
        self._dealer.reconnect_ivl = 20
        self._dealer.reconnect_ivl_max = 500
        self._dealer.linger = 1000
        self._monitor = self._dealer.get_monitor_socket(
            zmq.Event.CONNECTED | zmq.Event.DISCONNECTED
        )
        self._eventfd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._poll = select.poll()
        for fd in (
            int(self._dealer.getsockopt(zmq.FD)),
            int(self._monitor.getsockopt(zmq.FD)),
            self._eventfd,
        ):
            self._poll.register(fd, select.POLLIN)
        self._dealer.connect(address)

    def send(self, message: bytes) -> bool:
        """Hand over one message; False if the lane is full or leads nowhere."""
        try:
            self._dealer.send(message, zmq.DONTWAIT)
        except zmq.Again:
            return False
        return True

    def recv(self) -> bytes | None:
        """Take one message; None if there is none."""
        try:
            return self._dealer.recv(zmq.DONTWAIT)
        except zmq.Again:
            return None

    def readable(self) -> bool:
        """A message waits: after a send the descriptor may not say so."""
        return bool(int(self._dealer.getsockopt(zmq.EVENTS)) & zmq.POLLIN)

    def writable(self) -> bool:
        """A message could be sent now."""
        return bool(int(self._dealer.getsockopt(zmq.EVENTS)) & zmq.POLLOUT)

    def changes(self) -> Iterator[bool]:
        """True for each time it was connected since the last call, False for each loss."""
        while True:
            try:
                head, _endpoint = self._monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            yield _MONITOR_EVENT.unpack(head)[0] == zmq.Event.CONNECTED

    def wait(self, timeout_s: float | None) -> None:
        """Wait until there may be something, or somebody calls wake()."""
        for fd, _events in self._poll.poll(None if timeout_s is None else timeout_s * 1000):
            if fd == self._eventfd:
                os.eventfd_read(fd)

    def wake(self) -> None:
        """End a wait(); takes no lock, so a finaliser may call it."""
        if self._eventfd >= 0:
            os.eventfd_write(self._eventfd, 1)

    def close(self) -> None:
        """End the connection, once what was sent has gone out."""
        self._dealer.disable_monitor()
        self._monitor.close(0)
        self._dealer.close()
        self._context.term()
        eventfd, self._eventfd = self._eventfd, -1
        os.close(eventfd)
