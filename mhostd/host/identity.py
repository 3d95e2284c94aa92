"""Identities: a host's key, and the identifier that is made of it.

The key is an X25519 key (RFC 7748). The identifier is its ORCHIDv2 (RFC 7343): 128 bits
in 2001:20::/28, so it fits wherever an IPv6 address does and is routed nowhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import ipaddress
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

KEY_LEN = 32  # octets, private or public
IDENTIFIER_LEN = 16

ORCHID_PREFIX = bytes.fromhex("20010020"), 28  # RFC 7343 section 2: 2001:20::/28
# The first 16 octets of SHA-256("mhostd X25519 host identity"): chosen at random once, as
# RFC 7343 section 2 asks, and by a way that hides nothing.
CONTEXT_ID = hashlib.sha256(b"mhostd X25519 host identity").digest()[:16]
OGA_SHA256 = 1  # of our context: which hash function (RFC 7343 section 2)

_HASH_SKIP = (32 - 12) // 2  # Encode_96: the middle 96 bits of 256


def orchid(context_id: bytes, oga_id: int, octets: bytes) -> bytes:
    """An ORCHIDv2 with SHA-256 (RFC 7343 section 2): Prefix | OGA ID | Encode_96(Hash).

    Args:
        context_id: 16 octets, of one usage of ORCHIDs.
        oga_id: 0..15, the ORCHID generation algorithm in that usage.
        octets: what is identified.

    Returns:
        16 octets.
    """
    prefix = int.from_bytes(ORCHID_PREFIX[0], "big") | oga_id
    digest = hashlib.sha256(context_id + octets).digest()
    return prefix.to_bytes(4, "big") + digest[_HASH_SKIP : _HASH_SKIP + 12]


def identifier_of(public_key: bytes) -> bytes:
    """The identifier of the host with a public key of 32 octets."""
    return orchid(CONTEXT_ID, OGA_SHA256, public_key)


def is_identifier(address: bytes) -> bool:
    """Whether 16 octets of an IPv6 address are an identifier."""
    return (
        len(address) == IDENTIFIER_LEN
        and address[:3] == b"\x20\x01\x00"
        and (address[3] & 0xF0 == 0x20)
    )


def identifier_ntop(identifier: bytes) -> str:
    """The text form: as the IPv6 address that it looks like."""
    return str(ipaddress.IPv6Address(identifier))


def key_ntop(public_key: bytes) -> str:
    """The text form of a public key: base64, 44 characters."""
    return base64.b64encode(public_key).decode()


def key_pton(text: str) -> bytes:
    """Read a public key.

    Raises:
        ValueError: it is none, and why.
    """
    try:
        key = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{text!r} is no key: want base64, as `mhostctl key` prints") from None
    if len(key) != KEY_LEN:
        raise ValueError(f"{text!r} has {len(key)} octets; a key has {KEY_LEN}")
    return key


@dataclass(frozen=True, slots=True)
class Identity:
    """Who we are.

    Attributes:
        private: the key.
        public: 32 octets of its public half.
        identifier: 16 octets.
    """

    private: X25519PrivateKey
    public: bytes
    identifier: bytes

    @classmethod
    def from_private(cls, octets: bytes) -> Identity:
        """Read a private key of 32 octets; ValueError for any other number."""
        private = X25519PrivateKey.from_private_bytes(octets)
        public = public_octets(private)
        return cls(private, public, identifier_of(public))

    @classmethod
    def generate(cls) -> Identity:
        """A new one."""
        return cls.from_private(private_octets(X25519PrivateKey.generate()))

    def private_octets(self) -> bytes:
        """The private key, 32 octets, for the file that keeps it."""
        return private_octets(self.private)


def private_octets(key: X25519PrivateKey) -> bytes:
    """A private key, 32 octets."""
    return key.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())


def public_octets(key: X25519PrivateKey | X25519PublicKey) -> bytes:
    """A public key, or the public half of a private one, 32 octets."""
    public = key.public_key() if isinstance(key, X25519PrivateKey) else key
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)
