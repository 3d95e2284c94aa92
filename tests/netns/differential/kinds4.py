"""The kinds of IPv4 frames."""

from itertools import permutations

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw

from differential.frames import (
    ASKING,
    CLOSED,
    CONNECTED,
    HELLO,
    OPEN,
    PORT,
    US4,
    Kinds,
    cut4,
    error4,
    ip4,
    letters,
    ours4,
    udp,
    whole4,
)

KINDS = Kinds(4)
add = KINDS.add

# --- UDP and who gets it

add("a datagram", lambda p: ip4(p) / udp())
add("an empty datagram", lambda p: ip4(p) / udp(payload=b""))
add("a datagram of one octet", lambda p: ip4(p) / udp(payload=b"x"))
add("a datagram of 1472 octets", lambda p: ip4(p) / udp(payload=letters(1472)))
add("from the peer of a connected socket", lambda p: ip4(p) / udp(CONNECTED))
add("from another port of that peer", lambda p: ip4(p) / udp(CONNECTED, sport=9))
add("from another host to a connected socket", lambda p: ip4("10.77.200.1") / udp(CONNECTED))
add("to a closed port", lambda p: ip4(p) / udp(CLOSED))
add("to a closed port, 1400 octets", lambda p: ip4(p) / udp(CLOSED, letters(1400)))
add("to port 0", lambda p: ip4(p) / udp(0))
add("from port 0", lambda p: ip4(p) / udp(sport=0))
add("UDP checksum 0", lambda p: ip4(p) / udp(chksum=0))
add("UDP checksum wrong", lambda p: ip4(p) / udp(chksum=0x1234))
add("UDP checksum wrong, closed port", lambda p: ip4(p) / udp(CLOSED, chksum=0x1234))
add("UDP checksum ffff", lambda p: ip4(p) / checksum_ffff(p))
for length in (0, 1, 7, 12, 14, 0xFFFF):
    add(f"UDP length {length}", lambda p, n=length: ip4(p) / udp(len=n, chksum=0))
add("UDP length 12, closed port", lambda p: ip4(p) / udp(CLOSED, len=12, chksum=0))
add("UDP length 20, closed port", lambda p: ip4(p) / udp(CLOSED, len=20, chksum=0))
for length in range(8):
    add(
        f"UDP cut after {length} octets", lambda p, n=length: ip4(p, proto=17) / b"12345678"[:n]
    )


def checksum_ffff(peer):
    """A datagram whose checksum computes to 0."""
    first = ip4(peer) / udp(payload=bytes(2))
    missing = UDP(bytes(first)[20:]).chksum
    return udp(payload=missing.to_bytes(2, "big"))


# --- the header

for length in (1, 10, 19):
    add(f"{length} octets", lambda p, n=length: bytes(ip4(p) / udp())[:n])
for version in (0, 5, 6, 15):
    add(f"version {version}", lambda p, n=version: ip4(p, version=n) / udp())
for ihl in (0, 4, 6, 15):
    add(f"header length {4 * ihl}", lambda p, n=ihl: ip4(p, ihl=n) / udp())
add("total length 0", lambda p: ip4(p, len=0) / udp())
add("total length 19", lambda p: ip4(p, len=19) / udp())
add("total length 20", lambda p: ip4(p, len=20) / udp())
add("total length one too many", lambda p: ip4(p, len=34) / udp())
add("total length 65535", lambda p: ip4(p, len=65535) / udp())
add("octets behind the packet", lambda p: bytes(ip4(p) / udp()) + b"padding")
add("octets behind, closed port", lambda p: bytes(ip4(p) / udp(CLOSED)) + b"padding")
add("total length shorter than UDP's", lambda p: ip4(p, len=30) / udp())
add("header checksum wrong", lambda p: ip4(p, chksum=0x1234) / udp())
add("header checksum 0", lambda p: ip4(p, chksum=0) / udp())
add("header checksum wrong, closed port", lambda p: ip4(p, chksum=1) / udp(CLOSED))
for tos in (0x10, 0x02, 0x03, 0xB8, 0xFF):
    add(f"type of service {tos:#x}", lambda p, n=tos: ip4(p, tos=n) / udp())
    add(f"type of service {tos:#x}, closed port", lambda p, n=tos: ip4(p, tos=n) / udp(CLOSED))
