"""One end of a measurement: send, receive, echo, count round trips, bind; prints JSON.

    load.py KIND ROLE HOST PORT SIZE SECONDS      KIND: mhost, zmq or kernel

zmq is mhost without shared memory. Roles that receive print their port first; HOST is where
they bind. `bind`, `busy`, `hold`, `memory`, `serve` and `spread` open SIZE sockets, the last
two at PORT and those above.
"""

from __future__ import annotations

import json
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Callable
from typing import Any

import mhost

from mhostd.uapi import Show

CHECK_EVERY = 64  # datagrams between two looks at the clock


def main() -> None:
    """Play one role."""
    kind, role, host, port, size, seconds = sys.argv[1:]
    sock: Any
    if kind == "zmq":
        os.environ["MHOST_LANE"] = "zmq"
    if kind in ("mhost", "zmq"):
        sock = mhost.Socket()
    else:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with sock:
        play = {
            "send": send,
            "sendmmsg": sendmmsg,
            "recv": recv,
            "recvfrom": recvfrom,
            "recvmmsg": recvmmsg,
            "echo": echo,
            "rtt": rtt,
            "bind": bind,
            "busy": busy,
            "hold": hold,
            "memory": memory,
            "serve": serve,
            "spread": spread,
        }[role]
        print(json.dumps(play(sock, (host, int(port)), int(size), float(seconds))), flush=True)


def send(sock: Any, to: tuple[str, int], size: int, seconds: float) -> dict[str, float]:
    """Send as fast as sendto() goes."""
    payload = bytes(size)
    start = time.monotonic()
    end = start + seconds
    count = 0
    while (now := time.monotonic()) < end:
        for _ in range(CHECK_EVERY):
            try:
                sock.sendto(payload, to)
            except ConnectionRefusedError:
                pass
        count += CHECK_EVERY
    return {"per_s": count / (now - start)}


def sendmmsg(sock: Any, to: tuple[str, int], size: int, seconds: float) -> dict[str, float]:
    """As send(), 64 datagrams at a time."""
    payloads = [bytes(size)] * CHECK_EVERY
    start = time.monotonic()
    end = start + seconds
    count = 0
    while (now := time.monotonic()) < end:
        try:
            count += sock.sendmmsg(payloads, 0, to)
        except ConnectionRefusedError:
            pass
    return {"per_s": count / (now - start)}


def recvfrom(sock: Any, at: tuple[str, int], size: int, seconds: float) -> dict[str, float]:
    """As recv(), with the source."""
    return _receive(sock, at, seconds, lambda: (sock.recvfrom(size), 1)[1])


def recvmmsg(sock: Any, at: tuple[str, int], size: int, seconds: float) -> dict[str, float]:
    """As recv(), up to 64 at a time, with their sources."""
    return _receive(sock, at, seconds, lambda: len(sock.recvmmsg(64, size)))


def _receive(
    sock: Any, at: tuple[str, int], seconds: float, take: Callable[[], int]
) -> dict[str, float]:
    _bind(sock, at)
    sock.settimeout(10)
    take()
    start = time.monotonic()
    end = start + seconds
    sock.settimeout(0.5)
    count = 0
    now = start
    try:
        while now < end:
            for _ in range(CHECK_EVERY):
                count += take()
            now = time.monotonic()
    except TimeoutError:
        now = max(now, start + 0.001)
    return {"per_s": count / (now - start)}


def recv(sock: Any, at: tuple[str, int], size: int, seconds: float) -> dict[str, float]:
    """Count what arrives, from the first datagram on."""
    return _receive(sock, at, seconds, lambda: (sock.recv(size), 1)[1])


def echo(sock: Any, at: tuple[str, int], size: int, seconds: float) -> dict[str, float]:
    """Send back what comes, until nothing comes for that long."""
    _bind(sock, at)
    sock.settimeout(10)
    count = 0
    while True:
        try:
            data, source = sock.recvfrom(size)
        except TimeoutError:
            return {"count": count}
        sock.sendto(data, source)
        sock.settimeout(seconds)
        count += 1


