"""The kinds of IPv6 frames."""

from itertools import permutations

from scapy.layers.inet import UDP
from scapy.layers.inet6 import IPv6

from differential.frames import (
    ASKING,
    CLOSED,
    CONNECTED,
    HELLO,
    OPEN,
    PORT,
    US6,
    Kinds,
    chain,
    cut6,
    error6,
    fragment_header,
    icmp6,
    ip6,
    letters,
    options,
    ours6,
    raw_options,
    routing,
    tlv,
    udp,
    udp6,
    whole6,
)

KINDS = Kinds(6)
add = KINDS.add
HOP, ROUTING, FRAGMENT, NONE, DEST = 0, 43, 44, 59, 60

# --- UDP and who gets it

add("a datagram", lambda p: ip6(p) / udp())
add("an empty datagram", lambda p: ip6(p) / udp(payload=b""))
add("a datagram of 1452 octets", lambda p: ip6(p) / udp(payload=letters(1452)))
add("from the peer of a connected socket", lambda p: ip6(p) / udp(CONNECTED))
add("from another port of that peer", lambda p: ip6(p) / udp(CONNECTED, sport=9))
add("from another host to a connected socket", lambda p: ip6("fd77::c8") / udp(CONNECTED))
add("to a closed port", lambda p: ip6(p) / udp(CLOSED))
add("to a closed port, 1452 octets", lambda p: ip6(p) / udp(CLOSED, letters(1452)))
add("to port 0", lambda p: ip6(p) / udp(0))
add("from port 0", lambda p: ip6(p) / udp(sport=0))
add("UDP checksum 0", lambda p: ip6(p) / udp(chksum=0))
add("UDP checksum 0, closed port", lambda p: ip6(p) / udp(CLOSED, chksum=0))
add("UDP checksum wrong", lambda p: ip6(p) / udp(chksum=0x1234))
add("UDP checksum wrong, closed port", lambda p: ip6(p) / udp(CLOSED, chksum=0x1234))
for length in (0, 7, 12, 14, 0xFFFF):
    add(f"UDP length {length}", lambda p, n=length: ip6(p, nh=17) / udp6(p, len=n))
add("UDP length 12, closed port", lambda p: ip6(p, nh=17) / udp6(p, CLOSED, len=12))
for length in (0, 4, 7):
    add(f"UDP cut after {length} octets", lambda p, n=length: ip6(p, nh=17) / b"12345678"[:n])

# --- the header

for length in (1, 39, 40):
    add(f"{length} octets", lambda p, n=length: bytes(ip6(p) / udp())[:n])
for version in (0, 4, 5, 7):
    add(f"version {version}", lambda p, n=version: ip6(p, version=n) / udp())
add("payload length one too many", lambda p: ip6(p, plen=14) / udp())
add("payload length 65535", lambda p: ip6(p, plen=65535) / udp())
add("payload length 0", lambda p: ip6(p, plen=0) / udp())
add("payload length 8", lambda p: ip6(p, plen=8) / udp())
add("octets behind the packet", lambda p: bytes(ip6(p) / udp()) + b"padding")
add("octets behind, closed port", lambda p: bytes(ip6(p) / udp(CLOSED)) + b"padding")
for hlim in (0, 1, 255):
    add(f"hop limit {hlim}", lambda p, n=hlim: ip6(p, hlim=n) / udp())
add("hop limit 0, closed port", lambda p: ip6(p, hlim=0) / udp(CLOSED))
for tc in (0x10, 0x03, 0xFF):
    add(f"traffic class {tc:#x}", lambda p, n=tc: ip6(p, tc=n) / udp())
    add(f"traffic class {tc:#x}, closed port", lambda p, n=tc: ip6(p, tc=n) / udp(CLOSED))
add("a flow label", lambda p: ip6(p, fl=0x12345) / udp())
add("a flow label, closed port", lambda p: ip6(p, fl=0x12345) / udp(CLOSED))
for nh in (1, 6, 59, 139, 140, 200, 253, 254, 255):
    add(f"next header {nh}", lambda p, n=nh: ip6(p, nh=n) / bytes(range(24)))
