"""The kernel's own sockets: addresses and links that go under them. On loopback only."""

import errno
import socket

import pytest

from mhostd.dev import NetCore
from mhostd.errors import MhostError
from mhostd.host_udp import HostUdp
from mhostd.links import Link, Links
from mhostd.sock import Client, Place, Sock
from mhostd.uapi import AF_INET, SockaddrMhost

ONE, TWO = bytes((127, 0, 0, 1)), bytes((127, 0, 0, 2))


@pytest.fixture
def links():
    """Everything is routed over interface 1."""
    return Links(lambda _family, _to, _source: 1)


@pytest.fixture
def host_udp(links):
    return HostUdp(NetCore(), lambda _fd, _callback: None, links)


@pytest.fixture
def sk(host_udp):
    sk = Sock(1, Client(1, 0), print, print)
    yield sk
    host_udp.release(sk, AF_INET)


@pytest.fixture
def peer():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        s.settimeout(5)
        yield s


def bind(host_udp, sk, address):
    place = Place("host_inet", AF_INET, address)
    host_udp.bind(sk, place, 0)
    sk.places = (*sk.places, place)


def send(host_udp, sk, peer):
    sa = SockaddrMhost(AF_INET, peer.getsockname()[1], ONE)
    host_udp.sendmsg(sk, b"hello", sa)
    return peer.recvfrom(10)[1][0]


def without(host_udp, monkeypatch, *gone):
    """The kernel has lost these; nothing of lo is changed for it."""
    monkeypatch.setattr(host_udp, "local", lambda _family, address, _scope: address not in gone)
    host_udp.addresses_changed()


def test_the_next_address_of_the_socket_takes_over_and_the_first_comes_back(
    host_udp, sk, peer, monkeypatch
):
    bind(host_udp, sk, ONE)
    bind(host_udp, sk, TWO)
    assert send(host_udp, sk, peer) == "127.0.0.1"
    without(host_udp, monkeypatch, ONE)
    assert send(host_udp, sk, peer) == "127.0.0.2"
    without(host_udp, monkeypatch, ONE, TWO)
    with pytest.raises(MhostError, match=r"127\.0\.0\.1, to which the socket is bound") as err:
        send(host_udp, sk, peer)
    assert err.value.errno == errno.EADDRNOTAVAIL
    without(host_udp, monkeypatch)
    assert send(host_udp, sk, peer) == "127.0.0.1"


def test_a_wildcard_socket_does_not_depend_on_an_address(host_udp, sk, peer, monkeypatch):
    bind(host_udp, sk, b"")
    without(host_udp, monkeypatch, bytes(4), ONE)
    assert send(host_udp, sk, peer) == "127.0.0.1"


def test_without_a_descriptor_to_ask_with_an_address_is_taken_to_be_there(
    host_udp, sk, peer, monkeypatch
):
    def local(*_address):
        raise MhostError(errno.EMFILE, "bind: no descriptor")

    bind(host_udp, sk, ONE)
    monkeypatch.setattr(host_udp, "local", local)
    host_udp.addresses_changed()
    assert send(host_udp, sk, peer) == "127.0.0.1"


def test_what_goes_to_an_interface_without_a_link_is_refused_with_its_name(
    host_udp, links, sk, peer
):
    bind(host_udp, sk, b"")
    links.link_changed(Link(1, "eth7", False))
    with pytest.raises(MhostError, match=r"127\.0\.0\.1 is reached over eth7") as err:
        send(host_udp, sk, peer)
    assert err.value.errno == errno.ENETDOWN
    links.link_changed(Link(1, "eth7", True))
    assert send(host_udp, sk, peer) == "127.0.0.1"


def test_a_released_socket_is_forgotten(host_udp, sk, monkeypatch):
    bind(host_udp, sk, ONE)
    without(host_udp, monkeypatch, ONE)
    host_udp.release(sk, AF_INET)
    assert not host_udp._gone
