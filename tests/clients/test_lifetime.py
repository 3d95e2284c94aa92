"""dup, detach and close: several objects on one socket, and threads that wait on them."""

import errno
import os
import select
import socket
import termios
import threading
import time
from types import SimpleNamespace

import mhost
import pytest

pytestmark = pytest.mark.parametrize("lane", ["shm", "zmq"], indirect=True)

DEADLINE_S = 10


@pytest.fixture
def start():
    """Run a call in a thread; its `got` is what came of it, within the deadline."""
    threads = []

    def go(call, *args):
        result = SimpleNamespace(value="still waits")

        def body():
            try:
                result.value = call(*args)
            except OSError as err:
                result.value = errno.errorcode.get(err.errno, str(err))

        thread = threading.Thread(target=body, daemon=True)

        def got():
            thread.join(DEADLINE_S)
            return result.value

        threads.append(thread)
        thread.start()
        return got

    yield go
    for thread in threads:
        thread.join(DEADLINE_S)


def waiters(sock, count):
    """Wait until so many threads are blocked in a receiving call."""
    deadline = time.monotonic() + DEADLINE_S
    while sock._sk.arrived._waiting < count:
        assert time.monotonic() < deadline
        time.sleep(0.001)


# --- dup


def test_each_dup_has_a_descriptor_and_a_timeout_of_its_own(bound, sender):
    sock, port = bound
    sock.settimeout(4)
    with sock.dup() as copy:
        assert copy.fileno() != sock.fileno()
        assert copy.gettimeout() == 4
        copy.setblocking(False)
        assert sock.gettimeout() == 4
        sender.sendto(b"x", ("127.0.0.1", port))
        assert select.select([copy], [], [], 5)[0]
        assert select.select([sock], [], [], 0)[0]
        assert copy.recv(1) == b"x"
        assert not select.select([sock], [], [], 0)[0]
    assert sock.getsockname()[1] == port


@pytest.mark.parametrize("first", [0, 1])
def test_the_descriptor_of_what_is_left_goes_on_working(make_socket, sender, first):
    pair = [make_socket(), None]
    pair[0].bind(("127.0.0.1", 0))
    pair[1] = pair[0].dup()
    pair.pop(first).close()
    with pair[0] as left:
        sender.sendto(b"x", left.getsockname())
        assert select.select([left], [], [], 5)[0]
        assert left.recv(1) == b"x"


def test_descriptors_are_given_back(make_socket):
    make_socket()
    before = set(os.listdir("/proc/self/fd"))
    for _ in range(20):
        with mhost.Socket() as sock, sock.dup(), sock.dup() as third, third.dup():
            pass
    assert set(os.listdir("/proc/self/fd")) == before


def test_many_closes_of_one_object_count_once(make_socket, start):
    sock = make_socket()
    sock.bind(("127.0.0.1", 0))
    with sock.dup() as copy:
        for closer in [start(sock.close) for _ in range(8)]:
            assert closer() is None
        sock.close()
        assert copy.getsockname()[1]


def test_a_forgotten_dup_warns_and_leaves_the_other_open(bound):
    sock, port = bound
    copy = sock.dup()
    with pytest.warns(ResourceWarning, match="unclosed"):
        del copy
    assert sock.getsockname()[1] == port


# --- detach


def test_what_detach_leaves_is_taken_up_again(bound, sender, make_socket):
    sock, port = bound
    descriptor = sock.detach()
    assert sock.fileno() == -1
    with pytest.raises(OSError, match="closed") as err:
        sock.recv(1)
    assert err.value.errno == errno.EBADF
    sender.sendto(b"meanwhile", ("127.0.0.1", port))
    assert select.select([descriptor], [], [], 5)[0]
    with mhost.Socket(fileno=descriptor) as again:
        assert again.fileno() == descriptor
        assert again.getsockname()[1] == port
        assert again.recv(20) == b"meanwhile"
        with pytest.raises(OSError, match="is none that") as err:
            mhost.Socket(fileno=descriptor)
        assert err.value.errno == errno.EBADF
    make_socket().bind(("127.0.0.1", port))


def test_a_dup_can_be_detached_by_itself(bound):
    sock, port = bound
    descriptor = sock.dup().detach()
    sock.close()
    with mhost.Socket(fileno=descriptor) as again:
        assert again.getsockname()[1] == port


