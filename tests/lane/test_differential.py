"""The same streams through the fast lane and through the walk alone (DESIGN 3.3).

Frames are Linux's own (tests/golden), scapy's, and what Hypothesis makes of them; records
go to addresses and names, in runs of equal and of other sizes. Deliveries, answers, drops
and counters are the same. The lane is driven here, without its thread, and its buffers
never fill; what happens when they do is test_overflow.py's.
"""

from __future__ import annotations

import struct
from collections import Counter, defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mhostd import native
from mhostd.uapi import Close, Connect, Record, SetSockOpt, Shutdown

BUFFER = 1 << 19  # octets
PORTS = (4000, 4001, 4002)
PEERS4 = ("10.77.0.101", "10.77.0.2", "10.78.3.4")
PEERS6 = ("fd77::101", "fd77::2")


def pair(make_fast, make_walk):
    """Two nodes with the same three sockets: everywhere, IPv4 only, one address."""
    nodes = []
    for make in (make_fast, make_walk):
        node = make()
        apps = [node.app() for _ in PORTS]
        for app, place, port in zip(apps, ("*", "10.77.0.1", "fd77::1"), PORTS, strict=True):
            app.sk.rcvbuf = BUFFER
            node.node.bind(app.sk, place, port)
            if node.fast is not None:
                node.fast.changed(app.sk)
        nodes.append((node, apps))
    return nodes


def outcome(node, apps, taken):
    """Everything that can be seen from outside."""
    wire = defaultdict(list)
    for packet in node.sent():
        version = packet[0] >> 4
        l3 = 20 if version == 4 else 40
        wire[version, packet[l3 : l3 + 4]].append(without_id(packet))
    for (version, ports), packets in wire.items():
        if version == 6 and ports[0] == 17:  # fragments do not say of which socket they are
            packets.sort()
    if node.fast is not None:
        node.fast.sync()
    counters = node.show.counters()
    return {
        "delivered": taken,
        "wire": dict(wire),
        "drops": node.show.drops(),
        "accounting": counters["accounting"],
        "inet": counters["inet"],
        "inet6": counters["inet6"],
        "mhost0": counters["mhost0"],
        "lo": counters["lo"],
        "sockets": [(a.sk.rx_datagrams, a.sk.tx_datagrams, a.sk.rx_drops) for a in apps],
        "errors": Counter(
            (e.sock, e.errno, e.local) for e in node.answers if hasattr(e, "local")
        ),
    }


def without_id(packet):
    """Identifications, IPv6's of fragments too, begin anywhere."""
    if packet[0] >> 4 == 6:
        return packet[:44] + packet[48:] if packet[6] == 44 else packet
    return packet[:4] + packet[6:10] + packet[12:]


def both(nodes, steps):
    """Carry the steps out on both; `steps` are functions of (node, apps)."""
    found = []
    for node, apps in nodes:
        taken = defaultdict(list)

        def collect(node=node, apps=apps, taken=taken):
            for number, app in enumerate(apps):
                if node.fast is not None:
                    got = app.take()
                else:
                    got = [
                        (d.payload, padded(d.source), d.l3) for d in list(app.sk.receive_queue)
                    ]
                    app.sk.receive_queue.clear()
                    app.sk.rmem_queued = 0
                for payload, source, l3 in got:
                    taken[number, source].append((payload, l3))

        for step in steps:
            step(node, apps)
            if step is SETTLE:
                collect()
        SETTLE(node, apps)
        collect()
        found.append(outcome(node, apps, dict(taken)))
    return found


def padded(sa):
    return sa._replace(address=sa.address.ljust(16, b"\0"))


def SETTLE(node, _apps):
    """Whatever waits is worked off."""
    if node.fast is not None:
        node.settle()
    else:
        node.node.core.run_timers()
        node.node.core.flush()


def frame_step(frame, vnet=bytes(10)):
    return lambda node, _apps: node.receive(frame, vnet)


def send_step(number, payload, sa, segment_size=0):
    """One record from a socket; the walk alone knows no segments, so it gets them singly."""

    def step(node, apps):
        app = apps[number]
        if node.fast is not None:
            assert app.send(payload, sa, 0, segment_size)
            return
        size = segment_size or len(payload) or 1
        for at in range(0, len(payload), size) or (0,):
            node.calls._on_record(
                app.sk, record(sa, payload[at : at + size]), node.answers.append
            )

    return step


def record(sa, payload):
    return Record(sa, payload)


