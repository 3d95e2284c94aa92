"""How many ICMP errors a host sends (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f))."""

from __future__ import annotations

PER_S = 1000  # to all together, as Linux net.ipv4.icmp_msgs_per_sec
BURST = 50  # as Linux net.ipv4.icmp_msgs_burst
PEER_BURST = 6  # to one host, XRLIM_BURST_FACTOR of Linux net/ipv4/icmp.c
PEERS_MAX = 1024  # the one not told for longest is forgotten first


class IcmpLimit:
    """A token bucket for all hosts, and one for each."""

    def __init__(self, interval_s: float) -> None:
        """Begin full; a host gets one error per interval once its burst is used up."""
        self._interval_s = interval_s
        self._tokens = float(BURST)
        self._at_s = 0.0
        self._peers: dict[bytes, tuple[float, float]] = {}  # tokens, when

    def allow(self, now: float, daddr: bytes) -> bool:
        """Whether one more may go to `daddr` at `now`, seconds of a monotonic clock."""
        self._tokens = min(BURST, self._tokens + (now - self._at_s) * PER_S)
        self._at_s = now
        if self._tokens < 1:
            return False
        tokens, at_s = self._peers.pop(daddr, (float(PEER_BURST), now))
        tokens = min(PEER_BURST, tokens + (now - at_s) / self._interval_s)
        if len(self._peers) >= PEERS_MAX:
            del self._peers[next(iter(self._peers))]
        allowed = tokens >= 1
        self._peers[daddr] = (tokens - allowed, now)
        self._tokens -= allowed
        return allowed
