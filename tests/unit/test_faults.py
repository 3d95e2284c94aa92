"""What a change of the network makes of locators that gave an error."""

import errno

import pytest

from mhostd.faults import NETWORK_ERRNOS, Faults
from mhostd.sock import Locator

WHERE = Locator(2, bytes((192, 0, 2, 1)))


@pytest.mark.parametrize("number", sorted(NETWORK_ERRNOS))
def test_what_could_not_be_reached_is_tried_again_at_once_and_from_the_start(number):
    faults = Faults()
    for now in (0, 1, 3, 7, 15):
        faults.failed(WHERE, number, now)
    assert faults.not_before(WHERE, 9, 16) == 31
    faults.network_changed()
    assert faults.not_before(WHERE, 9, 16) == 0
    faults.failed(WHERE, number, 16)
    assert faults.not_before(WHERE, 9, 16) == 17


@pytest.mark.parametrize("number", [errno.ECONNREFUSED, errno.EPERM, errno.EHOSTDOWN])
def test_what_the_network_has_no_say_in_stays(number):
    faults = Faults()
    faults.failed(WHERE, number, 0, 9)
    faults.network_changed()
    assert faults.not_before(WHERE, 9, 0.5) == 1
