"""The rows of the table: what is measured, against what, and the ratio that is wanted."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ends import OURS, PEER, PER_PROCESS, SOCKETS, Bench, line
from lab import Host

ROUNDS = int(os.environ.get("ROUNDS", "5"))
ROWS = re.compile(os.environ.get("ROWS", ""))

C_ROWS = (("send", 64, 0.8), ("recv", 64, 1.0), ("send", 1400, 0.5), ("recv", 1400, 0.7))

Row = dict[str, Any]


class Measured(NamedTuple):
    """A row to be measured: ours and the kernel's, and the ratio that is wanted."""

    name: str
    ours: Callable[[Bench], float]
    kernel: Callable[[Bench], float]
    at_least: float | None = None


def rows_of_rates() -> list[Measured]:
    """Datagrams per second, 64 octets unless said."""
    one_by_one = lambda b: b.sending("kernel", "send", "gro")  # noqa: E731
    two_hosts = Measured(
        "two mhostd hosts end to end",
        lambda b: b.between(b.b, "10.77.2.1", "mhost", "sendmmsg"),
        lambda b: b.between(b.b, PEER["kernel"], "kernel", "send"), 12,
    )  # fmt: skip
    # Against the row above, not against the kernel: what the association costs.
    associated = Measured(
        "two associated hosts, against two without",
        lambda b: b.between(b.b, b.bob, "mhost", "sendmmsg"),
        lambda b: b.between(b.b, "10.77.2.1", "mhost", "sendmmsg"), 0.4,
    )  # fmt: skip
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
                 lambda b: b.sending("inet", "sendmmsg", "gro", 1400),
                 lambda b: b.c_sending("mmsg", 1400), 10),
        *c_rows(),
        Measured("sendmmsg over ZeroMQ alone, to a GRO peer",
                 lambda b: b.sending("inet", "sendmmsg", "gro", kind="zmq"), one_by_one, 8),
        Measured("recvmmsg over ZeroMQ alone, from a GSO sender",
                 lambda b: b.receiving("inet", "recvmmsg", "gso", kind="zmq"),
                 lambda b: b.receiving("kernel", "recvfrom", "gso"), 4),
        Measured("application to application, one daemon",
                 lambda b: b.between(b.a, OURS["inet"], "mhost", "sendmmsg"),
                 lambda b: b.between(b.a, "127.0.0.1", "kernel", "send"), 12),
        two_hosts,
        apart(two_hosts),
        associated,
        apart(associated),
        Measured("delegated: sendmmsg to a GRO peer",
                 lambda b: b.sending("host_inet", "sendmmsg", "gro"), one_by_one, 8),
        Measured("delegated: recv from an ordinary sender",
                 lambda b: b.receiving("host_inet", "recv", "single"),
                 lambda b: b.receiving("kernel", "recv", "single"), 1.0),
    ]  # fmt: skip
    return [row for row in rows if ROWS.search(row.name)]


def c_rows() -> list[Measured]:
    """Programs in C with libmhost, against the same with the kernel's own offload."""
    rows = []
    for role, size, wanted in C_ROWS:
        name = f"libmhost, {role} {size} octets in bulk"
        if role == "send":
            rows.append(Measured(
                name, lambda b, size=size: b.c_sending("gso", size, "libmhost"),
                lambda b, size=size: b.c_sending("gso", size), wanted,
            ))  # fmt: skip
        else:
            rows.append(Measured(
                name, lambda b, size=size: b.c_receiving(size, "libmhost"),
                lambda b, size=size: b.c_receiving(size), wanted,
            ))  # fmt: skip
    for count, wanted in ((32, 0.95), (8, 0.4)):
        rows.append(Measured(
            f"libmhost, echo, window of {count}", lambda b, n=count: b.window("libmhost", n),
            lambda b, n=count: b.window("kernel", n), wanted,
        ))  # fmt: skip
    return [*rows, *(apart(row) for row in rows), *preloaded_rows()]


