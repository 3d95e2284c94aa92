"""AF_MHOST datagram sockets: `import mhost`.

    with mhost.Socket() as s:
        s.sendto(b"hello", ("robot", 8080))

The names below are loaded when they are first used, so that `mhostctl`, which lives
here too, starts without what it does not need.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # for type checkers it is true; typing takes 10 ms to load
if TYPE_CHECKING:  # so that they see what __getattr__ gives
    from mhost.dgram import Socket
    from mhost.endpoint import create_datagram_endpoint
    from mhost.names import getaddrinfo
    from mhostd.uapi import (
        AF_INET,
        AF_INET6,
        AF_MHOST,
        AF_OTHERPROTO,
        AF_TESTPROTO,
        AF_UNSPEC,
        MHOST_FRESHNESS,
        MHOST_MTU,
        MHOST_PKTINFO,
        MHOST_POLICY,
        MHOST_POLICY_DUPLICATE,
        MHOST_POLICY_FAILOVER,
        MHOST_POLICY_HOST,
        MHOST_RECVPKTINFO,
        SOL_MHOST,
    )

_HOME = {
    "Socket": "mhost.dgram",
    "create_datagram_endpoint": "mhost.endpoint",
    "getaddrinfo": "mhost.names",
}

__all__ = [
    "AF_INET",
    "AF_INET6",
    "AF_MHOST",
    "AF_OTHERPROTO",
    "AF_TESTPROTO",
    "AF_UNSPEC",
    "MHOST_FRESHNESS",
    "MHOST_MTU",
    "MHOST_PKTINFO",
    "MHOST_POLICY",
    "MHOST_POLICY_DUPLICATE",
    "MHOST_POLICY_FAILOVER",
    "MHOST_POLICY_HOST",
    "MHOST_RECVPKTINFO",
    "SOL_MHOST",
    "Socket",
    "create_datagram_endpoint",
    "getaddrinfo",
]


def __getattr__(name: str) -> object:
    """Load what is asked for (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module 'mhost' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(_HOME.get(name, "mhostd.uapi")), name)
    globals()[name] = value
    return value
