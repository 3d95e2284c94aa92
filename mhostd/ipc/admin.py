"""The verbs that change something; only the admin socket lets them through."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from mhostd.errors import MhostError
from mhostd.mhost_table import MhostTable
from mhostd.sock import Sock
from mhostd.uapi import AdminRequest, HostsAdd, HostsDel, L3Set

log = logging.getLogger(__name__)


class Admin:
    """Changes to the tables, each logged with what it did."""

    def __init__(
        self, table: MhostTable, l3_set: Callable[[str, bool], list[tuple[Sock, MhostError]]]
    ) -> None:
        self._table = table
        self._l3_set = l3_set

    def __call__(self, request: AdminRequest) -> Any:
        """Carry out one verb; MhostError says what is wrong with it."""
        match request:
            case HostsAdd(name=name, locators=texts):
                locators = [self._table.mhost_pton(text) for text in texts]
                self._table.insert_sockaddr_id(name, locators)
                log.info("host %s: added %s", name, ", ".join(texts))
            case HostsDel(name=name, locators=texts):
                locators = [self._table.mhost_pton(text) for text in texts]
                self._table.remove_sockaddr_id(name, locators)
                log.info("host %s: removed %s", name, ", ".join(texts) or "all locators")
            case L3Set(name=name, up=up):
                for sk, err in self._l3_set(name, up):
                    log.warning("l3 %s: not under socket %d: %s", name, sk.number, err)
                log.info("l3 %s: %s", name, "registered" if up else "removed")
        return None
