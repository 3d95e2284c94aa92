"""ECONNREFUSED, SO_ERROR and the error queue beside the kernel's."""

import socket
import struct
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
IP_RECVERR, IPV6_RECVERR = 11, 25

ROWS = {}


def row(name, function, versions=(4,), differs=""):
    assert name not in ROWS
    ROWS[name] = (function, versions, differs)


def each(versions=(4,), differs=""):
    """A function that is a row of its own."""

    def add(function):
        row(function.__name__.replace("_", "-"), function, versions, differs)
        return function

    return add


def as_tuple(value):
    return value if isinstance(value, tuple) else (value,)


# --- errors


@each(BOTH)
def refused_by_recv(s, e):
    s.connect(e.refuses())
    return s.send(b"x"), e.outcome(s.recv, 9), e.at_once(s, s.recv, 9)


@each(BOTH)
def refused_by_send(s, e):
    s.connect(e.refuses())
    s.send(b"x")
    e.ready(s)
    return e.outcome(s.send, b"y")


@each(BOTH)
def refused_by_so_error(s, e):
    s.connect(e.refuses())
    s.send(b"x")
    e.ready(s)
    return [s.getsockopt(SOCKET, socket.SO_ERROR) for _ in range(2)], e.at_once(s, s.recv, 9)


def refused_at_once(s, e, call):
    s.connect(e.refuses())
    s.send(b"x")
    e.ready(s)
    s.setblocking(True)
    return [e.outcome(e.receive, s, call, DONTWAIT) for _ in range(2)]


for name in CALLS:
    row(f"refused-{name}-dontwait", partial(refused_at_once, call=name))


@each(BOTH)
def refused_is_not_told_unconnected(s, e):
    address = e.refuses()
    other, there = e.bound()
    sent = [s.sendto(b"x", address), s.sendto(b"y", there), other.recv(9)]
    return sent, e.outcome(s.sendto, b"x", address), s.getsockopt(SOCKET, socket.SO_ERROR)


@each(BOTH)
def refused_survives_connect(s, e):
    s.connect(e.refuses())
    s.send(b"x")
    e.ready(s)
    e.peer(s)
    return s.getsockopt(SOCKET, socket.SO_ERROR)


@each()
def refused_beside_a_datagram(s, e):
    s.bind((e.host, 0))
    sender = e.socket()
    sender.sendto(b"early", e.at(s))
    e.ready(s)
    s.connect(e.refuses())
    s.send(b"x")
    s.setblocking(False)
    return {str(e.until(lambda: e.outcome(s.recv, 9), "EAGAIN")) for _ in range(2)}


def error_queue(s, e, connected=True, size=4, room=200, flags=0):
    """Send where nobody listens; what the error queue then has, field by field."""
    s.setsockopt(*((IP, IP_RECVERR) if e.version == 4 else (IPV6, IPV6_RECVERR)), 1)
    address = e.refuses()
    if connected:
        s.connect(address)
    s.setblocking(False)
    s.sendto(b"payload", address)
    e.ready(s)
    pending = s.getsockopt(SOCKET, socket.SO_ERROR), s.getsockopt(SOCKET, socket.SO_ERROR)
    got = e.until(lambda: e.outcome(s.recvmsg, size, room, QUEUE | flags), "EAGAIN")
    data, ancillary, got_flags, source = got
    shown = []
    for level, kind, octets in ancillary:
        (family,) = struct.unpack_from("=H", octets, 16) if len(octets) >= 18 else (None,)
        shown.append((level, kind, octets[:16], family, octets[20:24], octets[24:40]))
    again = e.outcome(s.recvmsg, size, room, QUEUE)
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
    e.ready(s)
    return e.outcome(s.recv, 9), e.at_once(s, s.recv, 9)


@each()
def error_queue_by_other_calls(s, e):
    s.setsockopt(IP, IP_RECVERR, 1)
    address = e.refuses()
    got = []
    for call in CALLS:
        s.sendto(b"payload", address)
        e.ready(s)
        s.getsockopt(SOCKET, socket.SO_ERROR)
        s.setblocking(False)
        answer = e.until(lambda call=call: e.outcome(e.receive, s, call, QUEUE), "EAGAIN")
        got.append([x for x in as_tuple(answer) if not isinstance(x, tuple)])
    return got


@each()
def error_queue_cleared_when_turned_off(s, e):
    s.setsockopt(IP, IP_RECVERR, 1)
    s.sendto(b"x", e.refuses())
    e.ready(s)
    s.setsockopt(IP, IP_RECVERR, 0)
    return e.at_once(s, s.recvmsg, 9, 99, QUEUE)


@each()
def error_queue_of_what_is_too_long(s, e):
    s.setsockopt(IP, IP_RECVERR, 1)
    other = e.peer(s)
    return e.outcome(s.send, bytes(65508)), other.fileno() >= 0


def test_the_same_as_the_kernel(row, run):
    function, version, differs = row
    kernel, ours = run(function, version, False), run(function, version, True)
    assert (kernel != ours) == bool(differs), f"kernel {kernel!r}, AF_MHOST {ours!r}"
