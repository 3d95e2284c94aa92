"""Which address of a plain peer is given up: a table of questions without answers."""

from __future__ import annotations

import pytest

from mhostd.silence import PATIENT_S, PEERS_MAX, SILENT_S, Silence
from mhostd.sock import Locator
from mhostd.uapi import AF_INET

KEY = (1, 53)
FIRST, SECOND, THIRD = (Locator(AF_INET, bytes((10, 0, 0, n))) for n in (1, 2, 3))
BOTH = [FIRST, SECOND]


@pytest.fixture
def silence():
    return Silence()


def asked(silence, locator, *times, key=KEY):
    for now in times:
        silence.sent(key, locator, now)


def test_two_questions_and_a_quarter_of_a_second_are_silence(silence):
    asked(silence, FIRST, 0.0, 0.2)
    assert silence.silent(KEY, BOTH, SILENT_S - 0.01) is None
    assert silence.silent(KEY, BOTH, SILENT_S) == FIRST


def test_one_question_is_not(silence):
    asked(silence, FIRST, 0.0)
    assert silence.silent(KEY, BOTH, 60.0) is None


def test_an_answer_ends_it(silence):
    asked(silence, FIRST, 0.0, 0.2)
    silence.heard(KEY, FIRST)
    assert silence.silent(KEY, BOTH, 1.0) is None
    asked(silence, FIRST, 1.0, 1.1)
    assert silence.silent(KEY, BOTH, 1.0 + SILENT_S) == FIRST


def test_each_is_tried_once_while_nobody_ever_answered(silence):
    asked(silence, FIRST, 0.0, 0.2)
    assert silence.silent(KEY, BOTH, 0.5) == FIRST
    asked(silence, SECOND, 0.5, 0.8)
    assert silence.silent(KEY, BOTH, 1.0) is None  # both were: perhaps it never answers
    asked(silence, FIRST, 1.0, 1.3, 1.6, 2.0)
    assert silence.silent(KEY, BOTH, 3.0) is None


def test_a_stream_to_who_never_answered_stays(silence):
    """Who sends faster than it could wait for answers waits for none."""
    times = [n * PATIENT_S / 2 for n in range(100)]
    asked(silence, FIRST, *times)
    assert silence.silent(KEY, BOTH, times[-1]) is None


def test_a_stream_to_who_has_answered_goes_elsewhere(silence):
    asked(silence, FIRST, 0.0)
    silence.heard(KEY, FIRST)
    asked(silence, FIRST, *[1 + n / 1000 for n in range(260)])
    assert silence.silent(KEY, BOTH, 1.26) == FIRST


def test_it_comes_back_where_the_other_is_silent_too(silence):
    asked(silence, FIRST, 0.0)
    silence.heard(KEY, FIRST)
    for locator, at in ((FIRST, 1.0), (SECOND, 2.0), (FIRST, 3.0)):
        asked(silence, locator, at, at + 0.1)
        assert silence.silent(KEY, BOTH, at + SILENT_S) == locator


def test_ports_and_hosts_are_apart(silence):
    asked(silence, FIRST, 0.0, 0.1)
    assert silence.silent((1, 54), BOTH, 1.0) is None
    assert silence.silent((2, 53), BOTH, 1.0) is None
    silence.heard((1, 54), FIRST)
    assert silence.silent(KEY, BOTH, 1.0) == FIRST


def test_a_locator_that_the_host_has_no_longer_does_not_count(silence):
    asked(silence, THIRD, 0.0, 0.1)
    assert silence.silent(KEY, BOTH, 1.0) is None


def test_pending_is_whether_silence_would_mean_something(silence):
    assert not silence.pending(KEY)
    asked(silence, FIRST, 0.0)
    assert silence.pending(KEY)
    silence.elsewhere(KEY, FIRST)
    assert not silence.pending(KEY)
    silence.heard(KEY, FIRST)
    assert silence.pending(KEY)


def test_only_so_many_are_remembered_and_the_longest_unused_goes_first(silence):
    for port in range(PEERS_MAX + 1):
        asked(silence, FIRST, 0.0, 0.1, key=(1, port))
        if port == 1:
            asked(silence, FIRST, 0.1, key=(1, 0))  # used again
    assert silence.silent((1, 0), BOTH, 1.0) == FIRST
    assert silence.silent((1, 1), BOTH, 1.0) is None
