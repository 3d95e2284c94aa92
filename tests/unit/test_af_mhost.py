"""The socket operations: socket, bind, connect, getname, shutdown, sockopts, close."""

import errno
import gc
import sys
from collections import Counter

import pytest

from mhostd.errors import HostUnresolvedError, MhostError
from mhostd.sock import Client, Place
from mhostd.uapi import AF_INET, AF_INET6, AF_MHOST, SockaddrMhost

SOL_SOCKET = 1
SO_TYPE, SO_SNDBUF, SO_RCVBUF, SO_PROTOCOL, SO_DOMAIN = 3, 7, 8, 38, 39


@pytest.fixture
def raises():
    """Call, and return the errno by name."""

    def raises(call, *args):
        with pytest.raises(MhostError) as err:
            call(*args)
        return errno.errorcode[err.value.errno]

    return raises


def test_sockets_are_numbered_and_belong_to_their_client(node):
    other = Client(2, 0)
    first, second, third = node.socket(), node.socket(), node.socket(client=other)
    assert len({first.number, second.number, third.number}) == 3
    assert node.client.socks == {first.number: first, second.number: second}
    assert other.socks == {third.number: third}
    assert len(node.af_mhost.socks) == 3


@pytest.mark.parametrize("proto", [0, 17])
def test_the_protocol_is_udp_whether_named_or_not(node, proto):
    sk = node.af_mhost.mhost_create(node.client, AF_MHOST, 2, proto, print, print)
    assert node.af_mhost.mhost_getsockopt(sk, SOL_SOCKET, SO_PROTOCOL) == 17


def test_close_gives_everything_back(node):
    sk = node.socket("*", 4000)
    node.connect(sk, "robot", 7)
    node.af_mhost.mhost_release(sk)
    assert (node.af_mhost.socks, node.client.socks) == ({}, {})
    assert node.socket("*", 4000).sport == 4000


# --- bind

V4, V6 = bytes((10, 77, 0, 1)), bytes.fromhex("fd77") + bytes(13) + b"\1"


@pytest.mark.parametrize(
    ("sa", "place"),
    [
        (SockaddrMhost(AF_MHOST), Place("", 0, b"")),
        (SockaddrMhost(1), Place("", 1, b"")),
        (SockaddrMhost(AF_INET), Place("", AF_INET, b"")),
        (SockaddrMhost(AF_INET, 0, bytes(4)), Place("", AF_INET, b"")),
        (SockaddrMhost(AF_INET6, 0, bytes(16)), Place("", AF_INET6, b"")),
        (SockaddrMhost(AF_INET, 0, V4), Place("", AF_INET, V4)),
        (SockaddrMhost(AF_INET, 0, V4 + bytes(12)), Place("", AF_INET, V4)),
        (SockaddrMhost(AF_INET6, 0, V6), Place("", AF_INET6, V6)),
        (SockaddrMhost(1, 0, b"\0\1"), Place("", 1, b"\0\1")),
    ],
)
def test_a_socket_is_bound_where_it_is_said(node, sa, place):
    sk = node.socket()
    port = node.af_mhost.mhost_bind(sk, sa)
    assert sk.places == (place,)
    assert port == sk.sport >= 49152
    name = node.af_mhost.mhost_getname(sk, peer=False)
    assert (name.family, name.port) == (sa.family, port)


def test_zero_is_an_address_of_testproto_and_not_everywhere(node, raises):
    assert raises(node.af_mhost.mhost_bind, node.socket(), SockaddrMhost(1, 0, b"\0\0")) == (
        "EADDRNOTAVAIL"
    )


def test_everywhere_is_the_kernel_and_us(kernel_node):
    assert [place.l3 for place in kernel_node.socket("*").places] == [
        "host_inet",
        "host_inet6",
        "",
    ]
    assert [place.l3 for place in kernel_node.socket("inet:*").places] == ["host_inet", ""]


def test_a_name_of_ours_binds_those_of_its_locators_that_are_ours(node):
    texts = ["testproto:1", "testproto:9", "10.77.0.1"]
    node.table.insert_sockaddr_id("me", [node.locator(text) for text in texts])
    sk = node.socket("me", 4000)
    assert sk.places == (Place("", 1, b"\0\1"), Place("", AF_INET, V4))
    assert node.table.mhost_ntop(node.af_mhost.mhost_getname(sk, peer=False)) == "me"
    node.sendto(sk, b"hello", "testproto:2", 7)
    with pytest.raises(MhostError):
        node.sendto(sk, b"hello", "fd77::2", 7)


