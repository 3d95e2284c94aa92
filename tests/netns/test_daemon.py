"""The process: it starts, refuses a second one, reloads, and leaves nothing behind."""

import json
import signal
import subprocess
import time

import pytest
from lab import BIN, config, two_hosts


def until(condition, timeout_s=10):
    """Wait for something that another process does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def links(host):
    return {link["ifname"] for link in json.loads(host.run("ip", "-j", "link").stdout)}


TUN = '[tun.inet]\naddress = "10.77.1.1/24"\nhost_address = "10.77.1.254"\n'


@pytest.fixture
def host(lab):
    return lab.host("h")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_daemon_leaves_no_device_address_route_socket_or_lock(host, number):
    routes = host.run("ip", "-j", "route", "show", "table", "all").stdout
    host.start('[tun]\nroutes = ["10.99.0.0/16"]\n' + TUN)
    assert "mhost0" in links(host)
    assert host.stop(number) == 0
    assert links(host) == {"lo"}
    assert host.run("ip", "-j", "route", "show", "table", "all").stdout == routes
    # `state` is what is to outlive it.
    assert {path.name for path in host.dir.iterdir()} == {"mhostd.toml", "mhostd.log", "state"}
    assert (host.dir / "state" / "host.key").stat().st_mode & 0o777 == 0o600


def test_the_kernel_gets_host_address_mtu_and_routes(host):
    host.start('[tun]\nname = "tun7"\nmtu = 1400\nroutes = ["10.99.0.0/16"]\n' + TUN)
    device = json.loads(host.run("ip", "-j", "addr", "show", "tun7").stdout)[0]
    assert device["mtu"] == 1400
    assert "10.77.1.254" in {address["local"] for address in device["addr_info"]}
    assert "10.77.1.1" not in {address["local"] for address in device["addr_info"]}
    routes = json.loads(host.run("ip", "-j", "route").stdout)
    assert {"10.77.1.0/24", "10.99.0.0/16"} <= {route["dst"] for route in routes}


def test_a_second_daemon_on_the_same_socket_is_refused_by_name(host):
    host.start("")
    done = host.run(str(BIN / "mhostd"), "--config", str(host.dir / "mhostd.toml"), check=False)
    assert done.returncode == 1
    pid = host.show("status")["pid"]
    assert f"socket {host.socket} belongs to mhostd with pid {pid}" in done.stderr
    host.mhostctl("status")  # the first one is not disturbed


def test_a_second_daemon_on_the_same_device_is_refused_by_name(host, tmp_path):
    host.start("")
    other = tmp_path / "other.toml"
    other.write_text(
        f'[ipc]\nsocket = "ipc://{tmp_path}/m.sock"\nadmin_socket = "ipc://{tmp_path}/a.sock"\n'
    )
    done = host.run(str(BIN / "mhostd"), "--config", str(other), check=False)
    assert done.returncode == 1
    pid = host.show("status")["pid"]
    assert f"device mhost0 belongs to mhostd with pid {pid}" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"other.toml"}


def test_after_kill_9_the_next_daemon_starts_over_what_was_left(host):
    host.start(TUN)
    host.stop(signal.SIGKILL)
    assert (host.dir / "mhost.sock").exists()
    host.start(TUN)
    assert host.show("status")["sockets"] == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[tun]\nmtuu = 1400\n", "tun: Object contains unknown field `mtuu`"),
        ('[tun]\nmtu = "big"\n', "tun.mtu: Expected `int`, got `str`"),
        ('[l3.nope]\naddress = "1"\n', "l3.nope: no such handler"),
        ("[tun\n", "line 1"),
    ],
)
def test_a_bad_configuration_is_refused_with_path_and_reason(host, tmp_path, text, message):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    done = host.run(str(BIN / "mhostd"), "--config", str(path), check=False)
    assert done.returncode != 0
    assert message in done.stderr
    checked = host.mhostctl("config", "check", str(path), check=False)
    assert checked.returncode == 1
    assert message in checked.stderr
    assert len(checked.stderr.splitlines()) == 1


def test_a_configuration_that_is_not_utf8_is_refused_in_one_line(host, tmp_path):
    path = tmp_path / "latin.toml"
    path.write_bytes(b"# caf\xe9\n")
    for argv in ((BIN / "mhostd", "--config"), (BIN / "mhostctl", "config", "check")):
        done = host.run(*map(str, argv), str(path), check=False)
        assert done.returncode
        assert done.stderr.endswith("octet 5 is not UTF-8\n")
        assert len(done.stderr.splitlines()) == 1


def refused(host, text):
    """Start a daemon that cannot start; return its one line."""
    path = host.dir / "refused.toml"
    path.write_text(text)
    done = host.run(str(BIN / "mhostd"), "--config", str(path), check=False)
    assert done.returncode == 1, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("mhostd: ")]
    assert "Traceback" not in done.stderr
    assert links(host) == {"lo"}
    (line,) = lines
    return line


def test_a_socket_that_cannot_be_bound_is_refused_by_name(host, tmp_path):
    (tmp_path / "m.sock").mkdir()
    text = f'[ipc]\nsocket = "ipc://{tmp_path}/m.sock"\nadmin_socket = "ipc://{tmp_path}/a"\n'
    assert "m.sock" in refused(host, text)
    assert {path.name for path in tmp_path.iterdir()} == {"m.sock"}


def test_a_tun_address_that_the_kernel_does_not_take_is_refused_by_name(host, tmp_path):
    host.sysctl("net.ipv6.conf.all.disable_ipv6", 1)
    host.sysctl("net.ipv6.conf.default.disable_ipv6", 1)
    text = f'[ipc]\nsocket = "ipc://{tmp_path}/m"\nadmin_socket = "ipc://{tmp_path}/a"\n'
    v6 = '[tun.inet6]\naddress = "fd77:1::1/64"\nhost_address = "fd77:1::fe"\n'
    assert "device mhost0: addresses and routes" in refused(host, text + v6)


def test_sigterm_during_the_start_leaves_nothing(host, tmp_path):
    path = tmp_path / "c.toml"
    text = f'[ipc]\nsocket = "ipc://{tmp_path}/m"\nadmin_socket = "ipc://{tmp_path}/a"\n'
    path.write_text(text + TUN)
    daemon = host.popen(str(BIN / "mhostd"), "--config", str(path))
    until(lambda: (tmp_path / "m.lock").exists())
    daemon.send_signal(signal.SIGTERM)
    assert daemon.wait(10) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"c.toml"}
    assert links(host) == {"lo"}


def test_a_deleted_tun_ends_the_daemon_with_a_word(host):
    host.start(TUN)
    host.ip("link del mhost0")
    assert host.daemon.wait(10) == 1
    assert "device mhost0 was deleted; start mhostd again" in host.log()


def test_an_interface_that_comes_back_is_listened_to_again(lab):
    a, b = two_hosts(lab)
    a.start(config(1, 2))
    b.start(config(2, 1))
    app = b.app()
    app("socket", "mhost")
    _host, port = app("bind", "*", 0)
    app("echo")
    a.ip("link del eth0")
    lab.link(a, b)
    until(lambda: "device eth0 is another one now" in a.log() + b.log())
    peer = a.app()
    peer("socket", "mhost")

    def answered():
        try:
            peer("sendto", "hello", "testproto:2", port)
            return peer("recv")[0].endswith("|hello")
        except OSError:
            return False

    until(answered)


def test_a_missing_ethernet_interface_is_an_error_that_names_it(host, tmp_path):
    path = tmp_path / "eth.toml"
    text = f'[ipc]\nsocket = "ipc://{tmp_path}/m"\nadmin_socket = "ipc://{tmp_path}/a"\n'
    path.write_text(text + '[[ethernet]]\ndevice = "nope0"\n')
    done = host.run(str(BIN / "mhostd"), "--config", str(path), check=False)
    assert done.returncode == 1
    assert "device nope0" in done.stderr
    assert links(host) == {"lo"}


def test_sighup_takes_over_new_names_and_refuses_a_bad_file_whole(host):
    host.start('[hosts]\none = ["127.0.0.1"]\n')
    path = host.dir / "mhostd.toml"
    good = path.read_text()
    path.write_text(good.replace("one", "two"))
    host.daemon.send_signal(signal.SIGHUP)
    until(lambda: [h["name"] for h in host.show("hosts")] == ["two"])
    path.write_text(good + "nonsense = 1\n")
    host.daemon.send_signal(signal.SIGHUP)
    until(lambda: "nothing was changed" in host.log())
    assert [h["name"] for h in host.show("hosts")] == ["two"]


def test_a_device_that_loses_its_link_is_seen_at_once(pair):
    a, b = pair
    ups = lambda: {dev["name"]: dev["up"] for dev in a.show("status")["devices"]}  # noqa: E731
    until(lambda: ups()["eth0"])
    b.ip("link set eth0 down")
    until(lambda: not ups()["eth0"])
    app = a.app()
    app("socket", "mhost")
    with pytest.raises(OSError, match="device eth0 is down"):
        app("sendto", "x", "testproto:2", 1)
    b.ip("link set eth0 up")
    until(lambda: ups()["eth0"])
    app("sendto", "x", "testproto:2", 1)


def test_status_says_when_routes_and_forwarding_are_missing(lab):
    host = lab.host("h")
    v6 = '[tun.inet6]\naddress = "fd77:1::1/64"\nhost_address = "fd77:1::fe"\n'
    host.start(
        TUN + 'prefixes = ["10.77.0.0/16"]\n' + v6 + 'prefixes = ["fd77::/16"]\n'
        '[hosts]\npeer = ["10.77.2.1", "fd77:2::1", "10.77.1.1"]\n'
    )
    warnings = " ".join(host.show("status")["warnings"])
    assert "sysctl -w net.ipv4.ip_forward=1" in warnings
    assert "sysctl -w net.ipv6.conf.all.forwarding=1" in warnings
    assert "no route from mhost0 to 10.77.2.1" in warnings
    assert "no route from mhost0 to fd77:2::1" in warnings
    assert "to 10.77.1.1" not in warnings


def test_status_has_nothing_to_warn_of_when_they_are_there(pair):
    a, _b = pair
    assert a.show("status")["warnings"] == []


def test_an_idle_daemon_is_small(pair):
    a, _b = pair
    before = a.show("status")
    time.sleep(1)
    after = a.show("status")
    assert after["rss_kib"] < 80 * 1024
    share = (after["cpu_s"] - before["cpu_s"]) / (after["uptime_s"] - before["uptime_s"])
    print(f"idle daemon: {share:.2%} of a core, {after['rss_kib'] / 1024:.1f} MiB")


def test_python_m_mhostd_says_its_version():
    done = subprocess.run(
        [BIN / "python", "-m", "mhostd", "--version"], cwd="/", capture_output=True, text=True
    )
    assert done.stdout.startswith("mhostd ")
