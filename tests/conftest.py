"""What the tests share: whole stacks on devices in memory, with a clock moved by hand.

The fixtures hand out classes and tables, for a test cannot import this file.
"""

from __future__ import annotations

import errno
from pathlib import Path
from random import Random
from types import SimpleNamespace

import pytest
from hypothesis import settings

from mhostd import native
from mhostd.config import parse_config
from mhostd.dev import ETH_P_IP, ETH_P_IPV6, ETH_P_MHOST, NetCore, NetDevice
from mhostd.errors import MhostError
from mhostd.init import mhost_init
from mhostd.skb import SkBuff
from mhostd.sock import Client, Datagram, Place, Sock, sock_dequeue
from mhostd.uapi import AF_MHOST, SockaddrMhost

# The gate is the same in every run; `--hypothesis-profile=long` looks further.
settings.register_profile("gate", deadline=None, derandomize=True)
settings.register_profile("long", deadline=None, max_examples=5000)
settings.load_profile("gate")


def pytest_collection_modifyitems(config, items):
    """MHOSTD_NATIVE=py runs all that the walk does by itself; the fast lane is C."""
    if native.Lane is not None:
        return
    lane = [i for i in items if i.get_closest_marker("native") or "tests/lane/" in str(i.path)]
    config.hook.pytest_deselected(items=lane)
    items[:] = [item for item in items if item not in lane]


SOCK_DGRAM = 2

# Node 1 is 10.77.0.1, fd77::1, testproto:1 and otherproto:0:0:0:1; `robot` is node 2.
CONFIG = """
[tun.inet]
address = "10.77.0.{n}/24"
host_address = "10.77.0.{kernel}"
prefixes = ["10.78.0.0/16"]
[tun.inet6]
address = "fd77::{n}/64"
host_address = "fd77::{kernel}"
[[ethernet]]
device = "eth0"
[[ethernet]]
device = "eth1"
[l3.testproto]
address = "{n}"
device = "eth0"
[l3.otherproto]
address = "0:0:0:{n:x}"
device = "eth1"
[hosts]
robot = ["testproto:2", "otherproto:0:0:0:2", "10.77.0.2", "fd77::2"]
"""


class Node:
    """A stack as mhost_init() builds it; what it sends stays in the devices' tx_queue.

    Attributes:
        now: the clock, seconds.
        errors: (sock, errno, destination, local) of each error_report.
    """

    def __init__(self, number=1, config=CONFIG, kernel=None, tun=None, identity=None):
        self.now = 1000.0
        self.errors = []
        self.client = Client(pid=100 + number, uid=0, program="test")
        self.core = NetCore(lambda: self.now)
        self.config = parse_config(config.format(n=number, kernel=100 + number))
        self.tun = NetDevice("mhost0") if tun is None else tun(self.core)
        self.ethernet = tuple(NetDevice(eth.device) for eth in self.config.ethernet)
        self.stack = mhost_init(
            self.config,
            self.core,
            tun=self.tun,
            ethernet=self.ethernet,
            host_udp=kernel(self.core) if callable(kernel) else kernel,
            rng=Random(number),
            identity=identity,
            random=Random(number).randbytes,
        )
        self.table = self.stack.table
        self.af_mhost = self.stack.af_mhost
        self.lo = self.core.devices["lo"]

    # --- the side of the applications

    def sa(self, text, port=0):
        """An address as an application spells it."""
        if text == "*":
            return SockaddrMhost(AF_MHOST, port)
        if ":" in text or text[0].isdigit():
            locator = self.table.mhost_pton(text)
            return SockaddrMhost(locator.family, port, locator.address, 0, locator.scope_id)
        return SockaddrMhost(AF_MHOST, port, b"", self.table.hosts[text].handle)

    def locator(self, text):
        return self.table.mhost_pton(text)

    def socket(self, bind=None, port=0, client=None):
        """A socket, bound if it is said where."""
        sk = self.af_mhost.mhost_create(
            client or self.client, AF_MHOST, SOCK_DGRAM, 0, lambda _sk: None, self._error_report
        )
        if bind is not None:
            self.bind(sk, bind, port)
        return sk

    def _error_report(self, sk, err):
        self.af_mhost.mhost_err(err.sa, err.error, self.now)
        self.errors.append((sk, err.error.errno, err.sa, err.local))

    def bind(self, sk, text, port=0):
        return self.af_mhost.mhost_bind(sk, self.sa(text, port))

    def connect(self, sk, text, port):
        return self.af_mhost.mhost_connect(sk, self.sa(text, port), self.now)

    def sendto(self, sk, payload, text=None, port=0):
        sa = None if text is None else self.sa(text, port)
        self.af_mhost.mhost_sendmsg(sk, payload, sa, self.now)

    def received(self, sk):
        """Take all that waits: (payload, host, port) of each datagram."""
        found = []
        while sk.receive_queue:
            payload, sa, *_rest = sock_dequeue(sk)
            found.append((payload, self.table.mhost_ntop(sa), sa.port))
        return found

    # --- the side of the wire

    def receive(self, frame, ethertype=None, dev=None, lladdr=b""):
        """A frame arrives; what it is and where, is seen from its first octet."""
        if ethertype is None:
            ethertype = {4: ETH_P_IP, 6: ETH_P_IPV6}.get(frame[0] >> 4, ETH_P_MHOST)
        if dev is None:
            dev = self.core.devices["eth0" if ethertype == ETH_P_MHOST else "mhost0"]
        skb = SkBuff(bytearray(frame))
        skb.protocol, skb.lladdr = ethertype, lladdr
        self.core.netif_receive_skb(dev, skb)

    def sent(self, dev=None):
        """Flush, and take the frames that are to be written to a device."""
        self.core.flush()
        dev = dev or self.tun
        queue, dev.tx_queue = dev.tx_queue, []
        return [bytes(skb.data) for skb in queue]

    def reassemblies(self):
        """Where fragments of IPv4 and IPv6 wait."""
        handlers = (h.proto.rcv.__self__ for h in self.stack.handlers.values())
        return [h._reassembly for h in handlers if hasattr(h, "_reassembly")]

    @property
    def drops(self):
        return {reason.name: count for reason, count in self.core.drops.items()}


