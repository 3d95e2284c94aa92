"""Fragments until they are a datagram again: RFC 791, RFC 8200 section 4.5.

The holes of RFC 815 as a sorted list of what is there. A fragment that overlaps what is
there drops the whole datagram (RFC 5722; for IPv4 as well, as Linux does); an exact
repetition is dropped alone. Held datagrams are bounded in number, octets and time.
"""

from __future__ import annotations

from bisect import bisect_left
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


class Fragment(NamedTuple):
    """One fragment.

    Attributes:
        offset: octets from the beginning of the payload.
        more: another one follows.
        payload: octets.
        head: what its header says besides, for the first one to keep.
    """

    offset: int
    more: bool
    payload: bytes
    head: bytes = b""


@dataclass(slots=True)
class Held:
    """The fragments of one datagram so far, by offset."""

    deadline_s: float
    fragments: list[Fragment] = field(default_factory=list)
    octets: int = 0
    length: int | None = None  # known with the last fragment

    @property
    def first(self) -> Fragment | None:
        """The fragment at offset 0, if it has come."""
        head = self.fragments[0] if self.fragments else None
        return head if head is not None and head.offset == 0 else None


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
        return sum(len(held.fragments) for held in self._held.values())

    def add(
        self, key: Key, fragment: Fragment, now: float
    ) -> tuple[Fragment, bytes] | DropReason | None:
        """Take one fragment.

        Args:
            key: of its datagram.
            fragment: its payload not empty, and a multiple of 8 octets if more follow.
            now: seconds of a monotonic clock.

        Returns:
            The first fragment and the whole payload once it is whole; None while it is
            not; the reason if this fragment is dropped.
        """
        self._counters["ip_reasm_reqds"] += 1
        held = self._held.get(key)
        if held is None:
            held = self._held[key] = Held(now + self._timeout_s)
        reason = self._insert(held, fragment)
        if reason is DropReason.DUP_FRAG:
            return reason
        if reason is not None:
            self._forget(key, reason)
            return reason
        if held.length == held.octets:
            del self._held[key]
            self._octets -= held.octets
            payload = b"".join(part.payload for part in held.fragments)
            self._counters["ip_reasm_oks"] += 1
            self._counters["ip_reasm_absorbed"] += len(held.fragments) - 1
            return held.fragments[0], payload
        while len(self._held) > DATAGRAMS_MAX or self._octets > OCTETS_MAX:
            self._forget(next(iter(self._held)), DropReason.FRAG_EVICTED)
        self._arm()
        return None

    def _insert(self, held: Held, new: Fragment) -> DropReason | None:
        parts, end = held.fragments, new.offset + len(new.payload)
        at = bisect_left(parts, new.offset, key=lambda part: part.offset)
        if at < len(parts) and parts[at][:3] == new[:3]:
            return DropReason.DUP_FRAG
        after = parts[at].offset if at < len(parts) else end
        before = parts[at - 1].offset + len(parts[at - 1].payload) if at else 0
        if new.offset < before or end > after:
            return DropReason.FRAG_OVERLAP
        last = parts[-1].offset + len(parts[-1].payload) if parts else 0
        if not new.more:
            if end < last or held.length not in (None, end):
                return DropReason.FRAG_OVERLAP
            held.length = end
        elif held.length is not None and end > held.length:
            return DropReason.FRAG_OVERLAP
        parts.insert(at, new)
        held.octets += len(new.payload)
        self._octets += len(new.payload)
        return None

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
        self._drop(reason, len(held.fragments))
