"""mhostd: a stack in memory, and a daemon behind its own TUN."""

import errno
import socket
import time

import mhost

from differential.frames import ASKING, CONNECTED, OPEN, PORT, SOCKETS, US4, US6
from differential.outcome import Outcome, seen
from differential.wire import Wire, in_namespace, text
from mhostd import native
from mhostd.skb import IP_PMTUDISC_WANT, SkBuff
from mhostd.sock import SO_EE_ORIGIN_LOCAL

PACKET_IGNORE_OUTGOING, SOL_PACKET, ETH_P_ALL = 23, 263, 3
CONFIG = """
[tun.inet]
address = "10.77.0.1/16"
host_address = "10.77.255.254"
[tun.inet6]
address = "fd77::1/64"
host_address = "fd77::fffe"
"""


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

    def socket(self, version, port):
        sock = mhost.Socket()
        sock.bind((US4 if version == 4 else US6, port))
        return sock

    def run(self, kind, peer):
        """What a daemon makes of a kind of frames."""
        outcome = self.outcome(kind, peer)
        time.sleep(0.002)  # no more errors go out than the limit of a host allows
        return outcome

    send = Wire.sent
