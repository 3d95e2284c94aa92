"""What is sent and received, flags and control messages beside the kernel's."""

import socket
import struct
import time
from functools import partial

CALLS = ("recv", "recvfrom", "recv_into", "recvfrom_into", "recvmsg", "recvmsg_into")
BOTH = (4, 6)
SOCKET = socket.SOL_SOCKET
IP = socket.IPPROTO_IP
IPV6 = socket.IPPROTO_IPV6
DONTWAIT = socket.MSG_DONTWAIT
PEEK = socket.MSG_PEEK
TRUNC = socket.MSG_TRUNC
QUEUE = socket.MSG_ERRQUEUE
# Linux numbers without a name in Python 3.11: asm-generic/socket.h, linux/in.h, in6.h.
SO_TIMESTAMP, SO_TIMESTAMPNS, SO_RXQ_OVFL, IP_PKTINFO = 29, 35, 40, 8
IP_RECVTTL = 12
LO = 1  # the ifindex of lo in every network namespace

ROWS = {}
REFUSED = "what would be sent otherwise than asked is refused, not ignored"
DIFFERS = {
    "send-flag-dontroute": REFUSED,
    "send-more-corks": REFUSED,
    "connect-port-0-send": "port 0 is no destination (RFC 768), connected or not",
    "recv-0-consumes": "the stdlib makes no system call for 0 octets",
}


def row(name, function, versions=(4,), differs=""):
    assert name not in ROWS
    ROWS[name] = (function, versions, differs or DIFFERS.get(name, ""))


def each(versions=(4,), differs=""):
    """A function that is a row of its own."""

    def add(function):
        row(function.__name__.replace("_", "-"), function, versions, differs)
        return function

    return add


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


# --- sending

for size in (0, 1, 1472, 65507, 65508, 70000):
    row(f"send-{size}", lambda s, e, n=size: (
        [other := e.peer(s)] and e.outcome(s.send, bytes(n)),
        n <= 65507 and len(other.recv(70000))), BOTH if size < 65507 else (4,))  # fmt: skip
    row(f"sendto-{size}", lambda s, e, n=size: [
        (e.outcome(s.sendto, bytes(n), address), n <= 65507 and len(other.recv(70000)))
        for other, address in [e.bound()]], BOTH if size < 65507 else (4,))  # fmt: skip

SEND_FLAGS = {
    "dontwait": DONTWAIT,
    "nosignal": socket.MSG_NOSIGNAL,
    "confirm": socket.MSG_CONFIRM,
    "dontroute": socket.MSG_DONTROUTE,
    "oob": socket.MSG_OOB,
    "eor": socket.MSG_EOR,
    "peek": PEEK,
    "trunc": TRUNC,
    "waitall": socket.MSG_WAITALL,
    "zerocopy": 0x4000000,
    "fastopen": 0x20000000,
    "bit-20": 0x100000,
    "errqueue": QUEUE,
}
for name, flag in SEND_FLAGS.items():
    row(f"send-flag-{name}", lambda s, e, f=flag: (
        [other := e.peer(s)] and [got := e.outcome(s.send, b"x", f)],
        got == 1 and other.recv(9)))  # fmt: skip


@each(BOTH)
def send_more_corks(s, e):
    other = e.peer(s)
    return e.outcome(s.send, b"a", socket.MSG_MORE), s.send(b"b"), other.recv(9)


