"""AF_MHOST under asyncio's own loop and under uvloop."""

import asyncio
import select
import socket

import mhost
import pytest
import uvloop

from mhostd.uapi import ExtendedErr, SockaddrMhost, SockError


class Recorder(asyncio.DatagramProtocol):
    def __init__(self):
        self.datagrams = asyncio.Queue()
        self.errors = asyncio.Queue()
        self.lost = asyncio.Event()

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        self.datagrams.put_nowait((data, addr))

    def error_received(self, exc):
        self.errors.put_nowait(exc)

    def connection_lost(self, exc):
        self.lost.set()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    runner = asyncio.run if request.param == "asyncio" else uvloop.run
    return lambda coroutine: runner(asyncio.wait_for(coroutine, 20))


def test_endpoints_talk_and_close(run):
    async def main():
        server, recorder = await mhost.create_datagram_endpoint(Recorder, ("*", 0))
        port = server.get_extra_info("sockname")[1]
        client, answers = await mhost.create_datagram_endpoint(
            Recorder, remote_addr=("me", port)
        )
        assert client.get_extra_info("peername") == ("me", port)
        assert server.get_extra_info("peername") is None
        assert server.get_extra_info("socket").fileno() >= 0
        for i in range(300):
            client.sendto(b"%d" % i)
        for i in range(300):
            data, source = await recorder.datagrams.get()
            assert data == b"%d" % i
        server.sendto(b"answer", source)
        assert (await answers.datagrams.get())[0] == b"answer"
        for transport, protocol in ((server, recorder), (client, answers)):
            transport.close()
            assert transport.is_closing()
            await protocol.lost.wait()

    run(main())


def test_an_error_reaches_the_protocol(run):
    async def main():
        transport, recorder = await mhost.create_datagram_endpoint(Recorder)
        transport.sendto(bytes(70_000), ("127.0.0.1", 9))
        assert (await recorder.errors.get()).errno == 90
        while recorder.errors.empty():
            transport.sendto(b"x", ("no-such-host", 9))
            await asyncio.sleep(0.01)
        assert (await recorder.errors.get()).errno == 113
        transport.abort()
        await recorder.lost.wait()

    run(main())


def test_errors_on_the_error_queue_reach_the_protocol_once_and_keep_no_loop_awake(run):
    async def main():
        transport, recorder = await mhost.create_datagram_endpoint(Recorder)
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.IPPROTO_IP, 11, 1)  # IP_RECVERR
        transport.sendto(b"x", ("127.0.0.1", 9))
        assert isinstance(await recorder.errors.get(), ConnectionRefusedError)
        queued = ExtendedErr(1, 0, 0, 1500, None, b"x")  # of this host: SO_EE_ORIGIN_LOCAL
        sa = SockaddrMhost(socket.AF_INET, 9, bytes(16))
        sock._sk.fail(SockError(1, 90, "Message too long", sa, True, False, queued))
        assert (await recorder.errors.get()).errno == 90
        while select.select([sock], [], [], 0)[0]:
            await asyncio.sleep(0.001)
        assert recorder.errors.empty()
        transport.abort()
        await recorder.lost.wait()

    run(main())


def test_the_loop_can_wait_on_the_socket_itself(run, bound, sender):
    sock, port = bound
    sock.setblocking(False)

    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        loop.add_reader(sock.fileno(), lambda: future.set_result(sock.recv(10)))
        sender.sendto(b"hello", ("127.0.0.1", port))
        assert await future == b"hello"
        loop.remove_reader(sock.fileno())

    run(main())


def test_a_socket_and_an_address_together_are_refused(run, bound):
    async def main():
        with pytest.raises(ValueError, match="not both"):
            await mhost.create_datagram_endpoint(Recorder, ("*", 0), sock=bound[0])

    run(main())
