"""Where we can send from: the host kernel's addresses, and those of our own L3 handlers."""

from __future__ import annotations

import errno
from collections.abc import Iterable

from mhostd.errors import MhostError
from mhostd.host.path import Uplink, Way
from mhostd.host.wire import L3_NAME
from mhostd.mhost_table import MhostTable
from mhostd.sock import Locator
from mhostd.uapi import SockaddrMhost


class Uplinks:
    """All of them, and which of them are to be left (`mhostctl path drain`)."""

    def __init__(self, table: MhostTable) -> None:
        self._table = table
        self._kernel: tuple[Uplink, ...] = ()
        self._drained: set[str] = set()

    def set_kernel(self, uplinks: Iterable[Uplink]) -> None:
        """The addresses of the host kernel's interfaces, those with a link."""
        self._kernel = tuple(uplinks)

    def found(self) -> list[Uplink]:
        """As it is now: addresses, links, handlers and drains come and go."""
        registered = self._table.protos.values()
        ours = [
            Uplink(p.name, Locator(p.family, address), 0, p.device)
            for p in registered
            if p.udp is None and p.name != L3_NAME and p.up()
            for address in p.addresses()
        ]
        names = {p.name for p in registered}
        return [
            up._replace(drained=bool(self._drained & self._spellings(up)))
            for up in (*self._kernel, *ours)
            if up.l3 in names
        ]

    def _spellings(self, up: Uplink) -> set[str]:
        return {up.device, up.l3, self.text(up.locator)} - {""}

    def drain(self, what: str, drained: bool) -> list[str]:
        """Plan to leave an interface, an L3 handler or an address, or take it back.

        Returns:
            The uplinks that it names.

        Raises:
            MhostError: ENODEV if it names none, EBUSY if nothing else would be left.
        """
        uplinks = self.found()
        named = [up for up in uplinks if what in self._spellings(up)]
        if not named and not (what in self._drained and not drained):
            there = ", ".join(sorted({text for up in uplinks for text in self._spellings(up)}))
            raise MhostError(
                errno.ENODEV, f"path drain: {what} is no uplink; there are {there or 'none'}"
            )
        if drained and all(up.drained or up in named for up in uplinks):
            raise MhostError(errno.EBUSY, f"path drain: without {what} no uplink would be left")
        (self._drained.add if drained else self._drained.discard)(what)
        return [f"{up.l3} {self.text(up.locator)}" for up in named]

    def way_text(self, way: Way) -> str:
        """A path as MHOST_PKTINFO has it: L3, our address, the peer's."""
        return f"{way.l3} {self.text(way.source)} {self.text(way.remote)}"

    def text(self, locator: Locator) -> str:
        """A locator as applications spell it."""
        return self._table.mhost_ntop(
            SockaddrMhost(locator.family, 0, locator.address, 0, locator.scope_id)
        )
