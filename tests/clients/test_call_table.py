"""One table of calls, run on a kernel UDP socket and on an AF_MHOST socket side by side.

A row is a function of a fresh socket and its Side. What it returns, values and names of
errors, must be the same on both. A row with `differs` says why AF_MHOST is different by
design, and fails should it not be.
"""

import ctypes
import errno
import select
import socket
import struct
import time
from functools import partial

import mhost
import pytest

# Linux numbers that Python 3.11 has no names for: asm-generic/socket.h, linux/in.h, in6.h.
SO_TIMESTAMP, SO_TIMESTAMPNS, SO_RXQ_OVFL = 29, 35, 40
IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR, IP_RECVTTL, IP_MTU = 8, 10, 11, 12, 14
IP_MULTICAST_ALL, IPV6_MTU_DISCOVER, IPV6_MTU, IPV6_RECVERR, IPV6_MULTICAST_ALL = (
    49,
    23,
    24,
    25,
    29,
)
SOCKET, IP, IPV6 = socket.SOL_SOCKET, socket.IPPROTO_IP, socket.IPPROTO_IPV6
DONTWAIT, PEEK, TRUNC, QUEUE = (
    socket.MSG_DONTWAIT,
    socket.MSG_PEEK,
    socket.MSG_TRUNC,
    socket.MSG_ERRQUEUE,
)
LO = 1  # the ifindex of lo in every network namespace
GROUP, GROUP6 = socket.inet_aton("239.77.1.2"), socket.inet_pton(socket.AF_INET6, "ff02::77:1")
DEADLINE_S = 10

libc = ctypes.CDLL(None, use_errno=True)


def outcome(call, *args):
    """What it returns, or the name of its error."""
    try:
        return call(*args)
    except OSError as err:
        return errno.errorcode.get(err.errno, type(err).__name__)
    except (TypeError, ValueError, OverflowError) as err:
        return type(err).__name__


def at_once(sock, call, *args):
    """The outcome of what does not block."""
    sock.setblocking(False)
    return outcome(call, *args)


class Side:
    """The kernel's sockets of one family, or those of AF_MHOST."""

    def __init__(self, version, ours):
        self.version, self.ours = version, ours
        self.family = socket.AF_INET if version == 4 else socket.AF_INET6
        self.host = "127.0.0.1" if version == 4 else "::1"
        self.opened = []

    def socket(self, kind=socket.SOCK_DGRAM, proto=0, family=None):
        if self.ours:
            sock = mhost.Socket(mhost.AF_MHOST if family is None else family, kind, proto)
        else:
            sock = socket.socket(self.family if family is None else family, kind, proto)
        self.opened.append(sock)
        if not kind & socket.SOCK_NONBLOCK:
            sock.settimeout(5)
        return sock

    def bound(self):
        """A socket bound to the loopback address, and its address."""
        sock = self.socket()
        sock.bind((self.host, 0))
        return sock, sock.getsockname()[:2]

    def peer(self, sock):
        """The same, and `sock` is connected to it."""
        other, address = self.bound()
        sock.connect(address)
        return other

    def refuses(self):
        """An address where nobody listens."""
        sock, address = self.bound()
        sock.close()
        return address

    def at(self, sock):
        """Where others reach it."""
        return self.host, sock.getsockname()[1]

    def disconnect(self, sock):
        """connect(2) with AF_UNSPEC, which the stdlib cannot say."""
        if self.ours:
            sock.connect(None)
        elif libc.connect(sock.fileno(), bytes(16), 16):
            raise OSError(ctypes.get_errno(), "connect")

    def given(self, sock, *payloads):
        """`sock` is bound and sent these; return the sender."""
        sock.bind((self.host, 0))
        sender = self.socket()
        for payload in payloads:
            sender.sendto(payload, self.at(sock))
        ready(sock)
        return sender

    def place(self, address):
        """An address without what differs from run to run."""
        if not isinstance(address, tuple):
            return address
        return ("here" if address[0] == self.host else address[0], "port" if address[1] else 0)

    def close(self):
        for sock in self.opened:
            sock.close()


def ready(sock):
    """Wait until it is readable."""
    assert select.select([sock], [], [], DEADLINE_S)[0]


def until(call, unless):
    """Call it until it returns something else."""
    deadline = time.monotonic() + DEADLINE_S
    while (got := call()) == unless and time.monotonic() < deadline:
        time.sleep(0.005)
    return got


ROWS = []


def row(name, function, versions=(4,), differs=""):
    for version in versions:
        ROWS.append(pytest.param(function, version, differs, id=f"{name}-v{version}"))


def each(versions=(4,), differs=""):
    """A function that is a row of its own."""

    def add(function):
        row(function.__name__.replace("_", "-"), function, versions, differs)
        return function

    return add


BOTH = (4, 6)


# --- socket(2)

