"""What a datagram socket says to bad input, and what it is called; a line for each, as JSON.

Run with kernel sockets and with mhostd's: the lines are the same.
"""

import ctypes
import errno
import json
import socket
import struct
import sys

LIBC = ctypes.CDLL(None, use_errno=True)
PEER = sys.argv[1]  # of which port 9 is closed; nothing is sent there that arrives
FAMILY = socket.AF_INET6 if ":" in PEER else socket.AF_INET
PLAIN = len(socket.inet_pton(FAMILY, PEER)) == 4


def sockaddr(family=None, port=9, host=PEER, length=None):
    """The octets of an address; cut or padded to a length."""
    family = FAMILY if family is None else family
    octets = struct.pack("=H", family) + struct.pack("!H", port)
    octets += b"" if PLAIN else bytes(4)
    octets += socket.inet_pton(FAMILY, host) + (bytes(8) if PLAIN else bytes(4))
    length = len(octets) if length is None else length
    return octets[:length].ljust(length, b"\0")


def said(result):
    """The result of a call of the C library, or its errno."""
    return result if result >= 0 else errno.errorcode[ctypes.get_errno()]


def call(name, *args):
    ctypes.set_errno(0)
    return said(getattr(LIBC, name)(*args))


def with_address(name, fd, octets):
    return call(name, fd, octets, len(octets))


def sendto(fd, payload, octets, flags=0):
    return call(
        "sendto", fd, payload, ctypes.c_size_t(len(payload)), flags, octets, len(octets)
    )


def tell(what, *values):
    print(json.dumps([what, *values]), flush=True)


def opened():
    return LIBC.socket(FAMILY, socket.SOCK_DGRAM, 0)


def sockets():
    for family in (FAMILY, 99, -1):
        for kind in (socket.SOCK_DGRAM, socket.SOCK_RDM, 8, 99, -1):
            for proto in (0, socket.IPPROTO_UDP, socket.IPPROTO_TCP, 300, -1):
                result = call("socket", family, kind, proto)
                if isinstance(result, int):
                    LIBC.close(result)
                    result = "opened"
                tell("socket", family == FAMILY or family, int(kind), int(proto), result)


def addresses():
    short = len(sockaddr()) - 5
    for name in ("bind", "connect"):
        for what, octets in {
            "short": sockaddr(length=short),
            "one octet": b"\2",
            "empty": b"",
            "long": sockaddr(length=129),
            "as long as may be": sockaddr(port=0, length=128),
            "unknown family": sockaddr(family=77),
            "AF_UNIX": sockaddr(family=1),
            "not ours": sockaddr(port=0),
        }.items():
            fd = opened()
            if not (name == "connect" and what in ("not ours", "as long as may be")):
                result = with_address(name, fd, octets)
                if (name, what) != ("bind", "as long as may be"):
                    tell(name, what, result)
            LIBC.close(fd)
    fd = opened()
    for what, octets in {
        "short": sockaddr(length=short),
        "long": sockaddr(length=129),
        "unknown family": sockaddr(family=77),
        "port 0": sockaddr(port=0),
    }.items():
        tell("sendto", what, sendto(fd, b"x", octets))
    tell("sendto", "nobody", call("send", fd, b"x", ctypes.c_size_t(1), 0))
    for octets in (65_508, 65_535, 65_536, 70_000, 1 << 20):
        tell("sendto", octets, sendto(fd, bytes(octets), sockaddr()))
    tell("sendto", "MSG_OOB", sendto(fd, b"x", sockaddr(), socket.MSG_OOB))
    tell("sendto", "NULL", call("send", fd, None, ctypes.c_size_t(5), 0) != 0)
    LIBC.close(fd)


def twice():
    with socket.socket(FAMILY, socket.SOCK_DGRAM) as one:
        any_ = "0.0.0.0" if PLAIN else "::"
        one.bind((any_, 0))
        tell("bind", "twice", with_address("bind", one.fileno(), sockaddr(port=0, host=any_)))
        port = one.getsockname()[1]
        with socket.socket(FAMILY, socket.SOCK_DGRAM) as two:
            octets = sockaddr(port=port, host=any_)
            tell("bind", "in use", with_address("bind", two.fileno(), octets))
        tell(
            "getpeername", call("getpeername", one.fileno(), bytes(128), bytes([128, 0, 0, 0]))
        )
        tell("shutdown", "not connected", call("shutdown", one.fileno(), 2))
        tell("shutdown", "how", call("shutdown", one.fileno(), 3))
        tell("listen", call("listen", one.fileno(), 5))
        tell("accept", call("accept", one.fileno(), None, None))
        tell("lseek", call("lseek", one.fileno(), 0, 0))


