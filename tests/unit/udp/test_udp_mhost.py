"""The UDP layer over the stack that mhost_init() builds; scapy is the oracle."""

import errno

import pytest

from mhostd.errors import MhostError
from mhostd.sock import Heard, Locator
from mhostd.udp.udp_mhost import BIND_TRIES
from mhostd.udp.udp_table import UdpKey


@pytest.fixture
def sent_udp(node, scapy):
    """Send from port 4000 and return the one packet as scapy reads it."""

    def send(payload, host, port=5101):
        sk = node.socket("*", 4000)
        node.sendto(sk, payload, host, port)
        node.af_mhost.mhost_release(sk)
        (packet,) = node.sent()
        return (scapy.IP if packet[0] >> 4 == 4 else scapy.IPv6)(packet)

    return send


def zero_payload(send, host):
    """Two octets of payload whose computed checksum is 0 (RFC 768: sent as 0xffff)."""
    return send(b"\0\0", host)["UDP"].chksum.to_bytes(2, "big")


@pytest.mark.parametrize("host", ["10.77.0.2", "fd77::2"])
def test_a_computed_zero_goes_out_as_all_ones(sent_udp, scapy, host):
    payload = zero_payload(sent_udp, host)
    packet = sent_udp(payload, host)
    assert packet[scapy.UDP].chksum == 0xFFFF
    assert bytes(packet[scapy.UDP].payload) == payload
    del packet[scapy.UDP].chksum
    assert type(packet)(bytes(packet))[scapy.UDP].chksum == 0xFFFF  # scapy says so too


@pytest.mark.parametrize("host", ["10.77.0.2", "fd77::2"])
def test_all_ones_are_received(make_node, sent_udp, host):
    payload = zero_payload(sent_udp, host)
    there = make_node(2)
    sk = there.socket("*", 5101)
    there.receive(bytes(sent_udp(payload, host)))
    assert [datagram[0] for datagram in there.received(sk)] == [payload]


def test_a_received_zero_is_no_checksum_on_ipv4_and_refused_on_ipv6(node, scapy):
    sk = node.socket("*", 4000)
    udp = scapy.UDP(sport=5101, dport=4000, chksum=0) / b"hello"
    node.receive(bytes(scapy.IP(src="10.77.0.101", dst="10.77.0.1") / udp))
    assert len(node.received(sk)) == 1
    node.receive(bytes(scapy.IPv6(src="fd77::101", dst="fd77::1") / udp))
    assert node.received(sk) == []
    assert node.drops == {"UDP_CSUM": 1}


@pytest.mark.parametrize(
    ("host", "most"),
    [
        ("testproto:2", 1500 - 8 - 8),
        ("otherproto:0:0:0:2", 1500 - 20 - 8),
    ],
)
def test_a_datagram_of_one_packet_goes_and_one_octet_more_does_not(node, host, most):
    sk = node.socket()
    node.sendto(sk, bytes(most), host, 7)
    with pytest.raises(MhostError, match=f"payload of {most + 1} octets exceeds {most}") as err:
        node.sendto(sk, bytes(most + 1), host, 7)
    assert err.value.errno == errno.EMSGSIZE
    assert sum(len(node.sent(dev)) for dev in (node.tun, *node.ethernet)) == 1


def test_octets_after_the_length_are_padding(node, scapy):
    sk = node.socket("*", 4000)
    frame = bytes.fromhex("0001ffff00010002" + "13ed0fa0000a0000" + "6869") + bytes(28)
    node.receive(frame, 0x88B5)
    assert node.received(sk) == [(b"hi", "testproto:2", 5101)]


def test_an_empty_datagram_is_one(node, scapy):
    sk = node.socket("*", 4000)
    udp = scapy.UDP(sport=5101, dport=4000)
    node.receive(bytes(scapy.IP(src="10.77.0.101", dst="10.77.0.1") / udp))
    assert node.received(sk) == [(b"", "10.77.0.101", 5101)]


def test_what_comes_from_a_known_host_has_its_handle(node, make_node):
    there = make_node(2)
    there.sendto(there.socket("*", 5101), b"hello", "10.77.0.1", 4000)
    sk = node.socket("*", 4000)
    node.receive(*there.sent())
    datagram = sk.receive_queue[0]
    assert datagram.source.id_no == node.table.hosts["robot"].handle
    assert node.table.mhost_ntop(datagram.source) == "10.77.0.2"
    assert datagram.l3 == node.table.proto_number("inet")


def test_what_comes_from_a_locator_makes_it_good_again(node, make_node):
    robot = node.locator("10.77.0.2")
    node.table.faults.failed(robot, errno.EHOSTUNREACH, 0.0)
    there = make_node(2)
    there.sendto(there.socket("*", 5101), b"hello", "10.77.0.1", 4000)
    node.socket("*", 4000)
    node.receive(*there.sent())
    assert node.table.faults == {}


def test_the_most_specific_socket_of_a_port_gets_the_datagram(node, golden):
    family, host = node.socket("inet:*", 4000), node.socket("inet6:*", 4000)
    node.receive(golden["udp4"])
    node.receive(golden["udp6"])
    assert [len(node.received(sk)) for sk in (family, host)] == [1, 1]