add("next header 253, empty", lambda p: ip6(p, nh=253))
add("next header 253, 1460 octets", lambda p: ip6(p, nh=253) / letters(1460))

for text, src in {
    "unspecified": "::",
    "loopback": "::1",
    "a group": "ff02::1",
    "an IPv4-mapped address": "::ffff:192.0.2.1",
    "an IPv4-compatible address": "::192.0.2.1",
    "us": US6,
    "link-local": "fe80::9",
    "the subnet router": "fd77::",
    "beyond the link": "2001:db8:9::7",
}.items():
    add(f"from {text}", lambda p, s=src: ip6(s) / udp())
    add(f"from {text}, closed port", lambda p, s=src: ip6(s) / udp(CLOSED))
    add(f"echo from {text}", lambda p, s=src: icmp6(s, 128, 0, b"\0\7\0\1hello"))

for text, dst in {
    "unspecified": "::",
    "loopback": "::1",
    "all nodes": "ff02::1",
    "all routers": "ff02::2",
    "interface-local nodes": "ff01::1",
    "a group of scope 0": "ff00::1",
    "a global group": "ff0e::77",
    "another host": "fd77::9",
    "beyond the link": "2001:db8:9::7",
    "an IPv4-mapped address": "::ffff:192.0.2.1",
    "the subnet router": "fd77::",
}.items():
    add(f"to {text}", lambda p, d=dst: ip6(p, d) / udp())
    add(f"to {text}, closed port", lambda p, d=dst: ip6(p, d) / udp(CLOSED))
    add(f"echo to {text}", lambda p, d=dst: icmp6(p, 128, 0, b"\0\7\0\1hello", d))

# --- options: the same in both headers that have some

RA = tlv(5, b"\0\0")
TLVS = {
    "PadN alone": [],
    "Pad1": [b"\0"],
    "router alert": [RA],
    "router alert of 3 octets": [tlv(5, b"\0\0\0")],
    "unknown, to be skipped": [tlv(0x1E, b"ab")],
    "unknown, to be discarded": [tlv(0x5E, b"ab")],
    "unknown, to be reported": [tlv(0x9E, b"ab")],
    "unknown, to be reported unless multicast": [tlv(0xDE, b"ab")],
    "skipped, then reported": [tlv(0x1E, b"ab"), tlv(0x9E, b"ab")],
    "tunnel limit": [tlv(4, b"\4")],
    "quick start": [tlv(0x26, bytes(6))],
    "jumbo payload": [tlv(0xC2, (70_000).to_bytes(4, "big"))],
    "jumbo payload below 65536": [tlv(0xC2, (100).to_bytes(4, "big"))],
    "jumbo payload of 3 octets": [tlv(0xC2, b"\0\1\0")],
    "jumbo payload, not aligned": [b"\0\0", tlv(0xC2, (70_000).to_bytes(4, "big"))],
    "8 options": [tlv(0x1E)] * 8,
    "9 options": [tlv(0x1E)] * 9,
    "8 options and pads": [tlv(0x1E), b"\0"] * 8,
}
RAW = {
    "Pad1 six times": bytes(6),
    "Pad1 seven times": bytes(7) + b"\x1e\5" + bytes(5),
    "Pad1 eight times": bytes(8) + b"\x1e\4" + bytes(4),
    "PadN of 7 octets": b"\1\5" + bytes(5) + b"\x1e\5" + bytes(5),
    "PadN of 8 octets": b"\1\6" + bytes(6) + b"\x1e\4" + bytes(4),
    "PadN then Pad1, 8 octets": b"\1\5" + bytes(5) + b"\0" + b"\x1e\4" + bytes(4),
    "PadN that is not zero": b"\1\4\0\0\0\1",
    "PadN that overruns": b"\1\5\0\0\0\0",
    "an option that overruns": b"\x1e\5\0\0\0\0",
    "a type without a length": b"\1\3\0\0\0\x1e",
    "pads between options": b"\0\0\x1e\0\0\0" + b"\0\0\x1e\0\0\0\0\0",
}
for where, nh in (("hop-by-hop", HOP), ("destination", DEST)):
    for text, tlvs in TLVS.items():
        add(f"{where}: {text}", lambda p, n=nh, t=tlvs: chain(p, n, options(17, *t)))
    for text, data in RAW.items():
        add(f"{where}: {text}", lambda p, n=nh, d=data: chain(p, n, raw_options(17, d)))
    for text in ("unknown, to be reported", "unknown, to be reported unless multicast"):
        add(
            f"{where}: {text}, to all nodes",
            lambda p, n=nh, t=TLVS[text]: chain(p, n, options(17, *t), dst="ff02::1"),
        )
    add(f"{where}: to a closed port", lambda p, n=nh: chain(p, n, options(17), dport=CLOSED))
    add(
        f"{where}: longer than the packet",
        lambda p, n=nh: ip6(p, nh=n) / bytes((17, 9, 1, 4, 0, 0, 0, 0)),
    )
    add(f"{where}: 4 octets", lambda p, n=nh: ip6(p, nh=n) / b"\x11\0\1\2")
    add(f"{where}: nothing", lambda p, n=nh: ip6(p, nh=n))
    add(
        f"{where}: 64 octets of an option",
        lambda p, n=nh: chain(p, n, options(17, tlv(0x1E, bytes(60)))),
    )
