"""The folder of records: whatever dies, and whatever is written there, readers go on."""

import errno
import fcntl
import logging
import os
import queue
import random
import signal
import subprocess
import sys
import time
from contextlib import contextmanager

import pytest

from mhostd import directory_file
from mhostd.directory_file import FileDirectory, Folder, emit_line, parse_line
from mhostd.host.directory import Record

A, B = "2001:20::a", "2001:20::b"
LEASE_S = 60.0


def record(number=1, identifier=A, locators=("10.0.1.1",)):
    return Record(identifier, number, locators, 7000)


class Loop:
    """In the place of the event loop: what was handed over waits until it is run."""

    def __init__(self):
        self._calls = queue.SimpleQueue()
        self.said = []

    def call(self, callback):
        self._calls.put(callback)

    def until(self, condition, timeout=60.0):
        """Run what comes until the condition holds."""
        end = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < end, self.said
            try:
                self._calls.get(timeout=0.02)()
            except queue.Empty:
                pass

    def settle(self, seconds):
        end = time.monotonic() + seconds
        self.until(lambda: time.monotonic() > end)

    def get(self, directory, identifier=A):
        answers = []
        directory.get(identifier, answers.append)
        self.until(lambda: answers)
        return answers[0]

    def txn(self, directory, expected, new, lease_s=LEASE_S):
        answers = []
        directory.txn(new.identifier, expected, new, lease_s, answers.append)
        self.until(lambda: answers)
        return answers[0]


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "directory"


@pytest.fixture
def directory(folder, loop, request):
    """make(): any number of daemons that share the folder."""

    def make(path=folder):
        made = FileDirectory(path, loop.call)
        request.addfinalizer(lambda: close(made, loop))
        return made

    return make


def close(directory, loop):
    done = []
    directory.close(lambda: done.append(True))
    loop.until(lambda: done)


