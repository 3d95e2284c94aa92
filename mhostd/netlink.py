"""What the host kernel says of links, addresses and routes (rtnetlink(7))."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from mhostd.links import Link

# linux/netlink.h, linux/rtnetlink.h, linux/if_link.h, linux/if_addr.h
_RTM_NEWLINK, _RTM_DELLINK, _RTM_GETLINK = 16, 17, 18
_RTM_NEWADDR, _RTM_DELADDR, _RTM_GETADDR = 20, 21, 22
_RTM_NEWROUTE, _RTM_DELROUTE, _RTM_GETROUTE = 24, 25, 26
_NLM_F_REQUEST, _NLM_F_DUMP = 0x1, 0x300
_RTMGRP_LINK = 0x1
_RTMGRP_IFADDR = 0x10 | 0x100  # IPv4 | IPv6
_RTMGRP_ROUTE = 0x40 | 0x400
_IFLA_IFNAME, _IFLA_MTU = 3, 4
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_IFA_F_TENTATIVE = 0x40  # RFC 4862 section 5.4
_RTN_LOCAL = 2
_RTN_REACH = (1, _RTN_LOCAL)  # UNICAST
_RTN_REFUSE = (6, 7, 8, 9)  # BLACKHOLE, UNREACHABLE, PROHIBIT, THROW
_RTA_DST, _RTA_SRC, _RTA_OIF = 1, 2, 4
_RTM_F_FIB_MATCH = 0x2000  # the route itself, not what is made of it (Linux 4.15)
_IFF_UP_AND_LOWER_UP = 0x1 | 0x10000

_NLMSGHDR = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BBHiII")
_IFADDRMSG = struct.Struct("=BBBBI")
_RTMSG = struct.Struct("=BBBBBBBBI")
_RTATTR = struct.Struct("=HH")
_U32 = struct.Struct("=I")

MESSAGES_PER_WAKE = 64


class IfAddress(NamedTuple):
    """An address of the host: new (or changed), or gone; or not known to be unique yet."""

    family: int
    address: bytes
    ifindex: int
    gone: bool = False
    tentative: bool = False


class Route(NamedTuple):
    """A route, new (or changed) or gone.

    Attributes:
        family: AF_INET or AF_INET6.
        prefix: destination; empty for the default route.
        bits: of the prefix.
        kind: RTN_* of rtnetlink(7): unicast, local, unreachable ...
        ifindex: its first interface, 0 if it has none.
        gone: it was taken away.
    """

    family: int
    prefix: bytes
    bits: int
    kind: int
    ifindex: int
    gone: bool = False

    @property
    def mends(self) -> bool:
        """Whether its destinations may be reached now that could not be before."""
        return self.kind in (_RTN_REFUSE if self.gone else _RTN_REACH)

    @property
    def local(self) -> bool:
        """Whether it makes its prefix an address of the host: without it bind(2) refuses.

        For IPv4 Linux tells of an address before it makes or takes away that route
        (__inet_insert_ifa() and __inet_del_ifa()), so who looks when told may be early.
        """
        return self.kind == _RTN_LOCAL


Change = Link | IfAddress | Route


def parse_rtnetlink(data: bytes) -> list[Change]:
    """Read messages about links, addresses and routes; others are left out."""
    return [change for kind, body in _messages(data) if (change := _change(kind, body))]


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _NLMSGHDR.size <= len(data):
        length, kind, *_rest = _NLMSGHDR.unpack_from(data, at)
        if length < _NLMSGHDR.size:
            return
        yield kind, data[at + _NLMSGHDR.size : at + length]
        at += -(-length // 4) * 4


def _change(kind: int, body: bytes) -> Change | None:
    if kind in (_RTM_NEWLINK, _RTM_DELLINK) and len(body) >= _IFINFOMSG.size:
        *_skip, index, flags, _mask = _IFINFOMSG.unpack_from(body)
        gone = kind == _RTM_DELLINK
        up = not gone and not _IFF_UP_AND_LOWER_UP & ~flags
        found = _attributes(body[_IFINFOMSG.size :])
        name = found.get(_IFLA_IFNAME, b"").rstrip(b"\0").decode(errors="replace")
        mtu = int.from_bytes(found.get(_IFLA_MTU, b""), sys.byteorder)
        return Link(index, name, up, gone, mtu)
    if kind in (_RTM_NEWADDR, _RTM_DELADDR) and len(body) >= _IFADDRMSG.size:
        family, _plen, flags, _scope, index = _IFADDRMSG.unpack_from(body)
        found = _attributes(body[_IFADDRMSG.size :])
        address = found.get(_IFA_LOCAL) or found.get(_IFA_ADDRESS, b"")
        tentative = bool(flags & _IFA_F_TENTATIVE)
        return IfAddress(family, address, index, kind == _RTM_DELADDR, tentative)
    if kind in (_RTM_NEWROUTE, _RTM_DELROUTE) and len(body) >= _RTMSG.size:
        family, bits, *_skip, type_, _flags = _RTMSG.unpack_from(body)
        found = _attributes(body[_RTMSG.size :])
        oif = int.from_bytes(found.get(_RTA_OIF, b""), sys.byteorder)
        prefix = found.get(_RTA_DST, b"")
        return Route(family, prefix, bits, type_, oif, kind == _RTM_DELROUTE)
    return None


def _attributes(octets: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + _RTATTR.size <= len(octets):
        length, kind = _RTATTR.unpack_from(octets, at)
        found.setdefault(kind, octets[at + _RTATTR.size : at + length])
        at += -(-max(length, _RTATTR.size) // 4) * 4
    return found


class Monitor:
    """Says of each interface whether it has a link, at start, and what changes later."""

    def __init__(self, changed: Callable[[list[Change]], None]) -> None:
        """Begin to listen; `changed` gets what came in one wake, in its order."""
        self._changed = changed
        self._sock = _socket()
        self._sock.bind((0, _RTMGRP_LINK | _RTMGRP_IFADDR | _RTMGRP_ROUTE))
        self._dump()

    def _dump(self) -> None:
        message = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0)
        self._sock.send(_request(_RTM_GETLINK, _NLM_F_DUMP, message))

    def fileno(self) -> int:
        """For the poller."""
        return self._sock.fileno()

    def on_readable(self) -> None:
        """Report what has changed; after an overflow, how the links are now."""
        changes: list[Change] = []
        for _ in range(MESSAGES_PER_WAKE):
            try:
                changes += parse_rtnetlink(self._sock.recv(1 << 16))
            except BlockingIOError:
                break
            except OSError as err:
                if err.errno != errno.ENOBUFS:
                    raise
                self._dump()
        if changes:
            self._changed(changes)

    def close(self) -> None:
        """Stop listening."""
        self._sock.close()


class Rtnetlink:
    """Questions, which the kernel answers before send() has returned."""

    def __init__(self) -> None:
        self._sock = _socket()

    def route_oif(self, family: int, to: bytes, source: bytes = b"") -> int:
        """Return the index of the interface to an address; 0 if there is no route.

        Args:
            family: AF_INET or AF_INET6.
            to: where to.
            source: where from; empty if the kernel chooses.
        """
        message = _RTMSG.pack(family, 8 * len(to), 8 * len(source), 0, 0, 0, 0, 0, 0)
        message += _attribute(_RTA_DST, to)
        if source:
            message += _attribute(_RTA_SRC, source)
        for change in self._ask(_request(_RTM_GETROUTE, 0, message)):
            if isinstance(change, Route):
                return change.ifindex
        return 0

    def route_by(self, family: int, to: bytes, ifindex: int) -> bool:
        """Whether there is a route to an address by an interface."""
        message = _RTMSG.pack(family, 8 * len(to), 0, 0, 0, 0, 0, 0, _RTM_F_FIB_MATCH)
        message += _attribute(_RTA_DST, to) + _attribute(_RTA_OIF, _U32.pack(ifindex))
        changes = self._ask(_request(_RTM_GETROUTE, 0, message))
        return any(isinstance(c, Route) and c.ifindex == ifindex for c in changes)

    def addresses(self, family: int) -> list[bytes]:
        """Return the addresses of the host, each once, in the order of interfaces."""
        request = _request(_RTM_GETADDR, _NLM_F_DUMP, _IFADDRMSG.pack(family, 0, 0, 0, 0))
        found = (c.address for c in self._ask(request) if isinstance(c, IfAddress))
        return list(dict.fromkeys(found))

    def ifaddresses(self) -> list[IfAddress]:
        """Return the IPv4 and IPv6 addresses of the host, in the order of interfaces."""
        found = []
        for family in (socket.AF_INET, socket.AF_INET6):
            request = _request(_RTM_GETADDR, _NLM_F_DUMP, _IFADDRMSG.pack(family, 0, 0, 0, 0))
            found += [c for c in self._ask(request) if isinstance(c, IfAddress)]
        return found

    def _ask(self, request: bytes) -> Iterator[Change]:
        self._sock.send(request)
        while True:
            try:
                data = self._sock.recv(1 << 16)
            except BlockingIOError:
                return
            yield from parse_rtnetlink(data)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def _socket() -> socket.socket:
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK
    return socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)


def _request(kind: int, flags: int, message: bytes) -> bytes:
    length = _NLMSGHDR.size + len(message)
    return _NLMSGHDR.pack(length, kind, _NLM_F_REQUEST | flags, 1, 0) + message


def _attribute(kind: int, octets: bytes) -> bytes:
    """A struct rtattr with 4 or 16 octets of address, which need no padding."""
    return _RTATTR.pack(_RTATTR.size + len(octets), kind) + octets


def lost_address(address: str, device: str) -> str:
    """Say that somebody took the kernel's end of the TUN its address."""
    return (
        f"{device} has lost its address {address}, without which this host's other programs "
        f"and routes do not reach mhostd: `ip addr add {address} dev {device}`"
    )


def address_warnings(wanted: Mapping[bytes, tuple[str, str]]) -> list[str]:
    """What is missing of the addresses (with prefix length, device) that the TUN had."""
    rtnetlink = Rtnetlink()
    try:
        here = [a for family in (2, 10) for a in rtnetlink.addresses(family)]
    finally:
        rtnetlink.close()
    return [lost_address(*text) for address, text in wanted.items() if address not in here]


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
