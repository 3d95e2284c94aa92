"""Every call from C: linked in each of the ways there are, or preloaded; under valgrind."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from lab import BIN

SOURCE = Path(__file__).with_name("exercise.c")
MHOSTCTL = str(BIN / "mhostctl")
SOCKETS = ("-include", "mhost_sockets.h")
# In `make asan` the library has them, and so has what is linked with it.
SANITIZE = (
    ["-fsanitize=address,undefined"] if "libasan" in os.environ.get("LD_PRELOAD", "") else []
)
VALGRIND = [
    "valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full", "--trace-children=yes",
    "--errors-for-leak-kinds=definite", "--show-leak-kinds=definite", "--fair-sched=yes",
]  # fmt: skip


def flags(*words):
    return subprocess.run(
        [MHOSTCTL, "dev", *words], capture_output=True, text=True, check=True
    ).stdout.split()


def pkg_config():
    env = {**os.environ, "PKG_CONFIG_PATH": flags("--pkgconfig")[0]}
    argv = ["pkg-config", "--cflags", "--libs", "mhost"]
    return subprocess.run(
        argv, env=env, capture_output=True, text=True, check=True
    ).stdout.split()


WAYS = {
    "shared": lambda: [*SOCKETS, *flags("--cflags", "--libs")],
    "static": lambda: [*SOCKETS, *flags("--cflags", "--libs", "--static")],
    "pkg-config": lambda: [*SOCKETS, *pkg_config()],
    "preloaded": lambda: flags("--cflags"),
}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    """program(way): the command to run it."""
    directory = tmp_path_factory.mktemp("exercise")

    def build(way):
        path = directory / way
        more = WAYS[way]()
        argv = [
            "cc",
            "-std=c11",
            "-D_GNU_SOURCE",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-g",
            "-pthread",
        ]
        subprocess.run([*argv, *SANITIZE, "-o", path, SOURCE, *more], check=True)
        return [MHOSTCTL, "run", "--", str(path)] if way == "preloaded" else [str(path)]

    return build


def done(argv, env):
    result = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=100)
    assert (result.stdout, result.stderr, result.returncode) == ("done\n", "", 0)


@pytest.mark.parametrize("way", WAYS)
def test_every_call(pair, program, way):
    done(program(way), pair[0].env)


def test_over_zeromq(pair, program):
    done(program("shared"), {**pair[0].env, "MHOST_LANE": "zmq"})


@pytest.mark.parametrize("way", ["shared", "preloaded"])
def test_under_valgrind(pair, program, way):
    assert shutil.which("valgrind"), "make setup installs it"
    argv = program(way)
    at = len(argv) - 1
    done([*argv[:at], *VALGRIND, *argv[at:]], pair[0].env)
