"""libmhost in this process (clib.py), a daemon in a namespace (../conftest.py)."""

import pytest
from clib import Sock, getaddrinfo, sockaddr_mhost


@pytest.fixture
def opened(on_a, lane):
    """opened(...): a Sock, closed at the end."""
    socks = []

    def make(*args):
        socks.append(Sock(*args))
        return socks[-1]

    yield make
    for sock in socks:
        sock.close()


@pytest.fixture
def bound(opened):
    """A socket bound everywhere."""
    return opened().bind(sockaddr_mhost(0))


@pytest.fixture
def me(on_a):
    """me(port): this host by its name."""
    return lambda port: getaddrinfo("me", port)[0]
