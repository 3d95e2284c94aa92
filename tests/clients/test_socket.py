"""mhost.Socket beside what the stdlib's datagram socket does."""

import errno
import os
import select
import selectors
import socket
import subprocess
import sys
import threading
import time

import mhost
import pytest

pytestmark = pytest.mark.parametrize("lane", ["shm", "zmq"], indirect=True)

WAYS = ["127.0.0.1", "::1", "10.77.1.1", "fd77:1::1", "testproto:1", "otherproto:0:0:0:1", "me"]


@pytest.mark.parametrize("host", WAYS)
def test_what_recvfrom_returns_can_be_sent_to(bound, sender, host):
    sock, port = bound
    assert sender.sendto(b"question", (host, port)) == 8
    data, source = sock.recvfrom(100)
    assert data == b"question"
    assert sock.sendto(b"answer", source) == 6
    data, answerer = sender.recvfrom(100)
    assert data == b"answer"
    assert sender.sendto(b"again", answerer) == 5
    assert sock.recvfrom(100) == (b"again", source)


def test_a_source_that_belongs_to_a_known_host_is_reported_as_that_host(bound, sender):
    sock, port = bound
    sender.sendto(b"x", ("10.77.1.1", port))
    assert sock.recvfrom(1)[1][0] == "me"
    sender.sendto(b"x", ("127.0.0.1", port))
    assert sock.recvfrom(1)[1][0] == "127.0.0.1"


@pytest.mark.parametrize("payload", [b"", b"x", b"x" * 1472])
@pytest.mark.parametrize("host", ["127.0.0.1", "10.77.1.1"])
def test_every_datagram_keeps_its_boundaries_also_an_empty_one(bound, sender, host, payload):
    sock, port = bound
    for data in (payload, b"mark"):
        sender.sendto(data, (host, port))
    assert sock.recv(65536) == payload
    assert sock.recv(65536) == b"mark"


def test_the_largest_datagram_of_the_kernel_goes_through(bound, sender):
    sock, port = bound
    payload = os.urandom(65507)
    sender.sendto(payload, ("127.0.0.1", port))
    assert sock.recv(70000) == payload


def test_a_short_buffer_cuts_and_recvmsg_says_so(bound, sender):
    sock, port = bound
    for _ in range(3):
        sender.sendto(b"0123456789", ("127.0.0.1", port))
    assert sock.recv(4) == b"0123"
    data, _ancdata, flags, _source = sock.recvmsg(4)
    assert (data, flags) == (b"0123", socket.MSG_TRUNC)
    buffer = bytearray(4)
    count, _source = sock.recvfrom_into(buffer, 0, socket.MSG_TRUNC)
    assert (count, buffer) == (10, b"0123")


def test_peek_leaves_the_datagram(bound, sender):
    sock, port = bound
    sender.sendto(b"once", ("127.0.0.1", port))
    assert sock.recv(10, socket.MSG_PEEK) == b"once"
    assert sock.recv(10) == b"once"
    with pytest.raises(BlockingIOError):
        sock.recv(10, socket.MSG_DONTWAIT)


def test_sendmsg_gathers_and_recvmsg_tells_l3_and_locator(bound, sender):
    sock, port = bound
    sock.setsockopt(mhost.SOL_MHOST, mhost.MHOST_RECVPKTINFO, 1)
    assert sock.getsockopt(mhost.SOL_MHOST, mhost.MHOST_RECVPKTINFO) == 1
    sender.sendmsg([b"gat", bytearray(b"her"), memoryview(b"ed")], [], 0, ("testproto:1", port))
    data, ancdata, _flags, source = sock.recvmsg(100, 100)
    assert data == b"gathered"
    assert ancdata == [(mhost.SOL_MHOST, mhost.MHOST_PKTINFO, b"testproto lo testproto:1")]
    assert source[0] == "me"
    with pytest.raises(OSError, match="control message 9 of level 1"):
        sender.sendmsg([b"x"], [(1, 9, b"")], 0, ("testproto:1", port))


