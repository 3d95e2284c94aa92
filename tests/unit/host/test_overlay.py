"""The L3 protocol `mhost` in a stack: which locators are reached, and how hosts are spelled."""

from __future__ import annotations

import pytest

from mhostd.host.identity import Identity, identifier_ntop, key_ntop
from mhostd.host.path import Uplink
from mhostd.sock import Locator
from mhostd.uapi import AF_INET, AF_INET6, AF_TESTPROTO

US, THEM = (Identity.from_private(bytes([n]) * 32) for n in (1, 2))


@pytest.fixture
def overlay(make_node):
    return make_node(identity=US).stack.overlay


@pytest.mark.parametrize(
    ("l3", "family", "length"),
    [("inet", AF_INET, 4), ("inet6", AF_INET6, 16), ("testproto", AF_TESTPROTO, 2)],
)
def test_what_has_another_length_than_its_family_is_reached_from_nowhere(
    overlay, l3, family, length
):
    """A peer may have another protocol under that number."""
    ours = next(up for up in overlay.hosts.uplinks() if up.l3 == l3)
    assert isinstance(ours, Uplink)
    near = ours.locator.address[:-1] + b"\x09"
    for octets in range(1, 17):
        locator = Locator(family, near.ljust(octets, b"\0")[:octets])
        assert overlay.routes(ours, locator) == (octets == length)


@pytest.mark.parametrize(
    "spell", [lambda us: identifier_ntop(us.identifier), lambda us: key_ntop(us.public)]
)
def test_a_host_is_spelled_by_identifier_or_key(overlay, spell):
    assert overlay.mhost_proto.pton(spell(THEM)) == THEM.identifier


@pytest.mark.parametrize("text", ["", "=", "bob", "10.0.0.1", "AAAA=", key_ntop(bytes(31))])
def test_what_is_neither_is_refused(overlay, text):
    with pytest.raises(ValueError, match=r"is no|a key has"):
        overlay.mhost_proto.pton(text)