add("jumbogram", lambda p: jumbogram(p, 70_000))
add("jumbogram as long as a packet may be", lambda p: jumbogram(p, 21))
add("hop-by-hop and payload length 0", lambda p: chain(p, HOP, options(17), plen=0))


def jumbogram(peer, length):
    option = options(17, tlv(0xC2, length.to_bytes(4, "big")))
    return chain(peer, HOP, option, plen=0)


# --- the chain

add("hop-by-hop, destination", lambda p: chain(p, HOP, options(DEST), options(17)))
add("hop-by-hop twice", lambda p: chain(p, HOP, options(HOP), options(17)))
add("hop-by-hop after destination", lambda p: chain(p, DEST, options(HOP), options(17)))
add("destination twice", lambda p: chain(p, DEST, options(DEST), options(17)))
add("destination 8 times", lambda p: chain(p, DEST, *[options(DEST)] * 7, options(17)))
add("destination 20 times", lambda p: chain(p, DEST, *[options(DEST)] * 19, options(17)))
add(
    "every header",
    lambda p: chain(
        p,
        HOP,
        options(DEST),
        options(ROUTING),
        routing(FRAGMENT, 0, 0),
        fragment_header(DEST, 0, 0, 1),
        options(17),
    ),
)
add(
    "every header, closed port",
    lambda p: chain(
        p,
        HOP,
        options(DEST),
        options(ROUTING),
        routing(FRAGMENT, 0, 0),
        fragment_header(DEST, 0, 0, 1),
        options(17),
        dport=CLOSED,
    ),
)
for type_ in (0, 1, 3, 4, 5, 253):  # kernels differ in type 2 (CONFIG_IPV6_MIP6)
    for left in (0, 1):
        add(
            f"routing header of type {type_}, {left} left",
            lambda p, t=type_, n=left: chain(p, ROUTING, routing(17, t, n, bytes(15) + b"\7")),
        )
