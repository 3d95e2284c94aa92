"""IPv4: scapy reads what goes out and writes what comes in; so does Linux (golden)."""

import errno

import pytest

from mhostd.errors import MhostError
from mhostd.l3.inet import inet_csum_pseudo

US, PEER = "10.77.0.1", "10.77.0.2"
# linux/net/ipv4/icmp.c, icmp_err_convert
UNREACHABLE = [
    "ENETUNREACH", "EHOSTUNREACH", "ENOPROTOOPT", "ECONNREFUSED", "EMSGSIZE", "EOPNOTSUPP",
    "ENETUNREACH", "EHOSTDOWN", "ENONET", "ENETUNREACH", "EHOSTUNREACH", "ENETUNREACH",
    "EHOSTUNREACH", "EHOSTUNREACH", "EHOSTUNREACH", "EHOSTUNREACH",
]  # fmt: skip


def recomputed(packet, scapy):
    """The same packet with every checksum made by scapy."""
    again = packet.copy()
    for layer in (scapy.IP, scapy.UDP, scapy.ICMP):
        if layer in again:
            del again[layer].chksum
    return bytes(again)


@pytest.mark.parametrize("payload", [b"", b"x", b"hello", bytes(range(256)) * 5])
def test_what_goes_out_is_what_scapy_would_have_written(node, scapy, payload):
    node.sendto(node.socket("*", 4000), payload, PEER, 5101)
    (octets,) = node.sent()
    packet = scapy.IP(octets)
    assert (packet.src, packet.dst, packet.ttl, packet.proto) == (US, PEER, 64, 17)
    assert (packet.version, packet.ihl, packet.id, str(packet.flags)) == (4, 5, 0, "DF")
    assert (packet.len, packet[scapy.UDP].len) == (28 + len(payload), 8 + len(payload))
    assert (packet[scapy.UDP].sport, packet[scapy.UDP].dport) == (4000, 5101)
    assert bytes(packet[scapy.UDP].payload) == payload
    assert recomputed(packet, scapy) == octets
    mine = scapy.IP(src=US, dst=PEER, id=0, flags="DF") / scapy.UDP(sport=4000, dport=5101)
    assert bytes(mine / payload) == octets


def test_what_linux_answered_to_is_still_what_we_send(node, golden):
    """golden/capture.py wrote this packet to a TUN, and Linux quoted it."""
    node.table.insert_sockaddr_id("kernel", [node.locator("10.77.0.101")])
    node.sendto(node.socket("*", 4000), b"hello", "kernel", 9)
    assert golden["port_unreachable4"].endswith(*node.sent())


@pytest.mark.parametrize("name", ["udp4", "udp4_no_check", "udp4_router_alert"])
def test_what_linux_wrote_is_delivered(node, golden, name):
    sk = node.socket("*", 4000)
    node.receive(golden[name])
    assert node.received(sk) == [(b"hello", "10.77.0.101", 5101)]
    assert node.drops == {}


def test_what_scapy_wrote_is_delivered(node, scapy):
    sk = node.socket(US, 4000)
    packet = scapy.IP(src="10.78.1.1", dst=US, ttl=1, id=7, tos=0xB8)
    node.receive(bytes(packet / scapy.UDP(sport=9, dport=4000) / b"hello") + b"padding")
    assert node.received(sk) == [(b"hello", "10.78.1.1", 9)]


def test_the_pseudo_header_is_that_of_scapy(scapy):
    """in4_chksum of nothing is the pseudo-header alone, complemented."""
    packet = scapy.IP(src=US, dst=PEER)
    saddr, daddr = bytes((10, 77, 0, 1)), bytes((10, 77, 0, 2))
    assert inet_csum_pseudo(saddr, daddr, 0) == ~scapy.in4_chksum(17, packet, b"") & 0xFFFF


