"""mhostctl: what it prints, and how it ends."""

import json
import os
import subprocess
import time

import pytest
from lab import BIN

from mhostd import native

READING = ["status", "sockets", "hosts", "l3", "routes", "counters", "drops"]


def mhostctl(*argv, env=None):
    done = subprocess.run(
        [BIN / "mhostctl", *argv],
        capture_output=True,
        text=True,
        env={**os.environ, **(env or {})},
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("verb", READING)
@pytest.mark.parametrize("flag", ["-j", "--json"])
def test_json_is_one_array_or_object_with_lower_snake_keys(bound, verb, flag):
    code, out, err = mhostctl(verb, flag)
    assert (code, err) == (0, "")
    value = json.loads(out)
    rows = value if isinstance(value, list) else [value]
    assert rows
    for row in rows:
        for key in row:
            assert key == key.lower()
            assert " " not in key


@pytest.mark.parametrize("verb", READING)
def test_people_get_lines(bound, verb):
    code, out, err = mhostctl(verb)
    assert (code, err) == (0, "")
    assert out.strip()


def test_what_it_shows_is_so(bound, make_socket):
    sock, port = bound
    sock.connect(("peer", 9))
    row = next(r for r in json.loads(mhostctl("sockets", "-j")[1]) if r["port"] == port)
    lane = "shm" if native.Lane else "zmq"
    assert (row["local"], row["peer"], row["peer_port"]) == ("*", "peer", 9)
    assert (row["pid"], row["uid"], row["lane"]) == (os.getpid(), os.getuid(), lane)
    l3 = {row["name"]: row for row in json.loads(mhostctl("l3", "-j")[1])}
    own = {"inet", "inet6", "testproto", "otherproto", "mhost"}
    assert set(l3) == {"host_inet", "host_inet6"} | own
    assert l3["inet"]["addresses"] == ["10.77.1.1"]
    assert l3["host_inet"]["own_udp"]
    assert l3["host_inet"]["host_addresses"] == ["127.0.0.1", "192.0.2.1", "10.77.1.254"]
    routes = [(r["prefix"], r["l3"]) for r in json.loads(mhostctl("routes", "-j")[1])]
    assert routes.index(("10.77.1.0/24", "inet")) < routes.index(("10.77.0.0/16", "inet"))
    assert routes.index(("10.77.0.0/16", "inet")) < routes.index(("0.0.0.0/0", "host_inet"))


def test_a_locator_that_gave_an_error_shows_it_and_when_it_is_tried_again(pair, sender):
    pair[0].mhostctl("hosts", "add", "dark", "198.51.100.7")
    with pytest.raises(OSError, match="unreachable"):
        sender.sendto(b"x", ("dark", 9))
    dark = next(h for h in json.loads(mhostctl("hosts", "-j")[1]) if h["name"] == "dark")
    locator = dark["locators"][0]
    assert not locator["usable"]
    assert locator["error"] == "ENETUNREACH"
    assert 0 < locator["retry_s"] <= 30
    pair[0].mhostctl("hosts", "del", "dark")


def test_a_refusal_is_one_line_and_exit_1():
    for argv, text in (
        (("hosts", "del", "nobody"), "host nobody is not bound"),
        (("hosts", "add", "x y", "127.0.0.1"), "is no host name"),
        (("hosts", "add", "x", "nosuch:1"), "no L3 handler 'nosuch'"),
        (("l3", "down", "nosuch"), "no L3 handler nosuch"),
        (("l3", "up", "inet"), "inet is registered already"),
    ):
        code, out, err = mhostctl(*argv)
        assert (code, out) == (1, "")
        assert text in err
        assert len(err.splitlines()) == 1


@pytest.mark.parametrize("argv", [(), ("nope",), ("hosts", "add"), ("status", "--nope")])
def test_a_bad_command_line_is_exit_2(argv):
    assert mhostctl(*argv)[0] == 2


@pytest.mark.parametrize("argv", [("status",), ("hosts", "add", "x", "127.0.0.1")])
def test_no_daemon_is_exit_3_and_says_what_to_do(tmp_path, argv):
    code, out, err = mhostctl(*argv, env={"MHOST_SOCKET": f"ipc://{tmp_path}/no.sock"})
    assert (code, out) == (3, "")
    assert "systemctl start mhostd" in err
    assert len(err.splitlines()) == 1


def test_version_and_the_sample_configuration():
    assert mhostctl("--version")[1].startswith("mhostctl ")
    sample = os.path.join(os.path.dirname(__file__), "../../systemd/mhostd.toml")
    code, out, err = mhostctl("config", "check", sample)
    assert (code, err) == (0, "")
    assert out.endswith(": ok\n")
    assert mhostctl("config", "check", "/no/such/file")[0] == 1


def test_a_handler_goes_and_comes_back_under_live_sockets(pair, bound, sender):
    sock, port = bound
    sender.sendto(b"one", ("testproto:1", port))
    assert sock.recv(10) == b"one"
    assert mhostctl("l3", "down", "testproto")[0] == 0
    with pytest.raises(OSError, match="no L3 handler"):
        while True:  # it is told of later, as by a kernel socket
            sender.sendto(b"gone", ("testproto:1", port))
            time.sleep(0.001)  # not so many that no room is left for the last one
    assert mhostctl("l3", "up", "testproto")[0] == 0
    sender.sendto(b"two", ("testproto:1", port))
    while (data := sock.recv(10)) != b"two":
        assert data == b"gone"  # of those that were in its memory still


def test_the_host_kernel_itself_goes_and_comes_back_under_live_sockets(pair, bound, sender):
    sock, port = bound
    sender.sendto(b"one", ("127.0.0.1", port))
    assert sock.recv(10) == b"one"
    assert mhostctl("l3", "down", "host_inet")[0] == 0
    kernel = pair[0].app()
    kernel("socket", "inet")
    assert kernel("bind", "0.0.0.0", port)  # the kernel's port is free
    kernel("close")
    assert mhostctl("l3", "up", "host_inet")[0] == 0
    sender.sendto(b"two", ("127.0.0.1", port))
    assert sock.recv(10) == b"two"


def test_json_may_be_asked_for_before_the_verb_as_ip_does():
    assert json.loads(mhostctl("-j", "status")[1])["version"]


def test_a_reader_that_stops_reading_is_no_error(bound, make_socket):
    for _ in range(300):
        make_socket()
    command = f"{BIN / 'mhostctl'} sockets | head -1"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True)
    assert done.stderr == b""
    assert done.returncode == 0


def test_what_applications_call_themselves_does_not_reach_the_terminal(pair):
    code = r"import sys; sys.argv[0] = '\x1b[31mr\n'; import mhost; s = mhost.Socket(); input()"
    argv = [BIN / "python", "-c", code]
    with subprocess.Popen(argv, env=pair[0].env, stdin=subprocess.PIPE) as app:
        while "x1b[31mr" not in (out := mhostctl("sockets")[1]):
            assert app.poll() is None
        app.kill()
    assert "\x1b" not in out


def test_a_program_without_a_proper_name_can_open_a_socket(pair):
    code = r"import sys; sys.argv[0] = '/x/\udcff.py'; import mhost; mhost.Socket().close()"
    assert pair[0].run(str(BIN / "python"), "-c", code).returncode == 0
