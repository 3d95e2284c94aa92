"""Many datagrams in one call, through shared memory and over ZeroMQ."""

import pytest

from mhostd import native

pytestmark = pytest.mark.parametrize("lane", ["shm", "zmq"], indirect=True)

SOME = [b"%d" % i for i in range(1000)]


def received(sock, count):
    found = []
    while len(found) < count:
        found += sock.recvmmsg(count - len(found), 100)
    return found


def test_the_lane_is_the_one_that_was_asked_for(bound, lane):
    assert bound[0]._sk.shared == (lane == "shm" and native.Lane is not None)


@pytest.mark.parametrize("connected", [True, False])
def test_buffers_to_one_address(bound, sender, connected):
    sock, port = bound
    to = ("10.77.1.1", port)
    if connected:
        sender.connect(to)
    for _ in range(2):  # the first time the destination is not known
        assert sender.sendmmsg(SOME, 0, None if connected else to) == len(SOME)
        found = received(sock, len(SOME))
        assert [data for data, _ in found] == SOME
        assert {source for _, source in found} == {("me", sender.getsockname()[1])}


def test_messages_with_addresses_of_their_own(make_socket, sender):
    socks = [make_socket() for _ in range(2)]
    for sock in socks:
        sock.bind(("*", 0))
    to = [("10.77.1.1", sock.getsockname()[1]) for sock in socks]
    messages = [(data, to[i % 3 % 2]) for i, data in enumerate(SOME)]
    for _ in range(2):
        assert sender.sendmmsg(messages) == len(SOME)
        for sock, address in zip(socks, to, strict=True):
            mine = [data for data, each in messages if each == address]
            assert [data for data, _ in received(sock, len(mine))] == mine


def test_some_have_addresses_and_some_the_peer(bound, make_socket):
    sock, port = bound
    client, other = make_socket(), make_socket()
    other.bind(("*", 0))
    client.connect(("10.77.1.1", port))
    messages = [b"1", (b"2", ("10.77.1.1", other.getsockname()[1])), bytearray(b"3")]
    for _ in range(2):
        assert client.sendmmsg(messages) == 3
        assert [data for data, _ in received(sock, 2)] == [b"1", b"3"]
        assert other.recv(9) == b"2"


def test_an_error_of_the_first_is_raised_and_of_another_ends_it(bound, sender):
    _sock, port = bound
    to = ("10.77.1.1", port)
    for _ in range(2):
        assert sender.sendmmsg([b"1", bytes(70_000), b"3"], 0, to) == 1
        with pytest.raises(OSError, match="70000 octets exceeds 65507"):
            sender.sendmmsg([bytes(70_000), b"3"], 0, to)


def test_what_is_no_message_is_a_type_error(sender):
    for wrong in ["text", (b"x",), (b"x", ("10.77.1.1", 9), 3)]:
        with pytest.raises(TypeError):
            sender.sendmmsg([wrong], 0, ("10.77.1.1", 9))
    with pytest.raises(OSError, match="no destination"):
        sender.sendmmsg([b"x"])
    assert sender.sendmmsg([]) == 0


def test_recvmmsg_waits_for_the_first_alone(bound, sender):
    sock, port = bound
    sender.sendto(b"1", ("10.77.1.1", port))
    ((data, _source),) = sock.recvmmsg(10, 100)
    assert data == b"1"
    sock.settimeout(0.01)
    with pytest.raises(TimeoutError):
        sock.recvmmsg(10, 100)
    with pytest.raises(ValueError, match="vlen 0"):
        sock.recvmmsg(0, 100)


def test_udp_segment_counts_for_each_message(bound, sender):
    sock, port = bound
    to = ("10.77.1.1", port)
    sender.sendto(b"known", to)
    assert sock.recv(9) == b"known"
    sender.setsockopt(17, 103, 2)  # SOL_UDP, UDP_SEGMENT of linux/udp.h
    assert sender.sendmmsg([b"abc", b"d"], 0, to) == 2
    assert [sock.recv(9) for _ in range(3)] == [b"ab", b"c", b"d"]
