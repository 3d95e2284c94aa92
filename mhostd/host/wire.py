"""What associated hosts send each other over UDP: docs/wire.md, in code.

Everything begins with the same 16 octets:

     0      version (1) and type, 4 bits each
     1      protocol of what follows in DATA (17, UDP), else 0
     2      the sender's number of the path
     3      0
     4..7   association id, of the receiver; in INIT of the sender
     8..15  sequence number; in handshakes 0

INIT is followed by a Noise message, mac1 and mac2; RESPONSE by a Noise message; COOKIE by
the mac1 that it answers and a cookie; CONTROL by messages (below), sealed with
ChaCha20-Poly1305; DATA by an inner packet and its tag (native/shim.h).
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mhostd.host.noise import MESSAGE1_LEN, MESSAGE2_LEN
from mhostd.sock import Locator
from mhostd.uapi import AF_INET, AF_INET6

L3_NAME = "mhost"  # of the L3 protocol whose addresses are identifiers
PORT = 64678  # "mhost" on a telephone's keys; beyond the ephemeral ports of Linux
VERSION = 1
INIT, RESPONSE, COOKIE, CONTROL, DATA = 1, 2, 3, 4, 5
HLEN = 16
TAG_LEN = 16
OVERHEAD = HLEN + TAG_LEN  # octets that DATA adds to an inner packet
MAC_LEN = 16
COOKIE_LEN = 16

_HEADER = struct.Struct("!BBBxIQ")
_INIT_PAYLOAD = struct.Struct("!QI")  # time stamp in ns, the sender's association id
_RESPONSE_PAYLOAD = struct.Struct("!I")  # the sender's association id
INIT_LEN = HLEN + MESSAGE1_LEN + _INIT_PAYLOAD.size + 2 * MAC_LEN
RESPONSE_LEN = HLEN + MESSAGE2_LEN + _RESPONSE_PAYLOAD.size
COOKIE_PACKET_LEN = HLEN + MAC_LEN + COOKIE_LEN
CONTROL_MAX = 1200  # octets of messages in one packet: it goes over every path

_MESSAGE = struct.Struct("!BH")
_NONCE = struct.Struct("!Q")
_LOCATOR = struct.Struct("!HBB")
_REPORT = struct.Struct("!BQQ")
_PADDING, _PROBE, _REPLY, _REPORTS, _LOCATORS, _LOCATORS_ACK, _CLOSE, _REFUSED = range(8)
REFUSED_HEAD = 8  # octets of an inner packet that tell whose it is: ports, length, checksum
_LENGTHS = {AF_INET: (4,), AF_INET6: (16,)}  # octets of an address; of plug-ins 1..16
LOCATORS_MAX = 32
DRAINED = 1  # flag of a locator: in use for as long as nothing else is there

SEQ_MAX = 2**64 - 1


class WireError(ValueError):
    """Octets that no host would have sent."""


class Header(NamedTuple):
    """The first 16 octets."""

    type: int
    next: int
    path: int
    id: int
    seq: int


def emit_header(type_: int, path: int, id_: int, seq: int = 0, next_: int = 0) -> bytes:
    """The first 16 octets of a packet."""
    return _HEADER.pack(VERSION << 4 | type_, next_, path, id_, seq)


def parse_header(packet: bytes | memoryview) -> Header:
    """Read them; WireError if they are of no packet of this version."""
    if len(packet) < HLEN:
        raise WireError(f"packet of {len(packet)} octets; want {HLEN}")
    version_type, next_, path, id_, seq = _HEADER.unpack_from(packet)
    if version_type >> 4 != VERSION or packet[3]:
        raise WireError(f"version {version_type >> 4}, flags {packet[3]}; want {VERSION} and 0")
    return Header(version_type & 15, next_, path, id_, seq)


def init_payload(timestamp_ns: int, local_id: int) -> bytes:
    """What INIT says under its seal."""
    return _INIT_PAYLOAD.pack(timestamp_ns, local_id)


def parse_init_payload(payload: bytes) -> tuple[int, int]:
    """Time stamp in ns and association id; WireError."""
    if len(payload) != _INIT_PAYLOAD.size:
        raise WireError(f"INIT with a payload of {len(payload)} octets")
    stamp, local_id = _INIT_PAYLOAD.unpack(payload)
    return stamp, local_id


def response_payload(local_id: int) -> bytes:
    """What RESPONSE says under its seal."""
    return _RESPONSE_PAYLOAD.pack(local_id)


def parse_response_payload(payload: bytes) -> int:
    """The association id; WireError."""
    if len(payload) != _RESPONSE_PAYLOAD.size:
        raise WireError(f"RESPONSE with a payload of {len(payload)} octets")
    return int.from_bytes(payload, "big")


# --- messages in CONTROL


class Probe(NamedTuple):
    """Are you there, on this path? `pad` octets make it as large as what is to fit."""

    nonce: int
    pad: int = 0


class ProbeReply(NamedTuple):
    """Yes; and you came from there, as seen here."""

    nonce: int
    observed: Locator
    port: int


class Report(NamedTuple):
    """What came in this session on one of the receiver's paths.

    Attributes:
        path: number of it.
        came: datagrams, doubles included.
        highest: sequence number among them.
    """

    path: int
    came: int
    highest: int


class Reports(NamedTuple):
    """One for each path on which something came."""

    reports: tuple[Report, ...]


class TheirLocator(NamedTuple):
    """One locator that a host says it has."""

    locator: Locator
    drained: bool = False


class Locators(NamedTuple):
    """Where the sender is now: instead of what it said with a lower number."""

    number: int
    locators: tuple[TheirLocator, ...]


class LocatorsAck(NamedTuple):
    """Locators with that number have come."""

    number: int


class Close(NamedTuple):
    """The sender forgets this session."""


class Refused(NamedTuple):
    """Nobody has the port that a datagram of the receiver was for (as ICMP says of UDP).

    Attributes:
        next: IP protocol of what was inside.
        head: the first 8 octets of that.
    """

    next: int
    head: bytes


Message = Probe | ProbeReply | Reports | Locators | LocatorsAck | Close | Refused


def emit_messages(messages: list[Message]) -> bytes:
    """The octets that CONTROL seals."""
    return b"".join(_emit(message) for message in messages)


def _emit(message: Message) -> bytes:
    match message:
        case Probe(nonce, pad):
            kind, body = _PROBE, _NONCE.pack(nonce)
            if pad > _MESSAGE.size:
                rest = pad - _MESSAGE.size
                return (
                    _MESSAGE.pack(kind, len(body))
                    + body
                    + (_MESSAGE.pack(_PADDING, rest) + bytes(rest))
                )
        case ProbeReply(nonce, observed, port):
            kind = _REPLY
            body = _NONCE.pack(nonce) + port.to_bytes(2, "big") + _emit_locator(observed, 0)
        case Reports(reports):
            kind, body = _REPORTS, b"".join(_REPORT.pack(*report) for report in reports)
        case Locators(number, locators):
            kind = _LOCATORS
            body = _NONCE.pack(number) + b"".join(
                _emit_locator(each.locator, DRAINED if each.drained else 0)
                for each in locators[:LOCATORS_MAX]
            )
        case LocatorsAck(number):
            kind, body = _LOCATORS_ACK, _NONCE.pack(number)
        case Close():
            kind, body = _CLOSE, b""
        case Refused(next_, head):
            kind, body = _REFUSED, bytes((next_,)) + head
    return _MESSAGE.pack(kind, len(body)) + body


def _emit_locator(locator: Locator, flags: int) -> bytes:
    head = _LOCATOR.pack(locator.family, flags, len(locator.address))
    return head + locator.address


def parse_messages(octets: bytes) -> list[Message]:
    """Read what CONTROL sealed; kinds that we do not know are passed over.

    Raises:
        WireError: a length is wrong.
    """
    messages: list[Message] = []
    at = 0
    while at < len(octets):
        if len(octets) - at < _MESSAGE.size:
            raise WireError("a message without a head")
        kind, length = _MESSAGE.unpack_from(octets, at)
        at += _MESSAGE.size
        body = octets[at : at + length]
        if len(body) != length:
            raise WireError(f"message of {length} octets in {len(body)}")
        at += length
        if kind != _PADDING and kind <= _REFUSED:
            messages.append(_parse(kind, body))
    return messages


def _parse(kind: int, body: bytes) -> Message:
    if kind == _CLOSE:
        return Close()
    if kind == _REFUSED:
        if len(body) != 1 + REFUSED_HEAD:
            raise WireError(f"a refusal of {len(body)} octets")
        return Refused(body[0], body[1:])
    if kind == _REPORTS:
        if len(body) % _REPORT.size:
            raise WireError(f"reports of {len(body)} octets")
        return Reports(tuple(Report(*each) for each in _REPORT.iter_unpack(body)))
    if len(body) < _NONCE.size:
        raise WireError(f"message {kind} of {len(body)} octets")
    (number,) = _NONCE.unpack_from(body)
    rest = body[_NONCE.size :]
    if kind == _PROBE:
        return Probe(number)
    if kind == _LOCATORS_ACK:
        return LocatorsAck(number)
    if kind == _REPLY:
        found = _parse_locators(rest[2:])
        if len(found) != 1:
            raise WireError("a reply without one locator")
        return ProbeReply(number, found[0].locator, int.from_bytes(rest[:2], "big"))
    return Locators(number, tuple(_parse_locators(rest)))


def _parse_locators(octets: bytes) -> list[TheirLocator]:
    found = []
    at = 0
    while at < len(octets):
        if len(octets) - at < _LOCATOR.size:
            raise WireError("a locator without a head")
        family, flags, length = _LOCATOR.unpack_from(octets, at)
        at += _LOCATOR.size
        address = octets[at : at + length]
        if len(address) != length or length not in _LENGTHS.get(family, range(1, 17)):
            raise WireError(f"an address of {length} octets in family {family}")
        at += length
        found.append(TheirLocator(Locator(family, address), bool(flags & DRAINED)))
    if len(found) > LOCATORS_MAX:
        raise WireError(f"{len(found)} locators; at most {LOCATORS_MAX}")
    return found
