"""Path MTU as routers tell of it (RFC 1191, RFC 8201), by destination."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

EXPIRES_S = 600.0  # as Linux net.ipv4.route.mtu_expires and net.ipv6.route.mtu_expires
ENTRIES_MAX = 1024  # the oldest is forgotten first


class PathMtu(NamedTuple):
    """What is known of a path.

    Attributes:
        octets: of L3 packet that get through in one piece.
        locked: the path takes even less; packets are to be fragmented on the way, so
            IPv4's DF stays clear (Linux RTAX_MTU lock).
    """

    octets: int
    locked: bool = False


class PathMtus:
    """What ICMP said, for a while."""

    def __init__(self, least: int, refuses: bool, now: Callable[[], float]) -> None:
        """Begin with nothing.

        Args:
            least: octets below which no path MTU is believed.
            refuses: a smaller one is not heard at all; else it counts as `least`, locked.
            now: seconds of a clock that never goes back.
        """
        self._least = least
        self._refuses = refuses
        self._now = now
        self._learned: dict[bytes, tuple[PathMtu, float]] = {}

    def lookup(self, daddr: bytes, dev_mtu: int) -> PathMtu | None:
        """Return what is known of the path to an address; None if it is as the device."""
        if not self._learned or daddr not in self._learned:
            return None
        learned, until_s = self._learned[daddr]
        return learned if self._now() < until_s and learned.octets <= dev_mtu else None

    def path_mtu(self, daddr: bytes, dev_mtu: int) -> int:
        """Octets of packet that reach an address in one piece."""
        known = self.lookup(daddr, dev_mtu)
        return known.octets if known else dev_mtu

    def learn(self, daddr: bytes, mtu: int, dev_mtu: int) -> None:
        """Take the MTU of an ICMP message, unless it is absurd.

        It never raises what is known (`__ip_rt_update_pmtu` of Linux net/ipv4/route.c).
        A 0, as routers older than RFC 1191 send it, is one below `least`.
        """
        known = self.path_mtu(daddr, dev_mtu)
        locked = mtu < self._least
        if mtu > known or (locked and self._refuses):
            return
        if locked:
            mtu = min(self._least, known)
        self._learned.pop(daddr, None)
        if len(self._learned) >= ENTRIES_MAX:
            del self._learned[next(iter(self._learned))]
        self._learned[daddr] = PathMtu(mtu, locked), self._now() + EXPIRES_S
