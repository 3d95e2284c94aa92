"""The paths to one peer: which there are, which one is taken, and what each is good for."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from mhostd.errors import MhostError
from mhostd.host import choose
from mhostd.host.path import (
    IDLE_PROBE_S,
    PROBE_BACKOFF_MAX_S,
    Path,
    State,
    Uplink,
    Way,
)
from mhostd.host.wire import HLEN, PORT, TAG_LEN, Message, Probe, TheirLocator
from mhostd.sock import Locator

NEVER = float("inf")
PATHS_MAX = 24  # candidates of one peer
DUPLICATES_MAX = 4  # paths that one datagram takes
BETTER_S = 0.5  # how often it is seen whether a better one has worked long enough
URGENT_S = 0.500  # after a path failed one unanswered probe says enough of another
ROOM_ASKED = 3  # padded probes without an answer after which a path is thought narrower
ROOM_AGAIN_S = 600.0  # until it is asked anew (RFC 8899 section 5.1.1, PMTU_RAISE_TIMER)
ROOM_MIN = 1280 - 48  # octets of UDP payload: what every path of IPv6 takes (RFC 8200)
CREDIT_TIMES = 3  # octets to an address that has not answered, for each that came
CREDIT_MAX = 1_000  # (RFC 9000 section 8.1)
CREDIT_AGAIN_S = 0.25
NEVER_S = float("-inf")
MISSES = 2  # unanswered probes otherwise
_PROBE_OVERHEAD = HLEN + TAG_LEN + 11  # of a probe's packet, the padding left out


class Switch(NamedTuple):
    """The last time that another path was taken."""

    when_s: float
    before: str
    after: str
    cause: str


class Net(Protocol):
    """What is asked of the host: its uplinks, and what can be sent from them."""

    def transmit(self, way: Way, packet: bytes) -> None:
        """Send; MhostError says why that is impossible now."""

    def room(self, way: Way) -> int:
        """Octets of UDP payload that a way takes in one packet."""

    def routes(self, uplink: Uplink, locator: Locator) -> bool:
        """Whether a locator is reached from there at all."""

    def uplinks(self) -> tuple[Uplink, ...]:
        """Where we can send from."""

    def nonce(self) -> int:
        """64 bits that nobody can guess."""
        ...


class Owner(Protocol):
    """What is asked of the peer whose paths they are."""

    def seal(self, path: Path, messages: list[Message]) -> bytes | None:
        """CONTROL for a path; None while there is no session."""

    def event(self, what: str, text: str) -> None:
        """Something that an operator may want to know."""

    def changed(self) -> None:
        """Datagrams take another path, or may be larger or smaller."""

    def working(self, now: float) -> None:
        """A path works that did not."""

    def dead(self, now: float) -> None:
        """No path works."""

    def busy(self) -> bool:
        """There is traffic."""
        ...


class Paths:
    """All of them.

    Attributes:
        hints: where the peer may be, by who says so: config, directory, peer.
        by_number: paths by our number.
        theirs: the same by the peer's number.
        active: the one that datagrams take.
        last_switch: the last time that another one was taken.
        urgent_s: until when one miss is enough.
        due_s: when run() is to be called, while there is a session.
    """

    def __init__(self, net: Net, owner: Owner) -> None:
        self._net = net
        self._owner = owner
        self.hints: dict[str, tuple[Locator, ...]] = {}
        self._left: frozenset[Locator] = frozenset()  # hinted, but the peer is not there now
        self._drained: frozenset[Locator] = frozenset()
        self.by_number: dict[int, Path] = {}
        self._ways: dict[Way, Path] = {}
        self._next_number = 0
        self.theirs: dict[int, Path] = {}
        self.active: Path | None = None
        self.last_switch: Switch | None = None
        self.urgent_s = float("-inf")
        self._credit = CREDIT_MAX  # octets that may go where nobody has answered yet
        self.due_s = NEVER

    def ordered(self) -> list[Path]:
        """The best first."""
        return choose.order(self.by_number.values())

    def works(self) -> bool:
        """Whether any does."""
        return any(path.state is State.WORKS for path in self.by_number.values())

    # --- which there are

    def hint(self, origin: str, locators: Iterable[Locator], now: float) -> None:
        """Somebody says where it is; instead of what it said before."""
        new = tuple(dict.fromkeys(locators))
        if self.hints.get(origin, ()) == new:
            return
        self.hints[origin] = new
        self._left -= frozenset(new)
        self.refresh(now)

    def reconsider(self, now: float) -> None:
        """Nobody hears the peer: it may be back where it said that it is no more."""
        if self._left:
            self._left = frozenset()
            self.refresh(now)

    def refresh(self, now: float) -> None:
        """Our uplinks, or its locators, are others now: see which paths there are."""
        before = self._kept()
        uplinks = self._net.uplinks()
        places = {(up.l3, up.locator): up for up in uplinks}
        told = self.hints.get("peer")
        origins = [origin for origin in ("config", "peer", "directory") if origin in self.hints]
        wanted = list(dict.fromkeys(loc for o in origins for loc in self.hints[o]))
        for path in list(self.by_number.values()):
            way = path.way
            up = places.get((way.l3, way.source))
            if up is None or up.ifindex != way.ifindex:
                self.remove(path, f"{path.device or way.l3}: our address is gone", now)
            elif not self._net.routes(up, way.remote):
                self.remove(path, f"{path.device or way.l3}: no route", now)
            elif way.remote not in wanted and not (
                path.heard and (told is None or path.state is State.WORKS)
            ):
                self.remove(path, "the peer is not there any more", now)
            else:
                path.drained = up.drained or way.remote in self._drained
        for order, locator in enumerate(wanted):
            if locator in self._left:
                continue
            for up in uplinks:
                if up.locator.family != locator.family or not self._net.routes(up, locator):
                    continue
                way = Way(up.l3, up.locator, up.ifindex, locator, PORT)
                if way in self._ways:
                    self._ways[way].rank = choose.rank(way.source, locator, order)
                elif len(self.by_number) < PATHS_MAX:
                    self._add(way, up, order, now)
        self.elect(now, "paths changed")
        if self._kept() != before:
            self._owner.changed()

    def _kept(self) -> set[int]:
        """The numbers of the paths that are not to be left."""
        return {number for number, path in self.by_number.items() if not path.drained}

    def _add(self, way: Way, up: Uplink, order: int, now: float) -> Path:
        number = self._next_number
        while number in self.by_number:
            number = (number + 1) % 256
        self._next_number = (number + 1) % 256
        place = choose.rank(way.source, way.remote, order)
        path = Path(number, way, up.device, place, self._net.room(way))
        path.drained = up.drained or way.remote in self._drained
        path.since_s = path.probe_s = now
        self.by_number[number] = self._ways[way] = path
        self.due_s = min(self.due_s, path.probe_s)
        return path

    def remove(self, path: Path, reason: str, now: float) -> None:
        """There is no such path any more."""
        del self.by_number[path.number], self._ways[path.way]
        for number in [n for n, p in self.theirs.items() if p is path]:
            del self.theirs[number]
        path.turn(State.FAILED, reason, now)
        if path is self.active:
            self.active = None
            self.urgent_s = now + URGENT_S
            self.elect(now, reason, before=path)

    def of(self, way: Way, now: float) -> Path | None:
        """The path that an authenticated packet came over; a new one if need be."""
        path = self._ways.get(way)
        if path is not None:
            return path
        for up in self._net.uplinks():
            if up.l3 == way.l3 and up.locator == way.source:
                break
        else:
            return None
        way = way._replace(ifindex=up.ifindex)
        path = self._ways.get(way)
        if path is None:
            if len(self.by_number) >= PATHS_MAX:
                worst = choose.order(self.by_number.values())[-1]
                if worst.state is State.WORKS:
                    return None
                self.remove(worst, "too many", now)
            path = self._add(way, up, len(self.by_number), now)
            path.heard = True
        return path

    def told(self, locators: tuple[TheirLocator, ...], now: float) -> None:
        """The peer says where it is: what it does not name any more is gone."""
        self._drained = frozenset(each.locator for each in locators if each.drained)
        here = tuple(each.locator for each in locators)
        gone = frozenset(self.hints.get("peer", ())) - frozenset(here)
        for path in list(self.by_number.values()):
            if path.way.remote in gone:
                self.remove(path, "the peer has left it", now)
        self.hints["peer"] = here
        hinted = frozenset(loc for origin in self.hints for loc in self.hints[origin])
        self._left = (self._left | gone) & hinted - frozenset(here)
        self.refresh(now)

    def at(self, way: Way) -> Path | None:
        """The path that is exactly this way, if there is one."""
        return self._ways.get(way)

    def arrived(self, number: int, path: Path, newest: bool, now: float) -> None:
        """The peer's path of that number is this one of ours."""
        if self.theirs.get(number) is not path and newest:
            self.theirs[number] = path
            self._owner.changed()
        if path.state is State.NEW and not path.probes:
            self.probe(path, now)

    def data_paths(self, duplicate: bool) -> list[Path]:
        """The paths that a datagram takes now."""
        if self.active is None:
            return []
        if not duplicate:
            return [self.active]
        works = [
            path
            for path in choose.order(self.by_number.values())
            if path.state is State.WORKS and not path.drained
        ]
        return (works or [self.active])[:DUPLICATES_MAX]

    def room(self) -> int:
        """Octets of UDP payload that reach the peer in one packet."""
        paths = [self.active] if self.active else list(self.by_number.values())
        return max((path.room for path in paths), default=ROOM_MIN)

    # --- probes, failures, choice

    def came(self, octets: int) -> None:
        """The peer has sent that much: so far may we believe where it says it is."""
        self._credit = min(CREDIT_MAX, self._credit + CREDIT_TIMES * octets)

    def probe(self, path: Path, now: float, pad: int = 0) -> None:
        """Ask whether a path works, with that many octets of padding."""
        fresh = path.answered_s == NEVER_S
        if fresh and _PROBE_OVERHEAD + pad > self._credit:
            wait_s = CREDIT_AGAIN_S * 2 ** min(path.unanswered, 6)
            path.probe_s = now + wait_s
            self.due_s = min(self.due_s, path.probe_s)
            return
        nonce = self._net.nonce()
        packet = self._owner.seal(path, [Probe(nonce, pad)])
        if packet is None:
            return
        if fresh:
            self._credit -= len(packet)
        path.probe(nonce, now, pad)
        try:
            self._net.transmit(path.way, packet)
        except MhostError as err:
            path.probes.pop(nonce)
            if err.errno == errno.EMSGSIZE:
                self._refit(path)
            else:
                path.unanswered += 1
                self.failed(path, err.strerror, now)
            self._schedule(path, now)
            return
        path.probe_s = now + path.silence_s
        self.due_s = min(self.due_s, path.probe_s)

    def ask_too(self, path: Path, now: float) -> list[Message]:
        """A probe that goes with the answer to the peer's, if ours is due before long."""
        idle = path.state is State.WORKS and now - path.answered_s > IDLE_PROBE_S / 2
        if not idle or path.probes:
            return []
        nonce = self._net.nonce()
        path.probe(nonce, now)
        path.probe_s = now + path.silence_s
        self.due_s = min(self.due_s, path.probe_s)
        return [Probe(nonce)]

    def _schedule(self, path: Path, now: float) -> None:
        """When a path that failed, or works, is probed again."""
        wait_s = IDLE_PROBE_S
        if path.state is not State.WORKS:
            first_s = 0.25 if self._owner.busy() else 1.0
            wait_s = min(first_s * 2 ** min(path.unanswered, 10), PROBE_BACKOFF_MAX_S)
        path.probe_s = now + wait_s
        self.due_s = min(self.due_s, path.probe_s)

    def answered(self, nonce: int, now: float) -> None:
        """A probe was."""
        for path in self.by_number.values():
            if nonce in path.probes or nonce in path.late:
                pad = path.answer(nonce, now)
                if pad:
                    path.room_asked = ROOM_ASKED  # it fits
                self.works_now(path, "probe answered", now)
                self._schedule(path, now)
                if now - path.room_s >= ROOM_AGAIN_S:
                    path.room_s = now
                    self._resize(path, self._net.room(path.way))
                    path.room_asked = 0
                if path.room_asked < ROOM_ASKED:
                    path.room_asked += 1
                    self.probe(path, now, path.room - _PROBE_OVERHEAD)
                return

    def works_now(self, path: Path, reason: str, now: float) -> None:
        """Something that we sent over a path was answered."""
        fresh = path.state is not State.WORKS
        path.answered_s = path.heard_s = now
        path.unanswered = 0
        if fresh:
            path.turn(State.WORKS, reason, now)
            self._schedule(path, now)
            self._owner.event("path", f"{self.text(path)} works: {reason}")
            self.elect(now, f"{self.text(path)}: {reason}")
            self._owner.changed()
            self._owner.working(now)

    def failed(self, path: Path, reason: str, now: float) -> None:
        """It does not work, for this reason: take another one, and see what the others do."""
        if path.state is State.FAILED:
            path.reason = reason
            if path is self.active:
                self.elect(now, f"{self.text(path)}: {reason}")
            return
        was_new = path.state is State.NEW
        path.turn(State.FAILED, reason, now)
        self._schedule(path, now)
        if was_new:
            return
        self._owner.event("path", f"{self.text(path)} failed: {reason}")
        self.urgent_s = now + URGENT_S
        for other in self.by_number.values():
            if path.device and other.device == path.device:
                other.doubted_s = now
        self.elect(now, f"{self.text(path)}: {reason}")
        self._owner.changed()
        for other in list(self.by_number.values()):
            if other is not path and not other.probes:
                self.probe(other, now)
        if not self.works():
            self._owner.dead(now)

    def silent(self, path: Path, reason: str, now: float) -> None:
        """What was sent over it is not reported: it has failed, or the peer is busy."""
        before = path.since_s, path.hold_s
        self.failed(path, reason, now)
        path.before_silence = before

    def reported(self, path: Path, now: float) -> None:
        """It carried what was sent before it failed, and the report of that.

        The peer was busy, and the path is what it was (RFC 5682 does so in TCP).
        """
        before = path.before_silence
        if path.state is not State.FAILED or before is None:
            return
        path.turn(State.WORKS, "reported late", now)
        path.since_s, path.hold_s = before
        path.answered_s = now
        path.unanswered = 0
        self._schedule(path, now)
        self._owner.event("path", f"{self.text(path)} works: reported late")
        self.elect(now, f"{self.text(path)}: reported late")
        self._owner.changed()
        self._owner.working(now)

    def elect(self, now: float, cause: str, before: Path | None = None) -> None:
        """Take the path that should be taken now."""
        chosen = choose.elect(self.by_number.values(), self.active, now)
        if chosen is self.active:
            return
        before = before or self.active
        self.active = chosen
        was = self.text(before) if before else "-"
        self.last_switch = Switch(now, was, self.text(chosen) if chosen else "-", cause)
        self._owner.event("switch", f"{was} -> {self.last_switch.after}: {cause}")
        self._owner.changed()

    def suspect(self, remote: Locator, reason: str, now: float) -> None:
        """An ICMP error, which anybody may send, speaks of a locator: see for ourselves."""
        for path in list(self.by_number.values()):
            if path.way.remote == remote and not path.probes:
                path.reason = reason
                self.probe(path, now)

    def resize(self, now: float) -> None:
        """A path may take more, or less, than before."""
        for path in self.by_number.values():
            self._resize(path, self._net.room(path.way))

    def _refit(self, path: Path) -> None:
        """The kernel has refused what should fit; what it says now, or takes always."""
        room = self._net.room(path.way)
        self._resize(path, room if room != path.room else min(room, ROOM_MIN))

    def _resize(self, path: Path, room: int) -> None:
        if room != path.room:
            path.room = room
            path.room_asked = 0
            self._owner.changed()

    @staticmethod
    def text(path: Path) -> str:
        """A path as an operator reads it; hosts.py has the words for addresses."""
        return f"{path.number}" + (f"@{path.device}" if path.device else "")

    # --- time

    def begin(self, now: float) -> None:
        """There is a session where there was none: see what each path is good for now."""
        for path in self.by_number.values():
            if path.state is State.WORKS:
                path.turn(State.NEW, "worked in an earlier association", now)
            path.probe_s = now
        self.due_s = now

    def run(self, now: float) -> None:
        """Do what is due, while there is a session."""
        for path in list(self.by_number.values()):
            self._run_path(path, now)
        self.elect(now, "a better one has worked long enough")
        self._due(now)

    def _due(self, now: float) -> None:
        due_s = NEVER
        for path in self.by_number.values():
            if path.probes:
                due_s = min(due_s, min(path.probes.values())[0] + path.silence_s)
            else:
                due_s = min(due_s, path.probe_s)
        active = self.active
        if active is not None and any(
            path.state is State.WORKS and path.rank < active.rank
            for path in self.by_number.values()
        ):
            due_s = min(due_s, now + BETTER_S)
        self.due_s = due_s

    def _run_path(self, path: Path, now: float) -> None:
        plain, padded = path.overdue(now)
        if padded and path.state is State.WORKS:
            if path.room_asked < ROOM_ASKED:
                path.room_asked += 1
                self.probe(path, now, path.room - _PROBE_OVERHEAD)
            else:  # smaller ones were answered
                text = f"{self.text(path)}: {path.room} octets are too many"
                self._owner.event("path", text)
                path.room = min(path.room, ROOM_MIN)
                self._owner.changed()
        if plain:
            misses = 1 if now < self.urgent_s or path.marks else MISSES
            if path.state is State.WORKS and path.unanswered < misses:
                self.probe(path, now)
                return
            if path.state is State.WORKS:
                self.failed(path, f"{path.unanswered} probes without an answer", now)
            else:
                path.turn(State.FAILED, "no answer", now)
                self._schedule(path, now)
        if now >= path.probe_s and not path.probes:
            if path.state is State.WORKS and now - path.answered_s < IDLE_PROBE_S / 2:
                self._schedule(path, now)
            else:
                self.probe(path, now)
