"""`make bench`: AF_MHOST applications against the kernel's own UDP.

Two namespaces; what differs between the two figures of a row is the socket of host a and
nothing else. They are measured in alternation, and their ratio is what counts: these are
figures of one machine at one time. ROUNDS, SECONDS and ROWS (a regular expression) say
how often, how long and what.
"""

from __future__ import annotations

import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[1] / "demo"))

from lab import Host, Lab, config, two_hosts

HERE = Path(__file__).parent
LOAD = str(HERE / "load.py")
OUT = HERE / "out" / "latest.json"
ROUNDS = int(os.environ.get("ROUNDS", "5"))
SECONDS = float(os.environ.get("SECONDS", "0.7"))
ROWS = re.compile(os.environ.get("ROWS", ""))
SOCKETS = 9_000  # of one process: with two descriptors each

# Where the application of host a meets host b, by kind of path.
PEER = {"inet": "198.18.0.2", "host_inet": "192.0.2.2", "kernel": "192.0.2.2"}
OURS = {"inet": "10.77.1.1", "host_inet": "192.0.2.1", "kernel": "192.0.2.1"}

Row = dict[str, Any]
Figures = dict[str, float]


class Bench:
    """The two hosts, and the ends of a measurement on them."""

    def __init__(self, a: Host, b: Host, peer: Path) -> None:
        self.a, self.b = a, b
        self._peer = str(peer)

    def load(self, host: Host, *argv: object) -> subprocess.Popen[str]:
        """Start an end in Python (load.py)."""
        return self._start(host, sys.executable, LOAD, *argv)

    def peer(self, host: Host, *argv: object) -> subprocess.Popen[str]:
        """Start a kernel UDP program (peer.c)."""
        return self._start(host, self._peer, *argv)

    @staticmethod
    def _start(host: Host, *argv: object) -> subprocess.Popen[str]:
        process: subprocess.Popen[str] = host.popen(
            *map(str, argv), stdout=subprocess.PIPE, text=True
        )
        return process

    def sending(self, path: str, how: str, mode: str, size: int = 64, kind: str = "") -> float:
        """Datagrams per second that arrive at a kernel peer."""
        receiver = self.peer(self.b, "recv", mode, PEER[path], size, SECONDS)
        port = line(receiver)
        kind = kind or ("kernel" if path == "kernel" else "mhost")
        sender = self.load(self.a, kind, how, PEER[path], port, size, SECONDS + 0.5)
        per_s = result(receiver)["per_s"]
        result(sender)
        return per_s

    def receiving(
        self, path: str, how: str, mode: str, size: int = 64, kind: str = ""
    ) -> float:
        """Datagrams per second that the application gets from a kernel sender."""
        kind = kind or ("kernel" if path == "kernel" else "mhost")
        receiver = self.load(self.a, kind, how, OURS[path], 0, size, SECONDS)
        port = line(receiver)
        sender = self.peer(self.b, "send", mode, OURS[path], size, SECONDS + 0.5, port)
        per_s = result(receiver)["per_s"]
        result(sender)
        return per_s

    def between(self, to: Host, at: str, kind: str, how: str) -> float:
        """Datagrams per second between two applications of the same kind."""
        receiver = self.load(to, kind, "recvmmsg" if how == "sendmmsg" else "recv", at, 0, 64,
                             SECONDS)  # fmt: skip
        sender = self.load(self.a, kind, how, at, line(receiver), 64, SECONDS + 0.5)
        per_s = result(receiver)["per_s"]
        result(sender)
        return per_s

    def round_trips(self, path: str, core: str = "") -> Figures:
        """Microseconds from sendto() to the end of recv(), 64 octets."""
        echo = self.peer(self.b, "echo", "single", PEER[path], 64, 1)
        kind = "kernel" if path == "kernel" else "mhost"
        argv = (LOAD, kind, "rtt", PEER[path], line(echo), 64, SECONDS)
        pinned = ("taskset", "-c", core) if core else ()
        if core:
            pids = [echo.pid, *([self.a.daemon.pid] if self.a.daemon else [])]
            for pid in pids:
                subprocess.run(["taskset", "-acp", core, str(pid)], stdout=subprocess.DEVNULL)
        times = result(self._start(self.a, *pinned, sys.executable, *argv))
        result(echo)
        if core and self.a.daemon:
            every = f"0-{(os.cpu_count() or 1) - 1}"
            command = ["taskset", "-acp", every, str(self.a.daemon.pid)]
            subprocess.run(command, stdout=subprocess.DEVNULL)
        return times

    def binds(self, path: str) -> Figures:
        """Microseconds to open and bind a socket, with few and with many of them open."""
        kind = "kernel" if path == "kernel" else "mhost"
        return result(self.load(self.a, kind, "bind", OURS[path], 0, SOCKETS, SECONDS))


