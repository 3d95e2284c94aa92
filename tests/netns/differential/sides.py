"""The three that get the same frames: the Linux kernel, a stack in memory, a daemon.

Nobody waits for a time: after the frames comes an echo request, and what is on the wire
before its answer is what the frames have caused; sockets are read up to a last datagram.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import select
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor

import mhost
from scapy.layers.inet import ICMP

from differential.frames import ASKING, CONNECTED, OPEN, PORT, US4, US6, icmp6, ip4, ip6, udp
from differential.outcome import Outcome, seen
from mhostd import native
from mhostd.skb import IP_PMTUDISC_WANT, SkBuff
from mhostd.sock import SO_EE_ORIGIN_LOCAL

TUNSETIFF, IFF_TUN = 0x400454CA, 1
IP_MTU, IPV6_MTU, IP_RECVERR, IPV6_RECVERR, IPV6_RECVHOPLIMIT = 14, 24, 11, 25, 51
IP_RECVTOS, IP_RECVTTL, IPV6_RECVTCLASS = 13, 12, 66
IPV6_HOPLIMIT, IPV6_TCLASS = 52, 67
PACKET_IGNORE_OUTGOING, SOL_PACKET, ETH_P_ALL = 23, 263, 3
LAST = b"that was all"
MARKER = {4: "10.77.255.1", 6: "fd77::ff:1"}
DEADLINE_S = 10

CONFIG = """
[tun.inet]
address = "10.77.0.1/16"
host_address = "10.77.255.254"
[tun.inet6]
address = "fd77::1/64"
host_address = "fd77::fffe"
"""
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


def last_datagram(version, peer, port):
    """To each socket, after everything else."""
    return bytes((ip4(peer) if version == 4 else ip6(peer)) / udp(port, LAST))


class Wire:
    """A way to put frames in, and to see what comes back."""

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
                delivered += [(port, *datagram) for datagram in datagrams(sock)]
            with socket.socket(sock.family, socket.SOCK_DGRAM) as sock:
                sock.connect((peer, PORT))
                mtu = sock.getsockopt(*((0, IP_MTU) if v4 else (41, IPV6_MTU)))
        return Outcome(delivered, errors, [seen(frame) for frame in wire], mtu)

    def _socket(self, v4, port):
        sock = socket.socket(socket.AF_INET if v4 else socket.AF_INET6, socket.SOCK_DGRAM)
        sock.setblocking(False)
        if v4:
            for name in (IP_RECVTTL, IP_RECVTOS):
                sock.setsockopt(socket.IPPROTO_IP, name, 1)
            sock.setsockopt(socket.IPPROTO_IP, IP_RECVERR, port == ASKING)
        else:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            for name in (IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS):
                sock.setsockopt(socket.IPPROTO_IPV6, name, 1)
            sock.setsockopt(socket.IPPROTO_IPV6, IPV6_RECVERR, port == ASKING)
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


SOCKETS = (OPEN, CONNECTED, ASKING)


def datagrams(sock):
    """All that wait: (payload, source, port, TTL, type of service)."""
    found = []
    while True:
        try:
            payload, control, _flags, source = sock.recvmsg(70_000, 512)
        except BlockingIOError:
            return found
        values = {(level, type_): data for level, type_, data in control}
        names = ((0, 2), (0, 1)) if sock.family == socket.AF_INET else ((41, 52), (41, 67))
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
    offender = socket.inet_ntop(sock.family, data[at])
    return number, origin, type_, code, info, offender, to[:2], payload


def pending(sock):
    """SO_ERROR, if there is one."""
    number = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    return [(sock.getsockname()[1], number)] if number else []


def text(address):
    """An address as the kernel spells it."""
    family = socket.AF_INET if len(address) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, address)


class StackSide:
    """A stack in memory for each kind."""

    def __init__(self, make_node):
        self._make_node = make_node

    def node(self):
        node = self._make_node(1, CONFIG)
        node.now += 3600  # nothing is limited from the beginning
        return node

    def run(self, kind, peer):
        """What mhostd makes of a kind of frames."""
        node = self.node()
        told = []
        socks = {port: node.socket("*", port) for port in SOCKETS}
        node.connect(socks[CONNECTED], peer, PORT)
        for sk in socks.values():
            sk.error_report = lambda sk, err: told.append((sk, err))
        for frame in kind.frames(peer):
            node.receive(frame, 0x0800 if kind.version == 4 else 0x86DD, node.tun)
        wire = [seen(frame) for frame in node.sent()]
        check_accounts(node)
        errors = [(ASKING, *self.error(err)) for sk, err in told if sk is socks[ASKING]]
        fatal = [err for sk, err in told if sk is socks[CONNECTED] and err.fatal]
        errors += [(CONNECTED, err.error.errno) for err in fatal[-1:]]
        delivered = [
            (port, d.payload, text(d.source.address), d.source.port, d.ttl, d.tos)
            for port, sk in socks.items()
            for d in sk.receive_queue
        ]
        proto = node.table.proto_named("inet" if kind.version == 4 else "inet6")
        return Outcome(delivered, errors, wire, proto.path_mtu(proto.pton(peer)))

    @staticmethod
    def error(err):
        assert err.origin != SO_EE_ORIGIN_LOCAL
        offender, to = (text(sa.address) for sa in (err.offender, err.sa))
        said = (err.error.errno, err.origin, err.type, err.code, err.info)
        return *said, offender, (to, err.sa.port), err.payload

    def send(self, node, version, peer, size, discover, ttl=None, tos=None):
        """What mhostd writes for a datagram of an application, or its errno."""
        proto = node.table.proto_named("inet" if version == 4 else "inet6")
        us, to = proto.pton(US4 if version == 4 else US6), proto.pton(peer)
        skb = SkBuff.alloc(bytes(size))
        psum = proto.csum_pseudo(us, to, size + 8)
        skb.push(8)
        native.udp_push(skb.data, OPEN, PORT, psum)
        skb.ttl, skb.tos = ttl or 0, tos or 0
        skb.pmtudisc = IP_PMTUDISC_WANT if discover is None else discover
        try:
            proto.sendmsg(skb, us, to)
        except OSError as err:
            return errno.errorcode[err.errno]
        return [seen(frame) for frame in node.sent()]


def check_accounts(node):
    """Every frame has ended once, or is held."""
    held = sum(handler.fragments for handler in node.reassemblies())
    protos = [node.table.proto_named(name) for name in ("inet", "inet6")]
    absorbed = sum(proto.counters["ip_reasm_absorbed"] for proto in protos)
    ends = {verdict.value: count for verdict, count in node.core.ends.items()}
    ends.pop("held", None)
    received = sum(dev.stats["rx_packets"] for dev in node.core.devices.values())
    ended = sum(ends.values()) + absorbed + sum(node.core.drops.values())
    assert received == ended + held, (received, ends, absorbed, node.drops, held)


class DaemonSide(Wire):
    """A daemon behind its own TUN; frames come to it through AF_PACKET."""

    def __init__(self, host):
        super().__init__()
        host.start("[tun]" + CONFIG)
        self._host = host
        self._thread = in_namespace(host.netns)
        self._packet = self._thread.submit(self._open).result()

    def _open(self):
        sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        sock.bind(("mhost0", ETH_P_ALL))
        return sock

    def close(self):
        self._packet.close()
        self._thread.shutdown()

    def write(self, frame, version):
        self._packet.sendto(frame, ("mhost0", 0x0800 if version == 4 else 0x86DD))

    def read(self, deadline):
        self._packet.settimeout(max(deadline - time.monotonic(), 0.001))
        return self._packet.recv(65_536)

    def run(self, kind, peer):
        """What a daemon makes of a kind of frames: payload, source, SO_ERROR, wire."""
        with contextlib.ExitStack() as stack:
            socks = {}
            for port in SOCKETS:
                socks[port] = stack.enter_context(mhost.Socket())
                socks[port].bind((US4 if kind.version == 4 else US6, port))
                socks[port].settimeout(DEADLINE_S)
            socks[CONNECTED].connect((peer, PORT))
            wire = self.exchange(kind.version, kind.frames(peer))
            last = [last_datagram(kind.version, peer, port) for port in SOCKETS]
            self.exchange(kind.version, last)
            delivered, errors = [], []
            for port, sock in socks.items():
                while True:
                    try:
                        payload, source = sock.recvfrom(70_000)
                    except TimeoutError:
                        raise
                    except OSError as err:
                        errors.append((port, err.errno))
                        continue
                    if payload == LAST:
                        break
                    delivered.append((port, payload, *source))
        time.sleep(0.002)  # no more errors go out than the limit of a host allows
        return delivered, errors, [seen(frame) for frame in wire]
