"""Control messages as msg_control of sendmsg(2) and recvmsg(2) holds them: cmsg(3).

    octet  0          8        12        16
           +----------+---------+---------+--- - - -+
           | cmsg_len | level   | type    | data    |  padded to 8 octets
           +----------+---------+---------+--- - - -+

In the byte order of the machine, 64 bits wide whatever the machine is.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

_HDR = struct.Struct("=Qii")
CMSG_ALIGN = 8  # octets


class Cmsg(NamedTuple):
    """One control message.

    Attributes:
        level: as of setsockopt(2).
        type: what it is, within the level.
        data: octets.
    """

    level: int
    type: int
    data: bytes


def pack_cmsgs(messages: Iterable[tuple[int, int, bytes]]) -> bytes:
    """Return them one after the other, each padded."""
    return b"".join(
        _HDR.pack(_HDR.size + len(data), level, type_) + data + bytes(-len(data) % CMSG_ALIGN)
        for level, type_, data in messages
    )


def unpack_cmsgs(control: bytes) -> list[Cmsg]:
    """Read them.

    Raises:
        ValueError: a length does not fit; it names octet, value and limit.
    """
    messages = []
    at, end = 0, len(control)
    while at < end:
        length = level = type_ = 0
        if end - at >= _HDR.size:
            length, level, type_ = _HDR.unpack_from(control, at)
        if not _HDR.size <= length <= end - at:
            raise ValueError(
                f"control message at octet {at}: length {length} is not in "
                f"{_HDR.size}..{end - at}"
            )
        messages.append(Cmsg(level, type_, control[at + _HDR.size : at + length]))
        at += -(-length // CMSG_ALIGN) * CMSG_ALIGN
    return messages