@contextmanager
def killed_child(code, *args):
    """A Python process, which says that it runs; killed with -9 at the end."""
    child = subprocess.Popen([sys.executable, "-c", code, *args], stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"runs\n"
        yield child
    finally:
        child.kill()
        child.wait()
        child.stdout.close()


# --- one directory


def test_what_is_put_is_found(directory, loop):
    ours, other = directory(), directory()
    assert loop.get(other) is None
    ours.put(record(), LEASE_S)
    loop.until(lambda: loop.get(other) == record())
    assert loop.get(other, B) is None
    assert (ours.state(), other.state()) == ("ok", "ok")


def test_a_watch_says_what_there_is_and_what_changes(directory, loop):
    ours, other = directory(), directory()
    said = []
    other.watch(A, said.append)
    loop.until(lambda: said == [None])
    ours.put(record(1), LEASE_S)
    loop.until(lambda: said == [None, record(1)])
    ours.put(record(2), LEASE_S)
    loop.until(lambda: said == [None, record(1), record(2)])
    late = []
    other.watch(A, late.append)
    loop.until(lambda: late == [record(2)])
    close(ours, loop)
    loop.until(lambda: said == [None, record(1), record(2), None] and late[1:] == [None])


def test_a_refresh_is_no_change(directory, loop):
    ours, other = directory(), directory()
    said = []
    ours.put(record(), 0.3)  # refreshed every 0.1 s
    loop.until(lambda: loop.get(other) == record())
    other.watch(A, said.append)
    before = other._folder.signature(A)
    loop.until(lambda: other._folder.signature(A) != before)
    loop.settle(0.5)
    assert [x for x in said if x is not None] == [record()] * (1 + said.count(None))


def test_a_watch_that_was_cancelled_says_nothing(directory, loop):
    ours = directory()
    said, others = [], []
    cancel = ours.watch(A, said.append)
    ours.watch(A, others.append)
    loop.until(lambda: said and others)
    cancel()
    cancel()
    ours.put(record(), LEASE_S)
    loop.until(lambda: others == [None, record()])
    assert said == [None]
    ours.watch(B, said.append)()  # nor what was on its way
    loop.settle(0.3)
    assert said == [None]
    assert list(ours._watched) == [A]


def test_after_close_nothing_is_said_but_that_it_is_closed(directory, loop):
    ours = directory()
    said = []
    ours.get(A, said.append)
    ours.watch(A, said.append)
    ours.close(lambda: said.append("closed"))
    loop.until(lambda: said)
    loop.settle(0.3)
    assert said == ["closed"]
    assert not ours._thread.is_alive()


def test_callbacks_come_after_the_call_and_one_that_fails_harms_no_other(directory, loop):
    ours = directory()
    said = []
    ours.watch(A, lambda _r: said.append(0 / 0))
    ours.watch(A, said.append)
    assert said == []
    with pytest.raises(ZeroDivisionError):
        loop.until(lambda: said)
    loop.until(lambda: said == [None])


# --- leases


def test_a_record_is_gone_when_the_lease_of_a_killed_publisher_ends(directory, loop, folder):
    other = directory()
    said = []
    other.watch(A, said.append)
    with killed_child(PUBLISHER, str(folder), "1.5"):
        loop.until(lambda: said == [None, record()])
        loop.settle(3.0)  # longer than the lease: it is kept alive
        loop.until(lambda: loop.get(other) == record())
    loop.until(lambda: said[-1] is None)
    assert loop.get(other) is None


PUBLISHER = """
import sys, time, pathlib
from mhostd.directory_file import FileDirectory
from mhostd.host.directory import Record
directory = FileDirectory(pathlib.Path(sys.argv[1]), lambda callback: callback())
directory.put(Record("2001:20::a", 1, ("10.0.1.1",), 7000), float(sys.argv[2]))
print("runs", flush=True)
time.sleep(100)
"""


def test_a_lease_without_end_is_not_believed(folder, directory, loop):
    folder.mkdir()
    ours = directory()
    for ahead_ms, found in ((-1, None), (60_000, record()), (10**9, None), (10**30, None)):
        end_ms = time.time_ns() // 10**6 + ahead_ms
        (folder / A).write_bytes(emit_line(record().encode(), end_ms))
        assert loop.get(ours) == found


def test_what_was_taken_away_is_put_again(directory, loop, folder):
    ours = directory()
    ours.put(record(), 0.5)
    loop.until(lambda: loop.get(ours) == record())
    folder.rename(folder.with_name("gone"))
    loop.until(lambda: loop.get(ours) == record())


# --- two who publish


def test_the_newer_record_wins_for_as_long_as_it_is_there(directory, loop, caplog):
    older, newer = directory(), directory()
    older.put(record(3), 0.9)
    loop.until(lambda: loop.get(older) == record(3))
    newer.put(record(5), LEASE_S)
    loop.until(lambda: loop.get(older) == record(5))
    loop.until(lambda: older.state() == f"{A}: another is newer")
    loop.settle(1.0)
    assert loop.get(older) == record(5)
    close(newer, loop)
    loop.until(lambda: loop.get(older) == record(3))
    loop.until(lambda: older.state() == "ok")
    assert len([r for r in caplog.records if "newer" in r.message]) == 1


def test_who_closes_takes_away_what_is_its_own_only(directory, loop):
    older, newer = directory(), directory()
    older.put(record(3), LEASE_S)
    loop.until(lambda: loop.get(older) == record(3))
    newer.put(record(5), LEASE_S)
    loop.until(lambda: loop.get(older) == record(5))
    close(older, loop)
    assert loop.get(newer) == record(5)


def test_compare_and_swap(directory, loop):
    one, two = directory(), directory()
    assert loop.txn(one, None, record(1))
    assert not loop.txn(two, None, record(2))
    assert not loop.txn(two, record(9), record(2))
    assert loop.get(two) == record(1)
    assert loop.txn(two, record(1), record(2))
    assert loop.get(one) == record(2)


def test_what_was_swapped_in_is_kept_alive(directory, loop):
    ours = directory()
    assert loop.txn(ours, None, record(), lease_s=0.6)
    loop.settle(1.2)
    loop.until(lambda: loop.get(ours) == record())


SWAPPER = """
import queue, sys, pathlib
from mhostd.directory_file import FileDirectory
from mhostd.host.directory import Record
calls = queue.SimpleQueue()
directory = FileDirectory(pathlib.Path(sys.argv[1]), calls.put)
def ask(method, *args):
    answers = []
    method(*args, answers.append)
    while not answers:
        calls.get()()
    return answers[0]
print("runs", flush=True)
won = 0
while won < int(sys.argv[2]):
    there = ask(directory.get, "2001:20::a")
    new = Record("2001:20::a", there.number + 1 if there else 1, ("10.0.1.1",), 7000)
    won += ask(directory.txn, "2001:20::a", there, new, 60.0)
print("ends", flush=True)
import os
os._exit(0)
"""


def test_of_two_processes_that_swap_one_wins_each_time(directory, loop, folder):
    with (
        killed_child(SWAPPER, str(folder), "50") as a,
        killed_child(SWAPPER, str(folder), "50") as b,
    ):
        assert a.stdout.readline() == b.stdout.readline() == b"ends\n"
    assert loop.get(directory()) == record(100)


# --- what dies, and what is damaged

WRITER = """
import sys, itertools, pathlib
from mhostd.directory_file import Folder
from mhostd.host.directory import Record
folder = Folder(pathlib.Path(sys.argv[1]))
print("runs", flush=True)
for number in itertools.count(int(sys.argv[2])):
    locators = tuple(f"10.0.{number % 256}.{i}" for i in range(60))
    with folder.locked():
        folder.write("2001:20::a", Record("2001:20::a", number, locators, 7000).encode(), 60.0)
"""


def test_kill_at_any_time_leaves_the_old_record_or_the_new_one(folder, caplog):
    rng = random.Random(1)
    reader = Folder(folder)
    number = 0
    for round_ in range(30):
        with killed_child(WRITER, str(folder), str(number + 1)) as child:
            time.sleep(rng.uniform(0, 0.03))
            child.send_signal(signal.SIGKILL)
            child.wait()
        found = reader.read(A)
        if found is None:
            assert number == 0, f"lost in round {round_}"
            continue
        assert found[0].number >= number
        assert found[0].locators[-1] == f"10.0.{found[0].number % 256}.59"
        number = found[0].number
    assert number > 0
    assert caplog.records == []
    with Folder(folder).locked():
        pass
    assert sorted(os.listdir(folder)) == [".lock", A]  # what they left is removed


def test_every_truncation_and_every_flipped_bit_is_absent_with_a_line(folder, caplog):
    folder.mkdir()
    line = emit_line(record().encode(), time.time_ns() // 10**6 + 60_000)
    damaged = [line[:n] for n in range(len(line))]
    damaged += [
        line[:i] + bytes([line[i] ^ 1 << bit]) + line[i + 1 :]
        for i in range(len(line))
        for bit in range(8)
    ]
    damaged += [line + b"x", b"\0" * 4096, b"\0" * 10**6, line * 2]
    for octets in damaged:
        (folder / A).unlink(missing_ok=True)
        (folder / A).write_bytes(octets)
        caplog.clear()
        reader = Folder(folder)
        assert reader.read(A) is None
        assert reader.read(A) is None
        assert [r.levelno for r in caplog.records] == [logging.WARNING], octets
        assert "taken as absent" in caplog.text
    assert parse_line(line)[0] == record()


def test_what_is_well_formed_and_still_wrong_is_absent(folder, caplog):
    folder.mkdir()
    end_ms = time.time_ns() // 10**6 + 60_000
    for data, why in (
        (record(identifier=B).encode(), f"the record is of {B}"),
        (b"{}", "missing required field"),
    ):
        (folder / A).write_bytes(emit_line(data, end_ms))
        caplog.clear()
        assert Folder(folder).read(A) is None
        assert why in caplog.text
    other = emit_line(record().encode(), end_ms).replace(b"mhost1", b"mhost2")
    (folder / A).write_bytes(emit_other(other))
    assert Folder(folder).read(A) is None
    assert "another format, 'mhost2'" in caplog.text


def emit_other(line):
    import zlib

    body = line.rpartition(b" ")[0]
    return b"%s %08x\n" % (body, zlib.crc32(body))


def test_what_is_no_file_is_absent(folder, caplog):
    folder.mkdir()
    os.mkfifo(folder / A)
    (folder / B).mkdir()
    assert Folder(folder).read(A) is None
    assert Folder(folder).read(B) is None
    assert caplog.text.count("no file; taken as absent") == 2


def test_a_watch_goes_on_over_a_damaged_file(directory, loop, folder):
    ours = directory()
    said = []
    ours.watch(A, said.append)
    loop.until(lambda: said == [None])
    ours.put(record(), 3.0)
    loop.until(lambda: said == [None, record()])

    def damaged():
        (folder / A).unlink(missing_ok=True)
        (folder / A).write_bytes(b"junk")
        return said[2:3] == [None]

    loop.until(damaged)
    loop.until(lambda: said[3:4] == [record()])  # refreshed


def test_a_file_that_cannot_be_read_hides_no_other(directory, loop, monkeypatch):
    ours, other = directory(), directory()
    read = Folder.read

    def refused(self, identifier):
        if identifier == A:
            raise PermissionError(13, "Permission denied")
        return read(self, identifier)

    monkeypatch.setattr(Folder, "read", refused)
    said = {A: [], B: []}
    for identifier in said:
        other.watch(identifier, said[identifier].append)
    ours.put(record(1, B), LEASE_S)
    loop.until(lambda: said[B][-1:] == [record(1, B)])
    assert said[A] == []
    assert "Permission denied" in other.state()
    monkeypatch.setattr(Folder, "read", read)
    loop.until(lambda: said[A] == [None])


def test_who_keeps_the_lock_does_not_keep_readers(directory, loop, folder, monkeypatch):
    monkeypatch.setattr(directory_file, "LOCK_S", 0.1)
    ours = directory()
    ours.put(record(), LEASE_S)
    loop.until(lambda: loop.get(ours) == record())
    fd = os.open(folder / ".lock", os.O_RDWR)
    fcntl.flock(fd, fcntl.LOCK_EX)
    assert not loop.txn(ours, record(), record(2), lease_s=1.0)
    assert ours.state() == f"{folder}: another process keeps the lock, again in 1 s"
    assert loop.get(ours) == record()
    os.close(fd)
    assert loop.txn(ours, record(), record(2))


def test_a_folder_that_cannot_be_made_is_said_and_tried_again(
    directory, loop, tmp_path, caplog
):
    (tmp_path / "file").write_text("")
    ours = directory(tmp_path / "file" / "directory")
    ours.put(record(), LEASE_S)
    loop.until(lambda: ours.state() != "ok")
    assert os.strerror(errno.ENOTDIR) in ours.state()
    assert loop.get(ours) is None
    assert not loop.txn(ours, None, record())
    (tmp_path / "file").unlink()
    loop.until(lambda: loop.get(ours) == record())
    loop.until(lambda: ours.state() == "ok")
    assert len(caplog.records) == 1


def test_only_what_is_ours_and_dead_is_swept(folder):
    folder.mkdir()
    old, young, stranger = folder / A, folder / B, folder / "notes"
    for path in (old, young, stranger, folder / f".{A}.new", folder / ".bashrc"):
        path.write_text("x")
    for path in (old, stranger):
        os.utime(path, (1, 1))
    with Folder(folder).locked():
        pass
    assert sorted(os.listdir(folder)) == [".bashrc", ".lock", B, "notes"]