@pytest.fixture(scope="module", params=["shm", "zmq"])
def make_pair(request, lane_node, walk_node):
    """pair(), which closes the pair before; applications with memory of their own, or not."""
    last = []

    def close():
        for node, _apps in last:
            node.close()
        last.clear()

    def make():
        close()
        last.extend(pair(lambda: lane_node(zmq=request.param == "zmq"), walk_node))
        return list(last)

    yield make
    close()


# --- what comes


@pytest.fixture(scope="module")
def frames(golden, scapy):
    """Frames by scapy and by Linux, plain and not."""
    s = scapy
    made = [frame for frame in golden.values() if frame[0] >> 4 in (4, 6)]
    for dport in (*PORTS, 9):
        for payload in (b"", b"x", b"hello", bytes(range(256)) * 5):
            for sport in (5101, 5102):
                udp = s.UDP(sport=sport, dport=dport) / payload
                made += [bytes(s.IP(src=src, dst="10.77.0.1") / udp) for src in PEERS4]
                made += [bytes(s.IPv6(src=src, dst="fd77::1") / udp) for src in PEERS6]
    made.append(bytes(s.IP(src=PEERS4[0], dst="10.77.0.1") / s.ICMP() / b"ping"))
    made.append(bytes(s.IP(src=PEERS4[0], dst="10.77.0.1", options=b"\1\1\1\1") / udp))
    made.append(bytes(s.IP(src=PEERS4[0], dst="10.77.0.1", tos=7, ttl=3) / udp))
    plain = s.UDP(sport=5101, dport=4000, chksum=0) / b"unchecked"
    made.append(bytes(s.IP(src=PEERS4[0], dst="10.77.0.1") / plain))
    made.append(bytes(s.IPv6(src=PEERS6[0], dst="fd77::1") / plain))
    return made


def changed(draw, frame):
    """Some octets of a frame are other ones, or missing, or too many."""
    octets = bytearray(frame)
    for _ in range(draw(st.integers(0, 2))):
        octets[draw(st.integers(0, len(octets) - 1))] = draw(st.integers(0, 255))
    cut = draw(st.integers(0, 3))
    return bytes(octets[: len(octets) - cut] + bytes(draw(st.integers(0, 2)))) or b"\x45"


@settings(max_examples=60)
@given(data=st.data())
def test_frames_end_alike(make_pair, frames, data):
    nodes = make_pair()
    steps = []
    few = data.draw(st.lists(st.sampled_from(frames), min_size=1, max_size=4))
    for _ in range(data.draw(st.integers(1, 25))):
        frame = data.draw(st.sampled_from(few))
        kind = data.draw(st.integers(0, 5))
        if kind == 0:
            frame = changed(data.draw, frame)
        steps.append(SETTLE if kind == 5 else frame_step(frame))
    fast, walk = both(nodes, steps)
    assert fast == walk


def partial(packet, start):
    """The UDP checksum as the kernel leaves it to others: that of the pseudo-header."""
    addresses = packet[12:20] if start == 20 else packet[8:40]
    check = native.csum_fold(addresses, len(packet) - start + 17)
    return packet[: start + 6] + check.to_bytes(2, "big") + packet[start + 8 :]


@settings(max_examples=30)
@given(data=st.data())
def test_super_packets_end_as_their_segments(make_pair, scapy, data):
    s, draw = scapy, data.draw
    steps = []
    for _ in range(draw(st.integers(1, 8))):
        size = draw(st.integers(1, 1400))
        payload = bytes(
            i % 251
            for i in range(draw(st.integers(1, 20)) * size - draw(st.integers(0, size - 1)))
        )
        udp = s.UDP(
            sport=draw(st.sampled_from((5101, 5102))), dport=draw(st.sampled_from((*PORTS, 9)))
        )
        if draw(st.booleans()):
            packet = bytes(
                s.IP(src=draw(st.sampled_from(PEERS4)), dst="10.77.0.1") / udp / payload
            )
            start = 20
        else:
            packet = bytes(
                s.IPv6(src=draw(st.sampled_from(PEERS6)), dst="fd77::1") / udp / payload
            )
            start = 40
        packet = partial(packet, start)
        vnet = struct.pack("=BBHHHH", 1, 5, start + 8, size, start, 6)
        steps += [frame_step(packet, vnet), *[SETTLE] * draw(st.integers(0, 1))]
    fast, walk = both(make_pair(), steps)
    assert fast == walk


# --- what is sent


def sa_of(node, text, port):
    return padded(node.node.sa(text, port))


