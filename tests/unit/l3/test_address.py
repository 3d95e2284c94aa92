import socket

import pytest

from mhostd.l3.address import inet6_ntop, inet6_pton, inet_ntop, inet_pton

V4 = ["0.0.0.0", "10.77.0.1", "255.255.255.255"]
V6 = ["::", "::1", "fd77::1", "2001:db8:0:1::a", "1:2:3:4:5:6:7:8"]


@pytest.mark.parametrize("text", V4)
def test_ipv4_is_read_and_written_as_libc_does(text):
    assert inet_pton(text) == socket.inet_pton(socket.AF_INET, text)
    assert inet_ntop(inet_pton(text)) == text


@pytest.mark.parametrize("text", V6)
def test_ipv6_is_read_and_written_as_libc_does(text):
    assert inet6_pton(text) == socket.inet_pton(socket.AF_INET6, text)
    assert inet6_ntop(inet6_pton(text)) == text


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4.5", "01.2.3.4", "1.2.3.256", "::1"])
def test_what_is_no_ipv4_address_is_refused(text):
    with pytest.raises(ValueError, match="is no IPv4 address"):
        inet_pton(text)


@pytest.mark.parametrize(
    "text", ["", ":", "1::2::3", "12345::", "10.0.0.1", "fe80::1%3", "::g"]
)
def test_what_is_no_ipv6_address_is_refused(text):
    with pytest.raises(ValueError, match="is no IPv6 address"):
        inet6_pton(text)
