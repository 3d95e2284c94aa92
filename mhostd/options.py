"""Socket options: what there is, what each may be, and what it is until it is set.

Numbers are those of asm-generic/socket.h, linux/in.h and linux/in6.h; ranges and
defaults are those of net/core/sock.c, net/ipv4/ip_sockglue.c, net/ipv6/ipv6_sockglue.c.
"""

from __future__ import annotations

import errno
import sys
from typing import NamedTuple

from mhostd.errors import MhostError
from mhostd.uapi import (
    MHOST_FRESHNESS,
    MHOST_POLICY,
    MHOST_RECVERR,
    MHOST_RECVPKTINFO,
    SOL_MHOST,
)

SOL_SOCKET, IPPROTO_IP, IPPROTO_UDP, IPPROTO_IPV6 = 1, 0, 17, 41
SOCK_DGRAM = 2

SO_REUSEADDR, SO_TYPE, SO_DONTROUTE, SO_BROADCAST = 2, 3, 5, 6
SO_SNDBUF, SO_RCVBUF, SO_REUSEPORT = 7, 8, 15
SO_RCVLOWAT, SO_SNDLOWAT, SO_BINDTODEVICE, SO_TIMESTAMP = 18, 19, 25, 29
SO_ACCEPTCONN, SO_TIMESTAMPNS, SO_PROTOCOL, SO_DOMAIN, SO_RXQ_OVFL = 30, 35, 38, 39, 40

IP_TOS, IP_TTL, IP_PKTINFO, IP_MTU_DISCOVER, IP_RECVERR = 1, 2, 8, 10, 11
IP_RECVTTL, IP_RECVTOS, IP_MTU = 12, 13, 14
IP_MULTICAST_IF, IP_MULTICAST_TTL, IP_MULTICAST_LOOP = 32, 33, 34
IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP = 35, 36
IP_ADD_SOURCE_MEMBERSHIP, IP_DROP_SOURCE_MEMBERSHIP, IP_MULTICAST_ALL = 39, 40, 49

IPV6_UNICAST_HOPS, IPV6_MULTICAST_IF, IPV6_MULTICAST_HOPS, IPV6_MULTICAST_LOOP = 16, 17, 18, 19
IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP, IPV6_MTU_DISCOVER, IPV6_MTU = 20, 21, 23, 24
IPV6_RECVERR, IPV6_V6ONLY, IPV6_MULTICAST_ALL = 25, 26, 29
IPV6_RECVPKTINFO, IPV6_PKTINFO, IPV6_RECVHOPLIMIT, IPV6_HOPLIMIT = 49, 50, 51, 52
IPV6_RECVTCLASS, IPV6_TCLASS = 66, 67

DEFAULT_TTL = 64  # RFC 1700, "Assigned Numbers", IP TIME TO LIVE PARAMETER
PMTUDISC_WANT, PMTUDISC_OMIT = 1, 5

Key = tuple[int, int]
"""(level, option)."""


class Option(NamedTuple):
    """An option whose value is an int.

    Attributes:
        default: what it is until it is set.
        low: least value.
        high: greatest value; with `low` 0 and `high` 1 any int is taken for its truth.
        unset: a value that means the default again, if any.
        strict: a flag that is 0 or 1 and nothing else.
        octet: one octet is enough.
        empty: no octets at all are 0.
        kernel: the host kernel's sockets have it as well.
        read_only: it cannot be set.
    """

    default: int = 0
    low: int = 0
    high: int = 1
    unset: int | None = None
    strict: bool = False
    octet: bool = False
    empty: bool = False
    kernel: bool = True
    read_only: bool = False


_FLAG = Option()
_OURS = Option(kernel=False)
_OCTET = Option(high=255, octet=True, empty=True)

