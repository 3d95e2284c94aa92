"""Single moves of two hosts with two links, on the virtual clock: what becomes of the flow."""

from __future__ import annotations

import errno
import itertools
from functools import partial

import pytest
from world import World

from mhostd.errors import MhostError
from mhostd.host.handshake import LOAD_INITS, Doorkeeper
from mhostd.host.path import HOLD_S, State

EVERY_S = 0.001
RTT_S = 0.002


@pytest.fixture
def world():
    return World(seed=1, hosts=2, segments=2)


def streaming(world, until_s):
    """What a and b have sent each other by and by."""
    a, b = world.nodes
    return world.stream(a, b, EVERY_S, until_s), world.stream(b, a, EVERY_S, until_s)


def segment(node, other):
    """Of the path that is taken."""
    return node.hosts.peers[other.identity.identifier].active.way.source.address[1]


def segments(world):
    a, b = world.nodes
    return segment(a, b), segment(b, a)


def longest_gap_s(node, since_s=0.0):
    when = [at for at, _inner in node.when if at >= since_s]
    return max(later - before for before, later in itertools.pairwise(when))


def down(world, node, segment):
    world.segments[segment].down.add(node.number)
    node.look()


def up(world, node, segment):
    world.segments[segment].down.discard(node.number)
    node.look()


def test_a_link_that_comes_back_is_the_best_one_again_for_both(world):
    a, b = world.nodes
    streaming(world, 20)
    world.run(2)
    assert segments(world) == (0, 0)
    down(world, a, 0)
    world.run(4)
    assert segments(world) == (1, 1)
    up(world, a, 0)
    world.run(12)
    assert segments(world) == (0, 0)
    assert longest_gap_s(b, 2) < 10 * RTT_S


def test_a_locator_that_the_peer_has_left_ranks_as_before_when_it_is_back(world):
    """A hint of configuration keeps its order while the peer is not there."""
    a, b = world.nodes
    peer = a.hosts.peers[b.identity.identifier]
    streaming(world, 12)
    world.run(1)
    ranks = {path.way.remote: path.rank for path in peer.paths.values()}
    down(world, b, 0)
    world.run(2)
    assert {path.way.remote for path in peer.paths.values()} == {b.addresses[1]}
    up(world, b, 0)
    world.run(3)
    assert {path.way.remote: path.rank for path in peer.paths.values()} == ranks


def test_a_new_hint_of_what_the_peer_has_left_is_believed(world):
    a, b = world.nodes
    peer = a.hosts.peers[b.identity.identifier]
    streaming(world, 12)
    world.run(1)
    down(world, b, 0)
    world.run(2)
    world.segments[0].down.clear()  # b has not seen that it is back; the directory says so
    peer.hint("directory", [b.addresses[0]], world.now)
    assert {path.way.remote for path in peer.paths.values()} == set(b.addresses.values())


@pytest.mark.parametrize("every_s", [0.001, 0.1, 0.3])
def test_a_peer_that_was_restarted_is_called_again_while_one_streams_to_it(world, every_s):
    """Also where datagrams go out faster than one would think of a handshake."""
    a, b = world.nodes
    sent = world.stream(a, b, every_s, 10)
    world.run(3)
    world.restart(b)
    world.run(11)
    came = {inner: at for at, inner in b.when}
    missed = [n for n, inner in enumerate(sent) if inner not in came]
    assert len(missed) * every_s < 1.5, (missed[:1], missed[-1:])


def test_a_silent_cut_of_one_direction_is_seen_from_the_other_end(world):
    a, b = world.nodes
    streaming(world, 6)
    world.run(2)
    world.segments[0].cut.add((a.number, b.number))
    world.run(5)
    assert segments(world) == (1, 1)
    assert longest_gap_s(b, 2) < 0.2
    assert longest_gap_s(a, 2) < 0.2


def test_a_plan_to_leave_loses_nothing(world):
    a, b = world.nodes
    one, other = streaming(world, 6)
    world.run(2)
    a.drained.add(0)
    a.look()
    world.run(7)
    assert segments(world) == (1, 1)
    assert all(b.got[a.identity.identifier, inner] for inner in one)
    assert all(a.got[b.identity.identifier, inner] for inner in other)
    assert longest_gap_s(b, 2) < 2 * RTT_S


def test_the_round_trip_is_measured_under_traffic(world):
    """It grows on a link that fills up: silence is longer then, and the path is kept."""
    a, b = world.nodes
    streaming(world, 12)
    world.run(2)
    path = a.hosts.peers[b.identity.identifier].active
    assert path.srtt == pytest.approx(RTT_S, rel=0.2)
    for delay_ms in range(2, 42, 2):  # 40 ms more within 5 s
        slower = partial(setattr, world.segments[0], "delay_s", delay_ms / 1000)
        world.at(2 + delay_ms / 8, slower)
    world.run(10)
    assert path.srtt == pytest.approx(0.080, rel=0.2)
    assert a.hosts.peers[b.identity.identifier].active is path
    assert path.loss < 0.01


