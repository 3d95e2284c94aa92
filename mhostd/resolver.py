"""Names that nobody bound: when the name service is asked, and how long it is believed.

getaddrinfo(3) gives no TTL, so the configured ones hold: `ttl_s` for an answer,
`negative_ttl_s` for its absence. An answer whose time is up is used until the next one
has come; if nobody can give one, for a day at most (RFC 8767 sections 4 and 5). A name
that has vanished is believed at once.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from mhostd.config import Resolver as ResolverConfig
from mhostd.dev import NetCore
from mhostd.mhost_table import Host, MhostTable
from mhostd.sock import Locator

ASKED_MAX = 64  # look-ups at a time, those not counted that are slow:
SLOW_S = 1.0  # a name whose server is silent takes half a minute, and others need not wait
SLOW_MAX = 1024  # look-ups at a time, the slow ones counted
STALE_S = 86_400.0  # RFC 8767 section 5: "between 1 and 3 days"

Ask = Callable[[str, Callable[[list[Locator] | None], None]], None]
"""ask(name, answered): its locators, best first; None if nobody could say."""


class Resolver:
    """Fills in `Host.resolved`, again after each TTL for as long as somebody holds it."""

    def __init__(
        self,
        table: MhostTable,
        config: ResolverConfig,
        core: NetCore,
        ask: Ask,
        soon: Callable[[Callable[[], object]], None],
    ) -> None:
        self._table = table
        self._config = config
        self._core = core
        self._ask = ask
        self._soon = soon
        self._waiting: dict[str, list[Callable[[], None]]] = {}
        self._queue: deque[str] = deque()
        self._asked: set[str] = set()
        self._slow: set[str] = set()

    def reload(self, config: ResolverConfig) -> None:
        """Take over another configuration; an answer keeps the TTL that it got."""
        if config.system != self._config.system:
            self._table.changed()
            for host in self._table.hosts.values():
                host.resolved = None
        self._config = config

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
        while (
            self._queue
            and len(self._asked) < ASKED_MAX
            and len(self._asked) + len(self._slow) < SLOW_MAX
        ):
            name = self._queue.popleft()
            if not self._config.system or name not in self._table.hosts:
                self._end(name, [])
                continue
            self._asked.add(name)
            self._core.add_timer(self._core.clock() + SLOW_S, partial(self._is_slow, name))
            self._ask(name, partial(self._answered, name))

    def _is_slow(self, name: str, _now: float) -> None:
        """It may be a later look-up of that name; then one more runs for a while."""
        if name in self._asked:
            self._asked.remove(name)
            self._slow.add(name)
            self._start()

    def _answered(self, name: str, locators: list[Locator] | None) -> None:
        self._asked.discard(name)
        self._slow.discard(name)
        self._end(name, locators if self._config.system else [])
        self._start()

    def _end(self, name: str, locators: list[Locator] | None) -> None:
        host = self._table.hosts.get(name)
        if host is not None:
            believe(host, locators, self._core.clock(), self._config)
            self._table.changed()
            if self._config.system:
                self._core.add_timer(host.expires_s, partial(self._expired, host))
        for done in self._waiting.pop(name):
            self._soon(done)

    def _expired(self, host: Host, now: float) -> None:
        """Ask again; until there is an answer the old one is used."""
        if now < host.expires_s or self._table.hosts.get(host.name) is not host:
            return  # it was asked for again meanwhile, or nobody holds it any longer
        if host.bound or not host.resolved:
            host.resolved = None  # the next send asks
            self._table.changed()
        else:
            self.resolve(host.name, lambda: None)


def believe(
    host: Host, locators: list[Locator] | None, now: float, config: ResolverConfig
) -> None:
    """Note an answer, and when to ask again: of the name, or whether it exists now.

    Args:
        host: whose name was asked for.
        locators: none if there is no such name; None if nobody could say.
        now: seconds of a monotonic clock.
        config: the TTLs.
    """
    host.expires_s = now + (config.ttl_s if locators else config.negative_ttl_s)
    if locators:
        host.stale_s = host.expires_s + STALE_S
    elif locators is None and host.resolved and now < host.stale_s:
        return
    host.resolved = locators or []