@settings(max_examples=60)
@given(data=st.data())
def test_records_end_alike(make_pair, data):
    draw = data.draw
    nodes = make_pair()
    places = [draw(st.sampled_from((*PEERS4, *PEERS6, "robot"))) for _ in range(2)]
    steps = []
    for _ in range(draw(st.integers(1, 12))):
        number = draw(st.sampled_from((0, 0, 0, 1, 2)))
        to, port = draw(st.sampled_from(places)), draw(st.sampled_from((9, 9, 9, 10, 0)))
        sa = sa_of(nodes[0][0], to, port)
        size = draw(st.sampled_from((0, 1, 5, 64, 64, 1400, 1472, 1473, 3000)))
        for i in range(draw(st.sampled_from((1, 3, 70)))):
            payload = bytes((i & 0xFF,)) * size
            steps.append(send_step(number, payload, sa))
        steps += [SETTLE] * draw(st.integers(0, 1))
    fast, walk = both(nodes, steps)
    assert fast == walk


@settings(max_examples=30)
@given(data=st.data())
def test_what_goes_to_ourselves_ends_alike(make_pair, data):
    draw = data.draw
    nodes = make_pair()
    steps = []
    for _ in range(draw(st.integers(1, 8))):
        to, port = draw(
            st.sampled_from(
                (
                    ("10.77.0.1", 4000),
                    ("10.77.0.1", 4001),
                    ("fd77::1", 4002),
                    ("fd77::1", 4000),
                    ("10.77.0.1", 9),
                )
            )
        )
        sa = sa_of(nodes[0][0], to, port)
        size = draw(st.sampled_from((0, 1, 64, 1400, 3000)))
        steps += [send_step(0, bytes((i,)) * size, sa) for i in range(draw(st.integers(1, 70)))]
        steps += [SETTLE] * draw(st.integers(0, 1))
    fast, walk = both(nodes, steps)
    assert fast == walk


@settings(max_examples=40)
@given(data=st.data())
def test_what_changes_between_is_seen_at_once(make_pair, frames, data):
    """Connect, options, closing, hosts and faults: the lane forgets what they decide."""
    draw = data.draw
    nodes = make_pair()
    sa = sa_of(nodes[0][0], PEERS4[0], 5101)
    frame = next(
        f
        for f in frames
        if f[0] == 0x45
        and f[9] == 17
        and f[20:24] == bytes((5101 >> 8, 5101 & 255, 4000 >> 8, 4000 & 255))
        and len(f) == 33
    )
    changes = (
        ("connect", PEERS4[0], 5101),
        ("connect", PEERS4[1], 5101),
        ("connect", None, 0),
        ("ttl", 7),
        ("tos", 16),
        ("discover", 0),
        ("rcvbuf", 4096),
        ("shutdown", 1),
        ("sndbuf", 4608),
        ("insert", PEERS4[0]),
        ("remove", PEERS4[0]),
        ("fault", PEERS4[0]),
        ("close", 1),
        ("down", 0),
        ("up", 0),
    )
    steps = []
    for _ in range(draw(st.integers(1, 6))):
        steps += [send_step(0, b"x" * draw(st.sampled_from((5, 5, 2500))), sa)] * 2
        steps += [frame_step(frame)] * 2 + [SETTLE]
        steps += [change_step(*draw(st.sampled_from(changes))), SETTLE]
    fast, walk = both(nodes, steps)
    assert fast == walk


def change_step(what, *args):
    def step(node, apps):
        stack, sk = node.node, apps[0].sk
        number = sk.number
        if what == "connect":
            sa = None if args[0] is None else stack.sa(*args)
            node.ask(Connect(1, number, sa))
        elif what in ("ttl", "tos", "discover"):
            option = {"ttl": 2, "tos": 1, "discover": 10}[what]
            node.ask(SetSockOpt(1, number, 0, option, args[0]))
        elif what in ("rcvbuf", "sndbuf"):
            node.ask(SetSockOpt(1, number, 1, {"rcvbuf": 8, "sndbuf": 7}[what], args[0]))
        elif what == "shutdown":
            node.ask(Shutdown(1, number, args[0]))
        elif what == "insert":
            stack.table.insert_sockaddr_id("other", [stack.locator(args[0])])
        elif what == "remove":
            if "other" in stack.table.hosts and stack.table.hosts["other"].bound:
                stack.table.remove_sockaddr_id("other")
        elif what == "fault":
            stack.table.faults.failed(stack.locator(args[0]), 113, stack.now)
        elif what == "close":
            other = apps[args[0]].sk
            if other.number in stack.af_mhost.socks:
                node.ask(Close(1, other.number))
        else:
            stack.tun.up = what == "up"
            stack.table.changed()

    return step