def test_blocking_timeout_and_non_blocking_modes(bound):
    sock, _port = bound
    sock.settimeout(0.05)
    assert sock.gettimeout() == sock.timeout == 0.05
    assert sock.getblocking()
    with pytest.raises(TimeoutError, match="timed out"):
        sock.recv(1)
    sock.setblocking(False)
    assert not sock.getblocking()
    with pytest.raises(BlockingIOError) as err:
        sock.recvfrom(1)
    assert err.value.errno == errno.EAGAIN
    sock.setblocking(True)
    assert sock.gettimeout() is None
    with pytest.raises(ValueError, match="out of range"):
        sock.settimeout(-1)


def test_a_blocked_recv_returns_when_a_datagram_comes(bound, sender):
    sock, port = bound
    sock.setblocking(True)
    got = []
    reader = threading.Thread(target=lambda: got.append(sock.recv(10)))
    reader.start()
    sender.sendto(b"wake", ("127.0.0.1", port))
    reader.join(10)
    assert got == [b"wake"]


@pytest.mark.parametrize("kind", ["select", "poll", "epoll", "selectors"])
def test_fileno_is_readable_when_recvfrom_would_return(bound, sender, kind):
    sock, port = bound
    assert sock.fileno() >= 0

    def readable(timeout_s):
        if kind == "select":
            return bool(select.select([sock], [], [], timeout_s)[0])
        if kind == "poll":
            poll = select.poll()
            poll.register(sock, select.POLLIN)
            return bool(poll.poll(timeout_s * 1000))
        if kind == "epoll":
            with select.epoll() as epoll:
                epoll.register(sock, select.EPOLLIN)
                return bool(epoll.poll(timeout_s))
        with selectors.DefaultSelector() as selector:
            selector.register(sock, selectors.EVENT_READ)
            return bool(selector.select(timeout_s))

    assert not readable(0)
    sender.sendto(b"one", ("127.0.0.1", port))
    sender.sendto(b"two", ("127.0.0.1", port))
    assert readable(5)
    assert sock.recv(10) == b"one"
    assert readable(5)
    assert sock.recv(10) == b"two"
    assert not readable(0)


def test_it_is_always_writable(bound):
    assert select.select([], [bound[0]], [], 0)[1]


# --- bind


@pytest.mark.parametrize("host", ["", "*"])
def test_the_wildcard_takes_the_port_in_every_place_at_once(make_socket, host, pair):
    sock = make_socket()
    sock.bind((host, 0))
    name, port = sock.getsockname()
    assert name == "*"
    for taken in ("127.0.0.1", "::1", "10.77.1.1", "fd77:1::1", "testproto:1", "*"):
        with pytest.raises(OSError, match=str(port)) as err:
            make_socket().bind((taken, port))
        assert err.value.errno == errno.EADDRINUSE
    kernel = pair[0].app()
    kernel("socket", "inet")
    with pytest.raises(OSError, match="in use"):
        kernel("bind", "0.0.0.0", port)


def test_a_port_that_the_kernel_has_given_away_is_taken_for_the_wildcard(make_socket, pair):
    kernel = pair[0].app()
    kernel("socket", "inet6")
    _host, port = kernel("bind", "::1", 0)
    with pytest.raises(OSError, match=f"host_inet6 .* port {port}") as err:
        make_socket().bind(("*", port))
    assert err.value.errno == errno.EADDRINUSE
    make_socket().bind(("10.77.1.1", port))


@pytest.mark.parametrize(
    ("bind", "arrives", "fails"),
    [
        ("10.77.1.1", "10.77.1.1", "127.0.0.1"),
        ("127.0.0.1", "127.0.0.1", "10.77.1.1"),
        ("0.0.0.0", "127.0.0.1", "::1"),
        ("0.0.0.0", "10.77.1.1", "testproto:1"),
        ("::", "fd77:1::1", "127.0.0.1"),
        ("testproto:*", "testproto:1", "otherproto:0:0:0:1"),
        ("testproto:1", "testproto:1", "10.77.1.1"),
        ("me", "otherproto:0:0:0:1", "127.0.0.1"),
    ],
)
def test_a_socket_bound_to_less_receives_there_only(make_socket, sender, bind, arrives, fails):
    sock = make_socket()
    sock.bind((bind, 0))
    name, port = sock.getsockname()
    assert name == bind
    sender.sendto(b"arrives", (arrives, port))
    assert sock.recv(100) == b"arrives"
    try:
        sender.sendto(b"fails", (fails, port))
    except OSError:
        pass
    sender.sendto(b"next", (arrives, port))
    assert sock.recv(100) == b"next"


