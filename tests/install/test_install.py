"""install.sh into a scratch root: what is there runs, is kept, and goes again."""

import shutil
import subprocess
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = {"usr/local/bin/mhostd", "usr/local/bin/mhostctl"}
PAGES = {
    "usr/local/share/man/man1/mhostctl.1",
    "usr/local/share/man/man3/libmhost.3",
    "usr/local/share/man/man8/mhostd.8",
    "usr/local/share/bash-completion/completions/mhostctl",
    "usr/local/share/zsh/site-functions/_mhostctl",
}
SERVICE = {
    "usr/local/lib/systemd/system/mhostd.service",
    "usr/local/lib/sysusers.d/mhostd.conf",
}
CONFIG = "etc/mhostd/mhostd.toml"


def outside_venv(root):
    """Every file and link but those of /opt/mhostd."""
    paths = (path.relative_to(root) for path in root.rglob("*") if not path.is_dir())
    return {str(path) for path in paths if path.parts[:2] != ("opt", "mhostd")}


def test_everything_is_where_users_systemd_man_and_shells_look(installed):
    assert outside_venv(installed.root) == COMMANDS | PAGES | SERVICE | {CONFIG}
    for name in COMMANDS | PAGES:
        path = installed.root / name
        assert path.resolve().is_relative_to(installed.root / "opt/mhostd")
        assert not path.readlink().is_absolute()  # also right once the root is `/`
    assert (installed.root / CONFIG).read_text() == (ROOT / "systemd/mhostd.toml").read_text()
    assert (installed.root / CONFIG).stat().st_mode & 0o777 == 0o644
    assert len(installed.lines) > 3
    assert all(line.startswith("mhostd: ") for line in installed.lines)


def test_its_daemon_runs_and_its_mhostctl_asks_it(installed, lab):
    host = lab.host("h")
    text = (
        (installed.root / CONFIG).read_text().replace("ipc:///run/mhostd", f"ipc://{host.dir}")
    )
    config = host.dir / "mhostd.toml"
    config.write_text(text)
    bin_dir = installed.root / "usr/local/bin"
    env = {**host.env, "PYTHONPATH": installed.env["PYTHONPATH"]}
    daemon = subprocess.Popen(
        host.command(str(bin_dir / "mhostd"), "--config", str(config)), env=env
    )
    host.processes.append(daemon)
    ask = host.command(str(bin_dir / "mhostctl"), "status")
    deadline = time.monotonic() + 30
    while (done := subprocess.run(ask, env=env, capture_output=True, text=True)).returncode:
        assert daemon.poll() is None
        assert time.monotonic() < deadline, done.stderr
        time.sleep(0.05)
    assert f"pid {daemon.pid} " in done.stdout
    assert "mhost0" in done.stdout
    loaded = Path(f"/proc/{daemon.pid}/maps").read_text()
    assert str(installed.root / "opt/mhostd/lib") in loaded  # its C, not that of these tests


def test_a_second_run_upgrades_and_keeps_the_configuration(install, installed):
    config, venv = installed.root / CONFIG, installed.root / "opt/mhostd"
    sample = config.read_text()
    config.write_text(sample + "# mine\n")
    (code,) = venv.glob("lib/python*/site-packages/mhostd/main.py")
    code.write_text("an older release\n")
    try:
        done = install("--root", installed.root)
        assert f"keeping {config}" in done.stdout
        assert config.read_text() == sample + "# mine\n"
        assert code.read_text() == (ROOT / "mhostd/main.py").read_text()
        assert outside_venv(installed.root) == COMMANDS | PAGES | SERVICE | {CONFIG}
    finally:
        config.write_text(sample)


