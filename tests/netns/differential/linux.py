"""The Linux kernel behind a TUN of this process, and its sockets."""

import contextlib
import errno
import fcntl
import os
import select
import socket
import struct
import time

from differential.frames import ASKING, CONNECTED, OPEN, PORT, SOCKETS, US4, US6
from differential.outcome import Outcome, seen
from differential.wire import DEADLINE_S, Wire, in_namespace, is_chatter

TUNSETIFF, IFF_TUN = 0x400454CA, 1
IP_RECVTTL, IP_RECVTOS, IP_RECVERR, IP_MTU = 12, 13, 11, 14
IPV6_MTU, IPV6_RECVERR, IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS = 24, 25, 51, 66
SYSCTLS = {
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.accept_source_route": 0,
    "net.ipv4.conf.default.accept_source_route": 0,
    "net.ipv4.conf.all.route_localnet": 0,
    "net.ipv4.ip_forward": 0,
    "net.ipv4.ip_no_pmtu_disc": 0,
    "net.ipv4.icmp_ratemask": 0,  # nothing is limited; the limits have their own tests
    "net.ipv4.icmp_echo_ignore_all": 0,
    "net.ipv4.icmp_echo_ignore_broadcasts": 1,
    "net.ipv4.icmp_ignore_bogus_error_responses": 1,
    "net.ipv4.icmp_errors_use_inbound_ifaddr": 0,
    "net.ipv4.ip_default_ttl": 64,
    "net.ipv4.ipfrag_max_dist": 64,
    "net.ipv6.conf.all.accept_source_route": 0,
    "net.ipv6.conf.default.accept_source_route": 0,
    "net.ipv6.conf.all.forwarding": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv6.conf.default.router_solicitations": 0,
    "net.ipv6.conf.default.addr_gen_mode": 1,
    "net.ipv6.conf.default.hop_limit": 64,
    "net.ipv6.icmp.ratelimit": 0,
    "net.ipv6.icmp.echo_ignore_all": 0,
    "net.ipv6.auto_flowlabels": 0,
    "net.ipv6.flowlabel_reflect": 0,
    "net.ipv6.max_hbh_opts_number": 8,
    "net.ipv6.max_dst_opts_number": 8,
}


class KernelSide(Wire):
    """The Linux kernel, behind a TUN of this process."""

    def __init__(self, host):
        super().__init__()
        for name, value in SYSCTLS.items():
            host.sysctl(name, value)
        self._host = host
        self._thread = in_namespace(host.netns)
        self._fd = self._thread.submit(self._open).result()
        for command in (
            "link set k0 up mtu 1500",
            f"addr add {US4}/16 dev k0",
            f"-6 addr add {US6}/64 dev k0 nodad",
            "route add default dev k0",
            "-6 route add default dev k0",
        ):
            host.ip(command)

    def _open(self):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"k0", IFF_TUN))
        return fd

    def close(self):
        os.close(self._fd)
        self._thread.shutdown()

    def write(self, frame, version):
        os.write(self._fd, struct.pack("!HH", 0, 0x0800 if version == 4 else 0x86DD) + frame)

    def read(self, deadline):
        assert select.select([self._fd], [], [], deadline - time.monotonic())[0], "no answer"
        return os.read(self._fd, 65_536)[4:]

    def run(self, kind, peer):
        """What the kernel makes of a kind of frames."""
        return self._thread.submit(self._run, kind, peer).result()

    def _run(self, kind, peer):
        v4 = kind.version == 4
        with contextlib.ExitStack() as stack:
            socks = {port: stack.enter_context(self._socket(v4, port)) for port in SOCKETS}
            socks[CONNECTED].connect((peer, PORT))
            wire = self.exchange(kind.version, kind.frames(peer))
            errors = [
                (ASKING, *error) for error in iter(lambda: error_queue(socks[ASKING], v4), None)
            ]
            errors += pending(socks[CONNECTED])
            pending(socks[ASKING])
            delivered = []
            for port, sock in socks.items():
                delivered += [(port, *datagram) for datagram in datagrams(sock, v4)]
            with socket.socket(sock.family, socket.SOCK_DGRAM) as sock:
                sock.connect((peer, PORT))
                mtu = sock.getsockopt(*((0, IP_MTU) if v4 else (41, IPV6_MTU)))
        return Outcome(delivered, errors, [seen(frame) for frame in wire], mtu)

    def _socket(self, v4, port):
        sock = socket.socket(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if not v4:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        want(sock, v4, port)
        sock.bind(("", port))
        return sock

    def sysctl(self, name, value):
        self._host.sysctl(name, value)

    def after_a_while(self, version, frames, something):
        """What the kernel says of fragments in the end: until it says something, or a second
        later, which is when it would have."""
        self.exchange(version, frames)
        came, deadline = [], time.monotonic() + (DEADLINE_S if something else 1.5)
        while not came and select.select([self._fd], [], [], deadline - time.monotonic())[0]:
            came = [f for f in [self.read(deadline)] if not is_chatter(f)]
        return [seen(frame) for frame in came]

    def send(self, version, peer, size, discover, ttl=None, tos=None):
        """What the kernel writes for a datagram of an application, or its errno."""
        return self._thread.submit(self._send, version, peer, size, discover, ttl, tos).result()

    def _send(self, version, peer, size, discover, ttl, tos):
        with self._socket(version == 4, OPEN) as sock:
            names = (
                ((0, 10), (0, 2), (0, 1)) if version == 4 else ((41, 23), (41, 16), (41, 67))
            )
            for name, value in zip(names, (discover, ttl, tos), strict=True):
                if value is not None:
                    sock.setsockopt(*name, value)
            try:
                sock.sendto(bytes(size), (peer, PORT))
            except OSError as err:
                return errno.errorcode[err.errno]
            return [seen(frame) for frame in self.exchange(version, [])]


def want(sock, v4, port):
    """Control messages for all, the error queue for ASKING."""
    if v4:
        for name in (IP_RECVTTL, IP_RECVTOS):
            sock.setsockopt(socket.IPPROTO_IP, name, 1)
        sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, port == ASKING)
    else:
        for name in (IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS):
            sock.setsockopt(socket.IPPROTO_IPV6, name, 1)
        sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, port == ASKING)


def datagrams(sock, v4):
    """All that wait: (payload, source, port, TTL, type of service)."""
    found = []
    while True:
        try:
            payload, control, _flags, source = sock.recvmsg(70_000, 512)
        except BlockingIOError:
            return found
        values = {(level, type_): data for level, type_, data in control}
        names = ((0, 2), (0, 1)) if v4 else ((41, 52), (41, 67))
        ttl, tos = (values[name][0] for name in names)
        found.append((payload, *source[:2], ttl, tos))


def error_queue(sock, v4):
    """The first error that waits: (errno, origin, type, code, info, offender, to, payload)."""
    try:
        payload, control, _flags, to = sock.recvmsg(70_000, 512, socket.MSG_ERRQUEUE)
    except BlockingIOError:
        return None
    name = (0, IP_RECVERR) if v4 else (41, IPV6_RECVERR)
    (data,) = (data for level, type_, data in control if (level, type_) == name)
    number, origin, type_, code, _pad, info, _data = struct.unpack_from("=IBBBBII", data)
    at = slice(20, 24) if v4 else slice(24, 40)
    offender = socket.inet_ntop(socket.AF_INET if v4 else socket.AF_INET6, data[at])
    return number, origin, type_, code, info, offender, to[:2], payload


def pending(sock):
    """SO_ERROR, if there is one."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return [(sock.getsockname()[1], number)] if number else []
