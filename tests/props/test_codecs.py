"""Whatever octets come, a codec reads them or says why not; what it writes it reads."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhostd.cmsg import CMSG_ALIGN, pack_cmsgs, unpack_cmsgs
from mhostd.errors import DropReason, MhostError
from mhostd.netlink import parse_rtnetlink
from mhostd.uapi import (
    DATA_MAGIC,
    RECORD_CONTROL,
    RECORD_HLEN,
    Record,
    SockaddrMhost,
    pack_data,
    pack_record,
    record_size,
    unpack_data,
)
from mhostd.udp.header import UdpHeader

U16, U32 = st.integers(0, 0xFFFF), st.integers(0, 0xFFFF_FFFF)
RECORDS = st.builds(
    Record,
    st.builds(SockaddrMhost, U16, U16, st.binary(max_size=16), U32, U32),
    st.binary(max_size=200),
    U16.map(lambda flags: flags & ~RECORD_CONTROL),
    U16,
    U32,
    st.binary(max_size=64).map(lambda octets: octets[: len(octets) & ~7]),
)
CMSGS = st.lists(
    st.tuples(
        st.integers(-(2**31), 2**31 - 1),
        st.integers(-(2**31), 2**31 - 1),
        st.binary(max_size=40),
    ),
    max_size=4,
)


@given(octets=st.binary(max_size=40))
def test_a_udp_header_is_read_or_refused_and_never_raises(octets):
    header = UdpHeader.parse(memoryview(octets))
    if isinstance(header, DropReason):
        assert header in (DropReason.PKT_TOO_SMALL, DropReason.UDP_HDR)
    else:
        assert 8 <= header.len <= len(octets)
        assert b"".join(field.to_bytes(2, "big") for field in header) == octets[:8]


@given(sock=U32, records=st.lists(RECORDS, max_size=5))
def test_records_are_read_as_they_were_written(sock, records):
    packed = [pack_record(record) for record in records]
    assert [len(one) for one in packed] == [
        record_size(len(r.payload), len(r.control)) for r in records
    ]
    number, read = unpack_data(pack_data(sock, b"".join(packed)))
    padded = [
        r._replace(sa=r.sa._replace(address=r.sa.address.ljust(16, b"\0"))) for r in records
    ]
    assert (number, list(read)) == (sock, padded)


@given(messages=CMSGS)
def test_control_messages_are_read_as_they_were_written(messages):
    control = pack_cmsgs(messages)
    assert len(control) % CMSG_ALIGN == 0
    assert unpack_cmsgs(control) == messages


@given(octets=st.binary(max_size=64))
def test_control_messages_are_read_or_refused(octets):
    try:
        messages = unpack_cmsgs(octets)
    except ValueError:
        return
    assert sum(len(m.data) for m in messages) <= len(octets)


MESSAGES = st.one_of(
    st.binary(max_size=200),
    st.binary(max_size=200).map(lambda octets: bytes((DATA_MAGIC, 1)) + octets),
    st.tuples(st.lists(RECORDS, max_size=3), st.binary(max_size=60)).map(
        lambda parts: pack_data(1, b"".join(map(pack_record, parts[0])) + parts[1])
    ),
)


@given(message=MESSAGES)
def test_a_data_message_ends_or_raises_a_value_error(message):
    with contextlib.suppress(ValueError):
        _number, records = unpack_data(message)
        most = len(message) // RECORD_HLEN
        for count, record in enumerate(records, 1):
            assert count <= most
            assert len(record.payload) <= len(message) - RECORD_HLEN


@given(data=st.binary(max_size=300))
def test_a_netlink_message_never_raises(data):
    assert len(parse_rtnetlink(data)) <= len(data) // 16


@given(data=st.data())
def test_a_netlink_message_that_was_changed_never_raises(golden, data):
    name = data.draw(st.sampled_from(["dump", "addresses", "address6_added", "route4_get"]))
    message = bytearray(golden[name])
    for _ in range(data.draw(st.integers(1, 8))):
        message[data.draw(st.integers(0, len(message) - 1))] = data.draw(st.integers(0, 255))
    parse_rtnetlink(bytes(message[: data.draw(st.integers(0, len(message)))]))


# --- addresses


@pytest.fixture(scope="module")
def table(make_node):
    """One is enough: nothing here changes it."""
    return make_node().table


LENGTHS = {1: 2, 2: 4, 3: 8, 10: 16}


@given(data=st.data(), family=st.sampled_from(sorted(LENGTHS)), port=U16)
def test_an_address_is_read_as_it_was_spelled(table, data, family, port):
    address = data.draw(st.binary(min_size=LENGTHS[family], max_size=LENGTHS[family]))
    scope_id = data.draw(st.integers(0, 999_999_999)) if family == 10 else 0
    sa = SockaddrMhost(family, port, address, 0, scope_id)
    assert table.mhost_pton(table.mhost_ntop(sa)) == (family, address, scope_id)


@given(family=U16, address=st.binary(max_size=16), id_no=U32, scope_id=U32)
def test_any_address_is_spelled(table, family, address, id_no, scope_id):
    assert table.mhost_ntop(SockaddrMhost(family, 0, address, id_no, scope_id))


@given(
    text=st.one_of(
        st.text(max_size=40),
        st.from_regex(r"(inet|inet6|testproto|otherproto):[0-9a-f:.%*]{0,20}", fullmatch=True),
        st.from_regex(r"[0-9a-f:.%]{0,20}", fullmatch=True),
    )
)
def test_any_text_is_an_address_or_refused(table, text):
    with contextlib.suppress(MhostError):
        locator = table.mhost_pton(text)
        assert len(locator.address) in (0, LENGTHS[locator.family])
        sa = SockaddrMhost(locator.family, 0, locator.address, 0, locator.scope_id)
        assert table.mhost_pton(table.mhost_ntop(sa)) == locator
