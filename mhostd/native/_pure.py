"""The functions of _native in plain Python: specification, fallback and oracle."""

from __future__ import annotations

import struct

Buffer = bytes | bytearray | memoryview

_HDR = struct.Struct("!HHHH")
UDP_HLEN = _HDR.size
UDP_LEN_MAX = 0xFFFF


def csum_fold(data: Buffer, psum: int = 0, /) -> int:
    """One's complement sum of 16-bit words, folded to 16 bits (RFC 1071).

    A number in base 65536 is congruent to the sum of its digits modulo 65535, so
    the whole buffer is one number and one division.

    Args:
        data: octets to sum; an odd last one is padded with a zero octet.
        psum: a partial sum to start from, 0..0xffffffff.

    Returns:
        The sum, not complemented: 0xffff over data with a correct checksum.

    Raises:
        ValueError: psum is out of range.
    """
    if not 0 <= psum <= 0xFFFF_FFFF:
        raise ValueError(f"csum_fold: psum {psum} is not in 0..0xffffffff")
    view = memoryview(data)
    total = (int.from_bytes(view, "big") << (8 * (len(view) % 2))) + psum
    return total % 0xFFFF or (0xFFFF if total else 0)


def udp_push(buf: bytearray | memoryview, source: int, dest: int, psum: int, /) -> None:
    """Write the UDP header in front of the payload already in `buf`.

    Args:
        buf: writable; 8 octets of room, then the payload.
        source: source port, 0..65535.
        dest: destination port, 0..65535.
        psum: partial sum of the L3 pseudo-header, 0..0xffffffff, 0 if none.

    Raises:
        ValueError: `buf` is not 8..65535 octets long, or a number is out of range.
    """
    view = memoryview(buf)
    if not UDP_HLEN <= len(view) <= UDP_LEN_MAX:
        raise ValueError(f"udp_push: buf of {len(view)} octets; want 8..65535")
    for name, value, most in (
        ("source port", source, 0xFFFF),
        ("dest port", dest, 0xFFFF),
        ("psum", psum, 0xFFFF_FFFF),
    ):
        if not 0 <= value <= most:
            raise ValueError(f"udp_push: {name} {value} is not in 0..{most}")
    _HDR.pack_into(view, 0, source, dest, len(view), 0)
    check = ~csum_fold(view, psum) & 0xFFFF
    # RFC 768: a computed 0 goes out as all ones, for 0 says "no checksum".
    struct.pack_into("!H", view, 6, check or 0xFFFF)
