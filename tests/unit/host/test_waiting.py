"""What waits for an association: bounds, deadlines, and what is said until it is heard."""

from __future__ import annotations

import errno
import itertools

import pytest

from mhostd.errors import MhostError
from mhostd.host.waiting import (
    LOCATORS_AGAIN_MAX_S,
    LOCATORS_AGAIN_S,
    LOCATORS_FOR_S,
    NEVER,
    QUEUE_MAX,
    QUEUE_OCTETS,
    QUEUE_S,
    Announcement,
    Waiting,
)


@pytest.fixture
def waiting():
    return Waiting()


def test_what_waits_goes_in_its_order(waiting):
    for n in range(5):
        waiting.put(17, b"%d" % n, bool(n % 2), float(n))
    assert len(waiting) == 5
    assert [w.inner for w in waiting.take()] == [b"0", b"1", b"2", b"3", b"4"]
    assert len(waiting) == 0
    assert waiting.due_s == NEVER


def test_each_waits_for_so_long_and_no_longer(waiting):
    waiting.put(17, b"first", False, 0.0)
    waiting.put(17, b"second", False, 1.0)
    assert waiting.due_s == QUEUE_S
    assert waiting.expired(QUEUE_S - 0.001) == []
    assert [w.inner for w in waiting.expired(QUEUE_S)] == [b"first"]
    assert waiting.due_s == 1.0 + QUEUE_S


def test_only_so_many_wait_and_the_one_too_many_is_named(waiting):
    for _ in range(QUEUE_MAX):
        waiting.put(17, b"x", False, 0.0)
    with pytest.raises(MhostError, match=f"{QUEUE_MAX} datagrams") as caught:
        waiting.put(17, b"x", False, 0.0)
    assert caught.value.errno == errno.ENOBUFS
    waiting.expired(QUEUE_S)
    waiting.put(17, b"x", False, QUEUE_S)


def test_only_so_many_octets_wait(waiting):
    for _ in range(4):
        waiting.put(17, bytes(QUEUE_OCTETS // 4), False, 0.0)
    with pytest.raises(MhostError):
        waiting.put(17, b"x", False, 0.0)
    waiting.take()
    waiting.put(17, bytes(QUEUE_OCTETS), False, 0.0)


def said(announcement, until_s):
    """When it is sent, looking every 10 ms."""
    return [n / 100 for n in range(round(until_s * 100)) if announcement.due(n / 100)]


def test_where_we_are_is_said_at_once_and_again_and_less_and_less():
    announcement = Announcement()
    assert said(announcement, 1) == []
    announcement.begin(7, 0.0)
    when = said(announcement, 100)
    assert when[:2] == [0.0, LOCATORS_AGAIN_S]
    gaps = [round(after - before, 2) for before, after in itertools.pairwise(when)]
    assert gaps == sorted(gaps)
    assert gaps[-1] == pytest.approx(LOCATORS_AGAIN_MAX_S, abs=0.02)
    assert LOCATORS_FOR_S - 2 < when[-1] < LOCATORS_FOR_S
    assert announcement.due_s == NEVER


@pytest.mark.parametrize(("number", "heard"), [(6, False), (7, True), (8, True)])
def test_it_is_said_until_it_or_a_later_one_is_acknowledged(number, heard):
    announcement = Announcement()
    announcement.begin(7, 0.0)
    announcement.due(0.0)
    announcement.acknowledged(number)
    assert (said(announcement, 10) == []) == heard
