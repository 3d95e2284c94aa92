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
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "demo"))

from ends import SECONDS, Bench
from lab import Lab, config, two_hosts
from picture import draw
from rows import (
    ROUNDS,
    ROWS,
    alternate,
    bind_rows,
    busy_rows,
    idle,
    memory_row,
    round_trip_rows,
    rows_of_rates,
    spread_rows,
    start_up,
)

OUT = HERE / "out" / "latest.json"
PICTURE = HERE.parent / "docs" / "bench.png"


def main() -> None:
    """Measure, print and write."""
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    machine = (
        f"{os.cpu_count()} cores, Linux {platform.release()}, Python {sys.version.split()[0]}"
    )
    title = f"mhostd {commit or 'unknown'}; {machine}"
    print(f"{title}; {ROUNDS} rounds of {SECONDS:g} s")
    print(f"{'':52} {'mhost':>10} {'(min..max)':>20} {'kernel':>9}")
    with tempfile.TemporaryDirectory() as directory, Lab() as lab:
        a, b = two_hosts(lab)
        b.ip("addr add 198.18.0.2/32 dev eth0")
        a.ip("route add 198.18.0.2/32 via 192.0.2.2")
        a.start(config(1, 2).replace('"10.77.0.0/16"', '"10.77.0.0/16", "198.18.0.0/24"'))
        b.start(config(2, 1))
        who = b.show("key")
        a.mhostctl("hosts", "add", "bob", "--key", who["key"], "10.77.2.1", "192.0.2.2")
        bench = Bench(a, b, Path(directory))
        bench.bob = who["identifier"]
        rows = [idle(a), *start_up(a)] if ROWS.search("idle daemon") else []
        rows += alternate(bench, rows_of_rates()) + round_trip_rows(bench)
        if ROWS.search("round trip, daemon lists"):
            rows += busy_rows(bench)
        if ROWS.search("daemon's time for a datagram"):
            rows += spread_rows(bench)
        if ROWS.search("memory of a socket"):
            rows.append(memory_row(bench))
        if ROWS.search("socket and bind"):
            rows += bind_rows(bench)
        if ROWS.search("picture"):
            draw(bench, PICTURE, title)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"written to {OUT.relative_to(Path.cwd())}")


main()
