"""`make bench-failover`: what a stream loses when a link does, by kind of sender.

Two hosts with two links, 1,000 datagrams of 100 octets a second each way, and an event on
the link in use. RUNS says how often; EVENTS and KINDS (regular expressions) what.
"""

from __future__ import annotations

import json
import math
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent.parent / "demo"))

from events import EVENTS, Event
from field import run
from judge import Damage
from kinds import KINDS, Kind, UnavailableError, Wanted

RUNS = int(os.environ.get("RUNS", "20"))
CHOSEN_EVENTS = re.compile(os.environ.get("EVENTS", ""))
CHOSEN_KINDS = re.compile(os.environ.get("KINDS", ""))
OUT = HERE.parent / "out" / "failover.json"
LEGEND = """\
gap: longest interval between arrivals since the event, less that of the quiet time before
it; lost, twice: datagrams of 5 s; of both directions the worse. "!": a run misses what is
wanted; "!!": the median does."""

Row = dict[str, Any]


class Case:
    """An event and a kind of sender, and what the runs have given."""

    def __init__(self, event: Event, kind: Kind) -> None:
        self.event, self.kind = event, kind
        self.runs: list[Damage] = []
        self.failed: list[str] = []
        self.why_not = "" if event.name not in kind.not_for else "-"

    def run(self) -> None:
        """Once more, unless that is in vain."""
        if self.why_not:
            return
        try:
            self.runs.append(run(self.kind, self.event))
        except UnavailableError as err:
            self.why_not = str(err)
        except (OSError, RuntimeError, AssertionError, subprocess.SubprocessError) as err:
            self.failed.append(f"{type(err).__name__}: {err}".strip())

    def row(self) -> Row:
        """What is written for it; a gap without an end is null."""
        wanted = self.kind.wanted(self.event.name)
        row: Row = {"event": self.event.name, "kind": self.kind.name, "runs": len(self.runs)}
        if self.runs:
            gaps, lost, doubles = zip(*self.runs, strict=True)
            row |= {
                "gap_ms": _finite(statistics.median(gaps)),
                "gap_ms_worst": _finite(max(gaps)),
                "lost": statistics.median(lost),
                "lost_worst": max(lost),
                "doubles_worst": max(doubles),
            }
        if wanted:
            row["wanted"] = {
                name: value for name, value in wanted._asdict().items() if math.isfinite(value)
            }
            row["missed"] = self.missed(wanted)
        if self.failed or self.why_not:
            row["failed"] = self.failed or [self.why_not]
        return row

    def missed(self, wanted: Wanted) -> str:
        """Whether a run misses it, or most do."""
        if self.failed:
            return "!!"
        if not self.runs:
            return ""
        columns = list(zip(*self.runs, strict=True))
        if any(statistics.median(c) > w for c, w in zip(columns, wanted, strict=True)):
            return "!!"
        return "!" if any(max(c) > w for c, w in zip(columns, wanted, strict=True)) else ""


def _finite(value: float) -> float | None:
    return round(value, 1) if math.isfinite(value) else None


def spell(row: Row) -> str:
    """One line of the table."""
    text = f"{row['event']:14} {row['kind']:16} {row['runs'] or '':>4}"
    if "lost" in row:
        gaps = [row[key] for key in ("gap_ms", "gap_ms_worst")]
        median, worst = ("never" if gap is None else f"{gap:.1f}" for gap in gaps)
        text += f" {median:>8} {worst:>8} {row['lost']:>7g} {row['lost_worst']:>6}"
        text += f" {row['doubles_worst']:>6}"
        if row.get("wanted"):
            values = row["wanted"]
            wanted = "/".join(f"{values[key]:g}" for key in values)
            text += f"  {wanted:9} {row['missed']}"
    if "failed" in row:
        count = len(row["failed"]) if row["failed"][0] != "-" else 0
        text += f" {f'{count} failed: ' if row['runs'] else ''}{row['failed'][0]}"
    return text.rstrip()


def main() -> int:
    """Measure, print and write; 1 if a run failed."""
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit(130))
    commit = subprocess.run(
        ["git", "describe", "--always", "--dirty"], capture_output=True, text=True
    ).stdout.strip()
    print(f"mhostd {commit or 'unknown'}; {os.cpu_count()} cores, Linux {platform.release()}")
    print(LEGEND)
    print(f"{'event':14} {'kind':16} {'runs':>4} {'gap, ms':>8} {'worst':>8} {'lost':>7}"
          f" {'worst':>6} {'twice':>6}  wanted")  # fmt: skip
    kinds = [kind for kind in KINDS if CHOSEN_KINDS.search(kind.name)]
    rows, failed = [], False
    for event in (event for event in EVENTS if CHOSEN_EVENTS.search(event.name)):
        cases = [Case(event, kind) for kind in kinds]
        for _ in range(RUNS):
            for case in cases:
                case.run()
        for case in cases:
            rows.append(case.row())
            print(spell(rows[-1]), flush=True)
            failed |= bool(case.failed)
    OUT.parent.mkdir(exist_ok=True)
    OUT.write_text(json.dumps(rows, indent=1) + "\n")
    print(f"written to {OUT.relative_to(Path.cwd())}")
    return int(failed)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; everything was cleaned up", file=sys.stderr)
        sys.exit(130)
