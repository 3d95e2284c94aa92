"""INIT, RESPONSE and COOKIE: what a caller must show before it costs anything."""

from __future__ import annotations

from random import Random

import pytest

from mhostd.host.handshake import COOKIE_LIFE_S, LOAD_INITS, Doorkeeper, Initiation
from mhostd.host.identity import Identity
from mhostd.host.noise import NoiseError
from mhostd.host.wire import (
    COOKIE_PACKET_LEN,
    HLEN,
    INIT_LEN,
    RESPONSE_LEN,
    WireError,
    parse_header,
)

US, THEM, OTHER = (Identity.from_private(bytes([n]) * 32) for n in (1, 2, 3))
HERE, ELSEWHERE = b"10.0.0.1 port 64678", b"10.0.0.66 port 64678"


@pytest.fixture
def door():
    return Doorkeeper(THEM, Random(1).randbytes)


def call(local_id=0x1234, to=THEM, stamp=5):
    return Initiation(US, to.public, local_id, stamp)


def fill(door, now):
    """Use up what is answered without a cookie in that second."""
    for n in range(LOAD_INITS):
        assert door.admit(call(n + 1).packet(0), HERE, now) is None


def test_both_have_the_same_keys(door):
    initiation = call()
    packet = initiation.packet(3)
    assert len(packet) == INIT_LEN
    assert door.admit(packet, HERE, 1.0) is None
    invitation = door.read(packet)
    assert (invitation.public, invitation.timestamp_ns, invitation.remote_id) == (
        US.public, 5, 0x1234,
    )  # fmt: skip
    response, theirs = invitation.answer(0x99, 4)
    assert len(response) == RESPONSE_LEN < len(packet)
    assert parse_header(response).path == 4
    remote_id, ours = initiation.response(response)
    assert remote_id == 0x99
    assert ours.derive(b"data initiator", 16) == theirs.derive(b"data initiator", 16)
    assert theirs.initiator.decrypt(1, b"", ours.initiator.encrypt(1, b"", b"hi")) == b"hi"


@pytest.mark.parametrize("at", range(0, INIT_LEN - 16))
def test_no_octet_but_those_of_mac2_may_be_another(door, at):
    packet = bytearray(call().packet(0))
    packet[at] ^= 1
    assert door.admit(bytes(packet), HERE, 1.0) == b""


def test_who_does_not_know_our_key_costs_nothing(door):
    assert door.admit(call(to=OTHER).packet(0), HERE, 1.0) == b""


@pytest.mark.parametrize("length", [0, HLEN, INIT_LEN - 1, INIT_LEN + 1])
def test_another_length_is_no_init(door, length):
    assert door.admit(call().packet(0).ljust(length, b"\0")[:length], HERE, 1.0) == b""


def test_under_load_only_who_is_where_it_says_is_read(door):
    fill(door, 1.0)
    initiation = call(77)
    first = initiation.packet(0)
    cookie = door.admit(first, HERE, 1.1)
    assert len(cookie) == COOKIE_PACKET_LEN < len(first)  # nobody is hit harder by us
    assert initiation.cookie(cookie)
    again = initiation.packet(0)
    assert door.admit(again, HERE, 1.2) is None
    refused = door.admit(again, ELSEWHERE, 1.2)
    assert len(refused) == COOKIE_PACKET_LEN
    assert refused != cookie


def test_without_load_no_cookie_is_asked_for(door):
    fill(door, 1.0)
    assert door.admit(call(77).packet(0), HERE, 2.0) is None


def test_a_cookie_outlives_one_change_of_the_secret_and_not_two(door):
    fill(door, 1.0)
    initiation = call(77)
    assert initiation.cookie(door.admit(initiation.packet(0), HERE, 1.0))
    packet = initiation.packet(0)
    for later, admitted in ((COOKIE_LIFE_S + 1, True), (2 * COOKIE_LIFE_S + 2, False)):
        fill(door, later)
        assert (door.admit(packet, HERE, later) is None) == admitted


def test_a_cookie_that_nobody_asked_for_is_ignored(door):
    fill(door, 1.0)
    cookie = door.admit(call(77).packet(0), HERE, 1.0)
    initiation = call(77)
    initiation.packet(0)  # its ephemeral key is another: so is mac1
    assert not initiation.cookie(cookie)
    assert not initiation.cookie(cookie[:-1])


def test_a_forged_response_leaves_the_right_one_its_chance(door):
    initiation = call()
    response, _keys = door.read(initiation.packet(0)).answer(0x99, 0)
    forged = bytearray(response)
    forged[-1] ^= 1
    with pytest.raises(NoiseError):
        initiation.response(bytes(forged))
    with pytest.raises(WireError):
        initiation.response(response[:-1])
    assert initiation.response(response)[0] == 0x99


def test_nobody_calls_himself():
    door = Doorkeeper(US, Random(1).randbytes)
    with pytest.raises(NoiseError, match="ourselves"):
        door.read(call(to=US).packet(0))


def test_the_association_id_is_said_twice_and_must_be_the_same(door):
    packet = bytearray(call().packet(0))
    packet[4:8] = bytes(4)
    with pytest.raises(WireError, match="two association ids"):
        door.read(bytes(packet))