for name, call in {
    "send-no-destination": lambda s, e: s.send(b"x"),
    "sendall-no-destination": lambda s, e: s.sendall(b"x"),
    "sendmsg-no-destination": lambda s, e: s.sendmsg([b"x"]),
    "send-no-destination-oversize": lambda s, e: s.send(bytes(65508)),
    "sendto-port-0": lambda s, e: s.sendto(b"x", (e.host, 0)),
    "sendmsg-port-0": lambda s, e: s.sendmsg([b"x"], [], 0, (e.host, 0)),
    "send-text": lambda s, e: s.send("x"),
    "send-none": lambda s, e: s.send(None),
    "sendto-1-argument": lambda s, e: s.sendto(b"x"),
    "sendto-4-arguments": lambda s, e: s.sendto(b"x", 0, (e.host, 9), 1),
    "sendto-flags-text": lambda s, e: s.sendto(b"x", "0", (e.host, 9)),
    "sendto-flags-huge": lambda s, e: s.sendto(b"x", 1 << 40, (e.host, 9)),
    "sendmsg-not-a-sequence": lambda s, e: s.sendmsg(5),
    "sendmsg-text": lambda s, e: s.sendmsg(["x"]),
    "sendmsg-gather": lambda s, e: [
        (s.sendmsg([b"ga", bytearray(b"th"), memoryview(b"er")], [], 0, a), o.recv(9))
        for o, a in [e.bound()]
    ],
    "sendmsg-no-buffers": lambda s, e: [
        (s.sendmsg([], [], 0, a), o.recv(9)) for o, a in [e.bound()]
    ],
    "sendmsg-too-many-buffers": lambda s, e: s.sendmsg([b"x"] * 1025, [], 0, e.bound()[1]),
    "sendmsg-most-buffers": lambda s, e: s.sendmsg([b"x"] * 1024, [], 0, e.bound()[1]),
    "sendmsg-oversize": lambda s, e: s.sendmsg([bytes(40000)] * 2, [], 0, e.bound()[1]),
    "send-wide-items": lambda s, e: [
        (s.send(memoryview(struct.pack("4I", *range(4))).cast("I")), o.recv(99))
        for o in [e.peer(s)]
    ],
    "connect-port-0-send": lambda s, e: (s.connect((e.host, 0)), e.outcome(s.send, b"x")),
    "sendall-returns-none": lambda s, e: [(s.sendall(b"x"), o.recv(9)) for o in [e.peer(s)]],
    "sendto-autobinds": lambda s, e: (
        s.sendto(b"x", e.bound()[1]), s.getsockname()[1] > 0),
    "sendto-broadcast": lambda s, e: s.sendto(b"x", ("127.255.255.255", 9)),
    "sendto-connected-empty-host": lambda s, e: e.outcome(s.sendto, b"", (e.host, 0)),
}.items():  # fmt: skip
    row(name, lambda s, e, c=call: e.outcome(c, s, e))

# ancdata of sendmsg: what the receiver then sees, or the error.
SENT = {
    "ttl": (4, (IP, socket.IP_TTL, struct.pack("i", 9))),
    "ttl-0": (4, (IP, socket.IP_TTL, struct.pack("i", 0))),
    "ttl-256": (4, (IP, socket.IP_TTL, struct.pack("i", 256))),
    "ttl-short": (4, (IP, socket.IP_TTL, b"\x09")),
    "tos": (4, (IP, socket.IP_TOS, struct.pack("i", 8))),
    "tos-octet": (4, (IP, socket.IP_TOS, b"\x08")),
    "tos-short": (4, (IP, socket.IP_TOS, b"\x08\x00")),
    "tos-256": (4, (IP, socket.IP_TOS, struct.pack("i", 256))),
    "pktinfo": (4, (IP, IP_PKTINFO, struct.pack("i4s4s", LO, bytes(4), bytes(4)))),
    "pktinfo-source": (4, (IP, IP_PKTINFO, struct.pack("i4s4s", 0, b"\x7f\0\0\x02", bytes(4)))),
    "pktinfo-not-ours": (4, (IP, IP_PKTINFO, bytes(4) + b"\xc6\x33\x64\x09" + bytes(4))),
    "pktinfo-no-device": (4, (IP, IP_PKTINFO, struct.pack("i4s4s", 9999, bytes(4), bytes(4)))),
    "pktinfo-short": (4, (IP, IP_PKTINFO, bytes(8))),
    "unknown-type": (4, (IP, 77, bytes(4))),
    "socket-unknown": (4, (SOCKET, 77, bytes(4))),
    "unknown-level": (4, (200, 1, bytes(4))),
    "ipv6-on-ipv4": (4, (IPV6, socket.IPV6_HOPLIMIT, struct.pack("i", 9))),
    "hoplimit": (6, (IPV6, socket.IPV6_HOPLIMIT, struct.pack("i", 9))),
    "hoplimit-256": (6, (IPV6, socket.IPV6_HOPLIMIT, struct.pack("i", 256))),
    "hoplimit-unset": (6, (IPV6, socket.IPV6_HOPLIMIT, struct.pack("i", -1))),
    "hoplimit-short": (6, (IPV6, socket.IPV6_HOPLIMIT, b"\x09")),
    "tclass": (6, (IPV6, socket.IPV6_TCLASS, struct.pack("i", 8))),
    "tclass-256": (6, (IPV6, socket.IPV6_TCLASS, struct.pack("i", 256))),
    "pktinfo6": (6, (IPV6, socket.IPV6_PKTINFO, bytes(16) + struct.pack("i", LO))),
    "pktinfo6-not-ours": (6, (IPV6, socket.IPV6_PKTINFO, b"\x20\x01" + bytes(14) + bytes(4))),
    "pktinfo6-short": (6, (IPV6, socket.IPV6_PKTINFO, bytes(16))),
    "unknown6-type": (6, (IPV6, 177, bytes(4))),
}  # fmt: skip
WANTED = {
    4: [(IP, IP_RECVTTL), (IP, socket.IP_RECVTOS)],
    6: [(IPV6, socket.IPV6_RECVHOPLIMIT), (IPV6, socket.IPV6_RECVTCLASS)],
}


