"""What is known of a path: round trips, silence, loss, and how long it must work."""

from __future__ import annotations

import pytest

from mhostd.host.path import (
    HOLD_MAX_S,
    HOLD_S,
    RTT_FIRST_S,
    SILENCE_FLOOR_S,
    STEADY_S,
    Path,
    State,
    Way,
)
from mhostd.host.wire import PORT, Report
from mhostd.sock import Locator
from mhostd.uapi import AF_INET

US, THEM = Locator(AF_INET, bytes((10, 0, 0, 1))), Locator(AF_INET, bytes((10, 0, 0, 2)))
SESSION = 7


@pytest.fixture
def path():
    way = Way("host_inet", US, 2, THEM, PORT)
    return Path(1, way, "eth0", (0,), 1472, State.WORKS)


def test_the_first_round_trips_as_rfc_6298_has_them(path):
    """Section 2.2: SRTT = R, RTTVAR = R/2; 2.3: alpha is 1/8, beta 1/4."""
    path.rtt_sample(0.1)
    assert (path.srtt, path.rttvar) == (0.1, 0.05)
    path.rtt_sample(0.2)
    assert path.rttvar == pytest.approx(3 / 4 * 0.05 + 1 / 4 * 0.1)
    assert path.srtt == pytest.approx(7 / 8 * 0.1 + 1 / 8 * 0.2)


def test_silence_is_two_round_trips_and_four_variances_and_not_less_than_the_floor(path):
    assert path.silence_s == RTT_FIRST_S
    path.srtt, path.rttvar = 0.1, 0.01
    assert path.silence_s == pytest.approx(0.24)
    path.srtt, path.rttvar = 0.001, 0.0
    assert path.silence_s == SILENCE_FLOOR_S


def test_a_late_answer_is_one(path):
    path.srtt = 0.001
    path.probe(5, 1.0)
    assert path.overdue(1.05) == (0, 0)
    assert path.overdue(1.0 + SILENCE_FLOOR_S) == (1, 0)
    assert path.unanswered == 1
    assert path.answer(5, 1.2) == 0
    assert (path.unanswered, path.answered, path.answered_s) == (0, 1, 1.2)
    assert path.answer(5, 1.3) is None


def test_a_padded_probe_without_an_answer_says_nothing_of_the_path(path):
    path.probe(5, 1.0, 1400)
    path.probe(6, 1.0)
    assert path.overdue(3.0) == (1, 1)
    assert path.unanswered == 1


def test_only_so_many_late_probes_are_remembered(path):
    for nonce in range(20):
        path.probe(nonce, 0.0)
    path.overdue(5.0)
    assert len(path.late) == 8
    assert path.answer(0, 6.0) is None
    assert path.answer(19, 6.0) == 0


def test_silence_begins_with_what_was_sent_first_and_is_not_reported(path):
    assert path.silent_s(1.0) == 0
    path.mark(1.0, 10, 10, SESSION)
    path.mark(1.1, 20, 20, SESSION)
    assert path.silent_s(1.5) == 0.5
    path.report(Report(1, 10, 10), SESSION, 1.5)
    assert path.silent_s(1.5) == pytest.approx(0.4)
    path.report(Report(1, 20, 20), SESSION, 1.6)
    assert path.silent_s(9.0) == 0


def test_what_was_not_sent_is_no_mark(path):
    path.mark(1.0, 10, 10, SESSION)
    path.report(Report(1, 10, 10), SESSION, 1.1)
    path.mark(2.0, 15, 10, SESSION)  # went over another path
    assert not path.marks


def test_an_answered_probe_says_that_what_was_sent_before_needs_no_report(path):
    path.mark(1.0, 10, 10, SESSION)
    path.probe(5, 1.1)
    path.mark(1.2, 20, 20, SESSION)
    path.answer(5, 1.3)
    assert [mark.seq for mark in path.marks] == [20]


def test_loss_is_what_was_sent_and_did_not_come(path):
    sent = came = 0
    for step in range(200):
        sent, came = sent + 10, came + 9
        path.mark(step, sent, sent, SESSION)
        path.report(Report(1, came, sent), SESSION, step + 0.5)
    assert path.loss == pytest.approx(0.1, abs=0.01)


def test_doubles_are_no_negative_loss(path):
    for step in range(1, 50):
        path.mark(step, 10 * step, 10 * step, SESSION)
        path.report(Report(1, 20 * step, 10 * step), SESSION, step + 0.5)
    assert path.loss == 0


def test_another_session_begins_anew(path):
    path.mark(1.0, 1000, 1000, SESSION)
    path.report(Report(1, 1000, 1000), SESSION, 1.1)
    path.mark(1.2, 2000, 2000, SESSION)
    path.mark(2.0, 5, 5, SESSION + 1)
    path.mark(2.1, 9, 9, SESSION + 1)
    path.report(Report(1, 2000, 2000), SESSION, 2.2)  # late, of the one before
    assert [mark.seq for mark in path.marks if mark.session == SESSION + 1]
    path.report(Report(1, 9, 9), SESSION + 1, 2.3)
    assert not path.marks
    assert path.loss == 0


def test_on_a_path_that_has_failed_nobody_waits_for_reports(path):
    path.mark(1.0, 10, 10, SESSION)
    path.turn(State.FAILED, "silent", 1.1)
    path.mark(1.2, 20, 20, SESSION)
    assert not path.marks
    path.turn(State.WORKS, "answered", 5.0)
    assert path.silent_s(9.0) == 0
    path.mark(9.0, 30, 30, SESSION)
    assert path.silent_s(9.5) == 0.5


def test_marks_of_an_ended_session_go_though_none_was_reported(path):
    path.mark(1.0, 1000, 1000, SESSION)
    path.mark(2.0, 5, 5, SESSION + 1)
    assert [mark.session for mark in path.marks] == [SESSION + 1]


def test_marks_are_bounded_and_the_oldest_stay(path):
    for step in range(1000):
        path.mark(step, step + 1, step + 1, SESSION)
    assert len(path.marks) == 256
    assert path.silent_s(1000) == 1000


def test_each_failure_doubles_the_hold_up_to_a_minute_and_a_steady_minute_ends_that(path):
    now, seen = 0.0, []
    for _ in range(8):
        path.turn(State.WORKS, "answered", now)
        now += 1
        path.turn(State.FAILED, "silent", now)
        seen.append(path.hold_s)
        now += 1
    assert seen == [4, 8, 16, 32, HOLD_MAX_S, HOLD_MAX_S, HOLD_MAX_S, HOLD_MAX_S]
    path.turn(State.WORKS, "answered", now)
    now += STEADY_S + 1
    path.turn(State.FAILED, "silent", now)
    assert path.hold_s == HOLD_S


def test_the_same_state_for_another_reason_has_its_time(path):
    path.turn(State.FAILED, "none", 0.5)
    path.turn(State.WORKS, "one", 1.0)
    path.turn(State.WORKS, "other", 2.0)
    assert (path.reason, path.since_s) == ("other", 1.0)


def test_a_probe_that_a_full_path_has_lost_says_nothing_while_traffic_is_reported(path):
    path.srtt = 0.001
    path.mark(1.0, 10, 10, SESSION)
    path.probe(5, 1.0)
    path.report(Report(1, 5, 10), SESSION, 1.03)
    assert path.overdue(1.1) == (0, 0)
    assert path.unanswered == 0
    path.probe(6, 1.1)  # and nothing is reported since
    assert path.overdue(1.2) == (1, 0)
