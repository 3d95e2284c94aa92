"""UDP header codec (RFC 768).

    octet  0       2       4       6       8
           +-------+-------+-------+-------+
           |source | dest  |  len  | check |
           +-------+-------+-------+-------+

Fields are named as in `struct udphdr`. Ints are host order, octets are network
order. Checksums are not computed here: see mhostd.native.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from mhostd.errors import DropReason

_HDR = struct.Struct("!HHHH")
UDP_HLEN = _HDR.size  # octets
UDP_LEN_MAX = 0xFFFF  # octets, header included


class UdpHeader(NamedTuple):
    """One UDP header.

    Attributes:
        source: source port; 0 if no reply is expected.
        dest: destination port.
        len: header and payload, in octets, 8..65535.
        check: checksum as on the wire; 0 means the sender made none.
    """

    source: int
    dest: int
    len: int
    check: int

    def emit(self) -> bytes:
        """Return the header as it is on the wire."""
        return _HDR.pack(*self)

    @classmethod
    def parse(cls, buf: memoryview) -> UdpHeader | DropReason:
        """Read a header; never raises.

        Args:
            buf: the datagram; octets after `len` are L3 padding and are allowed.

        Returns:
            The header, or PKT_TOO_SMALL if `buf` is shorter than the header or
            than `len` says, or UDP_HDR if `len` is below 8 (RFC 768: "the minimum
            value of the length is eight").
        """
        if len(buf) < UDP_HLEN:
            return DropReason.PKT_TOO_SMALL
        hdr = cls(*_HDR.unpack_from(buf))
        if hdr.len < UDP_HLEN:
            return DropReason.UDP_HDR
        if hdr.len > len(buf):
            return DropReason.PKT_TOO_SMALL
        return hdr