OPTIONS: dict[Key, Option] = {
    (SOL_SOCKET, SO_REUSEADDR): _FLAG,
    (SOL_SOCKET, SO_DONTROUTE): _FLAG,
    (SOL_SOCKET, SO_BROADCAST): _FLAG,
    (SOL_SOCKET, SO_REUSEPORT): _FLAG,
    (SOL_SOCKET, SO_TIMESTAMP): _FLAG,
    (SOL_SOCKET, SO_TIMESTAMPNS): _FLAG,
    (SOL_SOCKET, SO_RXQ_OVFL): _FLAG,
    (SOL_SOCKET, SO_RCVLOWAT): Option(1, 0, 2**31 - 1, unset=0),  # datagrams come whole
    (SOL_SOCKET, SO_SNDLOWAT): Option(1, read_only=True),
    (SOL_SOCKET, SO_ACCEPTCONN): Option(0, read_only=True),
    (IPPROTO_IP, IP_TOS): _OCTET,
    (IPPROTO_IP, IP_TTL): Option(DEFAULT_TTL, 1, 255, unset=-1, octet=True, empty=True),
    (IPPROTO_IP, IP_PKTINFO): _FLAG._replace(octet=True, empty=True),
    (IPPROTO_IP, IP_MTU_DISCOVER): Option(
        PMTUDISC_WANT, 0, PMTUDISC_OMIT, octet=True, empty=True
    ),
    (IPPROTO_IP, IP_RECVERR): _OURS._replace(
        octet=True, empty=True
    ),  # the kernel's always have it
    (IPPROTO_IP, IP_RECVTTL): _FLAG._replace(octet=True, empty=True),
    (IPPROTO_IP, IP_RECVTOS): _FLAG._replace(octet=True, empty=True),
    (IPPROTO_IP, IP_MULTICAST_TTL): Option(1, 0, 255, unset=-1, octet=True),
    (IPPROTO_IP, IP_MULTICAST_LOOP): Option(1, octet=True),
    (IPPROTO_IP, IP_MULTICAST_ALL): Option(1, strict=True, octet=True),
    (IPPROTO_IPV6, IPV6_UNICAST_HOPS): Option(DEFAULT_TTL, 0, 255, unset=-1),
    (IPPROTO_IPV6, IPV6_MULTICAST_HOPS): Option(1, 0, 255, unset=-1),
    (IPPROTO_IPV6, IPV6_MULTICAST_LOOP): Option(1, strict=True),
    (IPPROTO_IPV6, IPV6_MULTICAST_IF): Option(0, -(2**31), 2**31 - 1),
    (IPPROTO_IPV6, IPV6_MULTICAST_ALL): Option(1),
    (IPPROTO_IPV6, IPV6_MTU_DISCOVER): Option(PMTUDISC_WANT, 0, PMTUDISC_OMIT),
    (IPPROTO_IPV6, IPV6_RECVERR): _OURS,
    (IPPROTO_IPV6, IPV6_V6ONLY): _OURS,
    (IPPROTO_IPV6, IPV6_RECVPKTINFO): _FLAG,
    (IPPROTO_IPV6, IPV6_RECVHOPLIMIT): _FLAG,
    (IPPROTO_IPV6, IPV6_RECVTCLASS): _FLAG,
    (IPPROTO_IPV6, IPV6_TCLASS): Option(0, 0, 255, unset=-1),
    (SOL_MHOST, MHOST_RECVPKTINFO): _OURS,
    (SOL_MHOST, MHOST_RECVERR): _OURS,
    (SOL_MHOST, MHOST_POLICY): _OURS._replace(high=2, strict=True),
    (SOL_MHOST, MHOST_FRESHNESS): _OURS._replace(high=60_000, strict=True),
}

# Structures, which the host kernel's sockets check and keep.
STRUCTURES: frozenset[Key] = frozenset({
    (IPPROTO_IP, IP_MULTICAST_IF),
    (IPPROTO_IP, IP_ADD_MEMBERSHIP), (IPPROTO_IP, IP_DROP_MEMBERSHIP),
    (IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP), (IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP),
    (IPPROTO_IPV6, IPV6_JOIN_GROUP), (IPPROTO_IPV6, IPV6_LEAVE_GROUP),
})  # fmt: skip

# What asks for control messages with each datagram.
CONTROL: frozenset[Key] = frozenset({
    (SOL_SOCKET, SO_TIMESTAMP), (SOL_SOCKET, SO_TIMESTAMPNS), (SOL_SOCKET, SO_RXQ_OVFL),
    (IPPROTO_IP, IP_PKTINFO), (IPPROTO_IP, IP_RECVTTL), (IPPROTO_IP, IP_RECVTOS),
    (IPPROTO_IPV6, IPV6_RECVPKTINFO), (IPPROTO_IPV6, IPV6_RECVHOPLIMIT),
    (IPPROTO_IPV6, IPV6_RECVTCLASS), (SOL_MHOST, MHOST_RECVPKTINFO),
})  # fmt: skip


def option_value(level: int, option: int, value: int | bytes) -> int:
    """Return what an int option is to be.

    Args:
        level: of setsockopt(2).
        option: one of OPTIONS.
        value: an int, or its octets; of more than four the first four count.

    Raises:
        MhostError: EINVAL if it is too short or not in the option's range.
    """
    row = OPTIONS[level, option]
    if isinstance(value, bytes):
        if not value and row.empty:
            value = bytes(4)
        value = int_of(value, one_is_enough=row.octet)
    if (level, option) == (SOL_SOCKET, SO_RCVLOWAT) and value < 0:
        value = row.high
    if row.unset is not None and value == row.unset:
        return row.default
    if row.high == 1 and not row.strict:
        return int(bool(value))
    if row == _OCTET:
        return value & 0xFF
    if not row.low <= value <= row.high:
        raise MhostError(
            errno.EINVAL,
            f"setsockopt: option {option} of level {level}: {value} is not in "
            f"{row.low}..{row.high}",
        )
    return value


def int_of(octets: bytes, *, one_is_enough: bool = False) -> int:
    """Read an int of setsockopt(2); of more than four octets the first four count.

    Raises:
        MhostError: EINVAL if it is too short.
    """
    if len(octets) >= 4:
        return int.from_bytes(octets[:4], sys.byteorder, signed=True)
    if octets and one_is_enough:
        return octets[0]
    raise MhostError(errno.EINVAL, f"setsockopt: value of {len(octets)} octets; an int has 4")
