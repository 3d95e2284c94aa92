"""The C core and its Python twin agree on anything, right or wrong."""

from hypothesis import given
from hypothesis import strategies as st

from mhostd.native import _native, _pure

NUMBERS = st.one_of(
    st.integers(0, 0xFFFF),
    st.integers(0, 0xFFFF_FFFF),
    st.integers(-(1 << 70), 1 << 70),
    st.sampled_from([-1, 0xFFFF, 0x10000, 0xFFFF_FFFF, 1 << 32, 1 << 63, 1 << 64]),
)
OCTETS = st.one_of(
    st.binary(max_size=300), st.integers(0, 70_000).map(lambda n: b"\xff\x5a" * n)
)


def outcome(function, *args):
    """What a call gives, or the exception that it raises with its text."""
    try:
        return function(*args)
    except Exception as err:
        return type(err), str(err)


@given(data=OCTETS, start=st.integers(0, 16), psum=NUMBERS)
def test_csum_fold_is_the_same_at_any_alignment(data, start, psum):
    view = memoryview(data)[start:]
    for avx2 in (False, True):  # where the processor has it
        _native.csum_avx2(avx2)
        got = outcome(_native.csum_fold, view, psum)
        assert got == outcome(_pure.csum_fold, view, psum)


@given(data=OCTETS, start=st.integers(0, 16), short=st.integers(0, 1), psum=NUMBERS)
def test_csum_copy_copies_and_sums_the_same(data, start, short, psum):
    view = memoryview(data)[start:]
    for avx2 in (False, True):
        _native.csum_avx2(avx2)
        results = []
        for impl in (_native, _pure):
            to = bytearray(b"\x55") * (max(0, len(view) - short) + 32)
            room = memoryview(to)[16:-16]
            results.append((outcome(impl.csum_copy, room, view, psum), bytes(to)))
        assert results[0] == results[1]


@given(data=OCTETS)
def test_csum_fold_is_the_sum_of_rfc_1071(data):
    total = sum(
        int.from_bytes(data[i : i + 2].ljust(2, b"\0"), "big") for i in range(0, len(data), 2)
    )
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    assert _native.csum_fold(data) == total


@given(data=OCTETS, start=st.integers(0, 9), source=NUMBERS, dest=NUMBERS, psum=NUMBERS)
def test_udp_push_writes_or_refuses_the_same(data, start, source, dest, psum):
    results = []
    for impl in (_native, _pure):
        buf = bytearray(data)
        got = outcome(impl.udp_push, memoryview(buf)[start:], source, dest, psum)
        results.append((got, bytes(buf)))
    assert results[0] == results[1]


@given(
    payload=st.binary(max_size=300),
    source=st.integers(0, 0xFFFF),
    dest=st.integers(0, 0xFFFF),
    psum=st.integers(0, 0xFFFF_FFFF),
)
def test_what_udp_push_writes_sums_to_all_ones_and_is_never_zero(payload, source, dest, psum):
    buf = bytearray(8) + payload
    _native.udp_push(buf, source, dest, psum)
    assert _native.csum_fold(buf, psum) == 0xFFFF
    assert buf[6:8] != b"\0\0"
    assert buf[8:] == payload
