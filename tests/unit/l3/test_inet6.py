"""IPv6: scapy reads what goes out and writes what comes in; so does Linux (golden)."""

import errno

import pytest

from mhostd.l3.inet6 import inet6_csum_pseudo

US, PEER = "fd77::1", "fd77::2"
# linux/net/ipv6/icmp.c, tab_unreach
UNREACHABLE = [
    "ENETUNREACH", "EACCES", "EHOSTUNREACH", "EHOSTUNREACH", "ECONNREFUSED", "EACCES", "EACCES",
]  # fmt: skip


@pytest.mark.parametrize("payload", [b"", b"x", b"hello", bytes(range(256)) * 5])
def test_what_goes_out_is_what_scapy_would_have_written(node, scapy, payload):
    node.sendto(node.socket("*", 4000), payload, PEER, 5101)
    (octets,) = node.sent()
    packet = scapy.IPv6(octets)
    assert (packet.src, packet.dst, packet.hlim, packet.nh) == (US, PEER, 64, 17)
    assert (packet.version, packet.tc, packet.fl, packet.plen) == (6, 0, 0, 8 + len(payload))
    mine = scapy.IPv6(src=US, dst=PEER) / scapy.UDP(sport=4000, dport=5101)
    assert bytes(mine / payload) == octets


def test_what_linux_answered_to_is_still_what_we_send(node, golden):
    """golden/capture.py wrote this packet to a TUN, and Linux quoted it."""
    node.sendto(node.socket("*", 4000), b"hello", "fd77::101", 9)
    assert golden["port_unreachable6"].endswith(*node.sent())


def test_what_linux_wrote_is_delivered(node, golden):
    sk = node.socket("*", 4000)
    node.receive(golden["udp6"])
    assert node.received(sk) == [(b"hello", "fd77::101", 5101)]
    assert node.drops == {}


def test_what_scapy_wrote_is_delivered(node, scapy):
    sk = node.socket(US, 4000)
    packet = scapy.IPv6(src="2001:db8::1", dst=US, hlim=1, tc=0xB8, fl=0xABCDE)
    node.receive(bytes(packet / scapy.UDP(sport=9, dport=4000) / b"hello") + b"padding")
    assert node.received(sk) == [(b"hello", "2001:db8::1", 9)]


@pytest.mark.parametrize(("number", "length"), [(17, 8), (58, 1 << 16)])
def test_the_pseudo_header_is_that_of_scapy(scapy, number, length):
    saddr, daddr = (bytes.fromhex("fd77") + bytes(13) + bytes((n,)) for n in (1, 2))
    packet = scapy.IPv6(src=US, dst=PEER)
    expected = scapy.in6_chksum(number, packet, bytes(length))  # zeros add nothing
    assert inet6_csum_pseudo(saddr, daddr, length, number) == ~expected & 0xFFFF


@pytest.mark.parametrize("size", [0, 1, 56, 1452])
def test_an_echo_is_answered_as_rfc_4443_says(node, scapy, size):
    data = bytes(i % 251 for i in range(size))
    echo = scapy.IPv6(src=PEER, dst=US) / scapy.ICMPv6EchoRequest(id=7, seq=3, data=data)
    node.receive(bytes(echo))
    mine = scapy.IPv6(src=US, dst=PEER) / scapy.ICMPv6EchoReply(id=7, seq=3, data=data)
    assert node.sent() == [bytes(mine)]
    assert node.table.proto_named("inet6").counters["icmp_echos"] == 1
    assert node.drops == {}


def test_padding_of_the_link_is_no_part_of_an_echo(node, scapy):
    echo = bytes(
        scapy.IPv6(src=PEER, dst=US) / scapy.ICMPv6EchoRequest(id=7, seq=3, data=b"hello")
    )
    node.receive(echo + b"padding")
    assert [len(frame) for frame in node.sent()] == [len(echo)]


def test_padding_of_the_link_is_no_part_of_a_datagram(node, scapy):
    udp = scapy.UDP(sport=9, dport=4000, len=8 + 12, chksum=0xFFFF) / b"hello"
    node.receive(bytes(scapy.IPv6(src=PEER, dst=US) / udp) + b"padding")
    assert node.drops == {"PKT_TOO_SMALL": 1}


def test_an_echo_of_linux_is_answered(node, scapy, golden):
    node.receive(golden["echo6"])
    reply = scapy.IPv6(*node.sent())
    assert (reply.dst, reply[scapy.ICMPv6EchoReply].data) == ("fd77::101", b"echo me!")


@pytest.mark.parametrize(("code", "name"), list(enumerate(UNREACHABLE)))
def test_unreachable_is_the_errno_that_linux_makes_of_it(node, scapy, code, name):
    sk = node.socket("*", 4000)
    node.sendto(sk, b"hello", PEER, 5101)
    icmp = scapy.ICMPv6DestUnreach(code=code) / node.sent()[0]
    node.receive(bytes(scapy.IPv6(src="fd77::254", dst=US) / icmp))
    ((socket, err, sa, local),) = node.errors
    assert (socket, err, local) == (sk, getattr(errno, name), False)
    assert sa == node.sa(PEER, 5101)
    assert node.table.proto_named("inet6").counters["icmp_errors"] == 1
    assert node.drops == {}


def test_port_unreachable_as_linux_writes_it_reaches_the_socket(node, golden):
    sk = node.socket("*", 4000)
    node.receive(golden["port_unreachable6"])
    assert node.errors == [(sk, errno.ECONNREFUSED, node.sa("fd77::101", 9), False)]


def test_the_handler_is_down_with_its_device(node):
    proto = node.table.proto_named("inet6")
    assert (proto.up(), proto.device, proto.mtu()) == (True, "mhost0", 1460)
    node.tun.up = False
    assert not proto.up()
