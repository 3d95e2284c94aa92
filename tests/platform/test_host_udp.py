"""Kernel sockets whose address goes, before rtnetlink tells; and what errors come with."""

import errno
import socket
import subprocess

import pytest

from mhostd.dev import NetCore
from mhostd.errors import MhostError
from mhostd.host_udp import HostUdp
from mhostd.options import IP_PKTINFO, IPPROTO_IP, IPPROTO_IPV6, IPV6_RECVPKTINFO
from mhostd.sock import Client, Place, Sock
from mhostd.uapi import AF_INET, AF_INET6, SockaddrMhost

HERE = [f"192.0.2.{n}" for n in range(1, 7)]


def ip(arguments):
    subprocess.run(["ip", *arguments.split()], check=True)


@pytest.fixture
def sk(netns):
    ip("link set lo up")
    for address in HERE:
        ip(f"addr add {address}/32 dev lo")
    return Sock(1, Client(1, 0), print, print)


@pytest.fixture
def peer(netns):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("0.0.0.0", 0))
        s.settimeout(5)
        yield s


@pytest.fixture
def send(sk, peer):
    """Send one datagram to the peer; return the address that it came from."""
    host_udp = HostUdp(NetCore(), lambda _fd, _callback: None)
    for address in HERE:
        place = Place("host_inet", AF_INET, socket.inet_aton(address))
        host_udp.bind(sk, place, 0)

    def send(to="127.0.0.1"):
        sa = SockaddrMhost(AF_INET, peer.getsockname()[1], socket.inet_aton(to))
        host_udp.sendmsg(sk, b"hello", sa)
        return peer.recvfrom(10)[1][0]

    yield send
    host_udp.release(sk, AF_INET)


def test_a_datagram_goes_from_the_next_address_that_is_there(send):
    assert send() == HERE[0]
    ip(f"addr del {HERE[0]}/32 dev lo")
    assert send() == HERE[1]
    for address in HERE[1:-1]:  # more than there are tries after errors of others
        ip(f"addr del {address}/32 dev lo")
    assert send() == HERE[-1]
    ip(f"addr del {HERE[-1]}/32 dev lo")
    with pytest.raises(MhostError, match="no longer an address of this host") as err:
        send()
    assert err.value.errno == errno.EADDRNOTAVAIL


def test_no_way_to_a_destination_is_no_sign_that_the_address_is_gone(send):
    with pytest.raises(MhostError, match=r"198\.51\.100\.2 port \d+: Network is unre") as err:
        send("198.51.100.2")
    assert err.value.errno == errno.ENETUNREACH
    assert send() == HERE[0]


@pytest.mark.parametrize(
    ("family", "address", "option"),
    [
        (AF_INET, "127.0.0.1", (IPPROTO_IP, IP_PKTINFO)),
        (AF_INET, "127.0.0.1", (IPPROTO_IP, 12)),  # IP_RECVTTL
        (AF_INET6, "2001:db8::1", (IPPROTO_IPV6, IPV6_RECVPKTINFO)),  # the fourth octet
    ],
)
def test_an_error_is_read_among_the_control_messages_that_come_with_it(
    netns, family, address, option
):
    """ip_recv_error() of Linux puts those that the socket has asked for before it."""
    ip("link set lo up")
    if family == AF_INET6:
        ip(f"addr add {address}/128 dev lo nodad")
    told = []
    sk = Sock(1, Client(1, 0), print, lambda _sk, err: told.append(err))
    sk.options[option] = 1
    sk.wants_control = True
    readable = {}
    host_udp = HostUdp(NetCore(), readable.__setitem__)
    octets = socket.inet_pton(family, address)
    l3 = "host_inet" if family == AF_INET else "host_inet6"
    host_udp.bind(sk, Place(l3, family, octets), 0)
    with socket.socket(family, socket.SOCK_DGRAM) as closed:
        closed.bind((address, 0))
        port = closed.getsockname()[1]
    sa = SockaddrMhost(family, port, octets)
    host_udp.sendmsg(sk, b"hello", sa)
    for callback in readable.values():
        callback()
    assert [(err.error.errno, err.sa.address) for err in told] == [(errno.ECONNREFUSED, octets)]
    host_udp.release(sk, family)


def test_what_a_path_takes_depends_on_where_one_sends_from(netns):
    ip("link set lo up")
    for n, mtu in ((1, 1400), (2, 1300)):
        ip(f"link add d{n} type veth peer name p{n}")
        ip(f"link set p{n} up")
        ip(f"link set d{n} mtu {mtu} up")
        ip(f"addr add 192.0.2.{n}/32 dev d{n}")
        ip(f"route add 198.51.100.0/24 dev d{n} table {n}")
        ip(f"rule add from 192.0.2.{n} table {n}")
    ip("route add 198.51.100.0/24 dev d1")
    there = SockaddrMhost(AF_INET, 7, socket.inet_aton("198.51.100.7"))
    found = [HostUdp.path_mtu(there, socket.inet_aton(a)) for a in ("192.0.2.1", "192.0.2.2")]
    assert (HostUdp.path_mtu(there), *found) == (1400, 1400, 1300)