add(
    "routing header, more left than there are",
    lambda p: chain(p, ROUTING, routing(17, 0, 9, bytes(16))),
)
add("routing header, odd length", lambda p: chain(p, ROUTING, routing(17, 0, 1, bytes(8))))
add(
    "routing header longer than the packet",
    lambda p: ip6(p, nh=ROUTING) / routing(17, 0, 0, length=9),
)
add(
    "routing header, closed port",
    lambda p: chain(p, ROUTING, routing(17, 0, 0, bytes(16)), dport=CLOSED),
)
add(
    "routing header after destination, 1 left",
    lambda p: chain(p, DEST, options(ROUTING), routing(17, 0, 1, bytes(16))),
)
add(
    "routing header to all nodes",
    lambda p: chain(p, ROUTING, routing(17, 0, 1, bytes(16)), dst="ff02::1"),
)
for nh in (6, 59, 139, 200, 253):
    add(
        f"hop-by-hop, next header {nh}",
        lambda p, n=nh: ip6(p, nh=HOP) / (options(n) + bytes(range(24))),
    )
    add(
        f"destination, next header {nh}",
        lambda p, n=nh: ip6(p, nh=DEST) / (options(n) + bytes(range(24))),
    )
add("no next header after destination", lambda p: ip6(p, nh=DEST) / options(NONE))
add(
    "destination, reported at the second",
    lambda p: chain(p, DEST, options(DEST), options(17, tlv(0x9E, b"ab"))),
)
add("echo after hop-by-hop", lambda p: after(p, HOP, options(58), echo(p)))
add("echo after destination", lambda p: after(p, DEST, options(58, RA), echo(p)))
add(
    "ICMPv6 checksum wrong after destination",
    lambda p: after(p, DEST, options(58), bytes((128, 0, 1, 2)) + bytes(4)),
)


def after(peer, nh, headers, payload):
    return ip6(peer, nh=nh) / (headers + payload)


def echo(peer, size=5):
    return bytes(icmp6(peer, 128, 0, b"\0\7\0\1" + letters(size)))[40:]


# --- ICMPv6 that is no error

for size in (0, 1, 56, 1452):
    add(f"echo of {size} octets", lambda p, n=size: icmp6(p, 128, 0, b"\0\7\0\1" + letters(n)))
add("echo with code 1", lambda p: icmp6(p, 128, 1, b"\0\7\0\1hello"))
add("echo, traffic class", lambda p: icmp6(p, 128, 0, b"\0\7\0\1hello", tc=0xB9))
add("echo, a flow label", lambda p: icmp6(p, 128, 0, b"\0\7\0\1hello", fl=0x12345))
add("echo, hop limit 1", lambda p: icmp6(p, 128, 0, b"\0\7\0\1hello", hlim=1))
add("echo, checksum wrong", lambda p: ip6(p, nh=58) / (bytes((128, 0, 1, 2)) + bytes(4)))
add("echo in fragments", lambda p: cut6(p, echo(p, 56), (0, 32, 1), (32, 64, 0), nh=58))
add(
    "echo in fragments, 2000 octets",
    lambda p: cut6(p, echo(p, 2000), (0, 1400, 1), (1400, 2008, 0), nh=58),
)
for length in (0, 3, 4, 7):
    add(
        f"ICMPv6 of {length} octets",
        lambda p, n=length: (
            ip6(p, nh=58) / bytes(icmp6(p, 128, 0, bytes(max(n - 4, 0))))[40 : 40 + n]
        ),
    )
for type_ in (
    0,
    5,
    99,
    100,
    127,
    129,
    130,
    131,
    132,
    133,
    134,
    135,
    136,
    137,
    139,
    140,
    141,
    143,
    144,
    151,
    160,
    200,
    255,
):
    add(f"ICMPv6 type {type_}", lambda p, n=type_: icmp6(p, n, 0, bytes(20)))

# --- ICMPv6 errors

for code in range(8):
    add(f"unreachable, code {code}", lambda p, c=code: error6(p, 1, c))
for mtu in (0, 68, 1000, 1279, 1280, 1281, 1400, 1499, 1500, 1501, 9000, 70_000):
    add(f"packet too big, MTU {mtu}", lambda p, n=mtu: error6(p, 2, 0, n))
add(
    "packet too big twice, the second larger",
    lambda p: error6(p, 2, 0, 1300) + error6(p, 2, 0, 1400),
)
add(
    "packet too big twice, the second smaller",
    lambda p: error6(p, 2, 0, 1400) + error6(p, 2, 0, 1300),
)
add("packet too big with code 1", lambda p: error6(p, 2, 1, 1400))
for code in (0, 1, 2):
    add(f"time exceeded, code {code}", lambda p, c=code: error6(p, 3, c))
