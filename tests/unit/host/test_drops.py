"""What is sent to the association port and is not the peer's ends under its own reason."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "sim" / "hosts"))

from world import World

from mhostd.errors import DropReason
from mhostd.host.path import Way
from mhostd.host.wire import CONTROL, DATA, INIT, INIT_LEN, PORT, RESPONSE, emit_header


class Tapped(World):
    """Two hosts with an association, and all that they have sent each other."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, Way, bytes]] = []
        super().__init__(seed=1, hosts=2, segments=1)
        self.a, self.b = self.nodes
        self.send(self.a, self.b, b"hello")
        self.run(1.0)
        assert self.b.got

    def transmit(self, node, way, packet):
        self.sent.append((node.number, way, packet))
        super().transmit(node, way, packet)

    def captured(self, kind: int) -> bytes:
        """The first packet of that type from a to b."""
        return next(p for n, _way, p in self.sent if n == 0 and p[0] & 15 == kind)

    def back(self) -> Way:
        """How b answers a."""
        way = next(way for n, way, _p in self.sent if n == 0)
        return Way(way.l3, way.remote, 1, way.source, PORT)

    def give(self, packet: bytes) -> DropReason | None:
        """b receives a packet, as from a."""
        return self.b.hosts.receive(self.back(), packet, self.now)


@pytest.fixture
def world() -> Tapped:
    return Tapped()


def changed(packet: bytes, at: int) -> bytes:
    return packet[:at] + bytes([packet[at] ^ 1]) + packet[at + 1 :]


@pytest.mark.parametrize(
    "packet", [b"", b"\x15" * 15, b"\x25" + bytes(40), b"\x1f" + bytes(40)]
)
def test_what_is_not_of_the_protocol_is_malformed(world, packet):
    assert world.give(packet) is DropReason.SHIM_MALFORMED


@pytest.mark.parametrize("kind", [CONTROL, DATA, RESPONSE])
def test_what_nobody_has_asked_for_has_no_session(world, kind):
    packet = emit_header(kind, 0, 0xDEADBEEF, 1) + bytes(60)
    assert world.give(packet) is DropReason.SHIM_NO_SESSION


@pytest.mark.parametrize("packet", [bytes(INIT_LEN - 16), bytes(INIT_LEN - 17), b""])
def test_an_init_without_a_right_mac1_is_refused(world, packet):
    assert world.give(emit_header(INIT, 0, 7) + packet) is DropReason.SHIM_REFUSED


@pytest.mark.parametrize("at", [2, 16, -1])
@pytest.mark.parametrize("kind", [CONTROL, DATA])
def test_a_packet_that_was_changed_has_a_wrong_tag(world, kind, at):
    packet = world.captured(kind)
    fresh = packet[:8] + (1 << 20).to_bytes(8, "big") + packet[16:]
    before = dict(world.b.got)
    assert (
        world.give(changed(packet, at % len(packet))) is DropReason.SHIM_TAG or kind == CONTROL
    )
    assert world.give(fresh) is DropReason.SHIM_TAG
    assert dict(world.b.got) == before


def test_what_comes_again_is_replayed(world):
    before, events = dict(world.b.got), len(world.b.events)
    assert world.give(world.captured(DATA)) is DropReason.SHIM_REPLAYED
    assert world.give(world.captured(CONTROL)) is DropReason.SHIM_REPLAYED
    assert dict(world.b.got) == before
    assert len(world.b.events) == events


def test_an_init_that_comes_again_makes_no_session(world):
    peer = world.b.hosts.peers[world.a.identity.identifier]
    session = peer.session
    for _ in range(3):
        assert world.give(world.captured(INIT)) in (None, DropReason.SHIM_REPLAYED)
    world.run(world.now + 20)
    assert peer.session is session


def test_a_response_from_elsewhere_makes_no_path_work():
    world = Tapped()
    fresh = world.nodes[0].fresh()
    world.nodes[0].look()
    world.introduce(world.a, world.b)
    caught: list[bytes] = []
    deliver = world.b.transmit
    world.b.hosts.transmit = lambda way, packet: (
        caught.append(packet) if packet[0] & 15 == RESPONSE else deliver(way, packet)
    )
    for peer in world.b.hosts.peers.values():
        peer.transmit = world.b.hosts.transmit
    world.send(world.a, world.b, b"again")
    world.run(world.now + 0.5)
    assert caught
    way = world.back()
    strange = Way(way.l3, way.remote, 1, way.source._replace(address=b"\x0a\0\x7f\x7f"), PORT)
    ours = strange._replace(source=world.a.addresses[0])
    assert fresh.receive(ours, caught[0], world.now) is None
    peer = fresh.peers[world.b.identity.identifier]
    assert peer.session is not None
    assert peer.active is None or peer.active.way.remote != strange.remote