for name, args in {
    "dgram": (socket.SOCK_DGRAM, 0),
    "udp": (socket.SOCK_DGRAM, 17),
    "tcp": (socket.SOCK_DGRAM, 6),
    "icmp-of-256": (socket.SOCK_DGRAM, 256),
    "negative-protocol": (socket.SOCK_DGRAM, -2),
    "type-0": (0, 0),
    "type-11": (11, 0),
    "type-negative": (-5, 0),
    "seqpacket": (socket.SOCK_SEQPACKET, 0),
    "rdm": (socket.SOCK_RDM, 0),
    "nonblock": (socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0),
    "cloexec": (socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0),
    "unknown-type-flag": (socket.SOCK_DGRAM | 0x10, 0),
}.items():
    row(
        f"socket-{name}",
        lambda s, e, args=args: outcome(
            lambda: [
                (x.type, x.getblocking(), x.gettimeout(), x.proto and 17)
                for x in [e.socket(*args)]
            ][0][:3]
        ),
    )
row("socket-stream", lambda s, e: outcome(lambda: e.socket(socket.SOCK_STREAM) and 1),
    differs="AF_MHOST has datagrams only: ESOCKTNOSUPPORT")  # fmt: skip
row("socket-raw", lambda s, e: outcome(lambda: e.socket(socket.SOCK_RAW) and 1),
    differs="AF_MHOST has datagrams only; the kernel's wants a protocol")  # fmt: skip
row("socket-family-46", lambda s, e: outcome(lambda: e.socket(family=46)))
row("socket-family-negative", lambda s, e: outcome(lambda: e.socket(family=-3)))


# --- names

for name, address in {
    "text": "127.0.0.1",
    "int": 5,
    "empty-tuple": (),
    "one": ("127.0.0.1",),
    "list": ["127.0.0.1", 0],
    "port-text": ("127.0.0.1", "1"),
    "port-65536": ("127.0.0.1", 65536),
    "port-negative": ("127.0.0.1", -1),
    "port-none": ("127.0.0.1", None),
    "port-float": ("127.0.0.1", 1.5),
    "host-int": (1, 1),
}.items():
    for call in ("bind", "connect"):
        row(f"{call}-{name}", lambda s, e, c=call, a=address: outcome(getattr(s, c), a))
    row(f"sendto-{name}", lambda s, e, a=address: outcome(s.sendto, b"x", a))
row("bind-none", lambda s, e: outcome(s.bind, None))
row("connect-none", lambda s, e: outcome(s.connect, None),
    differs="None dissolves: AF_UNSPEC of connect(2)")  # fmt: skip
row("sendto-none", lambda s, e: outcome(s.sendto, b"x", None))


@each(BOTH)
def bind_not_ours(s, e):
    return outcome(s.bind, ("198.51.100.9" if e.version == 4 else "2001:db8:9::9", 0))


@each(BOTH)
def bind_port_0(s, e):
    return s.bind((e.host, 0)), e.place(s.getsockname())


@each(BOTH)
def bind_twice(s, e):
    s.bind((e.host, 0))
    port = s.getsockname()[1]
    again = outcome(s.bind, (e.host, 0))
    return again, s.getsockname()[1] == port


@each(BOTH)
def bind_after_connect(s, e):
    e.peer(s)
    port = s.getsockname()[1]
    return outcome(s.bind, (e.host, 0)), s.getsockname()[1] == port


@each(BOTH)
def bind_closed_then_again(s, e):
    other, address = e.bound()
    other.close()
    return outcome(s.bind, address)


@each(BOTH)
def bind_all_of_a_family(s, e):
    s.bind(("0.0.0.0" if e.version == 4 else "::", 0))
    return e.place(s.getsockname())


@each(differs="the wildcard is every L3 at once: ('*', port)")
def bind_everywhere(s, e):
    s.bind(("", 0))
    return e.place(s.getsockname())


def in_use(s, e, first, second, wild=False):
    """Two sockets on one port, each with some options."""
    other = e.socket()
    for option in first:
        other.setsockopt(SOCKET, option, 1)
    for option in second:
        s.setsockopt(SOCKET, option, 1)
    other.bind((e.host, 0))
    return outcome(s.bind, ("" if wild else e.host, other.getsockname()[1]))


ADDR, PORT = socket.SO_REUSEADDR, socket.SO_REUSEPORT
for first in ((), (ADDR,), (PORT,)):
    for second in ((), (ADDR,), (PORT,), (ADDR, PORT)):
        name = "-".join(str(x) for x in (*first, "then", *second))
        row(f"bind-in-use-{name}", partial(in_use, first=first, second=second), BOTH)
row("bind-in-use-wildcard", partial(in_use, first=(), second=(), wild=True))
row("bind-in-use-wildcard-reuse", partial(in_use, first=(ADDR,), second=(ADDR,), wild=True))


@each(differs="getsockname of what is nowhere: ('*', 0)")
def getsockname_unbound(s, e):
    return e.place(s.getsockname())


