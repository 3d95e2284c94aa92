"""IPv4 on the TUN (RFC 791, 1122): the header, fragments both ways, path MTU.

    octet  0    1    2    3    4
           +----+----+----+----+
       0   |4 hl| tos|tot_len  |
       4   |   id    |frag_off |
       8   |ttl |prot|  check  |
      12   |       saddr       |
      16   |       daddr       |
           +----+----+----+----+  options up to octet 4 * hl

What has DF is atomic (RFC 6864 section 4) and has identification 0. ICMP is in
icmpv4.py, options are in ip_options.py, fragments in reassembly.py.
"""

from __future__ import annotations

import errno
import itertools
import random
import struct

from mhostd import native
from mhostd.dev import ETH_P_IP
from mhostd.l3.address import inet_ntop, inet_pton
from mhostd.l3.icmp import ICMP_DEST_UNREACH, ICMP_PARAMETERPROB, ICMP_TIME_EXCEEDED
from mhostd.l3.icmpv4 import (
    ICMP_EXC_FRAGTIME,
    ICMP_PORT_UNREACH,
    ICMP_PROT_UNREACH,
    IPPROTO_ICMP,
    Icmpv4,
)
from mhostd.l3.ip_options import IpOptions, ip_options_compile
from mhostd.l3.pmtu import PathMtus
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
from mhostd.skb import (
    IP_PMTUDISC_DO,
    IP_PMTUDISC_INTERFACE,
    IP_PMTUDISC_PROBE,
    IP_PMTUDISC_WANT,
)
from mhostd.uapi import AF_INET

_HDR = struct.Struct("!BBHHHBBH4s4s")
_PSEUDO = struct.Struct("!4s4sHH")  # RFC 768
_LENGTH_AT, _FRAG_AT, _CHECK_AT = 2, 6, 10  # octets of the fields
_DF = 0x4000
_MF = 0x2000
_OFFSET = 0x1FFF  # in units of 8 octets
_LENGTH_MAX = 0xFFFF  # octets, header included
_NOOP = b"\1"  # RFC 791: an option that is not copied leaves its room
_REASSEMBLY_S = 30.0  # as Linux net.ipv4.ipfrag_time; RFC 1122 section 3.3.2 asks for it
_PMTU_MIN = 552  # octets, as Linux net.ipv4.route.min_pmtu
_TTL = 64  # RFC 1700, "Assigned Numbers", IP TIME TO LIVE PARAMETER
_SPECIAL = frozenset({0, 127, *range(224, 256)})  # first octets to look at more closely


def inet_csum_pseudo(saddr: bytes, daddr: bytes, ulen: int) -> int:
    """Partial sum of the pseudo-header of UDP (RFC 768)."""
    return native.csum_fold(_PSEUDO.pack(saddr, daddr, IPPROTO_UDP, ulen))


def _is_no_source(address: bytes) -> bool:
    """Whether no host has it (RFC 1122 section 3.2.1.3; as in Linux 0.0.0.1 may be one)."""
    first = address[0]
    return first == 127 or 224 <= first < 240 or address in (bytes(4), b"\xff\xff\xff\xff")


