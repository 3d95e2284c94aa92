"""Associations through the fast lane and through the walk alone: the same, whatever comes.

Each node has an association over its TUN with a host that the test plays: `Far`, all of
mhostd/host/ with a wire made of frames. What that host sends, and what was made of it on
the way, ends alike on both; so does what the applications of the nodes send.
"""

from __future__ import annotations

import socket
from collections import Counter, defaultdict
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhostd.fast_peers import FastPeers
from mhostd.host.hosts import Hosts
from mhostd.host.identity import Identity
from mhostd.host.path import State, Uplink, Way
from mhostd.host.wire import DATA, PORT, parse_header
from mhostd.l3.icmp_limit import PEER_BURST
from mhostd.sock import Locator
from mhostd.uapi import AF_INET, AF_INET6, Record, SetSockOpt, SockaddrMhost

US, THEM = (Identity.from_private(bytes([n]) * 32) for n in (1, 2))
OURS = [
    Locator(AF_INET, bytes((10, 77, 0, 1))),
    Locator(AF_INET6, bytes.fromhex("fd77") + bytes(13) + b"\1"),
]
THEIRS = [
    Locator(AF_INET, bytes((10, 78, 0, 2))),
    Locator(AF_INET6, bytes.fromhex("fd77") + bytes(13) + b"\2"),
]
PORTS = (4000, 4001)
BUFFER = 1 << 19
MTU = 1500


class Far:
    """The host at the other end of the TUN."""

    def __init__(self, send, now):
        self._send = send
        self.got = defaultdict(list)
        self.refusals = Counter()
        self.hosts = Hosts(THEM, self, Random(2).randbytes, now)
        self.hosts.set_uplinks(
            [Uplink("inet", THEIRS[0], 0, "x"), Uplink("inet6", THEIRS[1], 0, "x")], now
        )
        self.peer = self.hosts.add(US.public, "near", OURS, now)

    # --- hosts.Rim

    def transmit(self, way, packet):
        self._send(way, packet)

    def room(self, way):
        return MTU - (28 if way.remote.family == AF_INET else 48)

    def routes(self, uplink, locator):
        return True

    def deliver(self, peer, next_, inner, path, late_s):
        self.got[inner[:4]].append((next_, inner))

    def unreachable(self, peer, inner, err):
        raise err

    def refused(self, peer, next_, head):
        self.refusals[next_, head] += 1

    def realtime_ns(self):
        return 1_700_000_000 * 10**9

    def _nothing(self, *_args):
        pass

    event = changed = warm = added = forgotten = session_removed = lost = moved = _nothing