for code, pointer in ((0, 0), (0, 40), (1, 6), (2, 42), (3, 0), (4, 0)):
    add(
        f"parameter problem, code {code}, pointer {pointer}",
        lambda p, c=code, n=pointer: error6(p, 4, c, n),
    )
add("an unknown error", lambda p: error6(p, 50, 0))
for size in (0, 39, 40, 47, 48, 49):
    add(f"port unreachable quotes {size} octets", lambda p, n=size: error6(p, 1, 4, cut=n))
add("error with a wrong checksum", lambda p: wrong(error6(p, 1, 4)))
add("error quotes version 5", lambda p: error6(p, 1, 4, quote=quote(version=5)))
add("error quotes TCP", lambda p: error6(p, 1, 4, quote=quote(nh=6)))
add("error quotes no next header", lambda p: error6(p, 1, 4, quote=quote(nh=NONE)))
add(
    "error quotes an echo",
    lambda p: error6(
        p,
        1,
        0,
        quote=lambda q, port: IPv6(src=US6, dst=q, nh=58) / (bytes((128, 0, 0, 0)) + bytes(4)),
    ),
)
add(
    "error quotes a destination header",
    lambda p: error6(p, 1, 4, quote=with_headers(DEST, options(17))),
)
add(
    "error quotes hop-by-hop and destination",
    lambda p: error6(p, 1, 4, quote=with_headers(HOP, options(DEST), options(17))),
)
add(
    "error quotes a routing header",
    lambda p: error6(p, 1, 4, quote=with_headers(ROUTING, routing(17, 0, 0))),
)
add(
    "error quotes an atomic fragment",
    lambda p: error6(p, 1, 4, quote=with_headers(FRAGMENT, fragment_header(17, 0, 0, 1))),
)
add(
    "error quotes the first fragment",
    lambda p: error6(p, 1, 4, quote=with_headers(FRAGMENT, fragment_header(17, 0, 1, 1))),
)
add(
    "error quotes a later fragment",
    lambda p: error6(p, 1, 4, quote=with_headers(FRAGMENT, fragment_header(17, 80, 1, 1))),
)
add(
    "packet too big quotes a later fragment",
    lambda p: error6(
        p, 2, 0, 1400, quote=with_headers(FRAGMENT, fragment_header(17, 80, 1, 1))
    ),
)
add(
    "packet too big quotes a destination header",
    lambda p: error6(p, 2, 0, 1400, quote=with_headers(DEST, options(17))),
)
add(
    "error quotes a header without its end",
    lambda p: error6(p, 1, 4, quote=with_headers(DEST, bytes((17, 200)))),
)
add(
    "error quotes another's packet",
    lambda p: error6(
        p, 1, 4, quote=lambda q, port: IPv6(src=q, dst=US6) / UDP(sport=port, dport=PORT)
    ),
)
add(
    "error quotes a packet to another host",
    lambda p: error6(p, 1, 4, quote=lambda q, port: ours6("fd77::c9", port)),
)
add(
    "error quotes a packet to another port",
    lambda p: error6(
        p, 1, 4, quote=lambda q, port: IPv6(src=US6, dst=q) / UDP(sport=port, dport=9)
    ),
)
add(
    "error quotes a packet from a closed port",
    lambda p: error6(p, 1, 4, quote=lambda q, port: ours6(q, CLOSED)),
)
add(
    "packet too big, from a closed port",
    lambda p: error6(p, 2, 0, 1400, quote=lambda q, port: ours6(q, CLOSED)),
)
add(
    "error quotes a packet from the open port",
    lambda p: error6(p, 1, 4, quote=lambda q, port: ours6(q, OPEN)),
)
add(
    "error quotes a packet to a group",
    lambda p: error6(p, 1, 4, quote=lambda q, port: ours6("ff02::1", port)),
)
add("error from another router", lambda p: [from_router(port) for port in (p,)])
add(
    "error to all nodes",
    lambda p: icmp6(p, 1, 4, bytes(4) + bytes(ours6(p, CONNECTED)), "ff02::1"),
)
add(
    "error in fragments",
    lambda p: cut6(p, bytes(error6(p, 1, 4)[0])[40:], (0, 24, 1), (24, 99, 0), nh=58),
)
add("two errors for one socket", lambda p: error6(p, 1, 4) + error6(p, 1, 1))
add(
    "error, then a datagram",
    lambda p: [*error6(p, 1, 4), ip6(p) / udp(CONNECTED), ip6(p) / udp(ASKING)],
)
add(
    "soft error, then a datagram",
    lambda p: [*error6(p, 1, 0), ip6(p) / udp(CONNECTED), ip6(p) / udp(ASKING)],
)