for ttl in (0, 1, 255):
    add(f"TTL {ttl}", lambda p, n=ttl: ip4(p, ttl=n) / udp())
add("TTL 1, closed port", lambda p: ip4(p, ttl=1) / udp(CLOSED))
add("don't fragment", lambda p: ip4(p, flags="DF") / udp())
add("the evil bit", lambda p: ip4(p, flags="evil") / udp())
for proto in (0, 6, 58, 200, 253, 254, 255):
    add(f"protocol {proto}", lambda p, n=proto: ip4(p, proto=n) / b"0123456789abcdefghij")
add("TCP to a closed port", lambda p: ip4(p) / TCP(sport=PORT, dport=CLOSED))
add("protocol 253, options", lambda p: with_options(p, b"\1\1\1\1", proto=253))
add("protocol 253, empty", lambda p: ip4(p, proto=253))
add("protocol 253, 1480 octets", lambda p: ip4(p, proto=253) / letters(1480))

for text, src in {
    "0.0.0.0": "0.0.0.0",
    "0.1.2.3": "0.1.2.3",
    "loopback": "127.0.0.1",
    "all hosts": "224.0.0.1",
    "multicast": "239.1.2.3",
    "class E": "240.0.0.1",
    "limited broadcast": "255.255.255.255",
    "us": US4,
    "directed broadcast": "10.77.255.255",
    "the network": "10.77.0.0",
    "beyond the link": "198.51.100.7",
}.items():
    add(f"from {text}", lambda p, s=src: ip4(s) / udp())
    add(f"from {text}, closed port", lambda p, s=src: ip4(s) / udp(CLOSED))
    add(f"echo from {text}", lambda p, s=src: ip4(s) / ICMP(id=1, seq=1) / HELLO)

for text, dst in {
    "limited broadcast": "255.255.255.255",
    "directed broadcast": "10.77.255.255",
    "the network": "10.77.0.0",
    "all hosts": "224.0.0.1",
    "a group": "224.0.0.251",
    "loopback": "127.0.0.1",
    "another host": "10.77.0.9",
    "beyond the link": "198.51.100.7",
    "0.0.0.0": "0.0.0.0",
    "class E": "240.0.0.1",
}.items():
    add(f"to {text}", lambda p, d=dst: ip4(p, d) / udp())
    add(f"to {text}, closed port", lambda p, d=dst: ip4(p, d) / udp(CLOSED))
    add(f"echo to {text}", lambda p, d=dst: ip4(p, d) / ICMP(id=1, seq=1) / HELLO)


# --- options


