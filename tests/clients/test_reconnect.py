"""The daemon goes away and comes back; sockets live on."""

import errno
import json
import os
import signal
import socket
import struct
import termios
import threading
import time

import mhost
import pytest
from lab import config

CONFIG = config(1, 2)
IP_RECVERR = 11  # linux/in.h


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_sockets_keep_port_options_and_peer_over_a_restart(pair, make_socket, number):
    a, _b = pair
    server, client = make_socket(), make_socket()
    server.setsockopt(1, 8, 50_000)
    server.bind(("*", 0))
    port = server.getsockname()[1]
    client.connect(("me", port))
    client.send(b"before")
    assert server.recvfrom(10)[0] == b"before"
    before = client.getsockname()
    a.stop(number)
    a.start(CONFIG)
    client.send(b"after")
    data, source = server.recvfrom(10)
    assert data == b"after"
    assert source == ("me", before[1])
    server.sendto(b"answer", source)
    assert client.recv(10) == b"answer"
    assert client.getsockname() == before
    assert client.getpeername() == ("me", port)
    assert server.getsockopt(1, 8) == 100_000


def test_every_object_of_a_socket_and_every_option_survives_a_restart(pair, make_socket):
    a, _b = pair
    sock, taken_up = make_socket(), make_socket()
    lo, group = struct.pack("4xi", 1), socket.inet_aton("239.77.1.9")
    other = socket.inet_aton("239.77.1.8")
    for option, value in (
        (socket.IP_ADD_MEMBERSHIP, other + lo),
        (socket.IP_MULTICAST_IF, bytes(4) + lo),
        (socket.IP_ADD_MEMBERSHIP, group + lo),
        (socket.IP_DROP_MEMBERSHIP, other + lo),
        (socket.IP_TTL, 7),
        (IP_RECVERR, 1),
        (socket.IP_TTL, 9),
    ):
        sock.setsockopt(socket.IPPROTO_IP, option, value)
    sock.bind(("", 0))
    taken_up.bind(("127.0.0.1", 0))
    number = taken_up.getsockname()[1]
    descriptor = taken_up.detach()
    with sock.dup() as copy:
        a.stop(signal.SIGKILL)
        a.start(CONFIG)
        assert copy.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 9
        sock.sendto(b"to the group", ("239.77.1.9", sock.getsockname()[1]))
        assert copy.recv(20) == b"to the group"
        with pytest.raises(OSError, match="Errno") as err:  # it was left before
            copy.setsockopt(socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, other + lo)
        assert err.value.errno == errno.EADDRNOTAVAIL
        copy.sendto(b"nobody there", ("127.0.0.1", 9))
        with pytest.raises(ConnectionRefusedError):
            sock.recv(1)
        assert sock.recvmsg(20, 99, socket.MSG_ERRQUEUE)[0] == b"nobody there"
    with mhost.Socket(fileno=descriptor) as again:
        assert again.getsockname() == ("127.0.0.1", number)


def test_a_group_whose_interface_is_gone_is_an_error_and_the_port_is_kept(pair, make_socket):
    a, _b = pair
    a.ip("link add gone0 type veth peer name gone1")
    index = json.loads(a.run("ip", "-j", "link", "show", "gone0").stdout)[0]["ifindex"]
    sock = make_socket()
    mreqn = struct.pack("4s4xi", socket.inet_aton("239.77.1.9"), index)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, mreqn)
    sock.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, 9)
    sock.bind(("*", 0))
    name = sock.getsockname()
    a.stop(signal.SIGKILL)
    a.ip("link del gone0")
    a.start(CONFIG)
    assert sock.getsockname() == name
    assert sock.getsockopt(socket.IPPROTO_IP, socket.IP_TTL) == 9
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == errno.ENODEV


def test_what_a_restart_lost_is_not_waited_for(pair, make_socket):
    a, _b = pair
    sock = make_socket()
    sock.setblocking(False)
    a.daemon.send_signal(signal.SIGSTOP)
    sock.sendto(b"12345", ("127.0.0.1", 9))
    assert sock.ioctl(termios.TIOCOUTQ) == 5
    a.stop(signal.SIGKILL)
    deadline = time.monotonic() + 10
    with pytest.raises(BlockingIOError):
        while time.monotonic() < deadline:
            sock.sendto(b"x", ("127.0.0.1", 9))
    a.start(CONFIG)
    sock.getsockname()  # it is back
    assert sock.ioctl(termios.TIOCOUTQ) == 0


