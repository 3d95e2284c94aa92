"""What mhostd/ipc/door.py and mhost/channel.py rely on in ZeroMQ."""

import os
import select
import signal
import struct
import subprocess
import sys

import pytest
import zmq


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context


@pytest.fixture
def address(tmp_path):
    return f"ipc://{tmp_path}/door"


@pytest.fixture
def router(context, address):
    with context.socket(zmq.ROUTER) as router:
        router.linger = 0
        router.bind(address)
        yield router


@pytest.fixture
def dealer(context, address, router):
    with context.socket(zmq.DEALER) as dealer:
        dealer.linger = 0
        dealer.connect(address)
        yield dealer


def readable(fd):
    return bool(select.select([fd], [], [], 0.05)[0])


def test_the_descriptor_goes_quiet_while_messages_still_wait(router, dealer):
    for _ in range(3):
        dealer.send(b"request")
    assert router.poll(5000)
    router.recv_multipart()
    assert router.getsockopt(zmq.EVENTS) & zmq.POLLIN
    assert not readable(router.getsockopt(zmq.FD))


def test_a_router_drops_silently_at_its_high_water_mark(router, dealer):
    router.sndhwm = 1
    dealer.rcvhwm = 1
    dealer.send(b"hello")
    routing_id, _ = router.recv_multipart()
    for _ in range(20_000):
        router.send_multipart([routing_id, bytes(1000)], zmq.DONTWAIT)
    got = 0
    while dealer.poll(200):
        dealer.recv()
        got += 1
    assert got < 20_000


def test_with_router_mandatory_it_says_again_and_host_unreachable(context, address):
    with context.socket(zmq.ROUTER) as router, context.socket(zmq.DEALER) as dealer:
        router.linger = dealer.linger = 0
        router.router_mandatory = 1
        router.sndhwm = dealer.rcvhwm = 1
        router.bind(address)
        dealer.connect(address)
        dealer.send(b"hello")
        routing_id, _ = router.recv_multipart()
        flood = lambda: [  # noqa: E731
            router.send_multipart([routing_id, bytes(1000)], zmq.DONTWAIT)
            for _ in range(20_000)
        ]
        with pytest.raises(zmq.Again):
            flood()
        with pytest.raises(zmq.ZMQError) as err:
            router.send_multipart([b"nobody", b""], zmq.DONTWAIT)
        assert err.value.errno == zmq.EHOSTUNREACH


def test_the_kernel_says_who_a_peer_is(router, dealer):
    dealer.send(b"hello")
    router.recv()
    frame = router.recv(copy=False)
    who = f"localhost:{os.getuid()}:{os.getgid()}:{os.getpid()}"
    assert frame.get("Peer-Address") == who
    assert isinstance(frame.get(zmq.SRCFD), int)


def test_the_monitor_tells_of_a_killed_peer_with_the_descriptor_it_had(router, address):
    monitor = router.get_monitor_socket(zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED)
    code = (
        "import sys, zmq; s = zmq.Context().socket(zmq.DEALER)\n"
        "s.connect(sys.argv[1]); s.send(b'hello'); s.recv()"
    )
    peer = subprocess.Popen([sys.executable, "-c", code, address])
    router.recv()
    fd = router.recv(copy=False).get(zmq.SRCFD)
    accepted = struct.unpack("=HI", monitor.recv_multipart()[0])
    assert accepted == (zmq.Event.ACCEPTED, fd)
    peer.send_signal(signal.SIGKILL)
    peer.wait()
    assert monitor.poll(5000)
    assert struct.unpack("=HI", monitor.recv_multipart()[0]) == (zmq.Event.DISCONNECTED, fd)
    router.disable_monitor()
    monitor.close(0)


def test_binding_a_path_in_use_steals_it_without_a_word(context, router, address):
    path = address.removeprefix("ipc://")
    before = os.stat(path).st_ino
    with context.socket(zmq.ROUTER) as thief:
        thief.bind(address)
        assert os.stat(path).st_ino != before
