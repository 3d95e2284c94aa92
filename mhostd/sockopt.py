"""setsockopt(2) and getsockopt(2): the options of one socket, here and in the kernel.

Multicast belongs to the host kernel's INET and INET6 (DESIGN 4.5), so its options, and
all others that the kernel's sockets have too, are set there as well; a kernel socket
that is opened later gets them in the order in which they were set.
"""

from __future__ import annotations

import errno
from collections.abc import Callable

from mhostd.errors import MhostError
from mhostd.mhost_table import MhostTable
from mhostd.options import (
    CONTROL,
    IP_ADD_MEMBERSHIP,
    IP_ADD_SOURCE_MEMBERSHIP,
    IP_DROP_MEMBERSHIP,
    IP_DROP_SOURCE_MEMBERSHIP,
    IP_MTU,
    IP_MULTICAST_IF,
    IP_PKTINFO,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_UDP,
    IPV6_JOIN_GROUP,
    IPV6_LEAVE_GROUP,
    IPV6_MTU,
    IPV6_RECVPKTINFO,
    IPV6_V6ONLY,
    OPTIONS,
    SO_BINDTODEVICE,
    SO_DOMAIN,
    SO_PROTOCOL,
    SO_RCVBUF,
    SO_SNDBUF,
    SO_TIMESTAMP,
    SO_TIMESTAMPNS,
    SO_TYPE,
    SOCK_DGRAM,
    SOL_SOCKET,
    STRUCTURES,
    Key,
    int_of,
    option_value,
)
from mhostd.sock import SK_BUF_MAX, SK_BUF_MIN, Sock
from mhostd.uapi import AF_INET, AF_INET6, AF_MHOST, MHOST_MTU, MHOST_RECVPKTINFO, SOL_MHOST

IFNAMSIZ = 16  # octets, linux/if.h, the terminating zero included

_FAMILIES = {SOL_SOCKET: (AF_INET, AF_INET6), IPPROTO_IP: (AF_INET,), IPPROTO_IPV6: (AF_INET6,)}
_LEVELS = {*_FAMILIES, IPPROTO_UDP, SOL_MHOST}
_LEAVES = {
    (IPPROTO_IP, IP_DROP_MEMBERSHIP): (IPPROTO_IP, IP_ADD_MEMBERSHIP),
    (IPPROTO_IP, IP_DROP_SOURCE_MEMBERSHIP): (IPPROTO_IP, IP_ADD_SOURCE_MEMBERSHIP),
    (IPPROTO_IPV6, IPV6_LEAVE_GROUP): (IPPROTO_IPV6, IPV6_JOIN_GROUP),
}
_MEMBERSHIPS_MAX = 64  # of one socket; Linux has net.ipv4.igmp_max_memberships, 20

PathMtu = Callable[[Sock, int, float], int]
"""path_mtu(sk, family, now): octets of L3 packet that reach the peer; or ENOTCONN.

Of AF_MHOST it is the payload that fits one packet, over whichever L3 the peer is reached now.
"""