def send_ancillary(s, e, message):
    other, address = e.bound()
    for level, option in WANTED[e.version]:
        other.setsockopt(level, option, 1)
    got = e.outcome(s.sendmsg, [b"x"], [message], 0, address)
    if got != 1:
        return got
    data, ancillary, flags, source = other.recvmsg(9, 200)
    return data, sorted(ancillary), flags, e.place(source)


for name, (version, message) in SENT.items():
    row(f"sendmsg-{name}", partial(send_ancillary, message=message), (version,))
row(
    "sendmsg-ancillary-not-a-tuple",
    lambda s, e: e.outcome(s.sendmsg, [b"x"], [5], 0, e.refuses()),
)
row("sendmsg-ancillary-text", lambda s, e: e.outcome(
    s.sendmsg, [b"x"], [(IP, socket.IP_TTL, "x")], 0, e.refuses()))  # fmt: skip

# --- receiving


def after_shutdown(s, e, call, flags=0):
    e.peer(s)
    s.setblocking(True)
    s.shutdown(socket.SHUT_RD)
    return e.outcome(e.receive, s, call, flags)


def zero_length(s, e, call):
    e.given(s, b"")
    return [e.place(each) for each in as_tuple(e.receive(s, call))]


for name in CALLS:
    row(
        f"{name}-empty", lambda s, e, c=name: (s.setblocking(False), e.outcome(e.receive, s, c))
    )
    row(
        f"{name}-empty-timeout",
        lambda s, e, c=name: (s.settimeout(0.02), e.outcome(e.receive, s, c)),
    )
    row(f"{name}-dontwait", lambda s, e, c=name: (
        s.setblocking(True), e.outcome(e.receive, s, c, DONTWAIT)))  # fmt: skip
    row(f"{name}-errqueue-empty", lambda s, e, c=name: (
        s.setblocking(True), e.outcome(e.receive, s, c, QUEUE)))  # fmt: skip
    row(f"{name}-shut-read", partial(after_shutdown, call=name))
    row(f"{name}-shut-read-dontwait", partial(after_shutdown, call=name, flags=DONTWAIT))
    row(f"{name}-zero-length", partial(zero_length, call=name), BOTH)
    row(f"{name}-closed", lambda s, e, c=name: (s.close(), e.outcome(e.receive, s, c)))


row("recv-timeout-dontwait", lambda s, e: (s.settimeout(0.02), e.outcome(s.recv, 9, DONTWAIT)),
    differs="with a timeout the stdlib's socket waits in spite of MSG_DONTWAIT")  # fmt: skip

row("recv-trunc-length", lambda s, e: (e.given(s, b"0123456789"), len(s.recv(4, TRUNC))),
    differs="the stdlib's bytes go on with octets that nobody wrote")  # fmt: skip