@each(BOTH)
def getsockname_bound_and_connected(s, e):
    s.bind((e.host, 0))
    e.peer(s)
    return e.place(s.getsockname())


@each(BOTH, differs="it stays at the wildcard: the L3 is chosen for each datagram")
def getsockname_connected(s, e):
    e.peer(s)
    return e.place(s.getsockname())


@each(BOTH)
def getpeername(s, e):
    states = [outcome(s.getpeername)]
    other = e.peer(s)
    states.append(s.getpeername()[:2] == other.getsockname()[:2])
    e.disconnect(s)
    return [*states, outcome(s.getpeername)]


@each(BOTH)
def connect_again(s, e):
    e.peer(s)
    port = s.getsockname()[1]
    other = e.peer(s)
    return s.getpeername()[:2] == other.getsockname()[:2], s.getsockname()[1] == port


@each(BOTH)
def connect_ex(s, e):
    return s.connect_ex(e.refuses()), e.place(s.getpeername())


@each()
def connect_ex_bad_port(s, e):
    return outcome(s.connect_ex, (e.host, 65536))


@each()
def disconnect_unconnected(s, e):
    return outcome(e.disconnect, s)


@each(BOTH)
def disconnect_keeps_bound_port(s, e):
    s.bind((e.host, 0))
    port = s.getsockname()[1]
    e.peer(s)
    e.disconnect(s)
    return s.getsockname()[1] == port, e.place(s.getsockname())


@each(BOTH)
def disconnect_keeps_asked_port(s, e):
    address = e.refuses()
    s.bind(address)
    e.peer(s)
    e.disconnect(s)
    return s.getsockname()[:2] == address


@each()
def disconnect_frees_own_port(s, e):
    e.peer(s)
    e.disconnect(s)
    return s.getsockname()[1]


@each(BOTH)
def disconnect_then_send(s, e):
    e.peer(s)
    e.disconnect(s)
    return outcome(s.send, b"x")


@each(BOTH)
def connected_filter(s, e):
    s.bind((e.host, 0))
    other = e.peer(s)
    address = e.at(s)
    e.socket().sendto(b"stranger", address)
    other.sendto(b"peer", address)
    return s.recv(10)


@each(BOTH)
def connected_sendto_elsewhere(s, e):
    e.peer(s)
    third, address = e.bound()
    return s.sendto(b"x", address), third.recv(9)


# --- sending

for size in (0, 1, 1472, 65507, 65508, 70000):
    row(f"send-{size}", lambda s, e, n=size: (
        [other := e.peer(s)] and outcome(s.send, bytes(n)),
        n <= 65507 and len(other.recv(70000))), BOTH if size < 65507 else (4,))  # fmt: skip
    row(f"sendto-{size}", lambda s, e, n=size: [
        (outcome(s.sendto, bytes(n), address), n <= 65507 and len(other.recv(70000)))
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
        [other := e.peer(s)] and outcome(s.send, b"x", f),
        f != socket.MSG_OOB and other.recv(9)))  # fmt: skip


@each(BOTH)
def send_more_corks(s, e):
    other = e.peer(s)
    return s.send(b"a", socket.MSG_MORE), s.send(b"b"), other.recv(9)


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
    "connect-port-0-send": lambda s, e: (s.connect((e.host, 0)), outcome(s.send, b"x")),
    "sendall-returns-none": lambda s, e: [(s.sendall(b"x"), o.recv(9)) for o in [e.peer(s)]],
    "sendto-autobinds": lambda s, e: (
        s.sendto(b"x", e.bound()[1]), s.getsockname()[1] > 0),
    "sendto-broadcast": lambda s, e: s.sendto(b"x", ("127.255.255.255", 9)),
    "sendto-connected-empty-host": lambda s, e: outcome(s.sendto, b"", (e.host, 0)),
}.items():  # fmt: skip
    row(name, lambda s, e, c=call: outcome(c, s, e))

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
    "pktinfo-not-ours": (4, (IP, IP_PKTINFO, struct.pack("i4s4s", 0, b"\xc6\x33\x64\x09", bytes(4)))),
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
    got = outcome(s.sendmsg, [b"x"], [message], 0, address)
    if got != 1:
        return got
    data, ancillary, flags, source = other.recvmsg(9, 200)
    return data, sorted(ancillary), flags, e.place(source)


for name, (version, message) in SENT.items():
    row(f"sendmsg-{name}", partial(send_ancillary, message=message), (version,))
row(
    "sendmsg-ancillary-not-a-tuple",
    lambda s, e: outcome(s.sendmsg, [b"x"], [5], 0, e.refuses()),
)
row("sendmsg-ancillary-text", lambda s, e: outcome(
    s.sendmsg, [b"x"], [(IP, socket.IP_TTL, "x")], 0, e.refuses()))  # fmt: skip


# --- receiving

