"""make bench-failover: what a stream of datagrams sees when its network goes.

Two hosts in namespaces, two links, 1,000 datagrams of 100 octets a second each way. A run
is 2 s of quiet, an event, and what comes after. Its gap is the longest time between two
arrivals after the event, less the longest one in the quiet seconds of the same run; the
worse direction counts.

RUNS=20 EVENTS=REGEX KINDS=REGEX change what is run.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "demo"))
sys.path.insert(0, str(Path(__file__).parent))

from events import EVENTS, Event
from lab import Host, Lab, key_of, two_links
from plain import plain_dies

RUNS = int(os.environ.get("RUNS", "20"))
QUIET_S, AFTER_S, WARM_S = 2.0, 3.0, 1.0
KINDS = ("mhost", "mhost-duplicate", "mptcp", "kernel")
END = Path(__file__).with_name("end.py")
OUT = Path(__file__).parents[1] / "out" / "failover.json"
_HEAD = struct.Struct("=QQ")


def start(lab: Lab, kind: str) -> tuple[Host, Host, Host]:
    """The network, and what a kind of sender needs on it."""
    a, b, net = two_links(lab)
    if kind == "mptcp":
        for host in (a, b):
            host.run("ip", "mptcp", "limits", "set", "subflow", "4", "add_addr_accepted", "4")
        a.run("ip", "mptcp", "endpoint", "add", "10.2.0.1", "dev", "eth1", "subflow")
        b.run("ip", "mptcp", "endpoint", "add", "10.2.0.2", "dev", "eth1", "signal")
    if kind.startswith("mhost"):
        keys = {host.name: key_of(host) for host in (a, b)}
        policy = "duplicate" if kind == "mhost-duplicate" else "failover"
        for host, peer, number in ((a, "b", 2), (b, "a", 1)):
            host.start(
                "[tun]\nenable = false\n"
                f'[directory]\npath = "{host.dir.parent}/directory"\n'
                f'[hosts]\n{peer} = {{ key = "{keys[peer]}", policy = "{policy}", '
                f'locators = ["10.1.0.{number}", "10.2.0.{number}"] }}\n'
            )
    return a, b, net


def ends(lab: Lab, a: Host, b: Host, kind: str, seconds: float) -> list[Any]:
    """Both ends, ready; b's first, as it may have to listen."""
    processes = []
    for host, peer in ((b, "a"), (a, "b")):
        process = host.popen(
            sys.executable, str(END), kind, host.name, peer, str(seconds),
            str(host.dir / "stream"), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        processes.append(process)
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the end on {host.name} did not start")
    if kind == "mptcp":
        processes[0].stdout.readline()  # it has accepted
    return processes


def read(host: Host) -> tuple[int, list[tuple[int, int]]]:
    """How many an end has sent, and what came there."""
    octets = (host.dir / "stream").read_bytes()
    sent = int.from_bytes(octets[:8], sys.byteorder)
    return sent, list(_HEAD.iter_unpack(octets[8:]))


def gap_ms(times: list[int], begin: int, end: int) -> float:
    """The longest time between two arrivals from `begin` to `end`, both counted as one."""
    inside = [begin, *(t for t in times if begin <= t <= end), end]
    return max(y - x for x, y in itertools.pairwise(inside)) / 1e6


def one_run(event: Event, kind: str) -> dict[str, float]:
    """One run: gap in ms, datagrams lost, and datagrams that came twice."""
    with Lab() as lab:
        a, b, net = start(lab, kind)
        seconds = WARM_S + QUIET_S + AFTER_S + 0.2
        processes = ends(lab, a, b, kind, seconds)
        begin = time.monotonic_ns() + 100_000_000
        for process in processes:
            process.stdin.write(f"{begin}\n")
            process.stdin.flush()
        quiet = begin + int(WARM_S * 1e9)
        at = quiet + int(QUIET_S * 1e9)
        time.sleep(max(0.0, (at - time.monotonic_ns()) / 1e9))
        at = time.monotonic_ns()
        event.happen(a, b, net, kind)
        for process in processes:
            process.wait(30)
        result = {"gap_ms": 0.0, "lost": 0, "doubles": 0, "quiet_ms": 0.0}
        for sender, receiver in ((a, b), (b, a)):
            sent, _ = read(sender)
            _, came = read(receiver)
            numbers = [number for number, _ns in came]
            times = [ns for _number, ns in came]
            silent = gap_ms(times, quiet, at)
            last = begin + int((seconds - 0.4) * 1e9)
            gap = gap_ms(times, at, last) - silent
            result["gap_ms"] = max(result["gap_ms"], gap)
            result["quiet_ms"] = max(result["quiet_ms"], silent)
            result["lost"] = max(result["lost"], sent - len(set(numbers)))
            result["doubles"] += len(numbers) - len(set(numbers))
        if os.environ.get("KEEP"):
            for host in (a, b):
                print(host.mhostctl("paths", check=False).stdout)
        return result


def wanted(event: Event, kind: str) -> tuple[float, int | None]:
    """Gap and loss that are wanted of a kind: of others than ours nothing."""
    if kind == "mhost-duplicate":
        return 10, 0
    return (event.gap_ms, event.lost) if kind == "mhost" else (float("inf"), None)


def report(name: str, kind: str, runs: list[dict[str, float]], gap: float, lost: int | None):  # type: ignore[no-untyped-def]
    """Print and return one row."""
    gaps, losses = [r["gap_ms"] for r in runs], [r["lost"] for r in runs]
    doubles = max(r["doubles"] for r in runs)
    ok = max(gaps) <= gap and (lost is None or max(losses) <= lost)
    ok = ok and (not kind.startswith("mhost") or not doubles)
    ours = gap < float("inf")
    want = f"{gap:.0f}/{'-' if lost is None else lost}" if ours else ""
    mark = ("ok" if ok else "MISSED") if ours else ""
    never = max(gaps) > 1000 * (AFTER_S - 0.5)
    print(
        f"{name:22} {kind:16} {len(runs):3}  {statistics.median(gaps):8.1f} "
        f"{'never' if never else f'{max(gaps):8.1f}':>8}  {statistics.median(losses):6.0f} "
        f"{max(losses):6.0f}  {doubles:4.0f}  {want:>9}  {mark}",
        flush=True,
    )
    return {
        "event": name, "kind": kind, "runs": runs, "wanted_gap_ms": gap if ours else None,
        "wanted_lost": lost, "ok": ok if ours else None,
    }  # fmt: skip


def main() -> None:
    """Run everything that is asked for."""
    events, kinds = (re.compile(os.environ.get(k, "")) for k in ("EVENTS", "KINDS"))
    print(
        f"{'event':22} {'kind':16} runs  {'gap ms':>8} {'worst':>8}  {'lost':>6} {'worst':>6}  "
        f"dbl  {'wanted':>9}"
    )
    rows = []
    for event in EVENTS:
        for kind in KINDS:
            if kind in event.kinds and events.search(event.name) and kinds.search(kind):
                runs = [one_run(event, kind) for _ in range(RUNS)]
                rows.append(report(event.name, kind, runs, *wanted(event, kind)))
    if events.search("plain peer") and kinds.search("mhost"):
        runs = [plain_dies() for _ in range(RUNS)]
        rows.append(report("plain peer, first dies", "mhost", runs, 1000, None))
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1))
    sys.exit(any(row["ok"] is False for row in rows))


if __name__ == "__main__":
    main()
