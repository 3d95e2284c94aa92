"""IPv4 on the TUN (RFC 791, 792, 1122): header, UDP, echo, errors that come back.

    octet  0    1    2    3    4
           +----+----+----+----+
       0   |4 hl| tos|tot_len  |
       4   |   id    |frag_off |
       8   |ttl |prot|  check  |
      12   |       saddr       |
      16   |       daddr       |
           +----+----+----+----+  options up to octet 4 * hl

What fits goes out atomic (DF set, RFC 6864 section 4) with identification 0; what does
not goes out in fragments, and fragments that come are put together (reassembly.py).
"""

from __future__ import annotations

import errno
import itertools
import random
import struct

from mhostd import native
from mhostd.dev import ETH_P_IP
from mhostd.l3.address import inet_ntop, inet_pton
from mhostd.l3.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    icmp_err_convert,
)
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
from mhostd.sock import SO_EE_ORIGIN_ICMP
from mhostd.uapi import AF_INET

IPPROTO_ICMP = 1

_HDR = struct.Struct("!BBHHHBBH4s4s")
_PSEUDO = struct.Struct("!4s4sHH")  # RFC 768
_CHECK_AT = 10  # octet of the header checksum
_DF = 0x4000
_MF = 0x2000
_OFFSET = 0x1FFF  # in units of 8 octets
_LENGTH_MAX = 0xFFFF  # octets, header included
_REASSEMBLY_S = 30.0  # as Linux net.ipv4.ipfrag_time; RFC 1122 section 3.3.2 asks for it
_PMTU_MIN, _PMTU_S, _PMTU_ENTRIES_MAX = 552, 600.0, 1024  # as Linux net.ipv4.route.*
_TTL = 64  # RFC 1700, "Assigned Numbers", IP TIME TO LIVE PARAMETER

_ICMP = struct.Struct("!BBH")
_ICMP_HLEN = 8
_ECHO_REPLY, _UNREACHABLE, _ECHO, _TIME_EXCEEDED = 0, 3, 8, 11
_PROTOCOL, _PORT = 2, 3  # codes of _UNREACHABLE
_REASSEMBLY_TIME = 1  # code of _TIME_EXCEEDED
_QUOTE_MAX = 576 - 20 - _ICMP_HLEN  # octets, RFC 1812 section 4.3.2.3


def inet_csum_pseudo(saddr: bytes, daddr: bytes, ulen: int) -> int:
    """Partial sum of the pseudo-header of UDP (RFC 768)."""
    return native.csum_fold(_PSEUDO.pack(saddr, daddr, IPPROTO_UDP, ulen))


