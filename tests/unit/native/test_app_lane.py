"""The application's side of shared memory in C, with a daemon's side in Python."""

import struct
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mhost._ring import FastSocket

from mhostd.uapi import (
    RECORD_CONNECTED,
    RECORD_HLEN,
    Record,
    SockaddrMhost,
    pack_record,
    unpack_records,
)

RING = 1 << 20
RX, TX = 0, 256
HEAD_AT, TAIL_AT, WAKE_AT, ROOM_AT = 0, 64, 128, 192
SOURCE = SockaddrMhost(2, 5101, bytes([10, 77, 0, 101]).ljust(16, b"\0"), 7, 0)
TO = ("10.77.0.101", 9)
HEADER = pack_record(Record(SOURCE, b"", RECORD_CONNECTED))[:RECORD_HLEN]


class Plain(FastSocket):
    """Says what came to the slow path."""

    def __init__(self, ring):
        self._ring = ring
        self.spelled = 0
        self.meanwhile = lambda: None

    def _spell(self, source):
        self.spelled += 1
        self.meanwhile()
        family, port = struct.unpack_from("=HH", source)
        return f"family {family}", port

    def _recvfrom(self, *args):
        raise BlockingIOError("slow")

    _recv = _sendto = _send = _recvfrom


@pytest.fixture
def sock(twin):
    return Plain(twin.ring)


def record(payload, segment_size=0, control=b"", sa=SOURCE):
    return pack_record(Record(sa, payload, 0, segment_size, 1, control))


def given_(twin, *payloads):
    for payload in payloads:
        assert twin.put(record(payload))
    twin.publish()
    twin.wake()


# --- the same as in Python


datagrams = st.tuples(
    st.integers(0, 65507),
    st.sampled_from([0, 0, 0, 1, 64, 1200]),
    st.sampled_from([b"", b"", bytes(24), bytes(1024)]),
)
steps = st.lists(st.one_of(datagrams, st.integers(1, 200)), max_size=60)


