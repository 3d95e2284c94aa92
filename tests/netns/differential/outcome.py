"""What came of a kind of frames: what three sockets got, what went out, what was learnt.

Two outcomes are equal if an application and a peer could not tell one side from the
other. The identification of a fragmented packet and the time in a timestamp reply are
left out; checksums are checked instead of compared.
"""

import socket
from typing import NamedTuple

from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6, in6_chksum

PARTS = ("delivered", "errors", "wire", "mtu")


class Outcome(NamedTuple):
    """What came of it.

    Attributes:
        delivered: (port, payload, source, source port, TTL, type of service).
        errors: (port, errno, and what the error queue says besides) by ASKING, and
            (port, errno) of SO_ERROR by CONNECTED.
        wire: the packets that came back, without what may differ.
        mtu: of the path to the peer.
    """

    delivered: list
    errors: list
    wire: list
    mtu: int

    def differing(self, other):
        """The names of the parts that are not equal."""
        pairs = zip(PARTS, self, other, strict=True)
        return {name for name, mine, theirs in pairs if mine != theirs}


def folded(octets):
    octets = octets + bytes(len(octets) % 2)
    total = sum(int.from_bytes(octets[i : i + 2], "big") for i in range(0, len(octets), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def seen(frame):
    """A packet that came back, as it is compared."""
    return seen4(frame) if frame[0] >> 4 == 4 else seen6(frame)


def seen4(frame):
    packet, hlen = IP(frame), 4 * (frame[0] & 15)
    assert folded(frame[:hlen]) == 0xFFFF, "header checksum"
    assert len(frame) == packet.len
    fragment = bool(packet.flags.MF or packet.frag)
    header = (packet.src, packet.dst, packet.tos, str(packet.flags), packet.frag, packet.ttl)
    body, options = frame[hlen:], timeless(frame)[20:hlen]
    if packet.proto == socket.IPPROTO_ICMP and not fragment:
        assert folded(body) == 0xFFFF, "ICMP checksum"
        body = without(body, slice(2, 4))
        if body[0] == 14:  # the reply to a timestamp request
            body = without(body, slice(12, 20))
        elif body[0] in (3, 11, 12):
            body = body[:8] + timeless(body[8:])
    return (*header, options.hex(), packet.proto, body.hex())


def timeless(packet):
    """An IPv4 packet without the times in a timestamp option."""
    at, end = 20, 4 * (packet[0] & 15)
    while at + 3 < end and packet[at]:
        if packet[at] == 0x44:
            pointer, step = packet[at + 2], 4 if packet[at + 3] & 15 == 0 else 8
            for behind in range(at + 4 + step, at + pointer, step):
                packet = without(packet, slice(behind - 4, behind))
        at += max(packet[at + 1], 1) if packet[at] > 1 else 1
    return packet


def seen6(frame):
    src, dst = (socket.inet_ntop(socket.AF_INET6, frame[i : i + 16]) for i in (8, 24))
    first, length, nh, hlim = frame[:4].hex(), frame[4:6], frame[6], frame[7]
    body = frame[40:]
    assert len(body) == int.from_bytes(length, "big")
    if nh == socket.IPPROTO_FRAGMENT:
        body = without(body, slice(4, 8))
    elif nh == socket.IPPROTO_ICMPV6:
        zeroed = without(body, slice(2, 4))
        assert in6_chksum(nh, IPv6(src=src, dst=dst), zeroed) == int.from_bytes(
            body[2:4], "big"
        )
        body = zeroed
    return (src, dst, first, hlim, nh, body.hex())


def without(octets, where):
    """The same octets with some of them zero."""
    return octets[: where.start or 0] + bytes(len(octets[where])) + octets[where.stop :]
