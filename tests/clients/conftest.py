"""The Python client in this process, a daemon in a namespace; the door is a file."""

import mhost.daemon
import pytest
from lab import Lab, config, two_hosts


@pytest.fixture(scope="module")
def pair():
    """Hosts a and b with everything; this process is an application of a."""
    with Lab() as lab:
        a, b = two_hosts(lab)
        a.start(config(1, 2))
        b.start(config(2, 1))
        yield a, b
        mhost.daemon.close_all()


@pytest.fixture(autouse=True)
def on_a(pair, monkeypatch):
    """The daemon that MHOST_SOCKET names."""
    monkeypatch.setenv("MHOST_SOCKET", pair[0].socket)


@pytest.fixture(autouse=True)
def lane(request, on_a, monkeypatch):
    """Through shared memory, or with "zmq" as parameter over ZeroMQ."""
    name = getattr(request, "param", "shm")
    if name == "zmq":
        mhost.daemon.close_all()
        monkeypatch.setenv("MHOST_LANE", "zmq")
    yield name
    if name == "zmq":
        mhost.daemon.close_all()


@pytest.fixture
def make_socket():
    """mhost.Socket(...), closed at the end."""
    opened = []

    def make(*args):
        sock = mhost.Socket(*args)
        sock.settimeout(5)
        opened.append(sock)
        return sock

    yield make
    for sock in opened:
        sock.close()


@pytest.fixture
def bound(make_socket):
    """A socket bound everywhere, and its port."""
    sock = make_socket()
    sock.bind(("*", 0))
    return sock, sock.getsockname()[1]


@pytest.fixture
def arrived(pair):
    """How many datagrams the daemon has for the socket of a port."""

    def count(port):
        (row,) = [row for row in pair[0].show("sockets") if row["port"] == port]
        return row["rx_datagrams"]

    return count


@pytest.fixture
def sender(make_socket):
    """Another one."""
    return make_socket()
