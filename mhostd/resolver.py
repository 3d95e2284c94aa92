"""The host's name service, asked off the loop, for names that nobody bound.

The system's getaddrinfo orders its answers as RFC 6724 says; that order is kept.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections import deque
from collections.abc import Callable

from mhostd.config import Resolver as ResolverConfig
from mhostd.mhost_table import Host, MhostTable
from mhostd.sock import Locator

THREADS_MAX = 64  # a name whose server is silent holds one for half a minute

log = logging.getLogger(__name__)


class Resolver:
    """Fills in `Host.resolved`, again after each TTL for as long as somebody holds it."""

    def __init__(
        self,
        table: MhostTable,
        config: ResolverConfig,
        soon: Callable[[Callable[[], object]], None],
    ) -> None:
        self._table = table
        self._config = config
        self._soon = soon
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._queue: deque[str] = deque()
        self._running = 0

    def resolve(self, name: str, done: Callable[[], None]) -> None:
        """Ask for a name; `done` is called in a wake after the answer."""
        waiting = self._waiting.get(name)
        if waiting is not None:
            waiting.append(done)
            return
        self._waiting[name] = [done]
        self._queue.append(name)
        self._start()

    def _start(self) -> None:
        """One thread for each name that is asked now; they do not hold up the end."""
        loop = asyncio.get_running_loop()
        while self._queue and self._running < THREADS_MAX:
            name = self._queue.popleft()
            self._running += 1
            threading.Thread(target=self._ask, args=(loop, name), daemon=True).start()

    def _ask(self, loop: asyncio.AbstractEventLoop, name: str) -> None:
        locators = _getaddrinfo(name) if self._config.system else []
        try:
            loop.call_soon_threadsafe(self._answer, name, locators)
        except RuntimeError:
            pass  # the loop has ended meanwhile

    def _answer(self, name: str, locators: list[Locator]) -> None:
        self._running -= 1
        self._start()
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


def _getaddrinfo(name: str) -> list[Locator]:
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
