"""Protocols: registered, routed to by prefix, removed, also under live sockets."""

import errno
from dataclasses import replace

import pytest

from mhostd.errors import MhostError
from mhostd.mhost_table import MhostTable
from mhostd.uapi import AF_INET6


@pytest.fixture
def proto(node):
    return node.table.proto_named("inet")


def v4(text):
    return bytes(map(int, text.split(".")))


def test_init_and_exit_of_a_handler_are_called_once_each(proto):
    calls, table = [], MhostTable()
    proto = replace(proto, init=lambda: calls.append("init"), exit=lambda: calls.append("exit"))
    table.mhost_register_proto(proto)
    assert table.mhost_unregister_proto("inet") is proto
    assert calls == ["init", "exit"]


def test_a_number_is_never_used_again(proto):
    table = MhostTable()
    assert table.mhost_register_proto(proto) == 1
    table.mhost_unregister_proto("inet")
    assert table.mhost_register_proto(proto) == 2
    assert table.proto_number("inet") == 2


def test_the_longest_prefix_wins_whatever_the_order(proto):
    table = MhostTable()
    names = {"default": 0, "net": 8, "host": 32, "site": 16}
    for name, bits in names.items():
        table.mhost_register_proto(replace(proto, name=name), [(v4("10.1.2.3"), bits)])

    def route(text):
        found = table.mhost_route(2, v4(text))
        return found and found.name

    assert [route(a) for a in ("10.1.2.3", "10.1.2.4", "10.2.0.0", "9.255.255.255")] == [
        "host",
        "site",
        "net",
        "default",
    ]
    table.mhost_unregister_proto("site")
    table.mhost_unregister_proto("default")
    assert [route(a) for a in ("10.1.2.4", "9.0.0.1")] == ["net", None]


def test_the_host_kernel_is_the_default_and_the_tun_has_its_prefixes(kernel_node):
    routes = [
        (proto.name, proto.ntop(prefix), bits)
        for proto, prefix, bits in kernel_node.table.routes()
    ]
    assert routes == [
        ("inet", "10.77.0.0", 24),
        ("inet", "10.78.0.0", 16),
        ("host_inet", "0.0.0.0", 0),
        ("inet6", "fd77::", 64),
        ("host_inet6", "::", 0),
        ("testproto", "0", 0),
        ("otherproto", "0:0:0:0", 0),
    ]


def test_a_prefix_that_is_taken_is_refused_and_nothing_is_registered(proto):
    table = MhostTable()
    table.mhost_register_proto(proto, [(v4("10.0.0.0"), 8)])
    other = replace(proto, name="other", init=lambda: pytest.fail("registered"))
    with pytest.raises(MhostError, match="a /8 of family 2 that other wants is inet's") as err:
        table.mhost_register_proto(other, [(v4("11.0.0.0"), 8), (v4("10.9.9.9"), 8)])
    assert err.value.errno == errno.EEXIST
    assert list(table.protos.values()) == [proto]
    assert table.mhost_route(2, v4("11.0.0.1")) is None


def test_a_name_that_is_taken_is_refused(proto):
    table = MhostTable()
    table.mhost_register_proto(proto)
    with pytest.raises(MhostError, match="inet is registered already") as err:
        table.mhost_register_proto(replace(proto, family=99))
    assert err.value.errno == errno.EEXIST


def test_a_name_that_is_not_registered_is_refused_with_those_that_are(node):
    with pytest.raises(MhostError, match="no L3 handler ipx; registered: inet, inet6") as err:
        node.stack.l3_unregister("ipx")
    assert err.value.errno == errno.ENOENT


@pytest.mark.parametrize(
    ("name", "text", "device"),
    [
        ("inet", "10.77.0.1", "mhost0"),
        ("inet6", "fd77::1", "mhost0"),
        ("testproto", "testproto:1", "eth0"),
        ("otherproto", "otherproto:0:0:0:1", "eth1"),
    ],
)
def test_a_handler_goes_and_comes_under_a_live_socket(make_node, name, text, device):
    here, there = make_node(1), make_node(2)
    sk, sender = here.socket("*", 4000), there.socket("*", 4001)

    def send_and_receive():
        there.sendto(sender, b"hello", text, 4000)
        (frame,) = there.sent(there.core.devices[device])
        here.receive(frame, dev=here.core.devices[device])
        return here.received(sk)

    ((_payload, back, _port),) = send_and_receive()
    here.stack.l3_set(name, up=False)
    assert send_and_receive() == []
    assert here.drops == {"UNHANDLED_PROTO": 1}
    with pytest.raises(MhostError) as err:
        here.sendto(sk, b"hello", back, 4001)
    assert err.value.errno == errno.EAFNOSUPPORT

    here.stack.l3_set(name, up=True)
    assert send_and_receive() == [(b"hello", back, 4001)]
    here.sendto(sk, b"hello", back, 4001)
    assert len(here.sent(here.core.devices[device])) == 1
    assert sk.sport == 4000


def test_a_name_goes_on_over_the_others_while_a_handler_is_away(node):
    sk = node.socket("*", 4000)
    node.sendto(sk, b"1", "robot", 7)
    node.stack.l3_set("testproto", up=False)
    node.sendto(sk, b"2", "robot", 7)
    node.stack.l3_set("testproto", up=True)
    node.sendto(sk, b"3", "robot", 7)
    assert [len(node.sent(dev)) for dev in node.ethernet] == [2, 1]


def test_a_handler_that_is_registered_cannot_be_registered_again(node):
    with pytest.raises(MhostError, match="testproto is registered already"):
        node.stack.l3_set("testproto", up=True)


def test_a_handler_that_is_not_registered_cannot_be_removed(node):
    node.stack.l3_set("testproto", up=False)
    with pytest.raises(MhostError, match="no L3 handler testproto"):
        node.stack.l3_set("testproto", up=False)


def test_the_kernels_udp_goes_and_comes_under_a_live_socket(kernel_node, kernel):
    node = kernel_node
    everywhere, v4_only = node.socket("*", 4000), node.socket("0.0.0.0", 4001)
    here = node.socket("testproto:1", 4002)
    node.stack.l3_set("host_inet", up=False)
    assert {sk.sport for sk, family in kernel.bound if family == 2} == set()
    assert [p.l3 for p in everywhere.places] == ["host_inet6", ""]

    kernel.taken.add(4001)  # meanwhile another program takes it
    failed = node.stack.l3_register(node.stack.handlers["host_inet"])
    assert [(sk, err.errno) for sk, err in failed] == [(v4_only, errno.EADDRINUSE)]
    assert [(place.l3, port) for place, port in kernel.bound[everywhere, 2]] == [
        ("host_inet", 4000)
    ]
    assert (here, 2) not in kernel.bound
    node.sendto(everywhere, b"hello", "198.51.100.1", 7)
    assert kernel.sent[-1][0] == b"hello"


def test_an_address_that_is_too_short_is_on_no_route(node):
    """A peer may say anything of an L3 that it has otherwise."""
    for octets in range(16):
        assert node.table.mhost_route(AF_INET6, bytes(octets)) is None
