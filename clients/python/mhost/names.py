"""Text and addresses: what `("robot", 8080)` means, and what a source is called."""

from __future__ import annotations

import errno
import ipaddress
import socket
from typing import Any
from weakref import WeakKeyDictionary

from mhost.channel import Channel
from mhost.daemon import channel
from mhost.exchange import REPLY_TIMEOUT_S
from mhostd.uapi import (
    ADDRESS_MAX,
    AF_INET,
    AF_INET6,
    AF_MHOST,
    AF_UNSPEC,
    HOST_NAME_MAX,
    Lookup,
    Named,
    Resolve,
    SockaddrMhost,
    Spell,
)

SPELL_TIMEOUT_S = 1.0
CACHE_MAX = 4096  # names of one connection, the oldest is forgotten first
ORCHIDV2 = ipaddress.IPv6Network("2001:20::/28")  # RFC 7343: an identifier, no locator

Address = tuple[str, int]


class Names:
    """Look-ups of one connection, remembered for a session."""

    def __init__(self, to: Channel) -> None:
        self._channel = to
        self._instance = to.instance
        self._parsed: dict[str, SockaddrMhost] = {}
        self._spelt: dict[tuple[int, bytes, int], str] = {}
        to.on_named = self._named

    def _named(self, event: Named) -> None:
        self._renew()
        sa = event.sa
        _remember(
            self._spelt, (sa.family, sa.address.ljust(ADDRESS_MAX, b"\0"), sa.id_no), event.text
        )

    def parse(
        self, address: object, call: str, timeout_s: float = REPLY_TIMEOUT_S
    ) -> SockaddrMhost:
        """Read a 2-tuple (host, port).

        Args:
            address: host is a literal, `proto:address`, a name, or "" or "*".
            call: whose argument it is, for the message.
            timeout_s: how long a name may take that was not looked up before.

        Raises:
            TypeError: it is no such tuple.
            OverflowError: the port is not in 0..65535.
            OSError: EAFNOSUPPORT, EINVAL or EHOSTUNREACH, as the daemon says.
        """
        if not isinstance(address, tuple) or len(address) != 2:
            raise TypeError(f"{call}: AF_MHOST address must be a tuple (host, port)")
        host, port = address
        if not isinstance(host, str) or not isinstance(port, int):
            raise TypeError(f"{call}: AF_MHOST address must be (str, int), not {address!r}")
        if not 0 <= port <= 0xFFFF:
            raise OverflowError(f"{call}: port {port} is not in 0..65535")
        sa = literal(host) or self._lookup(host, timeout_s)
        return sa._replace(port=port)

    def _lookup(self, host: str, timeout_s: float) -> SockaddrMhost:
        self._renew()
        sa = self._parsed.get(host)
        if sa is None:
            if len(host) > HOST_NAME_MAX:
                raise OSError(
                    errno.EINVAL,
                    f"{host[:32]!r}... is no host name: {len(host)} characters exceed "
                    f"{HOST_NAME_MAX} (RFC 1035)",
                )
            value = self._channel.request(lambda seq: Lookup(seq, host), timeout_s)
            sa = SockaddrMhost(*value)
            _remember(self._parsed, host, sa)
        return sa

    def spell(self, sa: SockaddrMhost) -> Address:
        """Write an address as (host, port); a known host by its name.

        The daemon has sent the name before; where it was forgotten and the daemon does
        not say it again, a known host is written as its locator.
        """
        if sa.id_no:
            try:
                return self.text(SockaddrMhost(AF_MHOST, 0, b"", sa.id_no)), sa.port
            except OSError:
                pass
        return self.text(sa._replace(id_no=0)), sa.port

    def text(self, sa: SockaddrMhost) -> str:
        """Write an address without its port, its host not looked up."""
        if sa.family == AF_INET and sa.address:
            return socket.inet_ntop(socket.AF_INET, sa.address[:4])
        if sa.family == AF_INET6 and sa.address:
            text = socket.inet_ntop(socket.AF_INET6, sa.address)
            return f"{text}%{sa.scope_id}" if sa.scope_id else text
        self._renew()
        key = _spelt_key(sa)
        text = self._spelt.get(key, "")
        if not text:
            asked = sa._replace(port=0)
            text = str(self._channel.request(lambda seq: Spell(seq, asked), SPELL_TIMEOUT_S))
            _remember(self._spelt, key, text)
        return text

    def _renew(self) -> None:
        if self._instance != self._channel.instance:
            self._instance = self._channel.instance
            self._parsed.clear()
            self._spelt.clear()


