import errno
import os
import stat
import subprocess
import sys

import pytest

from mhostd.errors import MhostError
from mhostd.lock import DeviceLock, SocketLock


@pytest.fixture
def address(tmp_path):
    return f"ipc://{tmp_path}/run/mhost.sock"


def test_a_second_daemon_is_refused_and_told_who_has_it(address):
    lock = SocketLock(address)
    with pytest.raises(MhostError, match=f"pid {os.getpid()}; stop that one") as err:
        SocketLock(address)
    assert err.value.errno == errno.EADDRINUSE
    lock.close()


def test_the_lock_is_free_again_and_leaves_no_file(address, tmp_path):
    SocketLock(address).close()
    assert list((tmp_path / "run").iterdir()) == []
    SocketLock(address).close()


def test_the_directory_is_made_if_there_is_none(address, tmp_path):
    lock = SocketLock(address)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o755
    lock.close()


def test_the_file_of_a_daemon_that_was_killed_does_not_matter(address, tmp_path):
    (tmp_path / "run").mkdir()
    path = tmp_path / "run" / "mhost.sock.lock"
    path.write_text("99999999 and more than the next one writes\n")
    lock = SocketLock(address)
    assert path.read_text() == f"{os.getpid()}\n"
    lock.close()


def test_another_process_is_refused_too(address):
    lock = SocketLock(address)
    code = "import sys; from mhostd.lock import SocketLock; SocketLock(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, address], capture_output=True, text=True
    )
    assert f"belongs to mhostd with pid {os.getpid()}" in done.stderr
    lock.close()


def test_a_lock_is_not_inherited(address):
    lock = SocketLock(address)
    assert not os.get_inheritable(lock._fd)
    lock.close()


def test_a_device_has_one_daemon():
    name = f"test{os.getpid()}"
    lock = DeviceLock(name)
    with pytest.raises(MhostError, match=f"device {name} .* pid {os.getpid()}") as err:
        DeviceLock(name)
    assert err.value.errno == errno.EBUSY
    DeviceLock(f"{name}x").close()
    lock.close()
    DeviceLock(name).close()
