"""The capability decides who may bind below 1024, and a pidfd that it is still that process."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mhostd import privileges
from mhostd.sock import Client


@pytest.mark.parametrize(
    ("text", "has"),
    [  # of Linux 6.18: root; a user; root after `setpriv --bounding-set -net_bind_service`
        ("Name:\tpython\nCapPrm:\t0000000000000000\nCapEff:\t000001ffffffffff\n", True),
        ("CapPrm:\t000001ffffffffff\nCapEff:\t0000000000000000\n", False),
        ("CapEff:\t000001fffffffbff\n", False),
        ("CapEff:\t0000000000000400\n", True),
        ("Name:\tCapEff: 400\n", False),
        ("", False),
    ],
)
def test_the_effective_capability_is_read(text, has):
    assert privileges.has_net_bind_service(text) is has


@pytest.fixture
def pair():
    """Two ends of a connection; the peer of each is this process."""
    here, there = socket.socketpair()
    with here, there:
        yield here


def test_a_pidfd_is_of_the_process_at_the_other_end(pair):
    pidfd = privileges.open_pidfd(pair.fileno())
    with open(f"/proc/self/fdinfo/{pidfd}") as info:
        assert f"Pid:\t{os.getpid()}\n" in info.read()
    os.close(pidfd)


def test_where_linux_has_no_so_peerpidfd_the_credentials_say_who(pair, monkeypatch):
    monkeypatch.setattr(privileges, "_SO_PEERPIDFD", 9999)  # ENOPROTOOPT
    test_a_pidfd_is_of_the_process_at_the_other_end(pair)


def test_what_is_no_connection_has_no_pidfd():
    with open("/dev/null") as null:
        assert privileges.open_pidfd(null.fileno()) == -1


def child(*argv):
    """A process that waits for the end of its standard input."""
    return subprocess.Popen([*argv, "cat"], stdin=subprocess.PIPE)


def until_cat(process):
    while Path(f"/proc/{process.pid}/comm").read_text() != "cat\n":
        assert process.poll() is None


def client_of(process):
    return Client(process.pid, 0, pidfd=os.pidfd_open(process.pid))


@pytest.mark.parametrize(
    ("argv", "may"),
    [
        ((), True),
        (("setpriv", "--bounding-set", "-net_bind_service"), False),
        (("unshare", "--user", "--map-root-user"), False),  # root of its own namespace
        (("setpriv", "--reuid", "65534", "--clear-groups"), False),
        (
            ("setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps", "+net_bind_service",
             "--ambient-caps", "+net_bind_service"),
            True,
        ),
    ],
)  # fmt: skip
def test_who_may_bind(argv, may):
    process = child(*argv)
    client = client_of(process)
    try:
        until_cat(process)
        assert privileges.may_bind(client) is may
        start = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
        assert privileges.port_limit(client, start - 1) == (0 if may else start)
        assert privileges.port_limit(client, start) == 0
    finally:
        process.kill()
        process.communicate()
        assert not privileges.may_bind(client)  # it is no longer that process
        os.close(client.pidfd)


def test_a_process_whose_pid_somebody_else_may_have_is_not_trusted():
    gone = child()
    client = Client(os.getpid(), 0, pidfd=os.pidfd_open(gone.pid))
    assert privileges.may_bind(client)  # as if that pid were ours
    gone.communicate()
    assert not privileges.may_bind(client)
    os.close(client.pidfd)
    client.pidfd = -1
    assert not privileges.may_bind(client)


ASK = """
import os, sys
from mhostd.privileges import may_bind
from mhostd.sock import Client
for pid in map(int, sys.argv[1:]):
    print(may_bind(Client(pid, 0, pidfd=os.pidfd_open(pid))))
"""


def test_a_daemon_that_may_not_see_the_namespace_looks_at_its_map():
    root, elsewhere = child(), child("unshare", "--user", "--map-root-user")
    for process in (root, elsewhere):
        until_cat(process)
    argv = [sys.executable, "-c", ASK, str(root.pid), str(elsewhere.pid)]
    done = subprocess.run(
        argv, cwd="/", user=65534, group=65534, extra_groups=[], capture_output=True, text=True
    )
    for process in (root, elsewhere):
        process.communicate()
    assert done.stdout.split() == ["True", "False"], done.stderr
