"""What the calls of mhost.h do on AF_MHOST sockets."""

import ctypes
import errno
import os
import select
import socket
import struct
import threading
import time
from pathlib import Path

import pytest
from clib import (
    AF_MHOST,
    LIB,
    SOL_MHOST,
    Iovec,
    Mmsghdr,
    Sock,
    errno_of,
    family_of,
    getaddrinfo,
    getnameinfo,
    parts,
    sockaddr_in,
    sockaddr_in6,
    sockaddr_mhost,
)

SOL_UDP, UDP_SEGMENT, UDP_GRO = 17, 103, 104


def test_a_datagram_comes_from_a_host_by_its_number(opened, bound, me):
    sender = opened()
    assert sender.sendto(b"hello", me(bound.port)) == 5
    data, source = bound.recvfrom()
    assert data == b"hello"
    family, port, id_no, opaque = parts(source)
    assert (family, port, opaque) == (AF_MHOST, sender.port, bytes(8))
    assert id_no
    assert getnameinfo(source) == ("me", sender.port)
    bound.sendto(b"back", source)
    assert sender.recvfrom()[0] == b"back"


@pytest.mark.parametrize(
    ("locator", "proto"),
    [("10.77.1.1", "inet"), ("fd77:1::1", "inet6"), ("testproto:1", "testproto"),
     ("otherproto:0:0:0:1", "otherproto"), ("192.0.2.1", "host_inet"),
     ("2001:db8::1", "host_inet6")],
)  # fmt: skip
def test_every_l3(opened, bound, locator, proto):
    bound.setsockopt(SOL_MHOST, 1, 1)  # MHOST_RECVPKTINFO
    (address,) = getaddrinfo(locator, bound.port, 0)
    sender = opened()
    sender.sendto(b"x", address)
    data, control, _flags, source = bound.recvmsg()
    ((level, kind, text),) = control
    assert (data, level, kind) == (b"x", SOL_MHOST, 2)
    assert text.decode().split()[0] == proto
    assert family_of(source) == AF_MHOST  # all of them are known as `me`
    assert getnameinfo(address) == (locator, bound.port)


@pytest.fixture
def unknown(pair):
    """The daemon forgets who `me` is."""
    host = pair[0]
    locators = [each["locator"] for row in host.show("hosts") if row["name"] == "me"
                for each in row["locators"]]  # fmt: skip
    host.mhostctl("hosts", "del", "me")
    yield
    host.mhostctl("hosts", "add", "me", *locators)


def test_a_source_that_nobody_knows(unknown, opened, bound):
    """IPv4 as sockaddr_in; IPv6 too, or by a number in 16 octets; a plug-in's octets."""
    sender = opened()
    port = bound.port

    def source(to, room=128):
        sender.sendto(b"x", to)
        return bound.recvfrom(address_room=room)[1]

    assert source(sockaddr_in("10.77.1.1", port)) == sockaddr_in("10.77.1.1", sender.port)
    to = sockaddr_in6("fd77:1::1", port)
    assert source(to) == sockaddr_in6("fd77:1::1", sender.port)
    short = source(to, room=16)
    family, source_port, id_no, _opaque = parts(short)
    assert (family, source_port) == (AF_MHOST, sender.port)
    assert id_no
    assert getnameinfo(short) == ("fd77:1::1", sender.port)
    bound.sendto(b"answer", short)
    assert sender.recvfrom()[0] == b"answer"
    (to,) = getaddrinfo("testproto:1", port)
    assert parts(to) == (1, port, 0, b"\0\1" + bytes(6))
    assert source(to) == sockaddr_mhost(sender.port, 0, 1, b"\0\1")
    (to,) = getaddrinfo("otherproto:0:0:0:1", port)
    assert source(to) == sockaddr_mhost(sender.port, 0, 3, to[8:])


