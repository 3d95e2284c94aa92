"""socket(2), bind, connect, shutdown, close, dup and modes beside the kernel's."""

import select
import socket
from functools import partial

import mhost

BOTH = (4, 6)
SOCKET = socket.SOL_SOCKET
IP = socket.IPPROTO_IP

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


# --- socket(2)


def opened(s, e, args):
    new = e.outcome(e.socket, *args)
    return new if isinstance(new, str) else (new.type, new.getblocking(), new.gettimeout())


for name, args in {
    "dgram": (socket.SOCK_DGRAM, 0),
    "udp": (socket.SOCK_DGRAM, 17),
    "tcp": (socket.SOCK_DGRAM, 6),
    "protocol-256": (socket.SOCK_DGRAM, 256),
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
    row(f"socket-{name}", partial(opened, args=args))
row("socket-stream", lambda s, e: e.outcome(lambda: e.socket(socket.SOCK_STREAM) and 1),
    differs="AF_MHOST has datagrams only: ESOCKTNOSUPPORT")  # fmt: skip
row("socket-raw", lambda s, e: e.outcome(lambda: e.socket(socket.SOCK_RAW) and 1),
    differs="AF_MHOST has datagrams only; the kernel's wants a protocol")  # fmt: skip
row("socket-family-46", lambda s, e: e.outcome(lambda: e.socket(family=46)))
row("socket-family-negative", lambda s, e: e.outcome(lambda: e.socket(family=-3)))

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
        row(f"{call}-{name}", lambda s, e, c=call, a=address: e.outcome(getattr(s, c), a))
    row(f"sendto-{name}", lambda s, e, a=address: e.outcome(s.sendto, b"x", a))
row("bind-none", lambda s, e: e.outcome(s.bind, None))
row("connect-none", lambda s, e: e.outcome(s.connect, None),
    differs="None dissolves: AF_UNSPEC of connect(2)")  # fmt: skip
row("sendto-none", lambda s, e: e.outcome(s.sendto, b"x", None))


@each(BOTH)
def bind_not_ours(s, e):
    return e.outcome(s.bind, ("198.51.100.9" if e.version == 4 else "2001:db8:9::9", 0))


@each(BOTH)
def bind_port_0(s, e):
    return s.bind((e.host, 0)), e.place(s.getsockname())


@each(BOTH)
def bind_twice(s, e):
    s.bind((e.host, 0))
    port = s.getsockname()[1]
    again = e.outcome(s.bind, (e.host, 0))
    return again, s.getsockname()[1] == port


@each(BOTH)
def bind_after_connect(s, e):
    e.peer(s)
    port = s.getsockname()[1]
    return e.outcome(s.bind, (e.host, 0)), s.getsockname()[1] == port


@each(BOTH)
def bind_closed_then_again(s, e):
    other, address = e.bound()
    other.close()
    return e.outcome(s.bind, address)


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
    return e.outcome(s.bind, ("" if wild else e.host, other.getsockname()[1]))


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
    states = [e.outcome(s.getpeername)]
    other = e.peer(s)
    states.append(s.getpeername()[:2] == other.getsockname()[:2])
    e.disconnect(s)
    return [*states, e.outcome(s.getpeername)]


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
    return e.outcome(s.connect_ex, (e.host, 65536))


@each()
def disconnect_unconnected(s, e):
    return e.outcome(e.disconnect, s)


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
    return e.outcome(s.send, b"x")


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


# --- shutdown(2)

for how in (-1, 0, 1, 2, 3):
    row(f"shutdown-{how}-unconnected", lambda s, e, h=how: e.outcome(s.shutdown, h))
    row(f"shutdown-{how}-bound", lambda s, e, h=how: (
        s.bind((e.host, 0)), e.outcome(s.shutdown, h)))  # fmt: skip
    row(f"shutdown-{how}-connected", lambda s, e, h=how: (
        e.peer(s) and e.outcome(s.shutdown, h), e.outcome(s.shutdown, h),
        e.outcome(s.send, b"x"), e.place(e.outcome(s.getpeername))))  # fmt: skip
    row(f"shutdown-{how}-closed", lambda s, e, h=how: (s.close(), e.outcome(s.shutdown, h)))
row("shutdown-text", lambda s, e: e.outcome(s.shutdown, "0"))


@each()
def shutdown_write_unconnected_still_shuts(s, e):
    return e.outcome(s.shutdown, socket.SHUT_WR), e.outcome(s.sendto, b"x", e.bound()[1])


@each(BOTH)
def shutdown_write_every_send(s, e):
    other = e.peer(s)
    s.shutdown(socket.SHUT_WR)
    address = other.getsockname()[:2]
    calls = (partial(s.send, b"x"), partial(s.sendall, b"x"), partial(s.sendto, b"x", address),
             partial(s.sendmsg, [b"x"]), partial(s.send, bytes(65536)))  # fmt: skip
    return [e.outcome(call) for call in calls]


@each()
def shutdown_read_keeps_what_came(s, e):
    other = e.peer(s)
    other.sendto(b"x", e.at(s))
    e.ready(s)
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
    return len(select.select([s], [], [], 5)[0])


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
    return e.outcome(s.shutdown, socket.SHUT_RD), s.recv(9)


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
    row(f"closed-{name}", lambda s, e, c=call: (s.close(), e.outcome(c, s, e))[1])

# --- modes and descriptors


def modes(s, e, call, *args):
    return e.outcome(getattr(s, call), *args), s.getblocking(), s.gettimeout(), s.timeout


for call, *args in (
    ("setblocking", True), ("setblocking", False), ("setblocking", 0), ("settimeout", None),
    ("settimeout", 0), ("settimeout", 0.5), ("settimeout", 3), ("settimeout", -1),
    ("settimeout", "1"), ("settimeout", float("nan")), ("settimeout", 1e30),
    ("setblocking", "x"),
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
    states = [e.outcome(e.socket().bind, address)]
    copy.close()
    return [*states, e.outcome(e.socket().bind, address)]


@each()
def detach_and_take_up(s, e):
    descriptor = s.fileno()
    other = e.peer(s)
    same = s.detach() == descriptor
    again = mhost.Socket(fileno=descriptor) if e.ours else socket.socket(fileno=descriptor)
    e.opened.append(again)
    return same, s.fileno(), e.outcome(s.getsockname), again.send(b"x"), other.recv(9)


@each()
def with_closes(s, e):
    with s as same:
        inside = same is s and s.fileno() >= 0
    return inside, s.fileno(), e.outcome(s.recv, 1)


@each()
def select_states(s, e):
    before = [len(x) for x in select.select([s], [], [], 0)]
    sender = e.given(s, b"x")
    during = [len(x) for x in select.select([s], [], [], 5)]
    s.recv(9)
    return before, during, [len(x) for x in select.select([s], [], [], 0)], sender.fileno() >= 0


def test_the_same_as_the_kernel(row, run):
    function, version, differs = row
    kernel, ours = run(function, version, False), run(function, version, True)
    assert (kernel != ours) == bool(differs), f"kernel {kernel!r}, AF_MHOST {ours!r}"
