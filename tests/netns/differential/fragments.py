"""Fragments in every order, twice, overlapping, and with what they may not have."""

from itertools import permutations

from scapy.layers.inet import IP

from differential.frames import (
    ASKING,
    CLOSED,
    CONNECTED,
    Kinds,
    cut4,
    cut6,
    fragment_header,
    icmp6,
    ip6,
    letters,
    options,
    routing,
    tlv,
    whole4,
    whole6,
)
from differential.kinds4 import with_options

KINDS4, KINDS6 = Kinds(4), Kinds(6)
SIDES = ((KINDS4, cut4, whole4, "10.77.200.3"), (KINDS6, cut6, whole6, "fd77::ca"))
HOP, ROUTING, FRAGMENT, DESTINATION = 0, 43, 44, 60

# --- parts (first, last, more) of a datagram of 56 octets, which arrive in this order

A, B, C = THREE = ((0, 16, 1), (16, 40, 1), (40, 56, 0))
EIGHTS = tuple((i, i + 8, int(i < 48)) for i in range(0, 56, 8))
PARTS = {
    **{f"in the order {order}": [THREE[i] for i in order] for order in permutations(range(3))},
    "of 8 octets": EIGHTS,
    "of 8 octets, backwards": EIGHTS[::-1],
    "the first alone": [A],
    "the last alone": [C],
    "the middle is missing": [A, C],
    "the first twice": [A, A, B, C],
    "the middle twice": [A, B, B, C],
    "the last twice": [C, C, A, B],
    "the middle twice, first of all": [B, B, A, C],
    "the datagram twice": [*THREE, *THREE],
    "one after the datagram": [*THREE, A],
    "overlap at the end": [(0, 24, 1), B, C],
    "overlap at the beginning": [B, (0, 24, 1), C],
    "one within another": [(0, 40, 1), (8, 16, 1), C],
    "one within two": [A, B, (8, 24, 1), C],
    "one within two that came backwards": [B, A, (8, 24, 1), C],
    "one around another": [(8, 16, 1), (0, 40, 1), C],
    "the beginning again": [(0, 40, 1), A, C],
    "the first again and longer": [A, (0, 40, 1), C],
    "the end again": [(0, 40, 1), (24, 40, 1), C],
    "the last again and earlier": [C, (32, 56, 0), A, B],
    "overlap, then the datagram anew": [(0, 24, 1), B, *THREE],
    "overlap after all came": [*THREE, (8, 24, 1)],
    "two lasts": [C, (40, 48, 0), A, B],
    "two lasts, the second longer": [(40, 48, 0), C, A, B],
    "one behind the last": [(40, 48, 0), (48, 56, 1), A, B],
    "the last before what there is": [(32, 56, 1), (0, 16, 0), (16, 32, 1)],
    "a length of no multiple of 8": [(0, 20, 1), (16, 56, 0)],
    "a length of no multiple of 8, then a gap": [(0, 20, 1), (24, 56, 0)],
    "a first of 4 octets": [(0, 4, 1), (0, 56, 0)],
    "an empty one": [(0, 0, 1), *THREE],
    "an empty last one": [(0, 56, 1), (56, 56, 0)],
    "an empty one in the middle": [A, (16, 16, 1), B, C],
    "atomic": [(0, 56, 0)],
    "atomic among them": [A, (0, 56, 0), B, C],
}
LARGE = {4: (1480, 65_515), 6: (1448, 65_535)}  # octets of a fragment, of all


def cut_at(step, size):
    return [(i, min(i + step, size), int(i + step < size)) for i in range(0, size, step)]


