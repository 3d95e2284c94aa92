"""Sequence numbers of CONTROL against a model, and the two sides of a session."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhostd.host.handshake import Doorkeeper, Initiation
from mhostd.host.identity import Identity
from mhostd.host.noise import NoiseError, ReplayedError
from mhostd.host.session import WINDOW, ReplayWindow, Session
from mhostd.host.wire import parse_header

US, THEM = (Identity.from_private(bytes([n]) * 32) for n in (1, 2))


@pytest.fixture
def pair():
    initiation = Initiation(US, THEM.public, 1, 5)
    response, theirs = (
        Doorkeeper(THEM, lambda n: bytes(n)).read(initiation.packet(0)).answer(2, 0)
    )
    _id, ours = initiation.response(response)
    return Session(ours, 1, 2, True, 0.0), Session(theirs, 2, 1, False, 0.0)


@given(st.lists(st.integers(0, 3 * WINDOW), max_size=200))
def test_the_window_is_that_of_its_model(numbers):
    window, come, highest = ReplayWindow(), set(), 0
    for seq in numbers:
        old = seq == 0 or seq in come or seq <= highest - WINDOW
        assert window.seen(seq) == old
        if not old:
            window.mark(seq)
            come.add(seq)
            highest = max(highest, seq)
        assert window.highest == highest


def read(session, packet):
    return session.open(parse_header(packet), packet)


def test_what_one_seals_the_other_opens_once(pair):
    for a, b in (pair, pair[::-1]):
        packet = a.seal(3, b"hello")
        assert parse_header(packet).id == b.local_id
        assert read(b, packet) == (b"hello", True)
        with pytest.raises(ReplayedError):
            read(b, packet)


def test_what_comes_late_is_read_and_is_not_the_newest(pair):
    one, other = pair
    first, second = one.seal(0, b"1"), one.seal(0, b"2")
    assert read(other, second) == (b"2", True)
    assert read(other, first) == (b"1", False)


def test_nobody_opens_his_own(pair):
    packet = pair[0].seal(0, b"x")
    with pytest.raises(NoiseError):
        read(pair[0], packet)


def test_no_octet_may_be_another_and_the_right_packet_still_counts(pair):
    one, other = pair
    packet = one.seal(5, b"x" * 20)
    for at in range(len(packet)):
        if at in (0, 3):  # parse_header() has refused it
            continue
        forged = bytearray(packet)
        forged[at] ^= 1
        with pytest.raises(NoiseError):
            read(other, bytes(forged))
    assert read(other, packet) == (b"x" * 20, True)


def test_data_has_keys_of_its_own_in_each_direction(pair):
    one, other = pair
    packet = one.shim.seal(4, 17, b"datagram")
    assert other.shim.open(packet)[0] == 17
    assert isinstance(other.shim.open(packet), int)  # once
    assert isinstance(one.shim.open(packet), int)
    assert isinstance(pair[1].shim.open(one.seal(0, b"x")), int)
