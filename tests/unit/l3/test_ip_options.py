"""IPv4 options: RFC 791's examples, and any octets at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mhostd.l3.ip_options import ip_options_compile, ip_options_echo

US = bytes((10, 77, 0, 1))
NOW = 0x80000102


@pytest.mark.parametrize(
    ("came", "stands", "echo"),
    [
        ("01010101", "01010101", ""),
        ("00010203", "00000000", ""),
        ("07070400000000 00", "070708 0a4d0001 00", "070708 0a4d0001 00"),
        (
            "070b04 0000000000000000 00",
            "070b08 0a4d0001 00000000 00",
            "070b0c 0a4d0001 0a4d0001 00",
        ),
        ("070708 0a4d0909 00", "070708 0a4d0909 00", "070708 0a4d0909 00"),
        ("44080500 00000000", "44080900 80000102", "44080900 80000102"),
        ("440c0501 0000000000000000", "440c0d01 0a4d000180000102", "440c0d01 0a4d000180000102"),
        ("440c0503 0a4d000200000000", "440c0503 0a4d000200000000", "440c0503 0a4d000200000000"),
        ("440809e0 00000000", "440809f0 00000000", "440809f0 00000000"),
        ("94040000", "94040000", ""),
    ],
)
def test_an_option_gets_what_it_asks_for(came, stands, echo):
    options = ip_options_compile(bytes.fromhex(came), US, NOW)
    assert options.wrong is None
    assert options.octets.hex() == stands.replace(" ", "")
    assert ip_options_echo(options, US, NOW).hex() == echo.replace(" ", "")


@given(octets=st.binary(max_size=40))
def test_no_octets_make_it_raise(octets):
    options = ip_options_compile(octets, US, NOW)
    assert len(options.octets) == len(octets)
    assert options.wrong is None or 0 <= options.wrong < len(octets)
    echo = ip_options_echo(options, US, NOW)
    assert len(echo) <= 40
    assert len(echo) % 4 == 0
