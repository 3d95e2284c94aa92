import errno

import pytest

from mhostd.errors import DropReason, HostUnresolvedError, MhostError


def test_a_refusal_is_an_oserror_with_errno_and_text():
    err = MhostError(errno.ENETDOWN, "device mhost0 is down")
    assert isinstance(err, OSError)
    assert (err.errno, err.strerror) == (errno.ENETDOWN, "device mhost0 is down")


def test_a_refusal_stays_a_refusal_where_oserror_would_pick_a_subclass():
    with pytest.raises(MhostError):  # OSError(EPERM, ...) would be a PermissionError
        raise MhostError(errno.EPERM, "no")


def test_an_unresolved_host_says_which_name_to_resolve():
    err = HostUnresolvedError(errno.EHOSTUNREACH, "host cat has no locator", "cat")
    assert isinstance(err, MhostError)
    assert (err.errno, err.strerror, err.name) == (
        errno.EHOSTUNREACH,
        "host cat has no locator",
        "cat",
    )


def test_a_drop_reason_is_spelled_as_its_name():
    assert all(reason.value == reason.name.lower() for reason in DropReason)
