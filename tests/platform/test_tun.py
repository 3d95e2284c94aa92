"""What mhostd/tun.py, eth.py and lock.py rely on in Linux and pytun."""

import errno
import os
import socket
import struct
import subprocess

import pytest
import pytun

from mhostd import native
from mhostd.dev import ETH_P_MHOST, NetCore
from mhostd.errors import MhostError
from mhostd.lock import DeviceLock
from mhostd.tun import TunDevice

pytestmark = pytest.mark.usefixtures("netns")
PI = struct.Struct("!HH")


@pytest.fixture
def tun():
    device = pytun.TunTapDevice(name="pf0", flags=pytun.IFF_TUN)
    device.up()
    yield device
    device.close()


@pytest.fixture
def line():
    with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as s:
        s.settimeout(5)
        yield s


def test_tun_pi_carries_an_unknown_ethertype_from_the_host(tun, line):
    line.bind(("pf0", ETH_P_MHOST))
    line.sendto(b"down", ("pf0", ETH_P_MHOST))
    while (frame := os.read(tun.fileno(), 1504))[2:4] != PI.pack(0, ETH_P_MHOST)[2:]:
        pass  # the host announces itself over IPv6 when a link comes up
    assert frame[4:] == b"down"


def test_tun_pi_carries_an_unknown_ethertype_to_the_host(tun, line):
    line.bind(("pf0", ETH_P_MHOST))
    os.write(tun.fileno(), PI.pack(0, ETH_P_MHOST) + b"up")
    assert line.recv(1500) == b"up"


def test_without_tun_pi_only_ip_gets_through():
    device = pytun.TunTapDevice(name="pf1", flags=pytun.IFF_TUN | pytun.IFF_NO_PI)
    device.up()
    with pytest.raises(OSError, match="Invalid argument") as err:
        os.write(device.fileno(), b"\x00\x01\xff\xff")
    assert err.value.errno == errno.EINVAL
    device.close()


def test_pytun_opens_blocking_and_inheritable_and_mhostd_does_not(tun):
    assert os.get_blocking(tun.fileno())
    assert os.get_inheritable(tun.fileno())
    ours = TunDevice(NetCore(), "pf2", 1500)
    assert not os.get_blocking(ours.fileno())
    assert not os.get_inheritable(ours.fileno())
    ours.close()


def test_with_offloads_a_super_packet_is_one_write_and_many_datagrams():
    tun = TunDevice(NetCore(), "pf4", 1500, vnet=True)
    assert (tun.vnet, tun.uso) == (True, True)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        subprocess.run("ip addr add 198.51.100.1/24 dev pf4; ip link set pf4 up", shell=True)
        s.bind(("198.51.100.1", 0))
        s.settimeout(5)
        payload = b"aaaabbbbcc"
        ip = struct.pack(
            "!BBHHHBBH4s4s", 0x45, 0, 28 + len(payload), 0, 0x4000, 64, 17, 0,
            bytes((198, 51, 100, 2)), bytes((198, 51, 100, 1)),
        )  # fmt: skip
        check = ~native.csum_fold(ip) & 0xFFFF
        ip = ip[:10] + check.to_bytes(2, "big") + ip[12:]
        ulen = 8 + len(payload)
        udp = struct.pack(
            "!HHHH", 9, s.getsockname()[1], ulen, native.csum_fold(ip[12:20], ulen + 17)
        )
        vnet = struct.pack("=BBHHHH", 1, 5, 28, 4, 20, 6)
        os.write(tun.fileno(), PI.pack(0, 0x0800) + vnet + ip + udp + payload)
        assert [s.recv(99) for _ in range(3)] == [b"aaaa", b"bbbb", b"cc"]
    tun.close()


def test_a_kernel_without_udp_segmentation_offload_is_told_of_once(caplog):
    def refuse(_fd, _request, _flags):
        raise OSError(errno.EINVAL, "Invalid argument")

    tun = TunDevice(NetCore(), "pf5", 1500, vnet=True, ioctl=refuse)
    assert (tun.vnet, tun.uso) == (True, False)
    (line,) = caplog.messages
    assert "pf5: no UDP segmentation offload" in line
    tun.close()


def test_a_tun_that_another_has_open_is_refused_by_name(tun):
    with pytest.raises(MhostError, match="device pf0: another process has it open") as err:
        TunDevice(NetCore(), "pf0", 1500)
    assert err.value.errno == errno.EBUSY


def test_a_device_lock_is_held_in_its_namespace_only_and_names_its_holder():
    lock = DeviceLock("pf3")
    with pytest.raises(
        MhostError, match=f"device pf3 belongs to mhostd with pid {os.getpid()}"
    ):
        DeviceLock("pf3")
    code = "from mhostd.lock import DeviceLock; DeviceLock('pf3'); print('free')"
    argv = ["unshare", "--net", os.sys.executable, "-c", code]
    assert subprocess.run(argv, capture_output=True, text=True).stdout == "free\n"
    lock.close()
    DeviceLock("pf3").close()


def test_packet_ignore_outgoing_hides_what_was_sent_on_the_same_socket(line):
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    line.setsockopt(263, 23, 1)
    line.bind(("lo", ETH_P_MHOST))
    line.sendto(b"once", ("lo", ETH_P_MHOST, 0, 0, bytes(6)))
    assert line.recv(100) == b"once"  # lo receives what it sends, that is not outgoing
    line.settimeout(0.2)
    with pytest.raises(TimeoutError):
        line.recv(100)
