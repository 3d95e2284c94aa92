"""mhost_pton and mhost_ntop: every address as applications spell it."""

import errno

import pytest

from mhostd.errors import MhostError
from mhostd.mhost_table import MhostTable
from mhostd.sock import Locator
from mhostd.uapi import AF_INET, AF_INET6, AF_MHOST, SockaddrMhost

LINK_LOCAL = bytes.fromhex("fe80") + bytes(13) + b"\1"

FORMS = [
    ("10.77.0.9", Locator(AF_INET, bytes((10, 77, 0, 9)))),
    ("fd77::9", Locator(AF_INET6, bytes.fromhex("fd77") + bytes(13) + b"\x09")),
    ("::", Locator(AF_INET6, bytes(16))),
    ("fe80::1%3", Locator(AF_INET6, LINK_LOCAL, 3)),
    ("testproto:0", Locator(1, b"\0\0")),
    ("testproto:65535", Locator(1, b"\xff\xff")),
    ("otherproto:0:0:0:2a", Locator(3, bytes(7) + b"\x2a")),
    ("otherproto:dead:beef:0:1", Locator(3, bytes.fromhex("deadbeef00000001"))),
    ("testproto:*", Locator(1, b"")),
    ("inet:*", Locator(AF_INET, b"")),
    ("inet6:*", Locator(AF_INET6, b"")),
]


@pytest.mark.parametrize(("text", "locator"), FORMS, ids=[text for text, _ in FORMS])
def test_an_address_is_read_and_written_alike(node, text, locator):
    assert node.table.mhost_pton(text) == locator
    family, address, scope_id = locator
    assert node.table.mhost_ntop(SockaddrMhost(family, 9, address, 0, scope_id)) == text


@pytest.mark.parametrize(
    ("text", "locator"),
    [
        ("inet:10.77.0.9", Locator(AF_INET, bytes((10, 77, 0, 9)))),
        ("inet6:fd77::9", Locator(AF_INET6, bytes.fromhex("fd77") + bytes(13) + b"\x09")),
        ("::ffff:192.0.2.1", Locator(AF_INET6, bytes(10) + bytes.fromhex("ffffc0000201"))),
        ("FD77:0::9", Locator(AF_INET6, bytes.fromhex("fd77") + bytes(13) + b"\x09")),
        ("otherproto:DEAD:BEEF:00:01", Locator(3, bytes.fromhex("deadbeef00000001"))),
    ],
)
def test_other_spellings_are_read_too(node, text, locator):
    assert node.table.mhost_pton(text) == locator


@pytest.mark.parametrize(
    ("text", "err", "why"),
    [
        ("", errno.EAFNOSUPPORT, "no address"),
        ("robot", errno.EAFNOSUPPORT, "no address; registered: inet, inet6"),
        ("10.77.0", errno.EAFNOSUPPORT, "no address"),
        ("10.77.0.256", errno.EAFNOSUPPORT, "no address"),
        ("ipx:1", errno.EAFNOSUPPORT, "no L3 handler 'ipx'"),
        ("fd77::g", errno.EAFNOSUPPORT, "no L3 handler 'fd77'"),
        ("fe80::1%eth0", errno.EAFNOSUPPORT, "fe80::1%eth0"),
        ("testproto:", errno.EINVAL, "'' is no testproto address; want a number 0..65535"),
        ("testproto:-1", errno.EINVAL, "no testproto address"),
        ("testproto:65536", errno.EINVAL, "no testproto address"),
        ("testproto:\u0661", errno.EINVAL, "no testproto address"),
        ("otherproto:1:2:3", errno.EINVAL, "want four groups of hex"),
        ("otherproto:1:2:3:10000", errno.EINVAL, "want four groups of hex"),
        ("otherproto:1:2:3:0x4", errno.EINVAL, "want four groups of hex"),
        ("otherproto:1:2:3: 4", errno.EINVAL, "want four groups of hex"),
        ("otherproto:1:2:3:-0", errno.EINVAL, "want four groups of hex"),
        ("inet:10.77.0.256", errno.EINVAL, "'10.77.0.256' is no IPv4 address"),
        ("inet6:fd77::g", errno.EINVAL, "'fd77::g' is no IPv6 address"),
    ],
)
def test_what_is_no_address_is_refused_with_the_reason(node, text, err, why):
    with pytest.raises(MhostError, match=why) as raised:
        node.table.mhost_pton(text)
    assert raised.value.errno == err


def test_where_nothing_is_registered_the_text_says_so():
    with pytest.raises(MhostError, match="registered: none"):
        MhostTable().mhost_pton("10.0.0.1")


def test_a_host_is_spelled_by_its_name_and_everywhere_as_a_star(node):
    handle = node.table.hosts["robot"].handle
    assert node.table.mhost_ntop(SockaddrMhost(AF_MHOST, 7, b"", handle)) == "robot"
    assert node.table.mhost_ntop(SockaddrMhost(AF_MHOST)) == "*"


def test_a_family_that_is_gone_is_still_spelled(node):
    assert node.table.mhost_ntop(SockaddrMhost(99, 1, b"\x0a\xff")) == "family-99:0aff"


def test_an_address_from_a_record_is_cut_to_its_family(node):
    assert node.table.mhost_ntop(SockaddrMhost(1, 1, b"\0\7" + bytes(14))) == "testproto:7"


@pytest.mark.parametrize("family", [1, 2, 3, 10, 27, 99])
def test_no_length_of_an_address_makes_the_spelling_fail(node, family):
    for length in range(17):
        assert node.table.mhost_ntop(SockaddrMhost(family, 1, bytes(length), 77))