def with_options(peer, octets, payload=None, **fields):
    """A packet with these octets as options."""
    fields.setdefault("proto", 17)
    octets += bytes(-len(octets) % 4)
    inner = bytes(ip4(peer) / (udp() if payload is None else payload))[20:]
    frame = bytes(
        IP(src=peer, dst=US4, ihl=5 + len(octets) // 4, **fields) / Raw(octets + inner)
    )
    header = bytearray(frame[: 20 + len(octets)])
    header[10:12] = b"\0\0"
    total = sum(int.from_bytes(header[i : i + 2], "big") for i in range(0, len(header), 2))
    header[10:12] = (~(total % 0xFFFF) & 0xFFFF).to_bytes(2, "big")
    return bytes(header) + frame[20 + len(octets) :]


OPTIONS = {
    "no operation": "01010101",
    "end": "00",
    "octets behind the end": "00010203",
    "record route": "07070400000000 00",
    "record route with room": "070f04" + "00" * 12 + "00",
    "timestamp with room": "441005" + "00" * 13,
    "timestamps and addresses": "442405" + "01" + "00" * 32,
    "record route, full": "0707080a4d0909 00",
    "record route without an address": "070304 00",
    "record route of 2 octets": "0702 0000",
    "record route, pointer 3": "07070300000000 00",
    "record route, pointer into an address": "07070600000000 00",
    "record route twice": "0707040000000007 0704000000000000",
    "timestamp": "44080500 00000000",
    "timestamp, full": "44080900 00000000",
    "timestamp, full and overflown": "440809f0 00000000",
    "timestamp with addresses": "440c0501 0000000000000000",
    "timestamp with our address": "440c0503 0a4d000100000000",
    "timestamp with another address": "440c0503 0a4d090900000000",
    "timestamp with addresses, no room": "44080501 00000000",
    "timestamp of 3 octets": "440305 00",
    "timestamp, pointer 4": "44080400 00000000",
    "timestamp, pointer into a time": "44080700 00000000",
    "timestamp, flag 7": "44080507 00000000",
    "timestamp twice": "44080500 00000000 44080500 00000000",
    "loose source route": "8307040a4d0909 00",
    "loose source route, used up": "8307080a4d0909 00",
    "loose source route of 2 octets": "8302 0000",
    "loose source route, pointer 3": "8307030a4d0909 00",
    "strict source route": "8907040a4d0909 00",
    "strict source route, used up": "8907080a4d0909 00",
    "two source routes": "8307040a4d0909 8907040a4d0909 0000",
    "router alert": "94040000",
    "router alert, another value": "94040001",
    "router alert of 2 octets": "9402 0000",
    "security": "820b0000000000000000 00 00",
    "stream identifier": "88040001",
    "CIPSO without a tag": "8606 00000001 0000",
    "unknown": "9e04abcd",
    "unknown of length 0": "9e00 0000",
    "unknown of length 1": "9e01 0000",
    "unknown that overruns": "9e05 0000",
    "no operation, then one that overruns": "0101 9e03",
    "type without a length": "0101019e",
    "quick start": "1908000000000000",
}
for text, octets in OPTIONS.items():
    add(f"option {text}", lambda p, o=octets: with_options(p, bytes.fromhex(o)))
for text in (
    "no operation",
    "record route",
    "record route with room",
    "octets behind the end",
    "router alert",
    "unknown",
    "timestamp, full",
):
    add(
        f"option {text}, closed port",
        lambda p, o=OPTIONS[text]: with_options(p, bytes.fromhex(o), udp(CLOSED)),
    )
for text in (
    "no operation",
    "record route",
    "record route with room",
    "timestamp with room",
    "timestamps and addresses",
    "timestamp, full",
    "timestamp with another address",
    "timestamp, flag 7",
    "loose source route",
):
    add(
        f"echo with option {text}",
        lambda p, o=OPTIONS[text]: with_options(
            p, bytes.fromhex(o), ICMP(id=1, seq=1) / HELLO, proto=1
        ),
    )
add(
    "echo of 2000 octets with record route",
    lambda p: [
        with_options(p, b"\7\7\4\0\0\0\0", echo(p, 2000)[:1400], id=1, flags="MF", proto=1),
        *cut4(p, echo(p, 2000), (1400, 2008, 0), proto=1),
    ],
)
add("options fill the header", lambda p: with_options(p, b"\1" * 40))

# --- ICMP that is no error

for size in (0, 1, 56, 1472):
    add(f"echo of {size} octets", lambda p, n=size: ip4(p) / ICMP(id=7, seq=3) / letters(n))
add("echo with code 1", lambda p: ip4(p) / ICMP(code=1, id=7, seq=3) / HELLO)
add("echo with code 255", lambda p: ip4(p) / ICMP(code=255, id=7, seq=3) / HELLO)
add("echo, type of service", lambda p: ip4(p, tos=0xB9) / ICMP(id=7) / HELLO)
add("echo, don't fragment", lambda p: ip4(p, flags="DF", id=9) / ICMP(id=7) / HELLO)
add("echo with TTL 1", lambda p: ip4(p, ttl=1) / ICMP(id=7) / HELLO)
add("echo, checksum wrong", lambda p: ip4(p) / ICMP(chksum=1, id=7) / HELLO)
add("echo in fragments", lambda p: cut_echo(p, 56, (0, 32, 1), (32, 64, 0)))
add(
    "echo in fragments, 2000 octets", lambda p: cut_echo(p, 2000, (0, 1400, 1), (1400, 2008, 0))
)
for length in (0, 3, 4, 7):
    add(
        f"ICMP of {length} octets",
        lambda p, n=length: ip4(p, proto=1) / checked(b"\x08\0\0\0\0\7\0", n),
    )
for type_ in (0, 1, 2, 7, 9, 10, 14, 15, 16, 17, 18, 19, 30, 40, 41, 42, 43, 255):
    add(f"ICMP type {type_}", lambda p, n=type_: ip4(p, proto=1) / any_icmp(n, 0, bytes(20)))
add(
    "timestamp request",
    lambda p: ip4(p, proto=1) / any_icmp(13, 0, b"\0\7\0\1\0\1\2\3" + bytes(8)),
)
add(
    "timestamp request with code 1",
    lambda p: ip4(p, proto=1) / any_icmp(13, 1, b"\0\7\0\1\0\1\2\3" + bytes(8)),
)
add("timestamp request, short", lambda p: ip4(p, proto=1) / any_icmp(13, 0, b"\0\7\0\1\0\1\2"))
add("timestamp request of 8 octets", lambda p: ip4(p, proto=1) / any_icmp(13, 0, b"\0\7\0\1"))
add(
    "timestamp request, long",
    lambda p: ip4(p, proto=1) / any_icmp(13, 0, b"\0\7\0\1" + bytes(12) + HELLO),
)
add("timestamp request, checksum wrong", lambda p: ip4(p) / ICMP(type=13, chksum=1))


def any_icmp(type_, code, body):
    """An ICMP message with a right checksum; `body` follows the checksum."""
    octets = bytearray(bytes((type_, code, 0, 0)) + body)
    return checked(octets, len(octets))


def checked(octets, length):
    octets = bytearray(octets[:length])
    if length >= 4:
        octets[2:4] = b"\0\0"
        padded = octets + bytes(length % 2)
        total = sum(int.from_bytes(padded[i : i + 2], "big") for i in range(0, len(padded), 2))
        octets[2:4] = (~(total % 0xFFFF) & 0xFFFF).to_bytes(2, "big")
    return bytes(octets)


def echo(peer, size):
    return bytes(ip4(peer) / ICMP(id=7, seq=3) / letters(size))[20:]


def cut_echo(peer, size, *parts):
    return cut4(peer, echo(peer, size), *parts, proto=1)


# --- ICMP errors

for code in range(17):
    if code != 4:
        add(f"unreachable, code {code}", lambda p, c=code: error4(p, 3, c))
for mtu in (0, 1, 67, 68, 500, 551, 552, 576, 1000, 1280, 1499, 1500, 1501, 9000, 65535):
    add(f"fragmentation needed, MTU {mtu}", lambda p, n=mtu: error4(p, 3, 4, nexthopmtu=n))
add(
    "fragmentation needed, MTU 0, a packet of 1300",
    lambda p: error4(p, 3, 4, quote=quote(len=1300)),
)
add(
    "fragmentation needed, MTU 0, a packet of 1006",
    lambda p: error4(p, 3, 4, quote=quote(len=1006)),
)
add(
    "fragmentation needed, MTU 0, a packet of 60",
    lambda p: error4(p, 3, 4, quote=quote(len=60)),
)
add(
    "fragmentation needed, MTU 0, a packet of 1500",
    lambda p: error4(p, 3, 4, quote=quote(len=1500)),
)
add(
    "fragmentation needed twice, the second larger",
    lambda p: error4(p, 3, 4, nexthopmtu=1000) + error4(p, 3, 4, nexthopmtu=1200),
)
add(
    "fragmentation needed twice, the second smaller",
    lambda p: error4(p, 3, 4, nexthopmtu=1200) + error4(p, 3, 4, nexthopmtu=1000),
)
add(
    "fragmentation needed twice, then absurd",
    lambda p: error4(p, 3, 4, nexthopmtu=1000) + error4(p, 3, 4, nexthopmtu=68),
)
add(
    "fragmentation needed, MTU above the packet",
    lambda p: error4(p, 3, 4, nexthopmtu=1400, quote=quote(len=1300)),
)
for code in (0, 1, 2):
    add(f"time exceeded, code {code}", lambda p, c=code: error4(p, 11, c))
for code, pointer in ((0, 0), (0, 9), (0, 20), (1, 0), (2, 0), (3, 0)):
    add(
        f"parameter problem, code {code}, pointer {pointer}",
        lambda p, c=code, n=pointer: error4(p, 12, c, ptr=n),
    )
add("source quench", lambda p: error4(p, 4, 0))
for code in (0, 1, 2, 3, 4):
    add(f"redirect, code {code}", lambda p, c=code: error4(p, 5, c, gw="10.77.9.9"))
for size in (0, 19, 20, 27, 28, 29):
    add(f"port unreachable quotes {size} octets", lambda p, n=size: error4(p, 3, 3, n))
add("error with a wrong checksum", lambda p: error4(p, 3, 3, chksum=1))
add("error quotes a header of 16 octets", lambda p: error4(p, 3, 3, quote=quote(ihl=4)))
add("error quotes version 5", lambda p: error4(p, 3, 3, quote=quote(version=5)))
add("error quotes a header longer than it", lambda p: error4(p, 3, 3, quote=quote(ihl=15)))
add("error quotes options", lambda p: error4(p, 3, 3, quote=quoting_options))
add("error quotes a wrong header checksum", lambda p: error4(p, 3, 3, quote=quote(chksum=1)))
add("error quotes the first fragment", lambda p: error4(p, 3, 3, quote=fragment_of(0)))
add("error quotes a later fragment", lambda p: error4(p, 3, 3, quote=fragment_of(10)))
add(
    "error quotes a later fragment, MTU",
    lambda p: error4(p, 3, 4, nexthopmtu=1000, quote=fragment_of(10)),
)
add(
    "error quotes TCP", lambda p: error4(p, 3, 3, quote=lambda q, port: ours4(q, port, proto=6))
)
add(
    "error quotes protocol 253",
    lambda p: error4(p, 3, 2, quote=lambda q, port: ours4(q, port, proto=253)),
)
add(
    "error quotes an echo",
    lambda p: error4(p, 3, 1, quote=lambda q, port: IP(src=US4, dst=q) / ICMP()),
)
add(
    "error quotes another's packet",
    lambda p: error4(
        p, 3, 3, quote=lambda q, port: IP(src=q, dst=US4) / UDP(sport=port, dport=PORT)
    ),
)
add(
    "error quotes a packet to another host",
    lambda p: error4(p, 3, 3, quote=lambda q, port: ours4("10.77.200.2", port)),
)
add(
    "error quotes a packet to another port",
    lambda p: error4(
        p, 3, 3, quote=lambda q, port: IP(src=US4, dst=q) / UDP(sport=port, dport=9)
    ),
)
add(
    "error quotes a packet from a closed port",
    lambda p: error4(p, 3, 3, quote=lambda q, port: ours4(q, CLOSED)),
)
add(
    "fragmentation needed, from a closed port",
    lambda p: error4(p, 3, 4, nexthopmtu=1000, quote=lambda q, port: ours4(q, CLOSED)),
)
add(
    "error quotes a packet from the open port",
    lambda p: error4(p, 3, 3, quote=lambda q, port: ours4(q, OPEN)),
)
add(
    "error quotes a packet from a broadcast",
    lambda p: error4(
        p,
        3,
        3,
        quote=lambda q, port: IP(src="255.255.255.255", dst=q) / UDP(sport=port, dport=PORT),
    ),
)
add(
    "error quotes a packet to a broadcast",
    lambda p: error4(p, 3, 3, quote=lambda q, port: ours4("255.255.255.255", port)),
)
add(
    "error from another router",
    lambda p: [changed_source(f, "198.51.100.9") for f in error4(p, 3, 1)],
)
add("error from us", lambda p: [changed_source(f, US4) for f in error4(p, 3, 3)])
add(
    "error to a broadcast",
    lambda p: [
        ip4(p, "10.77.255.255") / ICMP(type=3, code=3) / ours4(p, port)
        for port in (CONNECTED, ASKING)
    ],
)
add(
    "error in fragments",
    lambda p: cut4(p, bytes(error4(p, 3, 3)[0])[20:], (0, 24, 1), (24, 99, 0), proto=1),
)
add("error quotes a TTL of 0", lambda p: error4(p, 3, 3, quote=quote(ttl=0)))
add("two errors for one socket", lambda p: error4(p, 3, 3) + error4(p, 3, 10))
add(
    "error, then a datagram",
    lambda p: [*error4(p, 3, 3), ip4(p) / udp(CONNECTED), ip4(p) / udp(ASKING)],
)
add(
    "soft error, then a datagram",
    lambda p: [*error4(p, 3, 1), ip4(p) / udp(CONNECTED), ip4(p) / udp(ASKING)],
)


def quote(**fields):
    return lambda peer, port: ours4(peer, port, **fields)


def quoting_options(peer, port):
    return Raw(
        bytes(
            IP(src=US4, dst=peer, ihl=6, proto=17, len=46)
            / b"\1\1\1\1"
            / UDP(sport=port, dport=PORT)
        )
    )


def fragment_of(offset):
    def make(peer, port):
        header = IP(src=US4, dst=peer, id=7, flags="MF", frag=offset, proto=17)
        return header / UDP(sport=port, dport=PORT)

    return make


def changed_source(frame, source):
    again = IP(bytes(frame))
    del again.chksum
    again.src = source
    return again


# --- fragments

THREE = ((0, 16, 1), (16, 40, 1), (40, 56, 0))
for order in permutations(range(3)):
    add(
        f"fragments in the order {order}",
        lambda p, o=order: cut4(p, whole4(p), *(THREE[i] for i in o)),
    )
add("two fragments", lambda p: cut4(p, whole4(p), (0, 32, 1), (32, 56, 0)))
add(
    "two fragments to a closed port",
    lambda p: cut4(p, whole4(p, CLOSED), (0, 32, 1), (32, 56, 0)),
)
add(
    "two fragments to a closed port, the last first",
    lambda p: cut4(p, whole4(p, CLOSED), (32, 56, 0), (0, 32, 1)),
)
add(
    "two fragments to the connected socket",
    lambda p: cut4(p, whole4(p, CONNECTED), (0, 32, 1), (32, 56, 0)),
)
add(
    "fragments of 8 octets",
    lambda p: cut4(p, whole4(p), *((i, i + 8, int(i < 48)) for i in range(0, 56, 8))),
)
add(
    "fragments of 8 octets, backwards",
    lambda p: cut4(p, whole4(p), *reversed([(i, i + 8, int(i < 48)) for i in range(0, 56, 8)])),
)
add(
    "a datagram of 4000 octets",
    lambda p: cut4(p, whole4(p, size=4000), (0, 1480, 1), (1480, 2960, 1), (2960, 4000, 0)),
)
add(
    "a datagram of 65507 octets",
    lambda p: cut4(
        p,
        whole4(p, size=65515),
        *((i, min(i + 1480, 65515), int(i + 1480 < 65515)) for i in range(0, 65515, 1480)),
    ),
)
add("the first fragment alone", lambda p: cut4(p, whole4(p), THREE[0]))
add("the last fragment alone", lambda p: cut4(p, whole4(p), THREE[2]))
add("the middle is missing", lambda p: cut4(p, whole4(p), THREE[0], THREE[2]))
for i, text in enumerate(("first", "middle", "last")):
    add(
        f"the {text} fragment twice",
        lambda p, i=i: (
            cut4(p, whole4(p), THREE[i], *THREE) if i else cut4(p, whole4(p), THREE[0], *THREE)
        ),
    )
    add(
        f"the {text} fragment twice, at once",
        lambda p, i=i: cut4(p, whole4(p), *THREE[: i + 1], *THREE[i:]),
    )
add("a fragment after the datagram", lambda p: cut4(p, whole4(p), *THREE, THREE[0]))
add("the datagram twice", lambda p: cut4(p, whole4(p), *THREE, *THREE))
add(
    "a repetition with other octets",
    lambda p: [
        *cut4(p, whole4(p), THREE[0]),
        *cut4(p, bytes(56), THREE[0]),
        *cut4(p, whole4(p), *THREE[1:]),
    ],
)
add("overlap at the end", lambda p: cut4(p, whole4(p), (0, 24, 1), (16, 40, 1), (40, 56, 0)))
add(
    "overlap at the beginning",
    lambda p: cut4(p, whole4(p), (16, 40, 1), (0, 24, 1), (40, 56, 0)),
)
add(
    "a fragment within another",
    lambda p: cut4(p, whole4(p), (0, 40, 1), (8, 16, 1), (40, 56, 0)),
)
add(
    "a fragment around another",
    lambda p: cut4(p, whole4(p), (8, 16, 1), (0, 40, 1), (40, 56, 0)),
)
add(
    "the beginning of the first again",
    lambda p: cut4(p, whole4(p), (0, 40, 1), (0, 16, 1), (40, 56, 0)),
)
add(
    "the first again and longer",
    lambda p: cut4(p, whole4(p), (0, 16, 1), (0, 40, 1), (40, 56, 0)),
)
add(
    "the end of the first again",
    lambda p: cut4(p, whole4(p), (0, 40, 1), (24, 40, 1), (40, 56, 0)),
)
add(
    "overlap, then the datagram anew",
    lambda p: cut4(p, whole4(p), (0, 24, 1), (16, 40, 1), *THREE),
)
add("overlap after all came", lambda p: cut4(p, whole4(p), *THREE, (8, 24, 1)))
add(
    "two lasts", lambda p: cut4(p, whole4(p), (40, 56, 0), (40, 48, 0), (0, 16, 1), (16, 40, 1))
)
add(
    "two lasts, the second longer",
    lambda p: cut4(p, whole4(p), (40, 48, 0), (40, 56, 0), (0, 16, 1), (16, 40, 1)),
)
add(
    "a fragment behind the last",
    lambda p: cut4(p, whole4(p), (40, 48, 0), (48, 56, 1), (0, 16, 1), (16, 40, 1)),
)
add(
    "the last before what there is",
    lambda p: cut4(p, whole4(p), (32, 56, 1), (0, 16, 0), (16, 32, 1)),
)
add("a length of no multiple of 8", lambda p: cut4(p, whole4(p), (0, 20, 1), (16, 56, 0)))
add(
    "a length of no multiple of 8, then a gap",
    lambda p: cut4(p, whole4(p), (0, 20, 1), (24, 56, 0)),
)
add("a first fragment of 4 octets", lambda p: cut4(p, whole4(p), (0, 4, 1), (0, 56, 0)))
add("an empty fragment", lambda p: cut4(p, whole4(p), (0, 0, 1), *THREE))
add("an empty last fragment", lambda p: cut4(p, whole4(p), (0, 56, 1), (56, 56, 0)))
add(
    "an empty fragment in the middle",
    lambda p: cut4(p, whole4(p), THREE[0], (16, 16, 1), *THREE[1:]),
)
add("beyond 65535 octets", lambda p: cut4(p, whole4(p), THREE[0], *ending(65528)))
add(
    "up to 65535 octets and no more",
    lambda p: cut4(p, letters(65515), (65504, 65515, 0), (0, 16, 1)),
)
add("don't fragment and more fragments", lambda p: cut_df(p))
add("don't fragment and more fragments, closed port", lambda p: cut_df(p, CLOSED))
add("identification 0", lambda p: cut4(p, whole4(p), *THREE, id=0))
add(
    "two datagrams, interleaved",
    lambda p: [
        f
        for pair in zip(
            cut4(p, whole4(p), *THREE), cut4(p, whole4(p, ASKING), *THREE, id=2), strict=True
        )
        for f in pair
    ],
)
add(
    "fragments of two sources",
    lambda p: [
        *cut4(p, whole4(p), *THREE[:2]),
        *cut4("10.77.200.3", whole4("10.77.200.3"), THREE[2]),
    ],
)
add(
    "fragments of two protocols",
    lambda p: [*cut4(p, whole4(p), *THREE[:2]), *cut4(p, whole4(p), THREE[2], proto=253)],
)
add("fragments to a broadcast", lambda p: cut4(p, whole4(p), *THREE, dst="10.77.255.255"))
add("fragments, UDP checksum wrong", lambda p: cut4(p, whole4(p, chksum=1), *THREE))
add("fragments, UDP checksum 0", lambda p: cut4(p, whole4(p, chksum=0), *THREE))
add("fragments, UDP length beyond", lambda p: cut4(p, whole4(p, len=57, chksum=0), *THREE))
add("fragments, UDP length below", lambda p: cut4(p, whole4(p, len=40, chksum=0), *THREE))
add(
    "the UDP header in two fragments",
    lambda p: cut4(p, whole4(p, size=12), (0, 8, 1), (8, 12, 0)),
)
add("fragments of protocol 253", lambda p: cut4(p, letters(56), *THREE, proto=253))
add(
    "fragments with several TTLs",
    lambda p: [
        *cut4(p, whole4(p), THREE[0], ttl=9),
        *cut4(p, whole4(p), THREE[1], ttl=7),
        *cut4(p, whole4(p), THREE[2], ttl=8),
    ],
)
add(
    "fragments with several TTLs, backwards",
    lambda p: [
        *cut4(p, whole4(p), THREE[2], ttl=9),
        *cut4(p, whole4(p), THREE[1], ttl=7),
        *cut4(p, whole4(p), THREE[0], ttl=8),
    ],
)
for first in range(4):
    for second in range(first, 4):
        add(
            f"fragments with ECN {first} and {second}",
            lambda p, a=first, b=second: [
                *cut4(p, whole4(p), (0, 32, 1), tos=a),
                *cut4(p, whole4(p), (32, 56, 0), tos=b),
            ],
        )
add(
    "fragments with two types of service",
    lambda p: [
        *cut4(p, whole4(p), (0, 32, 1), tos=0x20),
        *cut4(p, whole4(p), (32, 56, 0), tos=0x40),
    ],
)
add(
    "a fragment with an option",
    lambda p: [
        with_options(p, b"\1\1\1\1", whole4(p)[:32], id=1, flags="MF"),
        *cut4(p, whole4(p), (32, 56, 0)),
    ],
)
add(
    "a fragment with a malformed option",
    lambda p: [
        with_options(p, b"\x9e\0\0\0", whole4(p)[:32], id=1, flags="MF"),
        *cut4(p, whole4(p), (32, 56, 0)),
    ],
)
add(
    "a later fragment with a malformed option",
    lambda p: [
        *cut4(p, whole4(p), (0, 32, 1)),
        with_options(p, b"\x9e\0\0\0", whole4(p)[32:], id=1, frag=4),
    ],
)
add(
    "a fragment with a wrong header checksum",
    lambda p: cut4(p, whole4(p), *THREE[:2]) + cut4(p, whole4(p), THREE[2], chksum=1),
)


def ending(offset):
    return [(offset, offset + 48, 0)]


def cut_df(peer, dport=OPEN):
    return [changed_flags(frame) for frame in cut4(peer, whole4(peer, dport), *THREE)]


def changed_flags(frame):
    again = IP(bytes(frame))
    del again.chksum
    again.flags |= "DF"
    return again
