"""UDP_SEGMENT and UDP_GRO, sendmmsg and recvmmsg, beside the kernel's own."""

import errno
import socket

import mhost
import pytest

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104
WHERE = ["127.0.0.1", "10.77.1.1", "testproto:1"]  # delegated, the TUN, a plug-in


@pytest.fixture(params=["shm", "zmq"])
def make(request, monkeypatch):
    """Sockets over one lane or the other."""
    if request.param == "zmq":
        monkeypatch.setattr("mhost.channel.Channel.hand_over", lambda *_args: False)
    opened = []

    def make_one():
        opened.append(mhost.Socket())
        opened[-1].settimeout(5)
        return opened[-1]

    yield make_one
    for each in opened:
        each.close()


def received(sock, count):
    return [sock.recv(70_000) for _ in range(count)]


@pytest.mark.parametrize("where", WHERE)
def test_a_payload_goes_out_as_datagrams_of_the_size_that_was_set(make, where):
    sock, sender = make(), make()
    sock.bind(("*", 0))
    to = (where, sock.getsockname()[1])
    sender.setsockopt(SOL_UDP, UDP_SEGMENT, 100)
    assert sender.getsockopt(SOL_UDP, UDP_SEGMENT) == 100
    for _ in range(3):  # the first waits for the daemon, the others go at once
        assert sender.sendto(bytes(range(250)), to) == 250
        assert [len(each) for each in received(sock, 3)] == [100, 100, 50]
    assert sender.sendto(b"short", to) == 5
    assert sock.recv(99) == b"short"
    sender.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
    sender.sendto(bytes(250), to)
    assert sock.recv(999) == bytes(250)


def test_a_control_message_sets_the_size_for_one_call(make):
    sock, sender = make(), make()
    sock.bind(("*", 0))
    to = ("127.0.0.1", sock.getsockname()[1])
    size = (SOL_UDP, UDP_SEGMENT, (7).to_bytes(2, "little"))
    for _ in range(2):
        sender.sendmsg([b"0123456", b"789"], [size], 0, to)
        assert received(sock, 2) == [b"0123456", b"789"]
        sender.sendmsg([b"0123456", b"789"], [], 0, to)
        assert sock.recv(99) == b"0123456789"


def test_what_the_kernel_refuses_is_refused(make):
    sender, kernel = make(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with kernel:
        for sock in (kernel, sender):
            with pytest.raises(OSError, match=r".") as err:
                sock.setsockopt(SOL_UDP, UDP_SEGMENT, 65_536)
            assert err.value.errno == errno.EINVAL
            sock.setsockopt(SOL_UDP, UDP_SEGMENT, 10)
            with pytest.raises(OSError, match=r".") as err:
                sock.sendto(bytes(5000), ("127.0.0.1", 9))
            assert err.value.errno == errno.EINVAL


@pytest.mark.native
def test_what_came_together_is_taken_together_where_it_was_asked_for(make_socket):
    sock, sender = make_socket(), make_socket()
    sock.bind(("10.77.1.1", 0))
    to = sock.getsockname()
    sender.setsockopt(SOL_UDP, UDP_SEGMENT, 4)
    sock.setsockopt(SOL_UDP, UDP_GRO, 1)
    assert sock.getsockopt(SOL_UDP, UDP_GRO) == 1
    whole = b"aaaabbbbcc"
    for _ in range(50):  # at first the walk brings them singly
        sender.sendto(whole, to)
        data, control, _flags, source = sock.recvmsg(999, 64)
        if data == whole:
            break
        assert (data, control) == (b"aaaa", [])
        assert received(sock, 2) == [b"bbbb", b"cc"]
    assert data == whole
    assert control == [(SOL_UDP, UDP_GRO, (4).to_bytes(4, "little"))]
    assert source[1] == sender.getsockname()[1]
    sock.setsockopt(SOL_UDP, UDP_GRO, 0)
    sender.sendto(whole, to)
    assert received(sock, 3) == [b"aaaa", b"bbbb", b"cc"]


@pytest.mark.parametrize("where", WHERE)
def test_sendmmsg_and_recvmmsg(make, where):
    sock, sender = make(), make()
    sock.bind(("*", 0))
    to = (where, sock.getsockname()[1])
    sent = [b"%d" % i for i in range(100)]
    assert sender.sendmmsg(sent, 0, to) == 100
    got = []
    while len(got) < 100:
        got += sock.recvmmsg(30, 99)
    assert [data for data, _source in got] == sent
    assert {source for _data, source in got} == {got[0][1]}
    assert got[0][1][1] == sender.getsockname()[1]
    with pytest.raises(BlockingIOError):
        sock.recvmmsg(1, 99, socket.MSG_DONTWAIT)


def test_sendmmsg_says_how_far_it_came(make):
    sender = make()
    with pytest.raises(OSError, match="65507"):
        sender.sendmmsg([bytes(70_000), b"x"], 0, ("127.0.0.1", 9))
    assert sender.sendmmsg([b"x", bytes(70_000), b"y"], 0, ("127.0.0.1", 9)) == 1


@pytest.mark.parametrize("where", ["127.0.0.1", "10.77.1.1", "::1", "fd77:1::1"])
def test_the_longest_datagram_comes_whole_from_the_first_on(make, where):
    sock, sender = make(), make()
    sock.bind(("*", 0))
    to = (where, sock.getsockname()[1])
    payload = bytes(range(256)) * 256
    for _ in range(3):
        sender.sendto(payload[:65_507], to)
        assert sock.recv(70_000) == payload[:65_507]
        sender.sendto(b"small", to)
        assert sock.recv(70_000) == b"small"