def test_a_socket_bound_to_one_l3_cannot_send_over_another(make_socket):
    sock = make_socket()
    sock.bind(("testproto:*", 0))
    with pytest.raises(OSError, match=r"not bound; bind to '\*'") as err:
        sock.sendto(b"x", ("127.0.0.1", 9))
    assert err.value.errno == errno.ENETUNREACH
    sock.sendto(b"x", ("me", 9))  # the host is reached over testproto too


def test_the_source_port_is_the_same_over_every_l3(make_socket, sender):
    receiver = make_socket()
    receiver.bind(("*", 0))
    port = receiver.getsockname()[1]
    ports = set()
    for host in WAYS:
        sender.sendto(b"x", (host, port))
        ports.add(receiver.recvfrom(10)[1][1])
    assert ports == {sender.getsockname()[1]}


# --- connect


@pytest.mark.parametrize("host", ["127.0.0.1", "10.77.1.1", "testproto:1", "me"])
def test_a_connected_socket_talks_to_its_peer_only(make_socket, bound, sender, host):
    sock, port = bound
    client = make_socket()
    client.connect((host, port))
    assert client.getpeername() == (host, port)
    client.send(b"question")
    source = sock.recvfrom(100)[1]
    sender.sendto(b"stranger", (host, client.getsockname()[1]))
    sock.sendto(b"answer", source)
    assert client.recv(100) == b"answer"
    client.connect(None)
    with pytest.raises(OSError, match="not connected") as err:
        client.getpeername()
    assert err.value.errno == errno.ENOTCONN
    with pytest.raises(OSError, match="no destination") as err:
        client.send(b"x")
    assert err.value.errno == errno.EDESTADDRREQ


def test_a_refused_connection_is_an_error_of_the_connected_socket(make_socket, pair):
    kernel = pair[0].app()
    kernel("socket", "inet")
    _host, port = kernel("bind", "127.0.0.1", 0)
    kernel("close")
    client = make_socket()
    client.connect(("127.0.0.1", port))
    client.send(b"anybody?")
    with pytest.raises(ConnectionRefusedError):
        client.recv(10)
    client.send(b"anybody?")
    select.select([client], [], [], 5)
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ECONNREFUSED
    assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0


# --- options, shutdown, close


def test_options_are_linux_ones(make_socket):
    sock = make_socket()
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_DGRAM
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == mhost.AF_MHOST
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL) == socket.IPPROTO_UDP
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kernel:
        for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
            for value in (1, 5000, 100_000):
                sock.setsockopt(socket.SOL_SOCKET, option, value)
                if option == socket.SO_RCVBUF:
                    kernel.setsockopt(socket.SOL_SOCKET, option, value)
                    want = kernel.getsockopt(socket.SOL_SOCKET, option)
                    assert sock.getsockopt(socket.SOL_SOCKET, option) == want
    assert len(sock.getsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4)) == 4
    for level, option in ((socket.SOL_SOCKET, 9999), (socket.IPPROTO_IP, 9999)):
        with pytest.raises(OSError, match="has no option") as err:
            sock.getsockopt(level, option)
        assert err.value.errno == errno.ENOPROTOOPT
        with pytest.raises(OSError, match="has no option"):
            sock.setsockopt(level, option, 1)


