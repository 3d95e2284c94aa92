"""The host kernel's UDP through the fast lane: real sockets, on loopback only."""

import errno
import socket

import pytest

from mhostd.uapi import AF_INET, Close, SockaddrMhost

LONGEST = 65_507  # octets
SOL_UDP, UDP_SEGMENT, SO_NO_CHECK = 17, 103, 11  # linux/udp.h, asm-generic/socket.h


@pytest.fixture
def node(lane_node):
    """One with the host kernel's UDP, too."""
    made = lane_node(host=True)
    yield made
    made.close()


@pytest.fixture
def app(node):
    app = node.app()
    app.port = node.node.bind(app.sk, "127.0.0.1")
    return app


@pytest.fixture
def peer():
    """Another program of this host."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.bind(("127.0.0.1", 0))
        s.settimeout(5)
        yield s


@pytest.fixture
def there(peer):
    """Its address, as records have it."""
    address = socket.inet_aton("127.0.0.1").ljust(16, b"\0")
    return SockaddrMhost(AF_INET, peer.getsockname()[1], address)


def arrived(node, app):
    node.settle()
    return [payload for payload, *_rest in app.take()]


def by_the_lane(node):
    """Datagrams of the host kernel that the walk has not seen."""
    return node.lane.counts()[11]


def test_what_comes_is_the_walks_first_and_then_the_lanes(node, app, peer, there):
    for i in range(5):
        peer.sendto(b"%d" % i, ("127.0.0.1", app.port))
        node.settle()
        ((payload, source, _l3),) = app.take()
        assert (payload, source._replace(id_no=0)) == (b"%d" % i, there)
    assert by_the_lane(node) == 4


def test_the_longest_datagram_comes_whole_either_way(node, app, peer):
    for i in range(3):
        payload = bytes((i,)) * LONGEST
        peer.sendto(payload, ("127.0.0.1", app.port))
        assert arrived(node, app) == [payload]
    assert by_the_lane(node) == 2


def test_what_the_kernel_has_put_together_is_taken_apart(node, app, peer):
    peer.setsockopt(SOL_UDP, UDP_SEGMENT, 100)
    whole = bytes(range(250)) * 2
    parts = [whole[at : at + 100] for at in range(0, len(whole), 100)]
    for _ in range(2):
        peer.sendto(whole, ("127.0.0.1", app.port))
        assert arrived(node, app) == parts
    assert by_the_lane(node) == len(parts)


@pytest.mark.parametrize("in_one_piece", [True, False])
def test_what_is_sent_behind_the_first_goes_in_its_order(node, app, peer, there, in_one_piece):
    """Without checksums the kernel refuses UDP_SEGMENT (udp_send_skb(), net/ipv4/udp.c)."""
    ((kernel,),) = node.host_udp._socks.values()
    kernel.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, not in_one_piece)
    sent = [b"first", *(b"%03d" % i for i in range(100)), b"x", b"", bytes(LONGEST)]
    for payload in sent:
        assert app.send(payload, there)
        if payload == b"first":
            node.settle()
    node.settle()
    assert [peer.recv(LONGEST) for _ in sent] == sent
    node.fast.sync()
    assert app.sk.tx_datagrams == len(sent)


def test_a_super_packet_of_an_application_arrives_in_its_segments(node, app, peer, there):
    for _ in range(2):
        assert app.send(b"abcdefgh", there, segment_size=3)
        node.settle()
        assert [peer.recv(100) for _ in range(3)] == [b"abc", b"def", b"gh"]


def test_an_icmp_error_reaches_the_application(node, app, peer, there):
    for payload in (b"1", b"2"):  # the walk, then the lane
        app.send(payload, there)
        node.settle()
        assert peer.recv(10) == payload
    peer.close()
    app.send(b"3", there)
    node.settle()
    node.settle()
    assert [event.errno for event in node.answers] == [errno.ECONNREFUSED]


def test_what_an_error_of_one_keeps_back_is_sent_once(node, app, peer, there):
    """The kernel tells of the first that is sent when the second one is."""
    ((kernel,),) = node.host_udp._socks.values()
    kernel.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, True)
    app.send(b"first", there)
    node.settle()
    peer.close()
    for i in range(5):
        app.send(b"%d" % i, there)
    node.settle()
    node.settle()
    assert [event.errno for event in node.answers] == [errno.ECONNREFUSED] * 5


def test_a_closed_socket_leaves_nothing_open(node, app, peer):
    peer.connect(("127.0.0.1", app.port))
    peer.send(b"x")
    assert arrived(node, app) == [b"x"]
    assert node.ask(Close(1, app.sk.number)).errno == 0
    with pytest.raises(ConnectionRefusedError):
        for _ in range(2):
            peer.send(b"y")
    node.settle()
    assert app.take() == []


def test_with_control_messages_the_walk_reads_again(node, app, peer):
    for asked, most in ((0, 1), (1, 1), (0, 2)):
        app.sk.wants_control = bool(asked)
        node.fast.changed(app.sk)
        for _ in range(2):
            peer.sendto(b"x", ("127.0.0.1", app.port))
            got = arrived(node, app)
            if asked:
                ((_where, (kernel,)),) = node.host_udp._socks.items()
                node.host_udp._on_readable(app.sk, kernel)
                node.wake()
                got += [payload for payload, *_rest in app.take()]
            assert got == [b"x"]
        assert by_the_lane(node) == most
