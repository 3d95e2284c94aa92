"""Linux tells of an IPv4 address before bind(2) knows it; who looks then looks again."""

import contextlib
import socket
import subprocess

import pytest

from mhostd.config import parse_config
from mhostd.main import Daemon
from mhostd.netlink import IfAddress, Monitor, Route
from mhostd.sock import Client
from mhostd.uapi import AF_INET, AF_MHOST, SockaddrMhost

RTN_LOCAL = 2
ONE, TWO = (socket.inet_aton(f"192.0.2.{n}") for n in (1, 2))
CONFIG = """
[ipc]
socket = "ipc://{0}/mhost.sock"
admin_socket = "ipc://{0}/admin.sock"
group = ""
[hosts]
me = ["192.0.2.1", "192.0.2.2"]
"""


def ip(arguments):
    subprocess.run(["ip", *arguments.split()], check=True)


@pytest.fixture
def loopback(netns):
    ip("link set lo up")
    ip("addr add 192.0.2.1/32 dev lo")


@pytest.fixture
def daemon(loopback, tmp_path):
    with contextlib.ExitStack() as cleanup:
        yield Daemon(parse_config(CONFIG.format(tmp_path)), None, cleanup)


@pytest.fixture
def sk(daemon):
    """A socket bound to the host that is this one."""
    af_mhost, table = daemon._stack.af_mhost, daemon._stack.table
    sk = af_mhost.mhost_create(Client(1, 0), AF_MHOST, socket.SOCK_DGRAM, 0, print, print)
    af_mhost.mhost_bind(sk, SockaddrMhost(AF_MHOST, 0, b"", table.hosts["me"].handle))
    yield sk
    af_mhost.mhost_release(sk)


def source(daemon, sk):
    """The address that the socket sends from."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(5)
        to = SockaddrMhost(AF_INET, peer.getsockname()[1], socket.inet_aton("127.0.0.1"))
        daemon._host_udp.sendmsg(sk, b"hello", to)
        return socket.inet_aton(peer.recvfrom(10)[1][0])


def test_linux_tells_of_the_address_and_then_of_the_route_that_makes_it_one(loopback):
    seen = []
    monitor = Monitor(seen.extend)
    ip("addr add 192.0.2.2/32 dev lo")
    ip("addr del 192.0.2.2/32 dev lo")
    monitor.on_readable()
    monitor.close()
    of_two = [c for c in seen if TWO in c]
    assert [type(c) for c in of_two] == [IfAddress, Route] * 2
    assert [c.gone for c in of_two] == [False, False, True, True]
    assert [c.local for c in of_two if isinstance(c, Route)] == [True, True]


def test_a_new_address_is_bound_to_when_its_route_is_there(daemon, sk):
    daemon._network_changed([IfAddress(AF_INET, TWO, 1)])
    assert [place.address for place in sk.places] == [ONE]
    ip("addr add 192.0.2.2/32 dev lo")
    daemon._network_changed([Route(AF_INET, TWO, 32, RTN_LOCAL, 1)])
    assert {place.address for place in sk.places} == {ONE, TWO}


def test_an_address_that_is_back_is_sent_from_when_its_route_is_there(daemon, sk):
    ip("addr add 192.0.2.2/32 dev lo")
    daemon._network_changed([IfAddress(AF_INET, TWO, 1)])
    ip("addr del 192.0.2.1/32 dev lo")
    daemon._network_changed([IfAddress(AF_INET, ONE, 1, gone=True)])
    assert source(daemon, sk) == TWO
    daemon._network_changed([IfAddress(AF_INET, ONE, 1)])
    ip("addr add 192.0.2.1/32 dev lo")
    assert source(daemon, sk) == TWO
    daemon._network_changed([Route(AF_INET, ONE, 32, RTN_LOCAL, 1)])
    assert source(daemon, sk) == ONE