RECEIVED = {
    "recv-short": lambda s, e: s.recv(4),
    "recv-exact": lambda s, e: s.recv(10),
    "recv-0": lambda s, e: s.recv(0),
    "recv-negative": lambda s, e: s.recv(-1),
    "recvfrom-negative": lambda s, e: s.recvfrom(-1),
    "recv-no-size": lambda s, e: s.recv(),
    "recv-text": lambda s, e: s.recv("9"),
    "recv-peek": lambda s, e: (s.recv(3, PEEK), s.recv(9, PEEK), s.recv(20)),
    "recv-trunc": lambda s, e: s.recv(4, TRUNC)[:4],
    "recv-waitall": lambda s, e: s.recv(20, socket.MSG_WAITALL),
    "recv-oob": lambda s, e: s.recv(20, socket.MSG_OOB),
    "recv-something-dontwait": lambda s, e: s.recv(20, DONTWAIT),
    "recv-dontroute": lambda s, e: s.recv(20, socket.MSG_DONTROUTE),
    "recv-nosignal": lambda s, e: s.recv(20, socket.MSG_NOSIGNAL),
    "recv-cloexec": lambda s, e: s.recv(20, socket.MSG_CMSG_CLOEXEC),
    "recv-bit-20": lambda s, e: s.recv(20, 0x100000),
    "recv-errqueue-keeps": lambda s, e: (e.at_once(s, s.recv, 9, QUEUE), s.recv(20)),
    "recv-then-empty": lambda s, e: (s.recv(2), e.at_once(s, s.recv, 9)),
    "recv-0-consumes": lambda s, e: (s.recv(0), e.at_once(s, s.recv, 9)),
    "recvmsg-short": lambda s, e: s.recvmsg(4)[:3],
    "recvmsg-exact": lambda s, e: s.recvmsg(10)[:3],
    "recvmsg-trunc": lambda s, e: s.recvmsg(4, 0, TRUNC)[:3],
    "recvmsg-peek": lambda s, e: (s.recvmsg(4, 0, PEEK)[:3], s.recvmsg(20)[:3]),
    "recvmsg-negative": lambda s, e: s.recvmsg(-1),
    "recvmsg-negative-ancillary": lambda s, e: s.recvmsg(9, -1),
    "recvmsg-waitall": lambda s, e: s.recvmsg(20, 0, socket.MSG_WAITALL)[:3],
    "recvmsg-cloexec": lambda s, e: s.recvmsg(20, 0, socket.MSG_CMSG_CLOEXEC)[:3],
    "recvmsg-something-dontwait": lambda s, e: s.recvmsg(20, 0, DONTWAIT)[:3],
}
for name, call in RECEIVED.items():
    row(name, lambda s, e, c=call: (e.given(s, b"0123456789"), e.outcome(c, s, e))[1])


def receive_into(s, e, call, size, nbytes, flags=0):
    e.given(s, b"0123456789")
    buffer = bytearray(b"-" * size)
    got = e.outcome(getattr(s, call), buffer, nbytes, flags)
    return got if not isinstance(got, tuple) else (got[0], e.place(got[1])), buffer


for call in ("recv_into", "recvfrom_into"):
    for args in ((20, 0), (20, 4), (4, 0), (4, 9), (4, -1), (0, 0), (4, 0, TRUNC), (12, 12),
                 (4, 0, PEEK | TRUNC), (20, 5, DONTWAIT)):  # fmt: skip
        name = "-".join(map(str, args))
        row(f"{call}-{name}", lambda s, e, c=call, a=args: receive_into(s, e, c, *a))
row("recv_into-read-only", lambda s, e: (e.given(s, b"x"), e.outcome(s.recv_into, b"1234"))[1])
row("recv_into-text", lambda s, e: (e.given(s, b"x"), e.outcome(s.recv_into, "1234"))[1])
row("recvfrom_into-none", lambda s, e: (e.given(s, b"x"), e.outcome(s.recvfrom_into, None))[1])


def receive_scattered(s, e, sizes, flags=0):
    e.given(s, b"0123456789")
    buffers = [bytearray(b"-" * size) for size in sizes]
    count, ancillary, flags, source = s.recvmsg_into(buffers, 0, flags)
    return count, ancillary, flags, e.place(source), buffers


for sizes in ((3, 4, 20), (3, 4), (10,), (3, 0, 9), (), (2, 8)):
    for flags in (0, TRUNC):
        name = "-".join(map(str, sizes))
        row(
            f"recvmsg_into-{name}-{flags}", partial(receive_scattered, sizes=sizes, flags=flags)
        )


@each(BOTH)
def sources(s, e):
    sender = e.given(s, b"1", b"2", b"3")
    address = sender.getsockname()[1]
    got = [s.recvfrom(9)[1], s.recvfrom_into(bytearray(9))[1], s.recvmsg(9)[3]]
    return [(e.place(x), x[1] == address) for x in got]


