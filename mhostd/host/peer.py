"""A peer and our association with it: sessions, paths, and what waits for them.

Everything is told with the time; what is to happen later is in `due_s`, at which run() is
to be called. The association ends with the last session; the peer, its paths and what is
known of them stay for as long as somebody names it.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from mhostd.errors import MhostError
from mhostd.host import choose
from mhostd.host.handshake import Initiation, Invitation
from mhostd.host.identity import Identity, identifier_of
from mhostd.host.path import (
    IDLE_PROBE_S,
    PROBE_BACKOFF_MAX_S,
    REPORT_S,
    Path,
    State,
    Uplink,
    Way,
)
from mhostd.host.session import REJECT_S, REKEY_LATE_S, REKEY_S, Session
from mhostd.host.wire import (
    HLEN,
    OVERHEAD,
    PORT,
    TAG_LEN,
    Close,
    Header,
    Locators,
    LocatorsAck,
    Message,
    Probe,
    ProbeReply,
    Report,
    Reports,
    TheirLocator,
    emit_messages,
    parse_messages,
)
from mhostd.sock import Locator

NEVER = float("inf")
TICK_S = 0.010  # how often traffic is looked at while there is some
COLD_S = 0.300  # without any it is not looked at any more
RACE_S = 0.250  # RFC 8305 section 8: Connection Attempt Delay
INIT_AGAIN_S = 1.0  # until the next INIT, doubled up to
INIT_AGAIN_MAX_S = 8.0
QUEUE_S = 3.0  # how long a datagram waits for an association
QUEUE_MAX = 64  # datagrams that wait, and octets
QUEUE_OCTETS = 262_144
LOCATORS_AGAIN_S = 0.030
LOCATORS_AGAIN_MAX_S = 1.0
LOCATORS_FOR_S = 30.0
PATHS_MAX = 24  # candidates of one peer
CAME_EVERY_S, CAME_MAX = 0.001, 1024  # what is kept of when datagrams came
COPIES_OCTETS_S = 12_500_000  # of copies on further paths, to one peer (RFC 8085, 3.1)
COPIES_BURST_S = 0.1
DUPLICATES_MAX = 4  # paths that one datagram takes
URGENT_S = 0.500  # after a path failed one unanswered probe says enough of another
ROOM_ASKED = 3  # padded probes without an answer after which a path is thought narrower
ROOM_MIN = 1280 - 48  # octets of UDP payload: what every path of IPv6 takes (RFC 8200)
_PROBE_OVERHEAD = HLEN + TAG_LEN + 11  # of a probe's packet, the padding left out
MISSES = 2  # unanswered probes otherwise
DEMAND_S = 2.0  # somebody has sent lately
NEXT_S = 15.0  # how long a session waits for the peer to use it
PREVIOUS_S = 3 * IDLE_PROBE_S  # how long one is kept that the peer does not use any more

# What says that a path does not work from here, at once.
PATH_ERRNOS = frozenset({
    errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENODEV,
    errno.ENXIO, errno.EADDRNOTAVAIL, errno.EPERM, errno.EACCES, errno.EINVAL,
})  # fmt: skip


class Switch(NamedTuple):
    """The last time that another path was taken."""

    when_s: float
    before: str
    after: str
    cause: str


class Around(Protocol):
    """What a peer asks of the host it is in (hosts.py)."""

    us: Identity

    def transmit(self, way: Way, packet: bytes) -> None:
        """Send; MhostError says why that is impossible now."""

    def room(self, way: Way) -> int:
        """Octets of UDP payload that a way takes in one packet."""

    def routes(self, uplink: Uplink, locator: Locator) -> bool:
        """Whether a locator is reached from there at all."""

    def deliver(
        self, peer: Peer, next_: int, inner: bytes, path: Path | None, late_s: float
    ) -> None:
        """A datagram has come, so long after the first with a higher sequence number."""

    def unreachable(self, peer: Peer, inner: bytes, text: str) -> None:
        """A datagram that waited is given up."""

    def event(self, peer: Peer, what: str, text: str) -> None:
        """Something that an operator may want to know."""

    def changed(self, peer: Peer) -> None:
        """Datagrams take another path, or another session."""

    def warm(self, peer: Peer, warm: bool) -> None:
        """Traffic is looked at from now on, or is not any more."""

    def new_id(self, peer: Peer) -> int:
        """An association id for the peer."""

    def drop_id(self, local_id: int) -> None:
        """It is not used any more."""

    def nonce(self) -> int:
        """64 bits that nobody can guess."""

    def timestamp(self) -> int:
        """Nanoseconds since the epoch, greater than the last time."""

    def locators(self) -> tuple[TheirLocator, ...]:
        """Where we are."""

    def uplinks(self) -> tuple[Uplink, ...]:
        """Where we can send from."""

    def lost(self, peer: Peer) -> None:
        """No path works: ask whoever may know where the peer is."""
        ...


class Peer:
    """One of them.

    Attributes:
        public: 32 octets of its key.
        identifier: 16 octets.
        name: what we call it; its identifier's text if nobody named it.
        known: somebody named it, and it is not forgotten.
        hints: where it may be, by who says so: config, directory, peer.
        paths: by our number.
        active: the path that datagrams take.
        session: what they are sealed with; None while there is no association.
        last_switch: the last time that another path was taken.
        duplicate: datagrams take every path, whatever their socket says.
        due_s: when run() is to be called.
    """

    def __init__(self, around: Around, public: bytes, name: str, known: bool) -> None:
        self._around = around
        self.public = public
        self.identifier = identifier_of(public)
        self.name = name
        self.known = known
        self.duplicate = False
        self.hints: dict[str, tuple[Locator, ...]] = {}
        self.drained: frozenset[Locator] = frozenset()
        self.paths: dict[int, Path] = {}
        self._ways: dict[Way, Path] = {}
        self._number = 0
        self.theirs: dict[int, Path] = {}  # by the peer's number
        self.active: Path | None = None
        self.session: Session | None = None
        self._previous: Session | None = None
        self._next: Session | None = None
        self._initiation: Initiation | None = None
        self._init_s = NEVER  # when the next INIT is due
        self._race: deque[Path] = deque()
        self._init_sent: dict[Path, float] = {}
        self._backoff_s = INIT_AGAIN_S
        self._initiation_end_s = NEVER
        self.newest_ns = 0  # time stamp of its last INIT
        self._answered: tuple[bytes, bytes] | None = None  # an INIT and its RESPONSE
        self._answered_ways: set[Way] = set()
        self._queue: deque[tuple[float, int, bytes, bool]] = deque()
        self._queued = 0
        self.warm = False
        self._tick_s = NEVER
        self._traffic_s = float("-inf")
        self._sent_s = float("-inf")
        self._reported_s = float("-inf")
        self._patient_s = float("-inf")
        self._urgent_s = float("-inf")
        self._lost_s = float("-inf")
        self._said = 0  # number of our last locators
        self._acked = 0
        self._say_s = NEVER
        self._say_backoff_s = LOCATORS_AGAIN_S
        self._say_until_s = 0.0
        self._heard_locators = 0
        self.used_s = float("-inf")
        self.last_switch: Switch | None = None
        self.due_s = NEVER
        self._rest_s = NEVER  # of it, what is not the tick
        self._came: deque[tuple[float, int]] = deque(maxlen=CAME_MAX)
        self._allowance = (float("-inf"), 0.0)  # octets of copies, and when that was
        self._closed = False

    def state(self) -> str:
        """Of the association: "none", "forming", "established" or "no path works"."""
        if self.session is None:
            return "none" if self._initiation is None and not self._queue else "forming"
        works = any(path.state is State.WORKS for path in self.paths.values())
        return "established" if works else "no path works"

    # --- where it may be

    def hint(self, origin: str, locators: Iterable[Locator], now: float) -> None:
        """Somebody says where it is; instead of what it said before."""
        new = tuple(dict.fromkeys(locators))
        if self.hints.get(origin, ()) == new:
            return
        self.hints[origin] = new
        self.refresh(now)

    def refresh(self, now: float) -> None:
        """Our uplinks, or its locators, are others now: see which paths there are."""
        uplinks = self._around.uplinks()
        places = {(up.l3, up.locator): up for up in uplinks}
        told = self.hints.get("peer")
        origins = [origin for origin in ("config", "peer", "directory") if origin in self.hints]
        wanted = list(dict.fromkeys(loc for o in origins for loc in self.hints[o]))
        for path in list(self.paths.values()):
            way = path.way
            up = places.get((way.l3, way.source))
            if up is None or up.ifindex != way.ifindex:
                self._remove(path, f"{path.device or way.l3}: our address is gone", now)
            elif not self._around.routes(up, way.remote):
                self._remove(path, f"{path.device or way.l3}: no route", now)
            elif way.remote not in wanted and not (
                path.heard and (told is None or path.state is State.WORKS)
            ):
                self._remove(path, "the peer is not there any more", now)
            else:
                path.drained = up.drained or way.remote in self.drained
        for order, locator in enumerate(wanted):
            for up in uplinks:
                if up.locator.family != locator.family or not self._around.routes(up, locator):
                    continue
                way = Way(up.l3, up.locator, up.ifindex, locator, PORT)
                if way not in self._ways and len(self.paths) < PATHS_MAX:
                    self._add(way, up, order, now)
        self._elect(now, "paths changed")
        self._due(now)

    def _add(self, way: Way, up: Uplink, order: int, now: float) -> Path:
        number = self._number
        while number in self.paths:
            number = (number + 1) % 256
        self._number = (number + 1) % 256
        place = choose.rank(way.source, way.remote, order)
        path = Path(number, way, up.device, place, self._around.room(way))
        path.drained = up.drained or way.remote in self.drained
        path.since_s = path.probe_s = now
        self.paths[number] = self._ways[way] = path
        return path

    def _remove(self, path: Path, reason: str, now: float) -> None:
        del self.paths[path.number], self._ways[path.way]
        for number in [n for n, p in self.theirs.items() if p is path]:
            del self.theirs[number]
        path.turn(State.FAILED, reason, now)
        if path is self.active:
            self.active = None
            self._urgent_s = now + URGENT_S
            self._elect(now, reason, before=path)

    def _path_of(self, way: Way, now: float) -> Path | None:
        """The path that an authenticated packet came over; a new one if need be."""
        path = self._ways.get(way)
        if path is not None:
            return path
        for up in self._around.uplinks():
            if up.l3 == way.l3 and up.locator == way.source:
                break
        else:
            return None
        way = way._replace(ifindex=up.ifindex)
        path = self._ways.get(way)
        if path is None:
            if len(self.paths) >= PATHS_MAX:
                worst = choose.order(self.paths.values())[-1]
                if worst.state is State.WORKS:
                    return None
                self._remove(worst, "too many", now)
            path = self._add(way, up, len(self.paths), now)
            path.heard = True
        return path

    # --- datagrams down

    def send(self, next_: int, inner: bytes, duplicate: bool, now: float) -> None:
        """Send an inner packet, or have it wait until there is an association.

        Raises:
            MhostError: EMSGSIZE, or EHOSTUNREACH if no locator is left, or ENOBUFS.
        """
        self._sent_s = self.used_s = now
        session, path = self.session, self.active
        if session is None or path is None:
            self._wait(next_, inner, duplicate, now)
            return
        self._warm(now)
        if len(inner) + OVERHEAD > path.room:
            raise MhostError(
                errno.EMSGSIZE,
                f"sendto: payload of {len(inner) - 8} octets exceeds {self.mtu() - 8}, what "
                f"one packet to {self.name} holds on its path now",
            )
        if duplicate or self.duplicate:
            self._send_everywhere(session, next_, inner, now)
            return
        for _ in range(len(self.paths) + 1):
            try:
                self._around.transmit(path.way, session.shim.seal(path.number, next_, inner))
            except MhostError as err:
                if err.errno not in PATH_ERRNOS:
                    raise
                failed = err
                self._failed(path, f"{err.strerror}", now)
                if self.active is None or self.active is path:
                    break
                path = self.active
            else:
                return
        raise MhostError(errno.EHOSTUNREACH, f"sendto: {self.name}: {failed.strerror}")

    def _send_everywhere(self, session: Session, next_: int, inner: bytes, now: float) -> None:
        seq = session.shim.next()
        taken = 0
        for path in self.data_paths(True):
            if taken and not self._may_copy(len(inner) + OVERHEAD, now):
                break
            if len(inner) + OVERHEAD > path.room:
                continue
            try:
                self._around.transmit(
                    path.way, session.shim.seal_as(path.number, next_, seq, inner)
                )
                taken += 1
            except MhostError as err:
                if err.errno in PATH_ERRNOS:
                    self._failed(path, err.strerror, now)
        if not taken:
            raise MhostError(errno.EHOSTUNREACH, f"sendto: no path to {self.name} takes it")

    def _may_copy(self, octets: int, now: float) -> bool:
        """Whether the limit of copies lets one more go; the first one needs no leave."""
        when_s, left = self._allowance
        most = COPIES_OCTETS_S * COPIES_BURST_S
        left = min(most, left + COPIES_OCTETS_S * (now - when_s))
        may = left >= octets
        self._allowance = now, left - octets if may else left
        return may

    def data_paths(self, duplicate: bool) -> list[Path]:
        """The paths that a datagram takes now."""
        if self.active is None:
            return []
        if not duplicate:
            return [self.active]
        works = [
            path
            for path in choose.order(self.paths.values())
            if path.state is State.WORKS and not path.drained
        ]
        return (works or [self.active])[:DUPLICATES_MAX]

    def mtu(self) -> int:
        """Octets of inner packet that reach it in one datagram."""
        paths = [self.active] if self.active else list(self.paths.values())
        return max((path.room for path in paths), default=1280 - 48) - OVERHEAD

    def _wait(self, next_: int, inner: bytes, duplicate: bool, now: float) -> None:
        if len(self._queue) >= QUEUE_MAX or self._queued + len(inner) > QUEUE_OCTETS:
            raise MhostError(
                errno.ENOBUFS,
                f"sendto: {len(self._queue)} datagrams wait for an association with "
                f"{self.name}, the most there may be",
            )
        self._queue.append((now + QUEUE_S, next_, inner, duplicate))
        self._queued += len(inner)
        if self.session is None:
            self.connect(now)
        self._due(now)

    def _flush(self, now: float) -> None:
        queue, self._queue, self._queued = self._queue, deque(), 0
        for _deadline, next_, inner, duplicate in queue:
            try:
                self.send(next_, inner, duplicate, now)
            except MhostError as err:
                self._around.unreachable(self, inner, err.strerror)

    def _expire(self, now: float) -> None:
        while self._queue and self._queue[0][0] <= now:
            _deadline, _next, inner, _duplicate = self._queue.popleft()
            self._queued -= len(inner)
            tried = ", ".join(dict.fromkeys(p.reason for p in self.paths.values()))
            text = f"no answer within {QUEUE_S:.0f} s ({tried or 'no locator is known'})"
            self._around.unreachable(self, inner, text)

    # --- handshakes

    def connect(self, now: float) -> None:
        """Make an association, unless that is under way."""
        if self._initiation is not None:
            return
        if not self.paths:
            self._ask(now)
        self._begin(now)

    def _begin(self, now: float) -> None:
        local_id = self._around.new_id(self)
        self._initiation = Initiation(
            self._around.us, self.public, local_id, self._around.timestamp()
        )
        self._init_sent.clear()
        self._race = deque(choose.order(self.paths.values()))
        self._initiation_end_s = now + max(self._backoff_s, RACE_S * len(self._race) + 0.1)
        self._backoff_s = min(2 * self._backoff_s, INIT_AGAIN_MAX_S)
        self._init_s = now
        self._initiate(now)

    def _initiate(self, now: float) -> None:
        """The next candidate; one that cannot even send is no reason to wait."""
        assert self._initiation is not None
        while self._race:
            path = self._race.popleft()
            try:
                self._around.transmit(path.way, self._initiation.packet(path.number))
            except MhostError as err:
                path.turn(State.FAILED, err.strerror, now)
                continue
            self._init_sent[path] = now
            self._init_s = now + RACE_S
            return
        self._init_s = NEVER

    def awaits(self, local_id: int) -> bool:
        """Whether an INIT with that association id has no answer yet."""
        return self._initiation is not None and self._initiation.local_id == local_id

    def _end_initiation(self) -> None:
        if self._initiation is not None:
            self._around.drop_id(self._initiation.local_id)
        self._initiation = None
        self._init_s = self._initiation_end_s = NEVER

    def cookie(self, packet: bytes, way: Way, now: float) -> None:
        """The peer is under load and wants to see that we are where we say."""
        if self._initiation is None or not self._initiation.cookie(packet):
            return
        path = self._ways.get(way)
        if path is not None and path in self._init_sent:
            self._around.transmit(path.way, self._initiation.packet(path.number))

    def response(self, packet: bytes, way: Way, now: float) -> None:
        """RESPONSE has come: the association is there."""
        initiation = self._initiation
        assert initiation is not None
        remote_id, keys = initiation.response(packet)
        session = Session(keys, initiation.local_id, remote_id, True, now)
        self._initiation = None
        self._init_s = self._initiation_end_s = NEVER
        self._backoff_s = INIT_AGAIN_S
        path = self._path_of(way, now)
        if path is not None:
            sent_s = self._init_sent.get(path)
            if sent_s is not None:
                path.rtt_sample(now - sent_s)
            self._works(path, "handshake answered", now)
        self._establish(session, now)

    def invitation(self, packet: bytes, invitation: Invitation, way: Way, now: float) -> None:
        """A right INIT has come: make a session that counts once the peer uses it."""
        self.newest_ns = invitation.timestamp_ns
        if self._next is not None:
            self._around.drop_id(self._next.local_id)
        path = self._path_of(way, now)
        number = path.number if path else 0
        local_id = self._around.new_id(self)
        answer, keys = invitation.answer(local_id, number)
        self._next = Session(keys, local_id, invitation.remote_id, False, now)
        self._answered = packet[HLEN : -2 * TAG_LEN], answer
        self._answered_ways = {path.way if path else way}
        self._try(way, answer)
        self._due(now)

    def invited_again(self, packet: bytes, way: Way, now: float) -> bool:
        """The same INIT over another path, or once more: the same answer."""
        if self._answered is None or packet[HLEN : -2 * TAG_LEN] != self._answered[0]:
            return False
        path = self._path_of(way, now)
        self._answered_ways.add(path.way if path else way)
        self._try(way, self._answered[1])
        return True

    def _establish(self, session: Session, now: float) -> None:
        """Use a session from now on."""
        # Where both have called at once each may take the other's session for the older
        # one: the one that the peer uses stays, whichever that is.
        old = [s for s in (self.session, self._previous) if s is not None]
        old.sort(key=lambda s: s.heard_s)
        for each in old[:-1]:
            self._around.drop_id(each.local_id)
        self._previous = old[-1] if old else None
        self.session = session
        if self._next is session:
            self._next = None
        self._elect(now, "association")
        self._around.changed(self)
        if self._previous is None:
            self._around.event(self, "association", "established")
            for path in self.paths.values():
                path.probe_s = now
        self._heard_locators = 0  # numbers are of a session
        self.say_locators(now)
        self._flush(now)
        self._due(now)

    def sessions(self) -> list[Session]:
        """Those that are heard."""
        return [s for s in (self.session, self._previous, self._next) if s is not None]

    # --- control

    def control(
        self, session: Session, header: Header, packet: bytes, way: Way, now: float
    ) -> None:
        """A CONTROL packet; NoiseError if it is not the peer's."""
        octets, newest = session.open(header, packet)
        path = self._path_of(way, now)
        self._authentic(session, path, now)
        if path is not None:
            path.heard_s = now
            self._arrived(header.path, path, newest, now)
        replies: list[Message] = []
        for message in parse_messages(octets):
            match message:
                case Probe(nonce):
                    replies.append(ProbeReply(nonce, way.remote, way.port))
                case ProbeReply(nonce):
                    self._probe_answered(nonce, now)
                case Reports(reports):
                    for report in reports:
                        ours = self.paths.get(report.path)
                        if ours is not None:
                            ours.report(report, session.local_id, now)
                case Locators(number, locators):
                    replies.append(LocatorsAck(number))
                    self._their_locators(number, locators, now)
                case LocatorsAck(number):
                    if number >= self._said:
                        self._acked, self._say_s = number, NEVER
                case Close():
                    self._their_close(session, now)
                    return
        if replies:
            number = path.number if path else 0
            self._try(way, session.seal(number, emit_messages(replies)))
        self._due(now)

    def _authentic(self, session: Session, path: Path | None, now: float) -> None:
        """Something came that only the peer can have sent."""
        self.used_s = session.heard_s = now
        if not session.confirmed:
            session.confirmed = True
            if path is not None and path.way in self._answered_ways:
                self._works(path, "handshake confirmed", now)  # RESPONSE went there
            self._establish(session, now)

    def _arrived(self, number: int, path: Path, newest: bool, now: float) -> None:
        """The peer's path of that number is this one of ours."""
        if self.theirs.get(number) is not path and newest:
            self.theirs[number] = path
            self._around.changed(self)
        if path.state is State.NEW and not path.probes:
            self._probe(path, now)

    def _try(self, way: Way, packet: bytes) -> None:
        try:
            self._around.transmit(way, packet)
        except MhostError:
            return  # what does not get out is asked for again

    def _their_locators(
        self, number: int, locators: tuple[TheirLocator, ...], now: float
    ) -> None:
        if number <= self._heard_locators:
            return
        self._heard_locators = number
        self.drained = frozenset(each.locator for each in locators if each.drained)
        gone = set(self.hints.get("peer", ())) - {each.locator for each in locators}
        for path in list(self.paths.values()):
            if path.way.remote in gone:
                self._remove(path, "the peer has left it", now)
        self.hints["peer"] = tuple(each.locator for each in locators)
        for origin in ("config", "directory"):
            kept = (loc for loc in self.hints.get(origin, ()) if loc not in gone)
            self.hints[origin] = tuple(kept)
        self.refresh(now)

    def _their_close(self, session: Session, now: float) -> None:
        self.forget_session(session)
        self._around.event(self, "association", "the peer has closed it")
        if self._queue or now - self._sent_s < DEMAND_S:
            self.connect(now)
        self._due(now)

    def forget_session(self, session: Session) -> None:
        """Neither side uses a session any more."""
        self._around.drop_id(session.local_id)
        if session is self.session:
            self.session = None
            if self._previous is not None:
                self.forget_session(self._previous)
            self._around.changed(self)
        elif session is self._previous:
            self._previous = None
        elif session is self._next:
            self._next = None

    def say_locators(self, now: float) -> None:
        """Tell the peer where we are, until it acknowledges."""
        self._said = self._around.timestamp()
        self._say_s = now
        self._say_backoff_s = LOCATORS_AGAIN_S
        self._say_until_s = now + LOCATORS_FOR_S
        self._say(now)
        self._due(now)

    def _say(self, now: float) -> None:
        if self.session is None or now >= self._say_until_s:
            self._say_s = NEVER
            return
        octets = emit_messages([Locators(self._said, self._around.locators())])
        ordered = choose.order(self.paths.values())
        live = [path for path in ordered if path.state is not State.FAILED]
        for path in live or ordered:
            self._try(path.way, self.session.seal(path.number, octets))
        self._say_s = now + self._say_backoff_s
        self._say_backoff_s = min(2 * self._say_backoff_s, LOCATORS_AGAIN_MAX_S)

    def close(self) -> None:
        """Tell the peer that we forget it."""
        self._closed = True
        if self.session is not None:
            octets = emit_messages([Close()])
            for path in choose.order(self.paths.values())[:3]:
                self._try(path.way, self.session.seal(path.number, octets))
        for session in self.sessions():
            self.forget_session(session)
        self._end_initiation()
        for _deadline, _next, inner, _duplicate in self._queue:
            self._around.unreachable(self, inner, "the association was closed")
        self._queue.clear()
        if self.warm:
            self.warm = False
            self._around.warm(self, False)
        self.due_s = NEVER

    # --- data up

    def data(self, session: Session, packet: bytes, way: Way, now: float) -> int:
        """A DATA packet: 0, or what is wrong with it (native.Shim.open)."""
        opened = session.shim.open(packet)
        if isinstance(opened, int):
            return opened
        next_, number, seq, inner = opened
        self.opened(session, number, seq, next_, inner, way, now)
        return 0

    def opened(
        self,
        session: Session,
        number: int,
        seq: int,
        next_: int,
        inner: bytes,
        way: Way | None,
        now: float,
    ) -> None:
        """A datagram, its tag and sequence number seen to be right."""
        path = self.theirs.get(number)
        moved = way is not None and (path is None or path.way != way)
        if moved and way is not None:
            path = self._path_of(way, now)
        self._authentic(session, path, now)
        self._warm(now)
        if moved and path is not None:
            self._arrived(number, path, seq >= session.shim.rx_max, now)
        if path is not None:
            path.heard_s = now
        self._around.deliver(self, next_, inner, path, self._late_s(session, seq, now))

    def _late_s(self, session: Session, seq: int, now: float) -> float:
        """How long ago a datagram with a higher sequence number came."""
        highest = session.shim.rx_max
        newest = self._came[-1] if self._came else (float("-inf"), 0)
        if now - newest[0] >= CAME_EVERY_S or highest < newest[1]:
            self._came.append((now, highest))
        if seq >= highest:
            return 0.0
        return next((now - when_s for when_s, high in self._came if high > seq), 0.0)

    # --- paths: probes, failures, choice

    def _probe(self, path: Path, now: float, pad: int = 0) -> None:
        if self.session is None:
            return
        nonce = self._around.nonce()
        path.probe(nonce, now, pad)
        octets = emit_messages([Probe(nonce, pad)])
        try:
            self._around.transmit(path.way, self.session.seal(path.number, octets))
        except MhostError as err:
            path.probes.pop(nonce)
            if err.errno == errno.EMSGSIZE:
                self._resize(path, self._around.room(path.way))
                self._schedule(path, now)
                return
            path.unanswered += 1
            self._failed(path, err.strerror, now)
            self._schedule(path, now)
            return
        path.probe_s = now + path.probe_timeout_s
        self._rest_s = min(self._rest_s, path.probe_s)

    def _schedule(self, path: Path, now: float) -> None:
        """When a path that failed, or works, is probed again."""
        if path.state is State.WORKS:
            path.probe_s = now + IDLE_PROBE_S
            return
        first = 0.25 if self.warm else 1.0
        path.probe_s = now + min(first * 2 ** min(path.unanswered, 10), PROBE_BACKOFF_MAX_S)
        self._rest_s = min(self._rest_s, path.probe_s)

    def _probe_answered(self, nonce: int, now: float) -> None:
        for path in self.paths.values():
            if nonce in path.probes:
                pad = path.answer(nonce, now)
                if pad:
                    path.room_asked = ROOM_ASKED  # it fits
                self._works(path, "probe answered", now)
                self._schedule(path, now)
                if path.room_asked < ROOM_ASKED:
                    path.room_asked += 1
                    self._probe(path, now, path.room - _PROBE_OVERHEAD)
                return

    def _works(self, path: Path, reason: str, now: float) -> None:
        fresh = path.state is not State.WORKS
        path.answered_s = path.heard_s = now
        path.unanswered = 0
        if fresh:
            path.turn(State.WORKS, reason, now)
            self._schedule(path, now)
            self._around.event(self, "path", f"{self.text(path)} works: {reason}")
            self._elect(now, f"{self.text(path)}: {reason}")
            self._around.changed(self)
            if self._queue and self.session is not None:
                self._flush(now)

    def _failed(self, path: Path, reason: str, now: float) -> None:
        if path.state is State.FAILED:
            path.reason = reason
            return
        was_new = path.state is State.NEW
        path.turn(State.FAILED, reason, now)
        self._schedule(path, now)
        if was_new:
            return
        self._around.event(self, "path", f"{self.text(path)} failed: {reason}")
        self._urgent_s = now + URGENT_S
        self._elect(now, f"{self.text(path)}: {reason}")
        self._around.changed(self)
        for other in list(self.paths.values()):
            if other is not path and not other.probes:
                self._probe(other, now)
        if not any(each.state is State.WORKS for each in self.paths.values()):
            self._ask(now)

    def _ask(self, now: float) -> None:
        """Nothing works: whoever may know where it is is asked, at most once a second."""
        if now - self._lost_s >= 1:
            self._lost_s = now
            self._around.lost(self)

    def _elect(self, now: float, cause: str, before: Path | None = None) -> None:
        chosen = choose.elect(self.paths.values(), self.active, now)
        if chosen is self.active:
            return
        before = before or self.active
        self.active = chosen
        was = self.text(before) if before else "-"
        self.last_switch = Switch(now, was, self.text(chosen) if chosen else "-", cause)
        self._around.event(self, "switch", f"{was} -> {self.last_switch.after}: {cause}")
        self._around.changed(self)

    def suspect(self, remote: Locator, reason: str, now: float) -> None:
        """An ICMP error, which anybody may send, speaks of a locator: see for ourselves."""
        for path in list(self.paths.values()):
            if path.way.remote != remote:
                continue
            if self.session is None:
                path.turn(State.FAILED, reason, now)
                if self._initiation is not None and self._race:
                    self._initiate(now)
            elif not path.probes:
                path.reason = reason
                self._probe(path, now)
        self._due(now)

    def resize(self, now: float) -> None:
        """A path may take more, or less, than before."""
        for path in self.paths.values():
            self._resize(path, self._around.room(path.way))
        self._due(now)

    def _resize(self, path: Path, room: int) -> None:
        if room != path.room:
            path.room = room
            path.room_asked = 0
            self._around.changed(self)

    @staticmethod
    def text(path: Path) -> str:
        """A path as an operator reads it; hosts.py has the words for addresses."""
        return f"{path.number}" + (f"@{path.device}" if path.device else "")

    # --- time

    def _warm(self, now: float) -> None:
        self._traffic_s = now
        if not self.warm:
            self.warm = True
            self._tick_s = now + TICK_S
            self._around.warm(self, True)
            self._due(now)

    def traffic(self, now: float) -> None:
        """The fast lane has carried something since nobody looked."""
        self.used_s = now
        self._warm(now)

    def _tick(self, now: float) -> None:
        late = now - self._tick_s
        if late > 3 * TICK_S:  # we slept: what came meanwhile was not read yet
            self._patient_s = now + REPORT_S + TICK_S
        self._tick_s = now + TICK_S
        session = self.session
        moved = False
        if session is not None:
            seq = session.shim.tx_seq
            for number, count in session.shim.sent():
                path = self.paths.get(number)
                if path is not None:
                    before = path.marked
                    path.mark(now, seq, count, session.local_id)
                    moved |= path.marked != before
            if moved:
                self._sent_s = self.used_s = now
        if now - self._reported_s >= REPORT_S:
            for each in self.sessions():
                moved |= self._report(each, now)
        if moved:
            self._traffic_s = now
        if session is not None and now >= self._patient_s:
            for path in list(self.paths.values()):
                self._listen(path, now)
        waits = any(path.marks for path in self.paths.values())
        if now - self._traffic_s > COLD_S and not waits:
            self.warm = False
            self._tick_s = NEVER
            self._around.warm(self, False)

    def _report(self, session: Session, now: float) -> bool:
        """Tell the peer what came, over the paths on which it came."""
        received = session.shim.received()
        if received == session.reported or not session.confirmed:
            return False
        self._reported_s = session.heard_s = now
        before = {number: count for number, count, _highest in session.reported}
        session.reported = received
        octets = emit_messages([Reports(tuple(Report(*each) for each in received))])
        over: list[Path] = []
        for number, count, _highest in received:
            path = self.theirs.get(number, self.active)
            if count != before.get(number) and path is not None and path not in over:
                over.append(path)
        for path in over:
            path.heard_s = now
            self._try(path.way, session.seal(path.number, octets))
        active = self.active
        if active is None or active in over or active.probes or not over:
            return True
        # The peer takes another path: is there something wrong with ours?
        if now - max(active.answered_s, active.heard_s) > 4 * REPORT_S:
            self._probe(active, now)
        return True

    def _listen(self, path: Path, now: float) -> None:
        """Silence under traffic."""
        if path.state is not State.WORKS or not path.marks:
            return
        silent_s = path.silent_s(now)
        if silent_s <= path.silence_s + REPORT_S + TICK_S:
            return
        if len(path.marks) >= 3 or path.unanswered:
            self._failed(path, f"silent for {1000 * silent_s:.0f} ms under traffic", now)
        elif not path.probes:
            self._probe(path, now)

    def run(self, now: float) -> None:
        """Do what is due."""
        if now >= self._tick_s:
            self._tick(now)
        if now < self._rest_s:
            self.due_s = min(self._tick_s, self._rest_s)
            return
        self._expire(now)
        if self.session is not None:
            for path in list(self.paths.values()):
                self._run_path(path, now)
            self._elect(now, "works again")
            if now >= self._say_s:
                self._say(now)
        self._run_handshake(now)
        for session in self.sessions():
            age = now - session.made_s
            if (
                age >= REJECT_S
                or (session is self._next and age >= NEXT_S)
                or (session is self._previous and now - session.heard_s >= PREVIOUS_S)
            ):
                self.forget_session(session)
        self._due(now)

    def _run_path(self, path: Path, now: float) -> None:
        plain, padded = path.overdue(now)
        if padded and path.state is State.WORKS:
            if path.room_asked < ROOM_ASKED:
                path.room_asked += 1
                self._probe(path, now, path.room - _PROBE_OVERHEAD)
            else:  # smaller ones were answered
                self._around.event(
                    self, "path", f"{self.text(path)}: {path.room} octets too many"
                )
                path.room = min(path.room, ROOM_MIN)
                self._around.changed(self)
        if plain:
            misses = 1 if now < self._urgent_s or path.marks else MISSES
            if path.state is State.WORKS and path.unanswered < misses:
                self._probe(path, now)
                return
            if path.state is State.WORKS:
                self._failed(path, f"{path.unanswered} probes without an answer", now)
            else:
                path.turn(State.FAILED, "no answer", now)
                self._schedule(path, now)
        if now >= path.probe_s and not path.probes:
            if path.state is State.WORKS and now - path.answered_s < IDLE_PROBE_S / 2:
                self._schedule(path, now)
            else:
                self._probe(path, now)

    def _run_handshake(self, now: float) -> None:
        if self._initiation is not None:
            if now >= self._init_s:
                self._initiate(now)
            if now >= self._initiation_end_s:
                self._end_initiation()
                if self._queue or (self.session is not None and self._wanted(now)):
                    self._begin(now)
            return
        session = self.session
        if self._queue and session is None:
            self.connect(now)
        elif session is not None:
            age = now - session.made_s
            limit = REKEY_S if session.initiator else REKEY_LATE_S
            stale = self._wanted(now) and now - self._urgent_s > URGENT_S
            if age >= limit or stale:
                self.connect(now)

    def _wanted(self, now: float) -> bool:
        """Somebody sends, and nothing works."""
        works = any(path.state is State.WORKS for path in self.paths.values())
        return not works and now - self._sent_s < DEMAND_S

    def _due(self, now: float) -> None:
        due = min(self._init_s, self._initiation_end_s, self._say_s)
        if self._queue:
            due = min(due, self._queue[0][0])
        if self.session is not None:
            for path in self.paths.values():
                if path.probes:
                    due = min(due, min(path.probes.values())[0] + path.probe_timeout_s)
                else:
                    due = min(due, path.probe_s)
            limit = REKEY_S if self.session.initiator else REKEY_LATE_S
            due = min(due, max(now + 1.0, self.session.made_s + limit))
            active = self.active
            if active is not None and any(p.rank < active.rank for p in self.paths.values()):
                due = min(due, now + 0.5)
            if self._wanted(now):
                due = min(due, now + 0.25)
        if self._previous is not None:
            due = min(due, now + PREVIOUS_S)
        if self._next is not None:
            due = min(due, now + NEXT_S)
        self._rest_s = due
        self.due_s = max(min(due, self._tick_s), now) if not self._closed else NEVER
