"""Applications that write what they like in their memory, or go half-way: who else is hurt?"""

import errno
import struct

import pytest

from mhostd.sock import Client
from mhostd.uapi import (
    Bind,
    Close,
    Hello,
    Record,
    Reply,
    SockaddrMhost,
    Socket,
    pack_record,
)

RING, HEAD = 1 << 20, 4096
TX = 256
HEAD_AT, TAIL_AT = 0, 64
PEER4 = SockaddrMhost(2, 9, bytes([10, 77, 0, 101]).ljust(16, b"\0"))
LONGEST = 65_507  # octets


@pytest.fixture
def good(node):
    """Another application, which must be able to send whatever the first one does."""
    app = node.app()
    node.node.bind(app.sk, "*", 4900)
    yield app
    node.sent()
    app.send(b"still here", PEER4)
    node.settle()
    assert [packet[28:] for packet in node.sent()] == [b"still here"]
    app.send(b"and again", PEER4)
    node.settle()
    assert [packet[28:] for packet in node.sent()] == [b"and again"]


@pytest.fixture
def bad(node, good):
    app = node.app()
    node.node.bind(app.sk, "*", 4000)
    return app


def gone(node, app):
    return app.sk.number not in node.node.af_mhost.socks


# --- what is in the memory


@pytest.mark.parametrize(
    ("head", "tail"), [(0, 8), (8 + RING + 8, 8), (4, 0), (0, 1 << 63), (1 << 63, 0)]
)
def test_positions_that_cannot_be_are_refused_at_the_hand_over(node, good, head, tail):
    app = type(good)()
    app.set(TX + HEAD_AT, head)
    app.set(TX + TAIL_AT, tail)
    sk = node.node.af_mhost.socks[node.ask(Socket(1, 27, 2, 0)).value]
    with pytest.raises(OSError, match=r".") as err:
        node.fast.add(sk, app.memfd, app.far.fileno())
    assert err.value.errno == errno.EINVAL
    app.close()


@pytest.mark.parametrize("position", [8 + RING + 8, 4, (1 << 64) - 8])
def test_a_head_that_cannot_be_ends_the_socket(node, bad, position):
    bad.set(TX + HEAD_AT, position)
    node.settle()
    assert gone(node, bad)


@pytest.mark.parametrize(
    ("length", "flags"),
    [(0, 0), (39, 0), (41, 0), (0xFFFF_FFFF, 0), (RING, 0x8000), (8, 0x8000), (0, 0x8000)],
)
def test_a_header_that_cannot_be_ends_the_socket(node, bad, length, flags):
    struct.pack_into("=IH", bad.shm, HEAD + RING, length, flags)
    bad.set(TX + HEAD_AT, RING if flags else 40)
    node.settle()
    assert gone(node, bad)


def test_a_record_longer_than_any_ends_the_socket(node, bad):
    struct.pack_into("=IH", bad.shm, HEAD + RING, 70_000, 0)
    bad.set(TX + HEAD_AT, 70_000)
    node.settle()
    assert gone(node, bad)


def test_a_receive_position_that_cannot_be_hurts_only_its_own(node, bad, scapy):
    udp = scapy.UDP(sport=5101, dport=4000) / b"x"
    frame = bytes(scapy.IP(src="10.77.0.101", dst="10.77.0.1") / udp)
    for _ in range(3):
        node.receive(frame)
        node.settle()
    bad.set(TAIL_AT, 1 << 40)
    for _ in range(3):
        node.receive(frame)
        node.settle()
    node.fast.sync()
    assert bad.sk.rx_datagrams + bad.sk.rx_drops == 6
    bad.sk.rcvbuf = 1  # so that the position is looked at
    node.fast.changed(bad.sk)
    for _ in range(2):  # the walk, then the lane
        node.receive(frame)
        node.settle()
    node.fast.sync()
    assert bad.sk.rx_drops >= 2


def test_what_it_says_it_has_taken_is_not_believed_while_it_is_waited_for(node, bad):
    bad.send(b"1", PEER4)
    node.settle()
    node.sent()
    bad.set(TX + TAIL_AT, 0)
    assert node.lane.drain(bad.sk.slot, 60_000)


