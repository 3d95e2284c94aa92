import pytest

from mhostd.uapi import (
    AF_INET,
    AF_MHOST,
    DATA_HLEN,
    RECORD_HLEN,
    Record,
    SockaddrMhost,
    pack_data,
    pack_record,
    record_size,
    unpack_data,
)

# Written by hand from the table of docs/ipc.md; x86-64 is little endian.
GOLDEN = bytes.fromhex(
    "c1010000 07000000"  # 0xc1, version 1, 0, socket 7
    "2d000000 0200 0000 0200 901f 2a000000"  # 45, CONNECTED, 0, AF_INET, 8080, cookie 42
    "c0000202000000000000000000000000 05000000 00000000"  # 192.0.2.2, id_no 5, scope 0
    "68656c6c6f 000000"  # hello, padding
)
RECORD = Record(SockaddrMhost(AF_INET, 8080, bytes((192, 0, 2, 2)), 5), b"hello", 2, 0, 42)


def padded(record):
    return record._replace(sa=record.sa._replace(address=record.sa.address.ljust(16, b"\0")))


def test_a_data_message_is_what_the_document_says():
    assert pack_data(7, pack_record(RECORD)) == GOLDEN


def test_the_document_is_read_back():
    number, records = unpack_data(GOLDEN)
    assert number == 7
    assert list(records) == [padded(RECORD)]


def test_records_follow_one_another_at_multiples_of_eight_octets():
    records = [
        RECORD._replace(payload=b"", segment_size=1),
        RECORD._replace(payload=b"123456789"),
        Record(SockaddrMhost(AF_MHOST, 1, b"", 0xFFFF_FFFF, 3), b"x" * 65507, 1, 0xFFFF, 1),
    ]
    packed = [pack_record(record) for record in records]
    assert [len(one) for one in packed] == [40, 56, record_size(65507)]
    assert list(unpack_data(pack_data(1, b"".join(packed)))[1]) == list(map(padded, records))


@pytest.mark.parametrize(
    ("payload", "size"), [(0, 40), (1, 48), (8, 48), (9, 56), (65507, 65552)]
)
def test_record_size_has_the_padding_in_it(payload, size):
    assert (
        record_size(payload)
        == size
        == len(pack_record(RECORD._replace(payload=bytes(payload))))
    )


def test_the_last_record_may_come_without_its_padding():
    assert list(unpack_data(GOLDEN[:-3])[1]) == [padded(RECORD)]


def test_a_message_without_records_has_none():
    number, records = unpack_data(pack_data(9, b""))
    assert (number, list(records)) == (9, [])


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (b"", "message of 0 octets; want 8"),
        (GOLDEN[:7], "message of 7 octets"),
        (b"\xc0" + GOLDEN[1:], "0xc0 version 1"),
        (b"\xc1\x02" + GOLDEN[2:], "0xc1 version 2"),
    ],
)
def test_a_bad_prefix_is_refused_at_once(message, why):
    with pytest.raises(ValueError, match=why):
        unpack_data(message)


@pytest.mark.parametrize(
    ("records", "why"),
    [
        (bytes(RECORD_HLEN - 1), "octet 8: 39 octets are no header"),
        (bytes(RECORD_HLEN), "length 0 is not in 40..40"),
        ((39).to_bytes(4, "little") + bytes(36), "length 39 is not in 40..40"),
        ((41).to_bytes(4, "little") + bytes(36), "length 41 is not in 40..40"),
        (b"\xff" * RECORD_HLEN, "length 4294967295 is not in 40..40"),
    ],
)
def test_a_bad_record_is_refused_where_it_stands(records, why):
    _number, iterator = unpack_data(pack_data(1, records))
    with pytest.raises(ValueError, match=why):
        list(iterator)


def test_what_stands_before_a_bad_record_is_read():
    _number, iterator = unpack_data(GOLDEN + b"bad")
    assert next(iterator) == padded(RECORD)
    with pytest.raises(ValueError, match=f"octet {DATA_HLEN + 48}: 3 octets"):
        next(iterator)
