"""IPv4 options of packets that come (RFC 791), as Linux net/ipv4/ip_options.c has them.

Record route and timestamp get what they ask for, once when the packet comes and once
more in the ICMP message that answers it (RFC 1122 section 3.2.2.6); a source route is
seen, and it is for the caller to refuse it; the rest is checked for its length alone.
"""

from __future__ import annotations

from dataclasses import dataclass

_END, _NOOP = 0, 1
_RECORD_ROUTE, _TIMESTAMP = 7, 0x44
_LOOSE_ROUTE, _STRICT_ROUTE, _ROUTER_ALERT = 0x83, 0x89, 0x94
_LENGTH_MIN = {_RECORD_ROUTE: 3, _LOOSE_ROUTE: 3, _STRICT_ROUTE: 3, _TIMESTAMP: 4}
_POINTER_MIN = {_RECORD_ROUTE: 4, _LOOSE_ROUTE: 4, _STRICT_ROUTE: 4, _TIMESTAMP: 5}
_TIME_ONLY, _TIME_AND_ADDRESS, _PRESPECIFIED = 0, 1, 3  # flag of a timestamp
_OVERFLOW_MAX = 15


@dataclass(slots=True)
class IpOptions:
    """What the options of a packet say.

    Attributes:
        octets: as they stand now.
        source_route: there is one.
        wrong: which octet of `octets` makes no sense; None if all do.
        record_route: the octet where it begins; None if there is none.
        timestamp: the same.
    """

    octets: bytearray
    source_route: bool = False
    wrong: int | None = None
    record_route: int | None = None
    timestamp: int | None = None


def ip_options_compile(octets: bytes, address: bytes, time: int) -> IpOptions:
    """Check options, and record in them that the packet has come; never raises.

    Args:
        octets: what follows the first 20 octets of the header.
        address: ours.
        time: milliseconds, 32 bits, with the high bit set unless since midnight UT.
    """
    options = IpOptions(bytearray(octets))
    at = 0
    while at < len(octets):
        type_ = octets[at]
        if type_ == _END:
            options.octets[at:] = bytes(len(octets) - at)
            break
        if type_ == _NOOP:
            at += 1
            continue
        length = octets[at + 1] if at + 1 < len(octets) else 0
        if length < 2 or at + length > len(octets):
            options.wrong = at
            break
        options.wrong = _compile(options, type_, at, length, address, time)
        if options.wrong is not None:
            break
        at += length
    return options


def _compile(
    options: IpOptions, type_: int, at: int, length: int, address: bytes, time: int
) -> int | None:
    """Take one option; return the octet that is wrong."""
    if type_ == _ROUTER_ALERT:
        return at + 1 if length < 4 else None
    if type_ not in _LENGTH_MIN:
        return None
    again = {
        _RECORD_ROUTE: options.record_route is not None,
        _TIMESTAMP: options.timestamp is not None,
    }.get(type_, False)
    if again:
        return at
    if length < _LENGTH_MIN[type_]:
        return at + 1
    if options.octets[at + 2] < _POINTER_MIN[type_]:
        return at + 2
    if type_ == _RECORD_ROUTE:
        if options.octets[at + 2] <= length and not _record(options.octets, at, address):
            return at + 2
        options.record_route = at
    elif type_ == _TIMESTAMP:
        full = options.octets[at + 2] > length
        if full and options.octets[at + 3] >> 4 == _OVERFLOW_MAX:
            return at + 3
        if full:
            options.octets[at + 3] += 0x10  # one more did not fit
        elif not _stamp(options.octets, at, address, time):
            return at + 2
        options.timestamp = at
    elif options.source_route:
        return at
    else:
        options.source_route = True
    return None


def _record(octets: bytearray, at: int, data: bytes) -> bool:
    """Put data where the pointer of an option says, if it has room for them."""
    pointer = octets[at + 2]
    if pointer - 1 + len(data) > octets[at + 1]:
        return False
    octets[at + pointer - 1 : at + pointer - 1 + len(data)] = data
    octets[at + 2] = pointer + len(data)
    return True


def _stamp(octets: bytearray, at: int, address: bytes, time: int) -> bool:
    flag, stamp = octets[at + 3] & 15, time.to_bytes(4, "big")
    if flag == _TIME_ONLY:
        return _record(octets, at, stamp)
    if flag == _TIME_AND_ADDRESS:
        return _record(octets, at, address + stamp)
    pointer = octets[at + 2]
    if pointer + 3 > octets[at + 1]:
        return False
    if flag != _PRESPECIFIED:
        return True
    if pointer + 7 > octets[at + 1]:
        return False
    if octets[at + pointer - 1 : at + pointer + 3] != address:
        return True  # whom it names is still to come
    return _record(octets, at, address + stamp)


def ip_options_echo(options: IpOptions, address: bytes, time: int) -> bytes:
    """Return the options of the ICMP message that answers a packet.

    Args:
        options: what ip_options_compile() returned.
        address: ours.
        time: as for ip_options_compile().
    """
    echo = bytearray()
    if options.record_route is not None:
        echo += _copy(options.octets, options.record_route)
        _record(echo, 0, address)
    if options.timestamp is not None:
        at = len(echo)
        echo += _copy(options.octets, options.timestamp)
        _stamp(echo, at, address, time)
    return bytes(echo) + bytes(-len(echo) % 4)


def _copy(octets: bytearray, at: int) -> bytearray:
    return octets[at : at + octets[at + 1]]