def test_a_connected_socket_hears_only_its_peer(node, golden):
    sk = node.socket("*", 4000)
    node.connect(sk, "10.77.0.101", 5102)  # the port of somebody else
    node.receive(golden["udp4"])
    assert (node.received(sk), node.drops) == ([], {"SOCKET_FILTER": 1})
    node.connect(sk, "10.77.0.101", 5101)
    node.receive(golden["udp4"])
    assert len(node.received(sk)) == 1
    node.af_mhost.mhost_connect(sk, None, node.now)
    node.receive(golden["udp6"])
    assert len(node.received(sk)) == 1


def test_the_port_table_knows_whom_a_socket_is_connected_to(node):
    sk = node.socket("*", 4000)
    key = UdpKey(2, b"", 4000, bytes((10, 77, 0, 2)), 5101)
    for host, known in (("10.77.0.2", True), ("robot", False), ("10.77.0.2", True)):
        node.connect(sk, host, 5101)
        assert (key in node.stack.udp._ports._socks) == known
    node.af_mhost.mhost_connect(sk, None, node.now)
    assert key not in node.stack.udp._ports._socks


def test_a_socket_connected_to_a_name_hears_all_its_locators(node, golden):
    node.table.insert_sockaddr_id("kernel", [node.locator("fd77::101")])
    sk = node.socket("*", 4000)
    node.connect(sk, "kernel", 5101)
    node.receive(golden["udp6"])
    node.receive(golden["udp4"])
    assert [host for _, host, _ in node.received(sk)] == ["fd77::101"]
    assert node.drops == {"SOCKET_FILTER": 1}


def test_a_peer_whose_name_is_forgotten_is_nobody(node, golden):
    node.table.insert_sockaddr_id("kernel", [node.locator("10.77.0.101")])
    sk = node.socket("*", 4000)
    node.connect(sk, "kernel", 5101)
    node.table.remove_sockaddr_id("kernel")
    node.receive(golden["udp4"])
    assert (node.received(sk), node.drops) == ([], {"SOCKET_FILTER": 1})


def test_who_calls_over_the_way_we_would_take_is_not_remembered(node, golden):
    sk = node.socket("*", 4000)
    node.receive(golden["udp4"])
    assert dict(sk.callers) == {}


def test_who_calls_from_behind_the_tun_is_answered_there(kernel_node, scapy):
    node = kernel_node
    sk = node.socket("*", 4000)
    packet = scapy.IP(src="198.51.100.1", dst="10.77.0.1") / scapy.UDP(sport=7, dport=4000)
    node.receive(bytes(packet / b"who is there"))
    inet = node.table.proto_number("inet")
    where = Locator(2, bytes((198, 51, 100, 1)))
    assert dict(sk.callers) == {(2, where.address, 7): Heard(where, inet)}
    node.sendto(sk, b"me", "198.51.100.1", 7)
    assert scapy.IP(*node.sent())[scapy.UDP].dport == 7


# --- ports at several places


def test_port_zero_is_one_port_at_every_place(kernel_node, kernel):
    sk = kernel_node.socket("*")
    assert [place.l3 for place in sk.places] == ["host_inet", "host_inet6", ""]
    assert {port for places in kernel.bound.values() for _place, port in places} == {sk.sport}


def test_a_port_that_is_taken_at_one_place_is_tried_no_more(kernel_node, kernel):
    ours = kernel_node.socket("testproto:*", 32769)  # the one the kernel chooses first
    sk = kernel_node.socket("*")
    assert (ours.sport, sk.sport) == (32769, 32770)
    assert len(kernel.bound) == 2


def test_a_given_port_is_taken_everywhere_or_nowhere(kernel_node, kernel):
    kernel_node.socket("testproto:*", 4000)
    with pytest.raises(MhostError) as err:
        kernel_node.socket("*", 4000)
    assert err.value.errno == errno.EADDRINUSE
    assert kernel.bound == {}


def test_port_zero_gives_up_after_many_tries(kernel_node, kernel):
    for port in range(32769, 32769 + BIND_TRIES):
        kernel_node.socket("testproto:*", port)
    with pytest.raises(MhostError) as err:
        kernel_node.socket("*")
    assert err.value.errno == errno.EADDRINUSE
    assert kernel.bound == {}
    assert kernel_node.socket("*").sport == 32769 + BIND_TRIES


def test_a_closed_socket_gives_its_port_back_everywhere(kernel_node, kernel):
    sk = kernel_node.socket("*", 4000)
    kernel_node.af_mhost.mhost_release(sk)
    assert kernel.bound == {}
    assert kernel_node.socket("*", 4000).sport == 4000


# --- errors that come back


def test_an_error_for_a_datagram_of_a_socket_reaches_it(node, scapy):
    sk = node.socket("*", 4000)
    node.sendto(sk, b"hello", "10.77.0.2", 5101)
    (packet,) = node.sent()
    icmp = scapy.ICMP(type=3, code=1) / packet[:28]
    node.receive(bytes(scapy.IP(src="10.77.0.254", dst="10.77.0.1") / icmp))
    assert node.errors == [(sk, errno.EHOSTUNREACH, node.sa("10.77.0.2", 5101), False)]
    assert node.drops == {}
    assert node.table.faults[node.locator("10.77.0.2"), 0].errno == errno.EHOSTUNREACH


def test_an_error_for_nobodys_datagram_is_told_to_nobody(node, golden):
    node.socket("*", 4001)
    node.receive(golden["port_unreachable4"])  # quotes port 4000
    assert (node.errors, node.drops) == ([], {})
