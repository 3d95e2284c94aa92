"""setsockopt(2), getsockopt(2) and multicast beside the kernel's."""

import socket
import struct
from functools import partial

CALLS = ("recv", "recvfrom", "recv_into", "recvfrom_into", "recvmsg", "recvmsg_into")
BOTH = (4, 6)
SOCKET = socket.SOL_SOCKET
IP = socket.IPPROTO_IP
IPV6 = socket.IPPROTO_IPV6
# Linux numbers without a name in Python 3.11: asm-generic/socket.h, linux/in.h, in6.h.
SO_TIMESTAMP, SO_TIMESTAMPNS, SO_RXQ_OVFL, IP_PKTINFO = 29, 35, 40, 8
IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL, IP_MTU = 10, 11, 12, 14
IP_MULTICAST_ALL, IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVERR = 49, 23, 24, 25
IPV6_MULTICAST_ALL = 29
LO = 1  # the ifindex of lo in every network namespace
GROUP, GROUP6 = socket.inet_aton("239.77.1.2"), socket.inet_pton(socket.AF_INET6, "ff02::77:1")

ROWS = {}
NO_FRAGMENT_SIZE = "the size of fragments is the path's: IPV6_MTU is read only"
DIFFERS = {f"set-{kind}-41-IPV6_MTU": NO_FRAGMENT_SIZE for kind in ("ints", "octets")}


def row(name, function, versions=(4,), differs=""):
    assert name not in ROWS
    ROWS[name] = (function, versions, differs or DIFFERS.get(name, ""))


def each(versions=(4,), differs=""):
    """A function that is a row of its own."""

    def add(function):
        row(function.__name__.replace("_", "-"), function, versions, differs)
        return function

    return add


# --- options

INTS = (0, 1, -1, 2, 255, 256, 257, -2, 2**31 - 1, b"", b"\1", b"\1\0", b"\1\0\0", b"\1\0\0\0",
        b"\1\0\0\0\1", bytes(8))  # fmt: skip
OPTIONS = [
    (4, SOCKET, name, getattr(socket, name))
    for name in ("SO_REUSEADDR", "SO_REUSEPORT", "SO_BROADCAST", "SO_DONTROUTE", "SO_RCVLOWAT",
                 "SO_TYPE", "SO_PROTOCOL", "SO_ERROR", "SO_ACCEPTCONN")
] + [
    (4, SOCKET, "SO_TIMESTAMP", SO_TIMESTAMP), (4, SOCKET, "SO_TIMESTAMPNS", SO_TIMESTAMPNS),
    (4, SOCKET, "SO_RXQ_OVFL", SO_RXQ_OVFL), (4, SOCKET, "SO_SNDLOWAT", 19),
    (4, IP, "IP_TTL", 2), (4, IP, "IP_TOS", 1), (4, IP, "IP_MTU_DISCOVER", IP_MTU_DISCOVER),
    (4, IP, "IP_MTU", IP_MTU), (4, IP, "IP_PKTINFO", IP_PKTINFO),
    (4, IP, "IP_RECVERR", IP_RECVERR), (4, IP, "IP_RECVTTL", IP_RECVTTL),
    (4, IP, "IP_RECVTOS", 13), (4, IP, "IP_MULTICAST_TTL", 33),
    (4, IP, "IP_MULTICAST_LOOP", 34),
    (4, IP, "IP_MULTICAST_ALL", IP_MULTICAST_ALL), (4, IP, "unknown", 90),
    (4, SOCKET, "unknown", 199), (4, 200, "unknown", 1),
    (6, IPV6, "IPV6_MTU_DISCOVER", IPV6_MTU_DISCOVER), (6, IPV6, "IPV6_MTU", IPV6_MTU),
    (6, IPV6, "IPV6_RECVERR", IPV6_RECVERR),
    (6, IPV6, "IPV6_MULTICAST_ALL", IPV6_MULTICAST_ALL),
    (6, IPV6, "unknown", 199),
] + [
    (6, IPV6, name, getattr(socket, name))
    for name in ("IPV6_UNICAST_HOPS", "IPV6_TCLASS", "IPV6_RECVPKTINFO", "IPV6_RECVHOPLIMIT",
                 "IPV6_RECVTCLASS", "IPV6_V6ONLY", "IPV6_MULTICAST_HOPS", "IPV6_MULTICAST_LOOP",
                 "IPV6_MULTICAST_IF")
]  # fmt: skip