def literal(host: str) -> SockaddrMhost | None:
    """Read what needs no daemon: "", "*", IPv4 and IPv6 (but no identifier)."""
    if host in ("", "*"):
        return SockaddrMhost(AF_MHOST)
    try:
        return SockaddrMhost(AF_INET, 0, socket.inet_pton(socket.AF_INET, host))
    except OSError:
        pass
    text, percent, scope = host.partition("%")
    try:
        packed = socket.inet_pton(socket.AF_INET6, text)
    except OSError:
        return None
    if ipaddress.IPv6Address(packed) in ORCHIDV2:
        return None
    scope_id = 0
    if percent:
        digits = scope.isascii() and scope.isdigit()
        try:
            scope_id = int(scope) if digits else socket.if_nametoindex(scope)
        except OSError:
            scope_id = 0
        if not 0 < scope_id <= 0xFFFF_FFFF:
            raise OSError(errno.ENODEV, f"{host!r}: there is no interface {scope!r}")
    return SockaddrMhost(AF_INET6, 0, packed, 0, scope_id)


def _spelt_key(sa: SockaddrMhost) -> tuple[int, bytes, int]:
    """An address as records have it, padded to 16 octets, without its port."""
    return sa.family, sa.address.ljust(ADDRESS_MAX, b"\0"), sa.id_no


def _remember(cache: dict[Any, Any], key: object, value: object) -> None:
    if len(cache) >= CACHE_MAX:
        del cache[next(iter(cache))]
    cache[key] = value


_by_channel: WeakKeyDictionary[Channel, Names] = WeakKeyDictionary()


def names_of(to: Channel) -> Names:
    """Return the look-ups that all sockets of a connection share."""
    found = _by_channel.get(to)
    if found is None:
        found = _by_channel[to] = Names(to)
    return found


AddrInfo = tuple[int, int, int, str, Address]


def getaddrinfo(
    host: str | None,
    port: str | int | None,
    family: int = AF_UNSPEC,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[AddrInfo]:
    """Translate a host and a port into addresses to send to, as socket.getaddrinfo does.

    Args:
        host: a name, a literal or `proto:address`; None is everywhere.
        port: a number, a service name of /etc/services, or None for 0.
        family: AF_MHOST for the host itself, another one for locators of that family
            only, AF_UNSPEC for all: the host first, then its locators as they are used.
        type: 0 or SOCK_DGRAM.
        proto: 0 or IPPROTO_UDP.
        flags: not looked at.

    Returns:
        (family, SOCK_DGRAM, IPPROTO_UDP, canonical name, (host, port)) of each.

    Raises:
        socket.gaierror: EAI_NONAME if the name has no locator, EAI_SOCKTYPE,
            EAI_SERVICE.
    """
    del flags
    if type not in (0, socket.SOCK_DGRAM) or proto not in (0, socket.IPPROTO_UDP):
        raise socket.gaierror(socket.EAI_SOCKTYPE, "AF_MHOST has datagrams (UDP) only")
    number = _service(port)
    to = channel()
    names = names_of(to)
    found: list[AddrInfo] = []

    def add(sa: SockaddrMhost, text: str) -> None:
        if family in (AF_UNSPEC, sa.family):
            where = (text, number)
            found.append((sa.family, socket.SOCK_DGRAM, socket.IPPROTO_UDP, "", where))

    if host is None or host in ("", "*"):
        add(SockaddrMhost(AF_MHOST), "*")
    elif (sa := literal(host)) is not None:
        add(sa, names.text(sa))
    elif ":" in host:
        add(names.parse((host, 0), "getaddrinfo"), host)
    else:
        try:
            names.parse((host, 0), "getaddrinfo")
            locators = to.request(lambda seq: Resolve(seq, host))
        except OSError as err:
            if err.errno not in (errno.EHOSTUNREACH, errno.EINVAL):
                raise
            raise socket.gaierror(socket.EAI_NONAME, err.strerror) from None
        if locators:
            add(SockaddrMhost(AF_MHOST), host)
        for each in locators:
            locator = SockaddrMhost(*each)
            add(locator, names.text(locator))
    if not found:
        raise socket.gaierror(
            socket.EAI_NONAME,
            f"host {host} has no locator; `mhostctl hosts add {host} LOCATOR` gives it one",
        )
    return found


def _service(port: str | int | None) -> int:
    if isinstance(port, int):
        return port
    if not port:
        return 0
    try:
        return int(port) if port.isdigit() else socket.getservbyname(port, "udp")
    except OSError:
        raise socket.gaierror(socket.EAI_SERVICE, f"no UDP service {port!r}") from None