class AfInet:
    """One IPv4 address of ours behind a TUN."""

    def __init__(self, l3: L3Wrapper, dev: NetDevice, address: bytes) -> None:
        self._l3 = l3
        self._dev = dev
        self._address = address
        self._ids = itertools.count(random.getrandbits(16))
        self._pmtus = PathMtus(_PMTU_MIN, False, l3.now)
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
            fragments=True,
            held=lambda: self._reassembly.fragments,
            path_mtu=self.inet_path_mtu,
            flow_header=self.inet_flow_header,
        )
        counters = self.inet_mhost_proto.counters
        self._icmp = Icmpv4(
            l3.now, l3.kfree_skb, address, counters, self.inet_sendmsg, self._icmp_unreach
        )
        self._reassembly: Reassembly[tuple[bytes, int, int]] = Reassembly(
            _REASSEMBLY_S, l3.kfree_skb, l3.add_timer, self._late, counters
        )

    # --- down

    def inet_path_mtu(self, daddr: bytes) -> int:
        """Octets of packet that reach an address in one piece (IP_MTU)."""
        return self._pmtus.path_mtu(daddr, self._route(daddr).mtu)

    def _route(self, daddr: bytes) -> NetDevice:
        return self._l3.lo if daddr == self._address else self._dev

    def inet_sendmsg(
        self,
        skb: SkBuff,
        saddr: bytes,
        daddr: bytes,
        number: int = IPPROTO_UDP,
        options: bytes = b"",
    ) -> None:
        """Put the header on and send it, in fragments if it must and may be (RFC 791).

        skb.ttl, skb.tos and skb.pmtudisc (ip(7), IP_MTU_DISCOVER) say how.

        Raises:
            MhostError: EMSGSIZE, ENETDOWN.
        """
        dev, how = self._route(daddr), skb.pmtudisc
        path, mtu = self._pmtus.lookup(daddr, dev.mtu), dev.mtu
        if path is not None and how < IP_PMTUDISC_PROBE:
            mtu = path.octets
        hlen = _HDR.size + len(options)
        room = mtu - hlen
        if len(skb) <= room:
            if how == IP_PMTUDISC_WANT:
                atomic = path is None or not path.locked
            else:
                atomic = how in (IP_PMTUDISC_DO, IP_PMTUDISC_PROBE)
            id_ = 0 if atomic else self._next_id()
            self._send(skb, dev, id_, _DF if atomic else 0, number, saddr, daddr, options)
            return
        if IP_PMTUDISC_DO <= how <= IP_PMTUDISC_INTERFACE:
            raise MhostError(
                errno.EMSGSIZE,
                f"sendto: packet of {hlen + len(skb)} octets to {inet_ntop(daddr)} exceeds "
                f"{mtu}, its path MTU; IP_MTU_DISCOVER forbids fragments, IP_MTU tells it",
            )
        payload, room, id_ = bytes(skb.data), room & ~7, self._next_id()
        for offset in range(0, len(payload), room):
            more = _MF if offset + room < len(payload) else 0
            part = SkBuff.alloc(payload[offset : offset + room])
            part.ttl, part.tos = skb.ttl, skb.tos
            kept = _NOOP * len(options) if offset else options
            self._send(part, dev, id_, more | offset // 8, number, saddr, daddr, kept)

    def inet_flow_header(
        self, skb: SkBuff, saddr: bytes, daddr: bytes
    ) -> tuple[bytes, int] | None:
        """As inet_sendmsg() has it for every atomic packet (MhostProto.flow_header)."""
        dev, how = self._route(daddr), skb.pmtudisc
        path = self._pmtus.lookup(daddr, dev.mtu)
        locked = how == IP_PMTUDISC_WANT and path is not None and path.locked
        if locked or how not in (IP_PMTUDISC_WANT, IP_PMTUDISC_DO):
            return None
        fields = (0x45, skb.tos, 0, 0, _DF, skb.ttl or _TTL, IPPROTO_UDP, 0, saddr, daddr)
        return _HDR.pack(*fields), (path.octets if path else dev.mtu) - _HDR.size

    def _next_id(self) -> int:
        return next(self._ids) % 0xFFFF + 1

    def _send(
        self,
        skb: SkBuff,
        dev: NetDevice,
        id_: int,
        frag_off: int,
        number: int,
        saddr: bytes,
        daddr: bytes,
        options: bytes,
    ) -> None:
        hdr = skb.push(_HDR.size + len(options))
        first, ttl = 0x45 + len(options) // 4, skb.ttl or _TTL
        fields = (first, skb.tos, len(skb), id_, frag_off, ttl, number, 0, saddr, daddr)
        _HDR.pack_into(hdr, 0, *fields)
        if options:
            hdr[_HDR.size :] = options
        struct.pack_into("!H", hdr, _CHECK_AT, ~native.csum_fold(hdr) & 0xFFFF)
        self._l3.mhost_send_to_l2(skb, dev, ETH_P_IP)

    # --- up

    def inet_rcv(self, skb: SkBuff) -> End:
        """Check the header (RFC 1122 section 3.2.1) and take it off."""
        if len(skb) < _HDR.size:
            return DropReason.PKT_TOO_SMALL
        start = skb.head
        first, tos, tot_len, id_, frag_off, ttl, number, _check, saddr, daddr = (
            _HDR.unpack_from(skb.buf, start)
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
        if saddr[0] in _SPECIAL and _is_no_source(saddr):
            return DropReason.IP_INVALID_SOURCE
        if saddr == daddr and skb.dev != self._l3.lo.name:
            return DropReason.IP_INVALID_SOURCE
        skb.trim(tot_len)
        skb.saddr, skb.daddr, skb.ttl, skb.tos = saddr, daddr, ttl, tos
        options = None
        if hlen > _HDR.size:
            options = self._options(skb, hlen)
            if options.wrong is not None or options.source_route:
                return DropReason.IP_INHDR
        skb.pull(hlen)
        if frag_off & (_MF | _OFFSET):
            whole = self._reassemble(skb, start, (saddr, id_, number), frag_off)
            if not isinstance(whole, SkBuff):
                return whole
            skb, start, options = whole, 0, None
        if number == IPPROTO_ICMP:
            return self._icmp.icmp_rcv(skb, options)
        ulen = int.from_bytes(skb.buf[skb.head + 4 : skb.head + 6], "big")
        skb.pseudo_csum = inet_csum_pseudo(saddr, daddr, ulen)
        end = self._l3.mhost_send_to_l4(skb, self.inet_mhost_proto, number)
        if end is DropReason.NO_SOCKET or end is DropReason.IP_NOPROTO:
            code = ICMP_PORT_UNREACH if end is DropReason.NO_SOCKET else ICMP_PROT_UNREACH
            self._icmp.icmp_send(skb.buf[start:], ICMP_DEST_UNREACH, code, 0, options)
        return end

    def _options(self, skb: SkBuff, hlen: int) -> IpOptions:
        """Take the options, and tell the source if one is wrong.

        No source route is followed (Linux accept_source_route=0).
        """
        at = slice(skb.head + _HDR.size, skb.head + hlen)
        options = ip_options_compile(bytes(skb.buf[at]), self._address, self._icmp.time())
        skb.buf[at] = options.octets
        if options.wrong is not None:
            pointer = _HDR.size + options.wrong
            packet = skb.buf[skb.head :]
            self._icmp.icmp_send(packet, ICMP_PARAMETERPROB, 0, pointer << 24, options)
        return options

    def _reassemble(
        self, skb: SkBuff, start: int, key: tuple[bytes, int, int], frag_off: int
    ) -> SkBuff | End:
        """Hold a fragment; return the datagram, behind its header, once it is whole."""
        offset, more = 8 * (frag_off & _OFFSET), bool(frag_off & _MF)
        if more:
            skb.trim(len(skb) & ~7)  # as Linux does with a length that no host sends
        header = bytes(skb.buf[start : skb.head])
        if len(header) + offset + len(skb) > _LENGTH_MAX:
            return DropReason.PKT_TOO_BIG
        fragment = Fragment(offset, more, bytes(skb.data), header, skb.tos & 3)
        held = self._reassembly.add(key, fragment, self._l3.now())
        if held is None:
            return Verdict.HELD
        if isinstance(held, DropReason):
            return held
        hdr = bytearray(held.first.head)
        if len(hdr) + len(held.payload) > _LENGTH_MAX:
            return DropReason.PKT_TOO_BIG
        hdr[1] |= held.ecn
        struct.pack_into("!H", hdr, _LENGTH_AT, len(hdr) + len(held.payload))
        struct.pack_into("!H", hdr, _FRAG_AT, hdr[_FRAG_AT] << 8 & _DF)
        struct.pack_into("!H", hdr, _CHECK_AT, 0)
        struct.pack_into("!H", hdr, _CHECK_AT, ~native.csum_fold(hdr) & 0xFFFF)
        whole = skb.reassembled(bytes(hdr) + held.payload)
        whole.tos, whole.ttl = hdr[1], hdr[8]
        whole.pull(len(hdr))
        return whole

    def _late(self, _key: tuple[bytes, int, int], first: Fragment) -> None:
        """Fragments have waited long enough; tell the host that sent them."""
        packet = first.head + first.payload
        self._icmp.icmp_send(packet, ICMP_TIME_EXCEEDED, ICMP_EXC_FRAGTIME)

    def _icmp_unreach(self, skb: SkBuff, err: IcmpError) -> End:
        """Take an error about a datagram whose header is quoted, at `skb`.

        It is ours if it has our source address.
        """
        if len(skb) < _HDR.size:
            return DropReason.PKT_TOO_SMALL
        first, *_skip, number, _check, saddr, daddr = _HDR.unpack_from(skb.buf, skb.head)
        hlen = (first & 0xF) * 4
        if hlen < _HDR.size or len(skb) < hlen + 8:
            return DropReason.IP_INHDR
        if saddr != self._address:
            return DropReason.OTHERHOST
        skb.pull(hlen)
        skb.family, skb.saddr, skb.daddr = AF_INET, saddr, daddr
        self.inet_mhost_proto.counters["icmp_errors"] += 1
        if err.errno == errno.EMSGSIZE and number == IPPROTO_UDP:  # what goes out with DF
            self._pmtus.learn(daddr, err.info, self._route(daddr).mtu)
            self._l3.changed()
        self._l3.mhost_err(skb, number, err)
        return Verdict.CONSUMED