class AfInet:
    """One IPv4 address of ours behind a TUN."""

    def __init__(self, l3: L3Wrapper, dev: NetDevice, address: bytes) -> None:
        self._l3 = l3
        self._dev = dev
        self._address = address
        self._ids = itertools.count(random.getrandbits(16))
        self._pmtu: dict[bytes, tuple[int, float]] = {}  # by destination, until when
        self._limit = IcmpLimit()
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
            path_mtu=lambda daddr: self._path_mtu(daddr, dev),
        )
        self._reassembly: Reassembly[tuple[bytes, int, int]] = Reassembly(
            _REASSEMBLY_S,
            l3.kfree_skb,
            l3.add_timer,
            self._late,
            self.inet_mhost_proto.counters,
        )

    def inet_sendmsg(
        self, skb: SkBuff, saddr: bytes, daddr: bytes, number: int = IPPROTO_UDP
    ) -> None:
        """Put the header on and send it, in fragments if it must be (RFC 791)."""
        dev = self._l3.lo if daddr == self._address else self._dev
        room = self._path_mtu(daddr, dev) - _HDR.size
        if len(skb) <= room:
            self._send(skb, dev, 0, _DF, number, saddr, daddr)
            return
        payload, room = bytes(skb.data), room & ~7
        id_ = next(self._ids) & 0xFFFF
        for offset in range(0, len(payload), room):
            more = _MF if offset + room < len(payload) else 0
            part = SkBuff.alloc(payload[offset : offset + room])
            self._send(part, dev, id_, more | offset // 8, number, saddr, daddr)

    def _send(
        self,
        skb: SkBuff,
        dev: NetDevice,
        id_: int,
        frag_off: int,
        number: int,
        saddr: bytes,
        daddr: bytes,
    ) -> None:
        hdr = skb.push(_HDR.size)
        fields = (0x45, 0, len(skb), id_, frag_off, _TTL, number, 0, saddr, daddr)
        _HDR.pack_into(hdr, 0, *fields)
        struct.pack_into("!H", hdr, _CHECK_AT, ~native.csum_fold(hdr) & 0xFFFF)
        self._l3.mhost_send_to_l2(skb, dev, ETH_P_IP)

    def _path_mtu(self, daddr: bytes, dev: NetDevice) -> int:
        mtu, until_s = self._pmtu.get(daddr, (dev.mtu, 0.0))
        return min(mtu, dev.mtu) if self._l3.now() < until_s else dev.mtu

    def inet_rcv(self, skb: SkBuff) -> End:
        """Check the header (RFC 1122 section 3.2.1) and take it off."""
        if len(skb) < _HDR.size:
            return DropReason.PKT_TOO_SMALL
        first, tos, tot_len, id_, frag_off, ttl, number, _check, saddr, daddr = (
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
        skb.trim(tot_len)
        header = bytes(skb.data[:hlen])
        skb.pull(hlen)
        skb.saddr, skb.daddr, skb.ttl, skb.tos = saddr, daddr, ttl, tos
        if frag_off & (_MF | _OFFSET):
            whole = self._reassemble(skb, header, (saddr, id_, number), frag_off)
            if not isinstance(whole, SkBuff):
                return whole
            skb = whole
        if number == IPPROTO_ICMP:
            return self._icmp_rcv(skb)
        packet = skb.head
        ulen = int.from_bytes(skb.data[4:6], "big")
        skb.pseudo_csum = inet_csum_pseudo(saddr, daddr, ulen)
        reason = self._l3.mhost_send_to_l4(skb, self.inet_mhost_proto, number)
        if reason in (DropReason.NO_SOCKET, DropReason.IP_NOPROTO):
            code = _PORT if reason is DropReason.NO_SOCKET else _PROTOCOL
            self._icmp_send(_UNREACHABLE, code, header + skb.buf[packet:], saddr)
        return reason

    def _reassemble(
        self, skb: SkBuff, header: bytes, key: tuple[bytes, int, int], frag_off: int
    ) -> SkBuff | End:
        """Hold a fragment; return the datagram once it is whole."""
        offset, more = 8 * (frag_off & _OFFSET), bool(frag_off & _MF)
        if more:
            skb.trim(len(skb) & ~7)  # as Linux does with a length that no host sends
        if not len(skb):
            return DropReason.IP_INHDR
        if len(header) + offset + len(skb) > _LENGTH_MAX:
            return DropReason.PKT_TOO_BIG
        fragment = Fragment(offset, more, bytes(skb.data), header)
        held = self._reassembly.add(key, fragment, self._l3.now())
        if held is None:
            return Verdict.HELD
        if isinstance(held, DropReason):
            return held
        return skb.reassembled(held[1])

    def _late(self, key: tuple[bytes, int, int], first: Fragment) -> None:
        """Fragments have waited long enough; tell the host that sent them."""
        quoted = first.head + first.payload
        self._icmp_send(_TIME_EXCEEDED, _REASSEMBLY_TIME, quoted, key[0])

    def _icmp_send(self, type_: int, code: int, quoted: bytes, daddr: bytes) -> None:
        """Tell a host of an error with its datagram, unless that were too often."""
        if not self._limit.allow(self._l3.now()):
            self.inet_mhost_proto.counters["icmp_ratelimited"] += 1
            return
        skb = SkBuff.alloc(bytes(_ICMP_HLEN) + quoted[:_QUOTE_MAX])
        _ICMP.pack_into(skb.buf, skb.head, type_, code, 0)
        check = ~native.csum_fold(skb.data) & 0xFFFF
        _ICMP.pack_into(skb.buf, skb.head, type_, code, check)
        try:
            self.inet_sendmsg(skb, self._address, daddr, IPPROTO_ICMP)
        except MhostError:
            return  # the device is down: nobody can be told
        self.inet_mhost_proto.counters["icmp_errors_sent"] += 1

    def _icmp_rcv(self, skb: SkBuff) -> End:
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
            self._answer(reply, skb.saddr)
            return Verdict.ANSWERED
        converted = icmp_err_convert(type_, code)
        if converted is None:
            return DropReason.ICMP_TYPE
        info = 0
        if type_ == ICMP_PARAMETERPROB:
            info = skb.data[4]
        elif (type_, code) == (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED):
            info = int.from_bytes(skb.data[6:8], "big")
        skb.pull(_ICMP_HLEN)
        err = IcmpError(*converted, SO_EE_ORIGIN_ICMP, type_, code, info, skb.saddr)
        return self._icmp_unreach(skb, err)

    def _answer(self, skb: SkBuff, daddr: bytes) -> None:
        """Send an ICMP message back; a device that is down has its own counter."""
        try:
            self.inet_sendmsg(skb, self._address, daddr, IPPROTO_ICMP)
        except MhostError:
            self._l3.kfree_skb(DropReason.DEV_READY, 1)

    def _icmp_unreach(self, skb: SkBuff, err: IcmpError) -> End:
        """Take an error about a datagram whose header is quoted, at `skb`.

        It is ours if it has our source address.
        """
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
        self.inet_mhost_proto.counters["icmp_errors"] += 1
        if err.errno == errno.EMSGSIZE:
            if len(self._pmtu) >= _PMTU_ENTRIES_MAX:
                del self._pmtu[next(iter(self._pmtu))]
            self._pmtu[daddr] = (max(err.info, _PMTU_MIN), self._l3.now() + _PMTU_S)
        self._l3.mhost_err(skb, number, err)
        return Verdict.CONSUMED
