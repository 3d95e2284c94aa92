"""The daemon is killed and comes back: sockets, options, ports, peers and numbers stay."""

import select
import socket
import struct
import threading

import pytest
from clib import errno_of, getaddrinfo, getnameinfo, parts, sockaddr_in, sockaddr_mhost
from lab import config


@pytest.fixture
def again(pair):
    """again(): the daemon of host a ends at once, and another one starts."""

    def restart(between=lambda: None):
        pair[0].stop(9)
        between()
        pair[0].start(config(1, 2))

    return restart


@pytest.mark.parametrize("lane", ["shm", "zmq"], indirect=True)
def test_everything_is_as_before(opened, again, me, lane):
    """What had come is still there, and what is set, bound and connected is again."""
    receiver, sender = opened().bind(sockaddr_mhost(0)), opened()
    receiver.setsockopt(1, socket.SO_RCVBUF, 100_000)
    receiver.setsockopt(0, socket.IP_TTL, 33)
    to, port = me(receiver.port), receiver.port
    sender.connect(to)
    sender.send(b"before")
    while not _waits(receiver):
        pass
    source_port = sender.port
    again()
    data, source = receiver.recvfrom()
    assert (data, parts(source)[1]) == (b"before", source_port)
    assert receiver.port == port
    assert sender.port == source_port
    assert receiver.getsockopt(1, socket.SO_RCVBUF) == struct.pack("=i", 200_000)
    assert receiver.getsockopt(0, socket.IP_TTL) == struct.pack("=i", 33)
    assert sender.name("peer") == to
    sender.send(b"after")
    data, source = receiver.recvfrom()
    assert data == b"after"
    receiver.sendto(b"answer", source)
    assert sender.recvfrom()[0] == b"answer"


def _waits(sock):
    return select.select([sock.fd], [], [], 10)[0]


def test_a_number_names_the_same_host(opened, again):
    """The daemon's handles are others; those of programs are not."""
    names = {name: getaddrinfo(name, 7)[0] for name in ("peer", "me")}
    again()
    for name, address in names.items():
        assert getnameinfo(address) == (name, 7)
    receiver = opened().bind(sockaddr_mhost(0))
    sender = opened()
    sender.sendto(b"x", names["me"][:2] + struct.pack("!H", receiver.port) + names["me"][4:])
    assert receiver.recvfrom()[0] == b"x"


def test_calls_wait_meanwhile(opened, again, bound, me):
    """A blocked receiver goes on; a blocked sender too; who does not wait gets EAGAIN."""
    got = []
    receiver = threading.Thread(target=lambda: got.append(bound.recvfrom()[0]))
    receiver.start()
    port, sender, other = bound.port, opened(), opened()
    other.bind(sockaddr_mhost(0))
    to = me(port)

    def between():
        lost = sockaddr_in("10.77.1.1", 9)
        assert errno_of(sender.sendto, b"lost", lost, socket.MSG_DONTWAIT) == "EAGAIN"
        blocked.start()

    blocked = threading.Thread(target=lambda: sender.sendto(b"at last", to))
    again(between)
    receiver.join(10)
    blocked.join(10)
    assert got == [b"at last"]


def test_without_a_daemon_none_can_be_opened(pair, again, opened):
    refused = []

    def between():
        refused.append(errno_of(opened))

    again(between)
    assert refused[0] in ("ECONNREFUSED", "ENOENT")
    opened().bind(sockaddr_mhost(0))
