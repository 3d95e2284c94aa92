"""One end of a stream: 1,000 numbered datagrams a second each way, and when they came.

    end.py KIND HOST PEER SECONDS FILE

It prints "ready", begins when it is told the time to begin at (ns of CLOCK_MONOTONIC), and
writes FILE: how many were sent, then (number, ns of arrival) of each that came.
"""

from __future__ import annotations

import array
import select
import socket
import struct
import sys
import time
from typing import Any

PERIOD_NS = 1_000_000
SIZE = 100
PORT = 7000
IPPROTO_MPTCP = 262
_HEAD = struct.Struct("=QQ")


def opened(kind: str, host: str, peer: str) -> Any:
    """A socket from a host to the other one."""
    if kind.startswith("mhost"):
        import mhost

        s = mhost.Socket()
        s.bind(("*", PORT))
        s.connect((peer, PORT))
        return s
    ours, theirs = ("10.1.0.1", "10.1.0.2") if host == "a" else ("10.1.0.2", "10.1.0.1")
    if kind == "kernel":
        u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        u.bind((ours, PORT))
        u.connect((theirs, PORT))
        return u
    t = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
    t.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host == "b":
        t.bind(("0.0.0.0", PORT))
        t.listen(1)
        print("listening", flush=True)
        t = t.accept()[0]
    else:
        t.connect((theirs, PORT))
    t.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return t


class Stream:
    """The stream of one end."""

    def __init__(self, sock: Any, stream: bool) -> None:
        self.sock = sock
        self.sock.setblocking(False)
        self.stream = stream
        self.sent = 0
        self.numbers = array.array("Q")
        self.times = array.array("Q")
        self._rest = b""
        self._unsent = b""

    def run(self, begin_ns: int, seconds: float) -> None:
        """Send and receive until the time is up."""
        end_ns = begin_ns + int(seconds * 1e9)
        due_ns = begin_ns
        fd = self.sock.fileno()
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while (now_ns := time.monotonic_ns()) < end_ns:
            while due_ns <= now_ns and due_ns < end_ns - 200_000_000:
                self._send(now_ns)
                due_ns += PERIOD_NS
            self._receive()
            wait_ns = due_ns - time.monotonic_ns()
            if wait_ns > 0:
                poll.poll(wait_ns / 1e6 if wait_ns > 100_000 else 0)

    def _send(self, now_ns: int) -> None:
        message = _HEAD.pack(self.sent, now_ns).ljust(SIZE, b"\0")
        self.sent += 1
        try:
            if self.stream:
                self._unsent += message
                self._unsent = self._unsent[self.sock.send(self._unsent) :]
            else:
                self.sock.send(message)
        except OSError:
            return  # what the application would see as lost

    def _receive(self) -> None:
        for _ in range(64):
            try:
                data = self.sock.recv(65536)
            except OSError:
                return
            if not data:
                return
            now_ns = time.monotonic_ns()
            if self.stream:
                data = self._rest + data
            for at in range(0, len(data) - SIZE + 1, SIZE):
                self.numbers.append(_HEAD.unpack_from(data, at)[0])
                self.times.append(now_ns)
            self._rest = data[len(data) // SIZE * SIZE :]


def main() -> None:
    """Run one end."""
    kind, host, peer, seconds, path = sys.argv[1:]
    sock = opened(kind, host, peer)
    stream = Stream(sock, kind == "mptcp")
    print("ready", flush=True)
    stream.run(int(sys.stdin.readline()), float(seconds))
    with open(path, "wb") as file:
        file.write(stream.sent.to_bytes(8, sys.byteorder))
        for number, when_ns in zip(stream.numbers, stream.times, strict=True):
            file.write(_HEAD.pack(number, when_ns))


if __name__ == "__main__":
    main()
