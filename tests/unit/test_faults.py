"""What a change of the network makes of locators that gave an error."""

import errno

import pytest

from mhostd.faults import ROUTE_ERRNOS, Faults
from mhostd.sock import Locator

WHERE = Locator(2, bytes((192, 0, 2, 1)))
WHERE6 = Locator(10, bytes.fromhex("20010db8") + bytes(11) + b"\1")
NET, NET6 = (2, bytes((192, 0, 2, 0)), 24), (10, bytes.fromhex("20010db8") + bytes(12), 32)


@pytest.fixture
def faults():
    """Of two locators that failed again and again and are passed over until 31."""
    faults = Faults()
    for now in (0, 1, 3, 7, 15):
        for locator in (WHERE, WHERE6):
            faults.failed(locator, errno.EHOSTUNREACH, now)
    return faults


def passed_over(faults, now=16):
    return [loc for loc in (WHERE, WHERE6) if faults.not_before(loc, 9, now) > now]


@pytest.mark.parametrize(
    ("prefix", "left"),
    [
        (NET, [WHERE6]),
        ((2, WHERE.address, 32), [WHERE6]),
        ((2, b"", 0), [WHERE6]),
        (NET6, [WHERE]),
        ((10, b"", 0), [WHERE]),
        ((2, bytes((192, 0, 3, 0)), 24), [WHERE, WHERE6]),
        ((2, bytes((192, 0, 2, 2)), 32), [WHERE, WHERE6]),
    ],
)
def test_another_route_mends_what_lies_behind_it_and_nothing_else(faults, prefix, left):
    assert passed_over(faults) == [WHERE, WHERE6]
    faults.routes_mended([prefix])
    assert passed_over(faults) == left


def test_several_routes_of_one_wake(faults):
    faults.routes_mended([NET, NET6, (2, b"", 0)])
    assert passed_over(faults) == []


def test_what_was_mended_and_fails_again_begins_anew(faults):
    faults.routes_mended([NET])
    faults.failed(WHERE, errno.ENETUNREACH, 16)
    assert faults.not_before(WHERE, 9, 16) == 17


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EPERM, errno.ENETDOWN])
def test_what_a_route_has_no_say_in_stays(number):
    assert number not in ROUTE_ERRNOS
    faults = Faults()
    faults.failed(WHERE, number, 0, 9)
    faults.routes_mended([NET, (2, b"", 0)])
    assert faults.not_before(WHERE, 9, 0.5) == 1


def test_a_link_mends_what_was_lost_for_want_of_one_and_nothing_else(faults):
    other = Locator(1, b"\0\2")
    faults.failed(other, errno.ENETDOWN, 15)
    faults.link_up()
    assert faults.not_before(other, 9, 15) == 0
    assert passed_over(faults) == [WHERE, WHERE6]
