"""The hosts with identities: who they are, what comes from them, and who looks after them.

`Hosts` is given octets and the time and asks its rim to send octets; it never looks at a
clock or a descriptor. mhostd/host/overlay.py joins it to the stack, a simulator to itself.
"""

from __future__ import annotations

import errno
import heapq
import itertools
from collections.abc import Callable, Iterable
from typing import Protocol

from mhostd.errors import DropReason, MhostError
from mhostd.host.handshake import Doorkeeper
from mhostd.host.identity import Identity, identifier_ntop, identifier_of
from mhostd.host.noise import NoiseError, ReplayedError
from mhostd.host.path import Path, Uplink, Way
from mhostd.host.peer import Peer
from mhostd.host.session import Session
from mhostd.host.wire import (
    CONTROL,
    COOKIE,
    DATA,
    INIT,
    RESPONSE,
    TheirLocator,
    WireError,
    parse_header,
)
from mhostd.sock import Locator

PEERS_MAX = 8192
STRANGERS_MAX = 1024  # peers that nobody here has named
_REASONS = {
    -1: DropReason.SHIM_MALFORMED,
    -2: DropReason.SHIM_REPLAYED,
    -3: DropReason.SHIM_TAG,
}


class Rim(Protocol):
    """What the hosts ask of the world; as peer.Around has it, where that is the same."""

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

    def added(self, peer: Peer) -> None:
        """There is another peer."""

    def forgotten(self, peer: Peer) -> None:
        """There is no such peer any more."""

    def session_removed(self, local_id: int) -> None:
        """None counts any more."""

    def lost(self, peer: Peer) -> None:
        """No path works: ask whoever may know where the peer is."""

    def moved(self) -> None:
        """We are somewhere else: tell whoever is to know."""

    def realtime_ns(self) -> int:
        """Nanoseconds since the epoch."""
        ...