def quote(**fields):
    return lambda peer, port: ours6(peer, port, **fields)


def with_headers(nh, *headers):
    def make(peer, port):
        datagram = bytes(UDP(sport=port, dport=PORT))
        return IPv6(src=US6, dst=peer, nh=nh) / (b"".join(headers) + datagram)

    return make


def wrong(frames):
    again = bytearray(bytes(frames[0]))
    again[42] ^= 1
    return [bytes(again)]


def from_router(peer):
    quoted = bytes(ours6(peer, CONNECTED) / b"what we said")
    return icmp6("2001:db8:9::9", 1, 3, bytes(4) + quoted)


# --- fragments

THREE = ((0, 16, 1), (16, 40, 1), (40, 56, 0))
for order in permutations(range(3)):
    add(
        f"fragments in the order {order}",
        lambda p, o=order: cut6(p, whole6(p), *(THREE[i] for i in o)),
    )
add("atomic fragment", lambda p: cut6(p, whole6(p), (0, 56, 0)))
add("atomic fragment, closed port", lambda p: cut6(p, whole6(p, CLOSED), (0, 56, 0)))
add(
    "atomic fragment among fragments",
    lambda p: cut6(p, whole6(p), THREE[0], (0, 56, 0), *THREE[1:]),
)
add(
    "atomic fragment, reserved bits",
    lambda p: ip6(p, nh=44) / (fragment_header(17, 0, 0, 1, reserved=6) + whole6(p)),
)
add(
    "atomic fragment twice",
    lambda p: (
        ip6(p, nh=44)
        / (fragment_header(44, 0, 0, 1) + fragment_header(17, 0, 0, 1) + whole6(p))
    ),
)
add(
    "two fragments to a closed port",
    lambda p: cut6(p, whole6(p, CLOSED), (0, 32, 1), (32, 56, 0)),
)
add(
    "two fragments to a closed port, the last first",
    lambda p: cut6(p, whole6(p, CLOSED), (32, 56, 0), (0, 32, 1)),
)
add(
    "two fragments to the connected socket",
    lambda p: cut6(p, whole6(p, CONNECTED), (0, 32, 1), (32, 56, 0)),
)
add(
    "fragments of 8 octets",
    lambda p: cut6(p, whole6(p), *((i, i + 8, int(i < 48)) for i in range(0, 56, 8))),
)
add(
    "fragments of 8 octets, backwards",
    lambda p: cut6(p, whole6(p), *reversed([(i, i + 8, int(i < 48)) for i in range(0, 56, 8)])),
)
add(
    "a datagram of 4000 octets",
    lambda p: cut6(p, whole6(p, size=4000), (0, 1448, 1), (1448, 2896, 1), (2896, 4000, 0)),
)
add(
    "a datagram of 65527 octets",
    lambda p: cut6(
        p,
        whole6(p, size=65535),
        *((i, min(i + 1448, 65535), int(i + 1448 < 65535)) for i in range(0, 65535, 1448)),
    ),
)
add("the first fragment alone", lambda p: cut6(p, whole6(p), THREE[0]))
add("the last fragment alone", lambda p: cut6(p, whole6(p), THREE[2]))
add("the middle is missing", lambda p: cut6(p, whole6(p), THREE[0], THREE[2]))
for i, text in enumerate(("first", "middle", "last")):
    add(
        f"the {text} fragment twice, at once",
        lambda p, i=i: cut6(p, whole6(p), *THREE[: i + 1], *THREE[i:]),
    )
