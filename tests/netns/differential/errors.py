"""ICMP and ICMPv6 errors that quote what we have sent, or claim to."""

from scapy.layers.inet import ICMP, IP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Raw

from differential.frames import (
    ASKING,
    CLOSED,
    CONNECTED,
    OPEN,
    PORT,
    US4,
    US6,
    Kinds,
    cut4,
    cut6,
    error4,
    error6,
    fragment_header,
    icmp6,
    ip4,
    ip6,
    options,
    ours4,
    ours6,
    routing,
    udp,
)

KINDS4, KINDS6 = Kinds(4), Kinds(6)
DESTINATION, HOP, ROUTING, FRAGMENT = 60, 0, 43, 44


def both(name, make4, make6):
    KINDS4.add(name, make4)
    KINDS6.add(name, make6)


# --- types, codes and what comes with them

for code in {*range(17)} - {4}:
    KINDS4.add(f"unreachable, code {code}", lambda p, c=code: error4(p, 3, c))
for code in range(8):
    KINDS6.add(f"unreachable, code {code}", lambda p, c=code: error6(p, 1, c))
for code in (0, 1, 2):
    both(
        f"time exceeded, code {code}",
        lambda p, c=code: error4(p, 11, c),
        lambda p, c=code: error6(p, 3, c),
    )
for code, pointer in ((0, 0), (0, 9), (0, 20), (1, 0), (2, 0), (3, 0)):
    both(
        f"parameter problem, code {code}, pointer {pointer}",
        lambda p, c=code, n=pointer: error4(p, 12, c, ptr=n),
        lambda p, c=code, n=pointer: error6(p, 4, c, 2 * n),
    )
for code in range(5):
    KINDS4.add(f"redirect, code {code}", lambda p, c=code: error4(p, 5, c, gw="10.77.9.9"))
KINDS4.add("source quench", lambda p: error4(p, 4, 0))
KINDS6.add("an unknown error", lambda p: error6(p, 50, 0))


def too_big4(peer, mtu, **how):
    return error4(peer, 3, 4, nexthopmtu=mtu, **how)


def too_big6(peer, mtu, **how):
    return error6(peer, 2, 0, mtu, **how)


for mtu in (0, 1, 67, 68, 500, 551, 552, 576, 1000, 1280, 1499, 1500, 1501, 9000, 65535):
    KINDS4.add(f"fragmentation needed, MTU {mtu}", lambda p, n=mtu: too_big4(p, n))
for mtu in (0, 68, 1000, 1279, 1280, 1281, 1400, 1499, 1500, 1501, 9000, 70_000):
    KINDS6.add(f"packet too big, MTU {mtu}", lambda p, n=mtu: too_big6(p, n))
for length in (60, 1006, 1300, 1500):
    KINDS4.add(
        f"fragmentation needed, MTU 0, a packet of {length}",
        lambda p, n=length: too_big4(p, 0, quote=quote4(len=n)),
    )
KINDS4.add(
    "fragmentation needed, MTU above the packet",
    lambda p: too_big4(p, 1400, quote=quote4(len=1300)),
)
for text, first, second in (
    ("larger", 1300, 1400),
    ("smaller", 1400, 1300),
    ("absurd", 1300, 68),
):
    both(
        f"too big twice, the second {text}",
        lambda p, a=first, b=second: too_big4(p, a) + too_big4(p, b),
        lambda p, a=first, b=second: too_big6(p, a) + too_big6(p, b),
    )
KINDS6.add("packet too big with code 1", lambda p: error6(p, 2, 1, 1400))

# --- what they quote


def quote4(**fields):
    return lambda peer, port: ours4(peer, port, **fields)


def quote6(**fields):
    return lambda peer, port: ours6(peer, port, **fields)


def fragment4(offset):
    def make(peer, port):
        header = IP(src=US4, dst=peer, id=7, flags="MF", frag=offset, proto=17)
        return header / UDP(sport=port, dport=PORT)

    return make


def headers6(nh, *headers):
    def make(peer, port):
        datagram = bytes(UDP(sport=port, dport=PORT))
        return IPv6(src=US6, dst=peer, nh=nh) / (b"".join(headers) + datagram)

    return make


def options4(peer, port):
    datagram = UDP(sport=port, dport=PORT)
    return Raw(bytes(IP(src=US4, dst=peer, ihl=6, proto=17, len=46) / b"\1\1\1\1" / datagram))


def from_to4(source=US4, destination=None, sport=None, dport=PORT):
    def make(peer, port):
        header = IP(src=source or peer, dst=destination or peer, id=0, flags="DF")
        return header / UDP(sport=sport or port, dport=dport)

    return make


def from_to6(source=US6, destination=None, sport=None, dport=PORT):
    def make(peer, port):
        header = IPv6(src=source or peer, dst=destination or peer)
        return header / UDP(sport=sport or port, dport=dport)

    return make