def test_the_longest_datagram_is_no_nonsense(node, bad):
    for payload in (bytes(LONGEST), b"small"):
        bad.send(payload, PEER4)
        node.settle()
    sizes = [len(packet) for packet in node.sent()]
    assert sizes[-1] == 28 + 5
    assert sum(size - 20 for size in sizes[:-1]) == 8 + LONGEST
    assert not gone(node, bad)


# --- who goes half-way


def test_what_a_process_had_sent_goes_though_it_is_gone(node, bad, until):
    node.lane.start()
    until(lambda: node.lane.drain(bad.sk.slot, 10))
    all_sent = [b"%d" % i for i in range(200)]  # more than the walk is given at a time
    for i, payload in enumerate(all_sent):
        bad.send(payload, PEER4._replace(port=10 + i))
    bad.near.close()
    until(lambda: node.turn() or gone(node, bad))
    node.lane.stop()
    assert [packet[28:] for packet in node.sent()] == all_sent


def test_all_sockets_of_a_client_that_goes_are_closed(node, good):
    mine, node.client = node.client, Client(pid=8, uid=1000, program="other")
    node.ask(Hello(0, 1, "other"))
    apps = [node.app() for _ in range(3)]
    for i, app in enumerate(apps):
        node.node.bind(app.sk, "*", 4100 + i)
        app.send(b"x", PEER4)  # at the walk when the client goes
    node.lane.run()
    apps[0].near.close()
    node.calls.release(node.client)
    node.client = mine
    assert [gone(node, app) for app in apps] == [True] * 3
    node.settle()
    assert [packet[28:] for packet in node.sent()] == [b"x"] * 3


def test_a_socket_that_is_found_to_be_gone_is_not_bound(node, good):
    app = node.app()
    node.fast.gone = node.calls.gone
    number, slot = app.sk.number, app.sk.slot
    app.send(b"x", PEER4)
    node.lane.run()
    node.fast._items.append((2, slot, b""))  # ITEM_GONE, met while it is waited for
    answer = node.ask(Bind(5, number, SockaddrMhost(27, 4444)))
    assert answer.errno == errno.EBADF
    again = node.app()
    assert node.ask(Bind(6, again.sk.number, SockaddrMhost(27, 4444))) == Reply(6, 0, "", 4444)
    assert node.ask(Close(7, again.sk.number)).errno == 0
    node.settle()
    node.sent()


def test_records_for_the_walk_do_not_keep_frames_from_being_read(node, good, scapy):
    """Frames are held while those of a flow that was just learned wait."""
    app = node.app()
    node.node.bind(app.sk, "*", 4200)
    udp = scapy.UDP(sport=5101, dport=4200) / b"x"
    frame = bytes(scapy.IP(src="10.77.0.101", dst="10.77.0.1") / udp)
    total = 40
    for i in range(total):
        node.receive(frame)
        for n in range(3):
            good.send(b"y", PEER4._replace(port=1000 + 3 * i + n))  # each another flow
        node.wake()
    node.settle()
    assert len(app.take()) == total
    node.sent()


def test_one_item_that_fails_keeps_no_other_from_its_end(node, bad, good, caplog):
    def fail(sk, octets):
        if sk is bad.sk:
            raise RuntimeError("unexpected")
        walk(sk, octets)

    walk, node.fast.records = node.fast.records, fail
    bad.send(b"bad", PEER4)
    good.send(b"good", PEER4)
    node.settle()
    assert [packet[28:] for packet in node.sent()] == [b"good"]
    assert "unexpected" in caplog.text
    node.fast.records = walk
    bad.send(b"later", PEER4)  # its ring goes on
    node.settle()
    assert [packet[28:] for packet in node.sent()] == [b"later"]


def test_a_record_of_its_own_flags_is_refused_to_it_alone(node, bad):
    bad.put(pack_record(Record(PEER4, b"x", 0x4000)))
    node.settle()
    assert [event.errno for event in node.answers if hasattr(event, "errno")] == [errno.EINVAL]
    assert node.sent() == []
