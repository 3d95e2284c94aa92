import pytest

from mhostd.skb import MHOST_MAX_HEADER, SkBuff


def test_alloc_copies_the_payload_behind_headroom():
    payload = bytearray(b"hello")
    skb = SkBuff.alloc(payload)
    payload[0] = 0
    assert (len(skb), bytes(skb.data), skb.head) == (5, b"hello", MHOST_MAX_HEADER)


def test_push_claims_octets_in_front_and_pull_gives_them_back():
    skb = SkBuff.alloc(b"hello", 4)
    skb.push(2)[:] = b"oh"
    assert bytes(skb.data) == b"ohhello"
    skb.pull(2)
    assert bytes(skb.data) == b"hello"


def test_push_beyond_the_headroom_is_a_bug_that_shows():
    skb = SkBuff.alloc(b"hello", 4)
    skb.push(3)
    with pytest.raises(AssertionError, match="headroom is 1 octets, need 2"):
        skb.push(2)


def test_the_headroom_holds_every_header_of_ours():
    assert MHOST_MAX_HEADER >= 8 + 40 + 4  # UDP, IPv6, tun_pi


def test_trim_cuts_the_padding_of_the_link():
    skb = SkBuff(bytearray(b"HHhello\0\0\0"))
    skb.pull(2)
    skb.trim(5)
    assert bytes(skb.data) == b"hello"


def test_data_is_the_frame_itself_and_no_copy():
    skb = SkBuff(bytearray(b"hello"))
    skb.data[0:1] = b"j"
    assert skb.buf == b"jello"
