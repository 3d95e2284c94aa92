"""INET and INET6 of the host kernel: handed over as they are, both ways."""

import errno

import pytest

from mhostd.errors import DropReason, MhostError, Verdict
from mhostd.skb import SkBuff
from mhostd.uapi import AF_INET, SockaddrMhost

AWAY4, AWAY6 = "198.51.100.1", "2001:db8:ffff::1"


@pytest.mark.parametrize("host", [AWAY4, AWAY6])
def test_a_datagram_goes_to_the_kernel_as_it_is(kernel_node, kernel, host):
    sk = kernel_node.socket("*", 4000)
    kernel_node.sendto(sk, b"hello", host, 7)
    assert kernel.sent == [(b"hello", kernel_node.sa(host, 7))]
    assert kernel_node.sent() == []


@pytest.mark.parametrize(("host", "name"), [(AWAY4, "host_inet"), (AWAY6, "host_inet6")])
def test_a_datagram_of_the_kernel_is_queued_with_its_l3(kernel_node, kernel, host, name):
    node = kernel_node
    sk = node.socket("*", 4000)
    assert kernel.deliver(sk, b"hello", node.sa(host, 7)) is Verdict.DELIVERED
    assert [datagram.l3 for datagram in sk.receive_queue] == [node.table.proto_number(name)]
    assert node.received(sk) == [(b"hello", host, 7)]


def test_what_the_kernel_has_demultiplexed_is_filtered_and_bounded_too(kernel_node, kernel):
    node = kernel_node
    sk = node.socket("*", 4000)
    sk.rcvbuf = 40
    sa = node.sa(AWAY4, 7)
    assert [kernel.deliver(sk, b"", sa) for _ in range(2)] == [
        Verdict.DELIVERED,
        DropReason.SOCKET_RCVBUFF,
    ]
    node.connect(sk, AWAY6, 7)
    assert kernel.deliver(sk, b"", sa) is DropReason.SOCKET_FILTER


def test_a_payload_of_the_kernels_most_goes(kernel_node, kernel):
    kernel_node.sendto(kernel_node.socket(), bytes(65507), AWAY4, 7)
    assert len(kernel.sent[0][0]) == 65507
    with pytest.raises(MhostError) as err:
        kernel_node.sendto(kernel_node.socket(), bytes(65508), AWAY4, 7)
    assert err.value.errno == errno.EMSGSIZE


def test_what_the_kernel_refuses_is_raised_and_translation_learns(kernel_node, kernel):
    node = kernel_node
    sa = node.sa(AWAY4, 7)
    kernel.refuses[sa.address] = errno.ENETUNREACH
    with pytest.raises(MhostError, match="refused"):
        node.sendto(node.socket(), b"hello", AWAY4, 7)
    assert node.table.faults[node.locator(AWAY4), 0].errno == errno.ENETUNREACH


def test_an_address_of_the_kernel_can_be_bound(kernel_node, kernel):
    sk = kernel_node.socket("192.0.2.1", 4000)
    ((place, port),) = kernel.bound[sk, AF_INET]
    assert (place.l3, place.address, port) == ("host_inet", bytes((192, 0, 2, 1)), 4000)
    kernel_node.sendto(sk, b"hello", AWAY4, 7)
    with pytest.raises(MhostError) as err:
        kernel_node.sendto(sk, b"hello", "testproto:2", 7)
    assert err.value.errno == errno.ENETUNREACH


def test_frames_are_none_of_the_kernels_business(kernel_node):
    proto = kernel_node.table.proto_named("host_inet")
    assert proto.rcv(SkBuff(bytearray(2))) is DropReason.UNHANDLED_PROTO
    kernel_node.receive(b"\0\2" + bytes(26), 0x88B5)
    assert kernel_node.drops == {"UNHANDLED_PROTO": 1}
    with pytest.raises(AssertionError):
        proto.sendmsg(SkBuff(bytearray(2)), b"", b"")


def test_the_kernel_is_always_up_and_has_no_address_of_ours(kernel_node):
    proto = kernel_node.table.proto_named("host_inet6")
    assert (proto.up(), proto.addresses(), proto.device) == (True, (), "kernel")
    assert proto.csum_pseudo(b"", b"", 0) == 0
    assert kernel_node.table.mhost_ntop(SockaddrMhost(10, 0, bytes(16))) == "::"
