"""What recvmsg(2) says with MSG_ERRQUEUE, and how control messages fit a buffer."""

from __future__ import annotations

import errno
import os
import socket
import struct

from mhostd.uapi import (
    AF_INET,
    AF_INET6,
    MHOST_RECVERR,
    SOL_MHOST,
    ExtendedErr,
    SockaddrMhost,
    SockError,
)

Ancillary = list[tuple[int, int, bytes]]

_EXTENDED_ERR = struct.Struct("=IBBBBII")  # struct sock_extended_err, linux/errqueue.h
_SOCKADDR_IN = struct.Struct("=H2s4s8x")
_SOCKADDR_IN6 = struct.Struct("=H2s4x16sI")
_SOCKADDR_MHOST = struct.Struct("=H2sI8s")
_RECVERR = {
    AF_INET: (socket.IPPROTO_IP, 11),  # IP_RECVERR, linux/in.h
    AF_INET6: (socket.IPPROTO_IPV6, 25),  # IPV6_RECVERR, linux/in6.h
}
_CMSG_HLEN = socket.CMSG_LEN(0)  # octets


def no_error() -> OSError:
    """What an empty error queue gives; it is never waited for."""
    return BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))


def error_message(event: SockError) -> tuple[int, int, bytes]:
    """Return the control message of one error: sock_extended_err, then the offender."""
    assert event.queued is not None
    queued = ExtendedErr(*event.queued)
    head = _EXTENDED_ERR.pack(
        event.errno, queued.origin, queued.type, queued.code, 0, queued.info, 0
    )
    family = event.sa.family
    level, type_ = _RECVERR.get(family, (SOL_MHOST, MHOST_RECVERR))
    offender = SockaddrMhost(*queued.offender) if queued.offender else SockaddrMhost(0)
    return level, type_, head + _sockaddr(family, offender)


def _sockaddr(family: int, sa: SockaddrMhost) -> bytes:
    """As the C structure of that family; its port is 0."""
    port = sa.port.to_bytes(2, "big")
    if family == AF_INET:
        return _SOCKADDR_IN.pack(sa.family, port, sa.address[:4])
    if family == AF_INET6:
        return _SOCKADDR_IN6.pack(sa.family, port, sa.address[:16], sa.scope_id)
    return _SOCKADDR_MHOST.pack(sa.family, port, sa.id_no, sa.address[:8])


def fit(messages: Ancillary, octets: int) -> tuple[Ancillary, int]:
    """Cut control messages to a buffer of that many octets, as put_cmsg of Linux does.

    Returns:
        What fits, and MSG_CTRUNC if something did not.
    """
    fitting: Ancillary = []
    for level, type_, data in messages:
        if octets < _CMSG_HLEN:
            return fitting, socket.MSG_CTRUNC
        if octets < _CMSG_HLEN + len(data):
            fitting.append((level, type_, data[: octets - _CMSG_HLEN]))
            return fitting, socket.MSG_CTRUNC
        fitting.append((level, type_, data))
        octets -= min(octets, socket.CMSG_SPACE(len(data)))
    return fitting, 0
