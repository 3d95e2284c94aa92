"""The functions of _native in plain Python: specification, fallback and oracle."""

from __future__ import annotations

import struct

Buffer = bytes | bytearray | memoryview

_HDR = struct.Struct("!HHHH")
UDP_HLEN = _HDR.size
UDP_LEN_MAX = 0xFFFF

_VNET = struct.Struct("=BBHHHH")  # struct virtio_net_hdr
_NEEDS_CSUM, _GSO_UDP_L4 = 1, 5  # linux/virtio_net.h
_PACKET_MAX = 0xFFFF


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


def csum_copy(to: bytearray | memoryview, data: Buffer, psum: int, /) -> int:
    """Copy octets and return csum_fold() of them.

    Args:
        to: writable, as many octets as `data`.
        data: as of csum_fold().
        psum: as of csum_fold().

    Raises:
        ValueError: `to` is of another length, or psum out of range.
    """
    room, view = memoryview(to), memoryview(data)
    if len(room) != len(view):
        raise ValueError(f"csum_copy: room for {len(room)} octets; want {len(view)}")
    if not 0 <= psum <= 0xFFFF_FFFF:
        raise ValueError(f"csum_copy: psum {psum} is not in 0..0xffffffff")
    room[:] = view
    return csum_fold(view, psum)


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


def segments(vnet: Buffer, packet: Buffer, /) -> list[bytes]:
    """Cut a super-packet of a TUN into what it stands for, as Linux itself would.

    Args:
        vnet: struct virtio_net_hdr, 10 octets, in the byte order of this machine.
        packet: IPv4 or IPv6, from its header on.

    Returns:
        The packets, with complete checksums; `packet` alone if it is no super-packet.
        IPv4's identification counts up (Linux inet_gso_segment).

    Raises:
        ValueError: a length is out of range.
    """
    header, whole = bytes(vnet), bytes(packet)
    if len(header) != _VNET.size or len(whole) > _PACKET_MAX:
        raise ValueError(
            f"segments: header of {len(header)} octets, packet of {len(whole)}; want 10, "
            f"at most {_PACKET_MAX}"
        )
    flags, gso_type, _hlen, size, start, offset = _VNET.unpack(header)
    hlen = start + UDP_HLEN
    plain = whole[:1] and start == (20 if whole[0] >> 4 == 4 else 40)
    if gso_type == _GSO_UDP_L4 and size and len(whole) > hlen and plain:
        payload = whole[hlen:]
        parts = [payload[at : at + size] for at in range(0, len(payload), size)]
        if len(parts) > 1:
            return [_segment(whole[:hlen], start, i, part) for i, part in enumerate(parts)]
    at = start + offset
    if flags & _NEEDS_CSUM and at + 2 <= len(whole):
        check = ~csum_fold(whole[start:]) & 0xFFFF
        if offset == 6:
            check = check or 0xFFFF
        whole = whole[:at] + check.to_bytes(2, "big") + whole[at + 2 :]
    return [whole]


def _segment(headers: bytes, l3_len: int, number: int, part: bytes) -> bytes:
    """The packet of one part: headers of the whole with its lengths and checksums."""
    l3, udp = bytearray(headers[:l3_len]), bytearray(headers[l3_len:] + part)
    if l3[0] >> 4 == 4:
        id_ = int.from_bytes(l3[4:6], "big") + number & 0xFFFF
        struct.pack_into("!HH", l3, 2, l3_len + len(udp), id_)
        struct.pack_into("!H", l3, 10, 0)
        struct.pack_into("!H", l3, 10, ~csum_fold(l3) & 0xFFFF)
        addresses = l3[12:20]
    else:
        struct.pack_into("!H", l3, 4, len(udp))
        addresses = l3[8:40]
    source, dest, _len, _check = _HDR.unpack_from(udp)
    udp_push(udp, source, dest, csum_fold(addresses, len(udp) + 17))
    return bytes(l3 + udp)
