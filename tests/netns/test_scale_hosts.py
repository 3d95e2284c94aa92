"""Many associated hosts that have nothing to say: what they cost the daemon."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from lab import Lab, two_links
from programs.many_peers import address

PROGRAM = Path(__file__).parent / "programs" / "many_peers.py"
HELLO = """
import mhost, sys, time
s = mhost.Socket()
for i in range(int(sys.argv[1])):
    s.sendto(b"hello", (f"h{i}", 7))
    time.sleep(0.004)
"""


def idle_share(count: int, seconds: float) -> float:
    """The daemon's share of a core while that many peers of two paths each are idle."""
    with Lab() as lab:
        a, b, _net = two_links(lab)
        for link in (0, 1):
            # Behind one neighbour: the kernel's table of those is one for all namespaces.
            a.ip(f"route add 10.{link + 1}.0.0/16 via 10.{link + 1}.0.2 dev eth{link}")
            lines = [f"addr add {dotted(link, i)}/32 dev lo\n" for i in range(count)]
            (b.dir / "batch").write_text("".join(lines))
            b.run("ip", "-batch", str(b.dir / "batch"))
        keys = b.dir / "keys"
        peers = b.popen(
            sys.executable, str(PROGRAM), str(count), str(keys),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert peers.stdout.readline() == "ready\n"
        names = "".join(
            f'h{i} = {{ key = "{key}", locators = ["{dotted(0, i)}", "{dotted(1, i)}"] }}\n'
            for i, key in enumerate(keys.read_text().split())
        )
        a.start(f"[tun]\nenable = false\n[hosts]\n{names}")
        a.run(sys.executable, "-c", HELLO, str(count))
        deadline = time.monotonic() + 60
        while working(a) < 2 * count and time.monotonic() < deadline:
            time.sleep(0.5)
        assert working(a) >= 2 * count
        time.sleep(2)
        before = a.show("status")
        time.sleep(seconds)
        after = a.show("status")
        assert working(a) >= 2 * count
        cpu_s = after["cpu_s"] - before["cpu_s"]
        return cpu_s / (after["uptime_s"] - before["uptime_s"])


def dotted(link: int, number: int) -> str:
    return ".".join(map(str, address(link, number)))


def working(host) -> int:
    return sum(path["state"] == "works" for path in host.show("paths"))


def test_a_hundred_idle_peers():
    print(f"100 idle peers with 2 paths each: {idle_share(100, 5):.2%} of a core")


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_thousand_idle_peers():
    share = idle_share(1_000, 40)
    print(f"1,000 idle peers with 2 paths each: {share:.2%} of a core")
    assert share < 0.05
