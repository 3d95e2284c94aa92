"""One end of a stream: an application with one socket that sends and notes what comes.

    stream.py udp NEAR FAR          a connected UDP socket of the kernel
    stream.py mptcp NEAR FAR        multipath TCP, which connects; FAR is "" where it listens
    stream.py mhost NEAR FAR        a connected AF_MHOST socket
    stream.py echo ADDRESS...       UDP sockets of the kernel that send back what comes

It says "ready" once it has heard the other end, and then reads a line: when the first
datagram goes and when the last has gone (ns of CLOCK_MONOTONIC), and the file for what
came: numbers, then the times of their arrival, 64 bits each. Last it says what it sent.

A datagram is 100 octets: its number, the time when it was sent (ns), nothing.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import select
import signal
import socket
import struct
import sys
import time
from array import array
from collections import Counter
from collections.abc import Iterator
from typing import Any

PORT = 7000
SIZE = 100  # octets
EVERY_NS = 1_000_000
LINGER_NS = 400_000_000  # for what is under way when the last has been sent
HELLO = 2**64 - 1  # the number of what is sent before the stream begins
HELLO_EVERY_S = 0.02
HELLO_TIMEOUT_S = 15.0
HEADER = struct.Struct("=QQ")
PADDING = bytes(SIZE - HEADER.size)
IPPROTO_MPTCP, SOL_MPTCP, MPTCP_INFO = 262, 284, 1


class Datagrams:
    """A connected datagram socket, the kernel's or mhostd's."""

    def __init__(self, sock: Any, near: str, far: str) -> None:
        """Bind and connect it."""
        self.sock = sock
        sock.bind((near, PORT))
        sock.connect((far, PORT))
        sock.setblocking(False)

    def send(self, payload: bytes) -> None:
        """Send one; OSError as it comes."""
        self.sock.send(payload)

    def ready(self) -> bool:
        """A datagram that has come is enough."""
        return True

    def receive(self) -> Iterator[bytes]:
        """What has come; OSError as it comes."""
        while True:
            try:
                yield self.sock.recv(2048)
            except BlockingIOError:
                return


class Stream:
    """A connection of multipath TCP, cut into messages."""

    def __init__(self, near: str, far: str) -> None:
        """Connect to the far end, or wait for it if it has no name."""
        deadline = time.monotonic() + HELLO_TIMEOUT_S
        self.sock = self._bound(near, 0 if far else PORT)
        while far and self.sock.connect_ex((far, PORT)) and time.monotonic() < deadline:
            time.sleep(HELLO_EVERY_S)
            self.sock.close()  # once refused, it would be plain TCP
            self.sock = self._bound(near, 0)
        if not far:
            self._listening = self.sock  # for the second subflow
            self._listening.listen()
            self.sock, _address = self._listening.accept()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self._unsent = bytearray()
        self._part = bytearray()

    @staticmethod
    def _bound(near: str, port: int) -> socket.socket:
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind((near, port))
        return sock

    def send(self, payload: bytes) -> None:
        """Send one, or as much as fits; the rest goes with a later one."""
        self._unsent += payload
        with contextlib.suppress(BlockingIOError):
            del self._unsent[: self.sock.send(self._unsent)]

    def ready(self) -> bool:
        """With a second subflow (struct mptcp_info of linux/mptcp.h begins with how many)."""
        return self.sock.getsockopt(SOL_MPTCP, MPTCP_INFO, 1)[0] > 0

    def receive(self) -> Iterator[bytes]:
        """The messages that are whole."""
        with contextlib.suppress(BlockingIOError):
            while octets := self.sock.recv(65536):
                self._part += octets
        while len(self._part) >= SIZE:
            yield bytes(self._part[:SIZE])
            del self._part[:SIZE]


class End:
    """Sends at a pace that does not drift, and notes what comes in the same thread."""

    def __init__(self, link: Datagrams | Stream) -> None:
        self.link = link
        self.numbers, self.times = array("Q"), array("Q")
        self.errors: Counter[str] = Counter()

    def greet(self) -> None:
        """Send until something has come, and the link is ready."""
        heard = False
        deadline = time.monotonic() + HELLO_TIMEOUT_S
        while time.monotonic() < deadline:
            self._send(HELLO)
            time.sleep(HELLO_EVERY_S)
            if self._wait(0):
                heard |= bool(list(self._received()))
            if heard and self.link.ready():
                break
        else:
            sys.exit(
                f"nothing came, or one subflow, in {HELLO_TIMEOUT_S:g} s: {dict(self.errors)}"
            )

    def await_line(self) -> str:
        """Go on greeting until there is a line to be read, and read it."""
        while not select.select([sys.stdin], [], [], HELLO_EVERY_S)[0]:
            self._send(HELLO)
        self.errors.clear()
        return sys.stdin.readline()

    def run(self, start_ns: int, end_ns: int) -> int:
        """Send one datagram each millisecond.

        Returns:
            How many.
        """
        total = (end_ns - start_ns) // EVERY_NS
        number, due_ns = 0, start_ns
        while (now_ns := time.monotonic_ns()) < end_ns + LINGER_NS:
            while number < total and due_ns <= now_ns:
                self._send(number)
                number += 1
                due_ns = start_ns + number * EVERY_NS
            until_ns = due_ns if number < total else end_ns + LINGER_NS
            if self._wait(max(0, until_ns - time.monotonic_ns()) / 1e9):
                for payload in self._received():
                    came = HEADER.unpack_from(payload)[0]
                    if came != HELLO:
                        self.numbers.append(came)
                        self.times.append(time.monotonic_ns())
        return number

    def _send(self, number: int) -> None:
        try:
            self.link.send(HEADER.pack(number, time.monotonic_ns()) + PADDING)
        except OSError as err:
            self._count("send", err)

    def _received(self) -> Iterator[bytes]:
        try:
            yield from self.link.receive()
        except OSError as err:
            self._count("recv", err)

    def _wait(self, timeout_s: float) -> bool:
        return bool(select.select([self.link.sock], [], [], timeout_s)[0])

    def _count(self, call: str, err: OSError) -> None:
        self.errors[f"{call}: {errno.errorcode.get(err.errno or 0, err)}"] += 1


def echo(addresses: list[str]) -> None:
    """Send back what comes, from the address that it came to."""
    socks = []
    for address in addresses:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, PORT))
        socks.append(sock)
    print("ready", flush=True)
    while True:
        for sock in select.select(socks, [], [])[0]:
            with contextlib.suppress(OSError):
                payload, source = sock.recvfrom(2048)
                sock.sendto(payload, socket.MSG_DONTWAIT, source)


def opened(kind: str, near: str, far: str) -> Datagrams | Stream:
    """The socket of that kind."""
    if kind == "mptcp":
        return Stream(near, far)
    if kind == "udp":
        return Datagrams(socket.socket(socket.AF_INET, socket.SOCK_DGRAM), near, far)
    import mhost

    return Datagrams(mhost.Socket(), near, far)


def main() -> None:
    """Be one end."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever has started it ends it
    kind, *names = sys.argv[1:]
    if kind == "echo":
        echo(names)
    end = End(opened(kind, *names))
    end.greet()
    print("ready", flush=True)
    start_ns, end_ns, path = end.await_line().split()
    gc.disable()
    sent = end.run(int(start_ns), int(end_ns))
    with open(path, "wb") as file:
        end.numbers.tofile(file)
        end.times.tofile(file)
    print(json.dumps({"sent": sent, "errors": end.errors}), flush=True)


if __name__ == "__main__":
    main()
