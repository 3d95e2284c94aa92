"""Link events of the host, from rtnetlink (rtnetlink(7)), and advice about routes."""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_NLM_F_REQUEST_DUMP = 0x1 | 0x300
_RTMGRP_LINK = 1
_IFLA_IFNAME = 3
_IFF_UP_AND_LOWER_UP = 0x1 | 0x10000

_NLMSGHDR = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BBHiII")
_RTATTR = struct.Struct("=HH")


class Link(NamedTuple):
    """An interface: its index, its name, and whether it has a link."""

    ifindex: int
    name: str
    up: bool


def parse_links(data: bytes) -> list[Link]:
    """Read RTM_NEWLINK and RTM_DELLINK messages."""
    links = []
    at = 0
    while at + _NLMSGHDR.size + _IFINFOMSG.size <= len(data):
        length, kind, *_rest = _NLMSGHDR.unpack_from(data, at)
        if length < _NLMSGHDR.size:
            break
        if kind in (_RTM_NEWLINK, _RTM_DELLINK):
            *_skip, index, flags, _change = _IFINFOMSG.unpack_from(data, at + _NLMSGHDR.size)
            up = kind == _RTM_NEWLINK and not _IFF_UP_AND_LOWER_UP & ~flags
            body = data[at + _NLMSGHDR.size + _IFINFOMSG.size : at + length]
            links.append(Link(index, _ifname(body), up))
        at += -(-length // 4) * 4
    return links


def _ifname(attributes: bytes) -> str:
    at = 0
    while at + _RTATTR.size <= len(attributes):
        length, kind = _RTATTR.unpack_from(attributes, at)
        if kind == _IFLA_IFNAME:
            name = attributes[at + _RTATTR.size : at + length]
            return name.rstrip(b"\0").decode(errors="replace")
        at += -(-max(length, _RTATTR.size) // 4) * 4
    return ""


class LinkMonitor:
    """Says of each interface whether it has a link, at start and at each change."""

    def __init__(self, link_event: Callable[[Link], None]) -> None:
        self._link_event = link_event
        self._sock = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
        )
        self._sock.bind((0, _RTMGRP_LINK))
        self._dump()

    def _dump(self) -> None:
        length = _NLMSGHDR.size + _IFINFOMSG.size
        head = _NLMSGHDR.pack(length, _RTM_GETLINK, _NLM_F_REQUEST_DUMP, 1, 0)
        self._sock.send(head + _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0))

    def fileno(self) -> int:
        """For the poller."""
        return self._sock.fileno()

    def on_readable(self) -> None:
        """Report what has changed; after an overflow, how things are."""
        while True:
            try:
                data = self._sock.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError as err:
                if err.errno != errno.ENOBUFS:
                    raise
                self._dump()
                continue
            for link in parse_links(data):
                self._link_event(link)

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()


def route_warnings(device: str, destinations: Iterable[tuple[int, str]]) -> list[str]:
    """What keeps packets of the TUN from reaching other hosts; takes milliseconds.

    Args:
        device: the TUN.
        destinations: (family, address) of locators behind it.

    Returns:
        One sentence each, with the command that mends it.
    """
    import pyroute2

    warnings = []
    families = {family for family, _ in destinations}
    for family, sysctl in ((2, "net.ipv4.ip_forward"), (10, "net.ipv6.conf.all.forwarding")):
        path = Path("/proc/sys") / sysctl.replace(".", "/")
        if family in families and path.exists() and path.read_text().strip() == "0":
            warnings.append(
                f"the kernel does not forward packets of {device}: `sysctl -w {sysctl}=1`"
            )
    with pyroute2.IPRoute() as ip:
        index = ip.link_lookup(ifname=device)
        for _family, address in destinations:
            try:
                answer = ip.route("get", dst=address)
            except pyroute2.NetlinkError:
                found = None
            else:
                found = answer[0].get_attr("RTA_OIF") if answer else None
            if found is None or found in index:
                warnings.append(
                    f"no route from {device} to {address}: "
                    f"`ip route add PREFIX via GATEWAY`, PREFIX holding {address}"
                )
    return warnings
