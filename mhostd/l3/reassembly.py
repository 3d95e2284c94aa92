"""Fragments until they are a datagram again: RFC 791, RFC 8200 section 4.5.

The holes of RFC 815 as a sorted list of the runs that are there, as Linux has them
(net/ipv4/inet_fragment.c): a fragment that lies within a run is a repetition and is
dropped alone, one that overlaps drops the whole datagram (RFC 5722; for IPv4 as well).
Held datagrams are bounded in number, octets and time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from mhostd.errors import DropReason

DATAGRAMS_MAX = 1024
OCTETS_MAX = 4 << 20  # of fragments held; as Linux net.ipv4.ipfrag_high_thresh

Key = TypeVar("Key", bound=Hashable)
Drop = Callable[[DropReason, int], None]
"""drop(reason, fragments): these end here."""
AddTimer = Callable[[float, Callable[[float], None]], None]
"""add_timer(when_s, callback): call back once, with the time."""

_NOT_ECT, _CE = 1 << 0, 1 << 3  # by the two bits of ECN, RFC 3168 section 5


class Fragment(NamedTuple):
    """One fragment.

    Attributes:
        offset: octets from the beginning of the payload.
        more: another one follows.
        payload: octets.
        head: what its header says besides, for the first one to keep.
        ecn: its two bits of ECN.
        nhoff: octet of `head` that names the fragment header (IPv6).
    """

    offset: int
    more: bool
    payload: bytes
    head: bytes = b""
    ecn: int = 0
    nhoff: int = 0


class Whole(NamedTuple):
    """A datagram again.

    Attributes:
        first: its first fragment.
        payload: all octets.
        ecn: bits to set in the header.
    """

    first: Fragment
    payload: bytes
    ecn: int


@dataclass(slots=True)
class Run:
    """Fragments that came one behind the other."""

    offset: int
    end: int
    fragments: list[Fragment]


@dataclass(slots=True)
class Held:
    """The fragments of one datagram so far, in runs by offset."""

    deadline_s: float
    runs: list[Run] = field(default_factory=list)
    count: int = 0
    octets: int = 0
    ecn: int = 0  # which ECN bits were seen, a bit for each of the four values
    length: int | None = None  # known with the last fragment

    @property
    def first(self) -> Fragment | None:
        """The fragment at offset 0, if it has come."""
        return self.runs[0].fragments[0] if self.runs and not self.runs[0].offset else None


class Reassembly(Generic[Key]):
    """Datagrams of one L3 protocol that are not whole yet."""

    def __init__(
        self,
        timeout_s: float,
        drop: Drop,
        add_timer: AddTimer,
        late: Callable[[Key, Fragment], None],
        counters: Counter[str],
    ) -> None:
        """Begin with none.

        Args:
            timeout_s: how long fragments are held.
            drop: told of fragments that end here.
            add_timer: wakes expire(); one at a time.
            late: told of each datagram that took too long and whose first fragment had
                come (RFC 792, RFC 4443 section 3.3).
            counters: ip_reasm_reqds, ip_reasm_oks and ip_reasm_absorbed are counted there.
        """
        self._timeout_s = timeout_s
        self._drop = drop
        self._add_timer = add_timer
        self._late = late
        self._counters = counters
        self._armed = False
        self._held: OrderedDict[Key, Held] = OrderedDict()  # oldest first
        self._octets = 0

    @property
    def fragments(self) -> int:
        """Fragments held."""
        return sum(held.count for held in self._held.values())

    def add(self, key: Key, fragment: Fragment, now: float) -> Whole | DropReason | None:
        """Take one fragment.

        Args:
            key: what all fragments of the datagram have in common.
            fragment: to be held; one without octets drops the whole datagram.
            now: seconds of a monotonic clock.

        Returns:
            The datagram, if this was the last that was missing; why this one was
            dropped; or None while it is held.
        """
        self._counters["ip_reasm_reqds"] += 1
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = Held(now + self._timeout_s)
        reason = self._insert(held, fragment)
        if reason is not None:
            if reason is not DropReason.DUP_FRAG:
                self._forget(key, reason)
            return reason
        if held.length == held.octets:
            return self._whole(key, held)
        while len(self._held) > DATAGRAMS_MAX or self._octets > OCTETS_MAX:
            self._forget(next(iter(self._held)), DropReason.FRAG_EVICTED)
        self._arm()
        return None

    def _insert(self, held: Held, new: Fragment) -> DropReason | None:
        runs, end = held.runs, new.offset + len(new.payload)
        if end == new.offset:
            return DropReason.IP_INHDR
        last = runs[-1].end if runs else 0
        if held.length is not None and end > held.length:
            return DropReason.FRAG_OVERLAP
        if not new.more:
            if end < last or held.length not in (None, end):
                return DropReason.FRAG_OVERLAP
            held.length = end
        if runs and new.offset == last:
            runs[-1].fragments.append(new)
            runs[-1].end = end
        else:
            at = bisect_right(runs, new.offset, key=lambda run: run.offset)
            if at and end <= runs[at - 1].end:
                return DropReason.DUP_FRAG
            before = runs[at - 1].end if at else 0
            after = runs[at].offset if at < len(runs) else end
            if new.offset < before or end > after:
                return DropReason.FRAG_OVERLAP
            runs.insert(at, Run(new.offset, end, [new]))
        held.count += 1
        held.octets += len(new.payload)
        held.ecn |= 1 << new.ecn
        self._octets += len(new.payload)
        return None

    def _whole(self, key: Key, held: Held) -> Whole | DropReason:
        """All is there: RFC 3168 section 5.3 says what becomes of ECN."""
        del self._held[key]
        self._octets -= held.octets
        if held.ecn & _NOT_ECT and held.ecn != _NOT_ECT:
            self._drop(DropReason.IP_INHDR, held.count - 1)
            return DropReason.IP_INHDR
        parts = [part for run in held.runs for part in run.fragments]
        self._counters["ip_reasm_oks"] += 1
        self._counters["ip_reasm_absorbed"] += held.count - 1
        payload = b"".join(part.payload for part in parts)
        return Whole(parts[0], payload, 3 if held.ecn & _CE else 0)

    def _arm(self) -> None:
        """One timer, for the oldest; what is whole before leaves it to find nothing."""
        oldest = next(iter(self._held.values()), None)
        if oldest is not None and not self._armed:
            self._armed = True
            self._add_timer(oldest.deadline_s, self._expire)

    def _expire(self, now: float) -> None:
        """Drop what has waited too long, and say so."""
        self._armed = False
        while self._held:
            key, held = next(iter(self._held.items()))
            if now < held.deadline_s:
                break
            self._forget(key, DropReason.FRAG_REASM_TIMEOUT)
            if held.first is not None:
                self._late(key, held.first)
        self._arm()

    def _forget(self, key: Key, reason: DropReason) -> None:
        held = self._held.pop(key)
        self._octets -= held.octets
        self._drop(reason, held.count)
