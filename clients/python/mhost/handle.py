"""An object on a socket: opening, dup(), detach(), closing, and how long its calls wait."""

from __future__ import annotations

import errno
import operator
import os
import socket
import threading
import time
import warnings
from types import TracebackType
from typing import Self

from mhost._ring import FastSocket
from mhost.sk import Sk, attach, detach
from mhostd.uapi import AF_MHOST

RCVTIMEO = (socket.SOL_SOCKET, socket.SO_RCVTIMEO)
SNDTIMEO = (socket.SOL_SOCKET, socket.SO_SNDTIMEO)


class Handle(FastSocket):
    """What mhost.Socket has of a descriptor; the calls of a socket are in dgram.py."""

    def __init__(
        self,
        family: int = AF_MHOST,
        type: int = socket.SOCK_DGRAM,
        proto: int = 0,
        fileno: int | None = None,
    ) -> None:
        """Open it, or take up again what detach() returned.

        Raises:
            ConnectionRefusedError: no daemon answers; the text says what to do.
            OSError: EAFNOSUPPORT, ESOCKTNOSUPPORT, EPROTONOSUPPORT, EMFILE; EBADF for a
                descriptor that is not a detached one.
        """
        self.family, self.type, self.proto = AF_MHOST, socket.SOCK_DGRAM, socket.IPPROTO_UDP
        self._closed = True  # until it is open, for __del__
        blocking = not type & socket.SOCK_NONBLOCK
        type_ = type & ~(socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self._timeout_s: float | None = None if blocking else 0.0
        self._timeo_s = {RCVTIMEO: 0.0, SNDTIMEO: 0.0}
        self._sk = Sk(family, type_, proto) if fileno is None else attach(fileno)
        self._fd = self._sk.arrived.near if fileno is None else fileno
        self._closed = False
        self._ring = self._sk.arrived.ring
        self._blocks = blocking

    def __repr__(self) -> str:
        state = "closed" if self._closed else f"fd={self._fd}, port={self._sk.port}"
        return f"<mhost.Socket {state}, peer={self._sk.peer}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        *_exception: type[BaseException] | BaseException | TracebackType | None,
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if not self._closed and not self._sk.channel.inherited:
            warnings.warn(f"unclosed {self!r}", ResourceWarning, source=self, stacklevel=2)
            if self._let_go():
                self._sk.abandon()

    def fileno(self) -> int:
        """A descriptor that is readable when recvfrom() would return; -1 once closed."""
        if self._closed:
            return -1
        if not self._sk.channel.inherited:
            self._sk.arrived.fileno()  # somebody looks at it from now on
        return self._fd

    def close(self) -> None:
        """Close it; its port is free when this returns, unless dup() has made another.

        Receivers that are blocked on this object in other threads get EBADF.
        """
        if self._closed:
            return
        if self._sk.channel.inherited:  # a child's copies of the locks may be held
            self._closed = True
            self._ring = None
        elif self._let_go():
            self._sk.close()
        else:
            self._sk.arrived.wake()

    def _let_go(self) -> bool:
        """Close this object; whether it was the last one of its socket."""
        with self._sk.refs_lock:
            if self._closed:
                return False
            self._closed = True
            self._ring = None
            self._sk.refs -= 1
            last = self._sk.refs == 0
        if self._fd != self._sk.arrived.near:
            os.close(self._fd)
        return last

    def dup(self) -> Self:
        """Another object on the same socket, with a descriptor of its own.

        The socket is closed when the last of them is.
        """
        self._check_open()
        other = self.__class__.__new__(self.__class__)
        other.__dict__.update(self.__dict__, _closed=True)
        with self._sk.refs_lock:
            self._check_open()
            other._fd = os.dup(self._fd)
            self._sk.refs += 1
        other._closed = False
        other._ring, other._blocks = self._ring, self._blocks
        return other

    def detach(self) -> int:
        """Close this object and leave the socket open; Socket(fileno=...) takes it up.

        Returns:
            The descriptor; it is only good in this process. os.close() on it leaves the
            socket open: close what Socket(fileno=...) gives instead.
        """
        if self._closed:
            return -1
        self._check_open()
        self._closed = True
        self._ring = None
        detach(self._fd, self._sk)
        return self._fd

    def get_inheritable(self) -> bool:
        """Whether the descriptor outlives exec(); a program cannot use it there."""
        self._check_open()
        return os.get_inheritable(self._fd)

    def set_inheritable(self, inheritable: bool) -> None:
        """Have the descriptor outlive exec(), or not."""
        self._check_open()
        os.set_inheritable(self._fd, inheritable)

    # --- modes

    def setblocking(self, flag: bool) -> None:
        """Block for ever, or not at all."""
        self._check_open()
        self._timeout_s = None if operator.index(flag) else 0.0
        self._blocks = self._timeout_s is None

    def getblocking(self) -> bool:
        """Whether it blocks at all."""
        return self._timeout_s != 0.0

    def settimeout(self, value: float | None) -> None:
        """Block for that many seconds; None for ever, 0 not at all."""
        self._check_open()
        if value is not None and (value < 0 or value != value):
            raise ValueError("Timeout value out of range")
        if value is not None and value > threading.TIMEOUT_MAX:
            raise OverflowError("timeout doesn't fit into C timeval")
        self._timeout_s = value
        self._blocks = value != 0.0

    def gettimeout(self) -> float | None:
        """Return what settimeout() was given."""
        return self._timeout_s

    @property
    def timeout(self) -> float | None:
        """The same, as in the stdlib."""
        return self._timeout_s

    def _deadline(self, flags: int, option: tuple[int, int]) -> float | None:
        """Until when to wait: settimeout(), else SORCVTIMEO or SOSNDTIMEO."""
        if flags & socket.MSG_DONTWAIT:
            return time.monotonic()
        timeout_s = self._timeout_s
        if timeout_s is None:
            timeout_s = self._timeo_s[option] or None
        return None if timeout_s is None else time.monotonic() + timeout_s

    def _check_open(self) -> None:
        if self._closed:
            raise OSError(errno.EBADF, "the socket is closed")
        if self._sk.channel.inherited:
            raise OSError(
                errno.EBADF, "the socket was opened before fork(); open it in the child"
            )
