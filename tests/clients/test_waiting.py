"""Calls that wait: signals in between (PEP 475), timeouts, a daemon that is stopped."""

import errno
import signal
import socket
import struct
import termios
import time

import pytest

pytestmark = pytest.mark.parametrize("lane", ["shm", "zmq"], indirect=True)

FREE_S = 10  # seconds


@pytest.fixture
def on_tick():
    """Have a function called, with 1, 2, 3 ..., by a signal handler every 10 ms."""
    old = signal.getsignal(signal.SIGALRM)
    count = 0

    def install(function):
        def handler(_number, _frame):
            nonlocal count
            count += 1
            function(count)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)

    yield install
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, old)


@pytest.fixture
def stopped(pair):
    """The daemon does nothing until go() or the end of the test."""
    daemon = pair[0].daemon
    daemon.send_signal(signal.SIGSTOP)
    yield lambda: daemon.send_signal(signal.SIGCONT)
    daemon.send_signal(signal.SIGCONT)


class HandlerError(Exception):
    """What a handler raises."""


def raise_at(last):
    def function(count):
        if count == last:
            raise HandlerError

    return function


@pytest.mark.parametrize("timeout_s", [None, 30])
def test_a_wait_goes_on_after_a_handler_that_returns(bound, on_tick, timeout_s):
    sock, port = bound
    sock.sendto(b"itself", ("127.0.0.1", port))
    assert sock.recv(9) == b"itself"
    sock.settimeout(timeout_s)
    # The handler uses the very socket that is waited on.
    on_tick(lambda count: count == 3 and sock.sendto(b"third", ("127.0.0.1", port)))
    assert sock.recvfrom(9)[0] == b"third"


def test_interruptions_do_not_begin_the_timeout_anew(bound, on_tick):
    sock, _port = bound
    sock.settimeout(0.2)
    on_tick(raise_at(FREE_S * 100))
    with pytest.raises(TimeoutError):
        sock.recv(1)


def test_what_a_handler_raises_ends_a_receive_and_loses_nothing(bound, sender, on_tick):
    sock, port = bound
    on_tick(raise_at(2))
    with pytest.raises(HandlerError):
        sock.recv(1)
    sender.sendto(b"x", ("127.0.0.1", port))
    assert sock.recv(1) == b"x"
    assert sock._sk.arrived._waiting == 0


def test_a_send_goes_on_after_a_handler_that_returns(bound, sender, stopped, on_tick):
    sock, port = bound
    on_tick(lambda count: count == 3 and stopped())
    assert sender.sendto(b"first", ("127.0.0.1", port)) == 5
    assert sock.recv(9) == b"first"


def test_what_a_handler_raises_ends_a_send(bound, sender, stopped, on_tick):
    sock, port = bound
    on_tick(raise_at(2))
    with pytest.raises(HandlerError):
        sender.sendto(b"first", ("127.0.0.1", port))
    stopped()
    assert sender.sendto(b"second", ("127.0.0.1", port)) == 6
    assert [sock.recv(9), sock.recv(9)] == [b"first", b"second"]


# --- timeouts of the first send to a destination


def test_settimeout_bounds_a_send(sender, stopped):
    sender.settimeout(0.05)
    with pytest.raises(TimeoutError, match="timed out"):
        sender.sendto(b"x", ("127.0.0.1", 9))


def test_so_sndtimeo_bounds_a_blocking_send_and_gives_eagain(sender, stopped):
    sender.setblocking(True)
    timeval = struct.pack("qq", 0, 50_000)
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval)
    with pytest.raises(BlockingIOError) as err:
        sender.sendto(b"x", ("127.0.0.1", 9))
    assert err.value.errno == errno.EAGAIN


def until_all_is_answered(sock):
    deadline = time.monotonic() + FREE_S
    while sock.ioctl(termios.TIOCOUTQ):
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_siocoutq_counts_what_the_daemon_has_not_answered(sender, stopped):
    sender.setblocking(False)
    assert sender.sendto(b"12345", ("127.0.0.1", 9)) == 5
    assert sender.sendto(b"123", ("127.0.0.2", 9)) == 3
    assert sender.ioctl(termios.TIOCOUTQ) == 8
    stopped()
    until_all_is_answered(sender)