def test_a_small_receive_buffer_loses_the_rest_and_then_goes_on(bound, sender, pair):
    sock, port = bound
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 5000)
    for i in range(100):
        sender.sendto(b"%04d" % i + bytes(996), ("10.77.1.1", port))
    row = {}
    deadline = time.monotonic() + 10
    while row.get("rx_drops", 0) + row.get("rx_datagrams", 0) < 100:
        assert time.monotonic() < deadline
        row = next(sk for sk in pair[0].show("sockets") if sk["port"] == port)
    got = []
    sock.setblocking(False)
    try:
        while True:
            got.append(int(sock.recv(2000)[:4]))
    except BlockingIOError:
        pass
    assert got == list(range(row["rx_datagrams"]))
    assert row["rx_drops"] == 100 - len(got)
    sock.settimeout(5)
    for i in range(500):
        sender.sendto(b"%d" % i, ("10.77.1.1", port))
        assert sock.recv(100) == b"%d" % i


def test_shutdown_wakes_a_blocked_reader_and_stops_senders(bound, sender):
    sock, port = bound
    sender.connect(("127.0.0.1", port))
    sender.setblocking(True)
    got = []
    reader = threading.Thread(target=lambda: got.append(sender.recv(10)))
    reader.start()
    sender.shutdown(socket.SHUT_RD)
    reader.join(10)
    assert got == [b""]
    assert select.select([sender], [], [], 0)[0]
    sender.shutdown(socket.SHUT_WR)
    with pytest.raises(BrokenPipeError):
        sender.send(b"x")
    with pytest.raises(OSError, match="not connected") as err:
        sock.shutdown(socket.SHUT_RDWR)
    assert err.value.errno == errno.ENOTCONN


def test_close_frees_the_port_before_it_returns(make_socket):
    sock = make_socket()
    sock.bind(("*", 0))
    port = sock.getsockname()[1]
    sock.close()
    sock.close()
    assert sock.fileno() == -1
    with pytest.raises(OSError, match="closed") as err:
        sock.recv(1)
    assert err.value.errno == errno.EBADF
    make_socket().bind(("*", port))


def test_the_context_manager_closes():
    with mhost.Socket() as sock:
        assert sock.fileno() >= 0
        assert f"fd={sock.fileno()}" in repr(sock)
    assert sock.fileno() == -1
    assert "closed" in repr(sock)


def test_a_forgotten_socket_warns_and_its_port_is_freed(make_socket):
    sock = mhost.Socket()
    sock.bind(("*", 0))
    port = sock.getsockname()[1]
    with pytest.warns(ResourceWarning, match="unclosed"):
        del sock
    make_socket().bind(("*", port))


def test_a_forked_child_gets_a_clear_error_and_can_open_its_own(bound, pair):
    sock, port = bound
    code = """
import mhost, os, sys
s = mhost.Socket(); s.bind(("*", 0))
me = ("127.0.0.1", s.getsockname()[1])
s.sendto(b"1", me); s.sendto(b"2", me)  # what has come is the parent's
s.recv(9)
pid = os.fork()
if pid == 0:
    try:
        s.recv(1)
    except OSError as err:
        print(err.strerror, flush=True)
    with mhost.Socket() as own:
        own.sendto(b"from the child", ("127.0.0.1", int(sys.argv[1])))
    os._exit(0)
os.waitpid(pid, 0)
assert s.recv(9) == b"2"
s.sendto(b"from the parent", ("127.0.0.1", int(sys.argv[1])))
s.close()
"""
    argv = [sys.executable, "-W", "ignore", "-c", code, str(port)]
    done = subprocess.run(argv, env=pair[0].env, capture_output=True, text=True, timeout=30)
    assert "opened before fork()" in done.stdout, done.stderr
    assert {sock.recv(100), sock.recv(100)} == {b"from the child", b"from the parent"}


def test_several_threads_share_a_socket(bound, make_socket):
    sock, port = bound
    shared = make_socket()
    shared.sendto(b"first", ("127.0.0.1", port))
    sock.recv(10)

    def send(number):
        for i in range(50):
            shared.sendto(b"%d %d" % (number, i), ("127.0.0.1", port))

    threads = [threading.Thread(target=send, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    got = [tuple(map(int, sock.recv(100).split())) for _ in range(200)]
    for thread in threads:
        thread.join()
    assert sorted(got) == [(n, i) for n in range(4) for i in range(50)]
    for n in range(4):
        assert [i for m, i in got if m == n] == list(range(50))
