"""IPv6 on the TUN (RFC 8200): the header, fragments both ways, path MTU.

    octet  0    1    2    3    4
           +----+----+----+----+
       0   |6| class |flow label|
       4   | length  |next|hops|
       8   |       saddr       |
      24   |       daddr       |
           +----+----+----+----+  40 octets, then extension headers

ICMPv6 is in icmpv6.py, extension headers are in exthdrs.py, fragments in reassembly.py.
No neighbour discovery: a TUN has no link-layer addresses, and our address is never
the kernel's, so nobody asks for it.
"""

from __future__ import annotations

import errno
import random
import struct
from typing import NamedTuple

from mhostd import native
from mhostd.dev import ETH_P_IPV6
from mhostd.l3.address import inet6_ntop, inet6_pton
from mhostd.l3.exthdrs import (
    FRAGMENT,
    FRAGMENT_HLEN,
    HDR_FIELD,
    HDR_INCOMP,
    HOPOPTS,
    IPV6_HLEN,
    LENGTH_MAX,
    NEXT_AT,
    NONE,
    UNK_NEXTHDR,
    At,
    Problem,
    ip6_parse_exthdrs,
    ipv6_skip_exthdr,
    ipv6frag_thdr_truncated,
)
from mhostd.l3.icmp import ICMPV6_DEST_UNREACH, ICMPV6_PARAMPROB, ICMPV6_TIME_EXCEED
from mhostd.l3.icmpv6 import (
    ICMPV6_EXC_FRAGTIME,
    ICMPV6_PORT_UNREACH,
    IPPROTO_ICMPV6,
    Icmpv6,
)
from mhostd.l3.pmtu import PathMtus
from mhostd.l3.reassembly import Fragment, Reassembly, Whole
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
from mhostd.skb import IP_PMTUDISC_DO, IP_PMTUDISC_INTERFACE, IP_PMTUDISC_PROBE
from mhostd.uapi import AF_INET6

_HDR = struct.Struct("!IHBB16s16s")
_PSEUDO = struct.Struct("!16s16sI3xB")  # RFC 8200 section 8.1
_LENGTH_AT = 4  # octet of the field
_HOP_LIMIT = 64
_FRAG = struct.Struct("!BBHI")  # next, 0, offset and M, identification
_OFFSET_AT = 2
_REASSEMBLY_S = 60.0  # RFC 8200 section 4.5
_MTU_MIN = 1280  # RFC 8200 section 5
_NO_SOURCE = (bytes(16), bytes(15) + b"\1")
_FIRST = At(IPPROTO_UDP, IPV6_HLEN, NEXT_AT)


def inet6_csum_pseudo(
    saddr: bytes, daddr: bytes, length: int, number: int = IPPROTO_UDP
) -> int:
    """Partial sum of the pseudo-header (RFC 8200 section 8.1)."""
    return native.csum_fold(_PSEUDO.pack(saddr, daddr, length, number))


class Reassembled(NamedTuple):
    """A packet without its fragment header, and where to go on in it."""

    skb: SkBuff
    at: At


