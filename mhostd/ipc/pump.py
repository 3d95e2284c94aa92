"""The pump of a socket that speaks ZeroMQ: data messages into its rings and out of them.

Where an application has given no shared memory the daemon makes some for itself, so that
the fast lane serves both alike; here is the application's side of it. A socket gets it
with its first datagram, if there are descriptors for it; without, the walk does everything.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Callable
from functools import partial

from mhostd import native
from mhostd.fast import FastLane
from mhostd.sock import Client, Sock
from mhostd.structs import Watch
from mhostd.uapi import BATCH_OCTETS, DATA_HLEN, pack_data

log = logging.getLogger(__name__)


class Pumps:
    """Those of all sockets.

    Attributes:
        send: puts a data message on a client's connection; False if it must wait.
    """

    def __init__(self, fast: FastLane, watch: Watch) -> None:
        self._fast = fast
        self._watch = watch
        self._pumps: dict[Sock, native.PumpType] = {}
        self._kept: dict[Sock, bytes] = {}
        # Three descriptors each: others need most of them (door.py, host_udp.py).
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 16
        self.send: Callable[[Client, bytes], bool] = lambda _client, _message: True

    def open(self, sk: Sock) -> bool:
        """Give a socket rings; False if there are no descriptors or no memory for them."""
        assert native.Pump is not None
        if len(self._pumps) >= self._most:
            return False
        try:
            pump = native.Pump()
        except OSError as err:
            log.debug("socket %d: no rings: %s", sk.number, err.strerror)
            return False
        try:
            self._fast.add(sk, pump.memfd, pump.far)
        except OSError as err:
            log.debug("socket %d: no rings: %s", sk.number, err.strerror)
            pump.close()
            return False
        pump.shared()
        sk.pumped = True
        self._pumps[sk] = pump
        self._fast.limit(sk)
        self._watch(pump.near, partial(self._on_readable, sk))
        return True

    def put(self, sk: Sock, message: bytes) -> int:
        """Put the records of a data message in the ring, if all are plain.

        Returns:
            The octet at which the first begins that the walk is to send.
        """
        at, drained = DATA_HLEN, False
        while at < len(message) and sk in self._pumps:
            there = self._pumps[sk].put(message, at)
            if there == at and drained:
                break  # not for want of room
            at = there
            if at < len(message):
                self._fast.catch_up(sk)
                drained = True
        return at

    def _on_readable(self, sk: Sock) -> None:
        """Send what has come, and be told of what comes next."""
        prefix = pack_data(sk.number, b"")
        while sk in self._pumps:
            pump = self._pumps[sk]
            message = self._kept.pop(sk, b"") or pump.take(prefix, BATCH_OCTETS)
            octets = len(message) - len(prefix)
            if octets:
                if not self.send(sk.client, message):
                    self._kept[sk] = message
                    self._watch(pump.near, None)
                    return
                sk.rmem_sent += octets
                self._fast.limit(sk)
            elif not pump.arm():
                return

    @property
    def waiting(self) -> bool:
        """Some client's backlog is full: flush() should be called again soon."""
        return bool(self._kept)

    def flush(self) -> None:
        """Try again to send what could not be."""
        for sk in list(self._kept):
            self._watch(self._pumps[sk].near, partial(self._on_readable, sk))
            self._on_readable(sk)

    def close(self, sk: Sock) -> None:
        """The socket is closed, or given other memory: what has come is not sent."""
        pump = self._pumps.pop(sk, None)
        if pump is None:
            return
        if self._kept.pop(sk, None) is None:
            self._watch(pump.near, None)
        self._fast.release(sk)
        sk.pumped = False
        pump.close()

    def give_way(self, sk: Sock) -> None:
        """The application gives memory of its own: send what is here in either direction."""
        if sk in self._pumps:
            self._fast.catch_up(sk)
            self._on_readable(sk)
            self.close(sk)