# Control messages received: a socket with these options, and this much room for them.
CONTROL = {
    "none": (4, [], 200),
    "ttl": (4, [(IP, IP_RECVTTL)], 200),
    "ttl-no-room": (4, [(IP, IP_RECVTTL)], 0),
    "ttl-little-room": (4, [(IP, IP_RECVTTL)], 8),
    "ttl-header-only": (4, [(IP, IP_RECVTTL)], 16),
    "ttl-cut": (4, [(IP, IP_RECVTTL)], 18),
    "ttl-length": (4, [(IP, IP_RECVTTL)], socket.CMSG_LEN(4)),
    "ttl-space": (4, [(IP, IP_RECVTTL)], socket.CMSG_SPACE(4)),
    "ttl-room-for-one-of-two": (
        4, [(IP, IP_RECVTTL), (IP, socket.IP_RECVTOS)], socket.CMSG_SPACE(4)),
    "tos": (4, [(IP, socket.IP_RECVTOS)], 200),
    "pktinfo": (4, [(IP, IP_PKTINFO)], 200),
    "pktinfo-cut": (4, [(IP, IP_PKTINFO)], 20),
    "timestamp": (4, [(SOCKET, SO_TIMESTAMP)], 200),
    "timestampns": (4, [(SOCKET, SO_TIMESTAMPNS)], 200),
    "timestamp-then-ns": (4, [(SOCKET, SO_TIMESTAMP), (SOCKET, SO_TIMESTAMPNS)], 200),
    "timestampns-then-not": (4, [(SOCKET, SO_TIMESTAMPNS), (SOCKET, SO_TIMESTAMP)], 200),
    "rxq-ovfl-0": (4, [(SOCKET, SO_RXQ_OVFL)], 200),
    "all": (4, [(IP, socket.IP_RECVTOS), (SOCKET, SO_TIMESTAMPNS), (IP, IP_PKTINFO),
                (IP, IP_RECVTTL)], 400),
    "hoplimit": (6, [(IPV6, socket.IPV6_RECVHOPLIMIT)], 200),
    "tclass": (6, [(IPV6, socket.IPV6_RECVTCLASS)], 200),
    "pktinfo6": (6, [(IPV6, socket.IPV6_RECVPKTINFO)], 200),
    "pktinfo6-cut": (6, [(IPV6, socket.IPV6_RECVPKTINFO)], 24),
    "timestampns6": (6, [(SOCKET, SO_TIMESTAMPNS)], 200),
    "all6": (6, [(IPV6, socket.IPV6_RECVTCLASS), (IPV6, socket.IPV6_RECVHOPLIMIT),
                 (SOCKET, SO_TIMESTAMP), (IPV6, socket.IPV6_RECVPKTINFO)], 400),
}  # fmt: skip


def receive_ancillary(s, e, options, room):
    for level, option in options:
        s.setsockopt(level, option, 1)
    e.given(s, b"0123456789")
    data, ancillary, flags, source = s.recvmsg(20, room)
    shown = [(x, y, len(z) if x == SOCKET else z) for x, y, z in ancillary]
    return data, shown, flags, e.place(source)


for name, (version, options, room) in CONTROL.items():
    row(f"recvmsg-{name}", partial(receive_ancillary, options=options, room=room), (version,))


@each()
def timestamp_is_now(s, e):
    before = time.time_ns()
    s.setsockopt(SOCKET, SO_TIMESTAMPNS, 1)
    e.given(s, b"x")
    seconds, ns = struct.unpack("qq", s.recvmsg(9, 99)[1][0][2])
    return before - 10**9 <= seconds * 10**9 + ns <= time.time_ns()


@each()
def recvmsg_ttl_that_was_set(s, e):
    s.setsockopt(IP, IP_RECVTTL, 1)
    s.setsockopt(IP, socket.IP_RECVTOS, 1)
    sender = e.given(s, b"x")
    sender.setsockopt(IP, socket.IP_TTL, 33)
    sender.setsockopt(IP, socket.IP_TOS, 0x28)
    s.recv(9)
    sender.sendto(b"y", e.at(s))
    return sorted(s.recvmsg(9, 99)[1])


def test_the_same_as_the_kernel(row, run):
    function, version, differs = row
    kernel, ours = run(function, version, False), run(function, version, True)
    assert (kernel != ours) == bool(differs), f"kernel {kernel!r}, AF_MHOST {ours!r}"