def test_getaddrinfo(on_a):
    host, *locators = getaddrinfo("peer", 7, 0)
    assert parts(host)[:2] == (AF_MHOST, 7)
    assert [getnameinfo(each) for each in locators] == [
        ("10.77.2.1", 7), ("fd77:2::1", 7), ("192.0.2.2", 7), ("2001:db8::2", 7),
        ("testproto:2", 7), ("otherproto:0:0:0:2", 7),
    ]  # fmt: skip
    assert getaddrinfo("peer", 7, 2) == [locators[0], locators[2]]
    assert getaddrinfo("peer", 7) == [host]
    assert getaddrinfo("peer", "domain") == [sockaddr_mhost(53, parts(host)[2])]
    assert getaddrinfo(None, 9) == [sockaddr_mhost(9)]
    assert getaddrinfo("*", 9) == [sockaddr_mhost(9)]
    assert getaddrinfo("192.0.2.7", 9, 0) == [sockaddr_in("192.0.2.7", 9)]
    assert getaddrinfo("no such host", 9) == socket.EAI_NONAME
    assert getaddrinfo("nobody.invalid", 9) == socket.EAI_NONAME
    assert getaddrinfo("nosuchproto:5", 9) == socket.EAI_FAMILY
    assert getaddrinfo("testproto:nonsense", 9) == socket.EAI_NONAME
    assert getaddrinfo("peer", "no service") == socket.EAI_SERVICE
    assert getaddrinfo("peer", 70000) == socket.EAI_SERVICE


def test_names(opened, me):
    sock = opened()
    assert parts(sock.name("sock")) == (AF_MHOST, 0, 0, bytes(8))
    assert errno_of(sock.name, "peer") == "ENOTCONN"
    sock.bind(sockaddr_in("10.77.1.1", 0))
    assert sock.name("sock") == sockaddr_in("10.77.1.1", sock.port)
    sock.connect(me(7))
    assert sock.name("peer") == me(7)
    sock.connect(sockaddr_mhost(0, family=0))
    assert errno_of(sock.name, "peer") == "ENOTCONN"


def test_a_connected_socket_hears_of_errors(opened):
    sock = opened()
    sock.connect(sockaddr_in("10.77.2.1", 9))
    sock.send(b"to nobody")
    assert errno_of(sock.recvfrom) == "ECONNREFUSED"
    sock.send(b"to nobody")
    select.select([sock.fd], [], [], 10)
    assert sock.getsockopt(1, socket.SO_ERROR) == struct.pack("=i", errno.ECONNREFUSED)
    assert sock.getsockopt(1, socket.SO_ERROR) == bytes(4)
    assert select.select([sock.fd], [], [], 0)[0] == []


def test_the_error_queue(opened):
    sock = opened()
    sock.setsockopt(0, 11, 1)  # IP_RECVERR
    assert errno_of(sock.recvmsg, 100, 512, socket.MSG_ERRQUEUE) == "EAGAIN"
    to = sockaddr_in("10.77.2.1", 9)
    sock.sendto(b"to nobody", to)
    assert errno_of(sock.recvfrom) == "ECONNREFUSED"
    data, control, flags, where = sock.recvmsg(flags=socket.MSG_ERRQUEUE)
    ((level, kind, err),) = control
    assert (data, level, kind, where) == (b"to nobody", 0, 11, to)
    assert flags & socket.MSG_ERRQUEUE
    number, origin, icmp_type, code = struct.unpack_from("=IBBB", err)
    assert (number, origin, icmp_type, code) == (errno.ECONNREFUSED, 2, 3, 3)
    assert err[16:].startswith(struct.pack("=H", 2) + bytes(2) + socket.inet_aton("10.77.2.1"))
    assert errno_of(sock.recvmsg, 100, 512, socket.MSG_ERRQUEUE) == "EAGAIN"


