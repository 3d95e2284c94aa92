"""An application that does what it is told: one JSON call a line in, one answer out.

["socket", "mhost"] opens an AF_MHOST socket, ["socket", "inet"] and ["socket", "inet6"]
one of the kernel; the other verbs are methods of `App` on that socket.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import threading
import time
from typing import Any

import mhost

BUFSIZE = 65536


class App:
    """The verbs."""

    def __init__(self) -> None:
        self.sock: Any = None
        self.seen: list[tuple[str, str]] = []
        self.stopping = threading.Event()
        self.thread: threading.Thread | None = None
        self.sent = 0

    def socket(self, kind: str) -> None:
        """Open a socket."""
        if kind == "mhost":
            self.sock = mhost.Socket()
            self.sock.setsockopt(mhost.SOL_MHOST, mhost.MHOST_RECVPKTINFO, 1)
        else:
            family = socket.AF_INET if kind == "inet" else socket.AF_INET6
            self.sock = socket.socket(family, socket.SOCK_DGRAM)
        self.sock.settimeout(3)

    def close(self) -> None:
        """Close the socket."""
        self.sock.close()

    def bind(self, host: str, port: int) -> list[Any]:
        """Bind, and return the name."""
        self.sock.bind((host, port))
        return list(self.sock.getsockname()[:2])

    def connect(self, host: str, port: int) -> None:
        """Connect."""
        self.sock.connect((host, port))

    def sendto(self, text: str, host: str, port: int) -> int:
        """Send a datagram."""
        return int(self.sock.sendto(text.encode(), (host, port)))

    def flood(self, count: int, size: int, host: str, port: int) -> None:
        """Send that many datagrams as fast as they go."""
        payload = bytes(size)
        for _ in range(count):
            self.sock.sendto(payload, (host, port))

    def recv(self) -> list[Any]:
        """Receive a datagram: text, source host, source port, L3 and locator."""
        data, ancdata, _flags, source = self.sock.recvmsg(BUFSIZE, 256)
        via = ancdata[0][2].decode() if ancdata else "kernel"
        return [data.decode(), source[0].partition("%")[0], source[1], via]

    def echo(self) -> None:
        """Send back what comes, in the background, with the L3 that it came over."""
        self._background(self._echo)

    def _echo(self) -> None:
        while not self.stopping.is_set():
            if not select.select([self.sock], [], [], 0.1)[0]:
                continue
            text, host, port, via = self.recv()
            self.seen.append((text, via))
            self.sendto(f"{via}|{text}", host, port)

    def sink(self) -> None:
        """Note what comes, in the background."""
        self._background(self._sink)

    def _sink(self) -> None:
        while not self.stopping.is_set():
            if select.select([self.sock], [], [], 0.1)[0]:
                text, _host, _port, via = self.recv()
                self.seen.append((text, via))

    def noted(self) -> list[tuple[str, str]]:
        """What has come since the last call: (text, L3 and locator)."""
        seen, self.seen = self.seen, []
        return seen

    def stream(self, host: str, port: int, per_s: int) -> None:
        """Send numbered datagrams in the background."""
        self.sent = 0

        def run() -> None:
            while not self.stopping.is_set():
                self.sock.sendto(str(self.sent).encode(), (host, port))
                self.sent += 1
                time.sleep(1 / per_s)

        self._background(run)

    def stop(self) -> int:
        """End what runs in the background; return how many datagrams it has sent."""
        self.stopping.set()
        if self.thread is not None:
            self.thread.join()
        return self.sent

    def _background(self, run: Any) -> None:
        self.stopping.clear()
        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()


def main() -> None:
    """Serve until standard input ends."""
    app = App()
    for line in sys.stdin:
        verb, *args = json.loads(line)
        try:
            answer: dict[str, Any] = {"value": getattr(app, verb)(*args)}
        except OSError as err:
            answer = {"errno": err.errno, "text": err.strerror or str(err)}
        print(json.dumps(answer), flush=True)


main()
