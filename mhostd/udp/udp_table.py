"""Which socket has which port: a hash of (family, local, port, remote, port).

The keys of a socket that is bound and not connected have an empty remote half. A
look-up goes from the most to the least specific key, at most five of them, so its
cost does not depend on how many sockets there are.
"""

from __future__ import annotations

import errno
from collections import Counter
from random import Random
from typing import NamedTuple

from mhostd.errors import MhostError
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
        self._socks: dict[UdpKey, Sock] = {}
        self._keys: dict[Sock, list[UdpKey]] = {}
        self._bound: dict[int, Counter[tuple[int, bytes]]] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def udp_table_insert(self, sk: Sock, family: int, local: bytes, port: int) -> int:
        """Bind `sk`; a socket may be bound at several places with one port.

        Args:
            sk: the socket.
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
        elif self._conflict(family, local, port):
            raise MhostError(
                errno.EADDRINUSE,
                f"bind: port {port} is taken; `mhostctl sockets` shows by whom, "
                "port 0 chooses a free one",
            )
        key = UdpKey(family, local, port)
        self._socks[key] = sk
        self._keys.setdefault(sk, []).append(key)
        self._bound.setdefault(port, Counter())[family, local] += 1
        return port

    def udp_table_connect(self, sk: Sock, family: int, remote: bytes, port: int) -> None:
        """Add the five-field keys of a connected socket, or with port 0 drop them."""
        keys = self._keys.get(sk, [])
        bound = [key for key in keys if not key.rport]
        for key in keys:
            if key.rport:
                del self._socks[key]
        keys[:] = bound
        for key in bound if port else ():
            if key.family in (0, family):
                full = UdpKey(family, key.local, key.lport, remote, port)
                if full not in self._socks:
                    self._socks[full] = sk
                    keys.append(full)

    def udp_table_lookup(self, key: UdpKey) -> Sock | None:
        """Return the socket that matches most fields of a received datagram."""
        family, local, lport, remote, rport = key
        socks = self._socks
        return (
            socks.get(key)
            or socks.get(UdpKey(family, b"", lport, remote, rport))
            or socks.get(UdpKey(family, local, lport))
            or socks.get(UdpKey(family, b"", lport))
            or socks.get(UdpKey(0, b"", lport))
        )

    def udp_table_remove(self, sk: Sock) -> None:
        """Unbind; a socket that is not bound is left as it is."""
        for key in self._keys.pop(sk, ()):
            del self._socks[key]
            if not key.rport:
                places = self._bound[key.lport]
                places[key.family, key.local] -= 1
                if not places[key.family, key.local]:
                    del places[key.family, key.local]
                if not places:
                    del self._bound[key.lport]

    def _conflict(self, family: int, local: bytes, port: int) -> bool:
        places = self._bound.get(port)
        if not places:
            return False
        if family == 0 or (0, b"") in places or (family, b"") in places:
            return True
        if local:
            return (family, local) in places
        return any(other == family for other, _local in places)

    def _pick(self, family: int, local: bytes) -> int:
        start = self._rng.randrange(len(EPHEMERAL))
        for i in range(len(EPHEMERAL)):
            port = EPHEMERAL[(start + i) % len(EPHEMERAL)]
            if not self._conflict(family, local, port):
                return port
        raise MhostError(
            errno.EADDRINUSE,
            f"bind: all {len(EPHEMERAL)} ephemeral ports are taken; close some sockets",
        )
