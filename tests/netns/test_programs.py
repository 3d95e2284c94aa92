"""Programs of Debian on mhostd's sockets, unchanged, against themselves and the kernel's."""

import contextlib
import json
import os
import subprocess
from pathlib import Path

import pytest
from lab import BIN

OURS, KERNEL = "ours", "kernel"
ENDS = [(OURS, OURS), (OURS, KERNEL), (KERNEL, OURS)]  # server, client
TUN = {4: "10.77.2.1", 6: "fd77:2::1"}
HOST = {4: "192.0.2.2", 6: "2001:db8::2"}


def argv_of(end, argv):
    """A command with its UDP sockets on mhostd, or as it is."""
    return [str(BIN / "mhostctl"), "run", "--family=inet", "--", *argv] if end == OURS else argv


class Server:
    """A program that serves on host b until it is ended."""

    def __init__(self, host, end, argv, port, tmp_path, tcp):
        self.host, self.end, self.port, self.tcp = host, end, port, tcp
        self.log = tmp_path / "server"
        with self.log.open("wb") as log:
            self.process = host.popen(
                *argv_of(end, argv), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        for _ in range(500):
            if self.is_bound():
                return
            assert self.process.poll() is None, self.said()
        raise AssertionError(f"{argv[0]} does not listen: {self.said()}")

    def is_bound(self):
        if self.tcp:
            table = self.host.run("cat", "/proc/net/tcp6").stdout
            listening = f":{self.port:04X} {'0' * 32}:0000 0A "
            return listening in table
        if self.end == OURS:
            return any(row["port"] == self.port for row in self.host.show("sockets"))
        inode = f":{self.port:04X} "
        return inode in self.host.run("cat", "/proc/net/udp", "/proc/net/udp6").stdout

    def said(self):
        return self.log.read_text()

    def close(self):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, 9)
        self.process.wait(10)


@pytest.fixture
def serve(pair, tmp_path):
    """serve(end, argv, port): a program on host b, where its port is bound."""
    servers = []

    def start(end, argv, port, *, tcp=False):
        servers.append(Server(pair[1], end, argv, port, tmp_path, tcp))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
    for _ in range(200):
        if not pair[1].show("sockets"):
            return
    raise AssertionError("sockets are left open")


@pytest.fixture
def client(pair):
    """client(end, argv, stdin): what a program on host a writes."""

    def run(end, argv, stdin="", cwd=None):
        host = pair[0]
        done = subprocess.run(
            host.command(*argv_of(end, argv)), env=host.env, input=stdin, text=True, cwd=cwd,
            capture_output=True, timeout=60,
        )  # fmt: skip
        assert "UDP sockets are the kernel's" not in done.stderr
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def addresses(server, version=4):
    """Where a server of that kind is to be reached."""
    return [HOST[version], TUN[version]] if server == OURS else [HOST[version]]


ends = pytest.mark.parametrize(("server", "by"), ENDS)


@ends
@pytest.mark.parametrize("version", [4, 6])
def test_socat_echoes(serve, client, server, by, version):
    """Its server forks for each datagram, and has another program answer."""
    argv = ["socat", f"UDP{version}-RECVFROM:7777,fork", "EXEC:/bin/cat"]
    serve(server, argv, 7777)
    for address in addresses(server, version):
        to = f"[{address}]" if version == 6 else address
        for text in ("one\n", "two\n"):
            argv = ["socat", "-T", "10", "-,ignoreeof", f"UDP{version}:{to}:7777,readbytes=4"]
            assert client(by, argv, text) == text


@pytest.mark.native
@ends
def test_socat_forks_for_each_peer(serve, client, server, by):
    """A child connects the socket that its parent had bound, which then binds another."""
    serve(server, ["socat", "UDP4-LISTEN:7778,fork,reuseaddr", "EXEC:/bin/cat"], 7778)
    for address in addresses(server):
        for text in ("one\n", "two\n"):
            argv = ["socat", "-T", "10", "-,ignoreeof", f"UDP4:{address}:7778,readbytes=4"]
            assert client(by, argv, text) == text


@ends
def test_dig_asks_dnsmasq(serve, client, server, by):
    """dig has threads and libuv, dnsmasq sends with IP_PKTINFO."""
    argv = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-resolv",
        "--no-hosts", "--user=root", "--port=5353", "--log-facility=-",
        "--address=/robot.test/192.0.2.99", "--pid-file=",
    ]  # fmt: skip
    serve(server, argv, 5353)
    for address in addresses(server):
        for name, answer in {"robot.test": "192.0.2.99\n", "other.test": ""}.items():
            argv = ["dig", "+short", "+tries=1", "+time=10", "-p", "5353", f"@{address}", name]
            assert client(by, argv) == answer


@ends
def test_iperf3(serve, client, server, by):
    """What its two ends tell each other goes over TCP, which is the kernel's."""
    listening = serve(server, ["iperf3", "--server", "--one-off", "--json"], 5201, tcp=True)
    argv = [
        "iperf3", "--udp", "--client", HOST[4], "--bitrate=8M", "--blockcount=500",
        "--length=1000", "--json",
    ]  # fmt: skip
    said = json.loads(client(by, argv))
    assert "error" not in said, (said["error"], listening.said())
    assert said["end"]["sum"]["packets"] == 500
    assert said["end"]["sum"]["lost_packets"] == 0
    assert listening.process.wait(20) == 0
    # It stops when the client says so over TCP, and may not have taken the last by then.
    assert json.loads(listening.said())["end"]["sum"]["packets"] > 400


@ends
def test_nc(serve, client, server, by):
    for address in addresses(server):
        listening = serve(server, ["nc", "-u", "-l", "-W", "1", "7779"], 7779)
        client(by, ["nc", "-u", "-q", "0", address, "7779"], "by netcat\n")
        assert listening.process.wait(10) == 0
        assert listening.said() == "by netcat\n"


@ends
def test_tftp(serve, client, tmp_path, server, by):
    """dnsmasq serves from a socket of its own for each file."""
    (tmp_path / "served").mkdir()
    octets = "".join(f"line {i}\n" for i in range(3000))
    (tmp_path / "served" / "file").write_text(octets)
    argv = [
        "dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--user=root",
        "--log-facility=-", "--enable-tftp", f"--tftp-root={tmp_path}/served", "--pid-file=",
    ]  # fmt: skip
    serve(server, argv, 69)
    for address in addresses(server):
        client(by, ["tftp", "-m", "binary", address, "-c", "get", "file"], cwd=tmp_path)
        assert Path(tmp_path / "file").read_text() == octets
        (tmp_path / "file").unlink()
