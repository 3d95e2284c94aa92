"""The host's name service, asked off the loop, for names that nobody bound.

The system's getaddrinfo orders its answers as RFC 6724 says; that order is kept.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from mhostd.config import Resolver as ResolverConfig
from mhostd.mhost_table import Host, MhostTable
from mhostd.sock import Locator

WORKERS = 4

log = logging.getLogger(__name__)


class Resolver:
    """Fills in `Host.resolved`, again after each TTL for as long as somebody holds it."""

    def __init__(
        self,
        table: MhostTable,
        config: ResolverConfig,
        soon: Callable[[Callable[[], None]], None],
    ) -> None:
        self._table = table
        self._config = config
        self._soon = soon
        self._pool = ThreadPoolExecutor(WORKERS, thread_name_prefix="resolver")
        self._waiting: dict[str, list[Callable[[], None]]] = {}

    def resolve(self, name: str, done: Callable[[], None]) -> None:
        """Ask for a name; `done` is called in a wake after the answer."""
        waiting = self._waiting.get(name)
        if waiting is not None:
            waiting.append(done)
            return
        self._waiting[name] = [done]
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._pool, _getaddrinfo, name, self._config.system)
        future.add_done_callback(lambda answer: self._answer(name, answer.result()))

    def close(self) -> None:
        """Do not wait for answers that are still out."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _answer(self, name: str, locators: list[Locator]) -> None:
        host = self._table.hosts.get(name)
        if host is not None:
            host.resolved = locators
            log.debug("resolver: %s has %d locators", name, len(locators))
            ttl_s = self._config.ttl_s if locators else self._config.negative_ttl_s
            asyncio.get_running_loop().call_later(ttl_s, self._expire, host)
        for done in self._waiting.pop(name):
            self._soon(done)

    def _expire(self, host: Host) -> None:
        """Ask again; until there is an answer the old one is used."""
        if self._table.hosts.get(host.name) is not host or host.bound:
            host.resolved = None
        elif host.resolved:
            self.resolve(host.name, lambda: None)
        else:
            host.resolved = None  # the next send asks


def _getaddrinfo(name: str, system: bool) -> list[Locator]:
    if not system:
        return []
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except (OSError, UnicodeError) as err:
        log.debug("resolver: %s: %s", name, err)
        return []
    locators = []
    for family, _type, _proto, _canonname, sa in answers:
        if family in (socket.AF_INET, socket.AF_INET6):
            text = str(sa[0]).partition("%")[0]
            scope_id = int(sa[3]) if len(sa) == 4 else 0
            locators.append(Locator(family, socket.inet_pton(family, text), scope_id))
    return list(dict.fromkeys(locators))