def test_one_round_trip_that_stood_high_is_forgotten_soon(world):
    a, b = world.nodes
    streaming(world, 12)
    world.run(1)
    path = a.hosts.peers[b.identity.identifier].active
    path.srtt = path.rttvar = 0.5
    world.run(11)
    assert path.silence_s < 0.1


def test_a_peer_that_went_home_while_nobody_looked_is_found_where_it_was_configured(world):
    """It had said that it is not there any more, and then nothing."""
    a, b = world.nodes
    sent = world.stream(a, b, 0.01, 3)
    world.run(1)
    home = b.addresses[0]
    down(world, b, 0)
    world.run(4)
    a.hosts.peers[b.identity.identifier].association.close()  # 15 minutes later
    world.segments[0].down.discard(b.number)
    world.segments[1].down.add(b.number)
    b.fresh()  # at home, and it calls nobody
    b.hosts.set_uplinks(b.uplinks(), world.now)
    world.introduce(b, a)
    late = world.stream(a, b, 0.1, world.now + 3)
    world.run(world.now + 6)
    assert b.addresses[0] == home
    assert sent
    assert all(b.got[a.identity.identifier, inner] for inner in late)


def test_a_peer_that_is_gone_costs_nothing_once_nobody_sends(world):
    a, b = world.nodes
    world.stream(a, b, EVERY_S, 2)
    world.run(2)
    peer = a.hosts.peers[b.identity.identifier]
    for link in world.segments:
        link.cut |= {(a.number, b.number), (b.number, a.number)}
    world.stream(a, b, EVERY_S, 3)
    world.run(3)
    assert all(path.state is State.FAILED for path in peer.paths.values())
    world.send(a, b, b"00000000 0>1 one more")
    world.run(10)
    assert not peer.warm
    turns = 0
    for _ in range(100):
        due = a.hosts.next_s
        world.run(world.now + 0.1)
        turns += due != a.hosts.next_s
    assert turns <= 10  # of 10 s


def test_who_had_no_network_at_first_calls_as_soon_as_there_is_one(world):
    a, b = world.nodes
    for segment in range(2):
        down(world, a, segment)
    world.stream(a, b, 0.5, 10)
    world.run(9.1)
    assert not b.when
    up(world, a, 1)
    world.run(9.4)
    assert b.when
    assert b.when[0][0] < 9.2


def test_a_call_that_failed_long_ago_does_not_slow_the_next_one(world):
    a, b = world.nodes
    for link in world.segments:
        link.cut.add((a.number, b.number))
    world.stream(a, b, 0.1, 10)
    world.run(60)
    assert a.given_up
    world.send(a, b, b"00000000 0>1 now")
    world.run(60.6)  # both candidates were tried, and nobody heard
    for link in world.segments:
        link.cut.clear()
    world.run(63)
    assert b.got[a.identity.identifier, b"00000000 0>1 now"] == 1


def test_a_peer_that_was_busy_for_a_moment_is_met_on_the_same_path_again(world):
    """Everything waits for it, on each path: none of them has failed."""
    a, b = world.nodes
    streaming(world, 6)
    world.run(2)
    for link in world.segments:
        link.delay_s = 0.2
    world.run(2.05)
    for link in world.segments:
        link.delay_s = 0.001
    world.run(3)
    assert segments(world) == (0, 0)
    peer = a.hosts.peers[b.identity.identifier]
    assert all(path.hold_s == HOLD_S for path in peer.paths.values())


def test_a_handshake_that_cannot_be_sent_fails_the_path_and_another_is_taken(world):
    a, b = world.nodes
    streaming(world, 2)
    world.run(3)
    world.segments[0].down.add(a.number)  # and nobody has told
    peer = a.hosts.peers[b.identity.identifier]
    peer.association.connect(world.now)
    assert segment(a, b) == 1
    assert world.send(a, b, b"00000000 0>1 on")


def test_a_cookie_that_cannot_be_answered_harms_nothing(world):
    a, b = world.nodes
    packets = []
    world.segments[0].cut.add((a.number, b.number))
    world.segments[1].cut.add((a.number, b.number))
    transmit, a.hosts.transmit = a.hosts.transmit, lambda way, packet: packets.append(packet)
    peer = a.hosts.peers[b.identity.identifier]
    peer.association._ids.transmit = a.hosts.transmit
    world.send(a, b, b"00000000 0>1 first")
    door = Doorkeeper(b.identity, world.rng.randbytes)
    cookies = [door.admit(packets[0], b"here", 0.0) for _ in range(LOAD_INITS + 1)]
    peer.association._ids.transmit = transmit
    world.segments[0].down.add(a.number)
    way = peer.net.ordered()[0].way
    assert a.hosts.receive(way, cookies[-1], 0.0) is None


def test_duplicates_that_are_too_large_for_all_are_said_to_be(world):
    a, b = world.nodes
    streaming(world, 1)
    world.run(2)

    def too_large(way, packet):
        raise MhostError(errno.EMSGSIZE, "too large")

    a.hosts.transmit = too_large
    with pytest.raises(MhostError) as caught:
        a.hosts.send(b.identity.identifier, 17, bytes(1000), True, world.now)
    assert caught.value.errno == errno.EMSGSIZE
