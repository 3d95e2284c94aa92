"""The kinds of IPv6 frames."""

from differential.frames import (
    CLOSED,
    CONNECTED,
    US6,
    Kinds,
    chain,
    cut6,
    fragment_header,
    icmp6,
    ip6,
    letters,
    options,
    raw_options,
    routing,
    tlv,
    udp,
    udp6,
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
