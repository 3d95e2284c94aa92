"""The kinds of IPv4 frames."""

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.packet import Raw

from differential.frames import (
    CLOSED,
    CONNECTED,
    HELLO,
    PORT,
    US4,
    Kinds,
    cut4,
    ip4,
    letters,
    udp,
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
