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
import random
import struct

from mhostd import native
from mhostd.dev import ETH_P_IPV6
from mhostd.l3.address import inet6_ntop, inet6_pton
from mhostd.l3.icmp import ICMPV6_PARAMPROB, ICMPV6_PKT_TOOBIG, icmpv6_err_convert
from mhostd.l3.icmp_limit import IcmpLimit
from mhostd.l3.reassembly import Fragment, Reassembly
from mhostd.l3.wrapper import (
    IPPROTO_UDP,
    DropReason,
    End,
    IcmpError,
    L3Wrapper,
    MhostError,
    MhostProto,
    NetDevice,
    PacketType,
    SkBuff,
    Verdict,
)
from mhostd.sock import SO_EE_ORIGIN_ICMP6
from mhostd.uapi import AF_INET6

IPPROTO_ICMPV6 = 58
_EXTENSIONS = frozenset({0, 43, 60, 135, 139, 140})  # all but fragment, RFC 8200, 7045
_FRAGMENT = 44

_HDR = struct.Struct("!IHBB16s16s")
_PSEUDO = struct.Struct("!16s16sI3xB")  # RFC 8200 section 8.1
_LENGTH_AT, _NEXT_AT = 4, 6  # octets of the fields
_HOP_LIMIT = 64
_FRAG = struct.Struct("!BBHI")  # next, 0, offset and M, identification
_OFFSET_AT = 2
_LENGTH_MAX = 0xFFFF  # octets of payload
_NO_NEXT_HEADER = 59
_REASSEMBLY_S = 60.0  # RFC 8200 section 4.5
_MTU_MIN = 1280  # RFC 8200 section 5
_PMTU_S, _PMTU_ENTRIES_MAX = 600.0, 1024  # as Linux net.ipv6.route.mtu_expires

_NO_SOURCE = (bytes(16), bytes(15) + b"\1")

