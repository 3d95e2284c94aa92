"""Bad input: the kernel's errno, and a text with the way out."""

import errno
import socket
import subprocess
import sys
import time

import mhost
import pytest

pytestmark = pytest.mark.parametrize("lane", ["shm", "zmq"], indirect=True)

CASES = [
    # destination, errno, what the text says
    (("nosuch:7", 9), errno.EAFNOSUPPORT, "no L3 handler 'nosuch'; registered: host_inet"),
    (("testproto:70000", 9), errno.EINVAL, "want a number 0..65535"),
    (("no-such-host", 9), errno.EHOSTUNREACH, "mhostctl hosts add no-such-host LOCATOR"),
    (("bad name", 9), errno.EINVAL, "is no host name"),
    (("x" * 254, 9), errno.EINVAL, "254 characters exceed 253"),
    (("127.0.0.1", 0), errno.EINVAL, "port 0 is no destination"),
    (("*", 9), errno.EDESTADDRREQ, "no destination"),
    (("", 9), errno.EDESTADDRREQ, "no destination"),
    (("198.51.100.1", 9), errno.ENETUNREACH, "Network is unreachable"),
]


@pytest.mark.parametrize(("address", "number", "text"), CASES)
def test_a_bad_destination_is_refused_by_the_first_send(sender, address, number, text):
    with pytest.raises(OSError, match="Errno") as err:
        sender.sendto(b"x", address)
    assert err.value.errno == number
    assert text in str(err.value)


@pytest.mark.parametrize(("address", "number", "text"), CASES)
def test_a_non_blocking_socket_learns_of_it_with_a_later_send(sender, address, number, text):
    sender.setblocking(False)
    deadline = 10_000
    with pytest.raises(OSError, match="Errno") as err:
        for _ in range(deadline):
            try:
                sender.sendto(b"x", address)
            except BlockingIOError:
                continue
            time.sleep(0.001)  # not more than may wait for the name service
    assert err.value.errno == number
    assert text in str(err.value)


@pytest.mark.parametrize("host", ["127.0.0.1", "10.77.2.1", "testproto:2", "peer"])
def test_70000_octets_are_too_many_everywhere(sender, host):
    with pytest.raises(OSError, match=r"70000 octets exceeds 65507") as err:
        sender.sendto(bytes(70_000), (host, 9))
    assert err.value.errno == errno.EMSGSIZE


def test_a_datagram_larger_than_the_mtu_says_what_fits(sender):
    with pytest.raises(OSError, match="exceeds 1484, what one packet of testproto") as err:
        sender.sendto(bytes(1485), ("testproto:2", 9))
    assert err.value.errno == errno.EMSGSIZE
    sender.sendto(bytes(1484), ("testproto:2", 9))


@pytest.mark.parametrize(
    ("arguments", "number"),
    [
        ((socket.AF_UNSPEC,), errno.EAFNOSUPPORT),
        ((socket.AF_INET,), errno.EAFNOSUPPORT),
        ((mhost.AF_MHOST, socket.SOCK_STREAM), errno.ESOCKTNOSUPPORT),
        ((mhost.AF_MHOST, socket.SOCK_RAW), errno.ESOCKTNOSUPPORT),
        ((mhost.AF_MHOST, socket.SOCK_DGRAM, socket.IPPROTO_TCP), errno.EPROTONOSUPPORT),
    ],
)
def test_another_family_type_or_protocol_is_refused(arguments, number):
    with pytest.raises(OSError, match="socket: ") as err:
        mhost.Socket(*arguments)
    assert err.value.errno == number


def test_flags_of_type_and_the_protocol_udp_are_taken():
    with mhost.Socket(mhost.AF_MHOST, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 17) as sock:
        assert not sock.getblocking()


@pytest.mark.parametrize(
    ("address", "number"),
    [
        (("10.77.1.9", 0), errno.EADDRNOTAVAIL),
        (("192.0.2.99", 0), errno.EADDRNOTAVAIL),
        (("testproto:9", 0), errno.EADDRNOTAVAIL),
        (("peer", 0), errno.EADDRNOTAVAIL),
        (("nosuch:*", 0), errno.EAFNOSUPPORT),
    ],
)
def test_an_address_that_is_not_ours_cannot_be_bound(sender, address, number):
    with pytest.raises(OSError, match="Errno") as err:
        sender.bind(address)
    assert err.value.errno == number


def test_a_socket_is_bound_once(bound):
    with pytest.raises(OSError, match="is bound to port") as err:
        bound[0].bind(("*", 0))
    assert err.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    "address", [None, "host", ("host",), ("h", 1, 2), (b"h", 1), ("h", "1")]
)
def test_an_address_that_is_no_pair_is_a_type_error(sender, address):
    with pytest.raises(TypeError, match="AF_MHOST address must be"):
        sender.sendto(b"x", address)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_out_of_range_is_an_overflow_error_as_in_the_stdlib(sender, port):
    with pytest.raises(OverflowError, match=r"not in 0\.\.65535"):
        sender.sendto(b"x", ("127.0.0.1", port))


def test_flags_that_would_send_something_else_are_refused_by_name(sender):
    with pytest.raises(OSError, match="flags 0x1 are not supported") as err:
        sender.sendto(b"x", socket.MSG_OOB, ("127.0.0.1", 9))
    assert err.value.errno == errno.EOPNOTSUPP


def test_without_a_daemon_the_error_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("MHOST_SOCKET", f"ipc://{tmp_path}/nobody.sock")
    with pytest.raises(ConnectionRefusedError, match="start it with `systemctl start mhostd`"):
        mhost.Socket()
    monkeypatch.setenv("MHOST_SOCKET", "tcp://127.0.0.1:1")
    with pytest.raises(ValueError, match="want ipc:///path"):
        mhost.Socket()


def test_a_user_outside_the_group_is_told_to_join_it(pair):
    code = """
import os, mhost, mhost.dgram
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
mhost.Socket()
"""
    pair[0].dir.parent.chmod(0o755)
    argv = [sys.executable, "-c", code]
    done = subprocess.run(argv, env=pair[0].env, capture_output=True, text=True)
    assert "PermissionError" in done.stderr
    assert "join the group mhost" in done.stderr


def test_what_is_no_buffer_is_a_type_error_as_in_the_stdlib(sender):
    for data in (5, [1, 2], "text", None):
        with pytest.raises(TypeError):
            sender.sendto(data, ("127.0.0.1", 9))


def test_sizes_that_cannot_be_lose_no_datagram(bound, sender):
    sock, port = bound
    sender.sendto(b"kept", ("127.0.0.1", port))
    with pytest.raises(ValueError, match="negative buffersize"):
        sock.recv(-1)
    with pytest.raises(ValueError, match=r"not in 0\.\.3"):
        sock.recv_into(bytearray(3), 10)
    assert sock.recv(10) == b"kept"


@pytest.mark.parametrize("zone", ["nope", "99999999999", "0", "²"])
def test_a_zone_that_is_no_interface_is_refused(sender, zone):
    with pytest.raises(OSError, match="there is no interface") as err:
        sender.sendto(b"x", (f"fe80::1%{zone}", 9))
    assert err.value.errno == errno.ENODEV
