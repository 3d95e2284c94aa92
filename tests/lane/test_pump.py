"""Sockets that speak ZeroMQ and have rings all the same (mhostd/ipc/pump.py)."""

import os
import resource

import pytest

from mhostd.uapi import (
    RECORD_REPLY,
    Bind,
    Close,
    Consumed,
    Reply,
    SockaddrMhost,
    pack_data,
    pack_record,
    record_size,
)

PEER4 = SockaddrMhost(2, 9, bytes([10, 77, 0, 101]).ljust(16, b"\0"))


@pytest.fixture
def node(lane_node):
    made = lane_node(zmq=True)
    yield made
    made.close()


@pytest.fixture
def app(node):
    made = node.app()
    node.node.bind(made.sk, "*", 4000)
    return made


@pytest.fixture
def frame(scapy):
    def make(payload=b"hello", dport=4000):
        udp = scapy.UDP(sport=5101, dport=dport) / payload
        return bytes(scapy.IP(src="10.77.0.101", dst="10.77.0.1") / udp)

    return make


def payloads(packets):
    return [packet[28:] for packet in packets]


def taken(app):
    return [payload for payload, *_rest in app.take()]


def test_a_message_goes_by_the_lane_once_its_flow_is_known(node, app):
    app.send(b"first", PEER4)
    node.settle()
    assert payloads(node.sent()) == [b"first"]
    walked = node.node.core.ends.total()
    sizes = [b"%d" % i for i in range(100)]
    app.message(*(app.record(each, PEER4) for each in sizes))
    node.settle()
    assert payloads(node.sent()) == sizes
    assert node.node.core.ends.total() == walked  # the walk saw none of them
    assert node.show.sockets()[0]["lane"] == "zmq"
    node.fast.sync()
    assert app.sk.tx_datagrams == 101


def test_a_record_that_wants_an_answer_keeps_its_place(node, app, until):
    node.lane.start()
    want = []
    for turn in range(3):
        for reply in (0, RECORD_REPLY, 0):
            pair = [b"%d%d%d" % (turn, reply, i) for i in range(2)]
            app.message(app.record(pair[0], PEER4), app.record(pair[1], PEER4, reply))
            want += pair
        node.turn()
    until(lambda: node.turn() or node.lane.drain(app.sk.slot, 10))
    node.lane.stop()
    assert payloads(node.sent()) == want
    answers = [each for each in node.answers if isinstance(each, Reply)]
    assert answers == [Reply(0, 0, "", 4000)] * 3


def test_a_message_that_the_ring_has_no_room_for_waits(node, app, until):
    app.send(b"first", PEER4)
    node.settle()
    node.sent()
    count = (1 << 20) // record_size(1000)
    want = [i.to_bytes(2, "big") + bytes(998) for i in range(count + 10)]
    for each in want[:count]:
        app.send(each, PEER4)
    node.lane.start()
    for each in want[count:]:
        app.send(each, PEER4)
    until(lambda: node.turn() or node.lane.drain(app.sk.slot, 10))
    node.lane.stop()
    assert payloads(node.sent()) == want


def test_wrong_records_are_the_walks_to_refuse(node, app):
    node.lane.start()
    good = pack_record(app.record(b"good", PEER4))
    message = pack_data(app.sk.number, good + good[:20])
    with pytest.raises(ValueError, match="no header"):
        node.calls.records(node.client, message, node.answers.append)
    node.turn()
    node.lane.stop()
    assert payloads(node.sent()) == [b"good"]


def test_a_super_packet_comes_as_its_datagrams(node, app, frame):
    payload = bytes(range(250))
    vnet = bytes((1, 5)) + b"".join(n.to_bytes(2, "little") for n in (28, 100, 20, 6))
    for _ in range(2):  # the walk, then the lane
        node.receive(frame(payload), vnet)
        node.settle()
    assert taken(app) == [payload[:100], payload[100:200], payload[200:]] * 2


