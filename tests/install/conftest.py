"""An installation into a scratch root, by the script as it is."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import pytest
from lab import Lab

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def offline(tmp_path_factory):
    """An environment in which pip finds here what it would get from PyPI.

    All but mhostd itself, which has to come from the installation.
    """
    packages = tmp_path_factory.mktemp("packages")
    for path in Path(sysconfig.get_path("platlib")).iterdir():
        if not path.name.startswith(("mhost", "pip", "_distutils_hack", "distutils")):
            (packages / path.name).symlink_to(path)
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",  # meson and ninja
        "PYTHON": str(getattr(sys, "_base_executable", sys.executable)),
        "PYTHONPATH": str(packages),
        "PIP_NO_INDEX": "1",
        "PIP_NO_BUILD_ISOLATION": "0",  # pip reads it the other way round: no isolation
    }


@pytest.fixture(scope="session")
def install(offline):
    """install(*arguments) runs install.sh."""

    def run(*argv, check=True, **env):
        done = subprocess.run(
            [ROOT / "install.sh", *map(str, argv)],
            env={**offline, **env},
            capture_output=True,
            text=True,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def installed(install, offline, tmp_path_factory):
    """A scratch root: its `root`, and the `env` and the `lines` of the installation."""
    root = tmp_path_factory.mktemp("root")
    done = install("--root", root)
    return SimpleNamespace(root=root, env=offline, lines=done.stdout.splitlines())


@pytest.fixture
def lab():
    """An empty lab."""
    with Lab() as lab:
        yield lab
