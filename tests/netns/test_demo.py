"""`make demo`: the main job on two hosts, and what it leaves behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "demo"


@pytest.fixture
def demo(tmp_path):
    """The demo as a process whose files are in a directory of its own."""
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    process = subprocess.Popen(  # a shell gives what it runs in the background SIGINT ignored
        ["env", "--default-signal=INT", sys.executable, str(DEMO)], env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


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


def test_an_interrupted_demo_leaves_nothing(demo, tmp_path):
    for line in demo.stdout:
        if line.startswith("ok"):
            break
    demo.send_signal(signal.SIGINT)
    output = demo.communicate(timeout=30)[0]
    assert demo.returncode == 130, output
    assert not started(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_killed_demo_takes_its_namespaces_and_daemons_with_it(demo, tmp_path):
    for line in demo.stdout:
        if line.startswith("ok"):
            break
    assert HOLDER in started(tmp_path)
    demo.kill()
    demo.wait()
    deadline = time.monotonic() + 10
    while started(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not started(tmp_path)
