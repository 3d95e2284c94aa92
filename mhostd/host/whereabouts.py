"""What the directory and the hosts tell each other.

A record is a hint, as a locator from the configuration is: a path to it counts once the
peer has answered there, with its key.
"""

from __future__ import annotations

import logging

from mhostd.errors import MhostError
from mhostd.host.directory import Cancel, Directory, Record
from mhostd.host.identity import identifier_ntop
from mhostd.host.overlay import Overlay
from mhostd.host.peer import Peer
from mhostd.host.wire import PORT
from mhostd.mhost_table import MhostTable
from mhostd.sock import Locator

log = logging.getLogger(__name__)


class Whereabouts:
    """Watches the peers in the directory, and keeps our own record there."""

    def __init__(
        self, overlay: Overlay, table: MhostTable, directory: Directory, lease_s: float
    ) -> None:
        self._overlay = overlay
        self._table = table
        self._directory = directory
        self._lease_s = lease_s
        self._watches: dict[Peer, Cancel] = {}
        overlay.met, overlay.missed = self._watch, self._forget
        overlay.directory_say, overlay.directory_ask = self.say, self._ask
        for peer in overlay.hosts.peers.values():
            self._watch(peer)
        self.say()

    def state(self) -> str:
        """Of the directory, for display."""
        return self._directory.state()

    def say(self) -> None:
        """We are somewhere else."""
        hosts = self._overlay.hosts
        locators = [
            self._overlay.uplinks.text(each.locator)
            for each in hosts.locators()
            if not each.drained
        ]
        if not locators:
            return  # nobody could be told
        record = Record(
            identifier_ntop(hosts.us.identifier), hosts.timestamp(), tuple(locators), PORT
        )
        try:
            self._directory.put(record, self._lease_s)
        except ValueError as err:
            log.warning("directory: what we would say of us is refused: %s", err)

    def _watch(self, peer: Peer) -> None:
        def found(record: Record | None) -> None:
            self._found(peer, record)

        self._watches[peer] = self._directory.watch(identifier_ntop(peer.identifier), found)

    def _forget(self, peer: Peer) -> None:
        cancel = self._watches.pop(peer, None)
        if cancel is not None:
            cancel()

    def _ask(self, peer: Peer) -> None:
        def found(record: Record | None) -> None:
            self._found(peer, record)

        self._directory.get(identifier_ntop(peer.identifier), found)

    def _found(self, peer: Peer, record: Record | None) -> None:
        if peer not in self._watches or record is None:
            return  # what it said last is still the best that we know
        locators: list[Locator] = []
        for text in record.locators:
            try:
                locators.append(self._table.mhost_pton(text))
            except MhostError:  # of an L3 that we have not
                continue
        self._overlay.hint(peer, "directory", [loc for loc in locators if loc.address])
