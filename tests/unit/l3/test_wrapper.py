import errno

import pytest

from mhostd.dev import NetCore, NetDevice
from mhostd.errors import DropReason, MhostError
from mhostd.l3.wrapper import L3Wrapper
from mhostd.mhost_table import MhostTable
from mhostd.skb import SkBuff
from mhostd.structs import NetProtocol


@pytest.fixture
def proto(node):
    return node.table.proto_named("testproto")


@pytest.fixture
def wrapper(node, proto):
    """One of its own, over a core and a table of its own."""
    table = MhostTable()
    table.mhost_register_proto(proto)
    return L3Wrapper(NetCore(), table, NetDevice("lo"), node.stack.udp.udpmhost_prot)


def test_a_packet_goes_to_the_device_with_ethertype_and_neighbour(wrapper):
    dev = NetDevice("eth0")
    dev.neighbours[1, b"\0\2"] = b"mac"
    wrapper.mhost_send_to_l2(SkBuff.alloc(b"a"), dev, neighbour=(1, b"\0\2"))
    wrapper.mhost_send_to_l2(SkBuff.alloc(b"b"), dev, neighbour=(1, b"\0\3"))
    wrapper.mhost_send_to_l2(SkBuff.alloc(b"c"), dev, 0x0800)
    assert [(bytes(skb.data), skb.protocol, skb.lladdr) for skb in dev.tx_queue] == [
        (b"a", 0x88B5, b"mac"),
        (b"b", 0x88B5, b""),
        (b"c", 0x0800, b""),
    ]


def test_what_the_device_refuses_is_raised(wrapper):
    dev = NetDevice("eth0")
    dev.up = False
    with pytest.raises(MhostError) as err:
        wrapper.mhost_send_to_l2(SkBuff.alloc(b"a"), dev)
    assert err.value.errno == errno.ENETDOWN


def test_l4_is_found_by_its_number_and_told_which_l3_it_came_over(wrapper, proto):
    got = []
    protocol = NetProtocol(
        rcv=lambda skb: got.append((skb.family, skb.l3)) or DropReason.NO_SOCKET, err=print
    )
    wrapper.mhost_add_protocol(17, protocol)
    skb = SkBuff(bytearray(8))
    assert wrapper.mhost_send_to_l4(skb, proto) is DropReason.NO_SOCKET
    assert got == [(1, 1)]
    assert wrapper.mhost_send_to_l4(skb, proto, 6) is DropReason.IP_NOPROTO
    assert len(got) == 1


def test_an_error_goes_to_the_l4_whose_packet_it_quotes(wrapper):
    got = []
    wrapper.mhost_add_protocol(17, NetProtocol(print, lambda _skb, err: got.append(err)))
    wrapper.mhost_err(SkBuff(bytearray(8)), 17, errno.EHOSTUNREACH)
    wrapper.mhost_err(SkBuff(bytearray(8)), 6, errno.EHOSTUNREACH)
    assert got == [errno.EHOSTUNREACH]


def test_the_family_in_front_is_in_network_order(wrapper):
    skb = SkBuff(bytearray.fromhex("0100ffff00010002"))
    assert wrapper.mhost_rcv(skb) is DropReason.UNHANDLED_PROTO
