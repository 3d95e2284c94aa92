"""Order and choice of paths; the order against the examples of RFC 6724 section 10.2."""

from __future__ import annotations

import ipaddress

import pytest

from mhostd.host.choose import elect, order, rank, why
from mhostd.host.path import HOLD_S, Path, State, Way
from mhostd.host.wire import PORT
from mhostd.sock import Locator
from mhostd.uapi import AF_INET, AF_INET6


def locator(text):
    address = ipaddress.ip_address(text)
    return Locator(AF_INET if address.version == 4 else AF_INET6, address.packed)


def path(number, source="192.0.2.1", remote="192.0.2.2", place=None):
    source, remote = locator(source), locator(remote)
    way = Way("host_inet", source, 1, remote, PORT)
    place = number if place is None else place
    return Path(number, way, "eth0", rank(source, remote, place), 1472)


def working(number, since_s=0.0, **more):
    made = path(number, **more)
    made.state, made.reason, made.since_s, made.answered_s = (
        State.WORKS, "probe answered", since_s, since_s,
    )  # fmt: skip
    return made


# Pairs of (source, destination), the better one first, and the rule that decides.
EXAMPLES = [
    (("2001:db8::2", "2001:db8::1"), ("169.254.13.78", "198.51.100.121"), "scope"),
    (("198.51.100.117", "198.51.100.121"), ("fe80::1", "2001:db8::1"), "scope"),
    (("2001:db8::2", "2001:db8::1"), ("10.1.2.4", "10.1.2.3"), "precedence"),
    (("fe80::2", "fe80::1"), ("2001:db8::2", "2001:db8::1"), "smaller scope"),
    (
        ("2002:c633:6401::2", "2002:c633:6401::1"),
        ("2002:c633:6401::2", "2001:db8:1::1"),
        "label",
    ),
    (
        ("2001:db8:1::2", "2001:db8:1::1"),
        ("2002:c633:6401::2", "2002:c633:6401::1"),
        "precedence",
    ),
]


@pytest.mark.parametrize(("better", "worse", "_rule"), EXAMPLES)
def test_the_examples_of_rfc_6724(better, worse, _rule):
    first = rank(*map(locator, better), order=1)  # what was said first does not decide
    second = rank(*map(locator, worse), order=0)
    assert first < second


def test_of_equals_the_one_that_was_named_first_is_better():
    near = rank(locator("10.1.2.4"), locator("10.1.2.3"), 1)
    far = rank(locator("10.1.2.4"), locator("172.16.0.1"), 0)
    assert far < near  # RFC 6724 section 10.3: the longest prefix says little in IPv4


def test_a_family_that_is_not_ip_comes_last():
    other = Locator(40, b"\7")
    assert rank(other, other, 0) > rank(locator("fe80::1"), locator("2001:db8::1"), 9)


def test_what_works_is_before_what_was_not_tried_and_that_before_what_failed():
    failed, new, works, drained = path(0), path(1), working(2), working(3)
    failed.state = State.FAILED
    drained.drained = True
    assert order([failed, new, works, drained]) == [works, drained, new, failed]


def test_of_what_has_failed_the_one_that_answered_last_is_tried_first():
    never, once = path(0), path(1)
    for each in (never, once):
        each.state = State.FAILED
    once.answered_s = 5.0
    assert order([never, once]) == [once, never]


def test_nothing_is_taken_before_it_has_answered():
    assert elect([path(0), path(1)], None, 1.0) is None


def test_what_works_is_taken_and_stays_when_it_fails_and_nothing_else_works():
    only = working(0)
    assert elect([only], None, 0.0) is only
    only.turn(State.FAILED, "silent", 1.0)
    assert elect([only, path(1)], only, 1.0) is only


def test_a_better_one_is_taken_only_when_it_has_worked_for_its_hold():
    better, worse = working(0, since_s=10.0), working(1)
    paths = [better, worse]
    assert elect(paths, worse, 10.0 + HOLD_S - 0.01) is worse
    assert elect(paths, worse, 10.0 + HOLD_S) is better


def test_of_two_better_ones_the_steady_one_is_taken_first():
    best, better, worse = working(0, since_s=10.0), working(1, since_s=8.0), working(2)
    assert elect([best, better, worse], worse, 10.5) is better


def test_a_drained_one_is_left_at_once():
    active, other = working(0), working(1, since_s=5.0)
    active.drained = True
    assert elect([active, other], active, 5.0) is other


def test_a_drained_one_is_kept_where_nothing_else_works():
    active = working(0)
    active.drained = True
    assert elect([active, path(1)], active, 5.0) is active


def test_a_worse_one_is_not_taken_while_ours_works():
    active, other = working(0), working(1)
    assert elect([other, active], active, 100.0) is active


def test_what_shares_an_interface_that_failed_is_thought_worse_until_it_answers():
    here, there = working(0), working(1)
    here.doubted_s = 1.0
    assert elect([here, there], None, 1.0) is there
    here.answered_s = 1.1
    assert elect([here, there], None, 1.2) is here


def test_every_choice_has_its_reason():
    active, better, drained, failed = working(1), working(0, since_s=9.0), working(2), path(3)
    drained.drained = True
    failed.turn(State.FAILED, "no answer", 3.0)
    paths = (active, better, drained, failed, working(4))
    assert [why(each, active, 10.0) for each in paths] == [
        "taken: probe answered",
        "works again; taken if it does for 1.0 s more",
        "drained",
        "no answer",
        "works; another one comes first",
    ]