def test_a_root_that_was_moved_still_runs(installed, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(installed.root, moved, symlinks=True)
    for name in ("mhostctl", "mhostd"):
        argv = [moved / "usr/local/bin" / name, "--version"]
        done = subprocess.run(argv, env=installed.env, capture_output=True, text=True)
        assert done.stdout.startswith(f"{name} "), done.stderr
    script = (moved / "opt/mhostd/bin/mhostctl").read_text()
    assert str(installed.root) not in script


def test_uninstall_removes_what_was_installed_and_keeps_configuration(
    install, installed, tmp_path
):
    root = tmp_path / "root"
    shutil.copytree(installed.root, root, symlinks=True)
    (root / "usr/local/bin/other").write_text("of somebody else")
    (root / "usr/local/share/man/man8/mhostd.8").unlink()
    (root / "usr/local/share/man/man8/mhostd.8").write_text("of somebody else")
    done = install("--uninstall", "--root", root)
    assert "kept: " in done.stdout
    assert outside_venv(root) == {
        CONFIG, "usr/local/bin/other", "usr/local/share/man/man8/mhostd.8",
    }  # fmt: skip
    assert not (root / "opt/mhostd").exists()
    assert install("--uninstall", "--root", root).returncode == 0


def test_an_existing_configuration_that_is_refused_is_said_and_kept(install, installed):
    config = installed.root / CONFIG
    sample = config.read_text()
    config.write_text("[tun]\nmtuu = 1\n")
    try:
        done = install("--root", installed.root, check=False)
        assert done.returncode == 1
        assert "tun: Object contains unknown field `mtuu`" in done.stderr
        assert f"correct {config}" in done.stderr
        assert config.read_text() == "[tun]\nmtuu = 1\n"
    finally:
        config.write_text(sample)


@pytest.mark.parametrize(
    ("argv", "code", "text"),
    [
        (["--nonsense"], 2, "usage: "),
        (["--root"], 1, "--root: want a directory"),
        (["--root", ""], 1, "--root: want a directory"),
        (["--root="], 1, "--root: want a directory"),
        (["--help"], 0, "--uninstall"),
    ],
)
def test_its_arguments(install, argv, code, text):
    done = install(*argv, check=False, PYTHON="/no/such/python")  # it would go no further
    assert done.returncode == code
    assert text in done.stdout + done.stderr


def test_who_is_not_root_is_told_so(offline):
    argv = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "sh", "-s"]
    script = (ROOT / "install.sh").read_text()  # the checkout may not be readable to nobody
    done = subprocess.run(argv, input=script, capture_output=True, text=True, cwd="/")
    assert done.returncode == 1
    assert "not root; run: sudo " in done.stderr


@pytest.mark.parametrize(
    ("python", "text"),
    [
        ("/no/such/python", "no /no/such/python; install it, or set PYTHON"),
        ("old", "is Python 3.9; mhostd needs 3.11 or later"),
    ],
)
def test_a_python_that_does_not_do_is_named(install, tmp_path, python, text):
    if python == "old":
        path = tmp_path / "python3.9"
        path.write_text("#!/bin/sh\necho 3.9\nexit 1\n")
        path.chmod(0o755)
        python = str(path)
    done = install("--root", tmp_path / "root", check=False, PYTHON=python)
    assert done.returncode == 1
    assert text in done.stderr


def test_an_environment_of_another_python_is_made_anew(install, tmp_path):
    root = tmp_path / "root"
    dead = root / "opt/mhostd/bin/python"
    dead.parent.mkdir(parents=True)
    dead.symlink_to("/no/such/python3.10")
    assert f"environment in {root}/opt/mhostd" in install("--root", root).stdout
    assert (root / "usr/local/bin/mhostctl").exists()


def test_the_unit_is_clean(installed, tmp_path):
    """Unknown keys only warn, so nothing may be said at all."""
    unit = tmp_path / "mhostd.service"
    text = (ROOT / "systemd/mhostd.service").read_text()
    unit.write_text(text.replace("/opt/mhostd", f"{installed.root}/opt/mhostd"))
    assert verify(unit) == (0, "")
    unit.write_text(unit.read_text() + "RestartSecs=1\n")
    assert "Unknown key" in verify(unit)[1]


def verify(unit):
    argv = ["systemd-analyze", "verify", "--man=no", unit]
    done = subprocess.run(argv, capture_output=True, text=True)
    return done.returncode, done.stderr


def test_the_unit_is_as_hardened_as_it_was():
    argv = ["systemd-analyze", "security", "--offline=true", "--threshold=35"]
    argv.append(str(ROOT / "systemd/mhostd.service"))
    done = subprocess.run(argv, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