QUOTES4 = {
    "a header of 16 octets": quote4(ihl=4),
    "version 5": quote4(version=5),
    "a header longer than it": quote4(ihl=15),
    "options": options4,
    "a wrong header checksum": quote4(chksum=1),
    "a TTL of 0": quote4(ttl=0),
    "the first fragment": fragment4(0),
    "a later fragment": fragment4(10),
    "TCP": quote4(proto=6),
    "protocol 253": quote4(proto=253),
    "an echo": lambda peer, _port: IP(src=US4, dst=peer) / ICMP(),
    "another's packet": from_to4(source="", destination=US4),
    "a packet to another host": from_to4(destination="10.77.200.2"),
    "a packet to another port": from_to4(dport=9),
    "a packet from a closed port": from_to4(sport=CLOSED),
    "a packet from the open port": from_to4(sport=OPEN),
    "a packet from a broadcast": from_to4(source="255.255.255.255"),
    "a packet to a broadcast": from_to4(destination="255.255.255.255"),
}
QUOTES6 = {
    "version 5": quote6(version=5),
    "TCP": quote6(nh=6),
    "no next header": quote6(nh=59),
    "an echo": lambda peer, _port: (
        IPv6(src=US6, dst=peer, nh=58) / (bytes((128, 0, 0, 0)) + bytes(4))
    ),
    "a destination header": headers6(DESTINATION, options(17)),
    "hop-by-hop and destination": headers6(HOP, options(DESTINATION), options(17)),
    "a routing header": headers6(ROUTING, routing(17, 0, 0)),
    "an atomic fragment": headers6(FRAGMENT, fragment_header(17, 0, 0, 1)),
    "the first fragment": headers6(FRAGMENT, fragment_header(17, 0, 1, 1)),
    "a later fragment": headers6(FRAGMENT, fragment_header(17, 80, 1, 1)),
    "a header without its end": headers6(DESTINATION, bytes((17, 200))),
    "another's packet": from_to6(source="", destination=US6),
    "a packet to another host": from_to6(destination="fd77::c9"),
    "a packet to another port": from_to6(dport=9),
    "a packet from a closed port": from_to6(sport=CLOSED),
    "a packet from the open port": from_to6(sport=OPEN),
    "a packet to a group": from_to6(destination="ff02::1"),
}
for text, quoted in QUOTES4.items():
    KINDS4.add(f"error quotes {text}", lambda p, q=quoted: error4(p, 3, 3, quote=q))
    KINDS4.add(f"too big quotes {text}", lambda p, q=quoted: too_big4(p, 1000, quote=q))
for text, quoted in QUOTES6.items():
    KINDS6.add(f"error quotes {text}", lambda p, q=quoted: error6(p, 1, 4, quote=q))
    KINDS6.add(f"too big quotes {text}", lambda p, q=quoted: too_big6(p, 1400, quote=q))
for size in (0, 19, 20, 27, 28, 29):
    KINDS4.add(f"error quotes {size} octets", lambda p, n=size: error4(p, 3, 3, n))
for size in (0, 39, 40, 47, 48, 49):
    KINDS6.add(f"error quotes {size} octets", lambda p, n=size: error6(p, 1, 4, cut=n))

# --- how they come


def changed_source(frame, source):
    again = IP(bytes(frame))
    del again.chksum
    again.src = source
    return again


def wrong(frames):
    again = bytearray(bytes(frames[0]))
    again[42] ^= 1
    return [bytes(again)]


def from_router(peer):
    quoted = bytes(ours6(peer, CONNECTED) / b"what we said")
    return icmp6("2001:db8:9::9", 1, 3, bytes(4) + quoted)


def then_datagrams(frames, header):
    return [*frames, header / udp(CONNECTED), header / udp(ASKING)]


both(
    "error with a wrong checksum",
    lambda p: error4(p, 3, 3, chksum=1),
    lambda p: wrong(error6(p, 1, 4)),
)
both(
    "error from another router",
    lambda p: [changed_source(f, "198.51.100.9") for f in error4(p, 3, 1)],
    from_router,
)
KINDS4.add("error from us", lambda p: [changed_source(f, US4) for f in error4(p, 3, 3)])
KINDS4.add(
    "error to a broadcast",
    lambda p: ip4(p, "10.77.255.255") / ICMP(type=3, code=3) / ours4(p, CONNECTED),
)
KINDS6.add(
    "error to all nodes",
    lambda p: icmp6(p, 1, 4, bytes(4) + bytes(ours6(p, CONNECTED)), "ff02::1"),
)
both(
    "error in fragments",
    lambda p: cut4(p, bytes(error4(p, 3, 3)[0])[20:], (0, 24, 1), (24, 99, 0), proto=1),
    lambda p: cut6(p, bytes(error6(p, 1, 4)[0])[40:], (0, 24, 1), (24, 99, 0), nh=58),
)
both(
    "two errors for one socket",
    lambda p: error4(p, 3, 3) + error4(p, 3, 10),
    lambda p: error6(p, 1, 4) + error6(p, 1, 1),
)
both(
    "error, then a datagram",
    lambda p: then_datagrams(error4(p, 3, 3), ip4(p)),
    lambda p: then_datagrams(error6(p, 1, 4), ip6(p)),
)
both(
    "soft error, then a datagram",
    lambda p: then_datagrams(error4(p, 3, 1), ip4(p)),
    lambda p: then_datagrams(error6(p, 1, 0), ip6(p)),
)
