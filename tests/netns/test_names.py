"""The host's real name service: the daemon has an /etc/hosts of its own."""

import signal
import time

import pytest
from lab import BIN

RESOLVER = "[resolver]\nttl_s = 1.0\nnegative_ttl_s = 0.1\n"
OWN_FILES = """
mount --bind {dir}/hosts /etc/hosts && mount --bind {dir}/nsswitch.conf /etc/nsswitch.conf &&
exec {bin}/mhostd --config {dir}/mhostd.toml
"""


def until(condition, what, timeout_s=10):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture
def host(lab):
    """A host whose daemon reads `host.dir / "hosts"`."""
    host = lab.host("h")
    for number in (1, 2, 3):
        host.ip(f"addr add 192.0.2.{number}/32 dev lo")
    host.start(RESOLVER)
    host.stop()
    (host.dir / "hosts").write_text("192.0.2.1 robot\n192.0.2.2 robot\n")
    (host.dir / "nsswitch.conf").write_text("hosts: files\n")
    script = OWN_FILES.format(dir=host.dir, bin=BIN)
    host.daemon = host.popen("unshare", "--mount", "sh", "-c", script)
    until(lambda: not host.mhostctl("status", check=False).returncode, "no daemon")
    return host


def locators(host):
    return {
        h["name"]: [loc["locator"] for loc in h["locators"]]
        for h in host.show("hosts")
        if h["source"] == "resolver"
    }


def test_names_of_the_system_come_change_and_go(host):
    app = host.app()
    app("socket", "mhost")
    _host, port = app("bind", "*", 0)
    app("sendto", "hello", "robot", port)
    assert app("recv")[0] == "hello"
    assert sorted(locators(host)["robot"]) == ["192.0.2.1", "192.0.2.2"]

    (host.dir / "hosts").write_text("192.0.2.3 robot\n")
    until(lambda: locators(host) == {"robot": ["192.0.2.3"]}, "the TTL is over")
    app("sendto", "hello again", "robot", port)
    assert app("recv")[1:] == ["192.0.2.3", port, "host_inet lo 192.0.2.3"]

    (host.dir / "hosts").write_text("")
    until(lambda: locators(host) == {}, "the name has vanished")
    with pytest.raises(OSError, match="no usable locator"):
        for _ in range(1000):
            app("sendto", "x", "robot", port)

    (host.dir / "hosts").write_text("192.0.2.2 robot\n")
    until(lambda: _works(app, port), "its absence was remembered for a while only")


def _works(app, port):
    try:
        app("sendto", "back", "robot", port)
        return app("recv")[0] == "back"
    except OSError:
        return False


def test_sighup_turns_the_name_service_off_and_on(host):
    app = host.app()
    app("socket", "mhost")
    _host, port = app("bind", "*", 0)
    app("sendto", "hello", "robot", port)
    path = host.dir / "mhostd.toml"
    on = path.read_text()
    path.write_text(on + "system = false\n")
    host.daemon.send_signal(signal.SIGHUP)
    until(lambda: locators(host) == {}, "the resolver is off")
    with pytest.raises(OSError, match="no usable locator"):
        for _ in range(1000):
            app("sendto", "x", "robot", port)
    path.write_text(on)
    host.daemon.send_signal(signal.SIGHUP)
    until(lambda: _works(app, port), "the resolver is on again")
