"""Two linked hosts with a daemon each; demo/lab.py makes and ends them."""

import time

import pytest
from lab import Lab, config, two_hosts

PER_S = 200
BESIDE = 20  # datagrams that must arrive after a test has done its worst


@pytest.fixture(scope="module")
def pair():
    """Hosts a and b with everything, daemons running."""
    with Lab() as lab:
        a, b = two_hosts(lab)
        a.start(config(1, 2))
        b.start(config(2, 1))
        yield a, b


@pytest.fixture
def lab():
    """An empty lab."""
    with Lab() as lab:
        yield lab


class Traffic:
    """Well-behaved applications: one sends numbered datagrams to the other all the time."""

    def __init__(self, host):
        self._sink, self._source = host.app(), host.app()
        for app in (self._sink, self._source):
            app("socket", "mhost")
        _host, port = self._sink("bind", "*", 0)
        self._sink("sink")
        self._source("stream", "10.77.1.1", port, PER_S)
        self._next = 0

    def check(self):
        """All that has come came in order, and more does."""
        self._take()
        until = self._next + BESIDE
        deadline = time.monotonic() + 30
        while self._next < until:
            self._take()
            assert time.monotonic() < deadline, f"nothing comes after {self._next}"
            time.sleep(0.01)

    def _take(self):
        for text, _via in self._sink("noted"):
            assert int(text) == self._next, f"{text} came instead of {self._next}"
            self._next += 1


@pytest.fixture(scope="module")
def traffic(pair):
    """It flows on host a beside every test of the module."""
    return Traffic(pair[0])


@pytest.fixture
def good(traffic):
    """Asserts at the end that the traffic beside the test lost nothing and goes on."""
    traffic.check()
    yield
    traffic.check()