def test_what_was_never_a_socket_is_refused_by_its_number():
    with pytest.raises(OSError, match="descriptor 0 is none that mhost"):
        mhost.Socket(fileno=0)


def test_descriptors_are_not_inheritable_unless_asked_for(make_socket):
    sock = make_socket()
    assert not sock.get_inheritable()
    sock.set_inheritable(True)
    assert sock.get_inheritable()
    with sock.dup() as copy:
        assert not copy.get_inheritable()


def test_there_is_no_makefile_of_datagrams(make_socket):
    with pytest.raises(AttributeError, match="makefile"):
        make_socket().makefile()


# --- ioctl


def test_fionread_is_the_size_of_the_next_datagram(bound, sender, arrived):
    sock, port = bound
    assert sock.ioctl(termios.FIONREAD) == 0
    for payload in (b"12345", b"", b"123"):
        sender.sendto(payload, ("127.0.0.1", port))
    deadline = time.monotonic() + DEADLINE_S
    while arrived(port) < 3:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    sizes = []
    for _ in range(3):
        sizes.append(sock.ioctl(termios.FIONREAD))
        sock.recv(9)
    assert sizes == [5, 0, 3]
    with pytest.raises(OSError, match="neither FIONREAD nor SIOCOUTQ") as err:
        sock.ioctl(termios.TIOCGWINSZ)
    assert err.value.errno == errno.ENOTTY


# --- threads


def test_close_wakes_every_thread_that_waits(make_socket, start):
    sock = make_socket()
    sock.setblocking(True)
    calls = [start(call, 10) for call in (sock.recv, sock.recvfrom, sock.recvmsg)]
    calls.append(start(sock.recv_into, bytearray(9)))
    waiters(sock, 4)
    sock.close()
    assert [got() for got in calls] == ["EBADF"] * 4


def test_close_of_one_object_leaves_those_who_wait_on_its_dup(bound, sender, start):
    sock, port = bound
    with sock.dup() as copy:
        ours, others = start(sock.recv, 10), start(copy.recv, 10)
        waiters(sock, 2)
        sock.close()
        assert ours() == "EBADF"
        sender.sendto(b"for the dup", ("127.0.0.1", port))
        assert others() == b"for the dup"[:10]


def test_whoever_is_woken_first_leaves_the_wake_up_to_the_others(bound, start):
    sock, _port = bound
    sock.settimeout(None)
    stays = start(sock.recv, 10)
    for _ in range(50):
        with sock.dup() as copy:
            leaves = start(copy.recv, 10)
            waiters(sock, 2)
            copy.close()
            assert leaves() == "EBADF"
            waiters(sock, 1)
    sock.close()
    assert stays() == "EBADF"


def test_shutdown_wakes_every_thread_that_waits_on_any_dup(make_socket, start):
    sock = make_socket()
    sock.connect(("127.0.0.1", 9))
    with sock.dup() as copy:
        calls = [start(each.recv, 10) for each in (sock, copy, sock, copy)]
        waiters(sock, 4)
        copy.shutdown(socket.SHUT_RD)
        assert [got() for got in calls] == [b""] * 4


def test_threads_take_each_datagram_once(bound, make_socket, start):
    sock, port = bound
    to = ("10.77.1.1", port)  # the kernel's lo would lose some

    def send(sender, number):
        for i in range(100):
            sender.sendto(b"%d" % (number * 100 + i), to)

    def receive():
        got = []
        while (data := sock.recv(10)) != b"end":
            got.append(int(data))
        return got

    shared = make_socket()
    receivers = [start(receive) for _ in range(4)]
    senders = [start(send, shared, n) for n in range(4)]
    assert [got() for got in senders] == [None] * 4
    for _ in receivers:
        shared.sendto(b"end", to)
    assert sorted(number for got in receivers for number in got()) == list(range(400))


def test_a_socket_closed_under_its_senders_hurts_no_other(bound, make_socket, start):
    sock, port = bound
    doomed = make_socket()

    def send():
        while True:
            doomed.sendto(b"x", ("127.0.0.1", port))

    senders = [start(send) for _ in range(4)]
    assert sock.recv(1) == b"x"
    doomed.close()
    assert [got() for got in senders] == ["EBADF"] * 4
    last = make_socket()
    last.sendto(b"last", ("127.0.0.1", port))
    while sock.recv(9) != b"last":  # it may have met a full buffer
        last.sendto(b"last", ("127.0.0.1", port))
