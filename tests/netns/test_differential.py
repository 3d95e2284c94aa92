"""The same frames for mhostd and for the Linux kernel: what comes of them is the same.

differential/ has the kinds of frames and the sides. Every difference stands in
DIFFERENCES with its reason; one that is no more fails the test as well.
"""

import mhost.daemon
import pytest
from differential import errors, fragments, kinds4, kinds6
from differential.differences import DIFFERENCES
from differential.frames import (
    CONNECTED,
    Kind,
    cut4,
    cut6,
    error4,
    error6,
    whole4,
    whole6,
)
from differential.linux import KernelSide
from differential.ours import DaemonSide, StackSide, check_accounts
from differential.outcome import seen
from lab import Lab

KINDS = [
    *(*kinds4.KINDS, *errors.KINDS4, *fragments.KINDS4),
    *(*kinds6.KINDS, *errors.KINDS6, *fragments.KINDS6),
]
PEERS = {
    kind: f"10.77.{1 + i // 250}.{1 + i % 250}" if kind.version == 4 else f"fd77::1:{i:x}"
    for i, kind in enumerate(KINDS, 1)
}


@pytest.fixture(scope="module")
def sides(make_node):
    with Lab() as lab, pytest.MonkeyPatch.context() as monkeypatch:
        kernel = KernelSide(lab.host("kernel"))
        host = lab.host("mhostd")
        monkeypatch.setenv("MHOST_SOCKET", host.socket)
        daemon = DaemonSide(host)
        yield kernel, StackSide(make_node), daemon
        counters = host.show("counters")
        assert not any(counters[l3].get("icmp_ratelimited") for l3 in ("inet", "inet6"))
        mhost.daemon.close_all()
        for side in (kernel, daemon):
            side.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_frame_does_what_it_does_to_linux(sides, kind):
    kernel, stack, daemon = sides
    theirs, ours, live = (side.run(kind, PEERS[kind]) for side in (kernel, stack, daemon))
    listed = DIFFERENCES.get(kind.name, set())
    assert theirs.differing(ours) == listed, f"\nLinux: {theirs}\nmhostd: {ours}"
    assert live == ours


def test_what_is_listed_is_there():
    names = [kind.name for kind in KINDS]
    assert len(names) == len(set(names)) > 800
    assert set(DIFFERENCES) <= set(names)


# --- what an application sends


SIZES = (0, 1, 992, 993, 1232, 1233, 1452, 1453, 1472, 1473, 4000)
DISCOVER = (None, 0, 1, 2, 3, 4, 5)  # IP_PMTUDISC_*, IPV6_PMTUDISC_*
TOO_BIG = [(4, mtu) for mtu in (None, 1000, 68, 0)] + [(6, mtu) for mtu in (None, 1280, 1000)]


@pytest.mark.parametrize(("version", "mtu"), TOO_BIG)
def test_what_is_sent_is_what_linux_sends(sides, version, mtu):
    """By size and IP_MTU_DISCOVER, before and after a router has told of its MTU."""
    kernel, stack, daemon = sides
    number = 1 + TOO_BIG.index((version, mtu))
    peer = f"10.77.201.{number}" if version == 4 else f"fd77::2:{number}"

    def too_big(peer):
        if mtu is None:
            return []
        if version == 4:
            return error4(peer, 3, 4, nexthopmtu=mtu)
        return error6(peer, 2, 0, mtu)

    told = Kind("", version, too_big)
    kernel.run(told, peer)
    daemon.run(told, peer)
    node = stack.node()
    node.socket("*", CONNECTED)
    for frame in told.frames(peer):
        node.receive(frame, 0x0800 if version == 4 else 0x86DD, node.tun)
    for how in DISCOVER:
        for size in SIZES:
            theirs = kernel.send(version, peer, size, how)
            assert stack.send(node, version, peer, size, how) == theirs, (how, size)
            assert daemon.send(version, peer, size, how) == theirs, (how, size)


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("ttl", "tos"), [(None, None), (1, 0), (255, 0xB8), (64, 0x03)])
def test_ttl_and_type_of_service_go_out_as_from_linux(sides, version, ttl, tos):
    kernel, stack, daemon = sides
    peer = "10.77.202.1" if version == 4 else "fd77::3:1"
    for size in (5, 2000):
        theirs = kernel.send(version, peer, size, None, ttl, tos)
        assert stack.send(stack.node(), version, peer, size, None, ttl, tos) == theirs
        assert daemon.send(version, peer, size, None, ttl, tos) == theirs


# --- what takes time


@pytest.mark.parametrize(
    ("name", "version", "seconds", "cut", "whole", "peer"),
    [
        ("net.ipv4.ipfrag_time", 4, 30, cut4, whole4, "10.77.203.1"),
        ("net.ipv6.ip6frag_time", 6, 60, cut6, whole6, "fd77::4:1"),
    ],
)
def test_fragments_that_wait_too_long_are_reported_as_by_linux(
    sides, name, version, seconds, cut, whole, peer
):
    """If the first is there; Linux says so in the order of its timers."""
    kernel, stack, _daemon = sides
    first, second, third = (0, 16, 1), (16, 40, 1), (40, 56, 0)
    came = ([second], [third, second], [first], [first, second], [third, first])
    frames = [
        bytes(frame)
        for number, parts in enumerate(came)
        for frame in cut(peer, whole(peer), *parts, id=number)
    ]
    kernel.sysctl(name, 1)
    theirs = kernel.after_a_while(version, frames, 3)
    kernel.sysctl(name, seconds)
    node = stack.node()
    for frame in frames:
        node.receive(frame, 0x0800 if version == 4 else 0x86DD, node.tun)
    node.now += seconds - 1
    node.core.run_timers()
    assert node.sent() == []
    node.now += 1
    node.core.run_timers()
    assert sorted(seen(frame) for frame in node.sent()) == sorted(theirs)
    assert node.drops == {"FRAG_REASM_TIMEOUT": len(frames)}
    check_accounts(node)