def rtt(sock: Any, to: tuple[str, int], size: int, seconds: float) -> dict[str, float]:
    """Ask and wait for the answer; microseconds at the middle and the 99th percentile."""
    payload = bytes(size)
    sock.settimeout(2)
    times = []
    end = time.monotonic() + seconds
    while (start := time.monotonic()) < end:
        sock.sendto(payload, to)
        sock.recv(size)
        times.append(time.monotonic() - start)
    times.sort()
    at = lambda share: 1e6 * times[int(share * (len(times) - 1))]  # noqa: E731
    return {"p50_us": at(0.5), "p99_us": at(0.99)}


def many(sock: Any, at: tuple[str, int], count: int) -> list[Any]:
    """Open sockets and bind them: to a port of their own and those above, or any."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socks = [type(sock)(sock.family, sock.type) for _ in range(count)]
    for i, each in enumerate(socks):
        each.bind((at[0], at[1] + i if at[1] else 0))
    return socks


def spread(sock: Any, at: tuple[str, int], count: int, seconds: float) -> dict[str, float]:
    """Look at so many sockets in turn; the daemon's share of a core meanwhile."""
    socks = many(sock, at, count)
    print(at[1], flush=True)
    found = 0
    while found < 3 * count:  # each flow is known
        found += sum(len(each._take_many(64, 64)) for each in socks)
    cpu_s = status(sock)["cpu_s"]
    start = time.monotonic()
    found = 0
    while time.monotonic() < start + seconds:
        found += sum(len(each._take_many(64, 64)) for each in socks)
    share = (status(sock)["cpu_s"] - cpu_s) / (time.monotonic() - start)
    return {"cpu": share, "per_s": found / (time.monotonic() - start)}


def serve(sock: Any, at: tuple[str, int], count: int, seconds: float) -> dict[str, float]:
    """Receive on so many sockets under epoll, one datagram of each that has some."""
    socks = many(sock, at, count)
    epoll = select.epoll()
    by_fd = {}
    for each in socks:
        each.setblocking(False)
        by_fd[each.fileno()] = each
        epoll.register(each.fileno(), select.EPOLLIN)
    print(at[1], flush=True)
    found = 0

    def turn() -> int:
        got = 0
        for fd, _events in epoll.poll(1, 256):
            try:
                by_fd[fd].recv(64)
                got += 1
            except BlockingIOError:
                pass
        return got

    while found < 3 * count:
        found += turn()
    end = time.monotonic() + seconds
    found = 0
    while time.monotonic() < end:
        found += turn()
    return {"per_s": found / seconds}


def memory(sock: Any, at: tuple[str, int], count: int, _seconds: float) -> dict[str, float]:
    """KiB of memory that a bound socket takes, here and in the daemon."""
    mine, daemons = rss_kib(), status(sock)["rss_kib"]
    socks = many(sock, at, count)
    figures = {
        "app_kib": (rss_kib() - mine) / count,
        "daemon_kib": (status(sock)["rss_kib"] - daemons) / count,
    }
    for each in socks:
        each.close()
    return figures


def rss_kib() -> float:
    """Resident memory of this process, what it shares included."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize() / 1024


def status(sock: Any) -> dict[str, Any]:
    """What the daemon says of itself."""
    found: dict[str, Any] = sock._sk.ask(lambda seq: Show(seq, "status"))
    return found


def bind(sock: Any, at: tuple[str, int], count: int, _seconds: float) -> dict[str, float]:
    """Open and bind sockets; microseconds each of the first and of the last tenth."""
    tenth = count // 10
    socks = []
    times = [time.monotonic()]
    for _ in range(10):
        socks += many(sock, at, tenth)
        times.append(time.monotonic())
    for each in socks:
        each.close()
    return {
        "first_us": 1e6 * (times[1] - times[0]) / tenth,
        "last_us": 1e6 * (times[-1] - times[-2]) / tenth,
    }


def hold(sock: Any, at: tuple[str, int], count: int, _seconds: float) -> dict[str, float]:
    """Open sockets, print their number, and do nothing until killed."""
    socks = many(sock, at, count)
    print(len(socks), flush=True)
    time.sleep(3600)
    return {}


def busy(sock: Any, at: tuple[str, int], count: int, _seconds: float) -> dict[str, float]:
    """Open sockets, print their number, and have the daemon list them until killed."""
    socks = many(sock, at, count)
    print(len(socks), flush=True)
    while True:
        sock._sk.ask(lambda seq: Show(seq, "sockets"))


def _bind(sock: Any, at: tuple[str, int]) -> None:
    sock.bind(at)
    print(sock.getsockname()[1], flush=True)


main()
