"""Random scenarios of hosts that lose, find and leave networks; a function of the seed.

Invariants: nothing is delivered to the wrong host, or from the wrong one; nothing twice;
every flow is whole again once a path has been there for a while; nothing is left when all
is closed.
"""

from __future__ import annotations

from random import Random

from world import Node, World

SETTLE_S = 30.0  # after everything is mended: probes are backed off to 15 s
QUIET_S = 2.0


def run(seed: int) -> World:
    """Run one; AssertionError names the seed."""
    rng = Random(seed)
    world = World(seed, hosts=rng.choice((2, 2, 2, 3)), segments=rng.choice((1, 2, 2, 3)))
    for link in world.segments:
        link.delay_s = rng.choice((0.0002, 0.001, 0.02, 0.1))
        link.jitter_s = link.delay_s * rng.choice((0, 0, 0.5, 2))
        link.loss = rng.choice((0, 0, 0.01, 0.1))
        link.double = rng.choice((0, 0, 0.05))
    end_s = rng.uniform(3, 12)
    every_s = rng.choice((0.005, 0.02, 0.1))
    pairs = [(a, b) for a in world.nodes for b in world.nodes if a is not b]
    flows = [(a, b, rng.random() < 0.3) for a, b in rng.sample(pairs, min(len(pairs), 3))]
    for a, b, duplicate in flows:
        begin_s = rng.uniform(0, 1)
        world.at(begin_s, lambda a=a, b=b, d=duplicate: world.stream(a, b, every_s, end_s, d))
    restarted = False
    for _ in range(rng.randrange(1, 8)):
        what = rng.choice(tuple(EVENTS))
        restarted |= what == "restart"
        node, segment = rng.choice(world.nodes), rng.randrange(len(world.segments))
        when_s = rng.uniform(0.5, end_s)
        world.at(when_s, lambda w=what, n=node, s=segment: EVENTS[w](world, n, s, rng))
    world.run(end_s)

    for node in world.nodes:  # everything is mended
        node.drained.clear()
    for link in world.segments:
        link.cut.clear()
        link.down.clear()
        link.loss = link.double = 0.0
    for node in world.nodes:
        node.look()
        world.publish(node)
    for a, b, duplicate in flows:
        world.stream(a, b, 0.5, world.now + SETTLE_S, duplicate)
    world.run(world.now + SETTLE_S)
    late = [world.stream(a, b, 0.05, world.now + QUIET_S, d) for a, b, d in flows]
    world.run(world.now + QUIET_S + 1)

    text = f"seed {seed}"
    for (a, b, _duplicate), sent in zip(flows, late, strict=True):
        lost = [inner for inner in sent if not b.got[a.identity.identifier, inner]]
        assert not lost, f"{text}: {len(lost)} of {len(sent)} lost after all was mended: " + (
            f"{a.number}>{b.number}"
        )
    check(world, text)
    for node in world.nodes:
        node.hosts.close()
        assert not node.hosts.peers, text
        assert not node.hosts._ids, text
        assert not node.hosts._sessions, text
        assert node.hosts.next_s is None, text
    return world


def check(world: World, text: str) -> None:
    """What holds at any time."""
    by_identifier = {node.identity.identifier: node for node in world.nodes}
    for node in world.nodes:
        for (identifier, inner), count in node.got.items():
            source, dest = inner.split()[1].split(b">")
            assert int(dest) == node.number, f"{text}: {inner!r} came to {node.number}"
            assert by_identifier[identifier].number == int(source), f"{text}: {inner!r}"
            assert count == 1, f"{text}: {inner!r} came {count} times"


def _cut(world: World, node: Node, segment: int, rng: Random) -> None:
    other = rng.choice([n for n in world.nodes if n is not node])
    link = world.segments[segment]
    link.cut.add((node.number, other.number))
    if rng.random() < 0.6:
        link.cut.add((other.number, node.number))
    if rng.random() < 0.6:
        world.at(world.now + rng.uniform(0.05, 4), link.cut.clear)


def _down(world: World, node: Node, segment: int, rng: Random) -> None:
    link = world.segments[segment]
    link.down.add(node.number)
    node.look()

    def up() -> None:
        link.down.discard(node.number)
        node.look()

    world.at(world.now + rng.uniform(0.01, 4), up)


def _move(world: World, node: Node, segment: int, rng: Random) -> None:
    world.move(node, segment)


def _move_all(world: World, node: Node, segment: int, rng: Random) -> None:
    for each in range(len(world.segments)):
        world.move(node, each, look=False)
    node.look()


def _both(world: World, node: Node, segment: int, rng: Random) -> None:
    for each in world.nodes:
        _move_all(world, each, segment, rng)


def _drain(world: World, node: Node, segment: int, rng: Random) -> None:
    node.drained.add(segment)
    node.look()


def _restart(world: World, node: Node, segment: int, rng: Random) -> None:
    world.restart(node)


def _worse(world: World, node: Node, segment: int, rng: Random) -> None:
    link = world.segments[segment]
    link.loss = rng.choice((0.05, 0.3, 0.9))
    link.jitter_s = rng.choice((0.0, 0.05, 0.2))


def _rebind(world: World, node: Node, segment: int, rng: Random) -> None:
    """A NAT in front of the host forgets it: another port from now on."""
    node.ports[segment] = rng.randrange(1024, 65536)


EVENTS = {
    "cut": _cut,
    "down": _down,
    "move": _move,
    "move all": _move_all,
    "both": _both,
    "drain": _drain,
    "restart": _restart,
    "worse": _worse,
    "rebind": _rebind,
}