class Node:
    """One with an association; `lane` says whether C may carry it."""

    def __init__(self, made, scapy, policy):
        self.made = made
        self.node = made.node
        self.scapy = scapy
        self.overlay = overlay = self.node.stack.overlay
        if made.fast is not None:
            made.fast.peers = FastPeers(
                made.lane, self.node.core, self.node.table, self.node.stack.udp, overlay
            )
        overlay.bind()
        overlay.look()
        self.far = Far(self._arrives, self.node.now)
        self.frames = []  # of DATA, as they came
        self.keep = True
        overlay.name("far", THEM.public, THEIRS, policy)
        self.apps = [made.app() for _ in PORTS]
        for app, port in zip(self.apps, PORTS, strict=True):
            app.sk.rcvbuf = BUFFER
            self.node.bind(app.sk, "*", port)
            if made.fast is not None:
                made.fast.changed(app.sk)
        self.far.hosts.send(US.identifier, 17, b"\0" * 8, False, self.node.now)
        self.exchange()
        for peer in (self.far.peer, overlay.hosts.peers[THEM.identifier]):
            assert [path.state for path in peer.paths.values()] == [State.WORKS] * 2, peer.paths

    # --- the wire

    def _arrives(self, way, packet):
        s = self.scapy
        udp = s.UDP(sport=PORT, dport=PORT) / packet
        if way.remote.family == AF_INET:
            ip = s.IP(src=dotted(way.source), dst=dotted(way.remote))
        else:
            ip = s.IPv6(src=dotted(way.source), dst=dotted(way.remote))
        frame = bytes(ip / udp)
        if parse_header(packet).type == DATA and self.keep:
            self.frames.append(frame)
        else:
            self.made.receive(frame)

    def exchange(self):
        """Until nobody has anything to say."""
        while True:
            self.made.settle() if self.made.fast is not None else self._walk()
            packets = self.made.sent()
            if not packets:
                return
            for packet in packets:
                four = packet[0] >> 4 == 4
                start = 20 if four else 40
                src, dst = (
                    (packet[12:16], packet[16:20]) if four else (packet[8:24], packet[24:40])
                )
                family = AF_INET if four else AF_INET6
                l3 = "inet" if four else "inet6"
                assert packet[start : start + 4] == PORT.to_bytes(2, "big") * 2, (
                    self.made.fast,
                    packet.hex(),
                )
                way = Way(l3, Locator(family, dst), 0, Locator(family, src), PORT)
                self.far.hosts.receive(way, packet[start + 8 :], self.node.now)

    def _walk(self):
        self.node.core.run_timers()
        self.node.core.flush()

    def pass_on(self, frame):
        self.made.receive(frame)

    def after(self, seconds):
        """Time goes on for both ends."""
        self.node.now += seconds
        self.exchange()
        due = self.far.hosts.next_s
        if due is not None and due <= self.node.now:
            self.far.hosts.timeout(self.node.now)
        self.exchange()

    # --- applications

    def send(self, number, payload, port):
        sa = SockaddrMhost(AF_INET6, port, THEM.identifier)
        app = self.apps[number]
        if self.made.fast is not None:
            assert app.send(payload, sa)
            return
        self.made.calls._on_record(app.sk, Record(sa, payload), self.made.answers.append)

    def taken(self):
        found = defaultdict(list)
        for number, app in enumerate(self.apps):
            if self.made.fast is not None:
                got = app.take()
            else:
                got = [(d.payload, d.source, d.l3) for d in list(app.sk.receive_queue)]
                app.sk.receive_queue.clear()
                app.sk.rmem_queued = 0
            for payload, source, l3 in got:
                key = number, source.family, source.port, bytes(source.address)[:16]
                found[key].append((payload, l3))
        return found

    def seen(self):
        """All that may be compared."""
        if self.made.fast is not None:
            self.made.fast.sync()
        return {
            "drops": self.made.show.drops(),
            "far": {ports: sorted(got) for ports, got in self.far.got.items()},
            "refusals": self.far.refusals,
            "sockets": [
                (a.sk.rx_datagrams, a.sk.tx_datagrams, a.sk.rx_drops) for a in self.apps
            ],
            "errors": Counter(
                (e.sock, e.errno) for e in self.made.answers if hasattr(e, "local")
            ),
        }


def dotted(locator):
    return socket.inet_ntop(locator.family, locator.address)


@pytest.fixture(scope="module", params=["shm", "zmq"])
def make_nodes(request, lane_node, walk_node, scapy):
    """Two nodes with the same applications, the fast one first; those before are closed."""
    last = []

    def close():
        for node in last:
            node.made.close()
        last.clear()

    def make(policy=False):
        close()
        more = {"identity": US}
        last.append(Node(lane_node(zmq=request.param == "zmq", **more), scapy, policy))
        last.append(Node(walk_node(**more), scapy, policy))
        return list(last)

    yield make
    close()


def inner(sport, dport, payload, length=None):
    """A UDP packet as one host gives it to the other: no checksum."""
    length = 8 + len(payload) if length is None else length
    head = b"".join(n.to_bytes(2, "big") for n in (sport, dport, length, 0))
    return head + payload


