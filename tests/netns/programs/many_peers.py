"""Many associated hosts in one process: mhostd/host/ over one socket and many addresses.

    many_peers.py COUNT KEYS

KEYS gets a public key in each line, of the host at 10.1.x.y and 10.2.x.y.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import sys
import time

from mhostd.errors import MhostError
from mhostd.host.hosts import Hosts
from mhostd.host.identity import Identity, key_ntop
from mhostd.host.path import Uplink, Way
from mhostd.host.wire import PORT
from mhostd.sock import Locator

_PKTINFO = struct.Struct("=i4s4s")


def address(link: int, number: int) -> bytes:
    """Of a host: the first is 10.1.1.0."""
    return bytes((10, link + 1, 1 + number // 250, 2 + number % 250))


class Many:
    """One of them, as hosts.Rim."""

    def __init__(self, number: int, sock: socket.socket) -> None:
        self.identity = Identity.generate()
        self._sock = sock
        self.hosts = Hosts(self.identity, self, os.urandom, time.monotonic())
        ups = [
            Uplink("host_inet", Locator(2, address(link, number)), 0, f"eth{link}")
            for link in (0, 1)
        ]
        self.hosts.set_uplinks(ups, time.monotonic())

    def transmit(self, way: Way, packet: bytes) -> None:
        info = _PKTINFO.pack(0, way.source.address, bytes(4))
        to = socket.inet_ntoa(way.remote.address), way.port
        try:
            self._sock.sendmsg([packet], [(socket.IPPROTO_IP, 8, info)], 0, to)
        except OSError as err:
            raise MhostError(err.errno or 5, str(err)) from None

    def room(self, way: Way) -> int:
        return 1472

    def routes(self, uplink: Uplink, locator: Locator) -> bool:
        return uplink.locator.address[1] == locator.address[1]

    def realtime_ns(self) -> int:
        return time.time_ns()

    def ignore(self, *_args: object) -> None:
        """What this program does not care for."""

    deliver = unreachable = refused = event = changed = warm = added = forgotten = lost = (
        moved
    ) = ignore


def main() -> None:
    """Serve until standard input ends."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
    sock.bind(("0.0.0.0", PORT))
    sock.setblocking(False)
    count = int(sys.argv[1])
    many = [Many(i, sock) for i in range(count)]
    at = {address(link, i): each for i, each in enumerate(many) for link in (0, 1)}
    with open(sys.argv[2], "w") as file:
        file.writelines(f"{key_ntop(each.identity.public)}\n" for each in many)
    print("ready", flush=True)
    while True:
        if select.select([sock, sys.stdin], [], [], 0.05)[0] == [sys.stdin]:
            return
        now = time.monotonic()
        try:
            for _ in range(256):
                packet, control, _flags, (host, port) = sock.recvmsg(2048, 128)
                _ifindex, _spec, dest = _PKTINFO.unpack(control[0][2])
                remote = Locator(2, socket.inet_aton(host))
                at[dest].hosts.receive(
                    Way("host_inet", Locator(2, dest), 0, remote, port), packet, now
                )
        except BlockingIOError:
            pass
        for each in many:
            if (due := each.hosts.next_s) is not None and due <= now:
                each.hosts.timeout(now)


if __name__ == "__main__":
    main()
