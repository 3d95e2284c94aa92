"""Records: what is written is read again, and what strangers write does no harm."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhostd.host.directory import LOCATORS_MAX, OCTETS_MAX, NoDirectory, Record

IDENTIFIER = "2001:20::1"
LOCATORS = ("10.0.1.1", "fd00::1", "testproto:7")
GOOD = {"identifier": IDENTIFIER, "number": 3, "locators": list(LOCATORS), "port": 7000}


def test_a_record_is_compact_json():
    data = Record(IDENTIFIER, 3, LOCATORS, 7000).encode()
    assert data == json.dumps(GOOD, separators=(",", ":")).encode()
    assert Record.decode(data) == Record(IDENTIFIER, 3, LOCATORS, 7000)


def test_what_a_later_version_adds_is_left_out():
    data = json.dumps({**GOOD, "colour": ["red"]}).encode()
    assert Record.decode(data) == Record(IDENTIFIER, 3, LOCATORS, 7000)


REFUSED = [
    ({"identifier": "host"}, "identifier: 'host' is no IPv6 address"),
    ({"identifier": "2001:db8::1"}, r"2001:db8::1 is not in 2001:20::/28"),
    ({"identifier": "2001:20:0:0::1"}, "is to be written 2001:20::1"),
    ({"identifier": "2001:20::1%eth0"}, "is to be written 2001:20::1"),
    ({"identifier": "../../etc/passwd"}, "no IPv6 address"),
    ({"identifier": 1}, "Expected `str`, got `int`"),
    ({"number": -1}, r">= 0 - at `\$.number`"),
    ({"number": 2**63}, r"at `\$.number`"),
    ({"number": 1.5}, r"at `\$.number`"),
    ({"port": 0}, r"at `\$.port`"),
    ({"port": 65536}, r"at `\$.port`"),
    ({"port": None}, r"at `\$.port`"),
    ({"locators": "10.0.0.1"}, r"at `\$.locators`"),
    ({"locators": [""]}, r"at `\$.locators\[0\]`"),
    ({"locators": ["a b"]}, r"at `\$.locators\[0\]`"),
    ({"locators": ["a\n"]}, r"at `\$.locators\[0\]`"),
    ({"locators": ["\N{SNOWMAN}"]}, r"at `\$.locators\[0\]`"),
    ({"locators": ["x" * 65]}, r"length <= 64 - at `\$.locators\[0\]`"),
    ({"locators": ["x"] * (LOCATORS_MAX + 1)}, r"length <= 64 - at `\$.locators`"),
    ({"locators": ["x" * 64] * LOCATORS_MAX}, f"exceeds {OCTETS_MAX}"),
]


@pytest.mark.parametrize(("change", "why"), REFUSED, ids=[why for _change, why in REFUSED])
def test_a_record_that_cannot_be_is_refused_in_both_directions(change, why):
    wrong = {**GOOD, **change}
    with pytest.raises(ValueError, match=why):
        Record.decode(json.dumps(wrong, separators=(",", ":"), ensure_ascii=False).encode())
    with pytest.raises(ValueError, match=why):
        Record(**wrong).encode()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"identifier":"\xff"}',
        b"\x00" * 100,
        b"[" * OCTETS_MAX,
        b'{"x":' + b"[" * (OCTETS_MAX - 5),
        b"x" * (OCTETS_MAX + 1),
    ],
)
def test_what_is_no_record_is_a_value_error(data):
    with pytest.raises(ValueError, match=r"."):
        Record.decode(data)


@given(st.binary(max_size=300))
def test_any_octets_are_read_or_refused(data):
    try:
        Record.decode(data)
    except ValueError:
        pass


@given(
    st.integers(0, 2**63 - 1),
    st.lists(
        st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1), max_size=64
    ),
    st.integers(1, 65535),
)
def test_what_can_be_written_is_read_again(number, locators, port):
    record = Record(IDENTIFIER, number, tuple(locators), port)
    try:
        data = record.encode()
    except ValueError:
        assert any(len(x) > 64 for x in locators) or sum(map(len, locators)) > OCTETS_MAX / 2
    else:
        assert Record.decode(data) == record


def test_in_no_directory_nobody_is_found():
    calls, said = [], []
    directory = NoDirectory(calls.append)
    record = Record(IDENTIFIER, 3, LOCATORS, 7000)
    directory.put(record, 30)
    directory.get(IDENTIFIER, said.append)
    directory.watch(IDENTIFIER, said.append)
    directory.watch(IDENTIFIER, lambda _record: said.append("cancelled"))()
    directory.txn(IDENTIFIER, None, record, 30, said.append)
    directory.close(lambda: said.append("closed"))
    assert said == []
    for call in calls:
        call()
    assert said == [None, None, False, "closed"]
    assert directory.state() == "none"


def test_what_cannot_be_is_refused_at_once():
    directory = NoDirectory(list)
    record = Record(IDENTIFIER, 3, LOCATORS, 7000)
    with pytest.raises(ValueError, match="lease of 0 s"):
        directory.put(record, 0)
    with pytest.raises(ValueError, match="lease of 3601 s"):
        directory.put(record, 3601)
    with pytest.raises(ValueError, match="no IPv6 address"):
        directory.get("../x", print)
    with pytest.raises(ValueError, match="not of 2001:20::2"):
        directory.txn("2001:20::2", None, record, 30, print)
