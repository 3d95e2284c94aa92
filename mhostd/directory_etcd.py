"""The directory in etcd, for a fleet, over etcd's JSON gateway.

Each record is a key with a lease. One watch on all of them serves whoever watches here,
since a connection for each would be too many for etcd: what a fleet changes, each of its
hosts hears. A watch is opened again after a while without a word, which finds whatever
may have happened to its connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable
from functools import partial
from typing import Any, Protocol

from mhostd.host import etcd
from mhostd.host.directory import (
    Cancel,
    Found,
    Record,
    Watcher,
    check_identifier,
    check_put,
    check_txn,
)
from mhostd.host.etcd import EtcdError, KeyValue, T

BACKOFF_S, BACKOFF_MAX_S = 0.25, 5.0
ASK_S = 8.0  # get() and txn()
CLOSE_S = 1.0
FETCHES = 4  # at a time,
FETCH_MAX = 64  # hosts in each

log = logging.getLogger(__name__)


class Backoff:
    """How long to wait after a failure: doubled each time, and never at once with others."""

    def __init__(self) -> None:
        self._next_s = BACKOFF_S

    def next_s(self) -> float:
        """After a failure."""
        wait_s, self._next_s = self._next_s, min(self._next_s * 2, BACKOFF_MAX_S)
        return wait_s * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """After a success."""
        self._next_s = BACKOFF_S


class Cluster(Protocol):
    """Whom to ask: mhostd.etcd_gateway.EtcdGateway."""

    async def ask(self, path: str, body: etcd.Body, kind: type[T]) -> T:
        """Ask one member after the other; EtcdError if none answers, or one refuses."""

    def watch(self, body: etcd.Body) -> AsyncGenerator[etcd.Watch, None]:
        """Open a watch, and say what it says until it ends or has been quiet for long."""

    async def close(self) -> None:
        """Close all connections."""


class _Put:
    """What we publish; a lease of 0 is yet to be granted."""

    def __init__(self, record: Record, data: bytes, lease_s: float, lease: int = 0) -> None:
        self.record = record
        self.data = data
        self.lease_s = lease_s
        self.lease = lease
        self.changed = asyncio.Event()
        self.behind = False
        self.task: asyncio.Task[None] | None = None


class _Watched:
    """A host that is watched: what there was, as of a revision of the store."""

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        self.known = False
        self.record: Record | None = None
        self.revision = 0


class EtcdDirectory:
    """See mhostd.host.directory.Directory."""

    def __init__(
        self,
        cluster: Cluster,
        prefix: str,
        loop: asyncio.AbstractEventLoop,
        call: Callable[[Callable[[], object]], object],
    ) -> None:
        """Begin; nothing is sent yet.

        Args:
            cluster: whom to ask.
            prefix: of keys.
            loop: where all of it runs.
            call: calls a callback in it, soon.
        """
        self._cluster = cluster
        self._ask = cluster.ask
        self._prefix = prefix.encode()
        self._loop = loop
        self._call = call
        self._tasks: set[asyncio.Task[None]] = set()
        self._puts: dict[str, _Put] = {}
        self._watched: dict[str, _Watched] = {}
        self._watching: asyncio.Task[None] | None = None
        self._wanted: dict[str, None] = {}
        self._generation = 0  # of what is known from watching
        self._fetches = asyncio.Semaphore(FETCHES)
        self._troubles: dict[str, tuple[str, float]] = {}
        self._damaged: dict[bytes, int] = {}
        self._closed = False

    def put(self, record: Record, lease_s: float) -> None:
        """Publish a record."""
        data = check_put(record, lease_s)
        put = self._puts.get(record.identifier)
        if put is None:
            self._keep(_Put(record, data, lease_s))
            return
        if lease_s != put.lease_s:
            put.lease = 0  # the key goes over to another, and this one runs out
        put.record, put.data, put.lease_s = record, data, lease_s
        put.changed.set()

    def get(self, identifier: str, callback: Found) -> None:
        """Ask once."""
        check_identifier(identifier)

        async def run() -> None:
            record = None
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_S):
                    kv, _revision = await self._patiently(
                        "get", partial(self._range, identifier)
                    )
                    record = self._record(identifier, kv)
            self._tell(partial(callback, record))

        self._spawn(run())

    def watch(self, identifier: str, callback: Found) -> Cancel:
        """Say what there is, and what changes."""
        check_identifier(identifier)
        watcher = Watcher(callback)
        watched = self._watched.get(identifier)
        if watched is None:
            watched = self._watched[identifier] = _Watched()
            self._want([identifier])
        elif watched.known:
            self._tell(partial(watcher.found, watched.record))
        watched.watchers.append(watcher)
        if self._watching is None:
            self._watching = self._spawn(self._forever(self._watch))

        def cancel() -> None:
            watcher.cancel()
            with contextlib.suppress(ValueError):
                watched.watchers.remove(watcher)
            if not watched.watchers and self._watched.get(identifier) is watched:
                del self._watched[identifier]
            if not self._watched and self._watching is not None:
                self._watching.cancel()
                self._watching = None
                self._troubles.pop("watch", None)

        return cancel

    def txn(
        self,
        identifier: str,
        expected: Record | None,
        record: Record,
        lease_s: float,
        callback: Callable[[bool], object],
    ) -> None:
        """Compare and swap."""
        put = _Put(record, check_txn(identifier, record, lease_s), lease_s)

        async def run() -> None:
            swapped = False
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(ASK_S):
                    swapped = await self._patiently("txn", partial(self._swap, expected, put))
            if swapped:
                self._keep(put)
            self._tell(partial(callback, swapped))

        self._spawn(run())

    def state(self) -> str:
        """For display."""
        if self._troubles:
            text, again_s = next(iter(self._troubles.values()))
            left_s = max(0.0, again_s - time.monotonic())
            return f"etcd: {text}, again in {left_s:.1f} s"
        for put in self._puts.values():
            if put.behind:
                return f"{put.record.identifier}: another is newer"
        return "ok"

    def close(self, closed: Callable[[], object] = lambda: None) -> None:
        """Revoke the leases, and with them all that was put."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        leases = [put.lease for put in self._puts.values() if put.lease]

        async def run() -> None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CLOSE_S):
                    await asyncio.gather(*tasks, return_exceptions=True)
                    await asyncio.gather(*map(self._revoke, leases), return_exceptions=True)
            await self._cluster.close()
            self._call(closed)

        self._spawn(run())

    # --- tasks

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def _forever(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """What fails unexpectedly is logged and begun again."""
        while True:
            try:
                await work()
            except Exception:
                log.exception("unexpected error; the directory goes on")
            await asyncio.sleep(BACKOFF_MAX_S)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (err := task.exception()) is not None:
            log.error("unexpected error; the directory goes on", exc_info=err)

    def _tell(self, callback: Callable[[], object]) -> None:
        self._call(lambda: None if self._closed else callback())

    async def _patiently(
        self, what: str, ask: Callable[[], Awaitable[Any]], unless: int = -1
    ) -> Any:
        """Ask until there is an answer, or a refusal with the code `unless`."""
        backoff = Backoff()
        try:
            while True:
                try:
                    return await ask()
                except EtcdError as err:
                    if err.code == unless:
                        raise
                    await asyncio.sleep(self._failed(what, err, backoff))
        finally:
            self._troubles.pop(what, None)

    def _failed(self, what: str, err: EtcdError, backoff: Backoff) -> float:
        """Say so if it is news; return how long to wait."""
        wait_s = backoff.next_s()
        text = str(err)
        if text not in (said for said, _again_s in self._troubles.values()):
            log.warning("etcd: %s: %s", what, text)
        self._troubles[what] = (text, time.monotonic() + wait_s)
        return wait_s

    def _key(self, identifier: str) -> bytes:
        return self._prefix + identifier.encode()

    async def _range(self, identifier: str) -> tuple[KeyValue, int]:
        answer = await self._ask(
            "/v3/kv/range", etcd.range_of(self._key(identifier)), etcd.Range
        )
        return answer.kv, answer.header.revision

    def _record(self, identifier: str, kv: KeyValue) -> Record | None:
        """Read a value; one that is no record is said once, and taken as absent."""
        if not kv.mod_revision or not kv.value:
            return None
        try:
            record = Record.decode(kv.value)
            if record.identifier != identifier:
                raise ValueError(f"the record is of {record.identifier}")
        except ValueError as err:
            if self._damaged.get(kv.key) != kv.mod_revision:
                if len(self._damaged) >= 1000:
                    self._damaged.clear()
                self._damaged[kv.key] = kv.mod_revision
                log.warning(
                    "etcd: %s: %s; taken as absent", self._key(identifier).decode(), err
                )
            return None
        return record

    # --- publishing

    def _keep(self, put: _Put) -> None:
        """Publish from now on, in place of what we have published before."""
        before = self._puts.get(put.record.identifier)
        if before is not None and before.task is not None:
            before.task.cancel()
        self._puts[put.record.identifier] = put
        put.task = self._spawn(self._forever(partial(self._publish, put)))

    async def _publish(self, put: _Put) -> None:
        backoff = Backoff()
        what = f"put {put.record.identifier}"
        while True:
            put.changed.clear()
            try:
                if put.lease and not await self._keep_alive(put.lease):
                    log.warning("etcd: %s: its lease was lost", what)
                    put.lease = 0
                if not put.lease:
                    put.lease = await self._grant(put.lease_s)
                await self._store(put)
                self._troubles.pop(what, None)
                backoff.reset()
                wait_s = put.lease_s / 3
            except EtcdError as err:
                if err.code == etcd.NOT_FOUND:  # it was lost just now
                    put.lease = 0
                wait_s = self._failed(what, err, backoff)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await put.changed.wait()

    async def _grant(self, lease_s: float) -> int:
        answer = await self._ask("/v3/lease/grant", etcd.grant(math.ceil(lease_s)), etcd.Lease)
        if not answer.id:
            raise EtcdError("no lease was granted")
        return answer.id

    async def _revoke(self, lease: int) -> None:
        await self._ask("/v3/lease/revoke", etcd.lease_of(lease), etcd.Empty)

    async def _keep_alive(self, lease: int) -> bool:
        path, body = "/v3/lease/keepalive", etcd.lease_of(lease)
        return (await self._ask(path, body, etcd.LeaseResult)).result.ttl_s > 0

    async def _store(self, put: _Put) -> None:
        """See to it that what is there is ours, or newer."""
        record, data, lease = put.record, put.data, put.lease
        for _ in range(10):
            kv, _revision = await self._range(record.identifier)
            there = self._record(record.identifier, kv)
            behind = there is not None and there.number > record.number
            if behind and not put.behind:
                log.warning(
                    "%s: there is a newer record than ours, %d",
                    record.identifier,
                    record.number,
                )
            put.behind = behind
            if behind or (there == record and kv.lease == lease):
                return
            body = etcd.swap(self._key(record.identifier), kv.mod_revision, data, lease)
            if (await self._ask("/v3/kv/txn", body, etcd.Txn)).succeeded:
                return
        raise EtcdError("others put the same key all the time")

    async def _swap(self, expected: Record | None, put: _Put) -> bool:
        identifier = put.record.identifier
        kv, _revision = await self._range(identifier)
        there = self._record(identifier, kv)
        if put.lease and kv.lease == put.lease:
            return True  # an attempt whose answer was lost
        if there != expected:
            return False
        if not put.lease:
            put.lease = await self._grant(put.lease_s)
        body = etcd.swap(self._key(identifier), kv.mod_revision, put.data, put.lease)
        return (await self._ask("/v3/kv/txn", body, etcd.Txn)).succeeded

    # --- watching

    async def _watch(self) -> None:
        backoff = Backoff()
        seen = etcd.Header()  # up to which revision all is known
        while True:
            revision = seen.revision + 1 if seen.revision else 0
            body = etcd.watch_prefix(self._prefix, revision)
            try:
                async with contextlib.aclosing(self._cluster.watch(body)) as answers:
                    async for answer in answers:
                        seen = self._follow(seen, answer)
                        self._troubles.pop("watch", None)
                        backoff.reset()
                        if not seen.revision:
                            break
                if not seen.revision:
                    await asyncio.sleep(backoff.next_s())
            except EtcdError as err:
                await asyncio.sleep(self._failed("watch", err, backoff))

    def _follow(self, seen: etcd.Header, answer: etcd.Watch) -> etcd.Header:
        """Take over what a watch says; return what is known now, nothing to begin anew."""
        header = answer.header
        if answer.canceled:
            if answer.compact_revision:
                return etcd.Header()
            raise etcd.cancelled(answer)
        if answer.created:
            if seen.revision:
                same = header.cluster_id == seen.cluster_id
                return seen if same and header.revision >= seen.revision else etcd.Header()
            self._generation += 1
            for anew in self._watched.values():
                anew.revision = 0
            self._want(self._watched)
            seen = header
        for event in answer.events:
            kv = event.kv
            identifier = kv.key.removeprefix(self._prefix).decode(errors="replace")
            if (watched := self._watched.get(identifier)) is not None:
                self._found(identifier, watched, kv, kv.mod_revision)
            seen = etcd.Header(seen.cluster_id, kv.mod_revision)
        return seen

    def _want(self, identifiers: Iterable[str]) -> None:
        """Fetch them soon, with others that are wanted until then."""
        if not self._wanted:
            self._loop.call_soon(self._fetch_wanted)
        self._wanted |= dict.fromkeys(identifiers)

    def _fetch_wanted(self) -> None:
        wanted, self._wanted = [i for i in self._wanted if i in self._watched], {}
        for at in range(0, 0 if self._closed else len(wanted), FETCH_MAX):
            self._spawn(self._fetch(wanted[at : at + FETCH_MAX]))

    async def _fetch(self, identifiers: list[str]) -> None:
        """Find out what there is; changes come by the watch."""
        generation = self._generation
        path, body = "/v3/kv/txn", etcd.ranges_of([self._key(i) for i in identifiers])
        ask = partial(self._ask, path, body, etcd.Ranges)
        try:
            async with self._fetches:
                answer = await self._patiently("get", ask, etcd.OUT_OF_RANGE)
        except EtcdError:  # somebody has put very long ones there
            for half in identifiers[::2], identifiers[1::2]:
                if len(identifiers) > 1:
                    self._spawn(self._fetch(half))
            return  # a single one that is longer than etcd allows stays unknown
        if generation != self._generation:
            return
        for identifier, kv in zip(identifiers, answer.kvs, strict=False):
            if (watched := self._watched.get(identifier)) is not None:
                self._found(identifier, watched, kv, answer.header.revision)

    def _found(self, identifier: str, watched: _Watched, kv: KeyValue, revision: int) -> None:
        """Tell those who watch, if it is newer than what is known and different."""
        if revision <= watched.revision:
            return
        watched.revision = revision
        record = self._record(identifier, kv)
        if record != watched.record or not watched.known:
            watched.known, watched.record = True, record
            for watcher in watched.watchers:
                self._tell(partial(watcher.found, record))
