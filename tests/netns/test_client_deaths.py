"""Clients that flood or are killed half-way; beside them a good one loses nothing."""

import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.usefixtures("good")

START = """
import os, socket, struct, sys, time
from mhost.ctl.zmtp import Dealer
from mhostd.uapi import *
address = os.environ["MHOST_SOCKET"]
dealer = Dealer(address, 5)
def ask(request):
    dealer.send(encode(request))
    while True:
        event = decode_event(dealer.recv())
        if isinstance(event, Reply):
            return event.value
ask(Hello(1, VERSION, "hostile"))
number = ask(Socket(2, AF_MHOST, socket.SOCK_DGRAM, 0))
port = ask(Bind(3, number, SockaddrMhost(AF_MHOST)))
record = pack_record(Record(SockaddrMhost(2, port, bytes((127, 0, 0, 1))), bytes(1000)))
data = pack_data(number, record * 60)
wire = dealer._socket
print(port, flush=True)
"""
HALF_WAY = {  # what is on the wire when it is killed; 1 is MORE, 2 is LONG
    "the head of a frame": "wire.sendall(bytes((2, 0, 0)))",
    "a frame": "wire.sendall(struct.pack('!BQ', 2, len(data)) + data[:1000])",
    "a message of many frames": "wire.sendall(struct.pack('!BB', 1, 200) + data[:200])",
    "many frames and a part": "wire.sendall(struct.pack('!BB', 1, 9) + data[:9] + b'\\1')",
    "a long promise": "wire.sendall(struct.pack('!BQ', 3, 1 << 20) + data)",
}
WAIT = "\nprint('sent', flush=True)\ntime.sleep(600)"


def until(condition, what, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


def of(host, pid):
    """The sockets of a process."""
    return [row for row in host.show("sockets") if row["pid"] == pid]


def hostile(host, script):
    """Start one; it has a socket, and the port of it is the first that it prints."""
    argv = (sys.executable, "-c", START + script + WAIT)
    process = host.popen(*argv, stdout=subprocess.PIPE, text=True)
    assert int(process.stdout.readline())
    return process


def kill(host, process):
    process.send_signal(signal.SIGKILL)
    process.wait()
    until(lambda: not of(host, process.pid), "its sockets are gone")


@pytest.mark.parametrize("what", HALF_WAY)
def test_a_client_is_killed_in_the_middle_of(pair, what):
    host = pair[0]
    for _ in range(3):
        victim = hostile(host, HALF_WAY[what])
        assert victim.stdout.readline() == "sent\n"
        kill(host, victim)


def test_a_client_is_killed_in_a_burst_of_datagrams(pair):
    host = pair[0]
    for _ in range(3):
        victim = hostile(host, "wire.settimeout(None)\nwhile True: dealer.send(data)")
        while of(host, victim.pid)[0]["tx_datagrams"] < 2000:
            assert victim.poll() is None
        kill(host, victim)


@pytest.mark.parametrize(
    "message", ["encode(Socket(9, AF_MHOST, socket.SOCK_DGRAM, 0))", "os.urandom(1000)"]
)
def test_a_client_is_killed_in_a_burst_of_requests_whose_answers_it_does_not_read(
    pair, message
):
    host = pair[0]
    victim = hostile(host, f"wire.settimeout(None)\nwhile True: dealer.send({message})")
    let_go = f"client {victim.pid} does not read its answers"
    until(lambda: let_go in host.log(), "it is let go")
    assert of(host, victim.pid) == []
    kill(host, victim)


def test_a_client_floods_and_never_reads(pair):
    """Its own datagrams are lost, under its own name."""
    host = pair[0]
    flooder = hostile(host, "wire.settimeout(None)\nfor _ in range(1000): dealer.send(data)")
    assert flooder.stdout.readline() == "sent\n"
    until(lambda: of(host, flooder.pid)[0]["tx_datagrams"] == 60_000, "all of it is served")
    kernel = host.app()
    kernel("socket", "inet")
    (row,) = of(host, flooder.pid)
    while not row["rx_drops"]:  # the host kernel may have lost what came before
        kernel("sendto", "x" * 1000, "127.0.0.1", row["port"])
        (row,) = of(host, flooder.pid)
    assert row["recv_q"] <= row["rcvbuf"] + 2000
    kill(host, flooder)