EMPTY = {
    "recv": lambda s, flags=0: s.recv(9, flags),
    "recvfrom": lambda s, flags=0: s.recvfrom(9, flags),
    "recv_into": lambda s, flags=0: s.recv_into(bytearray(9), 0, flags),
    "recvfrom_into": lambda s, flags=0: s.recvfrom_into(bytearray(9), 0, flags),
    "recvmsg": lambda s, flags=0: s.recvmsg(9, 0, flags),
    "recvmsg_into": lambda s, flags=0: s.recvmsg_into([bytearray(9)], 0, flags),
}
for name, call in EMPTY.items():
    row(f"{name}-empty", lambda s, e, c=call: (s.setblocking(False), outcome(c, s)))
    row(f"{name}-empty-timeout", lambda s, e, c=call: (s.settimeout(0.02), outcome(c, s)))
    row(f"{name}-dontwait", lambda s, e, c=call: (
        s.setblocking(True), outcome(c, s, DONTWAIT)))  # fmt: skip
    row(f"{name}-errqueue-empty", lambda s, e, c=call: (
        s.setblocking(True), outcome(c, s, QUEUE)))  # fmt: skip
    row(f"{name}-shut-read", lambda s, e, c=call: (
        e.peer(s), s.setblocking(True), s.shutdown(socket.SHUT_RD), outcome(c, s))[3])  # fmt: skip
    row(f"{name}-shut-read-dontwait", lambda s, e, c=call: (
        e.peer(s), s.setblocking(True), s.shutdown(socket.SHUT_RD), outcome(c, s, DONTWAIT)
    )[3])  # fmt: skip
    row(f"{name}-zero-length", lambda s, e, c=call: (
        e.given(s, b""), [x if not isinstance(x, tuple) else "place" for x in list_of(c(s))]
    )[1], BOTH)  # fmt: skip
    row(f"{name}-closed", lambda s, e, c=call: (s.close(), outcome(c, s)))


def list_of(value):
    return value if isinstance(value, tuple) else [value]


row("recv-timeout-dontwait", lambda s, e: (s.settimeout(0.02), outcome(s.recv, 9, DONTWAIT)),
    differs="with a timeout the stdlib's socket waits in spite of MSG_DONTWAIT")  # fmt: skip

row("recv-trunc-length", lambda s, e: (e.given(s, b"0123456789"), len(s.recv(4, TRUNC))),
    differs="the stdlib's bytes go on with octets that nobody wrote")  # fmt: skip

RECEIVED = {
    "recv-short": lambda s: s.recv(4),
    "recv-exact": lambda s: s.recv(10),
    "recv-0": lambda s: s.recv(0),
    "recv-negative": lambda s: s.recv(-1),
    "recvfrom-negative": lambda s: s.recvfrom(-1),
    "recv-no-size": lambda s: s.recv(),
    "recv-text": lambda s: s.recv("9"),
    "recv-peek": lambda s: (s.recv(3, PEEK), s.recv(9, PEEK), s.recv(20)),
    "recv-trunc": lambda s: s.recv(4, TRUNC)[:4],
    "recv-waitall": lambda s: s.recv(20, socket.MSG_WAITALL),
    "recv-oob": lambda s: s.recv(20, socket.MSG_OOB),
    "recv-something-dontwait": lambda s: s.recv(20, DONTWAIT),
    "recv-dontroute": lambda s: s.recv(20, socket.MSG_DONTROUTE),
    "recv-nosignal": lambda s: s.recv(20, socket.MSG_NOSIGNAL),
    "recv-cloexec": lambda s: s.recv(20, socket.MSG_CMSG_CLOEXEC),
    "recv-bit-20": lambda s: s.recv(20, 0x100000),
    "recv-errqueue-keeps": lambda s: (at_once(s, s.recv, 9, QUEUE), s.recv(20)),
    "recv-then-empty": lambda s: (s.recv(2), at_once(s, s.recv, 9)),
    "recv-0-consumes": lambda s: (s.recv(0), at_once(s, s.recv, 9)),
    "recvmsg-short": lambda s: s.recvmsg(4)[:3],
    "recvmsg-exact": lambda s: s.recvmsg(10)[:3],
    "recvmsg-trunc": lambda s: s.recvmsg(4, 0, TRUNC)[:3],
    "recvmsg-peek": lambda s: (s.recvmsg(4, 0, PEEK)[:3], s.recvmsg(20)[:3]),
    "recvmsg-negative": lambda s: s.recvmsg(-1),
    "recvmsg-negative-ancillary": lambda s: s.recvmsg(9, -1),
    "recvmsg-waitall": lambda s: s.recvmsg(20, 0, socket.MSG_WAITALL)[:3],
    "recvmsg-cloexec": lambda s: s.recvmsg(20, 0, socket.MSG_CMSG_CLOEXEC)[:3],
    "recvmsg-something-dontwait": lambda s: s.recvmsg(20, 0, DONTWAIT)[:3],
}
for name, call in RECEIVED.items():
    row(name, lambda s, e, c=call: (e.given(s, b"0123456789"), outcome(c, s))[1])


