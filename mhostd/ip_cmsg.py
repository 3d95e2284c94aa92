"""Control messages of IPv4, IPv6 and sockets in general, both ways (ip(7), ipv6(7)).

Named and shaped as in Linux net/ipv4/ip_sockglue.c (ip_cmsg_send, ip_cmsg_recv) and
net/ipv6/datagram.c. What the host kernel's sockets carry is left to them.
"""

from __future__ import annotations

import errno
import struct
from typing import NamedTuple

from mhostd.cmsg import pack_cmsgs, unpack_cmsgs
from mhostd.errors import MhostError
from mhostd.options import (
    IP_MTU_DISCOVER,
    IP_PKTINFO,
    IP_RECVTOS,
    IP_RECVTTL,
    IP_TOS,
    IP_TTL,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_HOPLIMIT,
    IPV6_MTU_DISCOVER,
    IPV6_PKTINFO,
    IPV6_RECVHOPLIMIT,
    IPV6_RECVPKTINFO,
    IPV6_RECVTCLASS,
    IPV6_TCLASS,
    IPV6_UNICAST_HOPS,
    SO_TIMESTAMP,
    SO_TIMESTAMPNS,
    SOL_SOCKET,
)
from mhostd.skb import IP_PMTUDISC_WANT, SkBuff
from mhostd.sock import Datagram, Sock
from mhostd.uapi import AF_INET, AF_INET6

_OF_UNIX = (1, 2)  # SCM_RIGHTS, SCM_CREDENTIALS: passed over, as in __sock_cmsg_send
_INT = struct.Struct("=i")
_TIME = struct.Struct("=qq")  # struct timeval, struct timespec
_IN_PKTINFO = struct.Struct("=i4s4s")
_IN6_PKTINFO = struct.Struct("=16sI")


class IpcmCookie(NamedTuple):
    """What control messages say of one datagram that is to be sent over one family.

    Attributes:
        ttl: time to live or hop limit; None is the socket's.
        tos: type of service or traffic class; None is the socket's.
        source: local address; empty is the socket's.
        ifindex: of the device to send from; 0 is any.
    """

    ttl: int | None = None
    tos: int | None = None
    source: bytes = b""
    ifindex: int = 0


NO_COOKIE = IpcmCookie()


def ip_cmsg_send(control: bytes) -> dict[int, IpcmCookie]:
    """Read what sendmsg(2) was given beside the payload.

    Returns:
        By address family, what is said for it. Other levels are not looked at.

    Raises:
        MhostError: EINVAL for a message of these levels that is not known, or whose
            data has a wrong length or value.
    """
    cookies = {AF_INET: NO_COOKIE, AF_INET6: NO_COOKIE}
    try:
        messages = unpack_cmsgs(control)
    except ValueError as err:
        raise MhostError(errno.EINVAL, f"sendmsg: {err}") from None
    for level, type_, data in messages:
        if level == SOL_SOCKET and type_ not in _OF_UNIX:
            raise _bad(level, type_, data)
        if level == IPPROTO_IP:
            cookies[AF_INET] = _cookie4(cookies[AF_INET], type_, data)
        elif level == IPPROTO_IPV6:
            cookies[AF_INET6] = _cookie6(cookies[AF_INET6], type_, data)
    return cookies


def _cookie4(cookie: IpcmCookie, type_: int, data: bytes) -> IpcmCookie:
    if type_ == IP_TTL and len(data) == 4 and 1 <= _INT.unpack(data)[0] <= 255:
        return cookie._replace(ttl=_INT.unpack(data)[0])
    if type_ == IP_TOS and len(data) == 4 and 0 <= _INT.unpack(data)[0] <= 255:
        return cookie._replace(tos=_INT.unpack(data)[0])
    if type_ == IP_TOS and len(data) == 1:
        return cookie._replace(tos=data[0])
    if type_ == IP_PKTINFO and len(data) == _IN_PKTINFO.size:
        ifindex, spec_dst, _addr = _IN_PKTINFO.unpack(data)
        return cookie._replace(ifindex=ifindex, source=spec_dst if any(spec_dst) else b"")
    raise _bad(IPPROTO_IP, type_, data)


