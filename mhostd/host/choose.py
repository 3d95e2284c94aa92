"""Which path is taken: RFC 6724, then what was seen to work, then patience."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from mhostd.host.path import Path, State
from mhostd.sock import Locator
from mhostd.uapi import AF_INET, AF_INET6

# RFC 6724 section 2.1: prefix, precedence, label; longest first
_POLICY = [
    (ipaddress.IPv6Network(prefix), precedence, label)
    for prefix, precedence, label in (
        ("::1/128", 50, 0),
        ("::ffff:0:0/96", 35, 4),
        ("::/96", 1, 3),
        ("2001::/32", 5, 5),
        ("2002::/16", 30, 2),
        ("3ffe::/16", 1, 12),
        ("fec0::/10", 1, 11),
        ("fc00::/7", 3, 13),
        ("::/0", 40, 1),
    )
]
_LINK_LOCAL, _SITE_LOCAL, _GLOBAL = 2, 5, 14  # RFC 4291 section 2.7, RFC 6724 section 3.1


def _ip(locator: Locator) -> ipaddress.IPv6Address:
    mapped = b"\0" * 10 + b"\xff\xff" if locator.family == AF_INET else b""
    return ipaddress.IPv6Address(mapped + locator.address)


def _scope(address: ipaddress.IPv6Address) -> int:
    v4 = address.ipv4_mapped
    if v4 is not None:  # RFC 6724 section 3.2
        return _LINK_LOCAL if v4.is_link_local or v4.is_loopback else _GLOBAL
    if address.is_link_local or address.is_loopback:
        return _LINK_LOCAL
    return _SITE_LOCAL if address.is_site_local else _GLOBAL


def _policy(address: ipaddress.IPv6Address) -> tuple[int, int]:
    for prefix, precedence, label in _POLICY:
        if address in prefix:
            return precedence, label
    raise AssertionError("::/0 has every address")


def rank(source: Locator, remote: Locator, order: int) -> tuple[int, ...]:
    """Where a pair of addresses stands among others; less is better.

    Rules 2, 5, 6 and 8 of RFC 6724 section 6; then `order`, of the locator in what it
    comes from; then rule 9, which among IPv4 addresses says little (section 10.3). A
    family that is not IP is behind those that are.
    """
    if remote.family not in (AF_INET, AF_INET6):
        return (1, 0, 0, 0, 0, order, 0)
    ours, theirs = _ip(source), _ip(remote)
    precedence, label = _policy(theirs)
    common = 128 - (int(ours) ^ int(theirs)).bit_length()
    return (
        0,
        int(_scope(ours) != _scope(theirs)),
        int(_policy(ours)[1] != label),
        -precedence,
        _scope(theirs),
        order,
        -common,
    )


def order(paths: Iterable[Path]) -> list[Path]:
    """The best first: works and is not to be left, works, was not tried, failed."""
    return sorted(paths, key=_key)


def _key(path: Path) -> tuple[int, float, tuple[int, ...]]:
    if path.state is State.WORKS:
        return int(path.drained), float(path.doubted), path.rank
    if path.state is State.NEW:
        return 2, 0.0, path.rank
    return 3, -path.answered_s, path.rank


def elect(paths: Iterable[Path], active: Path | None, now: float) -> Path | None:
    """The path that should be taken now.

    One that works is left for a better one only when that has worked for its hold, which
    grows each time it fails (hysteresis). None that works: the last one stays, as nobody
    knows better; a path is never used before it was answered.

    Returns:
        None if there is none that was ever answered.
    """
    ordered = order(paths)
    usable = [path for path in ordered if path.state is State.WORKS]
    if not usable:
        if active is not None and active in ordered:
            return active
        return next((p for p in ordered if p.answered_s > float("-inf")), None)
    best = usable[0]
    if active is None or active.state is not State.WORKS or active not in usable:
        return best
    if active.drained and not best.drained:
        return best
    if best is not active and best.rank < active.rank and best.drained == active.drained:
        for path in usable:
            if path is active:
                break
            if now - path.since_s >= path.hold_s:
                return path
    return active


def why(path: Path, active: Path | None, now: float) -> str:
    """Why a path is, or is not, the one that is taken."""
    if path is active:
        return "taken: " + path.reason
    if path.state is not State.WORKS:
        return path.reason
    if path.drained:
        return "drained"
    if active is not None and path.rank < active.rank:
        left = path.hold_s - (now - path.since_s)
        if left > 0:
            return f"works again; taken if it does for {left:.1f} s more"
    return "works; another one comes first"