@given(steps=steps, start=st.integers(0, 2 * RING // 8))
def test_what_the_daemon_puts_is_what_is_taken(make_twin, steps, start):
    twin = make_twin(start * 8)
    expected = deque()
    for number, step in enumerate(steps):
        if isinstance(step, int):
            for _ in range(step):
                found = twin.ring.take(False)
                assert (found is None) == (not expected)
                if found is None:
                    break
                assert found[-2:] == expected.popleft()
            continue
        octets, size, control = step
        payload = struct.pack("=I", number) * (octets // 4) + b"x" * (octets % 4)
        if not twin.put(record(payload, min(size, octets), control)):
            continue
        twin.publish()
        if not size or not octets:
            expected.append((control, payload))
        else:
            parts = range(0, octets, min(size, octets))
            expected.extend((control, payload[i : i + min(size, octets)]) for i in parts)
        assert twin.ring.next_size() == len(expected[0][1])
    while expected:
        assert twin.ring.take(False)[-2:] == expected.popleft()
    assert twin.ring.take(False) is None
    assert twin.get(RX + TAIL_AT) == twin.get(RX + HEAD_AT)
    twin.close()


@given(
    steps=st.lists(st.one_of(st.binary(max_size=9000), st.integers(1, 50)), max_size=80),
    start=st.integers(RING // 8 - 4000, RING // 8),
)
def test_what_is_put_is_what_the_daemon_takes(make_twin, steps, start):
    twin = make_twin(start * 8)
    expected = deque()
    for step in steps:
        if isinstance(step, int):
            for _ in range(min(step, len(expected))):
                assert twin.take()[RECORD_HLEN:] == expected.popleft()
            twin.release()
        elif twin.ring.put(HEADER, step):
            expected.append(step)
    while expected:
        assert twin.take()[RECORD_HLEN:] == expected.popleft()
    assert twin.take() is None
    twin.close()


def test_a_record_that_is_put_has_its_header(twin):
    assert twin.ring.put(HEADER, b"hello")
    (found,) = unpack_records(twin.take())
    assert found == Record(SOURCE, b"hello", RECORD_CONNECTED)


# --- nonsense


@given(head=st.integers(0, 2**64 - 1), start=st.integers(0, 2**20))
def test_a_position_that_cannot_be_is_an_error(make_twin, head, start):
    twin = make_twin(start * 8)
    twin.set(RX + HEAD_AT, head)
    if head == start * 8:
        assert twin.ring.take(False) is None
    elif head % 8 or not 0 < head - start * 8 <= RING:
        with pytest.raises(RuntimeError, match="nonsense"):
            twin.ring.take(False)
    twin.close()


@given(
    octets=st.binary(min_size=64, max_size=400).map(lambda o: o + bytes(-len(o) % 8)),
    length=st.one_of(st.integers(0, 500), st.integers(0, 2**32 - 1)),
    flags=st.sampled_from([0, 4, 0x8000, 0x8004, 0xFFFF]),
)
def test_octets_that_are_no_record_harm_nobody(make_twin, octets, length, flags):
    twin = make_twin(RING - 128)
    assert twin.put(struct.pack("=IH", length, flags) + octets[6:])
    twin.publish()
    sock = Plain(twin.ring)
    for call in (lambda: twin.ring.take(True), lambda: sock.recvfrom(99), lambda: sock.recv(9)):
        try:
            call()
        except (RuntimeError, BlockingIOError):
            continue
    assert isinstance(twin.ring.next_size(), int)
    twin.close()


@given(tail=st.integers(0, 2**64 - 1))
def test_a_daemon_that_has_taken_what_was_not_sent_gets_nothing(make_twin, tail):
    twin = make_twin()
    while twin.ring.put(HEADER, bytes(60_000)):
        pass
    head = twin.get(TX + HEAD_AT)
    twin.set(TX + TAIL_AT, tail)
    if tail % 8 or tail > head:
        with pytest.raises(RuntimeError, match="nonsense"):
            twin.ring.put(HEADER, bytes(60_000))
    else:
        twin.ring.put(HEADER, bytes(60_000))
    twin.close()


# --- readable when there is something, and only then


def test_readable_from_the_first_to_the_last(twin):
    twin.ring.polled = True
    assert not twin.readable()
    given_(twin, b"1", b"2")
    assert twin.readable()
    twin.ring.take(False)
    assert twin.readable()
    twin.ring.take(False)
    assert not twin.readable()
    given_(twin, b"3")
    assert twin.readable()


def test_what_is_taken_before_its_octet_is_sent_needs_none(twin):
    twin.ring.polled = True
    for _ in range(3):
        twin.put(record(b"1"))
        twin.publish()
        assert twin.ring.take(False)
        twin.wake()
        assert not twin.readable()
    given_(twin, b"2")
    assert twin.readable()


@pytest.mark.parametrize("look", ["take", "next_size"])
def test_looking_leaves_the_octet_to_the_daemon(twin, look):
    twin.ring.polled = True
    twin.put(record(b"1"))
    twin.publish()
    assert (twin.ring.take(True)[-1] if look == "take" else b"1") == b"1"
    assert twin.ring.next_size() == 1
    twin.wake()
    assert twin.readable()


def test_the_rest_of_a_super_packet_keeps_it_readable(twin):
    twin.ring.polled = True
    twin.put(record(b"123", 1))
    twin.publish()
    assert twin.ring.take(False)[-1] == b"1"  # before the octet
    twin.wake()
    assert twin.readable()
    assert [twin.ring.take(False)[-1] for _ in range(2)] == [b"2", b"3"]
    assert not twin.readable()


def test_what_comes_while_nobody_polls_is_told_to_who_begins_to(twin):
    given_(twin, b"1", b"2")
    assert twin.ring.take(False)
    twin.put(record(b"3"))
    twin.publish()
    for _ in range(2):
        assert twin.ring.take(False)
    twin.wake()
    twin.ring.polled = True
    assert not twin.ring.arm()
    assert not twin.readable()
    given_(twin, b"4")
    assert twin.readable()


def test_raised_by_ourselves_and_settled(twin):
    twin.ring.polled = True
    twin.ring.raise_()
    twin.ring.raise_()
    assert twin.readable()
    assert not twin.ring.arm()
    assert not twin.readable()


def test_an_octet_that_comes_too_late_is_taken_off(twin):
    """A daemon that was stopped between clearing the flag and sending."""
    twin.ring.polled = True
    twin.set(RX + WAKE_AT, 0, "=I")
    assert not twin.ring.arm()  # it waits a little, in vain
    twin.far.send(b"\0")
    assert not twin.ring.arm()
    assert not twin.readable()
    given_(twin, b"1")
    assert twin.readable()


def test_sleep_ends_when_something_comes_or_the_time_is_up(twin):
    assert not twin.ring.sleep(False, 0.01)
    given_(twin, b"1")
    assert twin.ring.sleep(False, None)


# --- writable when there is room, and only then


def test_a_full_ring_is_not_writable_until_half_of_it_is_free(twin):
    while twin.ring.put(HEADER, bytes(9000)):
        pass
    sent = 0
    twin.ring.want_room()
    assert not twin.writable()
    assert not twin.ring.sleep(True, 0.01)
    while not twin.writable():
        assert twin.take() is not None
        sent += 1
        twin.release()
    assert sent in range(57, 61)  # of 116
    assert twin.ring.put(HEADER, bytes(9000))


def test_room_that_comes_while_it_is_asked_for_is_seen(twin):
    while twin.ring.put(HEADER, bytes(9000)):
        pass
    while twin.take():
        pass
    twin.release()
    twin.ring.want_room()
    assert twin.ring.put(HEADER, b"")  # the caller tries again before it waits
    assert twin.take() == struct.pack("=I", RECORD_HLEN) + HEADER[4:]
    twin.release()
    assert twin.writable()


def test_the_doorbell_is_rung_for_a_daemon_that_sleeps(twin):
    assert twin.ring.put(HEADER, b"1")
    assert twin.octets() == 1
    assert twin.ring.put(HEADER, b"2")
    assert twin.octets() == 0
    twin.set(TX + WAKE_AT, 1, "=I")
    assert twin.ring.put(HEADER, b"3")
    assert twin.octets() == 1


# --- the calls that need no Python


def test_a_known_destination_needs_no_python(twin, sock):
    twin.ring.known[TO] = HEADER
    with pytest.raises(BlockingIOError):
        sock.sendto(b"1", TO)
    twin.ring.sending = True
    assert [sock.sendto(b"12", TO), sock.sendto(bytearray(b"3"), ("10.77.0.101", 9))] == [2, 1]
    assert [twin.take()[RECORD_HLEN:] for _ in range(2)] == [b"12", b"3"]
    for args in [(b"1", ("10.77.0.101", 8)), (b"1", 0, TO), ("1", TO), (bytes(65508), TO)]:
        with pytest.raises(BlockingIOError):
            sock.sendto(*args)
    twin.ring.held = True
    with pytest.raises(BlockingIOError):
        sock.sendto(b"1", TO)


def test_the_source_is_spelled_once(twin, sock):
    given_(twin, *[b"%d" % i for i in range(5)])
    assert sock.recvfrom(9) == (b"0", ("family 2", 5101))
    assert sock.recv(9) == b"1"
    assert sock.recvfrom(0) == (b"", ("family 2", 5101))
    assert [data for data, _ in sock._take_many(9, 9)] == [b"3", b"4"]
    assert sock.spelled == 1
    with pytest.raises(BlockingIOError):
        sock.recvfrom(9)


def test_a_thread_that_takes_while_the_source_is_spelled_takes_for_itself(twin, sock):
    taken = []
    sock.meanwhile = lambda: taken.append(sock.recv(9))
    other = SOURCE._replace(port=1)
    twin.put(record(b"first"))
    twin.put(record(b"abcd", 1, sa=other))
    twin.publish()
    assert sock.recvfrom(9) == (b"b", ("family 2", 1))
    assert taken == [b"first", b"a"]
    assert [sock.recv(9) for _ in range(2)] == [b"c", b"d"]


def test_a_thread_that_closes_while_the_source_is_spelled(twin, sock):
    given_(twin, b"1")
    sock.meanwhile = twin.ring.close
    with pytest.raises(BlockingIOError, match="slow"):
        sock.recvfrom(9)


def test_many_that_end_with_an_error_are_not_lost(twin, sock):
    def fails():
        raise ConnectionResetError

    twin.put(record(b"1"))
    twin.put(record(b"2", sa=SOURCE._replace(port=1)))
    twin.publish()
    assert sock.recvfrom(0)[1] == ("family 2", 5101)
    twin.put(record(b"3"))
    twin.publish()
    sock.meanwhile = fails
    with pytest.raises(ConnectionResetError):
        sock._take_many(9, 9)
    sock.meanwhile = lambda: None
    assert [data for data, _ in sock._take_many(9, 9)] == [b"2", b"3"]