def receive_into(s, e, call, size, nbytes, flags=0):
    e.given(s, b"0123456789")
    buffer = bytearray(b"-" * size)
    got = outcome(getattr(s, call), buffer, nbytes, flags)
    return got if not isinstance(got, tuple) else (got[0], e.place(got[1])), buffer


for call in ("recv_into", "recvfrom_into"):
    for args in ((20, 0), (20, 4), (4, 0), (4, 9), (4, -1), (0, 0), (4, 0, TRUNC), (12, 12),
                 (4, 0, PEEK | TRUNC), (20, 5, DONTWAIT)):  # fmt: skip
        name = "-".join(map(str, args))
        row(f"{call}-{name}", lambda s, e, c=call, a=args: receive_into(s, e, c, *a))
row("recv_into-read-only", lambda s, e: (e.given(s, b"x"), outcome(s.recv_into, b"1234"))[1])
row("recv_into-text", lambda s, e: (e.given(s, b"x"), outcome(s.recv_into, "1234"))[1])
row("recvfrom_into-none", lambda s, e: (e.given(s, b"x"), outcome(s.recvfrom_into, None))[1])


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


# --- shutdown(2)

for how in (-1, 0, 1, 2, 3):
    row(f"shutdown-{how}-unconnected", lambda s, e, h=how: outcome(s.shutdown, h))
    row(f"shutdown-{how}-bound", lambda s, e, h=how: (
        s.bind((e.host, 0)), outcome(s.shutdown, h)))  # fmt: skip
    row(f"shutdown-{how}-connected", lambda s, e, h=how: (
        e.peer(s) and outcome(s.shutdown, h), outcome(s.shutdown, h),
        outcome(s.send, b"x"), e.place(outcome(s.getpeername))))  # fmt: skip
    row(f"shutdown-{how}-closed", lambda s, e, h=how: (s.close(), outcome(s.shutdown, h)))
row("shutdown-text", lambda s, e: outcome(s.shutdown, "0"))


@each()
def shutdown_write_unconnected_still_shuts(s, e):
    return outcome(s.shutdown, socket.SHUT_WR), outcome(s.sendto, b"x", e.bound()[1])


@each(BOTH)
def shutdown_write_every_send(s, e):
    other = e.peer(s)
    s.shutdown(socket.SHUT_WR)
    address = other.getsockname()[:2]
    calls = (partial(s.send, b"x"), partial(s.sendall, b"x"), partial(s.sendto, b"x", address),
             partial(s.sendmsg, [b"x"]), partial(s.send, bytes(65508)))  # fmt: skip
    return [outcome(call) for call in calls]


@each()
def shutdown_read_keeps_what_came(s, e):
    other = e.peer(s)
    other.sendto(b"x", e.at(s))
    ready(s)
    s.setblocking(True)
    s.shutdown(socket.SHUT_RD)
    return s.recv(9), s.recv(9)


@each()
def shutdown_read_still_sends(s, e):
    other = e.peer(s)
    s.shutdown(socket.SHUT_RD)
    return s.send(b"x"), other.recv(9)


@each()
def shutdown_read_is_readable(s, e):
    e.peer(s)
    s.shutdown(socket.SHUT_RD)
    return len(select.select([s], [], [], DEADLINE_S)[0])


@each()
def shutdown_write_still_receives(s, e):
    other = e.peer(s)
    s.shutdown(socket.SHUT_WR)
    other.sendto(b"x", e.at(s))
    return s.recv(9)


@each()
def shutdown_unconnected_wakes(s, e):
    s.bind((e.host, 0))
    s.setblocking(True)
    return outcome(s.shutdown, socket.SHUT_RD), s.recv(9)


# --- a closed socket

CLOSED = {
    "bind": lambda s, e: s.bind((e.host, 0)),
    "connect": lambda s, e: s.connect((e.host, 9)),
    "connect_ex": lambda s, e: s.connect_ex((e.host, 9)),
    "getsockname": lambda s, e: s.getsockname(),
    "getpeername": lambda s, e: s.getpeername(),
    "getsockopt": lambda s, e: s.getsockopt(SOCKET, socket.SO_TYPE),
    "getsockopt-error": lambda s, e: s.getsockopt(SOCKET, socket.SO_ERROR),
    "setsockopt": lambda s, e: s.setsockopt(SOCKET, socket.SO_RCVBUF, 9),
    "send": lambda s, e: s.send(b"x"),
    "send-oversize": lambda s, e: s.send(bytes(70000)),
    "send-flag": lambda s, e: s.send(b"x", socket.MSG_OOB),
    "sendall": lambda s, e: s.sendall(b"x"),
    "sendto": lambda s, e: s.sendto(b"x", (e.host, 9)),
    "sendmsg": lambda s, e: s.sendmsg([b"x"]),
    "dup": lambda s, e: s.dup(),
    "detach": lambda s, e: s.detach(),
    "fileno": lambda s, e: s.fileno(),
    "close": lambda s, e: s.close(),
    "setblocking": lambda s, e: s.setblocking(True),
    "settimeout": lambda s, e: s.settimeout(1),
    "getblocking": lambda s, e: s.getblocking(),
    "gettimeout": lambda s, e: s.gettimeout(),
    "recv-negative": lambda s, e: s.recv(-1),
    "type": lambda s, e: s.type,
    "enter": lambda s, e: s.__enter__() is s,
}
for name, call in CLOSED.items():
    row(f"closed-{name}", lambda s, e, c=call: (s.close(), outcome(c, s, e))[1])


