"""Hosts in private network namespaces, each with its own mhostd; nothing is left behind.

A namespace is held by a process and named by nothing, so it goes away with its holder;
every process here is told to die with the one that started it.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

BIN = Path(sys.executable).parent
DIE_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL")


class Host:
    """One host: a namespace, and a daemon once it is started."""

    def __init__(self, name: str, directory: Path) -> None:
        self.name = name
        self.dir = directory
        self.dir.mkdir()
        self.processes: list[subprocess.Popen[Any]] = []
        self._holder = subprocess.Popen(
            [*DIE_WITH_PARENT, "unshare", "--net", "sleep", "infinity"],
            stdin=subprocess.DEVNULL,
        )
        self._enter = ("nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *DIE_WITH_PARENT)
        self._await_namespace()
        self.ip("link set lo up")
        self.daemon: subprocess.Popen[bytes] | None = None

    def _await_namespace(self) -> None:
        mine = os.stat("/proc/self/ns/net").st_ino
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            with contextlib.suppress(FileNotFoundError):
                comm = Path(f"/proc/{self._holder.pid}/comm").read_text().strip()
                if comm == "sleep" and os.stat(self.netns).st_ino != mine:
                    return
            time.sleep(0.01)
        raise RuntimeError("no network namespace: root and CONFIG_NET_NS are needed")

    @property
    def netns(self) -> str:
        """The file that names the namespace while its holder lives."""
        return f"/proc/{self._holder.pid}/ns/net"

    @property
    def socket(self) -> str:
        """What MHOST_SOCKET is for applications of this host."""
        return f"ipc://{self.dir}/mhost.sock"

    @property
    def env(self) -> dict[str, str]:
        """The environment of this host's applications."""
        return {
            **os.environ,
            "MHOST_SOCKET": self.socket,
            "PYTHONUNBUFFERED": "1",
            "STATE_DIRECTORY": str(self.dir / "state"),
        }

    def command(self, *argv: str) -> list[str]:
        """The same command, in this host's namespace."""
        return [*self._enter, *argv]

    def run(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(
            self.command(*argv), env=self.env, check=check, capture_output=True, text=True,
            timeout=30,
        )  # fmt: skip

    def ip(self, arguments: str) -> None:
        """Change a link, an address or a route."""
        done = self.run("ip", *arguments.split(), check=False)
        if done.returncode:
            raise RuntimeError(f"ip {arguments}: {done.stderr.strip()}")

    def batch(self, *lines: str) -> None:
        """Change links, addresses and routes at once."""
        done = self.run("sh", "-c", batch(*lines), check=False)
        if done.returncode:
            raise RuntimeError(f"ip {lines}: {done.stderr.strip()}")

    def sysctl(self, name: str, value: int) -> None:
        """Set a variable of this namespace."""
        path = "/proc/sys/" + name.replace(".", "/")
        self.run("sh", "-c", f"echo {value} > {path}")

    def popen(self, *argv: str, **options: Any) -> subprocess.Popen[Any]:
        """Start a process that ends with this host."""
        process = subprocess.Popen(self.command(*argv), env=self.env, **options)
        self.processes.append(process)
        return process

    def armed(self, command: str) -> Armed:
        """Have a command of the shell ready, so that it runs at once when it is told to."""
        return Armed(self, command)

    def start(self, config: str) -> None:
        """Start mhostd and wait until it answers.

        Args:
            config: mhostd.toml without its [ipc].
        """
        ipc = f'[ipc]\nsocket = "{self.socket}"\nadmin_socket = "ipc://{self.dir}/admin.sock"\n'
        path = self.dir / "mhostd.toml"
        path.write_text(ipc + 'group = ""\n' + config)
        with (self.dir / "mhostd.log").open("ab") as log:
            self.daemon = self.popen(str(BIN / "mhostd"), "--config", str(path), stderr=log)
        deadline = time.monotonic() + 10
        while self.mhostctl("status", check=False).returncode:
            if self.daemon.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(
                    f"mhostd of {self.name} did not start (it ended with "
                    f"{self.daemon.poll()}):\n{self.log()}"
                )
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Stop the daemon; return its exit code."""
        assert self.daemon is not None
        self.daemon.send_signal(number)
        return self.daemon.wait(10)

    def log(self) -> str:
        """What the daemon has logged."""
        return (self.dir / "mhostd.log").read_text()

    def mhostctl(self, *argv: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run mhostctl."""
        return self.run(str(BIN / "mhostctl"), *argv, check=check)

    def show(self, *argv: str) -> Any:
        """Return what `mhostctl -j` prints."""
        return json.loads(self.mhostctl(*argv, "--json").stdout)

    def check_accounts(self) -> None:
        """Every frame that the daemon has received has ended once, or is held."""
        asked = self.run(str(BIN / "mhostctl"), "counters", "--json", check=False)
        if asked.returncode == 0:
            account = json.loads(asked.stdout)["accounting"]
            received = account.pop("received")
            assert received == sum(account.values()), f"{self.name}: {received} of {account}"

    def app(self) -> App:
        """Start an application."""
        return App(self)

    def close(self) -> None:
        """End every process of this host, and with them its namespace."""
        for process in reversed(self.processes):
            if process.poll() is None:
                process.terminate()
        for process in reversed(self.processes):
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            if process.poll() is None:
                process.kill()
                process.wait()
            for stream in (process.stdin, process.stdout):
                if stream is not None:
                    stream.close()
        self._holder.kill()
        self._holder.wait()


class App:
    """An application process that does what it is told: demo/app.py."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.process: subprocess.Popen[str] = host.popen(
            sys.executable, str(Path(__file__).with_name("app.py")),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __call__(self, verb: str, *args: Any) -> Any:
        """Call a method of the application; OSError comes back as OSError."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([verb, *args]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"the application on {self.host.name} ended")
        answer = json.loads(line)
        if "errno" in answer:
            raise OSError(answer["errno"], answer["text"])
        return answer["value"]


class Armed:
    """A command whose process has been made, and waits."""

    def __init__(self, host: Host, command: str) -> None:
        """Have the shell of that host wait for a line before it runs the command."""
        self.command = command
        self._process: subprocess.Popen[str] = host.popen(
            "sh", "-c", f"read _ && exec {command}", stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip

    def fire(self) -> int:
        """Run it, and do not wait.

        Returns:
            When, in ns of CLOCK_MONOTONIC.
        """
        assert self._process.stdin is not None
        at_ns = time.monotonic_ns()
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return at_ns

    def check(self) -> None:
        """Wait for its end; RuntimeError if it went wrong."""
        _out, err = self._process.communicate(timeout=30)
        if self._process.returncode:
            raise RuntimeError(f"{self.command}: {err.strip()}")


class Lab:
    """Some hosts and the links between them."""

    def __init__(self) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="mhost-lab-")
        self.hosts: dict[str, Host] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            for host in self.hosts.values() if kind is None else ():
                if host.daemon is not None:
                    assert "unexpected error" not in host.log(), host.log()
                if host.daemon is not None and host.daemon.poll() is None:
                    host.check_accounts()
        finally:
            self.close()

    def host(self, name: str) -> Host:
        """Add a host."""
        host = Host(name, Path(self._directory.name) / name)
        self.hosts[name] = host
        return host

    def link(self, a: Host, b: Host, name: str = "eth0", at_b: str = "") -> None:
        """Join two hosts by a veth pair, which has the same name at both ends or another."""
        at_b = at_b or name
        a.run("ip", "link", "add", name, "type", "veth", "peer", "name", at_b, "netns", _pid(b))
        a.ip(f"link set {name} up")
        b.ip(f"link set {at_b} up")

    def close(self) -> None:
        """End everything."""
        for host in reversed(list(self.hosts.values())):
            host.close()
        self._directory.cleanup()


def batch(*lines: str, tool: str = "ip") -> str:
    """The command of the shell that does all that with one `ip`, `bridge` or `tc`."""
    return "\n".join([f"{tool} -batch - <<'.'", *lines, "."])


def key_of(host: Host) -> str:
    """The public key of a host, made if need be."""
    return host.mhostctl("key", "--state", str(host.dir / "state")).stdout.strip()


def _pid(host: Host) -> str:
    found = re.search(r"\d+", host.netns)
    assert found is not None
    return found[0]


def config(number: int, peer: int) -> str:
    """A host with everything: TUN with IPv4 and IPv6, Ethernet, both plug-ins, two names.

    Args:
        number: of this host, 1 or 2.
        peer: of the other one.
    """
    return f"""
[tun]
[tun.inet]
address = "10.77.{number}.1/24"
host_address = "10.77.{number}.254"
prefixes = ["10.77.0.0/16"]
[tun.inet6]
address = "fd77:{number}::1/64"
host_address = "fd77:{number}::fe"
prefixes = ["fd77::/16"]
[[ethernet]]
device = "eth0"
[l3.testproto]
address = "{number}"
[l3.otherproto]
address = "0:0:0:{number}"
[hosts]
me = {json.dumps(locators(number))}
peer = {json.dumps(locators(peer))}
"""


def locators(number: int) -> list[str]:
    """Where a host with that configuration is, best first."""
    return [
        f"10.77.{number}.1",
        f"fd77:{number}::1",
        f"192.0.2.{number}",
        f"2001:db8::{number}",
        f"testproto:{number}",
        f"otherproto:0:0:0:{number}",
    ]


def two_hosts(lab: Lab) -> tuple[Host, Host]:
    """Two linked hosts with addresses, forwarding, and routes to each other's TUN."""
    a, b = lab.host("a"), lab.host("b")
    lab.link(a, b)
    for host, number, peer in ((a, 1, 2), (b, 2, 1)):
        host.sysctl("net.ipv4.ip_forward", 1)
        host.sysctl("net.ipv6.conf.all.forwarding", 1)
        host.ip(f"addr add 192.0.2.{number}/24 dev eth0")
        host.ip(f"addr add 2001:db8::{number}/64 dev eth0 nodad")
        host.ip(f"route add 10.77.{peer}.0/24 via 192.0.2.{peer}")
        host.ip(f"-6 route add fd77:{peer}::/64 via 2001:db8::{peer}")
    return a, b


def two_links(lab: Lab) -> tuple[Host, Host, Host]:
    """Two hosts with two links, eth0 and eth1, each by way of a bridge.

    Returns:
        a, b, and the host of the bridges br0 and br1, whose ports are a0, b0, a1 and b1.
    """
    a, b, net = lab.host("a"), lab.host("b"), lab.host("net")
    net.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    bridges = [f"link add br{n} type bridge mcast_snooping 0" for n in (0, 1)]
    net.batch(*bridges, *(f"link set br{n} up" for n in (0, 1)))
    for host, number in ((a, 1), (b, 2)):
        host.sysctl("net.ipv6.conf.default.accept_dad", 0)
        for n in (0, 1):
            port = f"{host.name}{n}"
            lab.link(host, net, f"eth{n}", port)
            net.ip(f"link set {port} master br{n}")
        host.batch(*(f"addr add {each}" for n in (0, 1) for each in addresses(number, n)))
    return a, b, net


def stranger(lab: Lab, net: Host) -> Host:
    """Another host, 10.1.0.66 on the bridge br0 of two_links()."""
    x = lab.host("x")
    lab.link(x, net, "x0")
    net.ip("link set x0 master br0")
    x.ip("addr add 10.1.0.66/24 dev x0")
    return x


def addresses(number: int, link: int, host: int = 0) -> list[str]:
    """What host 1 or 2 has on a link of two_links(), as `ip addr add` takes it.

    Args:
        number: of the host.
        link: 0 or 1.
        host: what its addresses end with; 0 for the number.
    """
    last, net = host or number, link + 1
    return [f"10.{net}.0.{last}/24 dev eth{link}", f"fd{net:02}::{last}/64 dev eth{link} nodad"]
