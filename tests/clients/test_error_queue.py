"""The error queue apart from what the call table compares with Linux."""

import errno
import os
import select
import socket
import struct

import mhost
import pytest
from mhost.errqueue import error_message, fit
from mhost.receive import ERRORS_MAX, ReceiveQueue

from mhostd.uapi import AF_INET, AF_TESTPROTO, ExtendedErr, SockaddrMhost, SockError

pytestmark = pytest.mark.parametrize("lane", ["shm", "zmq"], indirect=True)

IP_RECVERR = 11
LOCAL, ICMP = 1, 2  # SO_EE_ORIGIN_* of linux/errqueue.h
QUEUE = socket.MSG_ERRQUEUE


def event(number=errno.ECONNREFUSED, origin=ICMP, family=AF_INET, address=b"\x7f\0\0\1"):
    sa = SockaddrMhost(family, 9, address.ljust(16, b"\0"))
    queued = ExtendedErr(origin, 3, 3, 0, sa._replace(port=0), b"payload")
    return SockError(1, number, os.strerror(number), sa, origin == LOCAL, True, queued)


@pytest.fixture
def queue():
    made = ReceiveQueue()
    yield made
    made.close()


def readable(queue):
    return bool(select.select([queue.fileno()], [], [], 0)[0])


# --- the queue


def test_a_blocked_recv_sleeps_while_an_error_waits_to_be_read(sender):
    sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    sender.sendto(b"x", ("127.0.0.1", 9))
    assert select.select([sender], [], [], 5)[0]
    with pytest.raises(ConnectionRefusedError):
        sender.recv(9)
    looked = 0
    take = sender._sk.take

    def counted(**options):
        nonlocal looked
        looked += 1
        return take(**options)

    sender._sk.take = counted
    sender.settimeout(0.2)
    with pytest.raises(TimeoutError):
        sender.recv(9)
    assert looked <= 2
    assert sender.recvmsg(9, 99, QUEUE)[0] == b"x"


def test_what_follows_in_the_queue_is_the_pending_error(queue):
    """sock_dequeue_err_skb of net/core/skbuff.c."""
    for each in (
        event(errno.EHOSTUNREACH),
        event(errno.ECONNREFUSED),
        event(errno.EMSGSIZE, LOCAL),
        event(errno.ENETUNREACH),
    ):
        queue.queue_error(each)
    pending = []
    while queue.take_error() is not None:
        pending.append(queue._error)
    assert pending == [errno.ECONNREFUSED, 0, errno.ENETUNREACH, 0]
    assert not readable(queue)


def test_an_error_of_this_host_is_queued_and_not_pending(queue):
    queue.queue_error(event(errno.EMSGSIZE, LOCAL))
    assert queue.pending_error() == 0
    assert readable(queue)


def test_a_full_queue_loses_what_comes(queue):
    for number in range(ERRORS_MAX + 5):
        queue.queue_error(event(number + 1))
    taken = []
    while (each := queue.take_error()) is not None:
        taken.append(each.errno)
    assert taken == list(range(1, ERRORS_MAX + 1))


@pytest.mark.parametrize("off", [0, bytes(4)])
def test_turning_it_off_forgets_what_is_there(sender, off):
    sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    sender.sendto(b"x", ("127.0.0.1", 9))
    assert select.select([sender], [], [], 5)[0]
    sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, off)
    with pytest.raises(BlockingIOError):
        sender.recvmsg(9, 99, QUEUE)


# --- the control message


def test_an_error_of_a_plug_in_is_told_as_mhost_recverr():
    """struct sock_extended_err, then struct sockaddr_mhost with the address in `opaque`."""
    level, kind, data = error_message(event(family=AF_TESTPROTO, address=b"\0\7"))
    assert (level, kind) == (mhost.SOL_MHOST, 3)
    assert data == struct.pack(
        "=IBBBBIIHHI8s", errno.ECONNREFUSED, ICMP, 3, 3, 0, 0, 0, AF_TESTPROTO, 0, 0, b"\0\7"
    )


def test_control_messages_are_cut_as_put_cmsg_does():
    """net/core/scm.c: a header needs 16 octets, a message its padding only if it fits."""
    messages = [(1, 2, b"abcd"), (3, 4, b"efgh")]
    assert fit(messages, 48) == (messages, 0)
    assert fit(messages, 44) == (messages, 0)
    assert fit(messages, 43) == ([(1, 2, b"abcd"), (3, 4, b"efg")], socket.MSG_CTRUNC)
    assert fit(messages, 39) == ([(1, 2, b"abcd")], socket.MSG_CTRUNC)
    assert fit(messages, 16) == ([(1, 2, b"")], socket.MSG_CTRUNC)
    assert fit(messages, 15) == ([], socket.MSG_CTRUNC)
    assert fit([], 0) == ([], 0)


# --- over our own L3


def test_mhost_recverr_queues_the_errors_of_every_l3(make_socket, pair):
    sock = make_socket()
    sock.setsockopt(mhost.SOL_MHOST, 3, 1)
    assert sock.getsockopt(mhost.SOL_MHOST, 3) == 1
    sock.sendto(b"anybody?", ("10.77.2.1", 9))
    with pytest.raises(ConnectionRefusedError):
        sock.recv(9)
    data, ancdata, flags, source = sock.recvmsg(99, 99, QUEUE)
    assert (data, flags, source) == (b"anybody?", QUEUE, ("10.77.2.1", 9))
    [(level, kind, octets)] = ancdata
    assert (level, kind) == (socket.IPPROTO_IP, IP_RECVERR)
    assert struct.unpack("=IBBBBIIH2x4s8x", octets) == (
        errno.ECONNREFUSED, ICMP, 3, 3, 0, 0, 0, AF_INET, socket.inet_aton("10.77.2.1"),
    )  # fmt: skip
    with pytest.raises(BlockingIOError):
        sock.recvmsg(99, 99, QUEUE)
