"""Options of one socket, here and on the host kernel's sockets; control messages."""

import errno
import socket
import struct

import pytest

from mhostd.cmsg import pack_cmsgs, unpack_cmsgs
from mhostd.errors import MhostError
from mhostd.sock import Client
from mhostd.uapi import MHOST_PKTINFO, MHOST_RECVERR, MHOST_RECVPKTINFO, SOL_MHOST

IP, IPV6, SOCKET = socket.IPPROTO_IP, socket.IPPROTO_IPV6, socket.SOL_SOCKET
IP_PKTINFO, IP_RECVTTL = 8, 12  # linux/in.h; the stdlib has them later
MREQ = bytes((239, 1, 2, 3)) + bytes(4)


@pytest.mark.parametrize(
    ("key", "asked", "is_then"),
    [
        ((IP, socket.IP_TTL), 9, 9),
        ((IP, socket.IP_TTL), -1, 64),
        ((IP, socket.IP_TTL), b"\x07", 7),
        ((IP, socket.IP_TOS), 300, 44),
        ((IPV6, socket.IPV6_TCLASS), 255, 255),
        ((SOCKET, socket.SO_REUSEADDR), 5, 1),
        ((SOCKET, socket.SO_RCVLOWAT), -3, 2**31 - 1),
        ((SOL_MHOST, MHOST_RECVERR), 1, 1),
    ],
)
def test_an_option_is_what_linux_makes_of_the_value(kernel_node, key, asked, is_then):
    sk = kernel_node.socket()
    kernel_node.af_mhost.mhost_setsockopt(sk, *key, asked)
    assert kernel_node.af_mhost.mhost_getsockopt(sk, *key) == is_then


def test_what_the_kernel_has_too_is_set_there_and_nothing_else(kernel_node, kernel):
    sk = kernel_node.socket("*")
    for key in ((IP, socket.IP_TTL), (SOCKET, socket.SO_BROADCAST), (SOL_MHOST, MHOST_RECVERR)):
        kernel_node.af_mhost.mhost_setsockopt(sk, *key, 1)
    assert [(family, key) for _sk, family, key, _value in kernel.options] == [
        (2, (IP, socket.IP_TTL)),
        (2, (SOCKET, socket.SO_BROADCAST)),
        (10, (SOCKET, socket.SO_BROADCAST)),
    ]


def test_what_the_kernel_refuses_is_refused_and_not_kept(kernel_node, kernel):
    sk = kernel_node.socket("*")
    kernel.refuses[MREQ] = errno.ENODEV
    with pytest.raises(MhostError) as err:
        kernel_node.af_mhost.mhost_setsockopt(sk, IP, socket.IP_ADD_MEMBERSHIP, MREQ)
    assert (err.value.errno, sk.structures) == (errno.ENODEV, [])


def test_leaving_a_group_takes_back_what_joined_it(kernel_node):
    sk = kernel_node.socket()
    call = kernel_node.af_mhost.mhost_setsockopt
    other = bytes((239, 9, 9, 9)) + bytes(4)
    for group in (MREQ, other):
        call(sk, IP, socket.IP_ADD_MEMBERSHIP, group)
    call(sk, IP, socket.IP_DROP_MEMBERSHIP, MREQ + bytes(4))  # as ip_mreqn
    assert sk.structures == [((IP, socket.IP_ADD_MEMBERSHIP), other)]


def test_control_messages_go_with_a_datagram_of_our_own_udp(make_node):
    a, b = make_node(1), make_node(2)
    sk = b.socket("*", 5000)
    wanted = (IP_PKTINFO, IP_RECVTTL, socket.IP_RECVTOS)
    for key in (*((IP, option) for option in wanted), (SOL_MHOST, MHOST_RECVPKTINFO)):
        b.af_mhost.mhost_setsockopt(sk, *key, 1)
    client = a.socket()
    a.af_mhost.mhost_setsockopt(client, IP, socket.IP_TTL, 7)
    control = pack_cmsgs([(IP, socket.IP_TOS, struct.pack("i", 0xB8))])
    a.af_mhost.mhost_sendmsg(client, b"x", a.sa("10.77.0.2", 5000), a.now, control)
    (frame,) = a.sent()
    b.receive(frame)
    (datagram,) = sk.receive_queue
    address = bytes((10, 77, 0, 2))
    assert unpack_cmsgs(datagram.control) == [
        (IP, IP_PKTINFO, struct.pack("i", 0) + address + address),
        (IP, socket.IP_TTL, struct.pack("i", 7)),
        (IP, socket.IP_TOS, b"\xb8"),
        (SOL_MHOST, MHOST_PKTINFO, b"inet mhost0 10.77.0.1"),
    ]


def datagram_from(a, port):
    sk = a.socket("*", port)
    a.sendto(sk, b"x", "10.77.0.2", 5000)
    (frame,) = a.sent()
    return frame


def reuse(node, option, uid):
    sk = node.socket(client=Client(pid=uid, uid=uid))
    node.af_mhost.mhost_setsockopt(sk, SOCKET, option, 1)
    return sk


def test_a_group_of_one_user_shares_a_port_by_flow(make_node):
    a, b = make_node(1), make_node(2)
    group = [reuse(b, socket.SO_REUSEPORT, 1000) for _ in range(4)]
    for sk in group:
        b.bind(sk, "10.77.0.2", 5000)
    frames = [datagram_from(a, port) for port in range(6000, 6100)]
    for frame in frames:
        b.receive(frame)
    first = [len(sk.receive_queue) for sk in group]
    assert sum(first) == 100
    assert all(first)
    for frame in frames:  # a flow stays where it is
        b.receive(frame)
    assert [len(sk.receive_queue) for sk in group] == [2 * n for n in first]


def test_a_port_is_not_shared_with_another_user(node):
    node.bind(reuse(node, socket.SO_REUSEPORT, 1000), "10.77.0.1", 5000)
    with pytest.raises(MhostError) as err:
        node.bind(reuse(node, socket.SO_REUSEPORT, 1001), "10.77.0.1", 5000)
    assert err.value.errno == errno.EADDRINUSE


def test_of_sockets_with_so_reuseaddr_the_last_one_gets_it(make_node):
    a, b = make_node(1), make_node(2)
    first, last = (reuse(b, socket.SO_REUSEADDR, uid) for uid in (1000, 1001))
    for sk in (first, last):
        b.bind(sk, "*", 5000)
    b.receive(datagram_from(a, 6000))
    assert (len(first.receive_queue), len(last.receive_queue)) == (0, 1)


def test_a_socket_of_one_device_hears_and_uses_no_other(make_node):
    a, b = make_node(1), make_node(2)
    b.table.ifindex = {"mhost0": 4, "eth0": 5}.get
    sk = b.socket("*", 5000)
    b.af_mhost.mhost_setsockopt(sk, SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    b.receive(datagram_from(a, 6000))
    assert b.drops == {"NO_SOCKET": 1}
    with pytest.raises(MhostError) as err:
        b.sendto(sk, b"x", "10.77.0.1", 6000)
    assert err.value.errno == errno.ENETUNREACH
    b.af_mhost.mhost_setsockopt(sk, SOCKET, socket.SO_BINDTODEVICE, b"mhost0\0")
    b.receive(datagram_from(a, 6001))
    assert len(sk.receive_queue) == 1
