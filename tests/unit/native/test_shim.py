"""SipHash and security sessions, in C and in Python; tests/props compares the two."""

import errno
from pathlib import Path

import pytest

from mhostd import native
from mhostd.native import _native, _pure_shim

KEY = bytes(range(16))
A, B = b"a" * 16, b"b" * 16
LAST = (1 << 64) - 2
WINDOW = 8192
MALFORMED, REPLAYED, BAD_TAG = -1, -2, -3

VECTORS = (Path(__file__).parents[2] / "golden" / "siphash128.txt").read_text().split()


@pytest.fixture(params=[_native, _pure_shim], ids=["c", "py"])
def impl(request):
    return request.param


@pytest.fixture
def near(impl):
    return impl.Shim(A, B, 0x01020304)


@pytest.fixture
def far(impl):
    return impl.Shim(B, A, 7)


def test_the_package_has_the_one_that_is_in_use():
    used = _native if native.IMPL == "c" else _pure_shim
    assert native.Shim is used.Shim
    assert native.siphash128 is used.siphash128


@pytest.mark.parametrize("n", range(64))
def test_siphash128_golden(impl, n):
    assert impl.siphash128(KEY, bytes(range(n))).hex() == VECTORS[n]


@pytest.mark.parametrize("n", [0, 1, 7, 8, 9, 15, 16, 17, 31, 63])
def test_siphash128_of_two_pieces_is_that_of_the_whole(impl, n):
    octets = bytes(range(n))
    for cut in range(n + 1):
        assert impl.siphash128(KEY, octets[:cut], octets[cut:]).hex() == VECTORS[n]


def test_a_packet_is_laid_out_as_shim_h_says(impl, near):
    packet = near.seal(9, 17, b"hello")
    assert packet[:-16].hex() == "15110900" + "01020304" + "0000000000000001" + b"hello".hex()
    assert packet[-16:] == impl.siphash128(B, packet[:-16])


def test_what_is_sealed_is_opened_on_the_other_side(near, far):
    for seq, (path, inner) in enumerate([(0, b""), (255, b"x"), (3, b"y" * 65503)], 1):
        assert far.open(near.seal(path, 17, inner)) == (17, path, seq, inner)
    assert near.tx_seq == far.rx_max == 3
    assert near.sent() == [(0, 1), (3, 1), (255, 1)]
    assert far.received() == [(0, 1, 1), (3, 1, 3), (255, 1, 2)]
    assert far.counts() == (3, 0, 0, 0)
    assert near.counts() == (0, 0, 0, 0)


def test_each_direction_has_its_key(near):
    assert near.open(near.seal(0, 17, b"hello")) == BAD_TAG


def state(shim):
    return shim.tx_seq, shim.rx_max, shim.sent(), shim.received()


@pytest.mark.parametrize("at", range(1, 16 + 5 + 16))
def test_a_bad_octet_changes_nothing_but_a_counter(near, far, at):
    far.open(near.seal(2, 17, b"first"))
    packet = near.seal(2, 17, b"hello")
    before = state(far)
    bad = bytearray(packet)
    bad[at] ^= 0x80
    says = MALFORMED if at == 3 else BAD_TAG
    assert far.open(bad) == says
    assert state(far) == before
    assert far.counts() == (1, int(says == MALFORMED), 0, int(says == BAD_TAG))
    assert far.open(packet) == (17, 2, 2, b"hello")


def resealed(impl, packet, at, octets):
    """A packet of one who has the key, and writes what is wrong."""
    message = packet[:at] + octets + packet[at + len(octets) : -16]
    return message + impl.siphash128(B, message)


@pytest.mark.parametrize(
    ("at", "octets"),
    [(0, b"\x25"), (0, b"\x05"), (0, b"\x14"), (3, b"\x01"), (3, b"\x80"), (8, bytes(8))],
    ids=["version 2", "version 0", "type 4", "flag", "another flag", "sequence number 0"],
)
def test_a_malformed_packet_is_that_even_with_a_good_tag(impl, near, far, at, octets):
    assert far.open(resealed(impl, near.seal(0, 17, b"hello"), at, octets)) == MALFORMED
    assert far.counts() == (0, 1, 0, 0)
    assert far.received() == []


@pytest.mark.parametrize("n", [0, 1, 15, 16, 31])
def test_a_packet_that_is_too_short_is_malformed(near, far, n):
    assert far.open(near.seal(0, 17, b"")[:n]) == MALFORMED


def test_a_packet_that_is_too_long_is_malformed(impl, near, far):
    message = near.seal(0, 17, b"y" * 65503)[:-16] + b"y"
    assert far.open(message + impl.siphash128(B, message)) == MALFORMED


