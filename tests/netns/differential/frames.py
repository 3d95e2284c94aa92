"""What the kinds of frames are made of, with scapy: headers, fragments, errors that quote.

Every frame is from `peer`, which is another address for each kind, to us. Three sockets
listen on each side: OPEN, CONNECTED (to port PORT of the peer) and ASKING, which has
asked for errors (IP_RECVERR).
"""

from collections.abc import Callable
from typing import NamedTuple

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6, in6_chksum

US4, US6 = "10.77.0.1", "fd77::1"
PORT = 5101  # of the peer
OPEN, CONNECTED, ASKING, CLOSED = 4000, 4001, 4002, 4999
SOCKETS = (OPEN, CONNECTED, ASKING)
HELLO = b"hello"


class Kind(NamedTuple):
    """One kind of frames: its name, its IP version, and what makes them for a peer."""

    name: str
    version: int
    make: Callable[[str], list]

    def frames(self, peer):
        """The octets of its frames."""
        made = self.make(peer)
        return [bytes(frame) for frame in (made if isinstance(made, list) else [made])]


class Kinds(list):
    """A list of kinds that grows line by line."""

    def __init__(self, version):
        super().__init__()
        self.version = version

    def add(self, name, make):
        self.append(Kind(f"{name} (IPv{self.version})", self.version, make))


def udp(dport=OPEN, payload=HELLO, sport=PORT, **fields):
    return UDP(sport=sport, dport=dport, **fields) / payload


def ip4(peer, dst=US4, **fields):
    return IP(src=peer, dst=dst, **fields)


def ip6(peer, dst=US6, **fields):
    return IPv6(src=peer, dst=dst, **fields)


def changed(frame, changes):
    """The octets with some of them overwritten, and the IPv4 checksum as it was."""
    octets = bytearray(bytes(frame))
    for at, value in changes.items():
        octets[at] = value
    return bytes(octets)


# --- fragments: (first, last, more) of the payload, in octets


def whole4(peer, dport=OPEN, size=56, **fields):
    """The payload of a UDP datagram over IPv4 that is to be cut."""
    packet = ip4(peer) / udp(dport, letters(size - 8), **fields)
    return bytes(packet)[20:]


def whole6(peer, dport=OPEN, size=56, **fields):
    """The same over IPv6."""
    packet = ip6(peer) / udp(dport, letters(size - 8), **fields)
    return bytes(packet)[40:]


def letters(size):
    return bytes(97 + i // 8 % 26 for i in range(size))


def cut4(peer, payload, *parts, id=1, proto=17, **fields):  # noqa: A002
    """Fragments of an IPv4 packet."""
    return [
        ip4(peer, id=id, proto=proto, flags=more, frag=first // 8, **fields)
        / payload[first:last]
        for first, last, more in parts
    ]


def fragment_header(nh, offset, more, id_, reserved=0):
    field = offset & 0xFFF8 | reserved | more
    return bytes((nh, 0)) + field.to_bytes(2, "big") + id_.to_bytes(4, "big")


def cut6(peer, payload, *parts, id=1, nh=17, **fields):  # noqa: A002
    """Fragments of an IPv6 packet."""
    return [
        ip6(peer, nh=44, **fields)
        / (fragment_header(nh, first, more, id) + payload[first:last])
        for first, last, more in parts
    ]


# --- IPv6 extension headers


def options(nh, *tlvs):
    """A hop-by-hop or destination options header, padded with PadN."""
    data = b"".join(tlvs)
    room = -(len(data) + 2) % 8
    pad = b"" if not room else b"\0" if room == 1 else bytes((1, room - 2)) + bytes(room - 2)
    return raw_options(nh, data + pad)


def raw_options(nh, data):
    """The same, padded by nobody: `data` has 8n + 6 octets."""
    assert len(data) % 8 == 6
    return bytes((nh, len(data) // 8)) + data


def tlv(type_, data=b""):
    return bytes((type_, len(data))) + data


def routing(nh, type_, left, addresses=b"", length=None):
    units = len(addresses) // 8 if length is None else length
    return bytes((nh, units, type_, left)) + bytes(4) + addresses


def udp6(peer, dport=OPEN, payload=HELLO, sport=PORT, dst=US6, **fields):
    """UDP header and payload with the checksum that IPv6 wants."""
    octets = bytearray(bytes(UDP(sport=sport, dport=dport, chksum=0, **fields) / payload))
    check = in6_chksum(17, ip6(peer, dst), bytes(octets))
    octets[6:8] = check.to_bytes(2, "big")
    return bytes(octets)


def chain(peer, nh, *headers, dport=OPEN, dst=US6, **fields):
    """An IPv6 packet with these extension headers before UDP."""
    return ip6(peer, dst, nh=nh, **fields) / (b"".join(headers) + udp6(peer, dport, dst=dst))


# --- ICMP errors: for each of the two sockets that are told of them


def ours4(peer, sport, **fields):
    """What the message quotes: a datagram that we have sent to the peer."""
    return IP(src=US4, dst=peer, id=0, flags="DF", **fields) / UDP(sport=sport, dport=PORT)


def ours6(peer, sport, **fields):
    return IPv6(src=US6, dst=peer, hlim=64, **fields) / UDP(sport=sport, dport=PORT)


def error4(peer, type_, code, cut=None, quote=ours4, **fields):
    """An ICMP error to each socket; `cut` is how many octets are quoted."""
    return [
        ip4(peer)
        / ICMP(type=type_, code=code, **fields)
        / bytes(quote(peer, port) / b"what we said")[:cut]
        for port in (CONNECTED, ASKING)
    ]


def icmp6(peer, type_, code, body, dst=US6, **fields):
    """Any ICMPv6 message; `body` is what follows its checksum."""
    octets = bytearray(bytes((type_, code, 0, 0)) + body)
    octets[2:4] = in6_chksum(58, ip6(peer, dst), bytes(octets)).to_bytes(2, "big")
    return ip6(peer, dst, nh=58, **fields) / bytes(octets)


def error6(peer, type_, code, info=0, cut=None, quote=ours6):
    return [
        icmp6(
            peer,
            type_,
            code,
            info.to_bytes(4, "big") + bytes(quote(peer, port) / b"what we said")[:cut],
        )
        for port in (CONNECTED, ASKING)
    ]