class SockOpts:
    """What is asked of the kernel's sockets goes through `MhostProto.udp`."""

    def __init__(self, table: MhostTable, path_mtu: PathMtu) -> None:
        self._table = table
        self._path_mtu = path_mtu

    def get(self, sk: Sock, level: int, option: int, now: float = 0.0) -> int | bytes:
        """getsockopt(2); `now` is seconds of a monotonic clock.

        Returns:
            An int, or octets of what is a structure or text.

        Raises:
            MhostError: ENOPROTOOPT for an option that there is not, EOPNOTSUPP for a
                level, ENOTCONN for the MTU of a path without a peer.
        """
        key = (level, option)
        if key in OPTIONS:
            return sk.options.get(key, OPTIONS[key].default)
        if level == SOL_SOCKET and option in _READ:
            return _READ[option](sk)
        if key == (IPPROTO_IP, IP_MULTICAST_IF):
            return _multicast_if(sk.structures)
        if key == (IPPROTO_IP, IP_MTU):
            return self._path_mtu(sk, AF_INET, now)
        if key == (IPPROTO_IPV6, IPV6_MTU):
            return self._path_mtu(sk, AF_INET6, now)
        if key == (SOL_MHOST, MHOST_MTU):
            return self._path_mtu(sk, AF_MHOST, now)
        if level not in _LEVELS:
            raise MhostError(
                errno.EOPNOTSUPP, f"getsockopt: there is no level {level}; see docs/ipc.md"
            )
        raise _no_option("getsockopt", level, option)

    def set(self, sk: Sock, level: int, option: int, value: int | bytes) -> None:
        """setsockopt(2).

        Args:
            sk: the socket.
            level: SOL_SOCKET, IPPROTO_IP, IPPROTO_IPV6 or SOL_MHOST.
            option: of that level.
            value: an int, or octets of what is a structure or text.

        Raises:
            MhostError: ENOPROTOOPT for what there is not or cannot be set, EINVAL for
                a value that it cannot have, and what the kernel's sockets say.
        """
        key = (level, option)
        if key in STRUCTURES:
            self._set_structure(sk, key, value)
        elif key in OPTIONS and not OPTIONS[key].read_only:
            self._set_int(sk, key, option_value(level, option, value))
        elif key == (SOL_SOCKET, SO_BINDTODEVICE):
            self._bind_to_device(sk, value)
        elif level == SOL_SOCKET and option in (SO_RCVBUF, SO_SNDBUF):
            wanted = value if isinstance(value, int) else int_of(value)
            least = SK_BUF_MIN if option == SO_RCVBUF else 2 * SK_BUF_MIN
            size = max(least, 2 * min(wanted & 0xFFFF_FFFF, SK_BUF_MAX // 2))
            if option == SO_RCVBUF:
                sk.rcvbuf = size
            else:
                sk.sndbuf = size
            self._tell_kernel(sk, key, size // 2)
        else:
            if level == SOL_SOCKET and isinstance(value, bytes):
                int_of(value)  # its length is looked at first
            raise _no_option("setsockopt", level, option)

    def _set_int(self, sk: Sock, key: Key, value: int) -> None:
        if key == (IPPROTO_IPV6, IPV6_V6ONLY) and sk.sport:
            raise MhostError(
                errno.EINVAL,
                f"setsockopt: IPV6_V6ONLY, and the socket is bound to port {sk.sport}; "
                "set it before",
            )
        if OPTIONS[key].kernel:
            self._tell_kernel(sk, key, value)
        sk.options.pop(key, None)  # the last one set comes last
        sk.options[key] = value
        stamps = (SO_TIMESTAMP, SO_TIMESTAMPNS)
        if key[0] == SOL_SOCKET and key[1] in stamps and value:  # one of the two
            sk.options.pop((SOL_SOCKET, sum(stamps) - key[1]), None)
        if key == (SOL_MHOST, MHOST_RECVPKTINFO):  # the kernel tells the device with its own
            for each in ((IPPROTO_IP, IP_PKTINFO), (IPPROTO_IPV6, IPV6_RECVPKTINFO)):
                self._tell_kernel(sk, each, value or sk.options.get(each, 0))
        sk.wants_control = any(sk.options.get(each) for each in CONTROL)

    def _set_structure(self, sk: Sock, key: Key, value: int | bytes) -> None:
        if isinstance(value, int):
            value = (value & 0xFFFF_FFFF).to_bytes(4, "little")
        if len(sk.structures) >= _MEMBERSHIPS_MAX:
            raise MhostError(
                errno.ENOBUFS,
                f"setsockopt: this socket has {_MEMBERSHIPS_MAX} memberships, the most "
                "there may be; leave some, or open another one",
            )
        if not self._tell_kernel(sk, key, value):
            raise MhostError(
                errno.ENODEV,
                "setsockopt: multicast is the host kernel's, and its L3 is not registered; "
                "`mhostctl l3 up host_inet`",
            )
        kept = sk.structures
        if key == (IPPROTO_IP, IP_MULTICAST_IF):
            kept[:] = [each for each in kept if each[0] != key]
        if key not in _LEAVES:
            kept.append((key, value))
            return
        # The kernel knows a membership by its group and interface, however written.
        same = [each for each in kept if each[0] == _LEAVES[key]]
        same.sort(key=lambda each: (each[1] != value, each[1][:4] != value[:4]))
        if same:
            kept.remove(same[0])

    def _bind_to_device(self, sk: Sock, value: int | bytes) -> None:
        octets = value if isinstance(value, bytes) else b"?"
        name = octets[: IFNAMSIZ - 1].split(b"\0")[0].decode(errors="replace")
        if name and not self._table.ifindex(name):
            raise MhostError(
                errno.ENODEV,
                f"setsockopt: SO_BINDTODEVICE: no device {name!r}; `ip link` lists them",
            )
        self._tell_kernel(sk, (SOL_SOCKET, SO_BINDTODEVICE), name.encode() + b"\0")
        sk.device = name

    def _tell_kernel(self, sk: Sock, key: Key, value: int | bytes) -> bool:
        """Set it on the kernel's sockets; False if there is no such L3."""
        told = False
        for proto in self._table.protos.values():
            if proto.udp and proto.family in _FAMILIES.get(key[0], ()):
                proto.udp.setsockopt(sk, key, value)
                told = True
        return told


_READ: dict[int, Callable[[Sock], int | bytes]] = {
    SO_TYPE: lambda _sk: SOCK_DGRAM,
    SO_DOMAIN: lambda _sk: AF_MHOST,
    SO_PROTOCOL: lambda _sk: IPPROTO_UDP,
    SO_RCVBUF: lambda sk: sk.rcvbuf,
    SO_SNDBUF: lambda sk: sk.sndbuf,
    SO_BINDTODEVICE: lambda sk: sk.device.encode() + b"\0" if sk.device else b"",
}


def _multicast_if(structures: list[tuple[Key, bytes]]) -> bytes:
    """The address in the last struct in_addr, ip_mreq or ip_mreqn that was set."""
    for key, value in reversed(structures):
        if key == (IPPROTO_IP, IP_MULTICAST_IF):
            return value[4:8] if len(value) >= 8 else value[:4]
    return bytes(4)


def _no_option(call: str, level: int, option: int) -> MhostError:
    return MhostError(
        errno.ENOPROTOOPT,
        f"{call}: level {level} has no option {option} here; see docs/ipc.md",
    )
