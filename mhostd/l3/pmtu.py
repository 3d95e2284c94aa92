"""Path MTU as routers tell of it (RFC 1191, RFC 8201), by destination."""

from __future__ import annotations

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

    def __init__(self, least: int, refuses: bool) -> None:
        """Begin with nothing.

        Args:
            least: octets below which no path MTU is believed.
            refuses: a smaller one is not heard at all; else it counts as `least`, locked.
        """
        self._least = least
        self._refuses = refuses
        self._learned: dict[bytes, tuple[PathMtu, float]] = {}

    def lookup(self, daddr: bytes, dev_mtu: int, now: float) -> PathMtu:
        """Return the path MTU to an address; that of the device if nothing is known."""
        if self._learned:
            learned, until_s = self._learned.get(daddr, (PathMtu(dev_mtu), 0.0))
            if now < until_s and learned.octets <= dev_mtu:
                return learned
        return PathMtu(dev_mtu)

    def learn(self, daddr: bytes, mtu: int, dev_mtu: int, now: float) -> None:
        """Take the MTU of an ICMP message, unless it is absurd.

        It never raises what is known (`__ip_rt_update_pmtu` of Linux net/ipv4/route.c).
        A 0, as routers older than RFC 1191 send it, is one below `least`.
        """
        known = self.lookup(daddr, dev_mtu, now)
        locked = mtu < self._least
        if mtu > known.octets or (locked and self._refuses):
            return
        if locked:
            mtu = min(self._least, known.octets)
        self._learned.pop(daddr, None)
        if len(self._learned) >= ENTRIES_MAX:
            del self._learned[next(iter(self._learned))]
        self._learned[daddr] = PathMtu(mtu, locked), now + EXPIRES_S