def result(process: subprocess.Popen[str]) -> Figures:
    """Wait for its end and read what it printed last."""
    out, _err = process.communicate(timeout=60)
    value: Figures = json.loads(out.splitlines()[-1]) if out.strip() else {}
    return value


def line(process: subprocess.Popen[str]) -> str:
    """Read the port it is bound to."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


class Measured(NamedTuple):
    """A row to be measured: ours and the kernel's, and the ratio that is wanted."""

    name: str
    ours: Callable[[Bench], float]
    kernel: Callable[[Bench], float]
    at_least: float | None = None


def rows_of_rates() -> list[Measured]:
    """Datagrams per second, 64 octets unless said."""
    one_by_one = lambda b: b.sending("kernel", "send", "gro")  # noqa: E731
    rows = [
        Measured("sendto to a GRO peer", lambda b: b.sending("inet", "send", "gro"),
                 one_by_one, 15),
        Measured("sendmmsg to a GRO peer", lambda b: b.sending("inet", "sendmmsg", "gro"),
                 one_by_one, 25),
        Measured("sendto to a recvmmsg peer", lambda b: b.sending("inet", "send", "mmsg"),
                 lambda b: b.sending("kernel", "send", "mmsg"), 3),
        Measured("sendmmsg to a recvmmsg peer",
                 lambda b: b.sending("inet", "sendmmsg", "mmsg"),
                 lambda b: b.sending("kernel", "send", "mmsg"), 3),
        Measured("recvfrom from a GSO sender",
                 lambda b: b.receiving("inet", "recvfrom", "gso"),
                 lambda b: b.receiving("kernel", "recvfrom", "gso"), 6),
        Measured("recvmmsg from a GSO sender",
                 lambda b: b.receiving("inet", "recvmmsg", "gso"),
                 lambda b: b.receiving("kernel", "recvfrom", "gso"), 15),
        Measured("receive 64 octets, inet",
                 lambda b: b.receiving("inet", "recv", "single"),
                 lambda b: b.receiving("kernel", "recv", "single"), 1.0),
        Measured("send 64 octets, inet", lambda b: b.sending("inet", "send", "single"),
                 lambda b: b.sending("kernel", "send", "single"), 0.3),
        Measured("send 1400 octets, inet",
                 lambda b: b.sending("inet", "send", "single", 1400),
                 lambda b: b.sending("kernel", "send", "single", 1400)),
        Measured("receive 1400 octets, inet",
                 lambda b: b.receiving("inet", "recv", "single", 1400),
                 lambda b: b.receiving("kernel", "recv", "single", 1400)),
        Measured("sendmmsg of 1400 octets to a GRO peer, against C sendmmsg",
                 lambda b: b.sending("inet", "sendmmsg", "gro", 1400), c_sendmmsg, 10),
        Measured("sendmmsg over ZeroMQ alone, to a GRO peer",
                 lambda b: b.sending("inet", "sendmmsg", "gro", kind="zmq"), one_by_one, 8),
        Measured("recvmmsg over ZeroMQ alone, from a GSO sender",
                 lambda b: b.receiving("inet", "recvmmsg", "gso", kind="zmq"),
                 lambda b: b.receiving("kernel", "recvfrom", "gso"), 4),
        Measured("application to application, one daemon",
                 lambda b: b.between(b.a, OURS["inet"], "mhost", "sendmmsg"),
                 lambda b: b.between(b.a, "127.0.0.1", "kernel", "send"), 12),
        Measured("two mhostd hosts end to end",
                 lambda b: b.between(b.b, "10.77.2.1", "mhost", "sendmmsg"),
                 lambda b: b.between(b.b, PEER["kernel"], "kernel", "send"), 12),
        Measured("delegated: sendmmsg to a GRO peer",
                 lambda b: b.sending("host_inet", "sendmmsg", "gro"), one_by_one, 8),
        Measured("delegated: recv from an ordinary sender",
                 lambda b: b.receiving("host_inet", "recv", "single"),
                 lambda b: b.receiving("kernel", "recv", "single"), 1.0),
    ]  # fmt: skip
    return [row for row in rows if ROWS.search(row.name)]


def c_sendmmsg(bench: Bench) -> float:
    """The kernel's own from C, without segmentation offload, 1400 octets."""
    receiver = bench.peer(bench.b, "recv", "gro", PEER["kernel"], 1400, SECONDS)
    port = line(receiver)
    sender = bench.peer(bench.a, "send", "mmsg", PEER["kernel"], 1400, SECONDS + 0.5, port)
    per_s = result(receiver)["per_s"]
    result(sender)
    return per_s


