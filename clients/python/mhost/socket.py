"""The stdlib's socket module, its UDP sockets on mhostd: `import mhost.socket as socket`.

Every name is the stdlib's but for `socket`, which opens AF_INET and AF_INET6 datagram
sockets (and AF_MHOST ones) on mhostd and everything else as ever, and `getaddrinfo` and
its kin, which know the names that mhostd was given as well. For programs that import the
stdlib's module by themselves: `sys.modules["socket"] = mhost.socket`, before they do.

Where no daemon answers the sockets are the kernel's, with one warning.
"""

from __future__ import annotations

import errno
import socket as _stdlib
import warnings
from typing import Any

from mhost.dgram import Socket
from mhost.names import Names, literal
from mhost.names import getaddrinfo as _mhost_getaddrinfo
from mhostd.uapi import AF_INET, AF_INET6, AF_MHOST, SockaddrMhost

_FLAGS = _stdlib.SOCK_NONBLOCK | _stdlib.SOCK_CLOEXEC
_MAPPED = bytes(10) + b"\xff\xff"  # RFC 4291 section 2.5.5.2
_ANY: dict[int, str] = {AF_INET: "0.0.0.0", AF_INET6: "::"}

Address = tuple[Any, ...]

__all__ = [*_stdlib.__all__]


def __getattr__(name: str) -> Any:
    """Whatever the stdlib's module has."""
    return getattr(_stdlib, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(_stdlib)})


class InetNames:
    """Addresses of one family as the stdlib has them: of IPv4 two elements, of IPv6 four."""

    def __init__(self, names: Names, family: int) -> None:
        self._names = names
        self._family = family

    def parse(self, address: Any, call: str, timeout_s: float = 0.0) -> SockaddrMhost:
        """Read one; a name is resolved, as by the stdlib.

        Raises:
            TypeError: it is no such tuple.
            OverflowError: the port is not in 0..65535, or the flow information too large.
            socket.gaierror: the name has no address of that family.
        """
        del timeout_s
        name = "AF_INET" if self._family == AF_INET else "AF_INET6"
        if not isinstance(address, tuple):
            kind = type(address).__name__
            raise TypeError(f"{call}(): {name} address must be tuple, not {kind}")
        if self._family == AF_INET and len(address) != 2:
            raise TypeError(f"{call}(): AF_INET address must be a pair (host, port)")
        if self._family == AF_INET6 and not 2 <= len(address) <= 4:
            form = "(host, port[, flowinfo[, scopeid]])"
            raise TypeError(f"{call}(): AF_INET6 address must be a tuple {form}")
        host, port, flowinfo, scope_id, *_more = (*address, 0, 0)
        if isinstance(host, (bytes, bytearray)):
            host = bytes(host).decode()
        if not isinstance(host, str):
            kind = type(host).__name__
            raise TypeError(f"{call}(): str, bytes or bytearray expected, not {kind}")
        if not isinstance(port, int):
            raise TypeError(f"{call}(): port must be an int, not {type(port).__name__}")
        if not 0 <= port <= 0xFFFF:
            raise OverflowError(f"{call}(): port must be 0-65535.")
        if not 0 <= flowinfo <= 0xFFFFF:
            raise OverflowError(f"{call}(): flowinfo must be 0-1048575.")
        sa = self._resolve(host)
        if scope_id and not sa.scope_id and sa.family == AF_INET6:
            sa = sa._replace(scope_id=scope_id)
        return sa._replace(port=port)

    def _resolve(self, host: str) -> SockaddrMhost:
        if host == "" or (host == "::" and self._family == AF_INET6):
            if self._family == AF_INET6:
                return SockaddrMhost(AF_MHOST)  # IPv4 as well, unless IPV6_V6ONLY is set
            return SockaddrMhost(AF_INET)
        if host == "<broadcast>" and self._family == AF_INET:
            host = "255.255.255.255"
        sa = literal(host)
        if sa is None or sa.family != self._family:
            infos = getaddrinfo(host, None, self._family, _stdlib.SOCK_DGRAM)
            sa = literal(str(infos[0][4][0]))
            assert sa is not None
        if sa.family == AF_INET6 and sa.address.startswith(_MAPPED):
            return SockaddrMhost(AF_INET, 0, sa.address[12:])
        return sa

    def spell(self, sa: SockaddrMhost) -> Address:
        """Write one; never a name."""
        if sa.family not in (AF_INET, AF_INET6) or not sa.address:
            text = _ANY[self._family]
        else:
            text = self._names.text(sa._replace(id_no=0, scope_id=0))
        if self._family == AF_INET:
            return text, sa.port
        if sa.family == AF_INET:
            text = f"::ffff:{text}"
        return text, sa.port, 0, sa.scope_id


