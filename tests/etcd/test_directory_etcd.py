"""The directory in etcd: what it promises holds while etcd dies, forgets and comes back."""

import asyncio
import base64
import logging
import subprocess
import sys

import httpx
import pytest

A, B = "2001:20::a", "2001:20::b"


def b64(text):
    return base64.b64encode(text.encode()).decode()


def test_what_is_put_is_found(etcd, run):
    async def scenario(fleet):
        ours, other = fleet.open(etcd), fleet.open(etcd)
        record = fleet.record()
        assert await fleet.get(other) is None
        ours.put(record, 60)

        async def found():
            return await fleet.get(other) == record

        await fleet.until(found)
        assert etcd.value(f"mhost/{A}") == record.encode()
        assert await fleet.get(other, B) is None
        assert (ours.state(), other.state()) == ("ok", "ok")

    run(scenario)


def test_a_watch_says_what_there_is_and_what_changes(etcd, run):
    async def scenario(fleet):
        ours, other = fleet.open(etcd), fleet.open(etcd)
        one, two = fleet.record(1), fleet.record(2)
        said, late, cancelled = [], [], []
        other.watch(A, said.append)
        cancel = other.watch(A, cancelled.append)
        await fleet.until(lambda: said == cancelled == [None])
        cancel()
        cancel()
        ours.put(one, 60)
        await fleet.until(lambda: said == [None, one])
        ours.put(two, 60)
        await fleet.until(lambda: said == [None, one, two])
        other.watch(A, late.append)
        await fleet.until(lambda: late == [two])
        ours.put(fleet.record(1, B), 30)
        other.watch(B, late.append)
        await fleet.until(lambda: late[-1] == fleet.record(1, B))
        await fleet.close(ours)
        await fleet.until(lambda: said == [None, one, two, None])
        assert cancelled == [None]

    run(scenario)


def test_a_watch_can_be_given_up_and_taken_up(etcd, run):
    async def scenario(fleet):
        ours = fleet.open(etcd)
        for number in range(1, 4):
            said = []
            cancel = ours.watch(A, said.append)
            ours.put(fleet.record(number), 60)
            await fleet.until(lambda said=said, n=number: said[-1:] == [fleet.record(n)])
            cancel()
            assert ours._watching is None
            assert ours._watched == {}
        ours.watch(A, said.append)()
        ours.put(fleet.record(9), 60)
        await fleet.until(lambda: etcd.value(f"mhost/{A}") == fleet.record(9).encode())
        assert fleet.record(9) not in said

    run(scenario)


def test_compare_and_swap(etcd, run):
    async def scenario(fleet):
        ours, other = fleet.open(etcd), fleet.open(etcd)
        one, two = fleet.record(1), fleet.record(2)
        assert await fleet.txn(ours, None, one)
        assert not await fleet.txn(other, None, two)
        assert not await fleet.txn(other, two, two)
        assert await fleet.get(other) == one
        assert await fleet.txn(other, one, two)
        assert await fleet.get(ours) == two
        winners = await asyncio.gather(
            *(
                fleet.txn(who, two, fleet.record(n))
                for n, who in enumerate([ours, other] * 5, 3)
            )
        )
        assert winners.count(True) == 1

    run(scenario)


def test_the_newer_record_wins_for_as_long_as_it_is_there(etcd, run):
    async def scenario(fleet):
        older, newer = fleet.open(etcd), fleet.open(etcd)
        said = []
        older.watch(A, said.append)
        older.put(fleet.record(3), 2)
        await fleet.until(lambda: said[-1:] == [fleet.record(3)])
        newer.put(fleet.record(5), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record(5)])
        await fleet.until(lambda: older.state() == f"{A}: another is newer")
        await fleet.close(newer)
        await fleet.until(lambda: said[-2:] == [None, fleet.record(3)])
        assert older.state() == "ok"

    run(scenario)


PUBLISHER = """
import asyncio, sys, pathlib
from mhostd.config import Config, Directory
from mhostd.directories import open_directory
from mhostd.host.directory import Record
async def main():
    config = Config(directory=Directory(backend="etcd", endpoints=[sys.argv[1]]))
    directory = open_directory(config, pathlib.Path("/"), asyncio.get_running_loop())
    directory.put(Record("2001:20::a", 1, ("10.0.1.1", "testproto:7"), 7000), 2.0)
    await asyncio.sleep(100)
asyncio.run(main())
"""


@pytest.mark.slow
def test_a_record_is_gone_when_the_lease_of_a_killed_publisher_ends(etcd, run):
    async def scenario(fleet):
        other = fleet.open(etcd)
        said = []
        other.watch(A, said.append)
        child = subprocess.Popen([sys.executable, "-c", PUBLISHER, etcd.url])
        try:
            await fleet.until(lambda: said == [None, fleet.record()])
            await asyncio.sleep(5)  # longer than the lease: it is kept alive
            await fleet.until(lambda: said[-1] == fleet.record())
        finally:
            child.kill()
            child.wait()
        await fleet.until(lambda: said[-1] is None)

    run(scenario)