_ICMP = struct.Struct("!BBH")
_ICMP_HLEN = 8
_UNREACHABLE, _TIME_EXCEEDED, _PARAMETER_PROBLEM = 1, 3, 4
_ECHO, _ECHO_REPLY = 128, 129
_PORT = 4  # code of _UNREACHABLE
_REASSEMBLY_TIME = 1  # code of _TIME_EXCEEDED
_FIELD, _NEXT_HEADER = 0, 1  # codes of _PARAMETER_PROBLEM
_QUOTE_MAX = 1280 - 40 - _ICMP_HLEN  # octets, RFC 4443 section 2.4 (c)


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
        self._pmtu: dict[bytes, tuple[int, float]] = {}  # by destination, until when
        self._limit = IcmpLimit()
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
            fragments=True,
            path_mtu=lambda daddr: self._path_mtu(daddr, dev),
        )
        self._reassembly: Reassembly[tuple[bytes, int]] = Reassembly(
            _REASSEMBLY_S,
            l3.kfree_skb,
            l3.add_timer,
            self._late,
            self.inet6_mhost_proto.counters,
        )

    def inet6_sendmsg(
        self, skb: SkBuff, saddr: bytes, daddr: bytes, number: int = IPPROTO_UDP
    ) -> None:
        """Put the header on and send it, in fragments if it must be (RFC 8200 4.5)."""
        dev = self._l3.lo if daddr == self._address else self._dev
        room = self._path_mtu(daddr, dev) - _HDR.size
        if len(skb) <= room:
            self._send(skb, dev, number, saddr, daddr)
            return
        payload, room = bytes(skb.data), (room - _FRAG.size) & ~7
        id_ = random.getrandbits(32)
        for offset in range(0, len(payload), room):
            more = offset + room < len(payload)
            part = SkBuff.alloc(payload[offset : offset + room])
            _FRAG.pack_into(part.push(_FRAG.size), 0, number, 0, offset | more, id_)
            self._send(part, dev, _FRAGMENT, saddr, daddr)

    def _send(
        self, skb: SkBuff, dev: NetDevice, number: int, saddr: bytes, daddr: bytes
    ) -> None:
        hdr = (6 << 28, len(skb), number, _HOP_LIMIT, saddr, daddr)
        _HDR.pack_into(skb.push(_HDR.size), 0, *hdr)
        self._l3.mhost_send_to_l2(skb, dev, ETH_P_IPV6)

    def _path_mtu(self, daddr: bytes, dev: NetDevice) -> int:
        mtu, until_s = self._pmtu.get(daddr, (dev.mtu, 0.0))
        return min(mtu, dev.mtu) if self._l3.now() < until_s else dev.mtu

    def inet6_rcv(self, skb: SkBuff) -> End:
        """Check the header (RFC 8200 section 3) and take it off."""
        if len(skb) < _HDR.size:
            return DropReason.PKT_TOO_SMALL
        first, length, number, hops, saddr, daddr = _HDR.unpack_from(skb.buf, skb.head)
        if first >> 28 != 6:
            return DropReason.IP_INHDR
        if length > len(skb) - _HDR.size:
            return DropReason.PKT_TOO_SMALL
        if daddr != self._address:
            return DropReason.OTHERHOST
        if saddr[0] == 0xFF or saddr in _NO_SOURCE:  # RFC 4291 section 2.5.2, 2.5.3, 2.7
            return DropReason.IP_INVALID_SOURCE
        skb.trim(_HDR.size + length)
        header = bytes(skb.data[: _HDR.size])
        skb.pull(_HDR.size)
        skb.saddr, skb.daddr = saddr, daddr
        skb.ttl, skb.tos = hops, first >> 20 & 0xFF
        if number == _FRAGMENT:
            whole = self._reassemble(skb, header)
            if not isinstance(whole, tuple):
                return whole
            skb, number = whole
        if number in _EXTENSIONS:
            return DropReason.IP_NOPROTO
        if number == IPPROTO_ICMPV6:
            return self._icmpv6_rcv(skb)
        packet = skb.head
        ulen = int.from_bytes(skb.data[4:6], "big")
        skb.pseudo_csum = inet6_csum_pseudo(saddr, daddr, ulen)
        skb.csum_required = True
        reason = self._l3.mhost_send_to_l4(skb, self.inet6_mhost_proto, number)
        if reason is DropReason.NO_SOCKET:
            self._icmpv6_send(_UNREACHABLE, _PORT, header + skb.buf[packet:], saddr)
        elif reason is DropReason.IP_NOPROTO:
            quoted = header + skb.buf[packet:]
            self._icmpv6_send(_PARAMETER_PROBLEM, _NEXT_HEADER, quoted, saddr, _NEXT_AT)
        return reason

    def _reassemble(self, skb: SkBuff, header: bytes) -> tuple[SkBuff, int] | End:
        """Hold a fragment; return the datagram and what it is once it is whole."""
        if len(skb) < _FRAG.size:
            return DropReason.PKT_TOO_SMALL
        number, _zero, offset_more, id_ = _FRAG.unpack_from(skb.buf, skb.head)
        fragment_header = bytes(skb.data[: _FRAG.size])
        skb.pull(_FRAG.size)
        offset, more = offset_more & 0xFFF8, bool(offset_more & 1)
        if not offset and not more:
            return skb, number  # atomic, RFC 6946
        quoted = header + fragment_header + bytes(skb.data)
        if more and len(skb) % 8:  # RFC 8200 section 4.5: tell where the length is
            self._icmpv6_send(_PARAMETER_PROBLEM, _FIELD, quoted, skb.saddr, _LENGTH_AT)
            return DropReason.IP_INHDR
        if offset + len(skb) > _LENGTH_MAX:
            at = _HDR.size + _OFFSET_AT
            self._icmpv6_send(_PARAMETER_PROBLEM, _FIELD, quoted, skb.saddr, at)
            return DropReason.PKT_TOO_BIG
        if not len(skb):
            return DropReason.IP_INHDR
        head = header + fragment_header
        fragment = Fragment(offset, more, bytes(skb.data), head)
        held = self._reassembly.add((skb.saddr, id_), fragment, self._l3.now())
        if held is None:
            return Verdict.HELD
        if isinstance(held, DropReason):
            return held
        return skb.reassembled(held[1]), held[0].head[_HDR.size]

    def _late(self, key: tuple[bytes, int], first: Fragment) -> None:
        """Fragments have waited long enough; tell the host that sent them."""
        quoted = first.head + first.payload
        self._icmpv6_send(_TIME_EXCEEDED, _REASSEMBLY_TIME, quoted, key[0])

    def _icmpv6_send(
        self, type_: int, code: int, quoted: bytes, daddr: bytes, pointer: int = 0
    ) -> None:
        """Tell a host of an error with its packet, unless that were too often."""
        if not self._limit.allow(self._l3.now()):
            self.inet6_mhost_proto.counters["icmp_ratelimited"] += 1
            return
        skb = SkBuff.alloc(bytes(4) + pointer.to_bytes(4, "big") + quoted[:_QUOTE_MAX])
        _ICMP.pack_into(skb.buf, skb.head, type_, code, 0)
        psum = inet6_csum_pseudo(self._address, daddr, len(skb), IPPROTO_ICMPV6)
        check = ~native.csum_fold(skb.data, psum) & 0xFFFF
        _ICMP.pack_into(skb.buf, skb.head, type_, code, check)
        try:
            self.inet6_sendmsg(skb, self._address, daddr, IPPROTO_ICMPV6)
        except MhostError:
            return  # the device is down: nobody can be told
        self.inet6_mhost_proto.counters["icmp_errors_sent"] += 1

    def _icmpv6_rcv(self, skb: SkBuff) -> End:
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
            try:
                self.inet6_sendmsg(reply, skb.daddr, skb.saddr, IPPROTO_ICMPV6)
            except MhostError:
                self._l3.kfree_skb(DropReason.DEV_READY, 1)
            return Verdict.ANSWERED
        converted = icmpv6_err_convert(type_, code)
        if converted is None:
            return DropReason.ICMP_TYPE
        info = 0
        if type_ in (ICMPV6_PKT_TOOBIG, ICMPV6_PARAMPROB):
            info = int.from_bytes(skb.data[4:8], "big")
        skb.pull(_ICMP_HLEN)
        err = IcmpError(*converted, SO_EE_ORIGIN_ICMP6, type_, code, info, skb.saddr)
        return self._icmpv6_unreach(skb, err)

    def _icmpv6_unreach(self, skb: SkBuff, err: IcmpError) -> End:
        """Take an error about a packet whose header is quoted, at `skb`.

        It is ours if it has our source address.
        """
        if len(skb) < _HDR.size + 8:
            return DropReason.PKT_TOO_SMALL
        first, _length, number, _hops, saddr, daddr = _HDR.unpack_from(skb.buf, skb.head)
        if first >> 28 != 6:
            return DropReason.IP_INHDR
        if saddr != self._address:
            return DropReason.OTHERHOST
        skb.pull(_HDR.size)
        if number == _FRAGMENT:  # the first of several, or what it concerns is not told
            number, _zero, offset_more, _id = _FRAG.unpack_from(skb.buf, skb.head)
            skb.pull(_FRAG.size)
            if offset_more & 0xFFF8 or len(skb) < 8:
                number = _NO_NEXT_HEADER
        skb.family, skb.saddr, skb.daddr = AF_INET6, saddr, daddr
        self.inet6_mhost_proto.counters["icmp_errors"] += 1
        if err.errno == errno.EMSGSIZE:
            if len(self._pmtu) >= _PMTU_ENTRIES_MAX:
                del self._pmtu[next(iter(self._pmtu))]
            self._pmtu[daddr] = (max(err.info, _MTU_MIN), self._l3.now() + _PMTU_S)
        self._l3.mhost_err(skb, number, err)
        return Verdict.CONSUMED