def median_row(
    name: str, unit: str, ours: list[float], kernel: list[float], wanted: float | None = None
) -> Row:
    """One row: medians, their ratio, and from where to where the figures went."""
    row = {
        "name": name,
        "unit": unit,
        "mhost": round(statistics.median(ours), 1),
        "kernel": round(statistics.median(kernel), 1),
        "ratio": round(statistics.median(ours) / (statistics.median(kernel) or 1), 3),
        "mhost_min_max": [round(min(ours), 1), round(max(ours), 1)],
        "kernel_min_max": [round(min(kernel), 1), round(max(kernel), 1)],
        "wanted": wanted,
    }
    span = f"({min(ours):.0f}..{max(ours):.0f})"
    print(
        f"{name:52} {row['mhost']:>10.0f} {span:>20} {row['kernel']:>9.0f} {unit:10}"
        f" ratio {row['ratio']:5.2f}{f'  of {wanted:g}' if wanted else ''}",
        flush=True,
    )
    return row


def alternate(bench: Bench, rows: list[Measured]) -> list[Row]:
    """Measure each row in alternation with the kernel's own."""
    found = []
    for row in rows:
        ours, kernel = [], []
        for _ in range(ROUNDS):
            kernel.append(row.kernel(bench))
            ours.append(row.ours(bench))
        found.append(median_row(row.name, "per second", ours, kernel, row.at_least))
    return found


def round_trip_rows(bench: Bench) -> list[Row]:
    """Round trips, the peer wherever the kernel puts it, and all on one core."""
    found = []
    for path in ("inet", "host_inet"):
        for where, core, wanted in (("", "", 1.3), (", all on one core", "0", 2.0)):
            name = f"64 octets, {path}{where}"
            if not ROWS.search(f"round trip {name}"):
                continue
            times, theirs = [], []
            for _ in range(ROUNDS):
                theirs.append(bench.round_trips("kernel", core))
                times.append(bench.round_trips(path, core))
            for key in ("p50_us", "p99_us"):
                mine, kernel = [t[key] for t in times], [t[key] for t in theirs]
                at_most = wanted if key == "p50_us" else None
                name_of = f"round trip {key[:3]}, {name}"
                found.append(median_row(name_of, "us", mine, kernel, at_most))
    return found


def busy_rows(bench: Bench) -> list[Row]:
    """Round trips while the daemon's Python lists sockets, against those while it does not."""
    quiet = [bench.round_trips("inet") for _ in range(ROUNDS)]
    load = bench.load(bench.a, "mhost", "busy", OURS["inet"], 0, SOCKETS, 0)
    line(load)
    busy = [bench.round_trips("inet") for _ in range(ROUNDS)]
    load.kill()
    load.communicate()
    return [
        median_row(f"round trip {key[:3]}, daemon lists {SOCKETS} sockets, against idle", "us",
                   [t[key] for t in busy], [t[key] for t in quiet], wanted)
        for key, wanted in (("p50_us", None), ("p99_us", 2.0))
    ]  # fmt: skip


def bind_rows(bench: Bench) -> list[Row]:
    """What a socket costs, with none and with many of them open."""
    times, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(bench.binds("kernel"))
        times.append(bench.binds("inet"))
    rows = []
    for key, already in (("first_us", 0), ("last_us", SOCKETS * 9 // 10)):
        name = f"socket and bind, {already} of them open, inet"
        rows.append(median_row(name, "us", [t[key] for t in times], [t[key] for t in theirs]))
    return rows


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


def main() -> None:
    """Measure, print and write."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {sys.version.split()[0]}"
    )
    print(f"mhostd {commit or 'unknown'}; {machine}; {ROUNDS} rounds of {SECONDS:g} s")
    print(f"{'':52} {'mhost':>10} {'(min..max)':>20} {'kernel':>9}")
    with tempfile.TemporaryDirectory() as directory, Lab() as lab:
        peer = Path(directory) / "peer"
        source = str(HERE / "peer.c")
        subprocess.run(["gcc", "-O2", "-std=gnu11", "-o", str(peer), source], check=True)
        a, b = two_hosts(lab)
        b.ip("addr add 198.18.0.2/32 dev eth0")
        a.ip("route add 198.18.0.2/32 via 192.0.2.2")
        a.start(config(1, 2).replace('"10.77.0.0/16"', '"10.77.0.0/16", "198.18.0.0/24"'))
        b.start(config(2, 1))
        bench = Bench(a, b, peer)
        rows = alternate(bench, rows_of_rates()) + round_trip_rows(bench)
        if ROWS.search("round trip, daemon lists"):
            rows += busy_rows(bench)
        if ROWS.search("socket and bind"):
            rows += bind_rows(bench)
        if ROWS.search("idle daemon"):
            rows += [idle(a), *start_up(a)]
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"written to {OUT.relative_to(Path.cwd())}")


main()