def test_a_bind_that_fails_leaves_the_socket_unbound(node, raises):
    node.socket("*", 4000)
    sk = node.socket()
    assert raises(node.bind, sk, "testproto:1", 4000) == "EADDRINUSE"
    assert (sk.sport, sk.places, sk.bound) == (0, (), None)
    assert node.bind(sk, "testproto:1", 4001) == 4001


def test_a_socket_is_bound_once(node, raises):
    sk = node.socket("*", 4000)
    assert raises(node.bind, sk, "*", 4001) == "EINVAL"
    assert sk.sport == 4000


def test_an_unknown_handle_cannot_be_bound(node, raises):
    sa = SockaddrMhost(AF_MHOST, 0, b"", 99)
    assert raises(node.af_mhost.mhost_bind, node.socket(), sa) == "EHOSTUNREACH"


# --- connect


def test_connect_binds_and_send_needs_no_destination(node):
    sk = node.socket()
    port = node.connect(sk, "robot", 5101)
    assert port == sk.sport >= 49152
    assert node.af_mhost.mhost_getname(sk, peer=True) == node.sa("robot", 5101)
    assert node.af_mhost.mhost_getname(sk, peer=False) == SockaddrMhost(AF_MHOST, port)
    node.sendto(sk, b"hello")
    assert len(node.sent(node.core.devices["eth0"])) == 1


def test_a_connected_socket_may_still_send_elsewhere(node):
    sk = node.socket()
    node.connect(sk, "testproto:2", 5101)
    node.sendto(sk, b"hello", "10.77.0.2", 7)
    assert len(node.sent()) == 1


def test_a_peer_with_padding_is_cut_to_its_family(node, golden):
    sk = node.socket("*", 4000)
    padded = SockaddrMhost(AF_INET, 5101, bytes((10, 77, 0, 101)) + bytes(12))
    node.af_mhost.mhost_connect(sk, padded, node.now)
    node.receive(golden["udp4"])
    assert len(node.received(sk)) == 1


def test_to_dissolve_gives_an_autobound_port_back(node, raises):
    sk = node.socket()
    node.connect(sk, "robot", 7)
    assert node.af_mhost.mhost_connect(sk, None, node.now) == 0
    assert (sk.sport, sk.places) == (0, ())
    assert raises(node.af_mhost.mhost_getname, sk, True) == "ENOTCONN"
    assert raises(node.sendto, sk, b"hello") == "EDESTADDRREQ"


def test_to_dissolve_keeps_a_port_that_bind_took(node):
    sk = node.socket("testproto:1", 4000)
    node.connect(sk, "testproto:2", 7)
    assert node.af_mhost.mhost_connect(sk, None, node.now) == 4000
    assert sk.places == (Place("", 1, b"\0\1"),)


def test_a_connect_that_fails_changes_nothing(node, raises):
    sk = node.socket()
    node.connect(sk, "robot", 7)
    before = (sk.peer, sk.sport)
    assert raises(node.connect, sk, "198.51.100.1", 7) == "ENETUNREACH"
    assert (sk.peer, sk.sport) == before
    assert raises(node.connect, node.socket("testproto:1"), "10.77.0.2", 7) == "ENETUNREACH"


def test_to_connect_to_a_name_that_nobody_knows_asks_the_resolver(node):
    node.table.mhost_hold("cat")
    sk = node.socket()
    with pytest.raises(HostUnresolvedError):
        node.connect(sk, "cat", 7)
    assert (sk.peer, sk.sport) == (None, 0)


def test_two_sockets_of_one_port_are_told_apart_by_their_peers(node, make_node):
    """A port is one socket's, yet its peer's datagrams find it among the others."""
    there = make_node(2)
    sender = there.socket("*", 5101)
    sk, other = node.socket("testproto:1", 4000), node.socket("inet:*", 4000)
    node.connect(sk, "testproto:2", 5101)
    there.sendto(sender, b"to sk", "testproto:1", 4000)
    there.sendto(sender, b"to other", "10.77.0.1", 4000)
    node.receive(*there.sent(there.core.devices["eth0"]))
    node.receive(*there.sent())
    assert [d[0] for d in node.received(sk)] == [b"to sk"]
    assert [d[0] for d in node.received(other)] == [b"to other"]


# --- shutdown and options


@pytest.mark.parametrize(
    ("how", "shut"), [(0, (True, False)), (1, (False, True)), (2, (True, True))]
)
def test_shutdown_closes_the_directions_that_it_names(node, how, shut):
    sk = node.socket()
    node.connect(sk, "robot", 7)
    node.af_mhost.mhost_shutdown(sk, how)
    assert (sk.shut_read, sk.shut_write) == shut