@pytest.mark.parametrize("lane", ["shm", "zmq"], indirect=True)
def test_many_at_once(opened, bound, me, lane):
    sender = opened()
    payloads = [b"%d" % i for i in range(200)]
    out, kept = (Mmsghdr * 200)(), []
    to = me(bound.port)
    for message, payload in zip(out, payloads, strict=True):
        data = ctypes.create_string_buffer(payload, len(payload))
        iov = Iovec(ctypes.cast(data, ctypes.c_void_p), len(payload))
        kept += [data, iov]
        message.hdr.name, message.hdr.namelen = to, len(to)
        message.hdr.iov, message.hdr.iovlen = ctypes.addressof(iov), 1
    assert LIB.mhost_sendmmsg(sender.fd, out, 200, 0) == 200
    assert [message.len for message in out] == list(map(len, payloads))
    got = []
    while len(got) < 200:
        room = (Mmsghdr * 64)()
        buffers = [ctypes.create_string_buffer(100) for _ in room]
        iovs = [Iovec(ctypes.cast(each, ctypes.c_void_p), 100) for each in buffers]
        for message, iov in zip(room, iovs, strict=True):
            message.hdr.iov, message.hdr.iovlen = ctypes.addressof(iov), 1
        n = LIB.mhost_recvmmsg(bound.fd, room, 64, 0x10000, None)  # MSG_WAITFORONE
        assert n > 0
        got += [
            buffer.raw[: message.len]
            for buffer, message in zip(buffers[:n], room[:n], strict=True)
        ]
    assert got == payloads


@pytest.mark.parametrize("lane", ["shm", "zmq"], indirect=True)
def test_more_than_a_receive_buffer_in_turn(opened, bound, me, lane):
    """Whatever way it comes, what was taken makes room again."""
    sender, to = opened(), me(bound.port)
    for i in range(2000):
        sender.sendto(struct.pack("=I", i) + bytes(1000), to)
        data, _source = bound.recvfrom()
        assert struct.unpack_from("=I", data)[0] == i


def test_segments(opened, bound, me):
    sender, to = opened(), me(bound.port)
    sender.setsockopt(SOL_UDP, UDP_SEGMENT, 3)
    assert sender.sendto(b"aaabbbcc", to) == 8
    assert [bound.recvfrom()[0] for _ in range(3)] == [b"aaa", b"bbb", b"cc"]
    sender.setsockopt(SOL_UDP, UDP_SEGMENT, 0)
    segment = (SOL_UDP, UDP_SEGMENT, struct.pack("=H", 2))
    assert sender.sendmsg([b"aa", b"bb"], [segment], to) == 4
    assert [bound.recvfrom()[0] for _ in range(2)] == [b"aa", b"bb"]
    assert errno_of(sender.setsockopt, SOL_UDP, UDP_SEGMENT, 1 << 17) == "EINVAL"
    sender.setsockopt(SOL_UDP, UDP_SEGMENT, 1)
    assert errno_of(sender.sendto, bytes(200), to) == "EINVAL"


def test_control_messages(opened, bound):
    bound.setsockopt(0, 12, 1)  # IP_RECVTTL
    bound.setsockopt(0, 8, 1)  # IP_PKTINFO
    sender = opened()
    ttl = (0, socket.IP_TTL, struct.pack("=i", 7))
    sender.sendmsg([b"x"], [ttl], sockaddr_in("10.77.1.1", bound.port))
    data, control, flags, _source = bound.recvmsg()
    found = {(level, kind): each for level, kind, each in control}
    assert (data, flags) == (b"x", 0)
    assert found[0, socket.IP_TTL] == struct.pack("=i", 7)
    assert found[0, 8][8:] == socket.inet_aton("10.77.1.1")
    sender.sendmsg([b"x"], [ttl], sockaddr_in("10.77.1.1", bound.port))
    _data, control, flags, _source = bound.recvmsg(control_room=20)
    assert flags == socket.MSG_CTRUNC
    wrong = (0, 12345, bytes(4))
    to = sockaddr_in("10.77.1.1", 9)
    assert errno_of(sender.sendmsg, [b"x"], [wrong], to) == "EINVAL"


