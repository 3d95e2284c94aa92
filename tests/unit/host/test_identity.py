"""Identifiers, against RFC 7343 spelled out bit by bit, and text forms."""

from __future__ import annotations

import hashlib
import ipaddress

import pytest

from mhostd.host import identity
from mhostd.host.identity import Identity

# RFC 7401 section 3.2: HIP's context id; a HIT of any host identity is made this way.
HIP_CONTEXT = bytes.fromhex("F0EFF02FBFF43D0FE7930C3C6E6174EA")


def by_the_rfc(context: bytes, oga: int, octets: bytes) -> ipaddress.IPv6Address:
    """RFC 7343 section 2, in bits: Prefix (28) | OGA ID (4) | middle 96 of the hash."""
    bits = "".join(f"{octet:08b}" for octet in hashlib.sha256(context + octets).digest())
    middle = bits[80 : 80 + 96]
    prefix = f"{int(ipaddress.IPv6Address('2001:20::')):0128b}"[:28]
    return ipaddress.IPv6Address(int(prefix + f"{oga:04b}" + middle, 2))


@pytest.mark.parametrize("context", [HIP_CONTEXT, identity.CONTEXT_ID])
@pytest.mark.parametrize("oga", [1, 5, 15])
def test_orchid(context: bytes, oga: int) -> None:
    for octets in (b"", b"a host identity", bytes(32)):
        found = identity.orchid(context, oga, octets)
        assert ipaddress.IPv6Address(found) == by_the_rfc(context, oga, octets)
        assert ipaddress.IPv6Address(found) in ipaddress.IPv6Network("2001:20::/28")
        assert identity.is_identifier(found)


def test_what_is_no_identifier() -> None:
    for text in ("2001:10::1", "2001:30::1", "2001:db8::1", "::", "fd00::1"):
        assert not identity.is_identifier(ipaddress.IPv6Address(text).packed)
    assert not identity.is_identifier(b"\x0a\0\0\1")


def test_a_key_and_its_text() -> None:
    me = Identity.from_private(bytes(range(32)))
    assert len(me.public) == 32
    assert me.identifier == identity.identifier_of(me.public)
    assert Identity.from_private(me.private_octets()).public == me.public
    assert identity.key_pton(identity.key_ntop(me.public)) == me.public
    assert ipaddress.ip_address(identity.identifier_ntop(me.identifier)).packed == me.identifier
    assert Identity.generate().public != Identity.generate().public


@pytest.mark.parametrize("text", ["", "x", "AAAA", "A" * 44, "AAAA====", "key\u00e9"])
def test_what_is_no_key(text: str) -> None:
    with pytest.raises(ValueError, match="key"):
        identity.key_pton(text)
