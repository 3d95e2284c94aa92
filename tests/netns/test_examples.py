"""clients/examples: the original's programs, each client with each server."""

import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from lab import BIN

EXAMPLES = Path(__file__).resolve().parents[2] / "clients/examples"
MHOSTCTL = str(BIN / "mhostctl")
PORT = 8080


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """Where `make` has put them."""
    out = tmp_path_factory.mktemp("examples")
    argv = ["make", "-s", "-C", EXAMPLES, f"OUT={out}", f"MHOSTCTL={MHOSTCTL}"]
    subprocess.run(argv, check=True)
    return out


@pytest.fixture
def program(built):
    """program(name, *args): the command for NAME, NAME_direct, NAME.py or kernel:NAME."""

    def command(name, *args):
        if name.endswith(".py"):
            return [sys.executable, str(EXAMPLES / name), *args]
        if name.endswith("_direct"):
            return [str(built / name), *args]
        if name.startswith("kernel:"):
            return [str(built / name.removeprefix("kernel:")), *args]
        family = "mhost" if name.startswith("mhost") else "inet"
        return [MHOSTCTL, "run", "--family", family, "--", str(built / name), *args]

    return command


@pytest.fixture
def served(pair, program):
    """served(server, client, *args): what a server on b prints that a client on a sends.

    With said=True it is (that, what it says on standard error).
    """

    def run(server, client, *args, count=1, said=False):
        b = pair[1]
        process = b.popen(
            *program(server, str(count)), stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            text=True,
        )  # fmt: skip
        try:
            wait_until_bound(b, process, kernel=server.startswith("kernel:"))
            pair[0].run(*program(client, *args))
            out, err = process.communicate(timeout=10)
        finally:
            process.kill()
            process.communicate()
        return (out, err) if said else out

    return run


def wait_until_bound(host, process, *, kernel):
    for _ in range(500):
        assert process.poll() is None, process.communicate()
        if kernel:
            bound = f":{PORT:04X} " in host.run("cat", "/proc/net/udp", "/proc/net/udp6").stdout
        else:
            rows = host.show("sockets")
            bound = any((row["port"], row["pid"]) == (PORT, process.pid) for row in rows)
        if bound:
            return
    raise AssertionError("no server")


WAYS = {"inet": "10.77.2.1", "host_inet": "192.0.2.2"}
WAYS6 = {"inet6": "fd77:2::1", "host_inet6": "2001:db8::2"}
PLUG_INS = {"testproto": "testproto:2", "otherproto": "otherproto:0:0:0:2"}
MHOST = ["mhost_{}", "mhost_{}_direct", "mhost_{}.py"]
INET = ["inet_{}", "inet_{}.py", "kernel:inet_{}"]
INET6 = ["inet6_{}", "inet6_{}.py", "kernel:inet6_{}"]


def pairs(servers, clients, ways):
    """Those that can hear one another; two kernel programs are not ours to test."""
    for server, client, (way, address) in itertools.product(servers, clients, ways.items()):
        kernel = server.startswith("kernel:")
        if kernel and (client.startswith("kernel:") or not way.startswith("host_")):
            continue
        name = f"{client.format('client')}-{server.format('server')}-{way}"
        yield pytest.param(server.format("server"), client.format("client"), address, id=name)


@pytest.mark.parametrize(
    ("server", "client", "address"),
    [
        *pairs(MHOST, MHOST, {**WAYS, **WAYS6, **PLUG_INS, "name": "peer"}),
        *pairs(MHOST, INET, WAYS),
        *pairs(INET, MHOST, WAYS),
        *pairs(INET, INET, WAYS),
        *pairs(MHOST, INET6, WAYS6),
        *pairs(INET6, MHOST, WAYS6),
        *pairs(INET6, INET6, WAYS6),
    ],
)
def test_a_string_arrives(served, server, client, address):
    assert served(server, client, address, "a string") == "a string\n"


@pytest.mark.parametrize("server", MHOST)
@pytest.mark.parametrize("send", MHOST)
def test_mhost_send(served, server, send):
    argv = (server.format("server"), send.format("send"), "peer", "often", "3")
    assert served(*argv, count=3) == "often\n" * 3


@pytest.mark.parametrize("loopback", MHOST)
@pytest.mark.parametrize("address", ["testproto:1", "otherproto:0:0:0:1", "10.77.1.1", "me"])
def test_mhost_loopback(pair, program, loopback, address):
    done = pair[0].run(*program(loopback.format("loopback"), address))
    assert done.stdout == "looped back: hello\n"


@pytest.mark.parametrize("server", MHOST)
def test_who_sent_it(served, server):
    """It is named on standard error."""
    out, err = served(server.format("server"), "mhost_client_direct", "peer", "x", said=True)
    assert out == "x\n"
    assert err.startswith("from peer port ")


@pytest.mark.parametrize("name", [*MHOST, "inet_{}", "inet_{}.py"])
def test_wrong_arguments(pair, program, name):
    """What a program takes is said on standard error, and it ends with 2."""
    roles = ["client"] if name.startswith("inet") else ["client", "send", "loopback"]
    for role in roles:
        argv = program(name.format(role), "a", "b", "c", "d")
        done = pair[0].run(*argv, check=False)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("usage: ")


@pytest.mark.parametrize("loopback", MHOST)
def test_mhost_loopback_fails(pair, program, loopback):
    """It ends with 0 only if the string came back."""
    for address in ("nosuch:1", "testproto:zz"):
        argv = program(loopback.format("loopback"), address)
        done = pair[0].run(*argv, check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr
