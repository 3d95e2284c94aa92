"""Programs under `mhostctl run`: what they see is what kernel sockets show them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from lab import BIN, config

PROGRAMS = Path(__file__).with_name("programs")
MHOSTCTL = str(BIN / "mhostctl")


def run(host, name, *args, ours=True):
    """The lines that a program prints."""
    argv = [sys.executable, str(PROGRAMS / name), *args]
    if ours:
        argv = [MHOSTCTL, "run", "--family", "inet", "--", *argv]
    done = subprocess.run(
        host.command(*argv), env=host.env, capture_output=True, text=True, timeout=100
    )
    assert done.stderr == ""
    assert done.returncode == 0
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def kernel(pair):
    """kernel(name, *args): the lines of a program with kernel sockets."""
    known = {}

    def lines(name, *args):
        key = (name, *args)
        if key not in known:
            known[key] = run(pair[0], name, *args, ours=False)
        return known[key]

    return lines


# UDP over IPv6 may have 20 octets more than over IPv4; here 65,507 is the most for both.
LARGER = ["sendto", 65_508, 65_508]


@pytest.mark.parametrize("peer", ["192.0.2.2", "2001:db8::2"])
def test_bad_input_is_refused_as_by_the_kernel(pair, kernel, peer):
    there = kernel("bad_input.py", peer)
    assert len(there) > 120
    if ":" in peer:
        there[there.index(LARGER)] = ["sendto", 65_508, "EMSGSIZE"]
    assert run(pair[0], "bad_input.py", peer) == there


@pytest.mark.native  # over ZeroMQ the daemon sees a connection end, not a socket
@pytest.mark.parametrize("address", ["192.0.2.1", "10.77.1.1"])
def test_copies_of_a_descriptor_live_as_in_linux(pair, kernel, address):
    there = kernel("life.py", "192.0.2.1")
    assert len(there) > 20
    assert run(pair[0], "life.py", address) == there


def test_a_thousand_sockets_and_descriptors_above_1024(pair, kernel):
    argv = ["prlimit", "--nofile=1024:20000"]
    host = pair[0]
    done = subprocess.run(
        host.command(*argv, MHOSTCTL, "run", "--family=inet", "--", sys.executable,
                     str(PROGRAMS / "many.py"), "10.77.1.1"),
        env=host.env, capture_output=True, text=True, timeout=100,
    )  # fmt: skip
    assert done.stderr == ""
    there = kernel("many.py", "192.0.2.1")
    assert [json.loads(line) for line in done.stdout.splitlines()] == there


@pytest.fixture
def asked(pair):
    """asked(port, text): the answer that host a gives to a kernel socket of host b."""
    code = (
        "import socket, sys\n"
        "with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:\n"
        "    s.settimeout(10)\n"
        "    s.sendto(sys.argv[2].encode(), ('192.0.2.1', int(sys.argv[1])))\n"
        "    print(s.recv(100).decode(), end='')\n"
    )
    return lambda port, text: pair[1].run(sys.executable, "-c", code, str(port), text).stdout


@pytest.mark.native
def test_who_waits_goes_on_when_the_daemon_is_back(pair, asked):
    """In recvfrom(), in epoll, and on a socket that parent and child have."""
    host = pair[0]
    program = host.popen(
        MHOSTCTL, "run", "--family=inet", "--", sys.executable, str(PROGRAMS / "restart.py"),
        "192.0.2.1", stdout=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    names = {7001: "blocked", 7002: "polled", 7003: "shared"}
    try:
        assert program.stdout.readline() == "ready\n"
        for text in ("before", "after"):
            for port, name in names.items():
                assert asked(port, text) == f"{name} {text}"
            if text == "before":
                host.stop(9)
                host.start(config(1, 2))
                wait_for_sockets(host, 3)
    finally:
        os.killpg(program.pid, 9)
    program.wait(10)
    wait_for_sockets(host, 0)


def wait_for_sockets(host, many):
    for _ in range(200):
        if len(host.show("sockets")) == many:
            return
    raise AssertionError(host.show("sockets"))


@pytest.fixture
def away(pair):
    """The environment of a host whose daemon is not there."""
    return {**pair[0].env, "MHOST_SOCKET": "ipc:///nonexistent/mhost.sock"}


OPENED = "import socket; print(socket.socket(int({}), socket.SOCK_DGRAM).family.real)"


def test_without_a_daemon_udp_sockets_are_the_kernels_with_one_line(pair, away):
    code = f"{OPENED.format(2)}\n{OPENED.format(10)}"
    argv = [MHOSTCTL, "run", "--family", "inet", "--", sys.executable, "-c", code]
    done = subprocess.run(
        pair[0].command(*argv), env=away, capture_output=True, text=True, timeout=30
    )
    assert done.stdout == "2\n10\n"
    (line,) = done.stderr.splitlines()
    assert "no mhostd at ipc:///nonexistent/mhost.sock" in line
    assert "UDP sockets are the kernel's" in line


@pytest.mark.parametrize("family", ["mhost", "inet", "all"])
def test_without_a_daemon_there_is_no_af_mhost(pair, away, family):
    argv = [MHOSTCTL, "run", "--family", family, "--", sys.executable, "-c", OPENED.format(27)]
    done = subprocess.run(
        pair[0].command(*argv), env=away, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 1
    assert "[Errno 97] Address family not supported" in done.stderr


@pytest.mark.parametrize(("family", "many"), [("mhost", 1), ("inet", 3), ("all", 3)])
def test_which_sockets_are_on_mhostd(pair, family, many):
    code = (
        "import socket, sys\n"
        "kept = [socket.socket(f, socket.SOCK_DGRAM) for f in (27, 2, 10)]\n"
        "print('opened', flush=True)\n"
        "sys.stdin.read()\n"
    )
    program = pair[0].popen(
        MHOSTCTL, "run", "--family", family, sys.executable, "-c", code,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert program.stdout.readline() == "opened\n"
    rows = pair[0].show("sockets")
    assert [row["pid"] for row in rows] == [program.pid] * many
    program.stdin.close()
    assert program.wait(10) == 0
    wait_for_sockets(pair[0], 0)


def test_streams_and_raw_sockets_are_the_kernels(pair):
    code = (
        "import socket\n"
        "for kind in (socket.SOCK_STREAM, socket.SOCK_RAW):\n"
        "    s = socket.socket(socket.AF_INET, kind, socket.IPPROTO_ICMP * (kind == 3))\n"
        "    print(s.type.name, s.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN))\n"
    )
    argv = ("run", "--family", "inet", "--", sys.executable, "-c", code)
    assert pair[0].mhostctl(*argv).stdout == "SOCK_STREAM 2\nSOCK_RAW 2\n"
