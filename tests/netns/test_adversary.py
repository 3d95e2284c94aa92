"""Strangers on the network: what they forge or replay moves no flow and delivers nothing.

A tenth of what `make test-all` sends: 100,000 packets of each sort here, 1,000,000 there.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
import time

import pytest
from lab import Lab, key_of, stranger, two_links

pytestmark = pytest.mark.native  # a flood is more than the walk alone can look at

PORT = 64678
RATE = 500  # of the legitimate stream, datagrams a second

SENDER = """
    import mhost, sys, time
    s = mhost.Socket(); s.bind(("*", 7001)); s.connect(("b", 7000))
    s.send(b"-1"); print("ready", flush=True)
    n, due = 0, time.monotonic()
    end = due + float(sys.argv[1])
    while time.monotonic() < end:
        s.send(b"%d" % n)
        n, due = n + 1, due + 1 / int(sys.argv[2])
        time.sleep(max(0, due - time.monotonic()))
    print(n)
"""
RECEIVER = """
    import collections, json, mhost, sys
    s = mhost.Socket(); s.bind(("*", 7000)); s.settimeout(3)
    print("ready", flush=True)
    got = collections.Counter()
    try:
        while True:
            data, source = s.recvfrom(2048)
            got[data.decode("latin-1"), source[0]] += 1
    except OSError:
        print(json.dumps([[*key, count] for key, count in got.items()]))
"""
# Packets from an address off path: changed in one octet, or made up, from a raw copy.
FORGER = """
    import random, socket, sys
    packets = [bytes.fromhex(line) for line in open(sys.argv[2])]
    rng = random.Random(1)
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.connect(("10.1.0.2", 64678))
    made = []
    for i in range(5000):
        packet = bytearray(rng.choice(packets))
        how = i % 4
        if how == 0:
            packet[rng.randrange(len(packet))] ^= 1 << rng.randrange(8)
        elif how == 1:
            packet[8:16] = rng.randbytes(8)
        elif how == 2:
            packet[16:] = rng.randbytes(len(packet) - 16)
        else:
            packet = bytes([0x10 | rng.randrange(1, 6), 0, 0, 0]) + rng.randbytes(150)
        made.append(bytes(packet))
    for i in range(int(sys.argv[1])):
        try:
            s.send(made[i % len(made)])
        except OSError:
            pass
"""
# The same frames again, as they were, from on path: the bridge sees them all.
REPLAYER = """
    import socket, sys, time
    tap = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    tap.bind(("a0", 0)); tap.settimeout(5)
    frames = []
    while len(frames) < 400:
        frame, address = tap.recvfrom(2048)
        if frame[23:24] == b"\\x11" and frame[36:38] == (64678).to_bytes(2, "big"):
            if address[2] != socket.PACKET_OUTGOING:
                frames.append(frame)
    with open(sys.argv[2], "w") as file:
        file.write("\\n".join(frame[42:].hex() for frame in frames))
    print("captured", flush=True)
    out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    out.bind(("b0", 0))
    for i in range(int(sys.argv[1])):
        try:
            out.send(frames[i % len(frames)])
        except OSError:
            time.sleep(0.001)
"""


def python(host, code, *argv):
    return host.popen(
        sys.executable, "-c", textwrap.dedent(code), *map(str, argv),
        stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def attack(count: int) -> None:
    with Lab() as lab:
        a, b, net = two_links(lab)
        x = stranger(lab, net)
        keys = {host.name: key_of(host) for host in (a, b)}
        for host, peer, number in ((a, "b", 2), (b, "a", 1)):
            host.start(
                "[tun]\nenable = false\n[hosts]\n"
                f'{peer} = {{ key = "{keys[peer]}", locators = ["10.1.0.{number}"] }}\n'
            )
        receiver = python(b, RECEIVER)
        assert receiver.stdout.readline() == "ready\n"
        caught = b.dir / "packets"
        replayer = python(net, REPLAYER, count, caught)
        seconds = 6 + 2 * count / 25_000
        sender = python(a, SENDER, seconds, RATE)
        assert sender.stdout.readline() == "ready\n"
        assert replayer.stdout.readline() == "captured\n"
        before, rss = active(b), b.show("status")["rss_kib"]
        began = time.monotonic()
        forger = python(x, FORGER, count, caught)
        for process in (replayer, forger):
            assert process.wait(300) == 0
        after = active(b)
        lasted = time.monotonic() - began
        drops = b.show("drops")
        sent = int(sender.communicate(timeout=300)[0])
        got = json.loads(receiver.communicate(timeout=60)[0])
        assert after["path"] == before["path"]
        assert after["last_switch_s"] >= lasted  # none since it began
        assert a.show("paths")[0]["active"]
        assert {source for _data, source, _count in got} == {"a"}
        assert {n for _data, _source, n in got} == {1}
        numbers = {int(data) for data, _source, _count in got}
        assert numbers <= set(range(-1, sent))
        print(f"{len(numbers) / sent:.3f} of {sent} while {2 * count} were forged or replayed")
        assert len(numbers) >= 0.9 * sent
        assert b.show("status")["rss_kib"] - rss < 8 * 1024
        assert sum(n for reason, n in drops.items() if reason.startswith("shim_")) > count / 2
        assert len(b.show("hosts")) == 1  # nobody else has made himself known


def active(host):
    return next(path for path in host.show("paths") if path["active"])


@pytest.mark.timeout(120)
def test_a_hundred_thousand_forged_and_replayed_packets_move_nothing():
    attack(100_000)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_million_forged_and_replayed_packets_move_nothing():
    attack(1_000_000)
