"""One stream each way between two hosts, from before an event until after it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from events import Event, Prepared, sleep_until
from judge import Arrivals, Damage, Times, judge, worse
from kinds import Ends, Kind
from lab import Host, Lab, two_links

QUIET_S, AFTER_S = 2.0, 3.0
SOON_NS = 50_000_000
STREAM = str(Path(__file__).with_name("stream.py"))
TIMEOUT_S = 30.0


class Came(NamedTuple):
    """What came at an end, and what it was refused when it sent."""

    arrivals: Arrivals
    errors: dict[str, int]


class Streams:
    """The two ends, ready to begin."""

    def __init__(self, hosts: dict[str, Host], ends: Ends) -> None:
        self._hosts = hosts
        self._processes: dict[str, subprocess.Popen[str]] = {
            name: hosts[name].popen(
                sys.executable, STREAM, *argv,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            )
            for name, argv in ends.items()
        }  # fmt: skip
        for name, process in self._processes.items():
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"the application on {name} did not begin")
        self._judges = [name for name, argv in ends.items() if argv[0] != "echo"]

    def begin(self, lasting_s: float) -> tuple[int, int]:
        """Let them go.

        Returns:
            When the first datagram goes, and when the last has gone (ns).
        """
        start_ns = time.monotonic_ns() + SOON_NS
        end_ns = start_ns + round(lasting_s * 1e9)
        for name in self._judges:
            stdin = self._processes[name].stdin
            assert stdin is not None
            stdin.write(f"{start_ns} {end_ns} {self._path(name)}\n")
            stdin.flush()
        return start_ns, end_ns

    def end(self) -> dict[str, Came]:
        """Wait for their end."""
        came = {}
        for name in self._judges:
            process = self._processes[name]
            out, _err = process.communicate(timeout=TIMEOUT_S)
            if process.returncode:
                raise RuntimeError(f"the application on {name} ended: {process.returncode}")
            came[name] = Came(Arrivals.load(self._path(name)), json.loads(out)["errors"])
        return came

    def _path(self, name: str) -> Path:
        return self._hosts[name].dir / "arrivals"


def run(kind: Kind, event: Event) -> Damage:
    """Two new hosts, two seconds, the event, three seconds."""
    with Lab() as lab:
        a, b, _net = two_links(lab)
        streams = Streams(lab.hosts, kind.prepare(a, b, event.name))
        prepared = Prepared(event, lab.hosts)
        start_ns, end_ns = streams.begin(QUIET_S + AFTER_S)
        sleep_until(start_ns + round(QUIET_S * 1e9))
        event_ns = prepared.happen()
        prepared.check()
        came = streams.end()
    times = Times(start_ns, event_ns, end_ns)
    return worse([judge(each.arrivals, times) for each in came.values()])