def test_etcd_is_killed_and_restarted_and_nothing_is_lost(etcd, run):
    async def scenario(fleet):
        ours, other = fleet.open(etcd), fleet.open(etcd)
        said = []
        other.watch(A, said.append)
        ours.put(fleet.record(1), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record(1)])
        for number in (2, 3, 4):
            etcd.kill()
            await fleet.until(lambda: other.state().startswith("etcd: "))
            assert " again in " in other.state()
            ours.put(fleet.record(number), 60)
            await asyncio.to_thread(etcd.start)
            await fleet.until(lambda n=number: said[-1:] == [fleet.record(n)])
        assert said[-4:] == [fleet.record(n) for n in (1, 2, 3, 4)]
        assert None not in said[1:]
        await fleet.until(lambda: ours.state() == other.state() == "ok")

    run(scenario)


@pytest.mark.slow
def test_what_nobody_can_say_is_none_and_false_and_is_said_once(etcd, run, caplog):
    async def scenario(fleet):
        etcd.kill()
        ours = fleet.open(etcd)
        said = []
        ours.watch(A, said.append)
        ours.put(fleet.record(), 60)
        answers = await asyncio.gather(
            fleet.get(ours), fleet.txn(ours, None, fleet.record()), fleet.get(ours, B)
        )
        assert answers == [None, False, None]
        assert said == []
        assert ours.state().startswith("etcd: connection refused, again in ")
        lines = [r.message for r in caplog.records if r.levelno == logging.WARNING]
        assert len(lines) == 1
        await asyncio.to_thread(etcd.start)
        await fleet.until(lambda: said[-1:] == [fleet.record()])

    run(scenario)


def test_etcd_forgets_everything_and_the_record_is_there_again(make_etcd, run):
    async def scenario(fleet):
        etcd = make_etcd()
        ours, other = fleet.open(etcd), fleet.open(etcd)
        said = []
        other.watch(A, said.append)
        other.watch(B, lambda _record: None)
        for number in range(1, 6):
            ours.put(fleet.record(number), 3)
            await fleet.until(lambda n=number: said[-1:] == [fleet.record(n)])
        etcd.kill()
        etcd.path.rename(etcd.path.with_suffix(".gone"))
        await asyncio.to_thread(etcd.start)
        await fleet.until(lambda: etcd.value(f"mhost/{A}") == fleet.record(5).encode())
        ours.put(fleet.record(7), 3)
        await fleet.until(lambda: said[-1:] == [fleet.record(7)])

    run(scenario)


@pytest.mark.slow
def test_a_lease_that_is_lost_is_granted_anew(etcd, run):
    async def scenario(fleet):
        ours = fleet.open(etcd)
        ours.put(fleet.record(), 3)
        await fleet.until(lambda: etcd.value(f"mhost/{A}"))
        first = ours._puts[A].lease
        etcd.call("lease/revoke", ID=str(first))
        assert etcd.value(f"mhost/{A}") is None
        await fleet.until(lambda: etcd.value(f"mhost/{A}") == fleet.record().encode())
        assert ours._puts[A].lease != first
        etcd.call("kv/deleterange", key=b64(f"mhost/{A}"))
        await fleet.until(lambda: etcd.value(f"mhost/{A}") == fleet.record().encode())

    run(scenario)


def test_a_watch_begins_anew_when_what_it_has_missed_is_compacted(etcd, run):
    async def scenario(fleet):
        ours, other = fleet.open(etcd), fleet.open(etcd)
        said = []
        other.watch(A, said.append)
        ours.put(fleet.record(1), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record(1)])
        # While etcd is away for us, others write and compact.
        real, other._cluster._endpoints = (
            other._cluster._endpoints,
            [httpx.URL("http://127.0.0.1:1")],
        )
        etcd.restart()
        ours.put(fleet.record(2), 60)
        await fleet.until(lambda: etcd.value(f"mhost/{A}") == fleet.record(2).encode())
        for n in range(5):
            answer = etcd.call("kv/put", key=b64("mhost/x"), value=b64(str(n)))
        etcd.call("kv/compaction", revision=answer["header"]["revision"], physical=True)
        other._cluster._endpoints = real
        await fleet.until(lambda: said[-1:] == [fleet.record(2)])
        ours.put(fleet.record(3), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record(3)])
        assert said[-3:] == [fleet.record(1), fleet.record(2), fleet.record(3)]

    run(scenario)


