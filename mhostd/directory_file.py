"""The directory as a folder: a file for each host, which daemons that see it share.

A file is one line: `mhost1`, when its lease ends (wall clock, ms), the record, and the
CRC-32 of all before it. It is written beside its place, synced and renamed, under one
lock, so that at any instant a reader finds the old line or the new one. All of this is
done by one thread, since fsync(2) and file servers take their time. Changes are found by
polling, which works on shared file systems too: inotify(7) does not hear of other machines.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import math
import os
import queue
import stat
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from mhostd.host.directory import (
    LEASE_MAX_S,
    OCTETS_MAX,
    Cancel,
    Found,
    Record,
    Watcher,
    check_identifier,
    check_put,
    check_txn,
)

POLL_S = 0.1
SETTLE_S = 2.5  # times as coarse as FAT's show a second change only after so long
RETRY_S = 1.0
LOCK_S = 2.0  # another process writes for milliseconds, if it has not been stopped
SWEEP_S = 3600.0
DEAD_S = 86_400.0  # a file that nobody has refreshed for so long is removed
CLOSE_S = 1.0

_MAGIC = b"mhost1"
_LINE_MAX = OCTETS_MAX + 64
_TEMPORARY = ".new"

_Signature = tuple[int, int, int]

log = logging.getLogger(__name__)


def emit_line(record: bytes, expires_ms: int) -> bytes:
    """Write what a file holds."""
    body = b"%s %d %s" % (_MAGIC, expires_ms, record)
    return b"%s %08x\n" % (body, zlib.crc32(body))


def parse_line(line: bytes) -> tuple[Record, int]:
    """Read what a file holds: the record, and when its lease ends (ms).

    Raises:
        ValueError: with what is wrong.
    """
    body, _space, check = line.rpartition(b" ")
    if check != b"%08x\n" % zlib.crc32(body):
        raise ValueError("damaged, or not ours")
    magic, expires_ms, record = body.split(b" ", 2)
    if magic != _MAGIC:
        raise ValueError(f"written in another format, {magic.decode(errors='replace')!r}")
    return Record.decode(record), int(expires_ms)


class Folder:
    """The files, read and written at once."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._damaged: dict[str, _Signature] = {}
        self._swept_s = -SWEEP_S

    def read(self, identifier: str) -> tuple[Record, int] | None:
        """Return a record and when its lease ends (ms); None where that is past.

        Raises:
            OSError: nobody can say.
        """
        found = None
        flags = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC  # a FIFO would keep us
        try:
            fd = os.open(self.path / identifier, flags)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise ValueError("no file")
            found = parse_line(os.read(fd, _LINE_MAX + 1))
            if found[0].identifier != identifier:
                raise ValueError(f"the record is of {found[0].identifier}")
        except ValueError as err:
            self._say_once(identifier, _signature(status), str(err))
            return None
        finally:
            os.close(fd)
        # The upper limit: a clock was ahead when it was written, or is behind now.
        return found if 0 < found[1] - _wall_ms() <= LEASE_MAX_S * 1000 else None

    def _say_once(self, identifier: str, signature: _Signature, what: str) -> None:
        if self._damaged.get(identifier) != signature:
            if len(self._damaged) >= 1000:
                self._damaged.clear()
            self._damaged[identifier] = signature
            log.warning("%s: %s; taken as absent", self.path / identifier, what)

    def signature(self, name: str = "") -> _Signature | None:
        """What changes when a file of that name, or any at all, is replaced; None: absent."""
        try:
            return _signature(os.stat(self.path / name))
        except FileNotFoundError:
            return None

    @contextlib.contextmanager
    def locked(self, wait_s: float = LOCK_S) -> Iterator[None]:
        """Keep other writers out; TimeoutError if one of them does not come to an end."""
        self.path.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        fd = os.open(self.path / ".lock", flags, 0o666)
        end_s = time.monotonic() + wait_s
        try:
            while True:
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > end_s:
                        raise TimeoutError(None, "another process keeps the lock") from None
                    time.sleep(0.002)
            if time.monotonic() > self._swept_s + SWEEP_S:
                self._swept_s = time.monotonic()
                self._sweep()
            yield
        finally:
            os.close(fd)

    def write(self, identifier: str, record: bytes, lease_s: float) -> None:
        """Replace a record; the caller has the lock."""
        line = emit_line(record, _wall_ms() + round(lease_s * 1000))
        temporary = self.path / f".{identifier}{_TEMPORARY}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            fd = os.open(temporary, flags, 0o666)
            try:
                while line:
                    line = line[os.write(fd, line) :]
                os.fsync(fd)
            finally:
                os.close(fd)
            temporary.rename(self.path / identifier)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink(missing_ok=True)
            raise
        self._sync()

    def remove(self, identifier: str) -> None:
        """Remove a record; the caller has the lock."""
        (self.path / identifier).unlink(missing_ok=True)
        self._sync()

    def _sync(self) -> None:
        fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def _sweep(self) -> None:
        """Remove what crashes have left, and hosts that have been gone for a day."""
        for entry in os.scandir(self.path):
            name = entry.name.removeprefix(".").removesuffix(_TEMPORARY)
            try:
                check_identifier(name)
                temporary = entry.name != name
                if temporary or entry.stat().st_mtime < time.time() - DEAD_S:
                    os.unlink(entry.path)
            except (ValueError, OSError):
                continue  # not ours


