"""What getaddrinfo(3) says, as locators; and that it is asked off the loop."""

import asyncio
import socket
import threading

import pytest

from mhostd.name_service import NameService, system_locators
from mhostd.sock import Locator

V4, V6 = socket.AF_INET, socket.AF_INET6


def answers(*sas):
    """As getaddrinfo gives them."""
    return [(V6 if ":" in sa[0] else V4, socket.SOCK_DGRAM, 17, "", sa) for sa in sas]


@pytest.fixture
def getaddrinfo(monkeypatch):
    """Set what getaddrinfo returns, or raises."""

    def will(result):
        def fake(_name, port, **how):
            assert (port, how) == (None, {"type": socket.SOCK_DGRAM})
            if isinstance(result, Exception):
                raise result
            return result

        monkeypatch.setattr(socket, "getaddrinfo", fake)

    return will


def test_the_order_of_the_system_is_kept_and_each_address_is_there_once(getaddrinfo):
    v6 = ("2001:db8::1", 0, 0, 0)
    getaddrinfo(answers(v6, ("192.0.2.1", 0), v6, ("fe80::1%eth0", 0, 0, 3)))
    assert system_locators("robot") == [
        Locator(V6, socket.inet_pton(V6, "2001:db8::1")),
        Locator(V4, bytes((192, 0, 2, 1))),
        Locator(V6, socket.inet_pton(V6, "fe80::1"), 3),
    ]


@pytest.mark.parametrize("name", ["EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY"])
def test_that_there_is_no_such_name_is_an_answer(getaddrinfo, name):
    getaddrinfo(socket.gaierror(getattr(socket, name), "no"))
    assert system_locators("robot") == []


@pytest.mark.parametrize("name", ["EAI_AGAIN", "EAI_FAIL", "EAI_SYSTEM", "EAI_MEMORY"])
def test_that_nobody_could_say_is_none(getaddrinfo, name):
    getaddrinfo(socket.gaierror(getattr(socket, name), "no"))
    assert system_locators("robot") is None


def test_a_label_that_is_too_long_names_nothing():
    assert system_locators("x" * 64) == []


def test_localhost_of_this_system_is_a_loopback_address():
    locators = system_locators("localhost")
    assert locators
    assert {loc.address for loc in locators} <= {bytes((127, 0, 0, 1)), bytes(15) + b"\1"}


def test_a_silent_server_holds_up_neither_the_loop_nor_another_name(monkeypatch):
    silent = threading.Event()

    def fake(name, _port, **_how):
        if name == "silent":
            silent.wait()
        return answers(("192.0.2.1", 0))

    monkeypatch.setattr(socket, "getaddrinfo", fake)

    async def story():
        loop = asyncio.get_running_loop()
        found = asyncio.Queue()
        service = NameService(loop.call_soon)
        service.ask("silent", lambda locators: found.put_nowait("silent"))
        service.ask("robot", lambda locators: found.put_nowait(locators))
        first = await found.get()
        silent.set()
        return first, await found.get()

    assert asyncio.run(story()) == ([Locator(V4, bytes((192, 0, 2, 1)))], "silent")


def test_without_a_thread_nobody_could_say(monkeypatch):
    def no_thread(_self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    said = []

    async def story():
        NameService(lambda callback: callback()).ask("robot", said.append)

    asyncio.run(story())
    assert said == [None]
