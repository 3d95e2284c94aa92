"""ICMPv6 (RFC 4443): echo is answered, errors are sent and received.

The header is that of ICMP (icmpv4.py); its checksum covers a pseudo-header. As Linux
net/ipv6/icmp.c.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable

from mhostd import native
from mhostd.errors import DropReason, End, MhostError, Verdict
from mhostd.l3.exthdrs import IPV6_HLEN, ipv6_skip_exthdr
from mhostd.l3.icmp import ICMPV6_PARAMPROB, ICMPV6_PKT_TOOBIG, icmpv6_err_convert
from mhostd.l3.icmp_limit import IcmpLimit
from mhostd.skb import SkBuff
from mhostd.sock import SO_EE_ORIGIN_ICMP6
from mhostd.structs import IcmpError

IPPROTO_ICMPV6 = 58
ICMPV6_PORT_UNREACH = 4  # code of ICMPV6_DEST_UNREACH
ICMPV6_EXC_FRAGTIME = 1  # code of ICMPV6_TIME_EXCEED

_HDR = struct.Struct("!BBHI")
_CHECK_AT = 2
_ECHO_REQUEST, _ECHO_REPLY = 128, 129
_INFORMATIONAL = 0x80  # bit of a type that is no error
_PACKET_MAX = 1280  # octets of an error, RFC 4443 section 2.4 (c)
_INTERVAL_S = 1 / 16  # as Linux net.ipv6.icmp.ratelimit for what a default route reaches

Drop = Callable[[DropReason, int], None]
CsumPseudo = Callable[[bytes, bytes, int, int], int]
"""inet6_csum_pseudo of l3/inet6.py."""


def _is_error(message: bytes | bytearray) -> bool:
    """Whether an ICMPv6 message is one, or might be if there were more of it."""
    return not message or not message[0] & _INFORMATIONAL


class Icmpv6:
    """ICMPv6 of one IPv6 address."""

    def __init__(
        self,
        now: Callable[[], float],
        drop: Drop,
        address: bytes,
        counters: Counter[str],
        xmit: Callable[[SkBuff, bytes, bytes, int], None],
        csum_pseudo: CsumPseudo,
        unreach: Callable[[SkBuff, IcmpError], End],
    ) -> None:
        """Begin with nothing sent.

        Args:
            now: seconds of a clock that never goes back.
            drop: told of an answer that the device does not take.
            address: ours.
            counters: icmp_echos, icmp_errors_sent, icmp_ratelimited.
            xmit: inet6_sendmsg of l3/inet6.py.
            csum_pseudo: partial sum of the pseudo-header.
            unreach: is given each error; the packet it quotes is at the skb.
        """
        self._now = now
        self._drop = drop
        self._address = address
        self._counters = counters
        self._xmit = xmit
        self._csum_pseudo = csum_pseudo
        self._unreach = unreach
        self._limit = IcmpLimit(_INTERVAL_S)

    def icmpv6_send(
        self, packet: bytes | bytearray, type_: int, code: int, info: int = 0
    ) -> None:
        """Tell the source of a packet of an error, unless nobody may be told.

        Nobody is told of an error, or more often than the limits allow (RFC 4443
        section 2.4 (e), (f)). The caller has checked that the packet came from a host
        and to our address.

        Args:
            packet: from its IPv6 header on.
            type_: of the error.
            code: of the error.
            info: the second four octets of the message.
        """
        at = ipv6_skip_exthdr(packet)
        if at and at.number == IPPROTO_ICMPV6 and _is_error(packet[at.offset :]):
            return
        daddr = bytes(packet[8:24])
        if not self._limit.allow(self._now(), daddr):
            self._counters["icmp_ratelimited"] += 1
            return
        quoted = packet[: _PACKET_MAX - IPV6_HLEN - _HDR.size]
        message = SkBuff.alloc(_HDR.pack(type_, code, 0, info) + quoted)
        if self._push(message, daddr):
            self._counters["icmp_errors_sent"] += 1

    def _push(self, message: SkBuff, daddr: bytes) -> bool:
        """Put the checksum in and send; whether the device took it."""
        psum = self._csum_pseudo(self._address, daddr, len(message), IPPROTO_ICMPV6)
        check = ~native.csum_fold(message.data, psum) & 0xFFFF
        struct.pack_into("!H", message.buf, message.head + _CHECK_AT, check)
        try:
            self._xmit(message, self._address, daddr, IPPROTO_ICMPV6)
        except MhostError:
            return False  # the device is down: nobody can be told
        return True

    def icmpv6_rcv(self, skb: SkBuff) -> End:
        """Take a message; skb is at its first octet."""
        if len(skb) < _HDR.size:
            return DropReason.PKT_TOO_SMALL
        psum = self._csum_pseudo(skb.saddr, skb.daddr, len(skb), IPPROTO_ICMPV6)
        if native.csum_fold(skb.data, psum) != 0xFFFF:
            return DropReason.ICMP_CSUM
        type_, code, _check, rest = _HDR.unpack_from(skb.buf, skb.head)
        if type_ == _ECHO_REQUEST:  # with any code, as Linux does
            message = _HDR.pack(_ECHO_REPLY, code, 0, rest)
            reply = SkBuff.alloc(message + skb.buf[skb.head + _HDR.size :])
            reply.tos = skb.tos
            self._counters["icmp_echos"] += 1
            if not self._push(reply, skb.saddr):
                self._drop(DropReason.DEV_READY, 1)
            return Verdict.ANSWERED
        converted = icmpv6_err_convert(type_, code)
        if converted is None:
            return DropReason.ICMP_TYPE
        info = rest if type_ in (ICMPV6_PKT_TOOBIG, ICMPV6_PARAMPROB) else 0
        skb.pull(_HDR.size)
        err = IcmpError(*converted, SO_EE_ORIGIN_ICMP6, type_, code, info, skb.saddr)
        return self._unreach(skb, err)
