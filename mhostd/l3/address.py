"""Text and octets of the addresses that several L3 handlers share."""

from __future__ import annotations

import ipaddress


def inet_pton(text: str) -> bytes:
    """Read dotted decimal into four octets; ValueError if it is none."""
    try:
        return ipaddress.IPv4Address(text).packed
    except ValueError:
        raise ValueError(f"{text!r} is no IPv4 address") from None


def inet_ntop(address: bytes) -> str:
    """Write four octets as dotted decimal."""
    return ".".join(map(str, address))


def inet6_pton(text: str) -> bytes:
    """Read RFC 4291 text into 16 octets; ValueError if it is none."""
    try:
        if "%" in text:  # the octets of an address have no room for a zone
            raise ValueError
        return ipaddress.IPv6Address(text).packed
    except ValueError:
        raise ValueError(f"{text!r} is no IPv6 address") from None


def inet6_ntop(address: bytes) -> str:
    """Write 16 octets as RFC 5952 has it."""
    return str(ipaddress.IPv6Address(address))
