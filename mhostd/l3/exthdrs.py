"""IPv6 extension headers (RFC 8200 section 4), as Linux net/ipv6/exthdrs.c has them.

    octet  0      1      2
           +------+------+----------------
           | next | len  | options ...        8 * (len + 1) octets
           +------+------+----------------

Both walks are pure and never raise: one carries a packet out up to what it is for, the
other only looks for what a packet, perhaps quoted in part, was for.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mhostd.errors import DropReason

HOPOPTS, ROUTING, FRAGMENT, AUTH, NONE, DSTOPTS = 0, 43, 44, 51, 59, 60  # linux/in6.h
IPV6_HLEN, FRAGMENT_HLEN = 40, 8  # octets
NEXT_AT = 6  # octet of the IPv6 header that names the first header
LENGTH_MAX = 0xFFFF  # octets of payload without a jumbo payload option

HDR_FIELD, UNK_NEXTHDR, UNK_OPTION, HDR_INCOMP = 0, 1, 2, 3  # RFC 4443 section 3.4, RFC 7112

OPTIONS_MAX = 8  # in one header, pads not counted; as Linux net.ipv6.max_hbh_opts_number
_PAD_MAX = 7  # octets in a row: padding aligns to 8 (RFC 4942 section 2.1.9.5)
_PAD1, _PADN, _ROUTER_ALERT, _JUMBO = 0, 1, 5, 0xC2


class At(NamedTuple):
    """A place in the chain, in octets from the beginning of the packet.

    Attributes:
        number: which header or protocol is there.
        offset: where it begins.
        nhoff: the octet that says which one it is.
    """

    number: int
    offset: int
    nhoff: int


class Problem(NamedTuple):
    """Why a packet goes no further.

    Attributes:
        reason: for which it is dropped.
        code: of the parameter problem that its source is sent; None for none.
        pointer: of that message.
    """

    reason: DropReason
    code: int | None = None
    pointer: int = 0


def ip6_parse_exthdrs(packet: Sequence[int], at: At) -> At | Problem:
    """Carry out the headers from `at` on, up to a fragment header or what is no header.

    Hop-by-hop options are headers only as the first; a routing header with no segments
    left is stepped over, and no other is followed (RFC 5095, RFC 8200 section 4.4).

    Args:
        packet: from its IPv6 header on, at least that long.
        at: where to begin.

    Returns:
        Where a protocol, a fragment header or a hop-by-hop header out of place begins;
        or what is wrong.
    """
    number, offset, nhoff = at
    while number in (DSTOPTS, ROUTING) or (number == HOPOPTS and offset == IPV6_HLEN):
        if offset + 8 > len(packet):
            return Problem(DropReason.PKT_TOO_SMALL)
        end = offset + 8 * (packet[offset + 1] + 1)
        if end > len(packet):
            return Problem(DropReason.PKT_TOO_SMALL)
        if number != ROUTING:
            problem = _parse_tlv(packet, offset + 2, end, number == HOPOPTS)
            if problem is not None:
                return problem
        elif packet[offset + 3]:
            return Problem(DropReason.IP_INHDR, HDR_FIELD, offset + 2)
        number, offset, nhoff = packet[offset], end, offset
    return At(number, offset, nhoff)


def _parse_tlv(packet: Sequence[int], at: int, end: int, hop: bool) -> Problem | None:
    """Carry out the options of a header (ip6_parse_tlv)."""
    bad, options, pad = Problem(DropReason.IP_INHDR), 0, 0
    while at < end:
        type_ = packet[at]
        if type_ == _PAD1:
            pad, at = pad + 1, at + 1
        else:
            if at + 2 > end or at + 2 + packet[at + 1] > end:
                return bad
            after = at + 2 + packet[at + 1]
            if type_ == _PADN:
                pad += after - at
                if any(packet[at + 2 : after]):  # RFC 4942 section 2.1.9.5
                    return bad
            else:
                options, pad = options + 1, 0
                if options > OPTIONS_MAX:
                    return bad
                problem = _option(packet, type_, at, after, hop)
                if problem is not None:
                    return problem
            at = after
        if pad > _PAD_MAX:
            return bad
    return None


def _option(
    packet: Sequence[int], type_: int, at: int, after: int, hop: bool
) -> Problem | None:
    if hop and type_ == _ROUTER_ALERT:  # RFC 2711: two octets, and nothing to do here
        return None if after == at + 4 else Problem(DropReason.IP_INHDR)
    if hop and type_ == _JUMBO:
        return _jumbo(packet, at, after)
    action = type_ >> 6  # RFC 8200 section 4.2
    if action == 0:
        return None
    if action == 1:
        return Problem(DropReason.IP_INHDR)
    return Problem(DropReason.IP_INHDR, UNK_OPTION, at)  # what comes here is no multicast


def _jumbo(packet: Sequence[int], at: int, after: int) -> Problem:
    """RFC 2675: no frame holds a jumbogram, so this is an error or what is left of one."""
    if after != at + 6 or at % 4 != 2:
        return Problem(DropReason.IP_INHDR)
    if int.from_bytes(bytes(packet[at + 2 : after]), "big") <= LENGTH_MAX:
        return Problem(DropReason.IP_INHDR, HDR_FIELD, at + 2)
    if packet[4] or packet[5]:  # the payload length
        return Problem(DropReason.IP_INHDR, HDR_FIELD, at)
    return Problem(DropReason.PKT_TOO_SMALL)


def ipv6_skip_exthdr(packet: Sequence[int]) -> At | None:
    """Look for what a packet is for, without carrying anything out.

    Args:
        packet: from its IPv6 header on, at least that long; it may be cut anywhere.

    Returns:
        Where the protocol begins, which may be behind the end; the fragment header if
        this is not the first fragment; None if the packet is cut before it says, or has
        no next header.
    """
    number, offset, nhoff = packet[NEXT_AT], IPV6_HLEN, NEXT_AT
    while number in (HOPOPTS, ROUTING, FRAGMENT, AUTH, DSTOPTS):
        if offset + 2 > len(packet):
            return None
        length = 8 * (packet[offset + 1] + 1)
        if number == AUTH:
            length = 4 * (packet[offset + 1] + 2)  # RFC 4302 section 2.2
        elif number == FRAGMENT:
            if offset + 4 > len(packet):
                return None
            if packet[offset + 2] or packet[offset + 3] & 0xF8:
                break
            length = FRAGMENT_HLEN
        number, offset, nhoff = packet[offset], offset + length, offset
    return None if number == NONE else At(number, offset, nhoff)


def ipv6frag_thdr_truncated(packet: Sequence[int]) -> bool:
    """Whether a first fragment does not hold the header of what it is for (RFC 7112).

    As in Linux net/ipv6/reassembly.c a chain that is cut between two headers passes.
    """
    at = ipv6_skip_exthdr(packet)
    if at is None or at.number == FRAGMENT:
        return False
    return at.offset + {6: 20, 17: 8, 58: 8}.get(at.number, 1) > len(packet)
