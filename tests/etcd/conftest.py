"""A real etcd for each test: its own process, ports and data, on loopback."""

from __future__ import annotations

import asyncio
import base64
import shutil
import signal
import socket
import subprocess
import time

import httpx
import pytest
import uvloop

from mhostd.config import Config, Directory
from mhostd.directories import open_directory
from mhostd.host.directory import Record

A, B = "2001:20::a", "2001:20::b"
DEADLINE_S = 60.0


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def b64(text):
    return base64.b64encode(text.encode()).decode()


class Etcd:
    """One member, of a cluster of one.

    Attributes:
        url: where it is asked.
    """

    def __init__(self, path, tls=None):
        self.path = path
        self.port, self._peer_port = free_port(), free_port()
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self.port}"
        self._tls = tls
        self._process = None
        self._log = (path.parent / f"{path.name}.log").open("ab")

    def start(self):
        peer = f"http://127.0.0.1:{self._peer_port}"
        options = {
            "data-dir": self.path,
            "listen-client-urls": self.url,
            "advertise-client-urls": self.url,
            "listen-peer-urls": peer,
            "initial-advertise-peer-urls": peer,
            "initial-cluster": f"default={peer}",
        }
        if self._tls:
            options |= {
                "trusted-ca-file": self._tls / "ca.pem",
                "cert-file": self._tls / "server.pem",
                "key-file": self._tls / "server.key",
                "client-cert-auth": "true",
            }
        argv = ["etcd", *(f"--{key}={value}" for key, value in options.items())]
        self._process = subprocess.Popen(argv, stdout=self._log, stderr=self._log)
        end = time.monotonic() + DEADLINE_S
        while True:
            assert self._process.poll() is None, "etcd has ended"
            assert time.monotonic() < end
            try:
                with socket.create_connection(("127.0.0.1", self.port)):
                    pass
                if self._tls or self.call("kv/range", key=b64("x"), may_fail=True) is not None:
                    return
            except (OSError, httpx.HTTPError):
                pass
            time.sleep(0.05)

    def signal(self, number):
        self._process.send_signal(number)

    def kill(self):
        """As the kernel does when there is no memory left."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, meanwhile_s=0.0):
        self.kill()
        time.sleep(meanwhile_s)
        self.start()

    def close(self):
        self.kill()
        self._log.close()

    def call(self, path, may_fail=False, token=None, **body):
        """Ask it past our own code."""
        headers = {"Authorization": token} if token else {}
        with httpx.Client(trust_env=False, verify=False, timeout=10) as client:
            answer = client.post(f"{self.url}/v3/{path}", json=body, headers=headers)
        if answer.status_code != 200 and not may_fail:
            raise AssertionError(answer.text)
        return answer.json()

    def value(self, key):
        kvs = self.call("kv/range", key=b64(key)).get("kvs")
        return base64.b64decode(kvs[0]["value"]) if kvs else None


class Fleet:
    """Daemons of this test, in its event loop."""

    def __init__(self):
        self._all = []

    def open(self, etcd, **how):
        how = {"endpoints": [etcd.url], **how}
        config = Config(directory=Directory(backend="etcd", **how))
        made = open_directory(config, etcd.path, asyncio.get_running_loop())
        self._all.append(made)
        return made

    async def close(self, directory=None):
        for one in [directory] if directory else list(self._all):
            self._all.remove(one)
            closed = asyncio.Event()
            one.close(closed.set)
            await asyncio.wait_for(closed.wait(), DEADLINE_S)

    @staticmethod
    def record(number=1, identifier=A):
        return Record(identifier, number, ("10.0.1.1", "testproto:7"), 7000)

    @staticmethod
    async def until(condition):
        """Wait until it holds; it may be a coroutine function."""
        end = time.monotonic() + DEADLINE_S
        while True:
            value = condition()
            if asyncio.iscoroutine(value):
                value = await value
            if value:
                return
            assert time.monotonic() < end
            await asyncio.sleep(0.02)

    @staticmethod
    async def get(directory, identifier=A):
        answer = asyncio.get_running_loop().create_future()
        directory.get(identifier, answer.set_result)
        return await asyncio.wait_for(answer, DEADLINE_S)

    @staticmethod
    async def txn(directory, expected, record, lease_s=60):
        answer = asyncio.get_running_loop().create_future()
        directory.txn(record.identifier, expected, record, lease_s, answer.set_result)
        return await asyncio.wait_for(answer, DEADLINE_S)


@pytest.fixture(scope="session", autouse=True)
def _binary():
    assert shutil.which("etcd"), "apt-get install etcd-server"


@pytest.fixture
def make_etcd(tmp_path):
    """make(tls): any number of clusters of one member."""
    made = []

    def make(tls=None, start=True):
        etcd = Etcd(tmp_path / f"etcd{len(made)}", tls)
        made.append(etcd)
        if start:
            etcd.start()
        return etcd

    yield make
    for etcd in made:
        etcd.close()


@pytest.fixture
def etcd(make_etcd):
    return make_etcd()


@pytest.fixture
def run():
    """run(scenario): a coroutine function that is given a Fleet, in uvloop."""

    def go(scenario):
        async def all_of_it():
            fleet = Fleet()
            try:
                async with asyncio.timeout(100):
                    await scenario(fleet)
            finally:
                await fleet.close()

        uvloop.run(all_of_it())

    return go


@pytest.fixture(scope="session")
def stopped():
    """stopped(etcd): a context in which it has been sent SIGSTOP."""
    from contextlib import contextmanager

    @contextmanager
    def stop(etcd):
        etcd.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            etcd.signal(signal.SIGCONT)

    return stop