def test_cut_and_peeked_at(opened, bound, me):
    sender = opened()
    sender.sendto(b"a whole datagram", me(bound.port))
    assert bound.recvfrom(7, socket.MSG_PEEK)[0] == b"a whole"
    number = ctypes.c_int()
    assert LIB.mhost_ioctl(bound.fd, 0x541B, ctypes.byref(number)) == 0  # FIONREAD
    assert number.value == 16
    assert bound.recvmsg(7, flags=socket.MSG_PEEK)[2] == socket.MSG_TRUNC
    room = ctypes.create_string_buffer(7)
    size = ctypes.c_size_t(7)
    assert LIB.mhost_recv(bound.fd, room, size, socket.MSG_TRUNC) == 16
    assert errno_of(bound.recvfrom, 7, socket.MSG_DONTWAIT) == "EAGAIN"
    sender.sendto(b"", me(bound.port))
    assert bound.recvfrom()[0] == b""


def test_a_descriptor_says_what_there_is(opened, bound, me):
    sender, to = opened(), me(bound.port)
    poll = select.poll()
    poll.register(bound.fd)
    for _ in range(3):
        assert poll.poll(0) == [(bound.fd, select.POLLOUT)]
        sender.sendto(b"one", to)
        sender.sendto(b"two", to)
        assert select.select([bound.fd], [], [], 10)[0]
        bound.recvfrom()
        assert select.select([bound.fd], [], [], 10)[0]
        bound.recvfrom()
    bound.setsockopt(SOL_MHOST, 4, 0)  # MHOST_POLLED: nobody looks any more
    assert bound.getsockopt(SOL_MHOST, 4) == bytes(4)
    for _ in range(3):
        sender.sendto(b"one", to)
        assert bound.recvfrom()[0] == b"one"
    bound.setsockopt(SOL_MHOST, 4, 1)
    assert poll.poll(0) == [(bound.fd, select.POLLOUT)]


def test_shutdown(opened, me):
    sock = opened()
    assert errno_of(lambda: _shut(sock, 2)) == "ENOTCONN"
    sock = opened()
    sock.connect(me(9))
    _shut(sock, 1)
    assert errno_of(sock.send, b"x") == "EPIPE"
    blocked = threading.Timer(0.2, lambda: _shut(sock, 0))
    blocked.start()
    assert sock.recvfrom()[0] == b""
    blocked.join()
    assert select.select([sock.fd], [], [], 0)[0]


def _shut(sock, how):
    if LIB.mhost_shutdown(sock.fd, how):
        raise OSError(ctypes.get_errno(), "")


@pytest.mark.native
def test_a_full_ring_waits_or_says_so(opened, bound, pair):
    """The daemon is stopped, so that nobody takes what is sent."""
    sock = opened()
    sock.connect(sockaddr_in("10.77.1.1", bound.port))
    sock.send(bytes(1000))
    pair[0].daemon.send_signal(19)
    stat = Path(f"/proc/{pair[0].daemon.pid}/stat")
    while stat.read_text().split()[2] != "T":
        time.sleep(0.001)
    try:
        with pytest.raises(OSError, match="temporarily") as err:
            for _ in range(5000):
                sock.send(bytes(1000), socket.MSG_DONTWAIT)
        assert err.value.errno == errno.EAGAIN
        assert select.select([], [sock.fd], [], 0)[1] == []
        sock.setsockopt(1, socket.SO_SNDTIMEO, struct.pack("qq", 0, 50_000))
        assert errno_of(sock.send, bytes(1000)) == "EAGAIN"
    finally:
        pair[0].daemon.send_signal(18)
    assert select.select([], [sock.fd], [], 10)[1]
    sock.send(bytes(1000))


