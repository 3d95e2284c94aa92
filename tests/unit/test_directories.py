"""The configuration decides which directory it is."""

import asyncio
import sys
import threading

import pytest
import uvloop

from mhostd.config import LEASE_MAX_S as CONFIG_LEASE_MAX_S
from mhostd.config import Config, ConfigError, Directory
from mhostd.directories import open_directory
from mhostd.host.directory import LEASE_MAX_S, Record

A = "2001:20::a"
RECORD = Record(A, 1, ("10.0.1.1",), 7000)


def found(config, state_dir, **how):
    """Put a record, and wait until it is found; the threads of the callbacks."""

    async def go():
        loop = asyncio.get_running_loop()
        directory = open_directory(config, state_dir, loop, **how)
        there, threads = asyncio.Event(), set()

        def said(record):
            threads.add(threading.current_thread())
            if record == RECORD:
                there.set()

        directory.watch(A, said)
        directory.put(RECORD, config.directory.lease_s)
        await asyncio.wait_for(there.wait(), 60)
        closed = asyncio.Event()
        directory.close(closed.set)
        await asyncio.wait_for(closed.wait(), 60)
        return threads

    return uvloop.run(go())


def test_by_default_it_is_a_folder_beneath_the_state_directory(tmp_path):
    assert found(Config(), tmp_path) == {threading.main_thread()}
    assert [path.name for path in (tmp_path / "directory").iterdir()] == [".lock"]


def test_the_folder_can_be_named(tmp_path):
    found(Config(directory=Directory(path=str(tmp_path / "here"))), tmp_path / "state")
    assert [path.name for path in tmp_path.iterdir()] == ["here"]


def test_callbacks_go_by_soon_if_it_is_given(tmp_path):
    calls = []

    def soon(callback):
        calls.append(threading.current_thread())
        asyncio.get_running_loop().call_soon(callback)

    found(Config(), tmp_path, soon=soon)
    assert set(calls) == {threading.main_thread()}


def test_there_need_be_none(tmp_path):
    async def go():
        config = Config(directory=Directory(backend="none"))
        directory = open_directory(config, tmp_path, asyncio.get_running_loop())
        answer = asyncio.get_running_loop().create_future()
        directory.get(A, answer.set_result)
        assert await answer is None

    uvloop.run(go())
    assert list(tmp_path.iterdir()) == []


def test_without_httpx_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "mhostd.etcd_gateway", raising=False)
    monkeypatch.setitem(sys.modules, "httpx", None)
    config = Config(directory=Directory(backend="etcd", endpoints=["http://127.0.0.1:1"]))
    loop = asyncio.new_event_loop()
    with pytest.raises(ConfigError, match=r"etcd needs httpx; `pip install 'mhostd\[etcd\]'`"):
        open_directory(config, tmp_path, loop)
    loop.close()


def test_httpx_is_not_loaded_before_it_is_needed():
    import subprocess

    code = "import sys, mhostd.directories; print('httpx' in sys.modules)"
    assert subprocess.check_output([sys.executable, "-c", code]) == b"False\n"


def test_the_configuration_allows_no_lease_that_is_refused_later():
    assert CONFIG_LEASE_MAX_S == LEASE_MAX_S