add("a fragment after the datagram", lambda p: cut6(p, whole6(p), *THREE, THREE[0]))
add(
    "a repetition with other octets",
    lambda p: [
        *cut6(p, whole6(p), THREE[0]),
        *cut6(p, bytes(56), THREE[0]),
        *cut6(p, whole6(p), *THREE[1:]),
    ],
)
add("overlap at the end", lambda p: cut6(p, whole6(p), (0, 24, 1), (16, 40, 1), (40, 56, 0)))
add(
    "overlap at the beginning",
    lambda p: cut6(p, whole6(p), (16, 40, 1), (0, 24, 1), (40, 56, 0)),
)
add(
    "a fragment within another",
    lambda p: cut6(p, whole6(p), (0, 40, 1), (8, 16, 1), (40, 56, 0)),
)
add(
    "a fragment around another",
    lambda p: cut6(p, whole6(p), (8, 16, 1), (0, 40, 1), (40, 56, 0)),
)
add(
    "the beginning of the first again",
    lambda p: cut6(p, whole6(p), (0, 40, 1), (0, 16, 1), (40, 56, 0)),
)
add(
    "the end of the first again",
    lambda p: cut6(p, whole6(p), (0, 40, 1), (24, 40, 1), (40, 56, 0)),
)
add(
    "overlap, then the datagram anew",
    lambda p: cut6(p, whole6(p), (0, 24, 1), (16, 40, 1), *THREE),
)
add(
    "two lasts", lambda p: cut6(p, whole6(p), (40, 56, 0), (40, 48, 0), (0, 16, 1), (16, 40, 1))
)
add(
    "two lasts, the second longer",
    lambda p: cut6(p, whole6(p), (40, 48, 0), (40, 56, 0), (0, 16, 1), (16, 40, 1)),
)
add(
    "a fragment behind the last",
    lambda p: cut6(p, whole6(p), (40, 48, 0), (48, 56, 1), (0, 16, 1), (16, 40, 1)),
)
add("a length of no multiple of 8", lambda p: cut6(p, whole6(p), (0, 20, 1), (16, 56, 0)))
add("a first fragment of 4 octets", lambda p: cut6(p, whole6(p), (0, 4, 1), (0, 56, 0)))
add("an empty fragment", lambda p: cut6(p, whole6(p), (0, 0, 1), *THREE))
add("an empty last fragment", lambda p: cut6(p, whole6(p), (0, 56, 1), (56, 56, 0)))
add(
    "an empty fragment in the middle",
    lambda p: cut6(p, whole6(p), THREE[0], (16, 16, 1), *THREE[1:]),
)
add(
    "beyond 65535 octets",
    lambda p: ip6(p, nh=44) / (fragment_header(17, 65528, 0, 1) + bytes(48)),
)
add("a fragment header cut short", lambda p: ip6(p, nh=44) / b"\x11\0\0\1")
add("a fragment header and payload length 0", lambda p: ip6(p, nh=44, plen=0))
add("identification 0", lambda p: cut6(p, whole6(p), *THREE, id=0))
add(
    "two datagrams, interleaved",
    lambda p: [
        f
        for pair in zip(
            cut6(p, whole6(p), *THREE), cut6(p, whole6(p, ASKING), *THREE, id=2), strict=True
        )
        for f in pair
    ],
)
add(
    "fragments of two sources",
    lambda p: [
        *cut6(p, whole6(p), *THREE[:2]),
        *cut6("fd77::ca", whole6("fd77::ca"), THREE[2]),
    ],
)
add(
    "fragments with several next headers",
    lambda p: [*cut6(p, whole6(p), *THREE[:2]), *cut6(p, whole6(p), THREE[2], nh=253)],
)
add("fragments to all nodes", lambda p: cut6(p, whole6(p), *THREE, dst="ff02::1"))
add("fragments, UDP checksum wrong", lambda p: cut6(p, whole6(p, chksum=1), *THREE))
add("fragments, UDP checksum 0", lambda p: cut6(p, whole6(p, chksum=0), *THREE))
add(
    "the UDP header in two fragments",
    lambda p: cut6(p, whole6(p, size=24), (0, 8, 1), (8, 24, 0)),
)
add("fragments of next header 253", lambda p: cut6(p, letters(56), *THREE, nh=253))
add(
    "fragments with several hop limits",
    lambda p: [
        *cut6(p, whole6(p), THREE[0], hlim=9),
        *cut6(p, whole6(p), THREE[1], hlim=7),
        *cut6(p, whole6(p), THREE[2], hlim=8),
    ],
)
add(
    "fragments with two traffic classes",
    lambda p: [
        *cut6(p, whole6(p), (0, 32, 1), tc=0x20),
        *cut6(p, whole6(p), (32, 56, 0), tc=0x40),
    ],
)
for first in range(4):
    for second in range(first, 4):
        add(
            f"fragments with ECN {first} and {second}",
            lambda p, a=first, b=second: [
                *cut6(p, whole6(p), (0, 32, 1), tc=a),
                *cut6(p, whole6(p), (32, 56, 0), tc=b),
            ],
        )
