"""A world of hosts on a virtual clock: segments that lose, delay, double and cut.

Nothing here is real but mhostd/host/: a run is a function of its seed.
"""

from __future__ import annotations

import errno
import heapq
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from mhostd.errors import MhostError
from mhostd.host.hosts import Hosts
from mhostd.host.identity import Identity
from mhostd.host.path import Path, Uplink, Way
from mhostd.host.peer import Peer
from mhostd.host.wire import PORT
from mhostd.sock import Locator
from mhostd.uapi import AF_INET

ROOM = 1472


@dataclass
class Segment:
    """A link that joins one uplink of each host."""

    delay_s: float = 0.001
    jitter_s: float = 0.0
    loss: float = 0.0
    double: float = 0.0
    cut: set[tuple[int, int]] = field(default_factory=set)  # (from, to) that are lost
    down: set[int] = field(default_factory=set)  # hosts whose interface is down


class Node:
    """A host, as hosts.Rim."""

    def __init__(self, world: World, number: int, identity: Identity) -> None:
        self.world = world
        self.number = number
        self.identity = identity
        self.addresses: dict[int, Locator] = {}  # by segment
        self.ports: dict[int, int] = {}
        self.drained: set[int] = set()
        self.got: Counter[tuple[bytes, bytes]] = Counter()
        self.when: list[tuple[float, bytes]] = []
        self.given_up = 0
        self.events: list[tuple[float, str]] = []
        self.hosts = self.fresh()

    def fresh(self) -> Hosts:
        """The daemon starts."""
        rng = self.world.rng
        self.hosts = Hosts(self.identity, self, rng.randbytes, self.world.now)
        return self.hosts

    def uplinks(self) -> list[Uplink]:
        return [
            Uplink("inet", locator, segment + 1, f"eth{segment}", segment in self.drained)
            for segment, locator in sorted(self.addresses.items())
            if self.number not in self.world.segments[segment].down
        ]

    def look(self) -> None:
        """The network of this host has changed."""
        self.hosts.set_uplinks(self.uplinks(), self.world.now)
        self.world.arm(self)

    # --- hosts.Rim

    def transmit(self, way: Way, packet: bytes) -> None:
        self.world.transmit(self, way, packet)

    def room(self, way: Way) -> int:
        return ROOM

    def routes(self, uplink: Uplink, locator: Locator) -> bool:
        return True

    def deliver(
        self, peer: Peer, next_: int, inner: bytes, path: Path | None, late_s: float
    ) -> None:
        self.got[peer.identifier, inner] += 1
        self.when.append((self.world.now, inner))

    def unreachable(self, peer: Peer, inner: bytes, err: MhostError) -> None:
        self.given_up += 1

    def refused(self, peer: Peer, next_: int, head: bytes) -> None:
        pass

    def event(self, peer: Peer, what: str, text: str) -> None:
        self.events.append((self.world.now, f"{what}: {text}"))

    def changed(self, peer: Peer) -> None:
        pass

    def warm(self, peer: Peer, warm: bool) -> None:
        pass

    def added(self, peer: Peer) -> None:
        pass

    def forgotten(self, peer: Peer) -> None:
        pass

    def session_removed(self, local_id: int) -> None:
        pass

    def lost(self, peer: Peer) -> None:
        self.world.look_up(self, peer)

    def moved(self) -> None:
        self.world.publish(self)

    def realtime_ns(self) -> int:
        return int((1_700_000_000 + self.world.now) * 1e9)


