"""The two hosts of a measurement, and a program at each end of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from lab import Host
from mhost.ctl.run import flags

HERE = Path(__file__).parent
ROOT = HERE.parent
LOAD = str(HERE / "load.py")
SECONDS = float(os.environ.get("SECONDS", "0.7"))
SOCKETS = 10_000
PER_PROCESS = 5_000  # of them: each takes two descriptors
FIRST_PORT = 20_000  # of those that are bound to a port of their own

# Where the application of host a meets host b, by kind of path.
PEER = {"inet": "198.18.0.2", "host_inet": "192.0.2.2", "kernel": "192.0.2.2"}
OURS = {"inet": "10.77.1.1", "host_inet": "192.0.2.1", "kernel": "192.0.2.1"}

Figures = dict[str, float]


def build(directory: Path) -> dict[str, list[str]]:
    """Compile peer.c; what to run it with for each kind of socket."""
    plain, linked = str(directory / "peer"), str(directory / "peer-mhost")
    gcc = ["gcc", "-O2", "-Wall", "-Wextra", "-Werror", "-std=gnu11", "-D_GNU_SOURCE"]
    subprocess.run([*gcc, "-o", plain, HERE / "peer.c"], check=True)
    cflags = flags(cflags=True, libs=False, static=False).split()
    libs = flags(cflags=False, libs=True, static=True).split()
    argv = [*gcc, "-include", "mhost_sockets.h", *cflags, "-o", linked, HERE / "peer.c", *libs]
    subprocess.run(argv, check=True)
    run = [str(Path(sys.executable).parent / "mhostctl"), "run", "--family=inet", "--"]
    return {"kernel": [plain], "libmhost": [linked], "preload": [*run, plain]}


class Bench:
    """The two hosts, and the ends of a measurement on them."""

    def __init__(self, a: Host, b: Host, directory: Path) -> None:
        """Build the programs in C in that directory.

        `bob` is the identifier of b, with which a is associated.
        """
        self.a, self.b = a, b
        self.bob = ""
        self._cores: dict[Host, str] = {}
        self._programs = build(directory)

    def load(self, host: Host, *argv: object) -> subprocess.Popen[str]:
        """Start an end in Python (load.py)."""
        return self._start(host, sys.executable, LOAD, *argv)

    def peer(self, host: Host, *argv: object, kind: str = "kernel") -> subprocess.Popen[str]:
        """Start a program in C (peer.c)."""
        return self._start(host, *self._programs[kind], *argv)

    def _start(self, host: Host, *argv: object) -> subprocess.Popen[str]:
        core = self._cores.get(host)
        pinned = ("taskset", "-c", core) if core else ()
        process: subprocess.Popen[str] = host.popen(
            *pinned, *map(str, argv), stdout=subprocess.PIPE, text=True
        )
        return process

    @contextlib.contextmanager
    def pinned(self, a: str, b: str) -> Iterator[None]:
        """What runs on a host has that core meanwhile, and no other."""
        self._cores = {self.a: a, self.b: b}
        for host, core in self._cores.items():
            self._move(host, core)
        try:
            yield
        finally:
            self._cores = {}
            for host in (self.a, self.b):
                self._move(host, f"0-{(os.cpu_count() or 1) - 1}")

    @staticmethod
    def _move(host: Host, cores: str) -> None:
        if host.daemon:
            command = ["taskset", "-acp", cores, str(host.daemon.pid)]
            subprocess.run(command, stdout=subprocess.DEVNULL, check=True)

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

    def c_sending(self, mode: str, size: int, kind: str = "kernel") -> float:
        """As sending(), from a program in C, to a GRO peer."""
        at = PEER["kernel" if kind == "kernel" else "inet"]
        receiver = self.peer(self.b, "recv", "gro", at, size, SECONDS)
        end = SECONDS + 0.5
        sender = self.peer(self.a, "send", mode, at, size, end, line(receiver), kind=kind)
        per_s = result(receiver)["per_s"]
        result(sender)
        return per_s

    def c_receiving(self, size: int, kind: str = "kernel") -> float:
        """As receiving(), in C with UDP_GRO, from a GSO sender."""
        at = OURS["kernel" if kind == "kernel" else "inet"]
        receiver = self.peer(self.a, "recv", "gro", at, size, SECONDS, kind=kind)
        end = SECONDS + 0.5
        sender = self.peer(self.b, "send", "gso", at, size, end, line(receiver))
        per_s = result(receiver)["per_s"]
        result(sender)
        return per_s

    def window(self, kind: str, count: int) -> float:
        """Datagrams per second that come back from a C program, so many under way."""
        at = OURS["kernel" if kind == "kernel" else "inet"]
        echo = self.peer(self.a, "echo", "mmsg", at, 64, 0.5, kind=kind)
        client = self.peer(self.b, "window", count, at, 64, SECONDS, line(echo))
        per_s = result(client)["per_s"]
        result(echo)
        return per_s

    def iperf3(self, kind: str) -> float:
        """Datagrams per second of 1400 octets that `iperf3 -u` gets to its own kind."""
        argv = ["iperf3", "--udp", "--client", PEER["kernel"], "--bitrate=0", "--json",
                f"--time={max(1, SECONDS):g}", "--length=1400"]  # fmt: skip
        front = [] if kind == "kernel" else self._programs["preload"][:-1]
        server = self._start(self.b, *front, "iperf3", "--server", "--one-off")
        listening = f":{5201:04X} {'0' * 32}:0000 0A "
        while listening not in self.b.run("cat", "/proc/net/tcp6").stdout:
            pass
        out, _err = self._start(self.a, *front, *argv).communicate(timeout=60)
        server.communicate(timeout=60)
        total = json.loads(out)["end"]["sum"]
        arrived: float = total["packets"] - total["lost_packets"]
        return arrived / float(total["seconds"])

    def over_sockets(self, kind: str, role: str, count: int) -> Figures:
        """What comes, by way of so many sockets: `serve` and `spread` of load.py."""
        at = OURS["kernel" if kind == "kernel" else "inet"]
        receivers = [
            self.load(self.a, kind, role, at, FIRST_PORT + first,
                      min(count - first, PER_PROCESS), SECONDS)
            for first in range(0, count, PER_PROCESS)
        ]  # fmt: skip
        for each in receivers:
            line(each)
        sender = self.peer(self.b, "spread", count, at, 64, 60, FIRST_PORT)
        found = [result(each) for each in receivers]
        sender.kill()
        sender.communicate()
        return {key: sum(each[key] for each in found) for key in found[0]}

    def memory(self) -> Figures:
        """KiB of memory for each bound socket."""
        return result(self.load(self.a, "mhost", "memory", OURS["inet"], 0, PER_PROCESS, 0))

    def between(self, to: Host, at: str, kind: str, how: str) -> float:
        """Datagrams per second between two applications of the same kind."""
        receiver = self.load(to, kind, "recvmmsg" if how == "sendmmsg" else "recv", at, 0, 64,
                             SECONDS)  # fmt: skip
        sender = self.load(self.a, kind, how, at, line(receiver), 64, SECONDS + 0.5)
        per_s = result(receiver)["per_s"]
        result(sender)
        return per_s

    def round_trips(self, path: str) -> Figures:
        """Microseconds from sendto() to the end of recv(), 64 octets."""
        echo = self.peer(self.b, "echo", "single", PEER[path], 64, 1)
        kind = "kernel" if path == "kernel" else "mhost"
        client = self.load(self.a, kind, "rtt", PEER[path], line(echo), 64, SECONDS)
        times = result(client)
        result(echo)
        return times

    def binds(self, path: str) -> Figures:
        """Microseconds to open and bind a socket, with few and with many of them open."""
        kind = "kernel" if path == "kernel" else "mhost"
        return result(self.load(self.a, kind, "bind", OURS[path], 0, PER_PROCESS, SECONDS))


def result(process: subprocess.Popen[str]) -> Figures:
    """Wait for its end and read what it printed last."""
    out, _err = process.communicate(timeout=60)
    value: Figures = json.loads(out.splitlines()[-1]) if out.strip() else {}
    return value


def line(process: subprocess.Popen[str]) -> str:
    """Read the port it is bound to."""
    assert process.stdout is not None
    return process.stdout.readline().strip()