class Hosts:
    """All peers, and ourselves.

    Attributes:
        us: our identity.
        peers: by identifier.
        accept_strangers: whether a host that nobody here has named may call.
    """

    def __init__(
        self,
        us: Identity,
        rim: Rim,
        random: Callable[[int], bytes],
        now: float,
        accept_strangers: bool = True,
    ) -> None:
        """Begin without peers; `random` gives octets that nobody can guess."""
        self.us = us
        self.peers: dict[bytes, Peer] = {}
        self.accept_strangers = accept_strangers
        self._rim = rim
        self._random = random
        self._now = now
        self._door = Doorkeeper(us, random)
        self._ids: dict[int, Peer] = {}
        self._sessions: dict[int, tuple[Peer, Session]] = {}
        self._uplinks: tuple[Uplink, ...] = ()
        self._stamp = 0
        self._timers: list[tuple[float, int, Peer]] = []
        self._numbers = itertools.count()
        self._armed: dict[Peer, float] = {}
        self.transmit, self.room, self.routes = rim.transmit, rim.room, rim.routes
        self.deliver, self.unreachable, self.event = rim.deliver, rim.unreachable, rim.event
        self.warm, self.lost, self.refused = rim.warm, rim.lost, rim.refused

    # --- what a peer asks of us (peer.Around)

    def changed(self, peer: Peer) -> None:
        """Datagrams take another path, or another session."""
        for session in peer.sessions():
            if session.local_id not in self._sessions:
                self._sessions[session.local_id] = peer, session
        self._rim.changed(peer)

    def new_id(self, peer: Peer) -> int:
        """An association id for the peer."""
        while True:
            local_id = int.from_bytes(self._random(4), "big")
            if local_id and local_id not in self._ids:
                self._ids[local_id] = peer
                return local_id

    def drop_id(self, local_id: int) -> None:
        """It is not used any more."""
        self._ids.pop(local_id, None)
        if self._sessions.pop(local_id, None) is not None:
            self._rim.session_removed(local_id)

    def nonce(self) -> int:
        """64 bits that nobody can guess."""
        return int.from_bytes(self._random(8), "big")

    def timestamp(self) -> int:
        """Nanoseconds since the epoch, greater than the last time."""
        self._stamp = max(self._rim.realtime_ns(), self._stamp + 1)
        return self._stamp

    def locators(self) -> tuple[TheirLocator, ...]:
        """Where we are."""
        found: dict[Locator, bool] = {}
        for up in self._uplinks:
            if not up.locator.scope_id:
                found[up.locator] = found.get(up.locator, True) and up.drained
        return tuple(TheirLocator(locator, drained) for locator, drained in found.items())

    def uplinks(self) -> tuple[Uplink, ...]:
        """Where we can send from."""
        return self._uplinks

    # --- peers

    def add(self, public: bytes, name: str, locators: Iterable[Locator], now: float) -> Peer:
        """Name a peer and say where it may be."""
        peer = self.peers.get(identifier_of(public))
        if peer is None:
            peer = self._new(public, name, known=True)
        peer.name, peer.known = name, True
        peer.hint("config", locators, now)
        self.arm(peer)
        return peer

    def _new(self, public: bytes, name: str, known: bool) -> Peer:
        peer = Peer(self, public, name, known)
        self.peers[peer.identifier] = peer
        self._rim.added(peer)
        return peer

    def remove(self, peer: Peer) -> None:
        """Forget a peer, and tell it."""
        peer.close()
        del self.peers[peer.identifier]
        self._armed.pop(peer, None)
        self._rim.forgotten(peer)

    def _stranger(self, public: bytes) -> Peer | None:
        """A new peer that nobody has named; the one that was longest quiet makes room."""
        if not self.accept_strangers or len(self.peers) >= PEERS_MAX:
            return None
        strangers = [peer for peer in self.peers.values() if not peer.known]
        if len(strangers) >= STRANGERS_MAX:
            quiet = min(strangers, key=lambda peer: peer.used_s)
            if self._now - quiet.used_s < 60:
                return None
            self.remove(quiet)
        return self._new(public, identifier_ntop(identifier_of(public)), known=False)

    # --- where we are

    def set_uplinks(self, uplinks: Iterable[Uplink], now: float) -> None:
        """Our addresses, links or drains are others now."""
        new = tuple(uplinks)
        if new == self._uplinks:
            return
        self._now = now
        before, self._uplinks = self.locators(), new
        after = self.locators()
        for peer in list(self.peers.values()):
            peer.refresh(now)
            if peer.session is not None and before != after:
                peer.say_locators(now)
            self.arm(peer)
        if before != after:
            self._rim.moved()

    def refresh(self, now: float) -> None:
        """Which locators are reached from where may be otherwise now."""
        self._now = now
        for peer in list(self.peers.values()):
            peer.refresh(now)
            self.arm(peer)

    def resize(self, now: float) -> None:
        """What fits in one packet may be otherwise now."""
        self._now = now
        for peer in list(self.peers.values()):
            peer.resize(now)
            self.arm(peer)

    # --- octets

    def send(
        self, identifier: bytes, next_: int, inner: bytes, duplicate: bool, now: float
    ) -> None:
        """Send an inner packet to the host with that identifier.

        Raises:
            MhostError: EHOSTUNREACH if nobody knows it, and what Peer.send says.
        """
        self._now = now
        peer = self.peer(identifier)
        try:
            peer.send(next_, inner, duplicate, now)
        finally:
            self.arm(peer)

    def peer(self, identifier: bytes) -> Peer:
        """The peer with an identifier; EHOSTUNREACH if there is none."""
        peer = self.peers.get(identifier)
        if peer is None:
            raise unknown(identifier)
        return peer

    def receive(self, way: Way, packet: bytes, now: float) -> DropReason | None:
        """A packet has come to our port.

        Args:
            way: how an answer would go.
            packet: the UDP payload.
            now: seconds of a monotonic clock.

        Returns:
            Why it was dropped, or None.
        """
        self._now = now
        try:
            header = parse_header(packet)
            if header.type == INIT:
                return self._init(way, packet, now)
            if header.type in (CONTROL, DATA):
                found = self._sessions.get(header.id)
                if found is None:
                    return DropReason.SHIM_NO_SESSION
                peer, session = found
                if header.type == DATA:
                    reason = peer.data(session, packet, way, now)
                    self.arm(peer)
                    return _REASONS[reason] if reason else None
                peer.control(session, header, packet, way, now)
            elif header.type in (RESPONSE, COOKIE):
                waiting = self._ids.get(header.id)
                if waiting is None or not waiting.association.awaits(header.id):
                    return DropReason.SHIM_NO_SESSION
                peer = waiting
                if header.type == RESPONSE:
                    peer.response(packet, way, now)
                else:
                    peer.association.cookie(packet, way)
            else:
                return DropReason.SHIM_MALFORMED
        except WireError:
            return DropReason.SHIM_MALFORMED
        except ReplayedError:
            return DropReason.SHIM_REPLAYED
        except NoiseError:
            return DropReason.SHIM_TAG
        self.arm(peer)
        return None

    def _init(self, way: Way, packet: bytes, now: float) -> DropReason | None:
        source = repr((way.remote, way.port)).encode()
        refusal = self._door.admit(packet, source, now)
        if refusal is not None:
            if refusal:
                try:
                    self._rim.transmit(way, refusal)
                except MhostError:
                    pass
            return DropReason.SHIM_REFUSED
        invitation = self._door.read(packet)
        peer_or_none = self.peers.get(identifier_of(invitation.public))
        peer = peer_or_none or self._stranger(invitation.public)
        if peer is None:
            return DropReason.SHIM_REFUSED
        if invitation.timestamp_ns <= peer.association.newest_ns:
            if peer.association.invited_again(packet, way):
                return None
            return DropReason.SHIM_REPLAYED
        peer.invitation(packet, invitation, way, now)
        for session in peer.sessions():
            if session.local_id not in self._sessions:
                self._sessions[session.local_id] = peer, session
        self.arm(peer)
        return None

    def opened(
        self, local_id: int, number: int, seq: int, next_: int, inner: bytes,
        way: Way, now: float,
    ) -> None:  # fmt: skip
        """The fast lane has opened a DATA packet and does not know what to do with it."""
        found = self._sessions.get(local_id)
        if found is not None:
            peer, session = found
            peer.opened(session, number, seq, next_, inner, way, now)
            self.arm(peer)

    def suspect(self, remote: Locator, reason: str, now: float) -> None:
        """An ICMP error speaks of a locator; anybody may have sent it."""
        for peer in list(self.peers.values()):
            peer.suspect(remote, reason, now)
            self.arm(peer)

    # --- time

    @property
    def next_s(self) -> float | None:
        """When timeout() is to be called."""
        while self._timers:
            when_s, _n, peer = self._timers[0]
            if self._armed.get(peer) == when_s:
                return when_s
            heapq.heappop(self._timers)
        return None

    def timeout(self, now: float) -> None:
        """Do what is due."""
        self._now = now
        while (when_s := self.next_s) is not None and when_s <= now:
            _when, _n, peer = heapq.heappop(self._timers)
            del self._armed[peer]
            peer.run(now)
            self.arm(peer)
            if not peer.known and not peer.sessions() and now - peer.used_s > 60:
                self.remove(peer)

    def arm(self, peer: Peer) -> None:
        """Note when a peer has something to do next."""
        due = peer.due_s
        armed = self._armed.get(peer)
        if due == float("inf"):
            self._armed.pop(peer, None)
        elif armed is None or due < armed or armed < self._now:
            self._armed[peer] = due
            heapq.heappush(self._timers, (due, next(self._numbers), peer))

    def close(self) -> None:
        """Tell every peer that we forget it."""
        for peer in list(self.peers.values()):
            self.remove(peer)


def unknown(identifier: bytes) -> MhostError:
    """Nobody here has heard of a host."""
    text = identifier_ntop(identifier)
    return MhostError(
        errno.EHOSTUNREACH,
        f"sendto: no key is known for host {text}; name it with "
        "`mhostctl hosts add NAME --key KEY LOCATOR`",
    )