class World:
    """Hosts and the segments between them."""

    def __init__(self, seed: int, hosts: int, segments: int) -> None:
        self.rng = Random(seed)
        self.now = 0.0
        self.segments = [Segment() for _ in range(segments)]
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._n = itertools.count()
        self._owners: dict[Locator, tuple[Node, int]] = {}
        self._directory: dict[bytes, tuple[Locator, ...]] = {}
        self.nodes = [
            Node(self, i, Identity.from_private(self.rng.randbytes(32))) for i in range(hosts)
        ]
        for node in self.nodes:
            for segment in range(segments):
                self.move(node, segment, look=False)
        for node in self.nodes:
            node.look()
            for other in self.nodes:
                if other is not node:
                    self.introduce(node, other)

    def introduce(self, node: Node, other: Node) -> None:
        node.hosts.add(
            other.identity.public, f"host{other.number}", other.addresses.values(), self.now
        )

    def move(self, node: Node, segment: int, look: bool = True) -> None:
        """Another address for a host on a segment."""
        old = node.addresses.pop(segment, None)
        if old is not None:
            del self._owners[old]
        locator = Locator(
            AF_INET, bytes((10, segment, self.rng.randrange(256), self.rng.randrange(256)))
        )
        while locator in self._owners:
            locator = locator._replace(address=locator.address[:2] + self.rng.randbytes(2))
        node.addresses[segment] = locator
        self._owners[locator] = node, segment
        if look:
            node.look()

    def restart(self, node: Node) -> None:
        """The daemon is killed and started again."""
        node.fresh()
        node.hosts.set_uplinks(node.uplinks(), self.now)
        for other in self.nodes:
            if other is not node:
                self.introduce(node, other)
        self.publish(node)

    # --- the directory

    def publish(self, node: Node) -> None:
        said = tuple(node.addresses.values())
        self._directory[node.identity.identifier] = said

        def told() -> None:
            for other in self.nodes:
                peer = other.hosts.peers.get(node.identity.identifier)
                if peer is not None and other is not node:
                    peer.hint("directory", self._directory[node.identity.identifier], self.now)
                    other.hosts.arm(peer)
                    self.arm(other)

        self.at(self.now + 0.1, told)

    def look_up(self, node: Node, peer: Peer) -> None:
        found = self._directory.get(peer.identifier)
        if found is not None:
            hosts = node.hosts

            def told() -> None:
                if node.hosts is hosts:
                    peer.hint("directory", found, self.now)
                    hosts.arm(peer)
                    self.arm(node)

            self.at(self.now + 0.05, told)

    # --- packets

    def transmit(self, node: Node, way: Way, packet: bytes) -> None:
        owner = self._owners.get(way.source)
        if owner is None or owner[0] is not node:
            raise MhostError(errno.EADDRNOTAVAIL, "our address is gone")
        segment = owner[1]
        link = self.segments[segment]
        if node.number in link.down:
            raise MhostError(errno.ENETDOWN, "the interface is down")
        if way.remote.address[1] != segment:
            raise MhostError(errno.ENETUNREACH, "no route")
        assert len(packet) <= ROOM
        for _ in range(2 if self.rng.random() < link.double else 1):
            if self.rng.random() < link.loss:
                continue
            delay_s = link.delay_s + self.rng.random() * link.jitter_s
            self.at(self.now + delay_s, lambda: self._arrive(node, segment, way, packet))

    def _arrive(self, node: Node, segment: int, way: Way, packet: bytes) -> None:
        owner = self._owners.get(way.remote)
        if owner is None or owner[1] != segment:
            return
        to = owner[0]
        link = self.segments[segment]
        if (node.number, to.number) in link.cut or to.number in link.down:
            return
        port = node.ports.get(segment, PORT)
        back = Way(way.l3, way.remote, segment + 1, way.source, port)
        to.hosts.receive(back, packet, self.now)
        self.arm(to)

    # --- time

    def at(self, when_s: float, call: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when_s, next(self._n), call))

    def arm(self, node: Node) -> None:
        """See to it that a host's timers run."""
        due = node.hosts.next_s
        if due is None:
            return
        hosts = node.hosts

        def run() -> None:
            if node.hosts is hosts:
                due = hosts.next_s
                if due is not None and due <= self.now:
                    hosts.timeout(self.now)
                    self.arm(node)

        self.at(max(due, self.now), run)

    def run(self, until_s: float) -> None:
        """Let time pass."""
        for node in self.nodes:
            self.arm(node)
        last, spins = -1.0, 0
        while self._queue and self._queue[0][0] <= until_s:
            when_s, _n, call = heapq.heappop(self._queue)
            spins = spins + 1 if when_s == last else 0
            assert spins < 10_000, f"time stands still at {when_s}"
            last = self.now = max(self.now, when_s)
            call()
        self.now = until_s

    def send(self, a: Node, b: Node, inner: bytes, duplicate: bool = False) -> bool:
        """An application sends; whether the stack took it."""
        try:
            a.hosts.send(b.identity.identifier, 17, inner, duplicate, self.now)
        except MhostError:
            return False
        finally:
            self.arm(a)
        return True

    def stream(
        self, a: Node, b: Node, every_s: float, until_s: float, duplicate: bool = False
    ) -> list[bytes]:
        """Send again and again; what was sent, filled in as time passes."""
        sent: list[bytes] = []
        flow = self.rng.getrandbits(32)

        def once() -> None:
            inner = b"%08x %d>%d %d" % (flow, a.number, b.number, len(sent))
            sent.append(inner)
            self.send(a, b, inner, duplicate)
            if self.now + every_s < until_s:
                self.at(self.now + every_s, once)

        self.at(self.now, once)
        return sent