def test_shutdown_of_an_unconnected_socket_says_so_and_works(node, raises):
    sk = node.socket()
    assert raises(node.af_mhost.mhost_shutdown, sk, 1) == "ENOTCONN"
    assert raises(node.sendto, sk, b"hello", "robot", 7) == "EPIPE"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        (SO_TYPE, 2),
        (SO_DOMAIN, AF_MHOST),
        (SO_PROTOCOL, 17),
        (SO_RCVBUF, 212_992),
        (SO_SNDBUF, 212_992),
    ],
)
def test_an_option_has_the_value_that_linux_gives_it(node, option, value):
    assert node.af_mhost.mhost_getsockopt(node.socket(), SOL_SOCKET, option) == value


@pytest.mark.parametrize("option", [SO_RCVBUF, SO_SNDBUF])
@pytest.mark.parametrize(
    ("asked", "given"), [(10_000, 20_000), (0, 0), (-1, 8_388_608), (1 << 30, 8_388_608)]
)
def test_a_buffer_is_doubled_and_bounded(node, option, asked, given):
    sk = node.socket()
    node.af_mhost.mhost_setsockopt(sk, SOL_SOCKET, option, asked)
    least = 2304 if option == SO_RCVBUF else 4608
    assert node.af_mhost.mhost_getsockopt(sk, SOL_SOCKET, option) == max(given, least)


@pytest.mark.parametrize(("level", "option"), [(SOL_SOCKET, SO_TYPE), (0, 3), (1, 999)])
def test_what_cannot_be_set_says_so(node, raises, level, option):
    assert (
        raises(node.af_mhost.mhost_setsockopt, node.socket(), level, option, 1) == "ENOPROTOOPT"
    )


@pytest.mark.parametrize(("level", "option"), [(0, SO_TYPE), (SOL_SOCKET, 999)])
def test_what_cannot_be_got_says_so(node, raises, level, option):
    assert raises(node.af_mhost.mhost_getsockopt, node.socket(), level, option) == "ENOPROTOOPT"


def test_a_socket_bound_to_a_host_is_bound_to_its_new_address_of_the_kernel(
    kernel_node, kernel
):
    node = kernel_node
    node.table.insert_sockaddr_id("me", [node.locator(a) for a in ("192.0.2.1", "192.0.2.9")])
    bound, other = node.socket("me", 4000), node.socket("*")
    assert node.af_mhost.mhost_address_added(bytes((192, 0, 2, 7))) == []
    assert len(kernel.bound[bound, 2]) == 1
    kernel.addresses.add(bytes((192, 0, 2, 9)))
    before = other.places
    for _ in range(2):
        assert node.af_mhost.mhost_address_added(bytes((192, 0, 2, 9))) == []
    assert [(place.address[-1], port) for place, port in kernel.bound[bound, 2]] == [
        (1, 4000),
        (9, 4000),
    ]
    assert other.places == before


def test_a_new_address_whose_port_is_taken_is_told_and_the_socket_goes_on(kernel_node, kernel):
    node = kernel_node
    node.table.insert_sockaddr_id("me", [node.locator(a) for a in ("192.0.2.1", "192.0.2.9")])
    sk = node.socket("me", 4000)
    kernel.addresses.add(bytes((192, 0, 2, 9)))
    kernel.taken.add(4000)
    ((failed, err),) = node.af_mhost.mhost_address_added(bytes((192, 0, 2, 9)))
    assert (failed, err.errno) == (sk, errno.EADDRINUSE)
    assert len(kernel.bound[sk, 2]) == 1


def calls_of_a_bind(node, host, port):
    """How many functions run until a socket is open, bound and closed again."""
    calls = Counter()

    def count(_frame, event, _argument):
        calls[event] += 1

    gc.disable()  # it would run finalisers of other tests
    sys.setprofile(count)
    try:
        node.af_mhost.mhost_release(node.socket(host, port))
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls["call"], calls["c_call"]


@pytest.mark.parametrize("host", ["10.77.0.1", "testproto:1", "*"])
def test_a_bind_costs_the_same_however_many_sockets_there_are(kernel_node, host):
    node = kernel_node
    before = calls_of_a_bind(node, host, 5000)
    for port in range(10_000, 15_000):
        node.socket(host, port)
    assert calls_of_a_bind(node, host, 5000) == before