@pytest.mark.parametrize("top", [WINDOW, WINDOW + 1, 3 * WINDOW + 77, 1 << 40, LAST])
def test_the_window_has_8192_sequence_numbers(near, far, top):
    assert far.open(near.seal_as(0, 17, top, b"")) == (17, 0, top, b"")
    oldest = top - WINDOW + 1
    for seq in (oldest, oldest + 1, oldest + 63, oldest + 64, top - 1):
        assert far.open(near.seal_as(0, 17, seq, b"")) == (17, 0, seq, b"")
        assert far.open(near.seal_as(0, 17, seq, b"")) == REPLAYED
    for seq in {oldest - 1, oldest - 64, oldest // 2} - {0, -63}:
        if seq >= 1:
            assert far.open(near.seal_as(0, 17, seq, b"")) == REPLAYED
    assert far.open(near.seal_as(0, 17, top, b"")) == REPLAYED
    assert far.rx_max == far.received()[0][2] == top


@pytest.mark.parametrize("step", [1, 63, 64, 65, WINDOW - 1, WINDOW, WINDOW + 1, 2 * WINDOW])
def test_the_window_moves_and_forgets_what_it_leaves(near, far, step):
    tops = [5 + step * i for i in range(6)]
    for top in tops:
        assert far.open(near.seal_as(0, 17, top, b"")) == (17, 0, top, b"")
        for seen in tops:
            if seen <= top:
                assert far.open(near.seal_as(0, 17, seen, b"")) == REPLAYED


@pytest.mark.parametrize("words", [1, 2, 100, 128, 200, 255, 256, 300])
def test_what_the_window_has_left_is_not_taken_for_what_has_its_place_later(near, far, words):
    top = 0
    for i in range(300):  # the bitmap has 256 words of 64, each with a bit now
        top = 64 * i + 5
        assert isinstance(far.open(near.seal_as(0, 17, top, b"")), tuple)
    jump = top + 64 * words
    assert far.open(near.seal_as(0, 17, jump, b"")) == (17, 0, jump, b"")
    for seq in range(max(top, jump - WINDOW) + 64, jump, 64):
        assert far.open(near.seal_as(0, 17, seq, b"")) == (17, 0, seq, b"")


def test_a_duplicate_counts_as_received_on_its_path(near, far):
    seq = near.next()
    copies = [near.seal_as(path, 17, seq, b"hello") for path in (1, 4, 9)]
    assert far.open(copies[1]) == (17, 4, 1, b"hello")
    assert far.open(copies[0]) == far.open(copies[2]) == REPLAYED
    assert near.sent() == [(1, 1), (4, 1), (9, 1)]
    assert far.received() == [(1, 1, 1), (4, 1, 1), (9, 1, 1)]
    assert far.counts() == (1, 0, 2, 0)


def test_a_late_packet_leaves_the_highest_sequence_number_of_its_path(near, far):
    packets = [near.seal(1, 17, b"") for _ in range(3)]
    for packet in (packets[0], packets[2], packets[1], packets[0]):
        far.open(packet)
    assert far.received() == [(1, 4, 3)]
    assert far.rx_max == 3


def test_what_is_below_the_window_counts_as_received_on_its_path(near, far):
    late = near.seal(1, 17, b"late")
    far.open(near.seal_as(2, 17, 20_000, b""))
    assert far.open(late) == REPLAYED
    assert far.received() == [(1, 1, 1), (2, 1, 20_000)]


def test_a_duplicate_with_a_bad_tag_counts_on_no_path(near, far):
    packet = bytearray(near.seal(1, 17, b"hello"))
    far.open(packet)
    packet[2] = 5
    assert far.open(packet) == BAD_TAG
    assert far.received() == [(1, 1, 1)]
    assert far.counts() == (1, 0, 0, 1)


def test_sequence_numbers_are_used_up_once(near, far):
    near.seal_as(0, 17, LAST - 1, b"")
    assert far.open(near.seal(0, 17, b"last")) == (17, 0, LAST, b"last")
    for call, args in ((near.next, ()), (near.seal, (1, 17, b"no more"))):
        with pytest.raises(OSError, match=f"no sequence number after {LAST}; a new") as info:
            call(*args)
        assert info.value.errno == errno.EOVERFLOW
    assert near.tx_seq == LAST
    assert near.sent() == [(0, 2)]
    assert near.seal_as(1, 17, LAST, b"over another path")


def test_a_sequence_number_of_the_caller_is_not_given_out_again(near):
    assert near.next() == 1
    near.seal_as(0, 17, 5, b"")
    near.seal_as(0, 17, 3, b"")
    assert near.next() == 6


@pytest.mark.parametrize("value", [-1, 256, 1 << 64, -(1 << 80)])
def test_a_path_or_protocol_out_of_range_is_refused(near, value):
    with pytest.raises(ValueError, match=rf"seal: path {value} is not in 0..255"):
        near.seal(value, 17, b"")
    with pytest.raises(ValueError, match=rf"seal_as: next {value} is not in 0..255"):
        near.seal_as(0, value, 1, b"")
    assert near.sent() == []


@pytest.mark.parametrize("seq", [-1, 0, LAST + 1, LAST + 2])
def test_a_sequence_number_out_of_range_is_refused(near, seq):
    with pytest.raises(ValueError, match=rf"seal_as: seq {seq} is not in 1..{LAST}"):
        near.seal_as(0, 17, seq, b"")


def test_an_inner_packet_that_is_too_long_is_refused(near):
    with pytest.raises(ValueError, match="seal: inner of 65504 octets exceeds 65503"):
        near.seal(0, 17, bytes(65504))
    assert near.tx_seq == 0


@pytest.mark.parametrize("id_", [-1, 0, 1 << 32])
def test_an_id_out_of_range_is_refused(impl, id_):
    with pytest.raises(ValueError, match=rf"Shim: remote_id {id_} is not in 1..4294967295"):
        impl.Shim(A, B, id_)


@pytest.mark.parametrize("n", [0, 15, 17])
def test_a_key_of_another_length_is_refused(impl, n):
    with pytest.raises(ValueError, match=f"Shim: rx_key of {n} octets; want 16"):
        impl.Shim(bytes(n), B, 1)
    with pytest.raises(ValueError, match=f"Shim: tx_key of {n} octets; want 16"):
        impl.Shim(A, bytes(n), 1)
    with pytest.raises(ValueError, match=f"siphash128: key of {n} octets; want 16"):
        impl.siphash128(bytes(n), b"")


def test_what_is_no_number_or_no_buffer_is_refused():
    shim = _native.Shim(A, B, 1)
    for args in ((0.5, 17, b""), (0, "17", b""), (0, 17, "text"), (0, 17)):
        with pytest.raises(TypeError):
            shim.seal(*args)
    with pytest.raises(TypeError):
        shim.open("text")
