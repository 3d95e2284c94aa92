"""Fragments until they are a datagram again: RFC 791, RFC 8200 section 4.5.

The holes of RFC 815 as a sorted list of what is there. A fragment that overlaps what is
there drops the whole datagram (RFC 5722; for IPv4 as well, as Linux does); an exact
repetition is dropped alone. Held datagrams are bounded in number, octets and time.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from mhostd.errors import DropReason

DATAGRAMS_MAX = 1024
OCTETS_MAX = 4 << 20  # of fragments held; as Linux net.ipv4.ipfrag_high_thresh
LENGTH_MAX = 0xFFFF  # octets of a whole payload

Key = TypeVar("Key", bound=Hashable)
Drop = Callable[[DropReason, int], None]
"""drop(reason, fragments): these end here."""


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

    def __init__(self, timeout_s: float, drop: Drop) -> None:
        """Hold fragments for `timeout_s`, and tell `drop` of those that end here."""
        self._timeout_s = timeout_s
        self._drop = drop
        self._held: OrderedDict[Key, Held] = OrderedDict()  # oldest first
        self._octets = 0

    def __len__(self) -> int:
        """Datagrams held."""
        return len(self._held)

    @property
    def fragments(self) -> int:
        """Fragments held."""
        return sum(len(held.fragments) for held in self._held.values())

    def add(
        self, key: Key, fragment: Fragment, now: float
    ) -> tuple[Fragment, bytes, int] | DropReason | None:
        """Take one fragment.

        Args:
            key: of its datagram.
            fragment: its payload not empty, and a multiple of 8 octets if more follow.
            now: seconds of a monotonic clock.

        Returns:
            The first fragment, the whole payload and the number of fragments once it is
            whole; None while it is not; the reason if this fragment is dropped.
        """
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
            return held.fragments[0], payload, len(held.fragments)
        while len(self._held) > DATAGRAMS_MAX or self._octets > OCTETS_MAX:
            self._forget(next(iter(self._held)), DropReason.FRAG_EVICTED)
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

    def expire(self, now: float) -> list[tuple[Key, Fragment]]:
        """Drop what has waited too long.

        Returns:
            Key and first fragment of each datagram whose first one had come: it is told
            that it took too long (RFC 792, RFC 4443 section 3.3).
        """
        late = []
        while self._held:
            key, held = next(iter(self._held.items()))
            if now < held.deadline_s:
                break
            if held.first is not None:
                late.append((key, held.first))
            self._forget(key, DropReason.FRAG_REASM_TIMEOUT)
        return late

    @property
    def next_expiry_s(self) -> float | None:
        """When expire() has something to do; None while nothing is held."""
        return next((held.deadline_s for held in self._held.values()), None)

    def _forget(self, key: Key, reason: DropReason) -> None:
        held = self._held.pop(key)
        self._octets -= held.octets
        self._drop(reason, len(held.fragments))