# --- modes and descriptors


def modes(s, e, call, *args):
    return outcome(getattr(s, call), *args), s.getblocking(), s.gettimeout(), s.timeout


for call, *args in (
    ("setblocking", True), ("setblocking", False), ("setblocking", 0), ("settimeout", None),
    ("settimeout", 0), ("settimeout", 0.5), ("settimeout", 3), ("settimeout", -1),
    ("settimeout", "1"), ("settimeout", float("nan")), ("settimeout", 1e30), ("setblocking", "x"),
):  # fmt: skip
    row(f"{call}-{args[0]}", lambda s, e, c=call, a=args: modes(s, e, c, *a))  # fmt: skip


@each()
def dup_lives_on(s, e):
    other = e.peer(s)
    copy = s.dup()
    e.opened.append(copy)
    s.close()
    return copy.send(b"x"), other.recv(9), copy.fileno() >= 0, e.place(copy.getpeername())


@each()
def dup_shares(s, e):
    s.bind((e.host, 0))
    copy = s.dup()
    e.opened.append(copy)
    s.setsockopt(IP, socket.IP_TTL, 9)
    other = e.peer(copy)
    other.sendto(b"x", e.at(s))
    same = s.getsockname() == copy.getsockname() and s.getpeername() == copy.getpeername()
    return copy.getsockopt(IP, socket.IP_TTL), s.recv(9), same, copy.gettimeout()


@each()
def dup_close_frees_at_the_last(s, e):
    s.bind((e.host, 0))
    address = e.at(s)
    copy = s.dup()
    s.close()
    states = [outcome(e.socket().bind, address)]
    copy.close()
    return [*states, outcome(e.socket().bind, address)]


@each()
def detach(s, e):
    descriptor = s.fileno()
    got = s.detach() == descriptor
    if not e.ours:
        socket.close(descriptor)
    return got, s.fileno(), outcome(s.getsockname), outcome(s.detach)


@each()
def with_closes(s, e):
    with s as same:
        inside = same is s and s.fileno() >= 0
    return inside, s.fileno(), outcome(s.recv, 1)


@each()
def select_states(s, e):
    before = [len(x) for x in select.select([s], [], [], 0)]
    sender = e.given(s, b"x")
    during = [len(x) for x in select.select([s], [], [], 5)]
    s.recv(9)
    return before, during, [len(x) for x in select.select([s], [], [], 0)], sender.fileno() >= 0


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
    (4, IP, "IP_RECVTOS", 13), (4, IP, "IP_MULTICAST_TTL", 33), (4, IP, "IP_MULTICAST_LOOP", 34),
    (4, IP, "IP_MULTICAST_ALL", IP_MULTICAST_ALL), (4, IP, "unknown", 90),
    (4, SOCKET, "unknown", 199), (4, 200, "unknown", 1),
    (6, IPV6, "IPV6_MTU_DISCOVER", IPV6_MTU_DISCOVER), (6, IPV6, "IPV6_MTU", IPV6_MTU),
    (6, IPV6, "IPV6_RECVERR", IPV6_RECVERR), (6, IPV6, "IPV6_MULTICAST_ALL", IPV6_MULTICAST_ALL),
    (6, IPV6, "unknown", 199),
] + [
    (6, IPV6, name, getattr(socket, name))
    for name in ("IPV6_UNICAST_HOPS", "IPV6_TCLASS", "IPV6_RECVPKTINFO", "IPV6_RECVHOPLIMIT",
                 "IPV6_RECVTCLASS", "IPV6_V6ONLY", "IPV6_MULTICAST_HOPS", "IPV6_MULTICAST_LOOP",
                 "IPV6_MULTICAST_IF")
]  # fmt: skip


def set_and_get(s, e, level, option, values):
    """What each value gives, and what is then read."""
    return [(v, outcome(s.setsockopt, level, option, v), outcome(s.getsockopt, level, option))
            for v in values]  # fmt: skip


def get_lengths(s, e, level, option):
    return [
        (n, outcome(s.getsockopt, level, option, n))
        for n in (0, 1, 2, 3, 4, 5, 8, 1024, 1025, -1)
    ]


