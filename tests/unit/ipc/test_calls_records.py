"""Data messages: application to wire, and wire to application."""

import errno

import pytest

from mhostd.ipc.calls import BATCH_OCTETS, PARKED_MAX
from mhostd.sock import Locator
from mhostd.uapi import (
    AF_MHOST,
    RECORD_CONNECTED,
    RECORD_REPLY,
    Bind,
    Close,
    Connect,
    Consumed,
    Lookup,
    Record,
    Reply,
    SockaddrMhost,
    SockError,
    pack_data,
    pack_record,
    record_size,
)

TO = SockaddrMhost(1, 5101, b"\0\2")  # testproto:2


@pytest.fixture
def number(desk):
    """A socket bound to port 4000 everywhere."""
    number = desk.socket()
    desk.ask(Bind(1, number, SockaddrMhost(AF_MHOST, 4000)))
    return number


@pytest.fixture
def eth0(desk):
    return lambda: desk.node.sent(desk.node.core.devices["eth0"])


def data(number, *records):
    return pack_data(number, b"".join(map(pack_record, records)))


def arrive(desk, payload=b"hello", count=1):
    frame = bytes.fromhex("0001ffff00010002 13ed0fa0") + (8 + len(payload)).to_bytes(2, "big")
    for _ in range(count):
        desk.node.receive(frame + b"\0\0" + payload)


def test_every_record_of_a_message_is_sent(desk, number, eth0):
    answers = desk.records(data(number, Record(TO, b"one"), Record(TO, b"two")))
    assert (answers, desk.sent) == ([], [])
    assert [frame[16:] for frame in eth0()] == [b"one", b"two"]


def test_a_record_that_asks_for_an_answer_gets_one_with_the_port(desk, number):
    assert desk.records(data(number, Record(TO, b"", RECORD_REPLY, 0, 77))) == [
        Reply(77, 0, "", 4000)
    ]


def test_a_refusal_is_the_answer_or_else_an_event_of_the_socket(desk, number):
    bad = TO._replace(port=0)
    (reply,) = desk.records(data(number, Record(bad, b"", RECORD_REPLY, 0, 77)))
    assert (reply.seq, reply.errno) == (77, errno.EINVAL)
    assert desk.sent == []
    assert desk.records(data(number, Record(bad, b""))) == []
    ((client, event),) = desk.sent
    assert client is desk.client
    assert isinstance(event, SockError)
    assert (event.sock, event.errno, event.local) == (number, errno.EINVAL, True)
    assert event.sa[:2] == bad[:2]


def test_a_refused_record_does_not_hold_up_the_next_one(desk, number, eth0):
    desk.records(data(number, Record(TO._replace(port=0), b""), Record(TO, b"on")))
    assert [frame[16:] for frame in eth0()] == [b"on"]


def test_a_connected_record_goes_to_the_peer(desk, number, eth0):
    desk.ask(Connect(1, number, TO))
    desk.records(data(number, Record(SockaddrMhost(99), b"on", RECORD_CONNECTED)))
    assert [frame[16:] for frame in eth0()] == [b"on"]
    desk.node.core.devices["eth0"].up = False
    desk.records(data(number, Record(SockaddrMhost(99), b"", RECORD_CONNECTED)))
    ((_client, event),) = desk.sent
    assert (event.errno, event.sa) == (errno.ENETDOWN, TO)


@pytest.mark.parametrize(("flags", "segment_size"), [(8, 0), (0x8000, 0)])
def test_what_this_daemon_does_not_know_is_refused_and_not_sent(
    desk, number, eth0, flags, segment_size
):
    (reply,) = desk.records(
        data(number, Record(TO, b"x", RECORD_REPLY | flags, segment_size, 9))
    )
    assert (reply.errno, eth0()) == (errno.EINVAL, [])


def test_a_socket_that_is_not_open_is_answered_where_one_asked(desk):
    answers = desk.records(data(99, Record(TO, b""), Record(TO, b"", RECORD_REPLY, 0, 5)))
    assert [(a.seq, a.errno) for a in answers] == [(5, errno.EBADF)]


def test_a_message_that_breaks_off_has_sent_what_stood_before(desk, number, eth0):
    with pytest.raises(ValueError, match="are no header"):
        desk.records(data(number, Record(TO, b"on")) + b"bad")
    assert len(eth0()) == 1


# --- names that the resolver has to answer for


@pytest.fixture
def cat(desk):
    return desk.ask(Lookup(1, "cat")).value._replace(port=7)


def test_a_send_waits_for_the_resolver(desk, number, cat, eth0):
    assert desk.records(data(number, Record(cat, b"later", RECORD_REPLY, 0, 3))) == []
    ((name, done),) = desk.asked
    assert (name, eth0()) == ("cat", [])
    desk.node.table.hosts["cat"].resolved = [Locator(1, b"\0\x09")]
    done()
    assert desk.answers == [Reply(3, 0, "", 4000)]
    assert [frame[16:] for frame in eth0()] == [b"later"]


