"""Multicast belongs to the host kernel's INET and INET6: join, leave, loop, TTL, interface."""

import json
import socket
import struct

import pytest

GROUPS = {
    4: ("239.1.2.3", socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.IP_DROP_MEMBERSHIP),
    6: ("ff05::123", socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.IPV6_LEAVE_GROUP),
}


@pytest.fixture(scope="module")
def eth0(pair):
    """The index of eth0 in the daemon's namespace."""
    (link,) = json.loads(pair[0].run("ip", "-j", "link", "show", "eth0").stdout)
    return link["ifindex"]


def membership(version, group, ifindex):
    if version == 4:
        return struct.pack("4s4si", socket.inet_aton(group), bytes(4), ifindex)
    return socket.inet_pton(socket.AF_INET6, group) + struct.pack("i", ifindex)


@pytest.mark.parametrize("version", GROUPS)
@pytest.mark.parametrize("early", [True, False], ids=["before bind", "after bind"])
def test_a_group_is_heard_until_it_is_left(make_socket, eth0, version, early):
    group, level, join, leave = GROUPS[version]
    receiver, sender = make_socket(), make_socket()
    if early:
        receiver.setsockopt(level, join, membership(version, group, eth0))
    receiver.bind(("*", 0))
    if not early:
        receiver.setsockopt(level, join, membership(version, group, eth0))
    receiver.setsockopt(level, 49 if version == 4 else 29, 0)  # IP(V6)_MULTICAST_ALL
    if version == 4:
        where = struct.pack("4s4si", bytes(4), bytes(4), eth0)
        sender.setsockopt(level, socket.IP_MULTICAST_IF, where)
        sender.setsockopt(level, socket.IP_MULTICAST_TTL, 3)
        receiver.setsockopt(level, 12, 1)  # IP_RECVTTL
    else:
        sender.setsockopt(level, socket.IPV6_MULTICAST_IF, eth0)
        sender.setsockopt(level, socket.IPV6_MULTICAST_HOPS, 3)
        receiver.setsockopt(level, socket.IPV6_RECVHOPLIMIT, 1)
    port = receiver.getsockname()[1]

    sender.sendto(b"to all", (group, port))
    payload, ancdata, _flags, _source = receiver.recvmsg(20, 100)
    assert payload == b"to all"
    assert [data[:1] for _level, _type, data in ancdata] == [b"\x03"]

    receiver.setsockopt(level, leave, membership(version, group, eth0))
    sender.sendto(b"to nobody", (group, port))
    sender.sendto(b"to one", ("127.0.0.1" if version == 4 else "::1", port))
    assert receiver.recv(20) == b"to one"


def test_joining_twice_and_leaving_what_was_not_joined_are_errors(make_socket, eth0):
    sock = make_socket()
    request = (socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, membership(4, "239.1.2.4", eth0))
    sock.setsockopt(*request)
    with pytest.raises(OSError, match="in use"):
        sock.setsockopt(*request)
    with pytest.raises(OSError, match="assign requested address"):
        sock.setsockopt(
            socket.IPPROTO_IP, socket.IP_DROP_MEMBERSHIP, membership(4, "239.1.2.5", eth0)
        )