for version, level, name, option in OPTIONS:
    case = {"level": level, "option": option}
    row(
        f"get-{level}-{name}",
        lambda s, e, c=case: outcome(s.getsockopt, *c.values()),
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
row("set-SO_DOMAIN", lambda s, e: outcome(s.setsockopt, SOCKET, 39, 1))
row("ipv6-option-of-ipv4", lambda s, e: outcome(s.setsockopt, IPV6, socket.IPV6_UNICAST_HOPS, 9),
    differs="an AF_MHOST socket has both families")  # fmt: skip


def timeval(seconds, microseconds):
    return struct.pack("qq", seconds, microseconds)


TIMES = (timeval(2, 500_000), timeval(0, 0), timeval(0, 10**6), timeval(0, -1), timeval(-1, 0),
         bytes(4), 5, timeval(3, 0) + b"xx")  # fmt: skip
for name, option in {"SO_RCVTIMEO": 20, "SO_SNDTIMEO": 21}.items():
    row(f"{name}-get", lambda s, e, o=option: s.getsockopt(SOCKET, o, 16))
    for value in TIMES:
        row(f"{name}-{value if value == 5 else value.hex()}", lambda s, e, o=option, v=value: (
            outcome(s.setsockopt, SOCKET, o, v), s.getsockopt(SOCKET, o, 16)))  # fmt: skip


@each()
def rcvtimeo_ends_a_blocking_recv(s, e):
    s.setblocking(True)
    s.setsockopt(SOCKET, socket.SO_RCVTIMEO, timeval(0, 20_000))
    return [outcome(call, s) for call in EMPTY.values()]


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
    row(f"setsockopt-{name}", lambda s, e, a=args: outcome(s.setsockopt, *a))

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
        outcome(s.setsockopt, SOCKET, socket.SO_BINDTODEVICE, v),
        [outcome(s.getsockopt, SOCKET, socket.SO_BINDTODEVICE, n) for n in (16, 1, 2, 0, 99)],
    ))  # fmt: skip
row("bindtodevice-carries", lambda s, e: [
    (s.setsockopt(SOCKET, socket.SO_BINDTODEVICE, b"lo"), e.given(s, b"x") and s.recv(9))])  # fmt: skip


@each(BOTH)
def mtu_connected(s, e):
    e.peer(s)
    level, option = (IP, IP_MTU) if e.version == 4 else (IPV6, IPV6_MTU)
    return s.getsockopt(level, option)


@each((6,))
def v6only_after_bind(s, e):
    s.bind((e.host, 0))
    return outcome(s.setsockopt, IPV6, socket.IPV6_V6ONLY, 1)


@each()
def broadcast_needs_the_option(s, e):
    return outcome(s.connect, ("127.255.255.255", 9))


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
        outcome(s.setsockopt, IP, call, v) for call in (LEAVE, JOIN, JOIN, LEAVE, LEAVE)])  # fmt: skip
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
        outcome(s.setsockopt, IPV6, call, v)
        for call in (socket.IPV6_LEAVE_GROUP, socket.IPV6_JOIN_GROUP, socket.IPV6_JOIN_GROUP,
                     socket.IPV6_LEAVE_GROUP)], (6,))  # fmt: skip
for option in (JOIN, LEAVE):
    row(f"get-membership-{option}", lambda s, e, o=option: outcome(s.getsockopt, IP, o))
row("get-membership6", lambda s, e: outcome(s.getsockopt, IPV6, socket.IPV6_JOIN_GROUP), (6,))
for name, value in {
    "none": bytes(4), "lo": socket.inet_aton("127.0.0.1"), "not-ours": b"\xc6\x33\x64\x09",
    "mreqn": MREQN, "mreqn-no-ifindex": struct.pack("4s4si", GROUP, bytes(4), 9999),
    "mreq": bytes(4) + socket.inet_aton("127.0.0.1"), "short": b"\1", "int": 0,
}.items():  # fmt: skip
    row(f"multicast-if-{name}", lambda s, e, v=value: (
        outcome(s.setsockopt, IP, socket.IP_MULTICAST_IF, v),
        outcome(s.getsockopt, IP, socket.IP_MULTICAST_IF, 4),
        outcome(s.getsockopt, IP, socket.IP_MULTICAST_IF)))  # fmt: skip


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
    return [outcome(s.setsockopt, IP, option, mreq) for option in (39, 39, 40, 40)]


# --- errors


@each(BOTH)
def refused_by_recv(s, e):
    s.connect(e.refuses())
    return s.send(b"x"), outcome(s.recv, 9), at_once(s, s.recv, 9)


@each(BOTH)
def refused_by_send(s, e):
    s.connect(e.refuses())
    s.send(b"x")
    ready(s)
    return outcome(s.send, b"y"), s.getsockopt(SOCKET, socket.SO_ERROR) in (
        0,
        errno.ECONNREFUSED,
    )


@each(BOTH)
def refused_by_so_error(s, e):
    s.connect(e.refuses())
    s.send(b"x")
    ready(s)
    return [s.getsockopt(SOCKET, socket.SO_ERROR) for _ in range(2)], at_once(s, s.recv, 9)