def set_and_get(s, e, level, option, values):
    """What each value gives, and what is then read."""
    key = (level, option)
    return [
        (value, e.outcome(s.setsockopt, *key, value), e.outcome(s.getsockopt, *key))
        for value in values
    ]


def get_lengths(s, e, level, option):
    return [
        (n, e.outcome(s.getsockopt, level, option, n))
        for n in (0, 1, 2, 3, 4, 5, 8, 1024, 1025, -1)
    ]


for version, level, name, option in OPTIONS:
    case = {"level": level, "option": option}
    row(
        f"get-{level}-{name}",
        lambda s, e, c=case: e.outcome(s.getsockopt, *c.values()),
        (version,),
    )
    row(f"getlen-{level}-{name}", partial(get_lengths, **case), (version,))
    ints = (0, LO, -1, 9999) if name == "IPV6_MULTICAST_IF" else INTS[:9]
    for kind, values in {"ints": ints, "octets": INTS[9:]}.items():
        row(
            f"set-{kind}-{level}-{name}",
            partial(set_and_get, values=values, **case),
            (version,),
        )
for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
    row(f"buffer-{option}", partial(set_and_get, level=SOCKET, option=option,
        values=(0, 1, 2304, 5000, 100_000, b"\1", b"\0\0\1\0")))  # fmt: skip
    row(f"buffer-{option}-lengths", lambda s, e, o=option: (
        s.setsockopt(SOCKET, o, 20000), get_lengths(s, e, SOCKET, o)))  # fmt: skip
    row(f"buffer-{option}-negative-is-the-most", lambda s, e, o=option: (
        s.setsockopt(SOCKET, o, -1), s.getsockopt(SOCKET, o) > 212_992))  # fmt: skip
row("get-SO_DOMAIN", lambda s, e: s.getsockopt(SOCKET, 39), differs="AF_MHOST")
row("set-SO_DOMAIN", lambda s, e: e.outcome(s.setsockopt, SOCKET, 39, 1))
row("ipv6-option-of-ipv4", lambda s, e: e.outcome(
    s.setsockopt, IPV6, socket.IPV6_UNICAST_HOPS, 9),
    differs="an AF_MHOST socket has both families")  # fmt: skip


def timeval(seconds, microseconds):
    return struct.pack("qq", seconds, microseconds)


TIMES = (timeval(2, 500_000), timeval(0, 0), timeval(0, 10**6), timeval(0, -1), timeval(-1, 0),
         bytes(4), 5, timeval(3, 0) + b"xx")  # fmt: skip
for name, option in {"SO_RCVTIMEO": 20, "SO_SNDTIMEO": 21}.items():
    row(f"{name}-get", lambda s, e, o=option: s.getsockopt(SOCKET, o, 16))
    for value in TIMES:
        row(f"{name}-{value if value == 5 else value.hex()}", lambda s, e, o=option, v=value: (
            e.outcome(s.setsockopt, SOCKET, o, v), s.getsockopt(SOCKET, o, 16)))  # fmt: skip


@each()
def rcvtimeo_ends_a_blocking_recv(s, e):
    s.setblocking(True)
    s.setsockopt(SOCKET, socket.SO_RCVTIMEO, timeval(0, 20_000))
    return [e.outcome(e.receive, s, call) for call in CALLS]


for name, args in {
    "none": (SOCKET, socket.SO_TYPE, None, 0),
    "none-length": (SOCKET, socket.SO_BROADCAST, None, 4),
    "text": (SOCKET, socket.SO_BROADCAST, "1"),
    "float": (SOCKET, socket.SO_BROADCAST, 1.0),
    "huge": (SOCKET, socket.SO_BROADCAST, 2**31),
    "bytearray": (SOCKET, socket.SO_BROADCAST, bytearray(b"\1\0\0\0")),
    "memoryview": (SOCKET, socket.SO_BROADCAST, memoryview(b"\1\0\0\0")),
    "two": (SOCKET, socket.SO_BROADCAST),
}.items():
    row(f"setsockopt-{name}", lambda s, e, a=args: e.outcome(s.setsockopt, *a))

for value in (
    b"lo",
    b"lo\0",
    b"lo\0x",
    b"",
    b"\0",
    b"nosuch0",
    b"lo" + bytes(30),
    b"x" * 20,
    1,
):
    row(f"bindtodevice-{value!r}", lambda s, e, v=value: (
        e.outcome(s.setsockopt, SOCKET, socket.SO_BINDTODEVICE, v),
        [e.outcome(s.getsockopt, SOCKET, socket.SO_BINDTODEVICE, n) for n in (16, 1, 2, 0, 99)],
    ))  # fmt: skip