def _signature(status: os.stat_result) -> _Signature:
    return status.st_mtime_ns, status.st_ino, status.st_size


def _wall_ms() -> int:
    return time.time_ns() // 1_000_000


class _Put:
    """What we publish; `due_s` is when it is written again (monotonic)."""

    def __init__(self, record: Record, data: bytes, lease_s: float) -> None:
        self.record = record
        self.data = data
        self.lease_s = lease_s
        self.due_s = 0.0
        self.behind = False


class _Watched:
    """A host that is watched: what there was, and of which file."""

    def __init__(self) -> None:
        self.watchers: list[Watcher] = []
        self.known = False
        self.record: Record | None = None
        self.expires_ms = 0
        self.signature: _Signature | None = None
        self.settled = False  # whether that signature means that nothing has changed
        self.settled_s = 0.0


class FileDirectory:
    """See mhostd.host.directory.Directory."""

    def __init__(self, path: Path, call: Callable[[Callable[[], object]], object]) -> None:
        """Begin.

        Args:
            path: the folder, made when something is put.
            call: hands a callback to the event loop, from any thread.
        """
        self._call = call
        self._folder = Folder(path)
        self._jobs: queue.SimpleQueue[Callable[[], object]] = queue.SimpleQueue()
        self._state = "ok"
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="directory", daemon=True)
        # What follows belongs to the thread.
        self._puts: dict[str, _Put] = {}
        self._watched: dict[str, _Watched] = {}
        self._poll_s = 0.0
        self._folder_signature: _Signature | None = None
        self._looks = 0
        self._settled_s = math.inf
        self._trouble = ""
        self._thread.start()

    # --- the event loop's side

    def put(self, record: Record, lease_s: float) -> None:
        """Publish a record."""
        put = _Put(record, check_put(record, lease_s), lease_s)
        self._jobs.put(lambda: self._puts.__setitem__(record.identifier, put))

    def get(self, identifier: str, callback: Found) -> None:
        """Ask once."""
        check_identifier(identifier)
        self._jobs.put(partial(self._get, identifier, callback))

    def watch(self, identifier: str, callback: Found) -> Cancel:
        """Say what there is, and what changes."""
        check_identifier(identifier)
        watcher = Watcher(callback)
        self._jobs.put(partial(self._watch, identifier, watcher))

        def cancel() -> None:
            watcher.cancel()
            self._jobs.put(partial(self._unwatch, identifier, watcher))

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
        self._jobs.put(lambda: self._tell(partial(callback, self._swap(expected, put))))

    def state(self) -> str:
        """For display."""
        return self._state

    def close(self, closed: Callable[[], object] = lambda: None) -> None:
        """Withdraw what was put; a file server that hangs does not hold it up for long."""

        def wait() -> None:
            self._thread.join(CLOSE_S)
            with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
                self._call(closed)

        self._closed = True
        self._jobs.put(self._withdraw)
        threading.Thread(target=wait, daemon=True).start()

    # --- the thread's side

    def _run(self) -> None:
        while not self._closed:
            with contextlib.suppress(queue.Empty):
                self._do(self._jobs.get(timeout=self._pause_s()))
            self._do(self._refresh)
            if self._watched and time.monotonic() >= self._poll_s:
                self._poll_s = time.monotonic() + POLL_S
                self._do(self._poll)
        self._do(self._withdraw)

    def _pause_s(self) -> float | None:
        due = [put.due_s for put in self._puts.values()]
        due += [self._poll_s] if self._watched else []
        return max(0.0, min(due) - time.monotonic()) if due else None

    def _do(self, job: Callable[[], object]) -> None:
        """One that fails is logged, and does not keep the others from running."""
        try:
            job()
        except OSError as err:
            self._failed(err)
        except Exception:
            log.exception("unexpected error; the directory goes on")

    def _tell(self, callback: Callable[[], object]) -> None:
        def run() -> None:
            if not self._closed:
                callback()

        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile
            self._call(run)

    def _failed(self, err: OSError) -> None:
        trouble = f"{self._folder.path}: {err.strerror}"
        if trouble != self._trouble:
            log.warning("%s", trouble)
        self._trouble = trouble
        self._state = f"{trouble}, again in {RETRY_S:.0f} s"

    def _worked(self) -> None:
        behind = next((put.record for put in self._puts.values() if put.behind), None)
        self._trouble = ""
        self._state = "ok" if behind is None else f"{behind.identifier}: another is newer"

    def _get(self, identifier: str, callback: Found) -> None:
        found = None
        try:
            found = self._folder.read(identifier)
        finally:
            self._tell(partial(callback, found[0] if found else None))

    def _refresh(self) -> None:
        for put in [p for p in self._puts.values() if p.due_s <= time.monotonic()]:
            put.due_s = time.monotonic() + RETRY_S
            self._publish(put)
            put.due_s = time.monotonic() + put.lease_s / 3
            self._worked()

    def _publish(self, put: _Put) -> None:
        identifier, number = put.record.identifier, put.record.number
        with self._folder.locked():
            there = self._folder.read(identifier)
            behind = there is not None and there[0].number > number
            if not behind:
                self._folder.write(identifier, put.data, put.lease_s)
        if behind and not put.behind:
            log.warning("%s: there is a newer record than ours, %d", identifier, number)
        put.behind = behind

    def _swap(self, expected: Record | None, put: _Put) -> bool:
        identifier = put.record.identifier
        try:
            with self._folder.locked():
                there = self._folder.read(identifier)
                if (there[0] if there else None) != expected:
                    return False
                self._folder.write(identifier, put.data, put.lease_s)
        except OSError as err:
            self._failed(err)
            return False
        put.due_s = time.monotonic() + put.lease_s / 3
        self._puts[identifier] = put
        return True

    def _watch(self, identifier: str, watcher: Watcher) -> None:
        watched = self._watched.setdefault(identifier, _Watched())
        watched.watchers.append(watcher)
        if watched.known:
            self._tell(partial(watcher.found, watched.record))
        else:
            self._look(identifier, watched)

    def _unwatch(self, identifier: str, watcher: Watcher) -> None:
        watched = self._watched.get(identifier)
        if watched is not None and watcher in watched.watchers:
            watched.watchers.remove(watcher)
            if not watched.watchers:
                del self._watched[identifier]

    def _poll(self) -> None:
        """Look for changes: one stat(2) while there is none, one for each host after one.

        And again in the next poll, and when times as coarse as FAT's would show another
        change that came right after.
        """
        signature, now = self._folder.signature(), time.monotonic()
        if signature != self._folder_signature:
            self._folder_signature = signature
            self._looks, self._settled_s = 2, now + SETTLE_S
        look = self._looks > 0 or now >= self._settled_s
        self._looks -= self._looks > 0
        if now >= self._settled_s:
            self._settled_s = math.inf
        failure = None
        for identifier, watched in self._watched.items():
            if look or not watched.known:
                try:
                    self._look(identifier, watched)
                except OSError as err:  # the files of others may be readable
                    failure = err
            elif watched.record is not None and watched.expires_ms <= _wall_ms():
                self._found(watched, None)
        if failure is not None:
            raise failure
        if not self._puts:
            self._worked()

    def _look(self, identifier: str, watched: _Watched) -> None:
        signature, now = self._folder.signature(identifier), time.monotonic()
        if signature != watched.signature or not watched.known:
            watched.signature = signature
            watched.settled, watched.settled_s = False, now + SETTLE_S
        elif watched.settled:
            if watched.expires_ms > _wall_ms():
                return
        else:
            watched.settled = now >= watched.settled_s
        found = self._folder.read(identifier)
        watched.expires_ms = found[1] if found else 0
        self._found(watched, found[0] if found else None)

    def _found(self, watched: _Watched, record: Record | None) -> None:
        if record != watched.record or not watched.known:
            watched.known, watched.record = True, record
            for watcher in watched.watchers:
                self._tell(partial(watcher.found, record))

    def _withdraw(self) -> None:
        puts, self._puts = self._puts, {}
        for identifier, put in puts.items():
            with self._folder.locked(CLOSE_S / 2):
                there = self._folder.read(identifier)
                if there and there[0] == put.record:
                    self._folder.remove(identifier)
