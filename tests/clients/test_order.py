"""What one thread sends arrives in that order, whichever way each datagram goes."""

import socket
import struct

import pytest

ROUNDS = 200
TTL = [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", 9))]


@pytest.mark.parametrize("host", ["10.77.1.1", "127.0.0.1"])
def test_what_waits_for_its_answer_goes_before_what_does_not(bound, sender, host):
    sock, port = bound
    to = (host, port)
    sender.sendto(b"0", to)
    sender.sendto(b"0", to)
    assert [sock.recv(9) for _ in range(2)] == [b"0"] * 2
    for i in range(ROUNDS):
        sender.sendmsg([b"%d answered" % i], TTL, 0, to)
        sender.sendto(b"%d not" % i, to)
        assert [sock.recv(19) for _ in range(2)] == [b"%d answered" % i, b"%d not" % i]
