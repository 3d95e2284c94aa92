import errno

import pytest

from mhostd.dev import NEIGHBOURS_MAX, NetCore, NetDevice
from mhostd.errors import DropReason, MhostError, Verdict
from mhostd.skb import SkBuff
from mhostd.structs import PacketType


@pytest.fixture
def core():
    return NetCore()


@pytest.fixture
def dev(core):
    dev = NetDevice("eth0", mtu=100)
    core.register_netdevice(dev)
    return dev


def frame(protocol, data=b"hello"):
    skb = SkBuff(bytearray(data))
    skb.protocol = protocol
    return skb


def test_a_frame_goes_to_whoever_takes_its_ethertype(core, dev):
    got = []

    def take(what):
        got.append(what)
        return Verdict.DELIVERED

    core.dev_add_pack(PacketType(0x0800, lambda skb: take(("v4", skb.dev))))
    core.dev_add_pack(PacketType(0x86DD, lambda skb: take(("v6", skb.dev))))
    for protocol in (0x86DD, 0x0800):
        core.netif_receive_skb(dev, frame(protocol))
    assert got == [("v6", "eth0"), ("v4", "eth0")]
    assert (core.ends, core.drops) == ({Verdict.DELIVERED: 2}, {})
    assert +dev.stats == {"rx_packets": 2, "rx_bytes": 10}


def test_the_reason_that_comes_back_is_counted(core, dev):
    core.dev_add_pack(PacketType(1, lambda _skb: DropReason.NO_SOCKET))
    core.netif_receive_skb(dev, frame(1))
    core.netif_receive_skb(dev, frame(2))
    assert core.drops == {DropReason.NO_SOCKET: 1, DropReason.UNHANDLED_PROTO: 1}


def test_a_packet_type_that_is_removed_takes_no_more(core, dev):
    first, other = (PacketType(1, lambda _skb: Verdict.CONSUMED) for _ in range(2))
    core.dev_add_pack(first)
    core.dev_remove_pack(other)  # not the one that is there
    core.netif_receive_skb(dev, frame(1))
    assert core.drops == {}
    core.dev_remove_pack(first)
    core.netif_receive_skb(dev, frame(1))
    assert core.drops == {DropReason.UNHANDLED_PROTO: 1}


def test_a_packet_of_the_mtu_goes_and_one_octet_more_does_not(core, dev):
    core.dev_queue_xmit(dev, frame(1, bytes(100)))
    with pytest.raises(MhostError, match="packet of 101 octets exceeds the MTU of 100") as err:
        core.dev_queue_xmit(dev, frame(1, bytes(101)))
    assert err.value.errno == errno.EMSGSIZE
    assert len(dev.tx_queue) == 1


def test_a_device_that_is_down_takes_nothing_and_says_so(core, dev):
    dev.up = False
    with pytest.raises(MhostError, match="ip link set eth0 up") as err:
        core.dev_queue_xmit(dev, frame(1))
    assert err.value.errno == errno.ENETDOWN
    assert dev.tx_queue == []


def test_flush_is_asked_of_the_devices_that_have_something(core):
    flushed = []

    class Counting(NetDevice):
        def flush(self):
            flushed.append(self.name)

    busy, idle = Counting("busy"), Counting("idle")
    for device in (busy, idle):
        core.register_netdevice(device)
    core.dev_queue_xmit(busy, frame(1))
    core.flush()
    core.flush()
    assert flushed == ["busy"]


@pytest.mark.parametrize(
    ("err", "reason"),
    [
        (errno.EAGAIN, DropReason.FULL_RING),
        (errno.ENOBUFS, DropReason.FULL_RING),
        (errno.EIO, DropReason.DEV_READY),
        (errno.EMSGSIZE, DropReason.DEV_READY),
    ],
)
def test_a_write_that_fails_is_a_drop_and_no_packet(core, dev, err, reason):
    core.tx_done(dev, 5, err)
    assert (+dev.stats, core.drops) == ({"tx_dropped": 1}, {reason: 1})


def test_a_write_that_succeeds_is_counted_in_packets_and_octets(core, dev):
    core.tx_done(dev, 5)
    assert (+dev.stats, core.drops) == ({"tx_packets": 1, "tx_bytes": 5}, {})


def test_a_neighbour_that_is_not_known_is_reached_by_broadcast(dev):
    assert dev.neigh_lookup(1, b"\0\2") == b""


def test_a_neighbour_is_learned_and_learned_anew(dev):
    dev.neigh_update(1, b"\0\2", b"mac one")
    dev.neigh_update(1, b"\0\2", b"mac two")
    assert dev.neigh_lookup(1, b"\0\2") == b"mac two"
    assert dev.neigh_lookup(3, b"\0\2") == b""


def test_a_configured_neighbour_is_not_overwritten_by_a_frame(dev):
    dev.neighbours[1, b"\0\2"] = b"as told"
    dev.neigh_update(1, b"\0\2", b"forged")
    assert dev.neigh_lookup(1, b"\0\2") == b"as told"
    assert dev.learned == {}


def test_learned_neighbours_are_bounded_and_the_longest_silent_one_is_forgotten(dev):
    for n in range(NEIGHBOURS_MAX):
        dev.neigh_update(1, n.to_bytes(2, "big"), b"mac")
    dev.neigh_update(1, b"\0\0", b"mac")  # heard again
    dev.neigh_update(1, b"\xff\xff", b"mac")
    assert len(dev.learned) == NEIGHBOURS_MAX
    assert dev.neigh_lookup(1, b"\0\0") == b"mac"
    assert dev.neigh_lookup(1, b"\0\1") == b""
