"""What an event has done to a stream: the longest gap, what was lost, what came twice."""

from __future__ import annotations

import itertools
import math
from array import array
from pathlib import Path
from typing import NamedTuple

from stream import EVERY_NS, LINGER_NS

START_NS = 200_000_000  # of the quiet time, left out: the ends have just begun
TAIL_NS = 200_000_000  # what was sent in the last of it may be under way


class Times(NamedTuple):
    """When a stream began, when the event did, and when the last datagram went (ns)."""

    start_ns: int
    event_ns: int
    end_ns: int


class Damage(NamedTuple):
    """The figures of a run; the gap is infinite if the stream has not come back."""

    gap_ms: float
    lost: int
    doubles: int


class Arrivals:
    """What came in one direction."""

    def __init__(self, numbers: list[int], times_ns: list[int]) -> None:
        """Both in the order of their arrival."""
        self.numbers, self.times_ns = numbers, times_ns
        self.first: dict[int, int] = {}
        for number, at_ns in zip(numbers, times_ns, strict=True):
            self.first.setdefault(number, at_ns)

    @classmethod
    def load(cls, path: Path) -> Arrivals:
        """Read what stream.py has written."""
        both = array("Q", path.read_bytes())
        half = len(both) // 2
        return cls(list(both[:half]), list(both[half:]))

    def gaps(self, from_ns: int, to_ns: int) -> list[int]:
        """The intervals between arrivals (ns) that end after one time, and by another.

        What comes again does not count.
        """
        pairs = itertools.pairwise(self.first.values())
        return [each - last for last, each in pairs if from_ns < each <= to_ns]

    def longest_ms(self, from_ns: int, alive_ns: int, to_ns: int) -> float:
        """The longest interval, infinite if nothing comes in the last of that time.

        Args:
            from_ns: intervals that end later than that,
            alive_ns: (the beginning of the last of that time)
            to_ns: and by then.
        """
        if not any(alive_ns < at_ns <= to_ns for at_ns in self.first.values()):
            return math.inf
        return max(self.gaps(from_ns, to_ns), default=0) / 1e6

    def lost(self, from_ns: int, to_ns: int, start_ns: int) -> list[int]:
        """The numbers that were to be sent between two times, and never came."""
        first = max(0, -(-(from_ns - start_ns) // EVERY_NS))
        return [n for n in range(first, (to_ns - start_ns) // EVERY_NS) if n not in self.first]


def judge(arrivals: Arrivals, times: Times) -> Damage:
    """The longest gap of the time since the event, less that of the time before it."""
    start_ns, event_ns, end_ns = times
    quiet_ms = max(arrivals.gaps(start_ns + START_NS, event_ns), default=0) / 1e6
    gap_ms = arrivals.longest_ms(event_ns, end_ns - TAIL_NS, end_ns + LINGER_NS) - quiet_ms
    return Damage(
        max(0.0, gap_ms),
        len(arrivals.lost(start_ns, end_ns - TAIL_NS, start_ns)),
        len(arrivals.numbers) - len(arrivals.first),
    )


def worse(directions: list[Damage]) -> Damage:
    """Of both directions the worse, figure by figure."""
    gaps, lost, doubles = zip(*directions, strict=True)
    return Damage(max(gaps), max(lost), max(doubles))
