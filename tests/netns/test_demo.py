"""`make demo`: the main job on two hosts, and what it leaves behind."""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "demo"
FAILOVER = DEMO / "failover.py"


@pytest.fixture
def tmp_path():
    """A short one: the path of a socket has room for 107 octets."""
    with tempfile.TemporaryDirectory(prefix="demo-") as directory:
        yield Path(directory)


@pytest.fixture
def start(tmp_path):
    """start(program): a demo as a process whose files are in a directory of its own."""
    env = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    processes = []

    def run(program):
        # A shell gives what it runs in the background SIGINT ignored.
        argv = ["env", "--default-signal=INT", sys.executable, str(program)]
        processes.append(
            subprocess.Popen(
                argv, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
        )
        return processes[-1]

    yield run
    for process in processes:
        process.kill()
        process.communicate()


@pytest.fixture
def demo(start):
    """The demo."""
    return start(DEMO)


def started(directory):
    """Command lines of the processes that a demo with this TMPDIR has started and that live.

    Nothing else on the machine is looked at: a demo or a suite beside this one has its own.
    """
    variable = f"TMPDIR={directory}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if variable in (path / "environ").read_bytes().split(b"\0"):
                found.append((path / "cmdline").read_bytes())
        except OSError:
            continue
    return found


HOLDER = b"sleep\0infinity\0"  # the process that keeps a namespace


def test_every_step_of_the_demo_passes_and_nothing_is_left(demo, tmp_path):
    output = demo.communicate(timeout=90)[0]
    last = output.splitlines()[-1]
    match = re.fullmatch(r"demo: (\d+) of (\d+) passed", last)
    assert match, output
    assert match[1] == match[2], output
    assert int(match[2]) >= 20
    assert "FAIL" not in output
    assert demo.returncode == 0
    assert not started(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_stream_comes_back_from_every_event_of_the_other_demo(start, tmp_path):
    demo = start(FAILOVER)
    output = demo.communicate(timeout=110)[0]
    assert demo.returncode == 0, output
    events = re.findall(r"^(.+): longest gap (\d+) ms, lost (\d+)$", output, re.MULTILINE)
    assert [name for name, _gap, _lost in events] == [
        "planned move", "carrier loss", "silent cut", "to IPv4 of mhostd", "to IPv6",
        "to Ethernet", "to the kernel's IPv4",
    ]  # fmt: skip
    assert not started(tmp_path)
    assert not list(tmp_path.iterdir())


UNDER_WAY = [(DEMO, "ok"), (FAILOVER, "a stream of")]  # with what a line begins by then


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(("program", "line"), UNDER_WAY)
def test_an_interrupted_demo_leaves_nothing(start, tmp_path, program, line, number):
    demo = start(program)
    assert any(each.startswith(line) for each in demo.stdout)
    demo.send_signal(number)
    output = demo.communicate(timeout=30)[0]
    assert demo.returncode == 130, output
    assert not started(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("program", "line"), UNDER_WAY)
def test_a_killed_demo_takes_its_namespaces_and_daemons_with_it(start, tmp_path, program, line):
    demo = start(program)
    assert any(each.startswith(line) for each in demo.stdout)
    assert HOLDER in started(tmp_path)
    demo.kill()
    demo.wait()
    deadline = time.monotonic() + 10
    while started(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not started(tmp_path)
