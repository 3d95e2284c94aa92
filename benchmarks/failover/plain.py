"""A plain peer with two addresses, the first of which dies silently."""

from __future__ import annotations

import itertools
import subprocess
import sys
import time

from lab import Lab, two_links

_SERVER = """
import socket
s = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
for i in range(2):
    s[i].bind((f"10.{i + 1}.0.2", 7000))
import select
print("ready", flush=True)
while True:
    for each in select.select(s, [], [])[0]:
        data, peer = each.recvfrom(2048)
        each.sendto(data, peer)
"""
# Ask; whoever does not answer within 100 ms is asked again.
_CLIENT = """
import mhost, sys, time
s = mhost.Socket()
s.settimeout(0.1)
s.connect(("plain", 7000))
end = time.monotonic() + 6
n = 0
print("ready", flush=True)
while time.monotonic() < end:
    n += 1
    try:
        s.send(b"%d" % n)
        s.recv(2048)
        print(time.monotonic_ns(), flush=True)
    except OSError:
        continue
    time.sleep(0.01)
print(time.monotonic_ns(), flush=True)
"""


def plain_dies() -> dict[str, float]:
    """One run."""
    with Lab() as lab:
        a, b, net = two_links(lab)
        a.start('[tun]\nenable = false\n[hosts]\nplain = ["10.1.0.2", "10.2.0.2"]\n')
        server = b.popen(sys.executable, "-c", _SERVER, stdout=subprocess.PIPE, text=True)
        server.stdout.readline()
        client = a.popen(sys.executable, "-c", _CLIENT, stdout=subprocess.PIPE, text=True)
        client.stdout.readline()
        time.sleep(2)
        at = time.monotonic_ns()
        net.run("bridge", "link", "set", "dev", "a0", "state", "0")
        times = [int(line) for line in client.communicate(timeout=30)[0].split()]
        quiet = [t for t in times if t < at]
        later = [at, *(t for t in times if t >= at)]
        silent = max(y - x for x, y in itertools.pairwise(quiet)) / 1e6
        gap = max(y - x for x, y in itertools.pairwise(later)) / 1e6
        return {"gap_ms": gap - silent, "lost": 0, "doubles": 0, "quiet_ms": silent}