add("fragments after hop-by-hop", lambda p: headed(p, HOP, options(44), whole6(p)))
add("fragments after destination", lambda p: headed(p, DEST, options(44), whole6(p)))
add(
    "fragments after hop-by-hop, closed port",
    lambda p: headed(p, HOP, options(44), whole6(p, CLOSED)),
)
add(
    "fragments after an option to be reported",
    lambda p: headed(p, DEST, options(44, tlv(0x9E)), whole6(p)),
)
add("fragments with a destination header", lambda p: inner(p, options(17)))
add("fragments with an option to be reported", lambda p: inner(p, options(17, tlv(0x9E))))
add("fragments with a routing header, 1 left", lambda p: inner(p, routing(17, 0, 1), 43))
add(
    "a chain that is cut (RFC 7112)",
    lambda p: inner(p, options(DEST) + options(17), parts=((0, 8, 1), (8, 72, 0))),
)
add(
    "a chain that ends before UDP's 8 octets (RFC 7112)",
    lambda p: inner(p, options(17), parts=((0, 8, 1), (8, 64, 0))),
)
add(
    "a chain with a header across fragments (RFC 7112)",
    lambda p: inner(p, options(17, tlv(0x1E, bytes(20))), parts=((0, 16, 1), (16, 80, 0))),
)
add(
    "fragments of ICMPv6 with a short first",
    lambda p: cut6(p, echo(p, 56), (0, 8, 1), (8, 64, 0), nh=58),
)
add(
    "fragments in fragments",
    lambda p: cut6(p, fragment_header(17, 0, 1, 2) + whole6(p), (0, 32, 1), (32, 64, 0), nh=44),
)


def headed(peer, nh, headers, payload):
    """Fragments with headers in front of the fragment header."""
    return [
        ip6(peer, nh=nh) / (headers + fragment_header(17, first, more, 1) + payload[first:last])
        for first, last, more in THREE
    ]


def inner(peer, headers, nh=DEST, parts=None):
    """Fragments with headers behind the fragment header."""
    payload = headers + whole6(peer)
    parts = parts or ((0, 32, 1), (32, len(payload), 0))
    return cut6(peer, payload, *parts, nh=nh)


add(
    "two fragments with one in between lost",
    lambda p: (
        cut6(p, whole6(p), (0, 16, 1), (40, 56, 0), (16, 40, 1)) + [ip6(p) / udp(payload=HELLO)]
    ),
)
