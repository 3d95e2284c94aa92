"""RFC 1071 and RFC 768 in C and in Python; tests/props compares the two on anything."""

import os
import subprocess
import sys

import pytest

from mhostd import native
from mhostd.native import _native, _pure

# linux/include/net/ip.h would say 0x8375 for this one: golden/linux.txt, udp4
PSEUDO = bytes.fromhex("0a4d0065 0a4d0001 0011 000d")
DATAGRAM = bytes.fromhex("13ed 0fa0 000d 8375 68656c6c6f")


@pytest.fixture(params=[_native, _pure], ids=["c", "py"])
def impl(request):
    return request.param


def test_the_c_core_is_in_use_unless_python_was_asked_for():
    forced = os.environ.get("MHOSTD_NATIVE") == "py"
    assert ("py" if forced else "c") == native.IMPL
    assert native.csum_fold is (_pure if forced else _native).csum_fold


def test_python_can_be_asked_for():
    code = "from mhostd import native; print(native.IMPL, native.udp_push.__module__)"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code],
        env={**os.environ, "MHOSTD_NATIVE": "py"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["py", "mhostd.native._pure"]


def test_the_whole_stack_runs_without_c(golden):
    """One datagram down and up, in a process where Python was asked for."""
    code = """
import sys
from mhostd import native
from mhostd.config import parse_config
from mhostd.dev import NetCore, NetDevice
from mhostd.init import mhost_init
from mhostd.skb import SkBuff
from mhostd.sock import Client
from mhostd.uapi import SockaddrMhost

assert native.IMPL == "py"
config = '[tun.inet]\\naddress = "10.77.0.1/24"\\nhost_address = "10.77.0.101"'
core, tun = NetCore(), NetDevice("mhost0")
stack = mhost_init(parse_config(config), core, tun=tun)
sk = stack.af_mhost.mhost_create(Client(1, 0), 27, 2, 0, lambda _sk: None, print)
stack.af_mhost.mhost_bind(sk, SockaddrMhost(27, 4000))
skb = SkBuff(bytearray.fromhex(sys.argv[1]))
skb.protocol = 0x0800
core.netif_receive_skb(tun, skb)
payload, source, *_ = sk.receive_queue.popleft()
stack.af_mhost.mhost_sendmsg(sk, payload, source, 0.0)
print(tun.tx_queue[0].data.hex())
"""
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, golden["udp4"].hex()],
        env={**os.environ, "MHOSTD_NATIVE": "py"},
        capture_output=True,
        text=True,
        check=True,
    )
    sent = bytes.fromhex(done.stdout)
    assert sent[20:] == bytes.fromhex("0fa0 13ed 000d 8375") + b"hello"


def test_the_example_of_rfc_1071_section_3(impl):
    assert impl.csum_fold(bytes.fromhex("0001 f203 f4f5 f6f7")) == 0xDDF2


def test_an_odd_octet_is_padded_with_zero(impl):
    assert impl.csum_fold(b"\x01") == impl.csum_fold(b"\x01\x00") == 0x0100


def test_nothing_sums_to_nothing_and_zeros_too(impl):
    assert impl.csum_fold(b"") == impl.csum_fold(bytes(1500)) == 0


def test_all_ones_stay_all_ones(impl):
    assert impl.csum_fold(b"\xff" * 65535) == 0xFF00  # the last one is ff00
    assert impl.csum_fold(b"\xff" * 65534, 0xFFFF_FFFF) == 0xFFFF


def test_a_partial_sum_goes_on_where_it_ended(impl):
    data = bytes(range(256))
    assert impl.csum_fold(data[100:], impl.csum_fold(data[:100])) == impl.csum_fold(data)


def test_a_datagram_of_linux_sums_to_all_ones(impl):
    assert impl.csum_fold(DATAGRAM, impl.csum_fold(PSEUDO)) == 0xFFFF


def test_udp_push_writes_what_linux_wrote(impl):
    buf = bytearray(b"\xa5" * 8 + b"hello")  # a dirty buffer, as in life
    impl.udp_push(buf, 5101, 4000, impl.csum_fold(PSEUDO))
    assert buf == DATAGRAM


def test_udp_push_writes_through_a_view_and_nowhere_else(impl):
    buf = bytearray(b"-" * 3 + b"\xa5" * 8 + b"hello")
    impl.udp_push(memoryview(buf)[3:], 5101, 4000, impl.csum_fold(PSEUDO))
    assert bytes(buf) == b"---" + DATAGRAM


def test_a_computed_zero_is_written_as_all_ones(impl):
    buf = bytearray(8) + bytes.fromhex("ffe7")  # 1 + 7 + 10 + 0xffe7 + 6 = 0xffff
    impl.udp_push(buf, 1, 7, 6)
    assert buf[6:8] == b"\xff\xff"


@pytest.mark.parametrize(
    ("size", "source", "dest", "psum", "why"),
    [
        (7, 1, 1, 0, "buf of 7 octets; want 8..65535"),
        (65536, 1, 1, 0, "buf of 65536 octets"),
        (8, -1, 1, 0, "source port -1 is not in 0..65535"),
        (8, 65536, 1, 0, "source port 65536"),
        (8, 1, -1, 0, "dest port -1"),
        (8, 1, 65536, 0, "dest port 65536"),
        (8, 1, 1, -1, "psum -1 is not in 0..4294967295"),
        (8, 1, 1, 1 << 32, "psum 4294967296"),
    ],
)
def test_what_is_out_of_range_is_refused_and_nothing_is_written(
    impl, size, source, dest, psum, why
):
    buf = bytearray(b"\xa5" * size)
    with pytest.raises(ValueError, match=why):
        impl.udp_push(buf, source, dest, psum)
    assert buf == b"\xa5" * size


@pytest.mark.parametrize("psum", [-1, 1 << 32, 1 << 63, 1 << 80, -(1 << 80)])
def test_a_partial_sum_out_of_range_is_refused(impl, psum):
    with pytest.raises(ValueError, match=r"psum -?\d+ is not in 0..0xffffffff"):
        impl.csum_fold(b"hello", psum)


def test_a_buffer_that_cannot_be_written_is_refused(impl):
    with pytest.raises(TypeError):
        impl.udp_push(bytes(8), 1, 1, 0)
