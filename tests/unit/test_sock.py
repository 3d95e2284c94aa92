import pytest

from mhostd.errors import DropReason, Verdict
from mhostd.sock import (
    CALLERS_MAX,
    Client,
    Datagram,
    Heard,
    Locator,
    Sock,
    sock_called,
    sock_dequeue,
    sock_queue_rcv_skb,
    sock_rfree,
)
from mhostd.uapi import SockaddrMhost, record_size

SOURCE = SockaddrMhost(1, 9, b"\0\2")


def heard(number):
    return Heard(Locator(1, bytes((0, number))), l3=number)


@pytest.fixture
def ready():
    return []


@pytest.fixture
def sk(ready):
    return Sock(1, Client(1, 0), ready.append, print)


def queue(sk, payload=b"12345678"):
    return sock_queue_rcv_skb(sk, Datagram(payload, SOURCE))


def test_the_owner_is_told_of_each_datagram(sk, ready):
    assert queue(sk) is Verdict.DELIVERED
    assert queue(sk) is Verdict.DELIVERED
    assert ready == [sk, sk]
    assert (sk.rx_datagrams, len(sk.receive_queue)) == (2, 2)


def test_datagrams_come_out_in_the_order_in_which_they_came(sk):
    for payload in (b"one", b"two", b"three"):
        queue(sk, payload)
    assert [sock_dequeue(sk).payload for _ in range(3)] == [b"one", b"two", b"three"]


def test_a_full_buffer_refuses_and_counts(sk, ready):
    sk.rcvbuf = 2 * record_size(8)
    assert [queue(sk) for _ in range(3)] == [
        Verdict.DELIVERED,
        Verdict.DELIVERED,
        DropReason.SOCKET_RCVBUFF,
    ]
    assert (sk.rx_datagrams, sk.rx_drops, len(ready)) == (2, 1, 2)


def test_a_datagram_larger_than_the_whole_buffer_is_let_in_while_it_is_empty(sk):
    sk.rcvbuf = 100
    assert queue(sk, bytes(1000)) is Verdict.DELIVERED
    assert queue(sk, b"") is DropReason.SOCKET_RCVBUFF


def test_what_the_application_has_not_consumed_fills_the_buffer_too(sk):
    sk.rcvbuf = record_size(8)
    queue(sk)
    sock_dequeue(sk)
    assert (sk.rmem_queued, sk.rmem_sent) == (0, record_size(8))
    assert queue(sk) is DropReason.SOCKET_RCVBUFF
    sock_rfree(sk, record_size(8))
    assert queue(sk) is Verdict.DELIVERED


def test_credit_beyond_what_was_sent_gives_no_more_room(sk):
    queue(sk)
    sock_dequeue(sk)
    sock_rfree(sk, 1 << 20)
    assert sk.rmem_sent == 0


def test_who_calls_is_remembered_with_the_way_it_came_last(sk):
    sock_called(sk, (7, 80), heard(1))
    sock_called(sk, (7, 80), heard(2))
    assert sk.callers[7, 80] == heard(2)


def test_whom_we_called_first_does_not_choose_the_way(sk):
    sock_called(sk, (7, 80), None)
    sock_called(sk, (7, 80), heard(1))
    assert sk.callers[7, 80] is None


def test_an_answer_does_not_forget_who_called(sk):
    sock_called(sk, (7, 80), heard(1))
    sock_called(sk, (7, 80), None)
    assert sk.callers[7, 80] == heard(1)


def test_callers_are_bounded_and_the_oldest_is_forgotten(sk):
    for port in range(CALLERS_MAX + 1):
        sock_called(sk, (7, port), heard(1))
    assert len(sk.callers) == CALLERS_MAX
    assert (7, 0) not in sk.callers
    assert (7, CALLERS_MAX) in sk.callers