def waiting():
    with socket.socket(FAMILY, socket.SOCK_DGRAM) as one:
        fd = one.fileno()
        buffer = ctypes.create_string_buffer(10)
        size = ctypes.c_size_t(10)
        tell("recv", "MSG_DONTWAIT", call("recv", fd, buffer, size, socket.MSG_DONTWAIT))
        tell("recv", "MSG_ERRQUEUE", call("recv", fd, buffer, size, socket.MSG_ERRQUEUE))
        one.setblocking(False)
        tell("recv", "O_NONBLOCK", call("recv", fd, buffer, size, 0))
        tell("read", "O_NONBLOCK", call("read", fd, buffer, size))
        one.setblocking(True)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("qq", 0, 50_000))
        tell("recv", "SO_RCVTIMEO", call("recv", fd, buffer, size, 0))


def options():
    with socket.socket(FAMILY, socket.SOCK_DGRAM) as one:
        fd = one.fileno()
        value, size = ctypes.c_int(1), ctypes.c_int(4)
        tell("setsockopt", "short", call("setsockopt", fd, 1, socket.SO_RCVBUF, b"\1", 1))
        tell("setsockopt", "NULL", call("setsockopt", fd, 1, socket.SO_RCVBUF, None, 4))
        tell("setsockopt", "option", call("setsockopt", fd, 1, 12345, b"\1\0\0\0", 4))
        tell("setsockopt", "TTL", call("setsockopt", fd, 0, socket.IP_TTL, b"\0\1\0\0", 4))
        result = call("getsockopt", fd, 1, 12345, ctypes.byref(value), ctypes.byref(size))
        tell("getsockopt", "option", result)
        result = call("getsockopt", fd, 9999, 1, ctypes.byref(value), ctypes.byref(size))
        tell("getsockopt", "level", result)
        for name in ("SO_TYPE", "SO_DOMAIN", "SO_PROTOCOL", "SO_ACCEPTCONN", "SO_ERROR"):
            tell("getsockopt", name, one.getsockopt(socket.SOL_SOCKET, getattr(socket, name)))
        for name in ("SO_RCVBUF", "SO_SNDBUF"):
            one.setsockopt(socket.SOL_SOCKET, getattr(socket, name), 50_000)
            tell("getsockopt", name, one.getsockopt(socket.SOL_SOCKET, getattr(socket, name)))


def closed():
    fd = opened()
    LIBC.close(fd)
    tell("close", "twice", call("close", fd))
    tell("sendto", "closed", sendto(fd, b"x", sockaddr()))
    tell("recv", "closed", call("recv", fd, bytes(4), ctypes.c_size_t(4), 0))
    tell("bind", "closed", with_address("bind", fd, sockaddr(port=0)))


def names():
    with socket.socket(FAMILY, socket.SOCK_DGRAM) as one:
        tell("getsockname", one.getsockname())
        one.connect((PEER, 9))
        here = one.getsockname()
        tell("getsockname", "connected", here[0], here[1] > 0)
        tell("getpeername", one.getpeername())
    with socket.socket(FAMILY, socket.SOCK_DGRAM) as one:
        any_ = "0.0.0.0" if PLAIN else "::"
        one.bind((any_, 0))
        port = one.getsockname()[1]
        tell("getsockname", "bound", one.getsockname()[0])
        one.connect((PEER, 9))
        tell("getsockname", "connected", one.getsockname()[0], one.getsockname()[1] == port)
        LIBC.connect(one.fileno(), bytes(16), 16)
        tell(
            "getpeername",
            "dissolved",
            call("getpeername", one.fileno(), bytes(128), b"\x80\0\0\0"),
        )


for part in (sockets, addresses, twice, waiting, options, names, closed):
    part()
