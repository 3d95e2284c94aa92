import struct

import pytest

from mhostd import netlink


def parse_links(data):
    """Name and state; the index has a test of its own."""
    return [(link.name, link.up) for link in netlink.parse_rtnetlink(data)]


def test_an_interface_has_an_index(golden):
    assert [link.ifindex for link in netlink.parse_rtnetlink(golden["dump"])] == [1, 2]


NEWLINK, DELLINK = 16, 17
UP_AND_LOWER_UP = 0x1 | 0x10000


def message(name=b"eth0\0", kind=NEWLINK, flags=UP_AND_LOWER_UP, before=b""):
    """A message of rtnetlink(7), written as linux/rtnetlink.h has it."""
    attributes = before + struct.pack("=HH", 4 + len(name), 3) + name
    attributes += bytes(-len(attributes) % 4)
    body = struct.pack("=BBHiII", 0, 0, 1, 2, flags, 0) + attributes
    return struct.pack("=IHHII", 16 + len(body), kind, 0, 1, 0) + body


def test_a_dump_of_linux_has_every_interface(golden):
    assert parse_links(golden["dump"]) == [("lo", True), ("mhost0", True)]


def test_a_link_that_linux_took_down_is_down(golden):
    assert ("mhost0", False) in parse_links(golden["down"])


def test_an_interface_that_is_gone_is_down(golden):
    assert parse_links(golden["gone"])[-1] == ("mhost0", False)


@pytest.mark.parametrize(
    ("flags", "up"), [(0, False), (0x1, False), (0x10000, False), (0x11043, True)]
)
def test_a_link_is_up_if_it_is_up_and_has_a_carrier(flags, up):
    assert parse_links(message(flags=flags)) == [("eth0", up)]


def test_what_is_deleted_is_down_whatever_its_flags():
    assert parse_links(message(kind=DELLINK)) == [("eth0", False)]


def test_several_messages_of_one_datagram_are_all_read():
    data = message(b"a\0") + message(b"bb\0", flags=0) + message(kind=3) + message(b"ccc\0")
    assert parse_links(data) == [("a", True), ("bb", False), ("ccc", True)]


def test_attributes_before_the_name_are_stepped_over():
    assert parse_links(message(before=struct.pack("=HHBxxx", 5, 99, 1))) == [("eth0", True)]


def test_a_name_may_hold_octets_that_are_no_text():
    ((name, up),) = parse_links(message(b"eth\xff\0"))
    assert name.startswith("eth")
    assert up


def test_an_interface_without_a_name_has_an_empty_one():
    assert parse_links(struct.pack("=IHHII", 32, NEWLINK, 0, 1, 0) + bytes(16)) == [("", False)]


@pytest.mark.parametrize("cut", range(len(message())))
def test_a_message_that_is_cut_short_does_no_harm(cut):
    assert len(parse_links(message()[:cut])) <= 1


def test_a_length_of_zero_ends_it():
    assert parse_links(bytes(64)) == []


V4, V6 = bytes((198, 51, 100, 1)), bytes.fromhex("20010db8000000000000000000000007")


@pytest.mark.parametrize(
    ("name", "family", "address", "gone"),
    [
        ("address4_added", 2, V4, False),
        ("address4_deleted", 2, V4, True),
        ("peer4_added", 2, bytes((198, 51, 100, 3)), False),  # ours, not the peer's
        ("peer4_deleted", 2, bytes((198, 51, 100, 3)), True),
        ("address6_added", 10, V6, False),
        ("address6_deleted", 10, V6, True),
    ],
)
def test_an_address_that_linux_got_or_lost(golden, name, family, address, gone):
    changes = netlink.parse_rtnetlink(golden[name])
    addresses = [change for change in changes if isinstance(change, netlink.IfAddress)]
    assert addresses == [netlink.IfAddress(family, address, 2, gone)]
    routes = [change for change in changes if change not in addresses]  # those it brings
    assert {(r.family, r.ifindex, r.gone) for r in routes} == {(family, 2, gone)}
    assert {r.mends for r in routes if r.prefix == address} == {not gone}


@pytest.mark.parametrize("family", [4, 6])
def test_a_route_that_linux_got_lost_and_was_asked_for(golden, family):
    for what, gone in (("added", False), ("deleted", True), ("get", False)):
        (route,) = netlink.parse_rtnetlink(golden[f"route{family}_{what}"])
        assert (route.family, route.ifindex, route.gone) == ({4: 2, 6: 10}[family], 2, gone)
        assert route.mends is not gone
        if what != "get":
            prefix, bits = {4: ("cb007100", 24), 6: ("20010db80001" + 20 * "0", 48)}[family]
            assert (route.prefix.hex(), route.bits) == (prefix, bits)


def test_a_route_that_refuses_mends_when_it_goes(golden):
    for what, mends in (("added", False), ("deleted", True)):
        (route,) = netlink.parse_rtnetlink(golden[f"refuse4_{what}"])
        assert (route.prefix, route.bits, route.mends) == (bytes((192, 0, 2, 2)), 32, mends)


def test_the_default_route_has_every_address(golden):
    (route,) = netlink.parse_rtnetlink(golden["default4_added"])
    assert (route.prefix, route.bits, route.mends) == (b"", 0, True)


def test_that_there_is_no_route_is_no_route(golden):
    assert netlink.parse_rtnetlink(golden["route4_none"]) == []


def test_a_dump_of_addresses_has_those_of_every_interface(golden):
    found = netlink.parse_rtnetlink(golden["addresses"])
    assert [(a.ifindex, a.address) for a in found[:3]] == [
        (1, bytes((127, 0, 0, 1))),
        (2, bytes((10, 77, 0, 101))),
        (1, bytes(15) + b"\1"),
    ]


def test_this_kernel_is_asked_and_answers():
    rtnetlink = netlink.Rtnetlink()
    loopback = bytes((127, 0, 0, 1))
    lo = rtnetlink.route_oif(2, loopback)
    assert lo == rtnetlink.route_oif(2, loopback, loopback) == 1
    assert loopback in rtnetlink.addresses(2)
    rtnetlink.close()
