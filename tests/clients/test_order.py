"""What one thread sends arrives in that order, whichever way each datagram goes."""

import socket
import struct

ROUNDS = 200
TTL = [(socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", 9))]


def test_what_waits_for_its_answer_goes_before_what_does_not(bound, sender):
    sock, port = bound
    to = ("10.77.1.1", port)
    sender.sendto(b"0", to)
    sender.sendto(b"0", to)
    assert [sock.recv(9) for _ in range(2)] == [b"0"] * 2
    for i in range(ROUNDS):
        sender.sendmsg([b"%d answered" % i], TTL, 0, to)
        sender.sendto(b"%d not" % i, to)
        assert [sock.recv(19) for _ in range(2)] == [b"%d answered" % i, b"%d not" % i]


def test_what_waits_for_none_stays_in_order_from_the_first_on(bound, make_socket):
    sock, port = bound
    for _ in range(ROUNDS // 20):
        client = make_socket()
        client.setblocking(False)
        for i in range(400):
            client.sendto(b"%d" % i, ("10.77.1.1", port))
        assert [sock.recv(9) for _ in range(400)] == [b"%d" % i for i in range(400)]
