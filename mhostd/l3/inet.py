"""IPv4 on the TUN (RFC 791, 792, 1122): header, UDP, echo, errors that come back.

    octet  0    1    2    3    4
           +----+----+----+----+
       0   |4 hl| tos|tot_len  |
       4   |   id    |frag_off |
       8   |ttl |prot|  check  |
      12   |       saddr       |
      16   |       daddr       |
           +----+----+----+----+  options up to octet 4 * hl

Packets go out atomic (DF set, RFC 6864 section 4), so their identification is 0.
"""

from __future__ import annotations

import errno
import struct

from mhostd import native
from mhostd.dev import ETH_P_IP
from mhostd.l3.address import inet_ntop, inet_pton
from mhostd.l3.wrapper import (
    IPPROTO_UDP,
    DropReason,
    L3Wrapper,
    MhostProto,
    NetDevice,
    PacketType,
    SkBuff,
)
from mhostd.uapi import AF_INET

IPPROTO_ICMP = 1

_HDR = struct.Struct("!BBHHHBBH4s4s")
_PSEUDO = struct.Struct("!4s4sHH")  # RFC 768
_CHECK_AT = 10  # octet of the header checksum
_DF = 0x4000
_FRAGMENT = 0x3FFF  # more fragments, or an offset
_TTL = 64  # RFC 1700, "Assigned Numbers", IP TIME TO LIVE PARAMETER

_ICMP = struct.Struct("!BBH")
_ICMP_HLEN = 8
_ECHO_REPLY, _UNREACHABLE, _ECHO = 0, 3, 8
# Linux net/ipv4/icmp.c icmp_err_convert, by code
_UNREACHABLE_ERRNO = (
    errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENOPROTOOPT, errno.ECONNREFUSED,
    errno.EMSGSIZE, errno.EOPNOTSUPP, errno.ENETUNREACH, errno.EHOSTDOWN,
    errno.ENONET, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETUNREACH,
    errno.EHOSTUNREACH, errno.EHOSTUNREACH, errno.EHOSTUNREACH, errno.EHOSTUNREACH,
)  # fmt: skip


def inet_csum_pseudo(saddr: bytes, daddr: bytes, ulen: int) -> int:
    """Partial sum of the pseudo-header of UDP (RFC 768)."""
    return native.csum_fold(_PSEUDO.pack(saddr, daddr, IPPROTO_UDP, ulen))


class AfInet:
    """One IPv4 address of ours behind a TUN."""

    def __init__(self, l3: L3Wrapper, dev: NetDevice, address: bytes) -> None:
        self._l3 = l3
        self._dev = dev
        self._address = address
        self.inet_ptype = PacketType(type=ETH_P_IP, func=self.inet_rcv)
        self.inet_mhost_proto = MhostProto(
            family=AF_INET,
            name="inet",
            addr_len=4,
            pton=inet_pton,
            ntop=inet_ntop,
            addresses=lambda: (address,),
            mtu=lambda: dev.mtu - _HDR.size,
            device=dev.name,
            up=lambda: dev.up,
            sendmsg=self.inet_sendmsg,
            rcv=self.inet_rcv,
            csum_pseudo=inet_csum_pseudo,
        )

    def inet_sendmsg(
        self, skb: SkBuff, saddr: bytes, daddr: bytes, number: int = IPPROTO_UDP
    ) -> None:
        """Put the header on and send it, or loop it back if it is for us."""
        hdr = skb.push(_HDR.size)
        _HDR.pack_into(hdr, 0, 0x45, 0, len(skb), 0, _DF, _TTL, number, 0, saddr, daddr)
        struct.pack_into("!H", hdr, _CHECK_AT, ~native.csum_fold(hdr) & 0xFFFF)
        dev = self._l3.lo if daddr == self._address else self._dev
        self._l3.mhost_send_to_l2(skb, dev, ETH_P_IP)

    def inet_rcv(self, skb: SkBuff) -> DropReason | None:
        """Check the header (RFC 1122 section 3.2.1) and take it off."""
        if len(skb) < _HDR.size:
            return DropReason.PKT_TOO_SMALL
        first, _tos, tot_len, _id, frag_off, _ttl, number, _check, saddr, daddr = (
            _HDR.unpack_from(skb.buf, skb.head)
        )
        hlen = (first & 0xF) * 4
        if first >> 4 != 4 or hlen < _HDR.size or tot_len < hlen:
            return DropReason.IP_INHDR
        if tot_len > len(skb):
            return DropReason.PKT_TOO_SMALL
        if native.csum_fold(skb.data[:hlen]) != 0xFFFF:
            return DropReason.IP_CSUM
        if daddr != self._address:
            return DropReason.OTHERHOST
        if saddr[0] in (0, 127) or saddr[0] >= 224:  # RFC 1122 section 3.2.1.3
            return DropReason.IP_INVALID_SOURCE
        if frag_off & _FRAGMENT:
            return DropReason.IP_FRAGMENT
        skb.trim(tot_len)
        skb.pull(hlen)
        skb.saddr, skb.daddr = saddr, daddr
        if number == IPPROTO_ICMP:
            return self._icmp_rcv(skb)
        ulen = int.from_bytes(skb.data[4:6], "big")
        skb.pseudo_csum = inet_csum_pseudo(saddr, daddr, ulen)
        return self._l3.mhost_send_to_l4(skb, self.inet_mhost_proto, number)

    def _icmp_rcv(self, skb: SkBuff) -> DropReason | None:
        """RFC 792: answer an echo, pass an error on to whom it concerns."""
        if len(skb) < _ICMP_HLEN:
            return DropReason.PKT_TOO_SMALL
        if native.csum_fold(skb.data) != 0xFFFF:
            return DropReason.ICMP_CSUM
        type_, code, _check = _ICMP.unpack_from(skb.buf, skb.head)
        counters = self.inet_mhost_proto.counters
        if type_ == _ECHO and code == 0:
            reply = SkBuff.alloc(bytes(skb.data))
            _ICMP.pack_into(reply.buf, reply.head, _ECHO_REPLY, 0, 0)
            check = ~native.csum_fold(reply.data) & 0xFFFF
            _ICMP.pack_into(reply.buf, reply.head, _ECHO_REPLY, 0, check)
            counters["icmp_echos"] += 1
            self.inet_sendmsg(reply, skb.daddr, skb.saddr, IPPROTO_ICMP)
            return None
        if type_ == _UNREACHABLE and code < len(_UNREACHABLE_ERRNO):
            skb.pull(_ICMP_HLEN)
            return self._icmp_unreach(skb, _UNREACHABLE_ERRNO[code])
        return DropReason.ICMP_TYPE

    def _icmp_unreach(self, skb: SkBuff, err: int) -> DropReason | None:
        """The quoted header is ours if it has our source address."""
        if len(skb) < _HDR.size:
            return DropReason.PKT_TOO_SMALL
        first, *_skip, number, _check, saddr, daddr = _HDR.unpack_from(skb.buf, skb.head)
        hlen = (first & 0xF) * 4
        if first >> 4 != 4 or hlen < _HDR.size or len(skb) < hlen + 8:
            return DropReason.IP_INHDR
        if saddr != self._address:
            return DropReason.OTHERHOST
        skb.pull(hlen)
        skb.family, skb.saddr, skb.daddr = AF_INET, saddr, daddr
        self.inet_mhost_proto.counters["icmp_dest_unreachs"] += 1
        self._l3.mhost_err(skb, number, err)
        return None