@pytest.mark.parametrize(
    ("family", "kind", "proto", "name"),
    [(99, 2, 0, "EAFNOSUPPORT"), (27, 1, 0, "ESOCKTNOSUPPORT"), (27, 3, 0, "ESOCKTNOSUPPORT"),
     (27, 2, 6, "EPROTONOSUPPORT"), (27, 99, 0, "EINVAL"), (27, 2, 999, "EINVAL")],
)  # fmt: skip
def test_what_cannot_be_opened(on_a, family, kind, proto, name):
    assert errno_of(Sock, family, kind, proto) == name


def test_bad_input(opened, bound, me):
    sock = opened()
    assert errno_of(sock.sendto, bytes(70_000), me(9)) == "EMSGSIZE"
    assert errno_of(sock.sendto, b"x", me(9)[:15]) == "EINVAL"
    assert errno_of(sock.sendto, b"x", me(9).ljust(129)) == "EINVAL"
    assert errno_of(sock.sendto, b"x", me(0)) == "EINVAL"
    assert errno_of(sock.sendto, b"x", sockaddr_mhost(9, family=77)) == "EAFNOSUPPORT"
    assert errno_of(sock.sendto, b"x", sockaddr_mhost(9, 4000)) == "EHOSTUNREACH"
    assert errno_of(sock.sendto, b"x", sockaddr_mhost(9)) == "EDESTADDRREQ"
    assert errno_of(sock.send, b"x") == "EDESTADDRREQ"
    assert errno_of(sock.bind, sockaddr_mhost(9, family=77)) == "EAFNOSUPPORT"
    assert errno_of(sock.bind, sockaddr_in("192.0.2.99", 0)) == "EADDRNOTAVAIL"
    assert errno_of(sock.bind, sockaddr_mhost(bound.port)) == "EADDRINUSE"
    with pytest.raises(OSError, match="is not an address of this host"):
        sock.bind(sockaddr_in("192.0.2.99", 0))
    assert errno_of(bound.bind, sockaddr_mhost(0)) == "EINVAL"
    gone = opened()
    fd = gone.fd
    gone.close()
    assert LIB.mhost_send(fd, b"x", ctypes.c_size_t(1), 0) == -1
    assert ctypes.get_errno() == errno.EBADF


def test_what_is_not_ours_is_given_to_the_c_library(on_a):
    one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with one, two:
        assert LIB.mhost_send(one.fileno(), b"hi", ctypes.c_size_t(2), 0) == 2
        buffer = ctypes.create_string_buffer(10)
        assert LIB.mhost_recv(two.fileno(), buffer, ctypes.c_size_t(10), 0) == 2
        copy = LIB.mhost_dup(two.fileno())
        assert LIB.mhost_close(copy) == 0


def test_threads_ask_beside_one_another(opened, me):
    """Whoever waits reads for all; a name that takes long holds up nobody else."""
    failed = []

    def work():
        try:
            for _ in range(25):
                sock = Sock().bind(sockaddr_mhost(0))
                sock.sendto(b"self", me(sock.port))
                assert sock.recvfrom()[0] == b"self"
                sock.close()
        except BaseException as err:
            failed.append(err)

    slow = threading.Thread(target=getaddrinfo, args=("slow.nowhere.invalid", 1))
    workers = [threading.Thread(target=work) for _ in range(8)]
    slow.start()
    for worker in workers:
        worker.start()
    for worker in [*workers, slow]:
        worker.join()
    assert failed == []


def test_a_socket_costs_little(opened, pair):
    """Memory in both processes, descriptors here."""
    before = _rss(), len(_fds())
    many = [opened().bind(sockaddr_mhost(0)) for _ in range(200)]
    assert (_rss() - before[0]) / 200 < 40 << 10
    assert len(_fds()) - before[1] <= 3 * 200
    for each in many:
        each.close()
    deadline = time.monotonic() + 10
    while len(_fds()) > before[1] + 5:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _rss():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * 4096


def _fds():
    return os.listdir("/proc/self/fd")
