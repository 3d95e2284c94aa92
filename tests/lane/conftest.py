"""The fast lane without its thread: a pair of sockets in the place of the TUN.

`App` is the application's side of a socket in shared memory, in Python: what ring.h says,
written a second time.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import socket
import struct
import time

import pytest

from mhostd import native
from mhostd.dev import ETH_P_IP, ETH_P_IPV6, NetDevice
from mhostd.fast import FastLane
from mhostd.host_udp import HostUdp
from mhostd.ipc.admin import Admin
from mhostd.ipc.calls import Calls
from mhostd.ipc.pump import Pumps
from mhostd.ipc.show import Show
from mhostd.skb import SkBuff
from mhostd.sock import Client
from mhostd.uapi import (
    DATA_HLEN,
    LANE_OCTETS,
    Consumed,
    Hello,
    Record,
    Socket,
    pack_data,
    pack_record,
    unpack_data,
    unpack_records,
)

RING = 1 << 20
HEAD = 4096
RX, TX = 0, 256  # octets of struct ring_ctl
HEAD_AT, TAIL_AT, WAKE_AT, ROOM_AT = 0, 64, 128, 192
PAD = 0x8000

NO_VNET = bytes(10)
PI = struct.Struct("!HH")


class App:
    """One application with one socket in shared memory.

    Attributes:
        sk: the daemon's side of it.
        near: its end of the pair of sockets.
    """

    def __init__(self):
        self.memfd = os.memfd_create("lane", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
        os.ftruncate(self.memfd, LANE_OCTETS)
        seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
        fcntl.fcntl(self.memfd, fcntl.F_ADD_SEALS, seals)
        self.shm = mmap.mmap(self.memfd, LANE_OCTETS)
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.near.setblocking(False)
        for ring in (RX, TX):
            self.set32(ring + WAKE_AT, 1)
        self.sk = None

    def get(self, at):
        return struct.unpack_from("=Q", self.shm, at)[0]

    def set(self, at, value):
        struct.pack_into("=Q", self.shm, at, value)

    def get32(self, at):
        return struct.unpack_from("=I", self.shm, at)[0]

    def set32(self, at, value):
        struct.pack_into("=I", self.shm, at, value)

    def put(self, record):
        """Send what pack_record() made; False if the ring is full."""
        head, tail = self.get(TX + HEAD_AT), self.get(TX + TAIL_AT)
        to_end = RING - head % RING
        pad = to_end if len(record) > to_end else 0
        if head + pad + len(record) - tail > RING:
            return False
        at = HEAD + RING + head % RING
        if pad:
            struct.pack_into("=IH", self.shm, at, pad, PAD)
            at = HEAD + RING
        self.shm[at : at + len(record)] = record
        self.set(TX + HEAD_AT, head + pad + len(record))
        if self.get32(TX + WAKE_AT):
            self.set32(TX + WAKE_AT, 0)
            self.near.send(b"\0")
        return True

    def send(self, payload, sa, flags=0, segment_size=0):
        return self.put(pack_record(record_of(sa, payload, flags, segment_size)))

    def take(self):
        """All that has come, as (payload, source), super-packets cut into datagrams."""
        found = []
        head, tail = self.get(RX + HEAD_AT), self.get(RX + TAIL_AT)
        while tail < head:
            at = HEAD + tail % RING
            length, flags = struct.unpack_from("=IH", self.shm, at)
            if flags & PAD:
                assert length == RING - tail % RING
                tail += length
                continue
            size = -(-length // 8) * 8
            (record,) = unpack_records(bytes(self.shm[at : at + size]))
            whole, step = record.payload, record.segment_size or len(record.payload) or 1
            parts = [whole[i : i + step] for i in range(0, len(whole), step)] or [b""]
            found += [(part, record.sa, record.cookie) for part in parts]
            tail += size
        assert tail == head
        self.set(RX + TAIL_AT, tail)
        return found

    def close(self):
        for each in (self.shm, self.near, self.far):
            each.close()
        os.close(self.memfd)


class ZmqApp:
    """One that gives no memory: data messages either way, and credit.

    Attributes:
        credits: whether take() gives it.
    """

    def __init__(self, node, sk):
        self.node = node
        self.sk = sk
        self.credits = True

    def send(self, payload, sa, flags=0, segment_size=0):
        return self.message(record_of(sa, payload, flags, segment_size))

    @staticmethod
    def record(payload, sa, flags=0):
        return record_of(sa, payload, flags)

    def message(self, *records):
        """Several in one message."""
        message = pack_data(self.sk.number, b"".join(map(pack_record, records)))
        self.node.calls.records(self.node.client, message, self.node.answers.append)
        return True

    def take(self):
        """All that has come, as App.take()."""
        found, octets = [], 0
        for message in [each for each in self.node.answers if isinstance(each, bytes)]:
            number, records = unpack_data(message)
            if number != self.sk.number:
                continue
            self.node.answers.remove(message)
            octets += len(message) - DATA_HLEN
            for record in records:
                assert not record.segment_size
                found.append((record.payload, record.sa, record.cookie))
        if octets and self.credits:
            consumed = Consumed(self.sk.number, octets)
            self.node.calls.request(self.node.client, consumed, self.node.answers.append)
        return found

    def close(self):
        pass


def record_of(sa, payload, flags=0, segment_size=0):
    return Record(sa, payload, flags, segment_size)


class PairTun(NetDevice):
    """A pair of sockets instead of a TUN with a struct virtio_net_hdr."""

    kind = "tun"

    def __init__(self, core):
        super().__init__("mhost0")
        self._core = core
        self.ours, self.wire = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        for end in (self.ours, self.wire):
            end.setblocking(False)
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8 << 20)

    def flush(self):
        queue, self.tx_queue = self.tx_queue, []
        for skb in queue:
            octets = len(skb)
            skb.push(len(NO_VNET))[:] = NO_VNET
            PI.pack_into(skb.push(PI.size), 0, 0, skb.protocol)
            self.ours.send(skb.data)
            self._core.tx_done(self, octets)


class LaneNode:
    """Node 1 whose sockets may be in shared memory, driven by hand.

    Attributes:
        answers: what the application would be told over ZeroMQ.
    """

    def __init__(self, make_node, tun=None, uso=True, host=False, zmq=False, identity=None):
        self.host_udp = None
        self.zmq = zmq
        self.watched = {}
        self.full = False  # the client's connection takes no more
        self.node = node = make_node(
            tun=tun, kernel=self._host_udp if host else None, identity=identity
        )
        self.fast = None
        self.answers = []
        self.apps = []
        clock = lambda: node.now  # noqa: E731
        if isinstance(node.tun, PairTun):
            self.lane = native.Lane(node.tun.ours.fileno(), True, uso)
            lo = node.core.devices["lo"]
            stack = node.stack
            self.fast = FastLane(self.lane, node.core, node.table, stack.udp, node.tun, lo)
        if host:
            fast, host_udp = self.fast, self.host_udp
            host_udp.lane_add, host_udp.lane_del = fast.host_add, fast.host_del
            fast.host_received, fast.host_error = host_udp.received, host_udp.lane_error
            fast.host_settle = host_udp.settle
        self.pumps = Pumps(self.fast, self._watch) if self.fast else None
        if self.pumps is not None:
            self.pumps.send = self._send
        self.show = Show(
            node.core, node.table, node.af_mhost.socks, clock, list, lambda _call: None,
            sync=self.fast.sync if self.fast else lambda: None,
        )  # fmt: skip
        self.calls = Calls(
            node.af_mhost, node.table, clock, lambda _name, _done: None, self.show,
            Admin(node.table, node.stack.l3_set), "ipc:///run/admin.sock", self.fast,
            self.pumps,
        )  # fmt: skip
        self.calls.send = self._send
        if self.fast is not None:
            self.fast.records, self.fast.gone = self.calls.ring, self.calls.gone
        self.client = Client(pid=7, uid=1000, program="test")
        self.ask(Hello(0, 1, "test"))

    def _host_udp(self, core):
        self.host_udp = HostUdp(core, lambda _fd, _callback: None)
        return self.host_udp

    def _watch(self, fd, callback):
        if callback is None:
            del self.watched[fd]
        else:
            assert fd not in self.watched
            self.watched[fd] = callback

    def _send(self, _client, event):
        if self.full and isinstance(event, bytes):
            return False
        self.answers.append(event)
        return True

    def ask(self, request):
        self.calls.request(self.client, request, self.answers.append)
        return self.answers.pop() if self.answers else None

    def app(self):
        """An application's socket; in shared memory if there is a fast lane."""
        number = self.ask(Socket(1, 27, 2, 0)).value
        if self.zmq:
            self.apps.append(ZmqApp(self, self.node.af_mhost.socks[number]))
            return self.apps[-1]
        app = App()
        app.sk = self.node.af_mhost.socks[number]
        if self.fast is not None:
            self.fast.add(app.sk, app.memfd, app.far.fileno())
        self.apps.append(app)
        return app

    def wake(self):
        """The lane's own work, then the daemon's; False if there was nothing for the lane."""
        found = self.lane.run() if self.fast is not None else 0
        self.turn()
        return found

    def turn(self):
        """What main.py does in one wake, while the lane works on its thread."""
        for fd, callback in list(self.watched.items()):
            if fd in self.watched and select.select([fd], [], [], 0)[0]:
                callback()
        if self.fast is not None:
            self.fast.on_readable()
        self.node.core.run_timers()
        self.node.core.flush()
        self.calls.flush()
        if self.fast is not None:
            self.fast.settle()
        self.calls.settle()

    def settle(self):
        while self.wake():
            pass
        self.wake()

    def receive(self, frame, vnet=NO_VNET):
        """A frame, or a super-packet, is there to be read."""
        ethertype = ETH_P_IPV6 if frame[0] >> 4 == 6 else ETH_P_IP
        if self.fast is not None:
            self.node.tun.wire.send(PI.pack(0, ethertype) + vnet + frame)
            return
        for each in native.segments(vnet, frame):
            skb = SkBuff(bytearray(each))
            skb.protocol = ethertype
            self.node.core.netif_receive_skb(self.node.tun, skb)

    def sent(self):
        """Packets that went out, super-packets cut into them."""
        if self.fast is None:
            self.node.core.flush()
            queue, self.node.tun.tx_queue = self.node.tun.tx_queue, []
            for skb in queue:
                self.node.core.tx_done(self.node.tun, len(skb))
            return [bytes(skb.data) for skb in queue]
        found = []
        while True:
            try:
                frame = self.node.tun.wire.recv(1 << 17)
            except BlockingIOError:
                return found
            found += native.segments(frame[4:14], frame[14:])

    def close(self):
        self.calls.release(self.client)
        for app in self.apps:
            app.close()
        if self.fast is not None:
            del self.fast, self.lane
            self.node.tun.ours.close()
            self.node.tun.wire.close()


@pytest.fixture(scope="session")
def until():
    """until(condition): look again until it is true."""

    def wait(condition):
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.001)

    return wait


@pytest.fixture(scope="session")
def lane_node(make_node):
    """LaneNode(...) on a PairTun; the caller closes it."""
    return lambda **more: LaneNode(make_node, PairTun, **more)


@pytest.fixture(scope="session")
def walk_node(make_node):
    """The same without a fast lane: the walk does everything."""
    return lambda **more: LaneNode(make_node, **more)


@pytest.fixture
def node(lane_node):
    """One with a fast lane."""
    made = lane_node()
    yield made
    made.close()
