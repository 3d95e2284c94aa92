"""Locators that gave an error, and until when each is passed over."""

from __future__ import annotations

import errno
from collections.abc import Callable, Collection
from dataclasses import dataclass

from mhostd.sock import Locator

RETRY_MIN_S = 1.0  # a locator that gave an error is passed over that long,
RETRY_MAX_S = 30.0  # twice as long after each further error, up to this
# What another route may mend.
ROUTE_ERRNOS = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH})
FAULTS_MAX = 4_096  # remembered, the oldest is forgotten first


@dataclass(slots=True)
class Fault:
    """What went wrong last with a locator.

    Attributes:
        errno: what it gave.
        retry_s: when it is tried again, seconds of a monotonic clock.
        backoff_s: how long it is passed over.
    """

    errno: int
    retry_s: float
    backoff_s: float


class Faults(dict[tuple[Locator, int], Fault]):
    """By locator and port; port 0 is every port of it."""

    def __init__(self, changed: Callable[[], None] = lambda: None) -> None:
        """Begin with none; `changed` is called whenever there is another, or one less."""
        super().__init__()
        self._changed = changed

    def failed(self, locator: Locator, err: int, now: float, port: int = 0) -> None:
        """Pass a locator over for a while: 1 s, doubled up to 30 s while it fails.

        Args:
            locator: what gave the error.
            err: errno.
            now: seconds of a monotonic clock.
            port: the only one that it is about; 0 for all.
        """
        fault = self.get((locator, port))
        if fault is None or now >= fault.retry_s + RETRY_MAX_S:
            if len(self) >= FAULTS_MAX:
                del self[next(iter(self))]
            self[locator, port] = Fault(err, now + RETRY_MIN_S, RETRY_MIN_S)
            self._changed()
        elif now >= fault.retry_s:  # not once more for every datagram of one burst
            fault.backoff_s = min(2 * fault.backoff_s, RETRY_MAX_S)
            fault.errno, fault.retry_s = err, now + fault.backoff_s
            self._changed()

    def heard(self, locator: Locator, port: int) -> None:
        """A datagram came from there, so it works again."""
        for key in ((locator, 0), (locator, port)) if self else ():
            if self.pop(key, None) is not None:
                self._changed()

    def link_up(self) -> None:
        """An interface has a link again: what was lost for want of one is tried at once."""
        for key in [key for key, fault in self.items() if fault.errno == errno.ENETDOWN]:
            del self[key]
            self._changed()

    def routes_mended(self, prefixes: Collection[tuple[int, bytes, int]]) -> None:
        """There is another way to these prefixes: what is in them is tried at once.

        Others wait on: an ICMP error may be the only sign that one fails still, and
        routers send few of them.

        Args:
            prefixes: (family, address, bits); empty is every address of the family.
        """
        wanted = {(f, bits, _leading(address, bits)) for f, address, bits in prefixes}
        lengths = {(family, bits) for family, bits, _value in wanted}
        for key, fault in list(self.items()) if wanted else ():
            family, address, _scope_id = key[0]
            if fault.errno in ROUTE_ERRNOS and any(
                family == f and (f, bits, _leading(address, bits)) in wanted
                for f, bits in lengths
            ):
                del self[key]
                self._changed()

    def not_before(self, locator: Locator, port: int, now: float) -> float:
        """When to use a locator for a port again; 0 if it is not passed over."""
        faults = (self.get((locator, 0)), self.get((locator, port)))
        return max((f.retry_s for f in faults if f and now < f.retry_s), default=0.0)


def _leading(address: bytes, bits: int) -> int:
    """The leading bits of an address, as a number."""
    return int.from_bytes(address, "big") >> max(0, 8 * len(address) - bits)