@pytest.mark.parametrize("size", [0, 1, 56, 1472])
def test_an_echo_is_answered_as_rfc_792_says(node, scapy, size):
    data = bytes(i % 251 for i in range(size))
    echo = scapy.IP(src=PEER, dst=US, id=9) / scapy.ICMP(type=8, id=7, seq=3) / data
    node.receive(bytes(echo))
    (octets,) = node.sent()
    reply = scapy.IP(octets)
    assert (reply.src, reply.dst) == (US, PEER)
    assert (reply[scapy.ICMP].type, reply[scapy.ICMP].code) == (0, 0)
    assert (reply[scapy.ICMP].id, reply[scapy.ICMP].seq) == (7, 3)
    assert bytes(reply[scapy.ICMP].payload) == data
    assert recomputed(reply, scapy) == octets
    assert node.table.proto_named("inet").counters["icmp_echos"] == 1
    assert node.drops == {}


def test_padding_of_the_link_is_no_part_of_an_echo(node, scapy):
    echo = bytes(scapy.IP(src=PEER, dst=US) / scapy.ICMP(type=8, id=7, seq=3) / b"hello")
    node.receive(echo + b"padding")
    assert [len(frame) for frame in node.sent()] == [len(echo)]


def test_padding_of_the_link_is_no_part_of_a_datagram(node, scapy):
    udp = scapy.UDP(sport=9, dport=4000, len=8 + 12, chksum=0xFFFF) / b"hello"
    node.receive(bytes(scapy.IP(src=PEER, dst=US) / udp) + b"padding")
    assert node.drops == {"PKT_TOO_SMALL": 1}


def test_an_echo_of_linux_is_answered(node, scapy, golden):
    node.receive(golden["echo4"])
    reply = scapy.IP(*node.sent())
    assert (reply.dst, bytes(reply[scapy.ICMP].payload)) == ("10.77.0.101", b"echo me!")


@pytest.mark.parametrize(("code", "name"), list(enumerate(UNREACHABLE)))
def test_unreachable_is_the_errno_that_linux_makes_of_it(node, scapy, code, name):
    sk = node.socket("*", 4000)
    node.sendto(sk, b"hello", PEER, 5101)
    quoted = node.sent()[0][:28]  # RFC 792: the header and 64 bits
    icmp = scapy.ICMP(type=3, code=code)
    node.receive(bytes(scapy.IP(src="10.77.0.254", dst=US) / icmp / quoted))
    ((socket, err, sa, local),) = node.errors
    assert (socket, err, local) == (sk, getattr(errno, name), False)
    assert sa == node.sa(PEER, 5101)
    assert node.table.proto_named("inet").counters["icmp_errors"] == 1
    assert node.drops == {}


def test_port_unreachable_as_linux_writes_it_reaches_the_socket(node, golden):
    sk = node.socket("*", 4000)
    node.receive(golden["port_unreachable4"])
    assert node.errors == [(sk, errno.ECONNREFUSED, node.sa("10.77.0.101", 9), False)]


def test_an_error_that_quotes_options_finds_the_ports_behind_them(node, scapy):
    sk = node.socket("*", 4000)
    quoted = scapy.IP(src=US, dst=PEER, ihl=6, proto=17, len=37)
    octets = bytes(quoted)[:20] + b"\1\1\1\1" + bytes(scapy.UDP(sport=4000, dport=5101, len=13))
    icmp = scapy.ICMP(type=3, code=3)
    node.receive(bytes(scapy.IP(src=PEER, dst=US) / icmp / octets))
    assert [(socket, err) for socket, err, _sa, _local in node.errors] == [
        (sk, errno.ECONNREFUSED)
    ]


def test_an_error_about_another_protocol_concerns_nobody(node, scapy):
    quoted = bytes(scapy.IP(src=US, dst=PEER) / scapy.ICMP(type=8))
    icmp = scapy.ICMP(type=3, code=1) / quoted
    node.receive(bytes(scapy.IP(src=PEER, dst=US) / icmp))
    assert (node.errors, node.drops) == ([], {})


def test_the_handler_is_down_with_its_device(node):
    proto = node.table.proto_named("inet")
    assert (proto.up(), proto.device, proto.mtu()) == (True, "mhost0", 1480)
    node.tun.up, node.tun.mtu = False, 1400
    assert (proto.up(), proto.mtu()) == (False, 1380)
    with pytest.raises(MhostError, match="device mhost0 is down"):
        node.sendto(node.socket(), b"hello", PEER, 7)
