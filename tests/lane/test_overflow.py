"""What happens when something is full: a receive ring, the walk's queue, a ring down."""

import pytest

from mhostd.errors import DropReason
from mhostd.fast import RING_MOST
from mhostd.uapi import SockaddrMhost, record_size

PEER4 = SockaddrMhost(2, 9, bytes([10, 77, 0, 101]).ljust(16, b"\0"))


@pytest.fixture
def frame(scapy):
    def make(payload=b"hello", sport=5101):
        s = scapy
        udp = s.UDP(sport=sport, dport=4000) / payload
        return bytes(s.IP(src="10.77.0.101", dst="10.77.0.1") / udp)

    return make


def test_what_a_full_receive_buffer_drops_is_counted_on_that_socket(node, frame):
    app = node.app()
    app.sk.rcvbuf = 3 * record_size(5)
    node.node.bind(app.sk, "*", 4000)
    node.fast.changed(app.sk)
    for _ in range(10):
        node.receive(frame())
        node.settle()
    node.fast.sync()
    assert len(app.take()) == 3
    assert (app.sk.rx_datagrams, app.sk.rx_drops) == (3, 7)
    assert node.node.core.drops == {DropReason.SOCKET_RCVBUFF: 7}
    node.receive(frame())
    node.settle()
    assert len(app.take()) == 1


def test_a_receive_buffer_larger_than_the_ring_ends_with_it(node, frame):
    """Else what waits behind the ring would keep its flow from being learned."""
    app = node.app()
    app.sk.rcvbuf = 8 << 20
    node.node.bind(app.sk, "*", 4000)
    node.fast.changed(app.sk)
    for i in range(1500):
        node.receive(frame(bytes(1400)))
        if i % 500 == 499:
            node.settle()
    node.fast.sync()
    assert not app.sk.receive_queue
    taken = -(-RING_MOST // record_size(1400))
    assert (app.sk.rx_datagrams, app.sk.rx_drops) == (taken, 1500 - taken)
    assert len(app.take()) == taken
    for _ in range(2):
        node.receive(frame(b"more"))
        node.lane.run()
    assert node.node.core.drops == {DropReason.SOCKET_RCVBUFF: 1500 - taken}
    assert [each[0] for each in app.take()] == [b"more", b"more"]  # without the walk


def test_frames_beyond_the_walks_queue_are_dropped_by_name(node, frame):
    app = node.app()
    app.sk.rcvbuf = 1 << 19
    node.node.bind(app.sk, "*", 4000)
    node.fast.changed(app.sk)
    for i in range(1500):
        node.receive(frame(b"%04d" % i))
        if i % 100 == 99:
            node.lane.run()  # the walk does not come to it
    node.settle()
    node.fast.sync()
    assert node.node.core.drops == {DropReason.CPU_BACKLOG: 476}
    assert [payload for payload, *_rest in app.take()] == [b"%04d" % i for i in range(1024)]
    assert node.show.accounting() | {"received": 1500, "delivered": 1024, "dropped": 476} == (
        node.show.accounting()
    )
    assert node.node.tun.stats["rx_packets"] == 1500


def test_records_beyond_the_walks_queue_wait_and_none_is_lost(node):
    app = node.app()
    node.node.bind(app.sk, "*", 4000)
    for i in range(3000):
        assert app.send(b"%04d" % i, PEER4._replace(port=1 + i))  # each another flow
    node.settle()
    assert [each[28:] for each in node.sent()] == [b"%04d" % i for i in range(3000)]


def test_a_full_ring_down_takes_more_once_it_was_emptied(node):
    app = node.app()
    node.node.bind(app.sk, "*", 4000)
    count = 0
    while app.send(bytes(1000), PEER4):
        count += 1
    assert count == (1 << 20) // record_size(1000)
    node.settle()
    assert len(node.sent()) == count
    assert app.send(b"more", PEER4)
    node.settle()
    assert [each[28:] for each in node.sent()] == [b"more"]