def _cookie6(cookie: IpcmCookie, type_: int, data: bytes) -> IpcmCookie:
    if type_ in (IPV6_HOPLIMIT, IPV6_TCLASS) and len(data) == 4:
        (value,) = _INT.unpack(data)
        if -1 <= value <= 255:
            said = None if value == -1 else value
            if type_ == IPV6_HOPLIMIT:
                return cookie._replace(ttl=said)
            return cookie._replace(tos=said)
    if type_ == IPV6_PKTINFO and len(data) >= _IN6_PKTINFO.size:
        address, ifindex = _IN6_PKTINFO.unpack_from(data)
        return cookie._replace(ifindex=ifindex, source=address if any(address) else b"")
    raise _bad(IPPROTO_IPV6, type_, data)


def _bad(level: int, type_: int, data: bytes) -> MhostError:
    return MhostError(
        errno.EINVAL,
        f"sendmsg: control message {type_} of level {level} with {len(data)} octets of "
        "data; see ip(7) and ipv6(7) for what there is",
    )


def ip_setup_cork(skb: SkBuff, sk: Sock, family: int, cookie: IpcmCookie) -> None:
    """Put on an skb what the socket's options and the control messages say of it."""
    option = sk.options.get
    if family == AF_INET:
        ttl, tos = option((IPPROTO_IP, IP_TTL), 0), option((IPPROTO_IP, IP_TOS), 0)
    else:
        ttl = option((IPPROTO_IPV6, IPV6_UNICAST_HOPS), 0)
        tos = option((IPPROTO_IPV6, IPV6_TCLASS), 0)
    skb.ttl = ttl if cookie.ttl is None else cookie.ttl
    skb.tos = tos if cookie.tos is None else cookie.tos
    skb.pmtudisc = pmtudisc(sk, family)


def pmtudisc(sk: Sock, family: int) -> int:
    """IP_MTU_DISCOVER or IPV6_MTU_DISCOVER of a socket."""
    v4 = (IPPROTO_IP, IP_MTU_DISCOVER)
    key = v4 if family == AF_INET else (IPPROTO_IPV6, IPV6_MTU_DISCOVER)
    return sk.options.get(key, IP_PMTUDISC_WANT)


def ip_cmsg_recv(sk: Sock, datagram: Datagram, ifindex: int, now_ns: int) -> bytes:
    """Write the control messages that a socket wants with a datagram of our own UDP.

    Args:
        sk: the socket.
        datagram: what came.
        ifindex: of the device that it came from.
        now_ns: nanoseconds since the epoch.
    """
    wanted = sk.options.get
    found: list[tuple[int, int, bytes]] = []
    if wanted((SOL_SOCKET, SO_TIMESTAMP)):
        stamp = _TIME.pack(now_ns // 10**9, now_ns % 10**9 // 1000)
        found.append((SOL_SOCKET, SO_TIMESTAMP, stamp))
    if wanted((SOL_SOCKET, SO_TIMESTAMPNS)):
        found.append((SOL_SOCKET, SO_TIMESTAMPNS, _TIME.pack(*divmod(now_ns, 10**9))))
    if datagram.source.family == AF_INET:
        if wanted((IPPROTO_IP, IP_PKTINFO)):
            info = _IN_PKTINFO.pack(ifindex, datagram.daddr, datagram.daddr)
            found.append((IPPROTO_IP, IP_PKTINFO, info))
        if wanted((IPPROTO_IP, IP_RECVTTL)):
            found.append((IPPROTO_IP, IP_TTL, _INT.pack(datagram.ttl)))
        if wanted((IPPROTO_IP, IP_RECVTOS)):
            found.append((IPPROTO_IP, IP_TOS, bytes((datagram.tos,))))
    elif datagram.source.family == AF_INET6:
        if wanted((IPPROTO_IPV6, IPV6_RECVPKTINFO)):
            info = _IN6_PKTINFO.pack(datagram.daddr, ifindex)
            found.append((IPPROTO_IPV6, IPV6_PKTINFO, info))
        if wanted((IPPROTO_IPV6, IPV6_RECVHOPLIMIT)):
            found.append((IPPROTO_IPV6, IPV6_HOPLIMIT, _INT.pack(datagram.ttl)))
        if wanted((IPPROTO_IPV6, IPV6_RECVTCLASS)):
            found.append((IPPROTO_IPV6, IPV6_TCLASS, _INT.pack(datagram.tos)))
    return pack_cmsgs(found)
