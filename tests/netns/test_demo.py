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
    process = subprocess.Popen(
        [sys.executable, str(DEMO)], env=env, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    yield process
    process.kill()
    process.communicate()


def mentions(directory):
    """Processes whose command line names the directory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = path.read_bytes()
        except OSError:
            continue
        if str(directory).encode() in text:
            found.append(text)
    return found


def holders():
    """Processes that hold a namespace of a lab."""
    argv = b"sleep\0infinity\0"
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == argv:
                found.append(os.stat(path.parent / "ns/net").st_ino)
        except OSError:
            continue
    return set(found)


def test_every_step_of_the_demo_passes_and_nothing_is_left(demo, tmp_path):
    before = holders()
    output = demo.communicate(timeout=90)[0]
    last = output.splitlines()[-1]
    match = re.fullmatch(r"demo: (\d+) of (\d+) passed", last)
    assert match, output
    assert match[1] == match[2], output
    assert int(match[2]) >= 20
    assert "FAIL" not in output
    assert demo.returncode == 0
    assert not mentions(tmp_path)
    assert not list(tmp_path.iterdir())
    assert holders() <= before


def test_an_interrupted_demo_leaves_nothing(demo, tmp_path):
    before = holders()
    for line in demo.stdout:
        if line.startswith("ok"):
            break
    demo.send_signal(signal.SIGINT)
    output = demo.communicate(timeout=30)[0]
    assert demo.returncode == 130, output
    assert not mentions(tmp_path)
    assert not list(tmp_path.iterdir())
    assert holders() <= before


def test_a_killed_demo_takes_its_namespaces_and_daemons_with_it(demo, tmp_path):
    before = holders()
    for line in demo.stdout:
        if line.startswith("ok"):
            break
    assert mentions(tmp_path)
    demo.kill()
    demo.wait()
    deadline = time.monotonic() + 10
    while (mentions(tmp_path) or not holders() <= before) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not mentions(tmp_path)
    assert holders() <= before