def preloaded_rows() -> list[Measured]:
    """Programs that nobody has built for mhostd."""
    return [
        Measured("preloaded, sendmmsg to a GRO peer",
                 lambda b: b.c_sending("mmsg", 64, "preload"),
                 lambda b: b.c_sending("mmsg", 64)),
        Measured("preloaded, receive 64 octets in bulk",
                 lambda b: b.c_receiving(64, "preload"), lambda b: b.c_receiving(64)),
        Measured("preloaded, echo, window of 8", lambda b: b.window("preload", 8),
                 lambda b: b.window("kernel", 8)),
        Measured("iperf3 -u of 1400 octets, preloaded at both ends",
                 lambda b: b.iperf3("preload"), lambda b: b.iperf3("kernel")),
    ]  # fmt: skip


def apart(row: Measured) -> Measured:
    """The same, each host on a core of its own, as two machines have."""

    def on_cores(measure: Callable[[Bench], float]) -> Callable[[Bench], float]:
        def pinned(bench: Bench) -> float:
            with bench.pinned("1", "0"):
                return measure(bench)

        return pinned

    name = f"{row.name}, hosts apart"
    return Measured(name, on_cores(row.ours), on_cores(row.kernel), row.at_least)


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
    """Round trips: wherever the kernel puts the peer, on the other core, all on one core."""
    found = []
    places = (("", ()), (", peer on the other core", ("1", "0")), (", one core", ("0", "0")))
    for path in ("inet", "host_inet"):
        for where, cores in places:
            name = f"64 octets, {path}{where}"
            if not ROWS.search(f"round trip {name}"):
                continue
            times, theirs = [], []
            with bench.pinned(*cores) if cores else contextlib.nullcontext():
                for _ in range(ROUNDS):
                    theirs.append(bench.round_trips("kernel"))
                    times.append(bench.round_trips(path))
            for key in ("p50_us", "p99_us"):
                mine, kernel = [t[key] for t in times], [t[key] for t in theirs]
                wanted = 2.0 if cores == ("0", "0") else 1.3
                at_most = wanted if key == "p50_us" else None
                name_of = f"round trip {key[:3]}, {name}"
                found.append(median_row(name_of, "us", mine, kernel, at_most))
    return found


def busy_rows(bench: Bench) -> list[Row]:
    """Round trips while the daemon's Python lists sockets, against those while it does not."""
    quiet = [bench.round_trips("inet") for _ in range(ROUNDS)]
    loads = [
        bench.load(bench.a, "mhost", role, OURS["inet"], 0, PER_PROCESS, 0)
        for role in ("hold", "busy")
    ]
    for load in loads:
        line(load)
    busy = [bench.round_trips("inet") for _ in range(ROUNDS)]
    for load in loads:
        load.kill()
        load.communicate()
    return [
        median_row(f"round trip {key[:3]}, daemon lists {SOCKETS} sockets, against idle", "us",
                   [t[key] for t in busy], [t[key] for t in quiet], wanted)
        for key, wanted in (("p50_us", None), ("p99_us", 2.0))
    ]  # fmt: skip


def spread_rows(bench: Bench) -> list[Row]:
    """What the daemon spends on a datagram, by the number of sockets they go to."""
    rows = []
    figures: dict[int, list[float]] = {1: [], 10: [], 100: [], SOCKETS: []}
    for _ in range(ROUNDS):
        for count, each in figures.items():
            found = bench.over_sockets("mhost", "spread", count)
            processes = -(-count // PER_PROCESS)  # each has seen all of the daemon's time
            each.append(1e9 * found["cpu"] / processes / found["per_s"])
    for count, each in figures.items():
        name = f"daemon's time for a datagram, over {count} sockets, against 10"
        wanted = 1.5 if count == SOCKETS else None
        rows.append(median_row(name, "ns", each, figures[10], wanted))
    return rows


def memory_row(bench: Bench) -> Row:
    """What a bound socket takes that does nothing, in both processes together."""
    found = bench.memory()
    both = found["app_kib"] + found["daemon_kib"]
    print(f"memory of a socket: {both:.1f} KiB, {found['daemon_kib']:.1f} of it the daemon's")
    return {"name": "memory of a socket", "unit": "KiB", "mhost": round(both, 1),
            "kernel": None, "ratio": None}  # fmt: skip


def bind_rows(bench: Bench) -> list[Row]:
    """What a socket costs, with none and with many of them open."""
    times, theirs = [], []
    for _ in range(ROUNDS):
        theirs.append(bench.binds("kernel"))
        times.append(bench.binds("inet"))
    rows = []
    for key, already in (("first_us", 0), ("last_us", PER_PROCESS * 9 // 10)):
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
