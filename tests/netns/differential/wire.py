"""A way to put frames in, and to see what comes back and what sockets are told.

Nobody waits for a time: after the frames comes an echo request, and what is on the wire
before its answer is what the frames have caused; then comes a last datagram for each
socket.
"""

import contextlib
import ctypes
import errno
import ipaddress
import os
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

from scapy.layers.inet import ICMP

from differential.frames import ASKING, CONNECTED, OPEN, PORT, SOCKETS, icmp6, ip4, ip6, udp
from differential.outcome import Outcome, seen

MARKER = {4: "10.77.255.1", 6: "fd77::ff:1"}
DEADLINE_S = 10
LAST = b"that was all"
# (level, name) of IP(V6)_RECVERR, what asks for TTL and type of service, those two, the MTU
# and how it is found: linux/in.h, linux/in6.h
RECVERR = {4: (0, 11), 6: (41, 25)}
RECEIVED = {4: ((0, 12), (0, 13)), 6: ((41, 51), (41, 66))}
TTL_TOS = {4: ((0, 2), (0, 1)), 6: ((41, 52), (41, 67))}
MTU = {4: (0, 14), 6: (41, 24)}
SENT = {4: ((0, 10), (0, 2), (0, 1)), 6: ((41, 23), (41, 16), (41, 67))}
EXTENDED_ERR = struct.Struct("=IBBBBII")  # linux/errqueue.h sock_extended_err
OFFENDER = {4: slice(20, 24), 6: slice(24, 40)}


def marker(version, number):
    """An echo request whose answer says that all before it was handled."""
    peer = MARKER[version]
    if version == 4:
        return bytes(ip4(peer) / ICMP(id=0xBEEF, seq=number))
    return bytes(icmp6(peer, 128, 0, b"\xbe\xef" + number.to_bytes(2, "big")))


def is_answer(frame, number):
    """Whether a packet is the answer to marker(version, number)."""
    rest = b"\xbe\xef" + number.to_bytes(2, "big")
    if frame[0] >> 4 == 4:
        return frame[9] == 1 and frame[20] == 0 and frame[24:28] == rest
    return frame[6] == 58 and frame[40] == 129 and frame[44:48] == rest


def is_chatter(frame):
    """Whether a kernel says it on its own: multicast listeners, routers, neighbours."""
    return frame[0] >> 4 == 6 and frame[24] == 0xFF


def in_namespace(netns):
    """An executor whose one thread lives in a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter():
        with open(netns) as file:
            assert libc.setns(file.fileno(), 0) == 0, os.strerror(ctypes.get_errno())

    return ThreadPoolExecutor(1, initializer=enter)


def text(address):
    """An address in octets, as the kernel spells it."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address)


class Wire:
    """One side: where frames go in and out, and the sockets of an application.

    A side has read(), write(), and socket(version, port), which opens and binds one.
    """

    def __init__(self):
        self._number = 0

    def exchange(self, version, frames):
        """Put frames in; return what came back until all were handled."""
        self._number = (self._number + 1) & 0xFFFF
        for frame in (*frames, marker(version, self._number)):
            self.write(frame, version)
        came, deadline = [], time.monotonic() + DEADLINE_S
        while True:
            frame = self.read(deadline)
            if is_answer(frame, self._number):
                return came
            if not is_chatter(frame):
                came.append(frame)

    def outcome(self, kind, peer):
        """What comes of a kind of frames."""
        version = kind.version
        header = ip4(peer) if version == 4 else ip6(peer)
        with contextlib.ExitStack() as stack:
            socks = {port: stack.enter_context(self.asking(version, port)) for port in SOCKETS}
            socks[ASKING].setsockopt(*RECVERR[version], 1)
            socks[CONNECTED].connect((peer, PORT))
            wire = self.exchange(version, kind.frames(peer))
            self.exchange(version, [bytes(header / udp(port, LAST)) for port in SOCKETS])
            delivered = list(datagrams(version, OPEN, socks[OPEN]))
            errors = list(error_queue(version, socks[ASKING]))
            errors += pending(CONNECTED, socks[CONNECTED])
            pending(ASKING, socks[ASKING])
            for port in (CONNECTED, ASKING):
                delivered += datagrams(version, port, socks[port])
            with self.asking(version, 0) as sock:
                sock.connect((peer, PORT))
                mtu = sock.getsockopt(*MTU[version])
        return Outcome(delivered, errors, [seen(frame) for frame in wire], mtu)

    def asking(self, version, port):
        """A socket that wants to know TTL and type of service."""
        sock = self.socket(version, port)
        sock.settimeout(DEADLINE_S)
        for name in RECEIVED[version]:
            sock.setsockopt(*name, 1)
        return sock

    def sent(self, version, peer, size, discover, ttl=None, tos=None):
        """The packets of a datagram that an application sends, or the errno."""
        with self.socket(version, OPEN) as sock:
            for name, value in zip(SENT[version], (discover, ttl, tos), strict=True):
                if value is not None:
                    sock.setsockopt(*name, value)
            try:
                sock.sendto(bytes(size), (peer, PORT))
            except OSError as err:
                return errno.errorcode[err.errno]
            return [seen(frame) for frame in self.exchange(version, [])]


def datagrams(version, port, sock):
    """All before the last: (port, payload, source, source port, TTL, type of service)."""
    while True:
        payload, control, _flags, (host, source_port, *_more) = sock.recvmsg(70_000, 512)
        if payload == LAST:
            return
        values = {(level, type_): data for level, type_, data in control}
        ttl, tos = (values[name][0] for name in TTL_TOS[version])
        source = text(ipaddress.ip_address(host).packed)
        yield port, payload, source, source_port, ttl, tos


def error_queue(version, sock):
    """All errors: (port, errno, origin, type, code, info, offender, to, payload)."""
    while True:
        sock.setblocking(False)
        try:
            payload, control, _flags, to = sock.recvmsg(70_000, 512, socket.MSG_ERRQUEUE)
        except BlockingIOError:
            return
        finally:
            sock.settimeout(DEADLINE_S)
        (data,) = (each[2] for each in control if each[:2] == RECVERR[version])
        number, origin, type_, code, _pad, info, _data = EXTENDED_ERR.unpack_from(data)
        offender = text(data[OFFENDER[version]])
        yield ASKING, number, origin, type_, code, info, offender, to[:2], payload


def pending(port, sock):
    """SO_ERROR, if there is one."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return [(port, number)] if number else []
