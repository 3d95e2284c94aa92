"""`make bench`: a Python AF_MHOST application against Python's own kernel sockets.

Two namespaces; the peer is always the same kernel UDP program in the other one. Each row
is measured in alternation with the kernel's own, and the ratio is what counts: these
figures are of one machine at one time.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

from lab import Host, Lab, config, two_hosts

LOAD = str(Path(__file__).with_name("load.py"))
OUT = Path(__file__).with_name("out") / "latest.json"
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SOCKETS = 9_000  # of one process: with two descriptors each
SECONDS = float(os.environ.get("SECONDS", "1"))

# Where the application of host a meets the kernel peer of host b, by kind of path.
PEER = {"inet": "198.18.0.2", "host_inet": "192.0.2.2", "kernel": "192.0.2.2"}
OURS = {"inet": "10.77.1.1", "host_inet": "192.0.2.1", "kernel": "192.0.2.1"}

Row = dict[str, Any]


def load(host: Host, *argv: object) -> subprocess.Popen[str]:
    """Start one end."""
    command = [sys.executable, LOAD, *map(str, argv)]
    process: subprocess.Popen[str] = host.popen(*command, stdout=subprocess.PIPE, text=True)
    return process


def result(process: subprocess.Popen[str]) -> dict[str, float]:
    """Wait for its end and read what it printed last."""
    out, _err = process.communicate(timeout=60)
    value: dict[str, float] = json.loads(out.splitlines()[-1])
    return value


def line(process: subprocess.Popen[str]) -> str:
    """Read the port it is bound to."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def sending(a: Host, b: Host, path: str, size: int) -> float:
    """Datagrams per second that arrive at the peer."""
    receiver = load(b, "kernel", "recv", PEER[path], 0, size, SECONDS)
    port = line(receiver)
    kind = "kernel" if path == "kernel" else "mhost"
    sender = load(a, kind, "send", PEER[path], port, size, SECONDS + 0.5)
    per_s = result(receiver)["per_s"]
    result(sender)
    return per_s


def receiving(a: Host, b: Host, path: str, size: int) -> float:
    """Datagrams per second that the application gets."""
    kind = "kernel" if path == "kernel" else "mhost"
    receiver = load(a, kind, "recv", OURS[path], 0, size, SECONDS)
    sender = load(b, "kernel", "send", OURS[path], line(receiver), size, SECONDS + 0.5)
    per_s = result(receiver)["per_s"]
    result(sender)
    return per_s


def round_trips(a: Host, b: Host, path: str) -> dict[str, float]:
    """Microseconds from sendto() to the end of recv(), 64 octets."""
    echo = load(b, "kernel", "echo", PEER[path], 0, 64, 1)
    kind = "kernel" if path == "kernel" else "mhost"
    times = result(load(a, kind, "rtt", PEER[path], line(echo), 64, SECONDS))
    result(echo)
    return times


def binds(a: Host, path: str) -> dict[str, float]:
    """Microseconds to open and bind a socket, with few and with many of them open."""
    kind = "kernel" if path == "kernel" else "mhost"
    return result(load(a, kind, "bind", OURS[path], 0, SOCKETS, SECONDS))


def median_row(name: str, unit: str, ours: list[float], kernel: list[float]) -> Row:
    """One row: medians, their ratio, and from where to where the figures went."""
    row = {
        "name": name,
        "unit": unit,
        "mhost": round(statistics.median(ours), 1),
        "kernel": round(statistics.median(kernel), 1),
        "ratio": round(statistics.median(ours) / statistics.median(kernel), 3),
        "mhost_min_max": [round(min(ours), 1), round(max(ours), 1)],
        "kernel_min_max": [round(min(kernel), 1), round(max(kernel), 1)],
    }
    span = f"({row['mhost_min_max'][0]:.0f}..{row['mhost_min_max'][1]:.0f})"
    print(
        f"{name:44} {row['mhost']:>10.0f} {span:>20} {row['kernel']:>10.0f} {unit:10}"
        f" ratio {row['ratio']:.2f}",
        flush=True,
    )
    return row


def main() -> None:
    """Measure, print and write."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {sys.version.split()[0]}"
    )
    print(f"mhostd {commit or 'unknown'}; {machine}; {ROUNDS} rounds of {SECONDS:g} s")
    print(f"{'':44} {'mhost':>10} {'(min..max)':>20} {'kernel':>10}")
    rows: list[Row] = []
    with Lab() as lab:
        a, b = two_hosts(lab)
        b.ip("addr add 198.18.0.2/32 dev eth0")
        a.ip("route add 198.18.0.2/32 via 192.0.2.2")
        a.start(config(1, 2).replace('"10.77.0.0/16"', '"10.77.0.0/16", "198.18.0.0/24"'))
        for path in ("inet", "host_inet"):
            for what, measure in (("send", sending), ("receive", receiving)):
                for size in (64, 1400):
                    ours, kernel = [], []
                    for _ in range(ROUNDS):
                        kernel.append(measure(a, b, "kernel", size))
                        ours.append(measure(a, b, path, size))
                    name = f"{what} {size} octets, {path}"
                    rows.append(median_row(name, "per second", ours, kernel))
            times, theirs = [], []
            for _ in range(ROUNDS):
                theirs.append(round_trips(a, b, "kernel"))
                times.append(round_trips(a, b, path))
            for key in ("p50_us", "p99_us"):
                name = f"round trip {key[:3]}, 64 octets, {path}"
                mine = [t[key] for t in times]
                rows.append(median_row(name, "us", mine, [t[key] for t in theirs]))
        times, theirs = [], []
        for _ in range(ROUNDS):
            theirs.append(binds(a, "kernel"))
            times.append(binds(a, "inet"))
        for key, already in (("first_us", 0), ("last_us", SOCKETS * 9 // 10)):
            name = f"socket and bind, {already} of them open, inet"
            mine = [t[key] for t in times]
            rows.append(median_row(name, "us", mine, [t[key] for t in theirs]))
        rows += [idle(a), *start_up(a)]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"written to {OUT.relative_to(Path.cwd())}")


def idle(host: Host) -> Row:
    """What a daemon costs that has nothing to do."""
    before = host.show("status")
    time.sleep(5)
    after = host.show("status")
    share = (after["cpu_s"] - before["cpu_s"]) / (after["uptime_s"] - before["uptime_s"])
    print(f"idle daemon: {share:.2%} of a core, {after['rss_kib'] / 1024:.1f} MiB")
    return {"name": "idle daemon", "unit": "% of a core", "mhost": round(100 * share, 3),
            "kernel": None, "ratio": None}  # fmt: skip


def start_up(host: Host) -> list[Row]:
    """How long mhostctl takes."""
    rows = []
    for argv in (("--version",), ("status",)):
        times = []
        for _ in range(15):
            start = time.monotonic()
            subprocess.run(
                [Path(sys.executable).parent / "mhostctl", *argv],
                env=host.env, stdout=subprocess.DEVNULL, check=True,
            )  # fmt: skip
            times.append(1000 * (time.monotonic() - start))
        value = statistics.median(times)
        print(f"mhostctl {argv[0]}: {value:.0f} ms ({min(times):.0f}..{max(times):.0f})")
        rows.append({"name": f"mhostctl {argv[0]}", "unit": "ms", "mhost": round(value, 1),
                     "kernel": None, "ratio": None})  # fmt: skip
    return rows


main()