def test_a_blocked_recv_waits_out_a_restart_and_goes_on(pair, make_socket):
    a, b = pair
    server = make_socket()
    server.bind(("*", 0))
    port = server.getsockname()[1]
    server.setblocking(True)
    got = []
    reader = threading.Thread(target=lambda: got.append(server.recv(10)))
    reader.start()
    a.stop(signal.SIGKILL)
    a.start(CONFIG)
    server.getsockname()  # it is back
    app = b.app()
    app("socket", "mhost")
    deadline = time.monotonic() + 10
    while reader.is_alive() and time.monotonic() < deadline:
        app("sendto", "hello", "10.77.1.1", port)
        reader.join(0.05)
    assert got == [b"hello"]


def test_while_it_is_away_a_non_blocking_send_would_block_and_a_timeout_times_out(
    pair, make_socket
):
    a, _b = pair
    sock = make_socket()
    sock.sendto(b"x", ("127.0.0.1", 9))
    a.stop()
    sock.setblocking(False)
    deadline = time.monotonic() + 5
    with pytest.raises(BlockingIOError):
        while time.monotonic() < deadline:
            sock.sendto(b"x", ("127.0.0.1", 9))
    sock.settimeout(0.1)
    with pytest.raises(OSError, match=r"away|timed out"):
        sock.sendto(b"x", ("127.0.0.1", 9))
    a.start(CONFIG)
    sock.settimeout(5)
    sock.sendto(b"x", ("127.0.0.1", 9))


def test_a_name_is_looked_up_again_after_a_restart(pair, make_socket):
    a, _b = pair
    sock = make_socket()
    sock.bind(("*", 0))
    port = sock.getsockname()[1]
    sock.sendto(b"one", ("me", port))
    assert sock.recvfrom(10) == (b"one", ("me", port))
    a.stop()
    a.start(CONFIG.replace("[hosts]", '[hosts]\nfirst = ["192.0.2.77"]'))  # other handles
    sock.sendto(b"two", ("me", port))
    assert sock.recvfrom(10) == (b"two", ("me", port))
    a.stop()
    a.start(CONFIG)


def test_a_process_ends_at_once_with_sockets_open(pair):
    code = "import mhost; s = mhost.Socket(); s.sendto(b'bye', ('127.0.0.1', 9))"
    start = time.monotonic()
    done = pair[0].run(os.sys.executable, "-W", "ignore", "-c", code)
    print(f"process with an open socket took {time.monotonic() - start:.2f} s")
    assert done.returncode == 0
    assert mhost.AF_MHOST == 27


def test_restarts_while_sockets_are_being_restored_lose_none(pair, make_socket):
    a, _b = pair
    socks = [make_socket() for _ in range(200)]
    for sock in socks:
        sock.bind(("testproto:*", 0))
    names = [sock.getsockname() for sock in socks]
    for delay_s in (0.0, 0.02, 0.05, 0.1):
        a.stop(signal.SIGKILL)
        a.start(CONFIG)
        time.sleep(delay_s)  # some are restored, some are not
    assert [sock.getsockname() for sock in socks] == names
    socks[0].sendto(b"hello", ("testproto:1", names[-1][1]))
    assert socks[-1].recv(10) == b"hello"


def test_a_known_host_is_named_also_while_the_daemon_is_silent(pair, make_socket, arrived):
    a, _b = pair
    receiver, sender = make_socket(), make_socket()
    receiver.bind(("*", 0))
    port = receiver.getsockname()[1]
    for host in ("10.77.1.1", "testproto:1"):
        sender.sendto(b"x", (host, port))
    deadline = time.monotonic() + 10
    while arrived(port) < 2:  # until both are in this process
        assert time.monotonic() < deadline
    arrived(port)
    a.daemon.send_signal(signal.SIGSTOP)
    try:
        assert [receiver.recvfrom(1)[1][0] for _ in range(2)] == ["me", "me"]
    finally:
        a.daemon.send_signal(signal.SIGCONT)


def test_without_a_daemon_a_new_socket_is_refused_at_once(pair, make_socket):
    a, _b = pair
    make_socket()
    a.stop()
    with pytest.raises(ConnectionRefusedError, match="start it with"):
        mhost.Socket()
    a.start(CONFIG)
    make_socket()
