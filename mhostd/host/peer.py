"""A peer: what it is sent, what comes from it, and what waits until it can be reached.

Everything is told with the time; what is to happen later is in `due_s`, at which run() is
to be called. The association ends with the last session; the peer, its paths and what is
known of them stay for as long as somebody names it.
"""

from __future__ import annotations

import errno
from collections.abc import Iterable
from typing import Protocol

from mhostd.errors import MhostError
from mhostd.host.association import Association
from mhostd.host.handshake import Invitation
from mhostd.host.identity import Identity, identifier_of
from mhostd.host.path import Path, State, Uplink, Way
from mhostd.host.paths import NEVER, URGENT_S, Paths, Switch
from mhostd.host.session import Session
from mhostd.host.traffic import Traffic
from mhostd.host.waiting import QUEUE_S, Announcement, Waiter, Waiting
from mhostd.host.wire import (
    OVERHEAD,
    REFUSED_HEAD,
    Close,
    Header,
    Locators,
    LocatorsAck,
    Message,
    Probe,
    ProbeReply,
    Refused,
    Reports,
    TheirLocator,
    emit_messages,
    parse_messages,
)
from mhostd.sock import Locator

DEMAND_S = 2.0  # somebody has sent lately
STALE_S = 0.25  # how often a new handshake is thought of while nothing works
_UDP_HLEN = 8

# What says that a path does not work from here, at once.
PATH_ERRNOS = frozenset({
    errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN, errno.ENODEV,
    errno.ENXIO, errno.EADDRNOTAVAIL, errno.EPERM, errno.EACCES, errno.EINVAL,
})  # fmt: skip


class Around(Protocol):
    """What a peer asks of the host it is in (hosts.py)."""

    us: Identity

    def transmit(self, way: Way, packet: bytes) -> None:
        """Send; MhostError says why that is impossible now."""

    def room(self, way: Way) -> int:
        """Octets of UDP payload that a way takes in one packet."""

    def routes(self, uplink: Uplink, locator: Locator) -> bool:
        """Whether a locator is reached from there at all."""

    def uplinks(self) -> tuple[Uplink, ...]:
        """Where we can send from."""

    def locators(self) -> tuple[TheirLocator, ...]:
        """Where we are."""

    def nonce(self) -> int:
        """64 bits that nobody can guess."""

    def timestamp(self) -> int:
        """Nanoseconds since the epoch, greater than the last time."""

    def new_id(self, peer: Peer) -> int:
        """An association id for the peer."""

    def drop_id(self, local_id: int) -> None:
        """It is not used any more."""

    def deliver(
        self, peer: Peer, next_: int, inner: bytes, path: Path | None, late_s: float
    ) -> None:
        """A datagram has come, so long after the first with a higher sequence number."""

    def unreachable(self, peer: Peer, inner: bytes, err: MhostError) -> None:
        """A datagram that waited is given up: EHOSTUNREACH, EMSGSIZE."""

    def refused(self, peer: Peer, next_: int, head: bytes) -> None:
        """The peer says that nobody there has the port of a datagram that begins so."""

    def event(self, peer: Peer, what: str, text: str) -> None:
        """Something that an operator may want to know."""

    def changed(self, peer: Peer) -> None:
        """Datagrams take another path, or another session."""

    def warm(self, peer: Peer, warm: bool) -> None:
        """Traffic is looked at from now on, or is not any more."""

    def lost(self, peer: Peer) -> None:
        """No path works: ask whoever may know where the peer is."""
        ...


