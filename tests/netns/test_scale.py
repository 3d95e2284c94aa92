"""Thousands of sockets are opened and closed, and the daemon is as it was before."""

import json
import os
import subprocess
import sys
import time

import pytest
from lab import BIN, Lab, config, two_hosts

NOFILE = 18_000  # a wildcard socket has two kernel sockets, which get half of it
PROCESSES = 4
ON_TUN, WILDCARD = 10_000, 4_000  # sockets of all processes together
RSS_KIB = 2_048  # by which memory may differ between rounds: pages of the allocator

HOLD = """
import json, mhost, resource, sys
_soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
socks = []
for line in sys.stdin:
    count, hosts = json.loads(line)
    try:
        for i in range(count):
            socks.append(mhost.Socket())
            socks[-1].bind((hosts[i % len(hosts)], 0))
    except OSError as err:
        print(json.dumps([len(socks) - 1, err.errno, err.strerror]), flush=True)
    else:
        print(json.dumps([len(socks), 0, ""]), flush=True)
    if not count:
        while socks:
            socks.pop().close()
"""


class Holders:
    """Processes that hold sockets of one host."""

    def __init__(self, host, count=PROCESSES):
        pipe = subprocess.PIPE
        argv = (sys.executable, "-c", HOLD)
        self._processes = [
            host.popen(*argv, stdin=pipe, stdout=pipe, text=True) for _ in range(count)
        ]

    def open(self, count, *hosts):
        """Open that many in all; (how many it has, errno, text) of each process."""
        for process in self._processes:
            process.stdin.write(json.dumps([count // len(self._processes), hosts]) + "\n")
            process.stdin.flush()
        return [tuple(json.loads(process.stdout.readline())) for process in self._processes]

    def close(self):
        self.open(0, "")

    def end(self):
        for process in self._processes:
            process.stdin.close()
            process.wait(30)


@pytest.fixture
def host():
    with Lab() as lab:
        a, _b = two_hosts(lab)
        start(a, NOFILE)
        yield a


def start(host, nofile):
    """Start its daemon with that many descriptors at most."""
    host.start(config(1, 2))
    host.stop()
    argv = ("prlimit", f"--nofile={nofile}", str(BIN / "mhostd"))
    with (host.dir / "mhostd.log").open("ab") as log:
        path = str(host.dir / "mhostd.toml")
        host.daemon = host.popen(*argv, "--config", path, stderr=log)
    until(lambda: not host.mhostctl("status", check=False).returncode, host.log)


def until(condition, what, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.02)


def state(host):
    """RSS in KiB, open descriptors, sockets."""
    status = host.show("status")
    descriptors = len(os.listdir(f"/proc/{status['pid']}/fd"))
    return status["rss_kib"], descriptors, status["sockets"]


def one_round(host, holders):
    """Open and close all; return the state then."""
    for count, hosts in (
        (ON_TUN, ("10.77.1.1", "fd77:1::1")),
        (WILDCARD, ("*",)),
    ):
        assert holders.open(count, *hosts) == [(count // PROCESSES, 0, "")] * PROCESSES
        assert state(host)[2] == count
        holders.close()
        until(lambda: state(host)[2] == 0, lambda: state(host))
    return state(host)


def many_rounds(host, rounds):
    """As many ephemeral ports as one round takes there are not twice: they come back."""
    _rss, before, _none = state(host)
    holders = Holders(host)
    states = [one_round(host, holders) for _ in range(rounds)]
    rss_kib = [state[0] for state in states]
    print(f"RSS after each round: {rss_kib} KiB")
    assert len({descriptors for _rss, descriptors, _sockets in states}) == 1
    assert rss_kib[-1] <= rss_kib[len(rss_kib) // 2] + RSS_KIB
    holders.end()
    until(lambda: state(host)[1] == before, lambda: (state(host), before))


@pytest.mark.timeout(300)
@pytest.mark.slow
def test_14_000_sockets_of_4_processes_come_and_go(host):
    many_rounds(host, 4)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_14_000_sockets_of_4_processes_come_and_go_20_times(host):
    many_rounds(host, 20)


def test_beyond_the_limit_of_kernel_sockets_emfile_names_it_and_others_go_on():
    with Lab() as lab:
        host, _b = two_hosts(lab)
        start(host, 1_000)
        holders = Holders(host, 1)
        ((count, number, text),) = holders.open(1_000, "*")
        # The association port has one of each family.
        assert (count, os.strerror(number)) == (249, "Too many open files")
        assert "500 kernel sockets are open, the most there may be" in text
        assert "raise LimitNOFILE of the daemon, or bind to mhostd's own addresses" in text
        assert Holders(host, 1).open(300, "10.77.1.1") == [(300, 0, "")]
        holders.close()
        assert holders.open(249, "*") == [(249, 0, "")]