row("bindtodevice-carries", lambda s, e: (
    s.setsockopt(SOCKET, socket.SO_BINDTODEVICE, b"lo"), e.given(s, b"x"), s.recv(9),
)[2])  # fmt: skip


@each(BOTH)
def mtu_connected(s, e):
    e.peer(s)
    level, option = (IP, IP_MTU) if e.version == 4 else (IPV6, IPV6_MTU)
    return s.getsockopt(level, option)


@each((6,))
def v6only_after_bind(s, e):
    s.bind((e.host, 0))
    return e.outcome(s.setsockopt, IPV6, socket.IPV6_V6ONLY, 1)


@each()
def broadcast_needs_the_option(s, e):
    return e.outcome(s.connect, ("127.255.255.255", 9))


# --- multicast, on lo

MREQN = struct.pack("4s4si", GROUP, bytes(4), LO)
JOINS = {
    "mreqn": MREQN,
    "mreq": GROUP + socket.inet_aton("127.0.0.1"),
    "mreq-no-device": GROUP + socket.inet_aton("198.51.100.9"),
    "not-a-group": struct.pack("4s4si", b"\x7f\0\0\1", bytes(4), LO),
    "no-ifindex": struct.pack("4s4si", GROUP, bytes(4), 9999),
    "short": GROUP,
    "empty": b"",
    "int": 5,
    "long": MREQN + bytes(4),
}
JOIN, LEAVE = socket.IP_ADD_MEMBERSHIP, socket.IP_DROP_MEMBERSHIP
for name, value in JOINS.items():
    row(f"join-{name}", lambda s, e, v=value: [
        e.outcome(s.setsockopt, IP, call, v)
        for call in (LEAVE, JOIN, JOIN, LEAVE, LEAVE)])  # fmt: skip
JOINS6 = {
    "mreq": GROUP6 + struct.pack("I", LO),
    "not-a-group": bytes(15) + b"\1" + struct.pack("I", LO),
    "no-ifindex": GROUP6 + struct.pack("I", 9999),
    "short": GROUP6,
    "int": 5,
    "long": GROUP6 + struct.pack("I", LO) + bytes(4),
}
for name, value in JOINS6.items():
    row(f"join6-{name}", lambda s, e, v=value: [
        e.outcome(s.setsockopt, IPV6, call, v)
        for call in (socket.IPV6_LEAVE_GROUP, socket.IPV6_JOIN_GROUP, socket.IPV6_JOIN_GROUP,
                     socket.IPV6_LEAVE_GROUP)], (6,))  # fmt: skip
for option in (JOIN, LEAVE):
    row(f"get-membership-{option}", lambda s, e, o=option: e.outcome(s.getsockopt, IP, o))
row("get-membership6", lambda s, e: e.outcome(s.getsockopt, IPV6, socket.IPV6_JOIN_GROUP), (6,))
for name, value in {
    "none": bytes(4), "lo": socket.inet_aton("127.0.0.1"), "not-ours": b"\xc6\x33\x64\x09",
    "mreqn": MREQN, "mreqn-no-ifindex": struct.pack("4s4si", GROUP, bytes(4), 9999),
    "mreq": bytes(4) + socket.inet_aton("127.0.0.1"), "short": b"\1", "int": 0,
}.items():  # fmt: skip
    row(f"multicast-if-{name}", lambda s, e, v=value: (
        e.outcome(s.setsockopt, IP, socket.IP_MULTICAST_IF, v),
        e.outcome(s.getsockopt, IP, socket.IP_MULTICAST_IF, 4),
        e.outcome(s.getsockopt, IP, socket.IP_MULTICAST_IF)))  # fmt: skip


@each()
def group_receives(s, e):
    s.setsockopt(IP, JOIN, MREQN)
    s.bind(("", 0))
    sender = e.socket()
    sender.setsockopt(IP, socket.IP_MULTICAST_IF, MREQN)
    sent = sender.sendto(b"x", (socket.inet_ntoa(GROUP), s.getsockname()[1]))
    return sent, s.recv(9)


@each()
def sources_of_a_group(s, e):
    mreq = GROUP + socket.inet_aton("127.0.0.1") + b"\x7f\0\0\x02"
    return [e.outcome(s.setsockopt, IP, option, mreq) for option in (39, 39, 40, 40)]


def test_the_same_as_the_kernel(row, run):
    function, version, differs = row
    kernel, ours = run(function, version, False), run(function, version, True)
    assert (kernel != ours) == bool(differs), f"kernel {kernel!r}, AF_MHOST {ours!r}"