class AfInet6:
    """One IPv6 address of ours behind a TUN."""

    def __init__(self, l3: L3Wrapper, dev: NetDevice, address: bytes) -> None:
        self._l3 = l3
        self._dev = dev
        self._address = address
        self._pmtus = PathMtus(_MTU_MIN, True, l3.now)
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
            held=lambda: self._reassembly.fragments,
            path_mtu=self.inet6_path_mtu,
            flow_header=self.inet6_flow_header,
        )
        counters = self.inet6_mhost_proto.counters
        self._icmp = Icmpv6(
            l3.now,
            l3.kfree_skb,
            address,
            counters,
            self.inet6_sendmsg,
            inet6_csum_pseudo,
            self._icmpv6_unreach,
        )
        self._reassembly: Reassembly[tuple[bytes, int]] = Reassembly(
            _REASSEMBLY_S, l3.kfree_skb, l3.add_timer, self._late, counters
        )

    # --- down

    def inet6_path_mtu(self, daddr: bytes) -> int:
        """Octets of packet that reach an address in one piece (IPV6_MTU)."""
        return self._pmtus.path_mtu(daddr, self._route(daddr).mtu)

    def _route(self, daddr: bytes) -> NetDevice:
        return self._l3.lo if daddr == self._address else self._dev

    def inet6_sendmsg(
        self, skb: SkBuff, saddr: bytes, daddr: bytes, number: int = IPPROTO_UDP
    ) -> None:
        """Put the header on and send it, in fragments if it must and may be.

        skb.ttl, skb.tos and skb.pmtudisc (ipv6(7), IPV6_MTU_DISCOVER) say how; fragments
        are those of RFC 8200 section 4.5.

        Raises:
            MhostError: EMSGSIZE, ENETDOWN.
        """
        dev, how = self._route(daddr), skb.pmtudisc
        mtu = dev.mtu
        if how < IP_PMTUDISC_PROBE:
            mtu = self._pmtus.path_mtu(daddr, mtu)
        room = mtu - _HDR.size
        if len(skb) <= room:
            self._send(skb, dev, number, saddr, daddr)
            return
        if IP_PMTUDISC_DO <= how <= IP_PMTUDISC_INTERFACE:
            raise MhostError(
                errno.EMSGSIZE,
                f"sendto: packet of {_HDR.size + len(skb)} octets to {inet6_ntop(daddr)} "
                f"exceeds {mtu}, its path MTU; IPV6_MTU_DISCOVER forbids fragments, "
                "IPV6_MTU tells it",
            )
        payload, room = bytes(skb.data), (room - _FRAG.size) & ~7
        id_ = random.getrandbits(32)
        for offset in range(0, len(payload), room):
            more = offset + room < len(payload)
            part = SkBuff.alloc(payload[offset : offset + room])
            part.ttl, part.tos = skb.ttl, skb.tos
            _FRAG.pack_into(part.push(_FRAG.size), 0, number, 0, offset | more, id_)
            self._send(part, dev, FRAGMENT, saddr, daddr)

    def inet6_flow_header(
        self, skb: SkBuff, saddr: bytes, daddr: bytes
    ) -> tuple[bytes, int] | None:
        """As inet6_sendmsg() has it for every whole packet (MhostProto.flow_header)."""
        how, mtu = skb.pmtudisc, self._route(daddr).mtu
        if how > IP_PMTUDISC_DO:
            return None
        first, hops = 6 << 28 | skb.tos << 20, skb.ttl or _HOP_LIMIT
        header = _HDR.pack(first, 0, IPPROTO_UDP, hops, saddr, daddr)
        return header, self._pmtus.path_mtu(daddr, mtu) - _HDR.size

    def _send(
        self, skb: SkBuff, dev: NetDevice, number: int, saddr: bytes, daddr: bytes
    ) -> None:
        first, hops = 6 << 28 | skb.tos << 20, skb.ttl or _HOP_LIMIT
        _HDR.pack_into(
            skb.push(_HDR.size), 0, first, len(skb) - _HDR.size, number, hops, saddr, daddr
        )
        self._l3.mhost_send_to_l2(skb, dev, ETH_P_IPV6)

    # --- up

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
        if length or number != HOPOPTS:  # else a jumbo payload option may say how long it is
            skb.trim(_HDR.size + length)
        skb.saddr, skb.daddr = saddr, daddr
        skb.ttl, skb.tos = hops, first >> 20 & 0xFF
        if number == IPPROTO_UDP:
            return self._deliver(skb, skb.head, _FIRST)
        return self._exthdrs(skb, skb.head, At(number, IPV6_HLEN, NEXT_AT))

    def _exthdrs(self, skb: SkBuff, start: int, at: At) -> End:
        """Go through the extension headers, of a fragment and of what it makes whole."""
        fragmented = False
        while True:
            after = ip6_parse_exthdrs(memoryview(skb.buf)[start:], at)
            if isinstance(after, Problem):
                return self._problem(skb, start, after)
            if after.number != FRAGMENT:
                return self._deliver(skb, start, after)
            if fragmented:  # a second fragment header; as Linux
                again = Problem(DropReason.IP_INHDR, HDR_FIELD, after.offset)
                return self._problem(skb, start, again)
            next_ = self._fragment(skb, start, after)
            if not isinstance(next_, Reassembled):
                return next_
            skb, at, start = next_.skb, next_.at, next_.skb.head
            fragmented = True

    def _problem(self, skb: SkBuff, start: int, problem: Problem) -> DropReason:
        """Tell the source what is wrong with its packet."""
        if problem.code is not None:
            packet = skb.buf[start:]
            self._icmp.icmpv6_send(packet, ICMPV6_PARAMPROB, problem.code, problem.pointer)
        return problem.reason

    def _deliver(self, skb: SkBuff, start: int, at: At) -> End:
        """What follows the last extension header."""
        skb.head = start + at.offset
        number = at.number
        if number == IPPROTO_ICMPV6:
            return self._icmp.icmpv6_rcv(skb)
        ulen = int.from_bytes(skb.buf[skb.head + 4 : skb.head + 6], "big")
        skb.pseudo_csum = inet6_csum_pseudo(skb.saddr, skb.daddr, ulen)
        skb.csum_required = True
        end = self._l3.mhost_send_to_l4(skb, self.inet6_mhost_proto, number)
        if end is DropReason.NO_SOCKET:
            packet = skb.buf[start:]
            self._icmp.icmpv6_send(packet, ICMPV6_DEST_UNREACH, ICMPV6_PORT_UNREACH)
        elif end is DropReason.IP_NOPROTO and number != NONE:
            return self._problem(skb, start, Problem(end, UNK_NEXTHDR, at.nhoff))
        return end

    def _fragment(self, skb: SkBuff, start: int, at: At) -> Reassembled | End:
        """Hold a fragment; return the packet once it is whole (RFC 8200 section 4.5)."""
        packet, inner = memoryview(skb.buf)[start:], at.offset + _FRAG.size
        if inner > len(packet):
            field = Problem(DropReason.PKT_TOO_SMALL, HDR_FIELD, at.offset)
            return self._problem(skb, start, field)
        number, _zero, offset_more, id_ = _FRAG.unpack_from(packet, at.offset)
        offset, more = offset_more & 0xFFF8, bool(offset_more & 1)
        if not offset and not more:  # atomic, RFC 6946
            skb.head = start
            return Reassembled(skb, At(number, inner, at.offset))
        if not offset and ipv6frag_thdr_truncated(packet):
            return self._problem(skb, start, Problem(DropReason.IP_INHDR, HDR_INCOMP))
        payload = bytes(packet[inner:])
        if offset + len(payload) > LENGTH_MAX:
            far = Problem(DropReason.PKT_TOO_BIG, HDR_FIELD, at.offset + _OFFSET_AT)
            return self._problem(skb, start, far)
        if more and len(payload) % 8:
            return self._problem(
                skb, start, Problem(DropReason.IP_INHDR, HDR_FIELD, _LENGTH_AT)
            )
        head = bytes(packet[:inner])
        fragment = Fragment(offset, more, payload, head, skb.tos & 3, at.nhoff)
        held = self._reassembly.add((skb.saddr, id_), fragment, self._l3.now())
        if held is None:
            return Verdict.HELD
        if isinstance(held, DropReason):
            return held
        return self._reassembled(skb, held)

    def _reassembled(self, skb: SkBuff, held: Whole) -> Reassembled | DropReason:
        """Put a packet together that was held, without its fragment header."""
        first = held.first
        at = len(first.head) - FRAGMENT_HLEN
        hdr, number = bytearray(first.head[:at]), first.head[at]
        length = at - _HDR.size + len(held.payload)
        if length > LENGTH_MAX:
            return DropReason.PKT_TOO_BIG
        hdr[first.nhoff] = number
        hdr[1] |= held.ecn << 4
        struct.pack_into("!H", hdr, _LENGTH_AT, length)
        whole = skb.reassembled(bytes(hdr) + held.payload)
        whole.ttl, whole.tos = hdr[7], (hdr[0] << 8 | hdr[1]) >> 4 & 0xFF
        return Reassembled(whole, At(number, at, first.nhoff))

    def _late(self, _key: tuple[bytes, int], first: Fragment) -> None:
        """Fragments have waited long enough; tell the host that sent them."""
        packet = first.head + first.payload
        self._icmp.icmpv6_send(packet, ICMPV6_TIME_EXCEED, ICMPV6_EXC_FRAGTIME)

    def _icmpv6_unreach(self, skb: SkBuff, err: IcmpError) -> End:
        """Take an error about a packet that is quoted, at `skb`.

        It is ours if it has our source address.
        """
        if len(skb) < _HDR.size + 8:
            return DropReason.PKT_TOO_SMALL
        at = ipv6_skip_exthdr(skb.data)
        if at is None or at.number == FRAGMENT or at.offset + 8 > len(skb):
            return DropReason.IP_INHDR  # it does not say which socket it is about
        *_skip, saddr, daddr = _HDR.unpack_from(skb.buf, skb.head)
        if saddr != self._address:
            return DropReason.OTHERHOST
        skb.pull(at.offset)
        skb.family, skb.saddr, skb.daddr = AF_INET6, saddr, daddr
        self.inet6_mhost_proto.counters["icmp_errors"] += 1
        if err.errno == errno.EMSGSIZE and at.number in (IPPROTO_UDP, IPPROTO_ICMPV6):
            self._pmtus.learn(daddr, err.info, self._route(daddr).mtu)
            self._l3.changed()
        self._l3.mhost_err(skb, at.number, err)
        return Verdict.CONSUMED