def test_a_name_that_is_not_known_is_an_error_of_the_socket(desk, number, cat):
    desk.records(data(number, Record(cat, b"later")))
    desk.node.table.hosts["cat"].resolved = []
    desk.asked[0][1]()
    assert [(e.errno, e.sa.id_no) for _c, e in desk.sent] == [(errno.EHOSTUNREACH, cat.id_no)]


def test_a_resolver_that_forgets_at_once_is_not_asked_forever(desk, number, cat):
    desk.records(data(number, Record(cat, b"", RECORD_REPLY, 0, 3)))
    desk.asked[0][1]()  # and `resolved` is still None
    assert [(a.seq, a.errno) for a in desk.answers] == [(3, errno.EHOSTUNREACH)]
    assert len(desk.asked) == 1


def test_a_socket_that_was_closed_meanwhile_sends_nothing(desk, number, cat, eth0):
    desk.records(data(number, Record(cat, b"later", RECORD_REPLY, 0, 3)))
    desk.ask(Close(2, number))
    desk.node.table.hosts["cat"].resolved = [Locator(1, b"\0\x09")]
    desk.asked[0][1]()
    assert (desk.answers, eth0()) == ([], [])


def test_a_bounded_number_of_sends_waits(desk, number, cat):
    waiting = [Record(cat, b"", RECORD_REPLY, 0, n) for n in range(PARKED_MAX + 1)]
    answers = [a for r in waiting for a in desk.records(data(number, r))]
    assert [(a.seq, a.errno) for a in answers] == [(PARKED_MAX, errno.ENOBUFS)]


# --- wire to application


def test_what_arrives_is_handed_over_at_the_end_of_the_wake(desk, number):
    arrive(desk, count=2)
    assert desk.sent == []
    ((socket, records),) = desk.data()
    assert socket == number
    robot = desk.node.table.hosts["robot"].handle
    source = SockaddrMhost(1, 5101, b"\0\2" + bytes(14), robot)
    l3 = desk.node.table.proto_number("testproto")
    assert records == [Record(source, b"hello", 0, 0, l3)] * 2
    assert desk.data() == []


def test_a_batch_is_bounded_and_nothing_is_lost_or_out_of_order(desk, number):
    count = 2 * BATCH_OCTETS // record_size(1400) + 1
    for n in range(count):
        arrive(desk, n.to_bytes(2, "big") + bytes(1398))
    messages = desk.data()
    assert len(messages) == 3
    got = [int.from_bytes(r.payload[:2], "big") for _n, records in messages for r in records]
    assert got == list(range(count))
    for _n, records in messages:
        assert sum(record_size(len(r.payload)) for r in records) <= BATCH_OCTETS


def test_a_client_that_does_not_read_loses_only_its_own(desk, number, make_client):
    other = make_client()
    desk.ask(Bind(1, desk.socket(other), SockaddrMhost(AF_MHOST, 4001)), other)
    sk = desk.client.socks[number]
    sk.rcvbuf = 3 * record_size(5)
    desk.reads = False
    arrive(desk, b"one..")
    arrive(desk, b"two..")
    assert desk.data() == []
    assert desk.calls.waiting
    arrive(desk, b"three")
    arrive(desk, b"four.")
    assert (sk.rx_drops, desk.node.drops) == (1, {"SOCKET_RCVBUFF": 1})
    assert (sk.rmem_queued, sk.rmem_sent) == (3 * record_size(5), 0)
    desk.reads = True
    ((_number, records),) = desk.data()
    assert [record.payload for record in records] == [b"one..", b"two..", b"three"]
    assert not desk.calls.waiting


def test_what_is_not_consumed_counts_against_the_buffer(desk, number):
    sk = desk.client.socks[number]
    sk.rcvbuf = record_size(5)
    arrive(desk)
    desk.data()
    arrive(desk)
    assert desk.node.drops == {"SOCKET_RCVBUFF": 1}
    desk.ask(Consumed(number, record_size(5)))
    arrive(desk)
    assert len(desk.data()) == 1


def test_a_closed_socket_hands_nothing_over(desk, number):
    arrive(desk)
    desk.ask(Close(1, number))
    assert desk.data() == []


def test_an_icmp_error_is_an_event_and_translation_learns(desk, number, golden):
    desk.node.receive(golden["port_unreachable4"])
    ((client, event),) = desk.sent
    assert (client, event.sock, event.errno) == (desk.client, number, errno.ECONNREFUSED)
    assert (event.sa.port, event.local) == (9, False)
    assert "10.77.0.101" in event.text
    assert (desk.node.locator("10.77.0.101"), 9) in desk.node.table.faults