class InetSocket(Socket):
    """A datagram socket of AF_INET or AF_INET6 on mhostd, as the stdlib's."""

    _like_linux = True

    def __init__(self, family: int, type: int, proto: int) -> None:
        super().__init__(AF_MHOST, type, proto)
        self.family = _stdlib.AddressFamily(family)
        self.type = _stdlib.SOCK_DGRAM
        self.proto = proto
        self._sk.names = InetNames(self._sk.names, family)  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<mhost.socket.socket {super().__repr__()[14:-1]}, family={self.family!r}>"

    def connect(self, address: Any) -> None:
        """Set the peer; (AF_UNSPEC in C) None dissolves it."""
        self._bind_first()
        super().connect(address)

    def _sendto(self, data: Any, *args: Any) -> int:
        self._bind_first()
        return super()._sendto(data, *args)

    def sendmsg(
        self, buffers: Any, ancdata: Any = (), flags: int = 0, address: Any = None
    ) -> int:
        """As mhost.Socket's."""
        if address is not None:
            self._bind_first()
        return super().sendmsg(buffers, ancdata, flags, address)

    def _bind_first(self) -> None:
        """An unbound AF_INET socket would hear from every L3."""
        if not self._closed and not self._sk.port and self.family == AF_INET:
            self.bind(("", 0))

    def listen(self, backlog: int = 0) -> None:
        """Datagrams have no connections: EOPNOTSUPP."""
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    def accept(self) -> Any:
        """Datagrams have no connections: EOPNOTSUPP."""
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")


class _SocketType(type):
    """Calling `socket` chooses; what it gave is an instance of it all the same."""

    def __call__(cls, family: int = -1, type: int = -1, proto: int = -1,
                 fileno: int | None = None) -> Any:  # fmt: skip
        if cls is not socket or fileno is not None:
            return super().__call__(family, type, proto, fileno)
        kind = type & ~_FLAGS if type != -1 else _stdlib.SOCK_STREAM
        if family == AF_MHOST:
            return Socket(family, type, max(proto, 0))
        if (
            family not in (-1, AF_INET, AF_INET6)
            or kind != _stdlib.SOCK_DGRAM
            or proto not in (-1, 0, _stdlib.IPPROTO_UDP)
        ):
            return super().__call__(family, type, proto, fileno)
        try:
            return InetSocket(AF_INET if family == -1 else family, type, max(proto, 0))
        except (ConnectionRefusedError, PermissionError) as err:
            _warn_once(str(err))
            return super().__call__(family, type, proto, fileno)

    def __instancecheck__(cls, instance: object) -> bool:
        ours = cls is socket and isinstance(instance, Socket)
        return ours or super().__instancecheck__(instance)


class socket(_stdlib.socket, metaclass=_SocketType):  # noqa: N801
    """The stdlib's; of UDP, mhostd's (InetSocket). A subclass of it is the kernel's."""


SocketType: type = socket
_warned = False


def _warn_once(text: str) -> None:
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(f"UDP sockets are the kernel's: {text}", RuntimeWarning, stacklevel=3)


# --- names


def getaddrinfo(
    host: bytes | str | None,
    port: bytes | str | int | None,
    family: int = 0,
    type: int = 0,
    proto: int = 0,
    flags: int = 0,
) -> list[Any]:
    """As the stdlib's; a name that it does not know may be one of mhostd's."""
    try:
        return list(_stdlib.getaddrinfo(host, port, family, type, proto, flags))
    except _stdlib.gaierror:
        found = _locators(host, family)
        if not found:
            raise
    infos: list[Any] = []
    for address in found:
        infos += _stdlib.getaddrinfo(address, port, family, type, proto, flags)
    return infos


def _locators(host: bytes | str | None, family: int) -> list[str]:
    """Addresses of IPv4 and IPv6 that mhostd knows of a name."""
    if not isinstance(host, str) or ":" in host:
        return []
    wanted = (AF_INET, AF_INET6) if family == 0 else (family,)
    try:
        infos = _mhost_getaddrinfo(host, 0)
    except OSError:
        return []
    return [info[4][0] for info in infos if info[0] in wanted and info[0] != AF_MHOST]


def gethostbyname(hostname: str) -> str:
    """The first IPv4 address of a host."""
    return str(getaddrinfo(hostname, None, AF_INET)[0][4][0])
