"""One end of a measurement: send, receive, echo, count round trips, bind; prints JSON.

    load.py KIND ROLE HOST PORT SIZE SECONDS      KIND: mhost, zmq or kernel

zmq is mhost without shared memory. Roles that receive print their port first; HOST is
where they bind. `bind` opens SIZE sockets; `spread` receives on so many.
"""

from __future__ import annotations

import json
import os
import resource
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


def bind(sock: Any, at: tuple[str, int], count: int, _seconds: float) -> dict[str, float]:
    """Open and bind sockets; microseconds each of the first and of the last tenth."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    tenth = count // 10
    socks = []
    times = [time.monotonic()]
    for _ in range(10):
        for _ in range(tenth):
            socks.append(type(sock)(sock.family, sock.type))
            socks[-1].bind(at)
        times.append(time.monotonic())
    for each in socks:
        each.close()
    return {
        "first_us": 1e6 * (times[1] - times[0]) / tenth,
        "last_us": 1e6 * (times[-1] - times[-2]) / tenth,
    }


def busy(sock: Any, at: tuple[str, int], count: int, _seconds: float) -> dict[str, float]:
    """Open sockets, print their number, and have the daemon list them until killed."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    socks = [mhost.Socket() for _ in range(count)]
    for each in socks:
        each.bind(at)
    print(len(socks), flush=True)
    while True:
        sock._sk.ask(lambda seq: Show(seq, "sockets"))


def _bind(sock: Any, at: tuple[str, int]) -> None:
    sock.bind(at)
    print(sock.getsockname()[1], flush=True)


main()
