import pytest

from mhostd.errors import DropReason
from mhostd.udp.header import UdpHeader


def test_a_header_of_linux_is_read(golden):
    assert UdpHeader.parse(memoryview(golden["udp4"])[20:]) == (5101, 4000, 13, 0x8375)
    assert UdpHeader.parse(memoryview(golden["udp6"])[40:]) == (5101, 4000, 13, 0x9C83)


@pytest.mark.parametrize("octets", range(8))
def test_fewer_than_eight_octets_are_no_header(octets):
    assert UdpHeader.parse(memoryview(bytes(octets))) is DropReason.PKT_TOO_SMALL


@pytest.mark.parametrize("length", [0, 7])
def test_a_length_below_eight_is_a_bad_header(length):
    header = bytes.fromhex("13ed0fa0") + length.to_bytes(2, "big") + bytes(2)
    assert UdpHeader.parse(memoryview(header)) is DropReason.UDP_HDR


def test_a_length_beyond_the_octets_that_are_there_is_too_small():
    assert UdpHeader.parse(memoryview(bytes.fromhex("13ed0fa000090000"))) is (
        DropReason.PKT_TOO_SMALL
    )


def test_padding_of_l3_after_the_length_is_allowed():
    header = UdpHeader.parse(memoryview(bytes.fromhex("13ed0fa000080000") + bytes(38)))
    assert header == UdpHeader(source=5101, dest=4000, len=8, check=0)
