"""The verbs that change something; only the admin socket lets them through."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import Any

from mhostd.errors import MhostError
from mhostd.host.identity import identifier_of, key_pton
from mhostd.host.overlay import Overlay
from mhostd.mhost_table import MhostTable, host_key
from mhostd.sock import Locator, Sock
from mhostd.uapi import AF_INET6, AdminRequest, HostsAdd, HostsDel, L3Set, PathDrain

log = logging.getLogger(__name__)


class Admin:
    """Changes to the tables, each logged with what it did."""

    def __init__(
        self,
        table: MhostTable,
        l3_set: Callable[[str, bool], list[tuple[Sock, MhostError]]],
        overlay: Overlay | None = None,
    ) -> None:
        self._table = table
        self._l3_set = l3_set
        self._overlay = overlay

    def __call__(self, request: AdminRequest) -> Any:
        """Carry out one verb; MhostError says what is wrong with it."""
        match request:
            case HostsAdd(name=name, locators=texts, key=key, policy=policy) if key:
                self._add_identity(name, texts, key, policy)
            case HostsAdd(name=name, locators=texts):
                if not texts:
                    raise MhostError(
                        errno.EINVAL, f"hosts add {name}: no locator; give one, or a --key"
                    )
                locators = [self._table.mhost_pton(text) for text in texts]
                self._table.insert_sockaddr_id(name, locators)
                log.info("host %s: added %s", name, ", ".join(texts))
            case HostsDel(name=name, locators=texts):
                locators = [self._table.mhost_pton(text) for text in texts]
                host = self._table.hosts.get(host_key(name))
                bound = list(host.bound) if host else []
                self._table.remove_sockaddr_id(name, locators)
                for locator in bound:
                    if self._overlay is not None and self._table.mhost_owner(locator) is None:
                        self._overlay.forget(locator.address)
                log.info("host %s: removed %s", name, ", ".join(texts) or "all locators")
            case L3Set(name=name, up=up):
                for sk, err in self._l3_set(name, up):
                    log.warning("l3 %s: not under socket %d: %s", name, sk.number, err)
                log.info("l3 %s: %s", name, "registered" if up else "removed")
            case PathDrain(what=what, undo=undo):
                found = self._has_identity().drain(what, not undo)
                log.info(
                    "path %s: %s", "undrain" if undo else "drain", ", ".join(found) or what
                )
                return found
        return None

    def _has_identity(self) -> Overlay:
        if self._overlay is None:
            raise MhostError(
                errno.EOPNOTSUPP, "this host has no identity; see [host] in mhostd.toml"
            )
        return self._overlay

    def _add_identity(self, name: str, texts: list[str], key: str, policy: str) -> None:
        overlay = self._has_identity()
        if policy not in ("", "failover", "duplicate"):
            raise MhostError(
                errno.EINVAL, f"hosts add {name}: policy {policy!r}; want failover or duplicate"
            )
        try:
            public = key_pton(key)
        except ValueError as err:
            raise MhostError(errno.EINVAL, f"hosts add {name}: key {err}") from None
        locators = [self._table.mhost_pton(text) for text in texts]
        itself = Locator(AF_INET6, identifier_of(public))
        host = self._table.hosts.get(host_key(name))
        if host is not None and host.bound and itself not in host.bound:
            raise MhostError(
                errno.EEXIST,
                f"hosts add {name}: that name is bound to something else; "
                f"`mhostctl hosts del {name}` first",
            )
        self._table.insert_sockaddr_id(name, [itself])
        duplicate = policy == "duplicate" if policy else overlay.duplicate
        overlay.name(name, public, locators, duplicate)
        log.info("host %s: key %s, %s", name, key, ", ".join(texts) or "no locator")
