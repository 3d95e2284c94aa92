"""How many ICMP errors a host sends (RFC 1812 section 4.3.2.8, RFC 4443 section 2.4 (f))."""

from __future__ import annotations

PER_S = 1000  # as Linux net.ipv4.icmp_msgs_per_sec
BURST = 50  # as Linux net.ipv4.icmp_msgs_burst


class IcmpLimit:
    """A token bucket."""

    def __init__(self) -> None:
        self._tokens = float(BURST)
        self._at_s = 0.0

    def allow(self, now: float) -> bool:
        """Whether one more may go out at `now`, seconds of a monotonic clock."""
        self._tokens = min(BURST, self._tokens + (now - self._at_s) * PER_S)
        self._at_s = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True