for kinds, cut, whole, other in SIDES:
    for text, parts in PARTS.items():
        kinds.add(f"fragments: {text}", lambda p, c=cut, w=whole, t=parts: c(p, w(p), *t))
    step, largest = LARGE[kinds.version]
    for size in (4000, largest):
        kinds.add(
            f"a datagram of {size} octets",
            lambda p, c=cut, w=whole, n=size, s=step: c(p, w(p, size=n), *cut_at(s, n)),
        )
    for text, dport in (("closed port", CLOSED), ("connected socket", CONNECTED)):
        kinds.add(
            f"fragments to the {text}",
            lambda p, c=cut, w=whole, d=dport: c(p, w(p, d), *THREE),
        )
        kinds.add(
            f"fragments to the {text}, the last first",
            lambda p, c=cut, w=whole, d=dport: c(p, w(p, d), C, A, B),
        )
    for text, fields in {
        "UDP checksum wrong": {"chksum": 1},
        "UDP checksum 0": {"chksum": 0},
        "UDP length beyond": {"len": 57, "chksum": 0},
        "UDP length below": {"len": 40, "chksum": 0},
        "of 24 octets": {"size": 24},
    }.items():
        kinds.add(
            f"fragments: {text}",
            lambda p, c=cut, w=whole, f=fields: c(p, w(p, **f), A, (16, 56, 0)),
        )
    kinds.add(
        "fragments: a repetition with other octets",
        lambda p, c=cut, w=whole: [*c(p, w(p), A), *c(p, bytes(56), A), *c(p, w(p), B, C)],
    )
    kinds.add(
        "fragments of two datagrams, interleaved",
        lambda p, c=cut, w=whole: [
            *c(p, w(p), A),
            *c(p, w(p, ASKING), A, id=2),
            *c(p, w(p), C, B),
            *c(p, w(p, ASKING), B, C, id=2),
        ],
    )
    kinds.add(
        "fragments of two sources",
        lambda p, c=cut, w=whole, o=other: [*c(p, w(p), A, B), *c(o, w(o), C)],
    )
    kinds.add("fragments: identification 0", lambda p, c=cut, w=whole: c(p, w(p), *THREE, id=0))

# --- fields that differ among them


def each4(peer, **fields):
    """Three fragments, each with its own value of a field."""
    (name, values), *_none = fields.items()
    parts = zip(values, THREE, strict=True)
    return [f for value, part in parts for f in cut4(peer, whole4(peer), part, **{name: value})]


def each6(peer, **fields):
    (name, values), *_none = fields.items()
    parts = zip(values, THREE, strict=True)
    return [f for value, part in parts for f in cut6(peer, whole6(peer), part, **{name: value})]


for first in range(4):
    for second in range(first, 4):
        ecn = (first, first, second)
        KINDS4.add(f"fragments with ECN {first} and {second}", lambda p, e=ecn: each4(p, tos=e))
        KINDS6.add(f"fragments with ECN {first} and {second}", lambda p, e=ecn: each6(p, tc=e))
for text, order in (("", 1), (", backwards", -1)):
    KINDS4.add(
        f"fragments with three TTLs{text}", lambda p, o=order: each4(p, ttl=(9, 7, 8))[::o]
    )
    KINDS6.add(
        f"fragments with three hop limits{text}",
        lambda p, o=order: each6(p, hlim=(9, 7, 8))[::o],
    )
KINDS4.add("fragments, types of service", lambda p: each4(p, tos=(0x20, 0x40, 0x60)))
KINDS6.add("fragments, traffic classes", lambda p: each6(p, tc=(0x20, 0x40, 0x60)))
KINDS4.add("fragments of two protocols", lambda p: each4(p, proto=(17, 17, 253)))
KINDS6.add("fragments, two next headers", lambda p: each6(p, nh=(17, 17, 253)))
KINDS4.add("fragments of protocol 253", lambda p: cut4(p, letters(56), *THREE, proto=253))
KINDS6.add("fragments of next header 253", lambda p: cut6(p, letters(56), *THREE, nh=253))
KINDS4.add(
    "fragments to a broadcast", lambda p: cut4(p, whole4(p), *THREE, dst="10.77.255.255")
)
KINDS6.add("fragments to all nodes", lambda p: cut6(p, whole6(p), *THREE, dst="ff02::1"))

# --- IPv4 alone


def with_df(frames):
    changed = [IP(bytes(frame)) for frame in frames]
    for frame in changed:
        del frame.chksum
        frame.flags |= "DF"
    return changed


