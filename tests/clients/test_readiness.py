"""fileno() under select, poll, epoll by level and by edge, beside a kernel socket's."""

import select
import signal
import socket

import mhost.daemon
import pytest

FREE_S = 10  # seconds


@pytest.fixture(params=["shm", "zmq"])
def lane(request, on_a, monkeypatch):
    mhost.daemon.close_all()
    monkeypatch.setenv("MHOST_LANE", "" if request.param == "shm" else "zmq")
    yield request.param
    mhost.daemon.close_all()


@pytest.fixture(params=["mhost", "kernel"])
def receiver(request, lane, make_socket):
    """A bound socket that does not block, and how to send to it and wait until it is there."""
    if request.param == "kernel":
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        host = "127.0.0.1"
    else:
        sock, sender, host = make_socket(), make_socket(), "10.77.1.1"
    sock.bind((host, 0))
    sock.setblocking(False)
    to = sock.getsockname()[:2]
    with sock, sender:
        yield sock, lambda data: sender.sendto(data, to)


def test_select_and_poll_say_whether_recv_would_block(receiver):
    sock, send = receiver
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN | select.POLLOUT)
    assert select.select([sock], [sock], [sock], 0) == ([], [sock], [])
    assert poll.poll(0) == [(sock.fileno(), select.POLLOUT)]
    for data in (b"1", b"2"):
        send(data)
    for data in (b"1", b"2"):
        assert select.select([sock], [], [], FREE_S) == ([sock], [], [])
        assert poll.poll(0) == [(sock.fileno(), select.POLLIN | select.POLLOUT)]
        assert sock.recv(9) == data
    assert select.select([sock], [], [], 0) == ([], [], [])
    with pytest.raises(BlockingIOError):
        sock.recv(9)


def test_epoll_by_level_tells_again_until_all_is_taken(receiver):
    sock, send = receiver
    with select.epoll() as epoll:
        epoll.register(sock.fileno(), select.EPOLLIN)
        assert epoll.poll(0) == []
        send(b"1")
        for _ in range(3):
            assert epoll.poll(FREE_S) == [(sock.fileno(), select.EPOLLIN)]
        assert sock.recv(9) == b"1"
        assert epoll.poll(0) == []


def test_epoll_by_edge_tells_once_of_each_time_it_became_readable(receiver):
    sock, send = receiver
    with select.epoll() as epoll:
        epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLET)
        for data in (b"1", b"2", b"3"):
            assert epoll.poll(0) == []
            send(data)
            assert epoll.poll(FREE_S) == [(sock.fileno(), select.EPOLLIN)]
            assert epoll.poll(0) == []  # although it still is
            assert sock.recv(9) == data
            with pytest.raises(BlockingIOError):  # as one must who is told by edge
                sock.recv(9)


def test_epoll_by_edge_tells_of_what_comes_while_something_is_taken(receiver):
    sock, send = receiver
    with select.epoll() as epoll:
        epoll.register(sock.fileno(), select.EPOLLIN | select.EPOLLET)
        count = 0
        for i in range(200):
            send(b"%d" % i)
            if not epoll.poll(0):
                continue
            try:
                while True:
                    assert sock.recv(9) == b"%d" % count
                    count += 1
            except BlockingIOError:
                pass
        while count < 200:
            assert epoll.poll(FREE_S)
            try:
                while True:
                    assert sock.recv(9) == b"%d" % count
                    count += 1
            except BlockingIOError:
                pass


def test_epoll_by_edge_tells_when_a_full_ring_has_room(pair, make_socket):
    sender, receiver = make_socket(), make_socket()
    receiver.bind(("10.77.1.1", 0))
    to = receiver.getsockname()[:2]
    for _ in range(2):
        sender.sendto(b"known", to)
        receiver.recv(9)
    sender.setblocking(False)
    with select.epoll() as epoll:
        epoll.register(sender.fileno(), select.EPOLLOUT | select.EPOLLET)
        assert epoll.poll(0) == [(sender.fileno(), select.EPOLLOUT)]
        pair[0].daemon.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(BlockingIOError):
                while True:
                    sender.sendto(bytes(60_000), to)
            assert epoll.poll(0) == []
            assert not select.select([], [sender], [], 0)[1]
        finally:
            pair[0].daemon.send_signal(signal.SIGCONT)
        assert epoll.poll(FREE_S) == [(sender.fileno(), select.EPOLLOUT)]
        assert sender.sendto(b"again", to) == 5
