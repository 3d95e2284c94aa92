"""What ICMP errors mean to a socket: (errno, fatal), as Linux has it.

Fatal ones reach a connected socket that has not asked for errors (IP_RECVERR). The
tables are `icmp_err_convert` of net/ipv4/icmp.c with the switch of `__udp4_lib_err`
(net/ipv4/udp.c), and `tab_unreach` with `icmpv6_err_convert` of net/ipv6/icmp.c.
"""

from __future__ import annotations

import errno

ICMP_DEST_UNREACH, ICMP_TIME_EXCEEDED, ICMP_PARAMETERPROB = 3, 11, 12  # RFC 792
ICMP_FRAG_NEEDED = 4  # code of ICMP_DEST_UNREACH
ICMPV6_DEST_UNREACH, ICMPV6_PKT_TOOBIG = 1, 2  # RFC 4443
ICMPV6_TIME_EXCEED, ICMPV6_PARAMPROB = 3, 4

_ICMP_ERR_CONVERT = (
    (errno.ENETUNREACH, False),  # network
    (errno.EHOSTUNREACH, False),  # host
    (errno.ENOPROTOOPT, True),  # protocol
    (errno.ECONNREFUSED, True),  # port
    (errno.EMSGSIZE, True),  # fragmentation needed; not for IP_PMTUDISC_DONT
    (errno.EOPNOTSUPP, False),  # source route failed
    (errno.ENETUNREACH, True),  # network unknown
    (errno.EHOSTDOWN, True),  # host unknown
    (errno.ENONET, True),  # host isolated
    (errno.ENETUNREACH, True),  # network prohibited
    (errno.EHOSTUNREACH, True),  # host prohibited
    (errno.ENETUNREACH, False),  # network, for this type of service
    (errno.EHOSTUNREACH, False),  # host, for this type of service
    (errno.EHOSTUNREACH, True),  # filtered
    (errno.EHOSTUNREACH, True),  # precedence violation
    (errno.EHOSTUNREACH, True),  # precedence cut off
)
_TAB_UNREACH = (
    (errno.ENETUNREACH, False),  # no route
    (errno.EACCES, True),  # prohibited
    (errno.EHOSTUNREACH, False),  # beyond scope of source
    (errno.EHOSTUNREACH, False),  # address
    (errno.ECONNREFUSED, True),  # port
    (errno.EACCES, True),  # policy
    (errno.EACCES, True),  # reject route
)


def icmp_err_convert(type_: int, code: int) -> tuple[int, bool] | None:
    """Return (errno, fatal) of an ICMP message; None if it is no error for a socket."""
    if type_ == ICMP_DEST_UNREACH:
        return _ICMP_ERR_CONVERT[code] if code < len(_ICMP_ERR_CONVERT) else None
    if type_ == ICMP_TIME_EXCEEDED:  # in reassembly: a loss like any other, as Linux has it
        return (errno.EHOSTUNREACH, False) if code != 1 else None
    if type_ == ICMP_PARAMETERPROB:
        return errno.EPROTO, True
    return None


def icmpv6_err_convert(type_: int, code: int) -> tuple[int, bool] | None:
    """Return (errno, fatal) of an ICMPv6 message; None if it is no error for a socket."""
    if type_ == ICMPV6_DEST_UNREACH:
        return _TAB_UNREACH[code] if code < len(_TAB_UNREACH) else (errno.EPROTO, True)
    if type_ == ICMPV6_PKT_TOOBIG:
        return errno.EMSGSIZE, True  # not for IPV6_PMTUDISC_DONT
    if type_ == ICMPV6_TIME_EXCEED:
        return errno.EHOSTUNREACH, False
    if type_ == ICMPV6_PARAMPROB:
        return errno.EPROTO, True
    # RFC 4443 section 2.4 (a): an error of a type that is not known is passed on
    return (errno.EPROTO, False) if type_ < 128 else None
