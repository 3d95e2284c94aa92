"""Packets of associations: what is written is read, and garbage is refused as such."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhostd.host.wire import (
    CONTROL_MAX,
    HLEN,
    LOCATORS_MAX,
    Close,
    Header,
    Locators,
    LocatorsAck,
    Probe,
    ProbeReply,
    Refused,
    Report,
    Reports,
    TheirLocator,
    WireError,
    emit_header,
    emit_messages,
    parse_header,
    parse_init_payload,
    parse_messages,
    parse_response_payload,
)
from mhostd.sock import Locator

u8, u16, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 16, 32, 64))
plug_ins = u16.filter(lambda family: family not in (2, 10))
locators = st.one_of(
    st.tuples(st.just(2), st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(10), st.binary(min_size=16, max_size=16)),
    st.tuples(plug_ins, st.binary(min_size=1, max_size=16)),
).map(lambda t: Locator(*t))
theirs = st.lists(st.builds(TheirLocator, locators, st.booleans()), max_size=LOCATORS_MAX)
messages = st.one_of(
    u64.map(Probe),
    st.builds(ProbeReply, u64, locators, u16),
    st.builds(Reports, st.lists(st.builds(Report, u8, u64, u64), max_size=64).map(tuple)),
    st.builds(Locators, u64, theirs.map(tuple)),
    st.builds(LocatorsAck, u64),
    st.just(Close()),
    st.builds(Refused, u8, st.binary(min_size=8, max_size=8)),
)


@given(st.integers(0, 15), u8, u8, u32, u64)
def test_a_header_is_read_as_it_was_written(type_, next_, path, id_, seq):
    packet = emit_header(type_, path, id_, seq, next_)
    assert len(packet) == HLEN
    assert parse_header(packet) == Header(type_, next_, path, id_, seq)


@given(st.lists(messages, max_size=8))
def test_messages_are_read_as_they_were_written(written):
    assert parse_messages(emit_messages(written)) == written


@given(st.binary(max_size=2000))
def test_any_octets_are_messages_or_a_wire_error(octets):
    for read in (parse_header, parse_messages, parse_init_payload, parse_response_payload):
        try:
            read(octets)
        except WireError:
            continue


@given(st.lists(messages, min_size=1, max_size=4), st.data())
def test_what_is_cut_off_is_a_wire_error_or_fewer_messages(written, data):
    octets = emit_messages(written)
    cut = data.draw(st.integers(0, len(octets) - 1))
    try:
        read = parse_messages(octets[:cut])
    except WireError:
        return
    assert read == written[: len(read)]
    assert len(read) < len(written)


@pytest.mark.parametrize("pad", [4, 100, 1400])
def test_a_padded_probe_is_that_much_larger(pad):
    plain, padded = emit_messages([Probe(7)]), emit_messages([Probe(7, pad)])
    assert len(padded) == len(plain) + pad
    assert parse_messages(padded) == [Probe(7)]


@pytest.mark.parametrize(
    ("family", "length"), [(2, 3), (2, 5), (2, 16), (10, 1), (10, 4), (10, 15), (1, 0), (1, 17)]
)
def test_an_address_has_the_length_of_its_family(family, length):
    octets = emit_messages([Locators(1, (TheirLocator(Locator(family, bytes(length))),))])
    with pytest.raises(WireError, match=f"{length} octets in family {family}"):
        parse_messages(octets)


def test_a_kind_that_is_not_known_is_passed_over():
    later = b"\x63\x00\x02hi"
    assert parse_messages(later + emit_messages([LocatorsAck(3)]) + later) == [LocatorsAck(3)]


@pytest.mark.parametrize("octets", [b"\x21" + bytes(15), b"\x11\x00\x00\x01" + bytes(12)])
def test_another_version_or_a_flag_that_nobody_knows_is_refused(octets):
    with pytest.raises(WireError):
        parse_header(octets)


def test_what_a_host_says_of_itself_fits_in_one_packet():
    """Locators and reports go over every path, also the narrowest."""
    most = tuple(TheirLocator(Locator(10, bytes(16))) for _ in range(LOCATORS_MAX))
    assert len(emit_messages([Locators(1, most)])) <= CONTROL_MAX
    reports = tuple(Report(n, 2**64 - 1, 2**64 - 1) for n in range(64))
    assert len(emit_messages([Reports(reports)])) <= CONTROL_MAX
