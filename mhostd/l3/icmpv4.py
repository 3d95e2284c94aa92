"""ICMP (RFC 792): what is asked is answered, errors are sent and received.

    octet  0      1      2
           +------+------+-------------+
           | type | code |    check    |
           +------+------+-------------+
           |  of the type: id and seq, |   8 octets, then data or the packet
           |  pointer, MTU             |   that an error is about
           +---------------------------+

As Linux net/ipv4/icmp.c.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from typing import Protocol

from mhostd import native
from mhostd.errors import DropReason, End, MhostError, Verdict
from mhostd.l3.icmp import (
    ICMP_DEST_UNREACH,
    ICMP_FRAG_NEEDED,
    ICMP_PARAMETERPROB,
    ICMP_TIME_EXCEEDED,
    icmp_err_convert,
)
from mhostd.l3.icmp_limit import IcmpLimit
from mhostd.l3.ip_options import IpOptions, ip_options_echo
from mhostd.skb import IP_PMTUDISC_DONT, SkBuff
from mhostd.sock import SO_EE_ORIGIN_ICMP
from mhostd.structs import IcmpError

IPPROTO_ICMP = 1
ICMP_PROT_UNREACH, ICMP_PORT_UNREACH = 2, 3  # of ICMP_DEST_UNREACH
ICMP_EXC_FRAGTIME = 1  # code of ICMP_TIME_EXCEEDED

_HDR = struct.Struct("!BBHI")
_CHECK_AT = 2
_ECHOREPLY, _ECHO, _TIMESTAMP, _TIMESTAMPREPLY = 0, 8, 13, 14
_SOURCE_QUENCH, _REDIRECT = 4, 5
_ERRORS = frozenset(
    {ICMP_DEST_UNREACH, _SOURCE_QUENCH, _REDIRECT, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB}
)
_TYPE_MAX = 18  # NR_ICMP_TYPES: what lies above is not known to be no error
_TIMESTAMP_LEN = 20  # octets, header included
_PACKET_MAX = 576  # octets of an error, RFC 1812 section 4.3.2.3
_IP_HLEN = 20
_INTERNETCONTROL, _TOS_MASK = 0xC0, 0x1E  # linux/ip.h: precedence and bits of an error
_INTERVAL_S = 1.0  # as Linux net.ipv4.icmp_ratelimit
_NOT_UT = 1 << 31  # a time that is not since midnight UT (RFC 792)


Drop = Callable[[DropReason, int], None]


class Xmit(Protocol):
    """inet_sendmsg of l3/inet.py."""

    def __call__(
        self, skb: SkBuff, saddr: bytes, daddr: bytes, number: int, options: bytes
    ) -> None:
        """Put an IPv4 header on and send it."""


class Icmpv4:
    """ICMP of one IPv4 address."""

    def __init__(
        self,
        now: Callable[[], float],
        drop: Drop,
        address: bytes,
        counters: Counter[str],
        xmit: Xmit,
        unreach: Callable[[SkBuff, IcmpError], End],
    ) -> None:
        """Begin with nothing sent.

        Args:
            now: seconds of a clock that never goes back.
            drop: told of an answer that the device does not take.
            address: ours.
            counters: icmp_echos, icmp_timestamps, icmp_errors_sent, icmp_ratelimited.
            xmit: sends a message.
            unreach: is given each error; the packet it quotes is at the skb.
        """
        self._now = now
        self._drop = drop
        self._address = address
        self._counters = counters
        self._xmit = xmit
        self._unreach = unreach
        self._limit = IcmpLimit(_INTERVAL_S)

    def time(self) -> int:
        """Milliseconds of our own clock, for timestamps."""
        return _NOT_UT | int(self._now() * 1000) & ~_NOT_UT & 0xFFFFFFFF

    # --- down

    def icmp_send(
        self,
        packet: bytes | bytearray,
        type_: int,
        code: int,
        info: int = 0,
        options: IpOptions | None = None,
    ) -> None:
        """Tell the source of a packet of an error, unless nobody may be told.

        Nobody is told of an error, or of a fragment but the first (RFC 1122 section
        3.2.2), or more often than the limits allow. The caller has checked that the
        packet came from a host and to our address.

        Args:
            packet: from its IPv4 header on.
            type_: of the error.
            code: of the error.
            info: the second four octets of the message.
            options: of the packet, if it has any.
        """
        if (packet[6] << 8 | packet[7]) & 0x1FFF:
            return
        hlen = 4 * (packet[0] & 15)
        if packet[9] == IPPROTO_ICMP:
            inner = packet[hlen] if len(packet) > hlen else _TYPE_MAX + 1
            if inner > _TYPE_MAX or inner in _ERRORS:
                return
        daddr = bytes(packet[12:16])
        if not self._limit.allow(self._now(), daddr):
            self._counters["icmp_ratelimited"] += 1
            return
        echo = ip_options_echo(options, self._address, self.time()) if options else b""
        room = _PACKET_MAX - _IP_HLEN - len(echo) - _HDR.size
        message = SkBuff.alloc(_HDR.pack(type_, code, 0, info) + packet[:room])
        message.tos = packet[1] & _TOS_MASK | _INTERNETCONTROL
        if self._push(message, daddr, echo):
            self._counters["icmp_errors_sent"] += 1

    def _push(self, message: SkBuff, daddr: bytes, options: bytes) -> bool:
        """Put the checksum in and send; whether the device took it."""
        check = ~native.csum_fold(message.data) & 0xFFFF
        struct.pack_into("!H", message.buf, message.head + _CHECK_AT, check)
        message.pmtudisc = IP_PMTUDISC_DONT
        try:
            self._xmit(message, self._address, daddr, IPPROTO_ICMP, options)
        except MhostError:
            return False  # the device is down: nobody can be told
        return True

    # --- up

    def icmp_rcv(self, skb: SkBuff, options: IpOptions | None) -> End:
        """Take a message; skb is at its first octet."""
        if len(skb) < _HDR.size:
            return DropReason.PKT_TOO_SMALL
        if native.csum_fold(skb.data) != 0xFFFF:
            return DropReason.ICMP_CSUM
        type_, code, _check, rest = _HDR.unpack_from(skb.buf, skb.head)
        if type_ == _ECHO:  # with any code, as Linux does
            message = _HDR.pack(_ECHOREPLY, code, 0, rest) + skb.buf[skb.head + _HDR.size :]
            return self._reply(skb, message, options, "icmp_echos")
        if type_ == _TIMESTAMP:
            return self._timestamp(skb, rest, options)
        converted = icmp_err_convert(type_, code)
        if converted is None:
            return DropReason.ICMP_TYPE
        info = 0
        if type_ == ICMP_PARAMETERPROB:
            info = rest >> 24
        elif (type_, code) == (ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED):
            info = rest & 0xFFFF
        skb.pull(_HDR.size)
        err = IcmpError(*converted, SO_EE_ORIGIN_ICMP, type_, code, info, skb.saddr)
        return self._unreach(skb, err)

    def _timestamp(self, skb: SkBuff, rest: int, options: IpOptions | None) -> End:
        if len(skb) < _TIMESTAMP_LEN:
            return DropReason.PKT_TOO_SMALL
        originate = bytes(skb.data[_HDR.size : _HDR.size + 4])
        received = self.time().to_bytes(4, "big")
        message = _HDR.pack(_TIMESTAMPREPLY, 0, 0, rest) + originate + received + received
        return self._reply(skb, message, options, "icmp_timestamps")

    def _reply(
        self, skb: SkBuff, message: bytes, options: IpOptions | None, counter: str
    ) -> End:
        reply = SkBuff.alloc(message)
        reply.tos = skb.tos
        echo = ip_options_echo(options, self._address, self.time()) if options else b""
        self._counters[counter] += 1
        if not self._push(reply, skb.saddr, echo):
            self._drop(DropReason.DEV_READY, 1)
        return Verdict.ANSWERED