def test_what_others_put_there_is_checked(etcd, run, caplog):
    async def scenario(fleet):
        ours = fleet.open(etcd)
        said = []
        ours.watch(A, said.append)
        await fleet.until(lambda: said == [None])
        for value in ("{}", "x" * 10_000, "[" * 4000, fleet.record(1, B).encode().decode()):
            etcd.call("kv/put", key=b64(f"mhost/{A}"), value=b64(value))
            assert await fleet.get(ours) is None
        etcd.call("kv/put", key=b64("mhost/\N{SNOWMAN}"), value="")
        etcd.call("kv/put", key=b64(f"mhost/{A}"), value=b64(fleet.record(4).encode().decode()))
        await fleet.until(lambda: said == [None, fleet.record(4)])
        assert caplog.text.count("taken as absent") == 4

    run(scenario)


def test_many_are_watched_also_where_others_put_long_values(etcd, run):
    async def scenario(fleet):
        ours, other = fleet.open(etcd), fleet.open(etcd)
        hosts = [f"2001:20::{n:x}" for n in range(1, 201)]
        for i in hosts[:8]:
            etcd.call("kv/put", key=b64(f"mhost/{i}"), value=b64("x" * 10**6))
        for i in hosts[8:16]:
            ours.put(fleet.record(1, i), 60)
            await fleet.until(lambda i=i: etcd.value(f"mhost/{i}"))
        said = {}
        for i in hosts:
            other.watch(i, lambda record, i=i: said.setdefault(i, []).append(record))
        await fleet.until(lambda: len(said) == len(hosts))
        assert [said[i] for i in hosts[8:16]] == [[fleet.record(1, i)] for i in hosts[8:16]]
        assert all(said[i] == [None] for i in hosts[:8] + hosts[16:])
        ours.put(fleet.record(2, hosts[0]), 60)
        await fleet.until(lambda: said[hosts[0]] == [None, fleet.record(2, hosts[0])])

    run(scenario)


@pytest.mark.slow
def test_many_who_ask_at_once_wait_for_each_other(etcd, run):
    async def scenario(fleet):
        ours = fleet.open(etcd)
        assert await fleet.txn(ours, None, fleet.record())
        answers = await asyncio.gather(*(fleet.get(ours) for _ in range(300)))
        assert answers == [fleet.record()] * 300
        assert ours.state() == "ok"

    run(scenario)


def test_what_fails_unexpectedly_is_begun_again(etcd, run, monkeypatch, caplog):
    monkeypatch.setattr("mhostd.directory_etcd.BACKOFF_MAX_S", 0.1)

    async def scenario(fleet):
        ours = fleet.open(etcd)
        ask, ours._ask = ours._ask, None
        said = []
        ours.put(fleet.record(), 60)
        await fleet.until(lambda: "unexpected error" in caplog.text)
        ours._ask = ask
        ours.watch(A, said.append)
        await fleet.until(lambda: said[-1:] == [fleet.record()])

    run(scenario)


@pytest.mark.slow
def test_another_endpoint_is_asked_when_one_is_silent_or_gone(make_etcd, run, stopped):
    etcd, dead = make_etcd(), make_etcd()

    async def scenario(fleet):
        both = {"endpoints": [dead.url, etcd.url]}
        with stopped(dead):
            ours = fleet.open(etcd, **both)
            said = []
            ours.watch(A, said.append)
            ours.put(fleet.record(1), 60)
            await fleet.until(lambda: said[-1:] == [fleet.record(1)])
            assert etcd.value(f"mhost/{A}") == fleet.record(1).encode()
        dead.kill()
        other = fleet.open(etcd, **both)
        assert await fleet.get(other) == fleet.record(1)

    run(scenario)


@pytest.mark.slow
def test_a_watch_that_is_quiet_is_opened_again_and_misses_nothing(
    etcd, run, monkeypatch, stopped
):
    monkeypatch.setattr("mhostd.etcd_gateway.QUIET_S", 0.5)

    async def scenario(fleet):
        ours, other = fleet.open(etcd), fleet.open(etcd)
        said = []
        other.watch(A, said.append)
        await fleet.until(lambda: said == [None])
        for number in range(1, 4):
            await asyncio.sleep(0.8)
            ours.put(fleet.record(number), 60)
            await fleet.until(lambda n=number: said[-1:] == [fleet.record(n)])
        assert said == [None] + [fleet.record(n) for n in (1, 2, 3)]
        with stopped(etcd):  # longer than it may be silent
            await fleet.until(lambda: "no answer" in other.state() or "opened" in other.state())
        ours.put(fleet.record(4), 60)
        await fleet.until(lambda: said[-1:] == [fleet.record(4)])

    run(scenario)


def test_close_ends_what_is_under_way_also_without_etcd(etcd, run):
    async def scenario(fleet):
        ours = fleet.open(etcd)
        said = []
        ours.put(fleet.record(), 60)
        ours.watch(A, said.append)
        await fleet.until(lambda: said[-1:] == [fleet.record()])
        etcd.kill()
        ours.get(A, said.append)
        await fleet.close(ours)
        assert said[-1] == fleet.record()

    run(scenario)