class Kernel:
    """In the place of host_udp: the host kernel's UDP, in memory.

    Attributes:
        addresses: those the kernel has.
        taken: ports that another program has.
        bound: (place, port) by socket and family.
        sent: (payload, destination) of each datagram.
        refuses: errno by destination address, for sendmsg; by value, for setsockopt.
        options: (socket, family, (level, option), value) of each setsockopt.
    """

    def __init__(self, *addresses):
        self.addresses = set(addresses)
        self.taken = set()
        self.bound = {}
        self.sent = []
        self.refuses = {}
        self.options = []
        self.queue_rcv = {}
        self._next = 32768

    @staticmethod
    def supported(_family):
        return True

    @staticmethod
    def ifindex(name):
        return {"eth0": 3}.get(name, 0)

    def local(self, _family, address, _scope_id):
        return address in self.addresses

    def bind(self, sk, place: Place, port):
        if not port:
            self._next += 1
            port = self._next
        if port in self.taken:
            raise MhostError(errno.EADDRINUSE, f"bind: {place.l3} port {port}: in use")
        self.bound.setdefault((sk, place.family), []).append((place, port))
        return port

    def release(self, sk: Sock, family):
        self.bound.pop((sk, family), None)

    def setsockopt(self, sk, family, key, value):
        if value in self.refuses:
            raise MhostError(self.refuses[value], "setsockopt: refused")
        self.options.append((sk, family, key, value))

    def connect(self, _sk, sa):
        if sa.address in self.refuses:
            raise MhostError(self.refuses[sa.address], "connect: refused")

    def path_mtu(self, sa, source):
        return 1400

    def sendmsg(self, sk, payload, sa: SockaddrMhost, control=b""):
        assert (sk, sa.family) in self.bound
        if sa.address in self.refuses:
            raise MhostError(self.refuses[sa.address], "sendto: refused")
        self.sent.append((payload, sa))

    def deliver(self, sk, payload, sa):
        return self.queue_rcv[sa.family](sk, Datagram(payload, sa))


@pytest.fixture(scope="session")
def make_node():
    """Node(number, config, kernel): any number of stacks."""
    return Node


@pytest.fixture
def node():
    """Node 1, without the host kernel's UDP."""
    return Node()


@pytest.fixture
def kernel():
    """The kernel of `kernel_node`; it has 192.0.2.1 and 2001:db8::1."""
    return Kernel(bytes.fromhex("c0000201"), bytes.fromhex("20010db8") + bytes(11) + b"\1")


@pytest.fixture
def kernel_node(kernel):
    """Node 1 with the host kernel's UDP."""
    return Node(kernel=kernel)


@pytest.fixture(scope="session")
def config_text():
    """CONFIG for a node."""
    return lambda n=1: CONFIG.format(n=n, kernel=100 + n)


@pytest.fixture(scope="session")
def golden():
    """What Linux wrote, by name; golden/README.md says how it was captured."""
    lines = (Path(__file__).parent / "golden" / "linux.txt").read_text().splitlines()
    return {name: bytes.fromhex(octets) for name, _ethertype, octets in map(str.split, lines)}


@pytest.fixture(scope="session")
def scapy():
    """The oracle for octets; it takes 0.3 s to import."""
    from scapy.layers import inet, inet6
    from scapy.packet import Raw

    names = {**vars(inet6), **vars(inet)}
    return SimpleNamespace(Raw=Raw, in4_chksum=inet.in4_chksum, **_public(names))


def _public(names):
    wanted = [
        "IP",
        "IPv6",
        "UDP",
        "TCP",
        "ICMP",
        "in6_chksum",
        "fragment6",
        "defragment",
        "defragment6",
    ]
    return {
        k: v for k, v in names.items() if k in wanted or k.startswith(("ICMPv6", "IPv6Ext"))
    }
