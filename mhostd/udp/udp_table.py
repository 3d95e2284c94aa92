"""Which socket has which port: a hash of (family, local, port, remote, port).

The keys of a socket that is bound and not connected have an empty remote half. A
look-up goes from the most to the least specific key, at most five of them, so its
cost does not depend on how many sockets there are. Sockets that share a key, by
SO_REUSEADDR or SO_REUSEPORT, are chosen among as in Linux net/ipv4/udp.c.
"""

from __future__ import annotations

import errno
import zlib
from random import Random
from typing import NamedTuple

from mhostd.errors import MhostError
from mhostd.options import SO_REUSEADDR, SO_REUSEPORT, SOL_SOCKET
from mhostd.sock import Sock

EPHEMERAL = range(49152, 65536)  # RFC 6335 section 6, Dynamic Ports


class UdpKey(NamedTuple):
    """Five fields, all exact; family 0 and empty addresses are wildcards."""

    family: int
    local: bytes
    lport: int
    remote: bytes = b""
    rport: int = 0


class UdpTable:
    """Bound ports of the L3 protocols that have no UDP of their own."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._seed = rng.getrandbits(32)
        self._socks: dict[UdpKey, list[Sock]] = {}  # who bound last comes first
        self._keys: dict[Sock, list[UdpKey]] = {}
        self._bound: dict[int, dict[tuple[int, bytes], list[Sock]]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def udp_table_insert(self, sk: Sock, family: int, local: bytes, port: int) -> int:
        """Bind `sk`; a socket may be bound at several places with one port.

        Args:
            sk: the socket; its SO_REUSEADDR, SO_REUSEPORT and SO_BINDTODEVICE, and
                those of the sockets that have the port, say whether it may be shared.
            family: 0 for every family.
            local: L3 address; empty for every address of the family.
            port: 0 picks one at random (RFC 6056 section 3.3.1, Algorithm 1).

        Returns:
            The port.

        Raises:
            MhostError: EADDRINUSE if the port, or every ephemeral one, is taken.
        """
        if port == 0:
            port = self._pick(family, local)
        elif any(not _shares(sk, other) for other in self._overlapping(family, local, port)):
            raise MhostError(
                errno.EADDRINUSE,
                f"bind: port {port} is taken; `mhostctl sockets` shows by whom, "
                "port 0 chooses a free one",
            )
        key = UdpKey(family, local, port)
        self._add(sk, key)
        self._bound.setdefault(port, {}).setdefault((family, local), []).append(sk)
        return port

    def udp_table_connect(self, sk: Sock, family: int, remote: bytes, port: int) -> None:
        """Add the five-field keys of a connected socket, or with port 0 drop them."""
        keys = self._keys.get(sk, [])
        bound = [key for key in keys if not key.rport]
        for key in keys:
            if key.rport:
                self._drop(sk, key)
        keys[:] = bound
        for key in bound if port else ():
            if key.family in (0, family):
                self._add(sk, UdpKey(family, key.local, key.lport, remote, port))

    def udp_table_lookup(self, key: UdpKey, dev: str = "") -> Sock | None:
        """Return the socket that matches most fields of a received datagram.

        Args:
            key: where it came to, and where it came from.
            dev: name of the device that received it.
        """
        family, local, lport, remote, rport = key
        get = self._socks.get
        socks = (
            get(key)
            or get(UdpKey(family, b"", lport, remote, rport))
            or get(UdpKey(family, local, lport))
            or get(UdpKey(family, b"", lport))
            or get(UdpKey(0, b"", lport))
        )
        if not socks:
            return None
        if len(socks) == 1 and not socks[0].device:
            return socks[0]
        return self._lookup_shared(key, dev)

    def _lookup_shared(self, key: UdpKey, dev: str) -> Sock | None:
        """The same, where several have one key or some want one device only."""
        family, local, lport, remote, rport = key
        for each in (
            key,
            UdpKey(family, b"", lport, remote, rport),
            UdpKey(family, local, lport),
            UdpKey(family, b"", lport),
            UdpKey(0, b"", lport),
        ):
            found = self._choose(self._socks.get(each, []), key, dev)
            if found is not None:
                return found
        return None

    def udp_table_remove(self, sk: Sock) -> None:
        """Unbind; a socket that is not bound is left as it is."""
        for key in self._keys.pop(sk, ()):
            self._drop(sk, key)
            if not key.rport:
                places = self._bound[key.lport]
                socks = places[key.family, key.local]
                socks.remove(sk)
                if not socks:
                    del places[key.family, key.local]
                if not places:
                    del self._bound[key.lport]

    def _add(self, sk: Sock, key: UdpKey) -> None:
        self._socks.setdefault(key, []).insert(0, sk)
        self._keys.setdefault(sk, []).append(key)

    def _drop(self, sk: Sock, key: UdpKey) -> None:
        socks = self._socks[key]
        socks.remove(sk)
        if not socks:
            del self._socks[key]

    def _choose(self, socks: list[Sock], key: UdpKey, dev: str) -> Sock | None:
        """The one bound to the device, else the last one bound; of a group by the flow."""
        best = [sk for sk in socks if sk.device == dev] if dev else []
        best = best or [sk for sk in socks if not sk.device]
        if not best:
            return None
        group = [sk for sk in best if _same_group(sk, best[0])]
        if len(group) < 2:
            return best[0]
        flow = b"%b %b %d %d" % (key.remote, key.local, key.rport, key.lport)
        return group[zlib.crc32(flow, self._seed) * len(group) >> 32]

    def _overlapping(self, family: int, local: bytes, port: int) -> list[Sock]:
        """Sockets at places that a datagram for this one could be for as well."""
        return [
            sk
            for (other, address), socks in self._bound.get(port, {}).items()
            if 0 in (family, other)
            or (family == other and (b"" in (local, address) or local == address))
            for sk in socks
        ]

    def _pick(self, family: int, local: bytes) -> int:
        start = self._rng.randrange(len(EPHEMERAL))
        for i in range(len(EPHEMERAL)):
            port = EPHEMERAL[(start + i) % len(EPHEMERAL)]
            if not self._overlapping(family, local, port):
                return port
        raise MhostError(
            errno.EADDRINUSE,
            f"bind: all {len(EPHEMERAL)} ephemeral ports are taken; close some sockets",
        )


def _shares(sk: Sock, other: Sock) -> bool:
    """Whether two sockets may have one port at one place: udp_lib_lport_inuse of Linux."""
    if sk is other:
        return False
    if sk.device and other.device and sk.device != other.device:
        return True
    reuse = (SOL_SOCKET, SO_REUSEADDR)
    if sk.options.get(reuse) and other.options.get(reuse):
        return True
    return _same_group(sk, other)


def _same_group(sk: Sock, other: Sock) -> bool:
    """Both have SO_REUSEPORT, and their applications the same user."""
    group = (SOL_SOCKET, SO_REUSEPORT)
    return bool(
        sk.options.get(group) and other.options.get(group) and sk.client.uid == other.client.uid
    )
