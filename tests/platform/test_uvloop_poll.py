"""Why mhostd/poller.py puts one epoll instance under the event loop."""

import asyncio
import select
import socket

import uvloop

IP_RECVERR = 11


def refused_socket():
    """A UDP socket with an ICMP error in its error queue."""
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    s.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
    s.bind(("127.0.0.1", 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    s.sendto(b"to nobody", ("127.0.0.1", port))
    return s


def count_wakes(watch_fd, s):
    """How often the loop calls back for an error, then for a datagram after it."""
    wakes = []

    async def run():
        loop = asyncio.get_running_loop()

        def on_readable():
            wakes.append("wake")
            for flags in (socket.MSG_ERRQUEUE, 0):
                try:
                    wakes.append(s.recvmsg(100, 512, flags)[0])
                except OSError:
                    pass

        loop.add_reader(watch_fd(s), on_readable)
        await asyncio.sleep(0.2)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"after", s.getsockname())
        await asyncio.sleep(0.2)
        loop.remove_reader(watch_fd(s))

    uvloop.run(run())
    return wakes


def test_under_an_epoll_instance_an_error_queue_does_not_end_the_watch():
    with refused_socket() as s, select.epoll() as epoll:
        epoll.register(s.fileno(), select.EPOLLIN)
        assert b"after" in count_wakes(lambda _s: epoll.fileno(), s)


def test_libuv_alone_ends_the_watch_at_the_first_error():
    with refused_socket() as s:
        assert b"after" not in count_wakes(lambda s: s.fileno(), s)
