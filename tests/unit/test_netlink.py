import struct

import pytest

from mhostd import netlink


def parse_links(data):
    """Name and state; the index has a test of its own."""
    return [(link.name, link.up) for link in netlink.parse_links(data)]


def test_an_interface_has_an_index(golden):
    assert [link.ifindex for link in netlink.parse_links(golden["dump"])] == [1, 2]


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
