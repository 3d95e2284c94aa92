"""Datagrams through the fast lane: what the walk has done once, it does by itself."""

import errno

import pytest

from mhostd.uapi import AF_MHOST, Bind, SockaddrMhost

PEER4 = "10.77.0.101"


@pytest.fixture
def frame(scapy):
    def make(payload=b"hello", sport=5101, dport=4000):
        s = scapy
        return bytes(
            s.IP(src=PEER4, dst="10.77.0.1") / s.UDP(sport=sport, dport=dport) / payload
        )

    return make


def test_up_first_the_walk_then_the_lane(node, frame):
    app = node.app()
    node.node.bind(app.sk, "*", 4000)
    for i in range(5):
        node.receive(frame(b"%d" % i))
        node.settle()
    source = SockaddrMhost(2, 5101, bytes([10, 77, 0, 101]).ljust(16, b"\0"))
    assert [(p, s) for p, s, _l3 in app.take()] == [(b"%d" % i, source) for i in range(5)]
    assert node.lane.counts()[0] == 4
    node.fast.sync()
    assert app.sk.rx_datagrams == node.node.core.received == 5


def test_down_first_the_walk_then_super_packets(node):
    app = node.app()
    node.node.bind(app.sk, "*", 4000)
    to = SockaddrMhost(2, 9, bytes([10, 77, 0, 101]).ljust(16, b"\0"))
    app.send(b"first", to)
    node.settle()
    for i in range(100):
        app.send(b"%05d" % i, to)
    node.settle()
    sent = node.sent()
    assert [each[28:] for each in sent] == [b"first"] + [b"%05d" % i for i in range(100)]
    assert node.lane.counts()[2] == 100
    node.fast.sync()
    assert app.sk.tx_datagrams == 101


def test_without_segmentation_offload_datagrams_go_one_by_one(lane_node):
    node = lane_node(uso=False)
    app = node.app()
    node.node.bind(app.sk, "*", 4000)
    to = SockaddrMhost(2, 9, bytes([10, 77, 0, 101]).ljust(16, b"\0"))
    for i in range(50):
        app.send(b"%05d" % i, to)
        if i < 2:
            node.settle()
    app.send(b"aaaabbbbcc", to, 0, 4)
    node.settle()
    frames = []
    while True:
        try:
            frames.append(node.node.tun.wire.recv(1 << 17))
        except BlockingIOError:
            break
    assert all(frame[4:14] == bytes(10) for frame in frames)  # none is a super-packet
    assert [frame[42:] for frame in frames] == [b"%05d" % i for i in range(50)] + [
        b"aaaa", b"bbbb", b"cc",
    ]  # fmt: skip
    assert node.lane.counts()[2] >= 48
    node.close()


def test_a_port_is_free_when_the_last_copy_of_a_socket_is_closed(node):
    """Also before the daemon has come to hear of it."""
    first, second = node.app(), node.app()
    everywhere = SockaddrMhost(AF_MHOST, 4000)
    assert node.ask(Bind(1, first.sk.number, everywhere)).value == 4000
    assert node.ask(Bind(2, second.sk.number, everywhere)).errno == errno.EADDRINUSE
    copy = first.near.dup()
    first.near.close()
    assert node.ask(Bind(3, second.sk.number, everywhere)).errno == errno.EADDRINUSE
    copy.close()
    assert node.ask(Bind(4, second.sk.number, everywhere)).value == 4000
    assert first.sk.number not in node.client.socks
