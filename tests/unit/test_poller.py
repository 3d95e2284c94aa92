import os
import select

import pytest

from mhostd.poller import Poller


@pytest.fixture
def poller():
    poller = Poller()
    yield poller
    poller.close()


@pytest.fixture
def pipe():
    """Two pipes; each is (read end, write end)."""
    ends = [os.pipe(), os.pipe()]
    yield ends
    for fd in (*ends[0], *ends[1]):
        os.close(fd)


def test_who_is_readable_is_called_and_then_everything_is_flushed_once(poller, pipe):
    calls = []
    for n, (r, w) in enumerate(pipe):
        poller.watch(r, lambda n=n: calls.append(n))
        os.write(w, b"x")
    poller.flush = lambda: calls.append("flush")
    poller.wake()
    assert sorted(calls[:2]) == [0, 1]
    assert calls[2:] == ["flush"]


def test_a_wake_with_nothing_to_do_flushes(poller, pipe):
    calls = []
    poller.watch(pipe[0][0], lambda: calls.append("read"))
    poller.flush = lambda: calls.append("flush")
    poller.wake()
    assert calls == ["flush"]


def test_the_loop_sees_one_descriptor_for_all_of_them(poller, pipe):

    poller.watch(pipe[0][0], lambda: None)
    assert select.select([poller.fileno()], [], [], 0)[0] == []
    os.write(pipe[0][1], b"x")
    assert select.select([poller.fileno()], [], [], 0)[0] == [poller.fileno()]


def test_a_watch_ends_and_may_end_twice(poller, pipe):
    r, w = pipe[0]
    poller.watch(r, lambda: pytest.fail("called"))
    os.write(w, b"x")
    poller.watch(r, None)
    poller.watch(r, None)
    poller.wake()
    poller.watch(r, lambda: None)


def test_a_callback_may_end_the_watch_of_another(poller, pipe):
    calls = []

    def one(n):
        calls.append(n)
        poller.watch(pipe[1 - n][0], None)

    for n, (r, w) in enumerate(pipe):
        poller.watch(r, lambda n=n: one(n))
        os.write(w, b"x")
    poller.wake()
    assert len(calls) == 1


def test_soon_asks_for_one_wake_and_calls_once(poller):
    calls = []
    poller.arm = lambda: calls.append("arm")

    def callback():
        calls.append("soon")

    poller.soon(callback)
    poller.soon(callback)
    poller.wake()
    poller.wake()
    assert calls == ["arm", "soon"]


def test_what_is_asked_for_during_a_wake_happens_in_the_next_one(poller):
    calls = []

    def again():
        calls.append(len(calls))
        if len(calls) < 3:
            poller.soon(again)

    poller.soon(again)
    for n in range(1, 4):
        poller.wake()
        assert len(calls) == n


def test_a_callback_that_fails_is_logged_and_the_others_run(poller, pipe, caplog):
    calls = []

    def fail():
        raise RuntimeError("boom")

    r, w = pipe[0]
    poller.watch(r, fail)
    os.write(w, b"x")
    poller.soon(fail)
    poller.soon(lambda: calls.append("soon"))
    poller.flush = lambda: calls.append("flush")
    poller.wake()
    assert calls == ["soon", "flush"]
    assert [r.exc_info[0] for r in caplog.records] == [RuntimeError, RuntimeError]
