"""The host's interfaces that have no link, and which destinations lie behind one.

A cable that is pulled takes no route away (unless the sysctl ignore_routes_with_linkdown
is set), and what is sent there is lost without an error. Translation wants one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

WAYS_MAX = 4_096  # destinations remembered, the oldest is forgotten first

RouteOif = Callable[[int, bytes, bytes], int]
"""route_oif(family, to, source): index of the interface, 0 if there is no route."""


RouteBy = Callable[[int, bytes, int], bool]
"""route_by(family, to, ifindex): whether there is a route by that interface."""


class Link(NamedTuple):
    """An interface: index, name, whether it has a link, whether it is gone, octets of MTU."""

    ifindex: int
    name: str
    up: bool
    gone: bool = False
    mtu: int = 0


class Links:
    """Interfaces without a link; routes are asked for while there is one."""

    def __init__(
        self,
        route_oif: RouteOif = lambda _family, _to, _source: 0,
        route_by: RouteBy = lambda _family, _to, _ifindex: True,
    ) -> None:
        self._route_oif = route_oif
        self._route_by = route_by
        self._links: dict[int, Link] = {}
        self._down: dict[int, str] = {}
        self._routed: dict[tuple[int, bytes, int], bool] = {}
        self._ways: dict[tuple[int, bytes, bytes], int] = {}

    def link_changed(self, link: Link) -> None:
        """Note how an interface is now."""
        self._links[link.ifindex] = link
        if link.gone:
            del self._links[link.ifindex]
        if link.up or link.gone:
            self._down.pop(link.ifindex, None)
        else:
            self._down[link.ifindex] = link.name

    def get(self, ifindex: int) -> Link | None:
        """The interface of that index, if there is one."""
        return self._links.get(ifindex)

    def mtu(self, ifindex: int) -> int:
        """Octets of L3 packet that an interface takes; 65535 if nobody has said."""
        link = self._links.get(ifindex)
        return link.mtu if link is not None and link.mtu else 0xFFFF

    def routes_changed(self) -> None:
        """Ask for routes again."""
        self._ways.clear()
        self._routed.clear()

    def routed(self, family: int, to: bytes, ifindex: int) -> bool:
        """Whether there is a route to an address by an interface.

        Without one Linux takes every address for a neighbour when it is told the interface.
        """
        key = (family, to, ifindex)
        if key not in self._routed:
            if len(self._routed) >= WAYS_MAX:
                self._routed.clear()
            self._routed[key] = self._route_by(*key)
        return self._routed[key]

    def down_on_way(self, family: int, to: bytes, scope_id: int, source: bytes) -> str:
        """Return the name of the interface to an address if it has no link, else "".

        Args:
            family: AF_INET or AF_INET6.
            to: where to; a multicast address goes where its socket says.
            scope_id: interface index of a link-local address, or 0.
            source: where from; empty if the kernel chooses.
        """
        if not self._down or to[0] == 0xFF or (len(to) == 4 and to[0] >> 4 == 0xE):
            return ""
        if scope_id:
            return self._down.get(scope_id, "")
        key = (family, to, source)
        oif = self._ways.get(key)
        if oif is None:
            if len(self._ways) >= WAYS_MAX:
                del self._ways[next(iter(self._ways))]
            oif = self._ways[key] = self._route_oif(*key)
        return self._down.get(oif, "")
