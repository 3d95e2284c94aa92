"""A kernel socket whose address goes, seen by its next send and before rtnetlink tells."""

import errno
import socket
import subprocess

import pytest

from mhostd.dev import NetCore
from mhostd.errors import MhostError
from mhostd.host_udp import HostUdp
from mhostd.sock import Client, Place, Sock
from mhostd.uapi import AF_INET, SockaddrMhost

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