class Peer:
    """One of them: also paths.Owner, and association.Ids.

    Attributes:
        public: 32 octets of its key.
        identifier: 16 octets.
        name: what we call it; its identifier's text if nobody named it.
        known: somebody named it, and it is not forgotten.
        net: the paths to it.
        association: the sessions with it.
        duplicate: datagrams take every path, where their socket says nothing.
        used_s: when something was sent, or came, last.
        due_s: when run() is to be called.
    """

    def __init__(self, around: Around, public: bytes, name: str, known: bool) -> None:
        self._around = around
        self.us = around.us
        self.public = public
        self.identifier = identifier_of(public)
        self.name = name
        self.known = known
        self.duplicate = False
        self.transmit, self.drop_id = around.transmit, around.drop_id
        self.timestamp = around.timestamp
        self.net = Paths(around, self)
        self.association = Association(self, public, self.net, self._established, self.changed)
        self._traffic = Traffic(self.association, self.net, self._try, self._warm)
        self._waiting = Waiting()
        self._announcement = Announcement()
        self._lost_s = float("-inf")
        self._heard_locators = 0
        self.used_s = float("-inf")
        self.due_s = NEVER
        self._rest_s = NEVER  # of it, what is not the tick
        self._looked_s = float("-inf")  # when that was done last
        self._closed = False

    # --- what others look at

    @property
    def session(self) -> Session | None:
        """What datagrams are sealed with; None while there is no association."""
        return self.association.session

    def sessions(self) -> list[Session]:
        """Those that are heard."""
        return self.association.sessions()

    @property
    def paths(self) -> dict[int, Path]:
        """By our number."""
        return self.net.by_number

    @property
    def theirs(self) -> dict[int, Path]:
        """By the peer's number."""
        return self.net.theirs

    @property
    def active(self) -> Path | None:
        """The path that datagrams take."""
        return self.net.active

    @property
    def hints(self) -> dict[str, tuple[Locator, ...]]:
        """Where it may be, by who says so: config, directory, peer."""
        return self.net.hints

    @property
    def last_switch(self) -> Switch | None:
        """The last time that another path was taken."""
        return self.net.last_switch

    @property
    def warm(self) -> bool:
        """There is traffic."""
        return self._traffic.warm

    def data_paths(self, duplicate: bool) -> list[Path]:
        """The paths that a datagram takes now."""
        return self.net.data_paths(duplicate)

    def mtu(self) -> int:
        """Octets of inner packet that reach it in one datagram."""
        return self.net.room() - OVERHEAD

    def state(self) -> str:
        """Of the association: "none", "forming", "established" or "no path works"."""
        if self.session is None:
            return "forming" if self.association.forming or self._waiting else "none"
        return "established" if self.net.works() else "no path works"

    # --- paths.Owner, association.Ids

    def seal(self, path: Path, messages: list[Message]) -> bytes | None:
        """CONTROL for a path; None while there is no session."""
        if self.session is None:
            return None
        return self.session.seal(path.number, emit_messages(messages))

    def event(self, what: str, text: str) -> None:
        """Something that an operator may want to know."""
        self._around.event(self, what, text)

    def changed(self) -> None:
        """Datagrams take another path, or another session."""
        self._around.changed(self)

    def working(self, now: float) -> None:
        """A path works that did not: what waited for that goes."""
        self._flush(now)

    def dead(self, now: float) -> None:
        """No path works: whoever may know where it is is asked, at most once a second."""
        if now - self._lost_s >= 1:
            self._lost_s = now
            self.net.reconsider(now)
            self._around.lost(self)

    def busy(self) -> bool:
        """There is traffic."""
        return self._traffic.warm

    def new_id(self) -> int:
        """An association id that nobody has."""
        return self._around.new_id(self)

    def _warm(self, warm: bool) -> None:
        self._around.warm(self, warm)

    def _try(self, path: Path, packet: bytes) -> None:
        self._reply(path.way, packet)

    def _reply(self, way: Way, packet: bytes) -> None:
        try:
            self._around.transmit(way, packet)
        except MhostError:
            return  # what does not get out is asked for again

    # --- where it may be

    def hint(self, origin: str, locators: Iterable[Locator], now: float) -> None:
        """Somebody says where it is; instead of what it said before."""
        self.net.hint(origin, locators, now)
        self.association.found(now)
        self._due(now)

    def refresh(self, now: float) -> None:
        """Our uplinks or routes are others now."""
        self.net.refresh(now)
        self.association.found(now)
        self._due(now)

    def suspect(self, remote: Locator, reason: str, now: float) -> None:
        """An ICMP error, which anybody may send, speaks of a locator."""
        if not any(path.way.remote == remote for path in self.paths.values()):
            return
        if self.session is None:
            self.association.hurry(now)
        else:
            self.net.suspect(remote, reason, now)
        self._due(now)

    def resize(self, now: float) -> None:
        """A path may take more, or less, than before."""
        self.net.resize(now)
        self._due(now)

    # --- datagrams down

    def send(self, next_: int, inner: bytes, duplicate: bool, now: float) -> None:
        """Send an inner packet, or have it wait until there is an association.

        Raises:
            MhostError: EMSGSIZE, EHOSTUNREACH if no path takes it, or ENOBUFS if too much
                waits.
        """
        self._traffic.sent_s = self.used_s = now
        try:
            self._send(next_, inner, duplicate, now)
        finally:
            self._due(now)

    def _send(self, next_: int, inner: bytes, duplicate: bool, now: float) -> None:
        session, path = self.session, self.active
        if session is None or path is None:
            self._waiting.put(next_, inner, duplicate, now)
            if session is None:
                self.connect(now)
            return
        self._traffic.moves(now)
        if len(inner) + OVERHEAD > path.room:
            raise MhostError(
                errno.EMSGSIZE,
                f"sendto: payload of {len(inner) - _UDP_HLEN} octets exceeds "
                f"{self.mtu() - _UDP_HLEN}, what one packet to {self.name} holds on its path "
                "now; MHOST_MTU says so too",
            )
        if duplicate:
            self._send_everywhere(session, next_, inner, now)
        else:
            self._send_once(session, path, next_, inner, now)

    def _send_once(
        self, session: Session, path: Path, next_: int, inner: bytes, now: float
    ) -> None:
        """Over the best path; where that cannot even send, over the next one."""
        while True:
            try:
                self._around.transmit(path.way, session.shim.seal(path.number, next_, inner))
                return
            except MhostError as err:
                if err.errno not in PATH_ERRNOS:
                    raise
                self.net.failed(path, err.strerror, now)
                best = self.active
                if best is None or best.state is not State.WORKS:
                    raise MhostError(
                        errno.EHOSTUNREACH, f"sendto: {self.name}: {err.strerror}"
                    ) from None
                path = best

    def _send_everywhere(self, session: Session, next_: int, inner: bytes, now: float) -> None:
        seq = session.shim.next()
        taken, why = 0, MhostError(errno.EHOSTUNREACH, f"sendto: no path to {self.name}")
        for path in self.data_paths(True):
            if len(inner) + OVERHEAD > path.room:
                continue
            if taken and not self._traffic.may_copy(len(inner) + OVERHEAD, now):
                break
            packet = session.shim.seal_as(path.number, next_, seq, inner)
            try:
                self._around.transmit(path.way, packet)
                taken += 1
            except MhostError as err:
                if err.errno in PATH_ERRNOS:
                    self.net.failed(path, err.strerror, now)
                else:
                    why = err
        if not taken:
            raise why

    def connect(self, now: float) -> None:
        """Make an association, unless that is under way."""
        if self.session is None and not self.association.forming:
            self.net.reconsider(now)
        if not self.paths:
            self.dead(now)
        self.association.connect(now)

    def _flush(self, now: float) -> None:
        """There is an association, and a path: what has waited goes."""
        if self.session is None or self.active is None:
            return
        for waiter in self._waiting.take():
            try:
                self.send(waiter.next, waiter.inner, waiter.duplicate, now)
            except MhostError as err:
                self._around.unreachable(self, waiter.inner, err)

    def _expire(self, now: float) -> None:
        for waiter in self._waiting.expired(now):
            tried = ", ".join(dict.fromkeys(p.reason for p in self.paths.values()))
            text = f"no answer within {QUEUE_S:.0f} s ({tried or 'no locator is known'})"
            self._give_up(waiter, text)

    def _give_up(self, waiter: Waiter, text: str) -> None:
        self._around.unreachable(self, waiter.inner, MhostError(errno.EHOSTUNREACH, text))

    # --- what comes

    def invitation(self, packet: bytes, invitation: Invitation, way: Way, now: float) -> None:
        """A right INIT has come."""
        self.used_s = now
        self.association.invitation(packet, invitation, way, now)
        self._due(now)

    def response(self, packet: bytes, way: Way, now: float) -> None:
        """RESPONSE has come; NoiseError or WireError if it is not the peer's."""
        self.association.response(packet, way, now)
        self._due(now)

    def _established(self, first: bool, now: float) -> None:
        """Another session is used from now on."""
        if first:
            self.event("association", "established")
        self.net.elect(now, "association")
        self.changed()
        self._heard_locators = 0  # numbers are of a session
        self.say_locators(now)
        self._flush(now)

    def control(
        self, session: Session, header: Header, packet: bytes, way: Way, now: float
    ) -> None:
        """A CONTROL packet; NoiseError or WireError if it is not the peer's."""
        octets, newest = session.open(header, packet)
        self.net.came(len(packet))
        path = self.net.of(way, now)
        self.used_s = now
        self.association.authentic(session, path, now)
        if path is not None:
            path.heard_s = now
            self.net.arrived(header.path, path, newest, now)
        replies: list[Message] = []
        for message in parse_messages(octets):
            match message:
                case Probe(nonce):
                    replies.append(ProbeReply(nonce, way.remote, way.port))
                    if path is not None:
                        replies += self.net.ask_too(path, now)
                case ProbeReply(nonce):
                    self.net.answered(nonce, now)
                case Reports(reports):
                    for report in reports:
                        ours = self.paths.get(report.path)
                        if ours is None:
                            continue
                        if ours.report(report, session.local_id, now) and ours is path:
                            self.net.reported(ours, now)
                case Locators(number, locators):
                    replies.append(LocatorsAck(number))
                    if number > self._heard_locators:
                        self._heard_locators = number
                        self.net.told(locators, now)
                case LocatorsAck(number):
                    self._announcement.acknowledged(number)
                case Refused(next_, head):
                    self._around.refused(self, next_, head)
                case Close():
                    self._their_close(session, now)
                    return
        if replies:
            number = path.number if path else 0
            self._reply(way, session.seal(number, emit_messages(replies)))
        self._due(now)

    def _their_close(self, session: Session, now: float) -> None:
        self.association.forget(session)
        self.event("association", "the peer has closed it")
        if self._waiting or now - self._traffic.sent_s < DEMAND_S:
            self.connect(now)
        self._due(now)

    def data(self, session: Session, packet: bytes, way: Way, now: float) -> int:
        """A DATA packet: 0, or what is wrong with it (native.Shim.open)."""
        opened = session.shim.open(packet)
        if isinstance(opened, int):
            return opened
        next_, number, seq, inner = opened
        self.opened(session, number, seq, next_, inner, way, now)
        return 0

    def opened(
        self, session: Session, number: int, seq: int, next_: int, inner: bytes, way: Way,
        now: float,
    ) -> None:  # fmt: skip
        """A datagram, its tag and sequence number seen to be right."""
        path = self.theirs.get(number)
        moved = path is None or path.way != way
        if moved:
            path = self.net.of(way, now)
        self.used_s = now
        self.association.authentic(session, path, now)
        self._traffic.moves(now)
        if path is not None:
            path.heard_s = now
            if moved:
                self.net.arrived(number, path, seq >= session.shim.rx_max, now)
        late_s = self._traffic.late_s(session, seq, now)
        self._around.deliver(self, next_, inner, path, late_s)
        self._due(now)

    def refuse(self, next_: int, inner: bytes) -> None:
        """Tell it that nobody here has the port of a datagram that has come."""
        path = self.active
        if path is not None and len(inner) >= REFUSED_HEAD:
            packet = self.seal(path, [Refused(next_, inner[:REFUSED_HEAD])])
            if packet is not None:
                self._try(path, packet)

    def traffic(self, now: float) -> None:
        """The fast lane has carried something since nobody looked."""
        self.used_s = now
        self._traffic.moves(now)
        self._due(now)

    # --- where we are

    def say_locators(self, now: float) -> None:
        """Tell the peer where we are, until it acknowledges."""
        self._announcement.begin(self._around.timestamp(), now)
        self._say(now)
        self._due(now)

    def _say(self, now: float) -> None:
        if self.session is None or not self._announcement.due(now):
            return
        ordered = self.net.ordered()
        live = [path for path in ordered if path.state is not State.FAILED]
        octets = emit_messages([Locators(self._announcement.number, self._around.locators())])
        for path in live or ordered:
            self._try(path, self.session.seal(path.number, octets))

    def close(self) -> None:
        """Tell the peer that we forget it."""
        self._closed = True
        for path in self.net.ordered()[:3]:
            packet = self.seal(path, [Close()])
            if packet is not None:
                self._try(path, packet)
        self.association.close()
        for waiter in self._waiting.take():
            self._give_up(waiter, "the association was closed")
        self._traffic.cool()
        self.due_s = NEVER

    # --- time

    def run(self, now: float) -> None:
        """Do what is due."""
        if now >= self._traffic.due_s:
            self._traffic.tick(now)
        if now >= min(self._rest_s, self.net.due_s if self.session else NEVER):
            self._run_rest(now)
        self._due(now)

    def _run_rest(self, now: float) -> None:
        self._looked_s = now
        self._expire(now)
        if self.session is not None:
            self.net.run(now)
            self._say(now)
        stale = self._stale(now) and now - self.net.urgent_s > URGENT_S
        self.association.run(bool(self._waiting), stale, now)

    def _stale(self, now: float) -> bool:
        """Somebody sends, and nothing works."""
        return now - self._traffic.sent_s < DEMAND_S and not self.net.works()

    def _due(self, now: float) -> None:
        rest_s = min(self.association.due_s, self._waiting.due_s)
        if self.session is not None:
            rest_s = min(rest_s, self.net.due_s, self._announcement.due_s)
            if self._stale(now):
                rest_s = min(rest_s, self._looked_s + STALE_S)
        self._rest_s = rest_s
        self.due_s = NEVER if self._closed else max(now, min(rest_s, self._traffic.due_s))
