"""IPv6 on the TUN (RFC 8200, 4443): header, UDP, echo, errors that come back.

    octet  0    1    2    3    4
           +----+----+----+----+
       0   |6| class |flow label|
       4   | length  |next|hops|
       8   |       saddr       |
      24   |       daddr       |
           +----+----+----+----+  40 octets

No neighbour discovery: a TUN has no link-layer addresses, and our address is never
the kernel's, so nobody asks for it.
"""

from __future__ import annotations

import errno
import struct

from mhostd import native
from mhostd.dev import ETH_P_IPV6
from mhostd.l3.address import inet6_ntop, inet6_pton
from mhostd.l3.wrapper import (
    IPPROTO_UDP,
    DropReason,
    L3Wrapper,
    MhostProto,
    NetDevice,
    PacketType,
    SkBuff,
)
from mhostd.uapi import AF_INET6

IPPROTO_ICMPV6 = 58
_EXTENSIONS = frozenset({0, 43, 60, 135, 139, 140})  # all but fragment, RFC 8200, 7045
_FRAGMENT = 44

_HDR = struct.Struct("!IHBB16s16s")
_PSEUDO = struct.Struct("!16s16sI3xB")  # RFC 8200 section 8.1
_HOP_LIMIT = 64

_NO_SOURCE = (bytes(16), bytes(15) + b"\1")

_ICMP = struct.Struct("!BBH")
_ICMP_HLEN = 8
_UNREACHABLE, _ECHO, _ECHO_REPLY = 1, 128, 129
# Linux net/ipv6/icmp.c tab_unreach, by code
_UNREACHABLE_ERRNO = (
    errno.ENETUNREACH, errno.EACCES, errno.EHOSTUNREACH, errno.EHOSTUNREACH,
    errno.ECONNREFUSED, errno.EACCES, errno.EACCES,
)  # fmt: skip


def inet6_csum_pseudo(
    saddr: bytes, daddr: bytes, length: int, number: int = IPPROTO_UDP
) -> int:
    """Partial sum of the pseudo-header (RFC 8200 section 8.1)."""
    return native.csum_fold(_PSEUDO.pack(saddr, daddr, length, number))


class AfInet6:
    """One IPv6 address of ours behind a TUN."""

    def __init__(self, l3: L3Wrapper, dev: NetDevice, address: bytes) -> None:
        self._l3 = l3
        self._dev = dev
        self._address = address
        self.inet6_ptype = PacketType(type=ETH_P_IPV6, func=self.inet6_rcv)
        self.inet6_mhost_proto = MhostProto(
            family=AF_INET6,
            name="inet6",
            addr_len=16,
            pton=inet6_pton,
            ntop=inet6_ntop,
            addresses=lambda: (address,),
            mtu=lambda: dev.mtu - _HDR.size,
            device=dev.name,
            up=lambda: dev.up,
            sendmsg=self.inet6_sendmsg,
            rcv=self.inet6_rcv,
            csum_pseudo=inet6_csum_pseudo,
        )

    def inet6_sendmsg(
        self, skb: SkBuff, saddr: bytes, daddr: bytes, number: int = IPPROTO_UDP
    ) -> None:
        """Put the header on and send it, or loop it back if it is for us."""
        length = len(skb)
        hdr = (6 << 28, length, number, _HOP_LIMIT, saddr, daddr)
        _HDR.pack_into(skb.push(_HDR.size), 0, *hdr)
        dev = self._l3.lo if daddr == self._address else self._dev
        self._l3.mhost_send_to_l2(skb, dev, ETH_P_IPV6)

    def inet6_rcv(self, skb: SkBuff) -> DropReason | None:
        """Check the header (RFC 8200 section 3) and take it off."""
        if len(skb) < _HDR.size:
            return DropReason.PKT_TOO_SMALL
        first, length, number, _hops, saddr, daddr = _HDR.unpack_from(skb.buf, skb.head)
        if first >> 28 != 6:
            return DropReason.IP_INHDR
        if length > len(skb) - _HDR.size:
            return DropReason.PKT_TOO_SMALL
        if daddr != self._address:
            return DropReason.OTHERHOST
        if saddr[0] == 0xFF or saddr in _NO_SOURCE:  # RFC 4291 section 2.5.2, 2.5.3, 2.7
            return DropReason.IP_INVALID_SOURCE
        skb.trim(_HDR.size + length)
        skb.pull(_HDR.size)
        skb.saddr, skb.daddr = saddr, daddr
        if number == _FRAGMENT:
            return DropReason.IP_FRAGMENT
        if number in _EXTENSIONS:
            return DropReason.IP_NOPROTO
        if number == IPPROTO_ICMPV6:
            return self._icmpv6_rcv(skb)
        ulen = int.from_bytes(skb.data[4:6], "big")
        skb.pseudo_csum = inet6_csum_pseudo(saddr, daddr, ulen)
        skb.csum_required = True
        return self._l3.mhost_send_to_l4(skb, self.inet6_mhost_proto, number)

    def _icmpv6_rcv(self, skb: SkBuff) -> DropReason | None:
        """RFC 4443: answer an echo, pass an error on to whom it concerns."""
        if len(skb) < _ICMP_HLEN:
            return DropReason.PKT_TOO_SMALL
        psum = inet6_csum_pseudo(skb.saddr, skb.daddr, len(skb), IPPROTO_ICMPV6)
        if native.csum_fold(skb.data, psum) != 0xFFFF:
            return DropReason.ICMP_CSUM
        type_, code, _check = _ICMP.unpack_from(skb.buf, skb.head)
        if type_ == _ECHO and code == 0:
            reply = SkBuff.alloc(bytes(skb.data))
            _ICMP.pack_into(reply.buf, reply.head, _ECHO_REPLY, 0, 0)
            check = ~native.csum_fold(reply.data, psum) & 0xFFFF
            _ICMP.pack_into(reply.buf, reply.head, _ECHO_REPLY, 0, check)
            self.inet6_mhost_proto.counters["icmp_echos"] += 1
            self.inet6_sendmsg(reply, skb.daddr, skb.saddr, IPPROTO_ICMPV6)
            return None
        if type_ == _UNREACHABLE and code < len(_UNREACHABLE_ERRNO):
            skb.pull(_ICMP_HLEN)
            return self._icmpv6_unreach(skb, _UNREACHABLE_ERRNO[code])
        return DropReason.ICMP_TYPE

    def _icmpv6_unreach(self, skb: SkBuff, err: int) -> DropReason | None:
        """The quoted header is ours if it has our source address."""
        if len(skb) < _HDR.size + 8:
            return DropReason.PKT_TOO_SMALL
        first, _length, number, _hops, saddr, daddr = _HDR.unpack_from(skb.buf, skb.head)
        if first >> 28 != 6:
            return DropReason.IP_INHDR
        if saddr != self._address:
            return DropReason.OTHERHOST
        skb.pull(_HDR.size)
        skb.family, skb.saddr, skb.daddr = AF_INET6, saddr, daddr
        self.inet6_mhost_proto.counters["icmp_dest_unreachs"] += 1
        self._l3.mhost_err(skb, number, err)
        return None