@settings(max_examples=60)
@given(data=st.data())
def test_what_comes_ends_alike(make_nodes, data):
    """In order and not, again, changed, on another path, to a port that nobody has."""
    draw = data.draw
    nodes = make_nodes()
    plan = []
    for _ in range(draw(st.integers(1, 20))):
        plan.append(
            (
                draw(
                    st.sampled_from(("send", "send", "send", "again", "change", "move", "rest"))
                ),
                draw(st.sampled_from((5101, 5102))),
                draw(st.sampled_from((*PORTS, 9))),
                draw(st.sampled_from((0, 1, 64, 1300))),
                draw(st.integers(0, 1 << 16)),
                draw(st.integers(0, 7)),
            )
        )
    ends = []
    for node in nodes:
        came, taken = [], defaultdict(list)
        for what, sport, dport, size, where, bit in plan:
            if what == "rest":
                node.after(0.020)
            elif what == "move":
                peer = node.far.peer
                paths = [p for p in peer.paths.values() if p is not peer.active]
                peer.net.active = paths[0]
            elif what == "send" or not came:
                packet = inner(sport, dport, bytes((bit,)) * size)
                node.far.hosts.send(US.identifier, 17, packet, False, node.node.now)
                came += node.frames
                for frame in node.frames:
                    node.pass_on(frame)
                node.frames.clear()
            else:
                frame = came[where % len(came)]
                if what == "change":
                    start = 28 if frame[0] >> 4 == 4 else 48
                    octets = bytearray(frame)
                    at = start + where % (len(frame) - start)
                    octets[at] ^= 1 << bit
                    frame = rechecked(node.scapy, bytes(octets))
                node.pass_on(frame)
            node.exchange()
            for key, got in node.taken().items():
                taken[key] += got
        ends.append({"taken": dict(taken), **node.seen()})
    fast, walk = ends
    assert fast == walk


def rechecked(s, frame):
    """With the checksums that its octets should have."""
    packet = (s.IP if frame[0] >> 4 == 4 else s.IPv6)(frame)
    del packet[s.UDP].chksum
    return bytes(packet)


@settings(max_examples=60)
@given(data=st.data())
def test_what_is_sent_ends_alike(make_nodes, data):
    """Once or over both paths, in runs, too large, to a host that has moved meanwhile."""
    draw = data.draw
    nodes = make_nodes(draw(st.booleans()))
    for node in nodes:
        node.keep = False
    plan = []
    for _ in range(draw(st.integers(1, 12))):
        plan.append(
            (
                draw(st.sampled_from(("send", "send", "send", "policy", "drain", "rest"))),
                draw(st.sampled_from((0, 0, 1))),
                draw(st.sampled_from((9, 9, 10, 0))),
                draw(st.sampled_from((0, 1, 64, 64, 1400, 1412, 1413, 1432, 1433, 3000))),
                draw(st.sampled_from((1, 3, 70))),
                draw(st.booleans()),
            )
        )
    ends = []
    for node in nodes:
        for what, number, port, size, count, flag in plan:
            if what == "rest":
                node.after(0.020)
            elif what == "policy":
                sk = node.apps[number].sk.number
                node.made.ask(SetSockOpt(1, sk, 28008, 5, 1 + flag))
            elif what == "drain":
                for l3 in ("inet", "inet6"):
                    node.overlay.drain(l3, False)
                node.overlay.drain("inet" if flag else "inet6", True)
            else:
                for i in range(count):
                    node.send(number, bytes((i & 0xFF,)) * size, port)
            node.exchange()
        ends.append(node.seen())
    fast, walk = ends
    assert fast == walk


def test_the_lane_carries_it(make_nodes):
    """Or the other tests would compare the walk with itself."""
    fast, _walk = make_nodes()
    fast.keep = False
    for _ in range(20):
        fast.far.hosts.send(US.identifier, 17, inner(5101, 4000, b"x"), False, fast.node.now)
        fast.send(0, b"y", 9)
        fast.exchange()
    assert sum(map(len, fast.taken().values())) == 20
    assert len(fast.far.got[(4000).to_bytes(2, "big") + (9).to_bytes(2, "big")]) == 20
    counts = fast.made.lane.counts()
    assert counts[9] >= 18  # delivered by C


def test_refusals_are_as_many_as_icmp_errors_would_be(make_nodes):
    for node in make_nodes():
        node.keep = False
        for _ in range(20):
            node.far.hosts.send(US.identifier, 17, inner(5101, 9, b"x"), False, node.node.now)
        node.exchange()
        assert node.far.refusals.total() == PEER_BURST