def test_the_receive_buffer_bounds_what_is_here_and_what_has_no_credit(node, app, frame):
    app.credits = False
    app.sk.rcvbuf = 10 * record_size(5)
    for _ in range(15):
        node.receive(frame())
        node.settle()
    node.fast.sync()
    assert (app.sk.rx_datagrams, app.sk.rx_drops) == (10, 5)
    assert taken(app) == [b"hello"] * 10
    node.receive(frame())
    node.settle()
    assert taken(app) == []
    node.calls.request(
        node.client, Consumed(app.sk.number, 3 * record_size(5)), node.answers.append
    )
    for _ in range(5):
        node.receive(frame())
    node.settle()
    assert taken(app) == [b"hello"] * 3
    assert node.show.sockets()[0]["recv_q"] == 10 * record_size(5)


def test_what_a_client_does_not_read_waits_and_comes_in_order(node, app, frame):
    node.full = True
    for i in range(5):
        node.receive(frame(b"%d" % i))
        node.settle()
    assert node.calls.waiting
    assert not node.watched  # else the poller would call without an end
    assert taken(app) == []
    node.full = False
    node.settle()
    assert taken(app) == [b"%d" % i for i in range(5)]
    assert not node.calls.waiting
    node.receive(frame(b"more"))
    node.settle()
    assert taken(app) == [b"more"]


def test_memory_that_is_handed_over_later_takes_its_place(node, app, frame):
    app.send(b"sent before", PEER4)
    node.receive(frame(b"before"))
    node.lane.run()
    node.turn()
    node.lane.run()
    node.pumps.give_way(app.sk)
    assert app.sk.slot == -1
    assert taken(app) == [b"before"]
    node.zmq = False
    other = node.app()
    node.fast.add(app.sk, other.memfd, other.far.fileno())
    for _ in range(2):
        node.receive(frame(b"after"))
        node.settle()
    other.sk = app.sk
    assert taken(other) == [b"after"] * 2
    assert payloads(node.sent()) == [b"sent before"]
    assert not node.watched


def test_closing_gives_everything_back(node, app):
    node.lane.start()
    before = set(os.listdir("/proc/self/fd"))
    app.send(b"x", PEER4)
    assert len(set(os.listdir("/proc/self/fd")) - before) == 3  # a pair, and the lane's end
    assert node.ask(Close(1, app.sk.number)).errno == 0
    node.turn()
    node.lane.stop()
    node.settle()
    assert set(os.listdir("/proc/self/fd")) == before
    assert payloads(node.sent()) == [b"x"]
    again = node.app()
    assert node.ask(Bind(2, again.sk.number, SockaddrMhost(27, 4000))).errno == 0


def test_without_descriptors_the_walk_does_everything(node, app, frame):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        app.send(b"down", PEER4)
        node.receive(frame(b"up"))
        node.settle()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert app.sk.slot == -1
    assert taken(app) == [b"up"]
    assert payloads(node.sent()) == [b"down"]


def test_so_many_sockets_have_rings_and_the_others_the_walk(node, frame):
    node.pumps._most = 2
    apps = [node.app() for _ in range(3)]
    for i, app in enumerate(apps):
        node.node.bind(app.sk, "*", 4100 + i)
        app.send(b"down", PEER4)
        node.receive(frame(b"up", 4100 + i))
    node.settle()
    assert [app.sk.slot >= 0 for app in apps] == [True, True, False]
    assert [taken(app) for app in apps] == [[b"up"]] * 3
    assert payloads(node.sent()) == [b"down"] * 3
    node.ask(Close(1, apps[0].sk.number))
    apps[2].send(b"now", PEER4)
    assert apps[2].sk.slot >= 0


def test_a_closed_pump_says_so(node, app):
    app.send(b"x", PEER4)
    pump = node.pumps._pumps[app.sk]
    node.ask(Close(1, app.sk.number))
    for call in (lambda: pump.put(b"", 0), lambda: pump.take(b"", 1), pump.arm):
        with pytest.raises(ValueError, match="closed"):
            call()
    assert (pump.memfd, pump.near, pump.far) == (-1, -1, -1)