for name, call in EMPTY.items():
    row(f"refused-{name}-dontwait", lambda s, e, c=call: (
        s.connect(e.refuses()), s.send(b"x"), ready(s), s.setblocking(True), outcome(c, s, DONTWAIT),
        outcome(c, s, DONTWAIT))[4:])  # fmt: skip


@each(BOTH)
def refused_is_not_told_unconnected(s, e):
    address = e.refuses()
    other, there = e.bound()
    sent = [s.sendto(b"x", address), s.sendto(b"y", there), other.recv(9)]
    return sent, outcome(s.sendto, b"x", address), s.getsockopt(SOCKET, socket.SO_ERROR)


@each(BOTH)
def refused_survives_connect(s, e):
    s.connect(e.refuses())
    s.send(b"x")
    ready(s)
    e.peer(s)
    return s.getsockopt(SOCKET, socket.SO_ERROR)


@each()
def refused_and_a_datagram_error_first(s, e):
    s.bind((e.host, 0))
    sender = e.socket()
    sender.sendto(b"early", e.at(s))
    ready(s)
    s.connect(e.refuses())
    s.send(b"x")
    return at_once(s, s.recv, 9) in ("ECONNREFUSED", b"early")


def error_queue(s, e, connected=True, size=4, room=200, flags=0):
    """Send where nobody listens; what the error queue then has, field by field."""
    s.setsockopt(*((IP, IP_RECVERR) if e.version == 4 else (IPV6, IPV6_RECVERR)), 1)
    address = e.refuses()
    if connected:
        s.connect(address)
    s.setblocking(False)
    s.sendto(b"payload", address)
    ready(s)
    pending = s.getsockopt(SOCKET, socket.SO_ERROR), s.getsockopt(SOCKET, socket.SO_ERROR)
    got = until(lambda: outcome(s.recvmsg, size, room, QUEUE | flags), "EAGAIN")
    data, ancillary, got_flags, source = got
    shown = []
    for level, kind, octets in ancillary:
        (family,) = struct.unpack_from("=H", octets, 16) if len(octets) >= 18 else (None,)
        shown.append((level, kind, octets[:16], family, octets[20:24], octets[24:40]))
    again = outcome(s.recvmsg, size, room, QUEUE)
    original = source[:2] == address if isinstance(source, tuple) else source
    return pending, data, shown, got_flags, original, again == "EAGAIN"


row("error-queue-connected", partial(error_queue, size=20), BOTH)
row("error-queue-unconnected", partial(error_queue, connected=False, size=20), BOTH)
row("error-queue-cut", error_queue)
row("error-queue-trunc", partial(error_queue, flags=TRUNC))
row("error-queue-no-room", partial(error_queue, room=0))
row("error-queue-little-room", partial(error_queue, room=32))
row("error-queue-dontwait", partial(error_queue, flags=DONTWAIT))
row("error-queue-peek", partial(error_queue, flags=PEEK))


@each(BOTH)
def error_queue_unconnected_error_is_raised(s, e):
    s.setsockopt(*((IP, IP_RECVERR) if e.version == 4 else (IPV6, IPV6_RECVERR)), 1)
    s.sendto(b"x", e.refuses())
    ready(s)
    return outcome(s.recv, 9), at_once(s, s.recv, 9)


@each()
def error_queue_by_other_calls(s, e):
    s.setsockopt(IP, IP_RECVERR, 1)
    address = e.refuses()
    got = []
    for call in EMPTY.values():
        s.sendto(b"payload", address)
        ready(s)
        s.getsockopt(SOCKET, socket.SO_ERROR)
        s.setblocking(False)
        answer = until(lambda call=call: outcome(call, s, QUEUE), "EAGAIN")
        got.append([x for x in list_of(answer) if not isinstance(x, tuple)])
    return got


@each()
def error_queue_cleared_when_turned_off(s, e):
    s.setsockopt(IP, IP_RECVERR, 1)
    s.sendto(b"x", e.refuses())
    ready(s)
    s.setsockopt(IP, IP_RECVERR, 0)
    return at_once(s, s.recvmsg, 9, 99, QUEUE)


@each()
def error_queue_of_what_is_too_long(s, e):
    s.setsockopt(IP, IP_RECVERR, 1)
    other = e.peer(s)
    return outcome(s.send, bytes(65508)), other.fileno() >= 0


def run(function, version, ours):
    side = Side(version, ours)
    try:
        return outcome(function, side.socket(), side)
    finally:
        side.close()


@pytest.mark.parametrize(("function", "version", "differs"), ROWS)
def test_the_same_as_the_kernel(function, version, differs):
    kernel, ours = run(function, version, False), run(function, version, True)
    assert (kernel != ours) == bool(differs), f"kernel {kernel!r}, AF_MHOST {ours!r}"