def with_option(peer, octets, part):
    first, last, more = part
    fields = {"id": 1, "flags": more, "frag": first // 8}
    return with_options(peer, octets, whole4(peer)[first:last], **fields)


for text, dport in (("", 4000), (", closed port", CLOSED)):
    KINDS4.add(
        f"fragments with DF{text}",
        lambda p, d=dport: with_df(cut4(p, whole4(p, d), *THREE)),
    )
KINDS4.add(
    "fragments beyond 65535 octets",
    lambda p: cut4(p, whole4(p), A) + cut4(p, bytes(65_600), (65_528, 65_576, 0)),
)
KINDS4.add(
    "fragments up to 65535 octets and no more",
    lambda p: cut4(p, letters(65_515), (65_504, 65_515, 0), A),
)
KINDS4.add(
    "fragments: the first has an option",
    lambda p: [with_option(p, b"\1\1\1\1", A), *cut4(p, whole4(p), B, C)],
)
KINDS4.add(
    "fragments: the first has a malformed option",
    lambda p: [with_option(p, b"\x9e\0\0\0", A), *cut4(p, whole4(p), B, C)],
)
KINDS4.add(
    "fragments: the last has a malformed option",
    lambda p: [*cut4(p, whole4(p), A, B), with_option(p, b"\x9e\0\0\0", C)],
)
KINDS4.add(
    "fragments: the last has a wrong header checksum",
    lambda p: cut4(p, whole4(p), A, B) + cut4(p, whole4(p), C, chksum=1),
)

# --- IPv6 alone


def headed(peer, nh, headers, payload):
    """Fragments with headers in front of the fragment header."""
    return [
        ip6(peer, nh=nh) / (headers + fragment_header(17, first, more, 1) + payload[first:last])
        for first, last, more in THREE
    ]


def inner(peer, headers, nh=DESTINATION, first=32):
    """Two fragments with headers behind the fragment header."""
    payload = headers + whole6(peer)
    return cut6(peer, payload, (0, first, 1), (first, len(payload), 0), nh=nh)


def lone(peer, octets, **fields):
    return ip6(peer, nh=FRAGMENT, **fields) / octets


REPORTED = options(17, tlv(0x9E))
ALONE6 = {
    "atomic, closed port": lambda p: cut6(p, whole6(p, CLOSED), (0, 56, 0)),
    "atomic, reserved bits": lambda p: lone(p, fragment_header(17, 0, 0, 1, 6) + whole6(p)),
    "atomic twice": lambda p: lone(
        p, fragment_header(44, 0, 0, 1) + fragment_header(17, 0, 0, 1) + whole6(p)
    ),
    "beyond 65535 octets": lambda p: lone(p, fragment_header(17, 65_528, 0, 1) + bytes(48)),
    "the header cut short": lambda p: lone(p, b"\x11\0\0\1"),
    "payload length 0": lambda p: lone(p, b"", plen=0),
    "after hop-by-hop": lambda p: headed(p, HOP, options(44), whole6(p)),
    "after destination": lambda p: headed(p, DESTINATION, options(44), whole6(p)),
    "after hop-by-hop, closed port": lambda p: headed(p, HOP, options(44), whole6(p, CLOSED)),
    "after an option to be reported": lambda p: headed(
        p, DESTINATION, options(44, tlv(0x9E)), whole6(p)
    ),
    "with a destination header": lambda p: inner(p, options(17)),
    "with an option to be reported": lambda p: inner(p, REPORTED),
    "with a routing header, 1 left": lambda p: inner(p, routing(17, 0, 1), ROUTING),
    "a chain that is cut (RFC 7112)": lambda p: inner(
        p, options(DESTINATION) + options(17), first=8
    ),
    "a chain that ends before UDP (RFC 7112)": lambda p: inner(p, options(17), first=8),
    "a header across two (RFC 7112)": lambda p: inner(
        p, options(17, tlv(0x1E, bytes(20))), first=16
    ),
    "of ICMPv6 with a short first": lambda p: cut6(
        p, bytes(icmp6(p, 128, 0, letters(60)))[40:], (0, 8, 1), (8, 64, 0), nh=58
    ),
    "in fragments": lambda p: cut6(
        p, fragment_header(17, 0, 1, 2) + whole6(p), (0, 32, 1), (32, 64, 0), nh=44
    ),
}
for text, make in ALONE6.items():
    KINDS6.add(f"fragments: {text}", make)
