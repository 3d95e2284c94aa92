"""A wire between stacks in memory: what it does to a frame, one seed decides."""

from __future__ import annotations

import heapq
from collections import Counter
from random import Random

import pytest

ETHERTYPES = {4: 0x0800, 6: 0x86DD, 0: 0x88B5}


class Wire:
    """Joins the devices of the same name, and moves the clock of all stacks.

    Attributes:
        now: seconds.
        fate: how many frames were sent, lost, duplicated, delivered.
        apps: called after each delivery and each tick, to read their sockets.
        router: given a packet on `mhost0`, returns what it answers instead of
            forwarding, or None.
    """

    def __init__(self, nodes, seed=0, *, loss=0.0, duplicate=0.0, reorder=0.0, delay_s=0.005):
        self.nodes = dict(enumerate(nodes, 1))
        self.now = 0.0
        self.fate = Counter()
        self.apps = []
        self.router = lambda _packet: None
        self._rng = Random(seed)
        self._loss, self._duplicate, self._reorder = loss, duplicate, reorder
        self._delay_s = delay_s
        self._flying = []  # (arrival, order, number of the node, device, frame, lladdr)
        self._order = 0
        self._tell_the_time()

    def run(self, seconds, every_s=None, tick=None):
        """Let that much time pass, and call `tick` every so often in it."""
        end = self.now + seconds
        ticks = round(seconds / every_s) if every_s else 0
        times = [end - seconds + i * every_s for i in range(ticks)] + [end]
        for i, at in enumerate(times):
            self._fly(at)
            if i < ticks:
                tick()
                self._done()
        self._fly(end)

    def _fly(self, until):
        self._done()
        while self._flying and self._flying[0][0] <= until:
            self.now, _order, number, name, frame, lladdr = heapq.heappop(self._flying)
            self._tell_the_time()
            dev = self.nodes[number].core.devices[name]
            if dev.up:
                self.fate["delivered"] += 1
                self.nodes[number].receive(frame, ETHERTYPES[frame[0] >> 4], dev, lladdr)
            else:
                self.fate["lost"] += 1
            self._done()
        self.now = until
        self._tell_the_time()

    def _tell_the_time(self):
        for node in self.nodes.values():
            node.now = self.now

    def _done(self):
        """What a stack does at the end of a wake."""
        for app in self.apps:
            app()
        for number, node in self.nodes.items():
            node.core.flush()
            for dev in (node.tun, *node.ethernet):
                queue, dev.tx_queue = dev.tx_queue, []
                for skb in queue:
                    self._send(number, dev.name, bytes(skb.data), skb.lladdr)

    def _send(self, number, device, frame, lladdr):
        answer = self.router(frame) if device == "mhost0" else None
        if answer is not None:
            self._put(number, device, answer, b"")
            return
        for to in self._receivers(number, device, frame, lladdr):
            self.fate["sent"] += 1
            if self._rng.random() < self._loss:
                self.fate["lost"] += 1
                continue
            self._put(to, device, frame, mac(number))
            if self._rng.random() < self._duplicate:
                self.fate["duplicated"] += 1
                self._put(to, device, frame, mac(number))

    def _receivers(self, number, device, frame, lladdr):
        """On the TUN whose address it is, on Ethernet whose MAC, or everyone."""
        others = [n for n in self.nodes if n != number]
        if device == "mhost0":
            return [n for n in others if _daddr(frame)[-1] == n]
        return [n for n in others if lladdr in (b"", mac(n))]

    def _put(self, number, device, frame, lladdr):
        late = self._rng.random() < self._reorder
        delay_s = self._delay_s * (self._rng.uniform(2, 6) if late else 1)
        self._order += 1
        lladdr = b"" if device == "mhost0" else lladdr
        entry = (self.now + delay_s, self._order, number, device, frame, lladdr)
        heapq.heappush(self._flying, entry)


def mac(number):
    return bytes((2, 0, 0, 0, 0, number))


def _daddr(packet):
    return packet[16:20] if packet[0] >> 4 == 4 else packet[24:40]


@pytest.fixture
def make_wire(make_node):
    """Wire(seed, stacks, loss, duplicate, reorder) between that many new stacks."""

    def make(seed=0, stacks=2, **how):
        return Wire([make_node(n + 1) for n in range(stacks)], seed, **how)

    return make
