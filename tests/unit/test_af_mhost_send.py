"""mhost_sendmsg: which locator takes a datagram, and what is said if none does."""

import errno

import pytest

from mhostd.af_mhost import LOCATOR_ERRNOS, PORT_ERRNOS, SOURCE_ERRNOS
from mhostd.errors import HostUnresolvedError, MhostError
from mhostd.uapi import AF_MHOST, SockaddrMhost

ORDER = ["eth0", "eth1", "mhost0", "mhost0"]  # the devices of robot's locators


@pytest.fixture
def sent_on(node):
    """Names of the devices that have something to write, and forget it."""
    return lambda: [dev.name for dev in node.core.devices.values() if node.sent(dev)]


def test_the_first_send_binds_everywhere(node):
    sk = node.socket()
    node.sendto(sk, b"hello", "robot", 7)
    assert sk.sport >= 49152
    assert sk.bound is None
    assert node.af_mhost.mhost_getname(sk, peer=False) == SockaddrMhost(AF_MHOST, sk.sport)


def test_the_port_stays_whichever_l3_carries_it(node, sent_on):
    sk = node.socket()
    for text in ("testproto:2", "otherproto:0:0:0:2", "10.77.0.2"):
        node.sendto(sk, b"hello", text, 7)
    ports = {
        int.from_bytes(frame[at : at + 2], "big")
        for dev, at in (("eth0", 8), ("eth1", 20), ("mhost0", 20))
        for frame in node.sent(node.core.devices[dev])
    }
    assert ports == {sk.sport}
    assert sk.tx_datagrams == 3


@pytest.mark.parametrize("down", range(3))
def test_a_locator_that_refuses_is_passed_over_in_the_same_call(node, sent_on, down):
    for name in ORDER[:down]:
        node.core.devices[name].up = False
    node.sendto(node.socket(), b"hello", "robot", 7)
    assert sent_on() == [ORDER[down]]
    assert [fault.errno for fault in node.table.faults.values()] == [errno.ENETDOWN] * down


def test_if_every_locator_refuses_the_last_one_says_why(node, sent_on):
    sk = node.socket()
    for name in ORDER:
        node.core.devices[name].up = False
    with pytest.raises(MhostError, match="device mhost0 is down") as err:
        node.sendto(sk, b"hello", "robot", 7)
    assert err.value.errno == errno.ENETDOWN
    assert (sent_on(), sk.tx_datagrams, len(node.table.faults)) == ([], 0, 4)


def test_one_that_failed_before_is_tried_when_the_others_refuse(node, sent_on):
    """Its time has not come, yet it is better than nothing."""
    for _ in range(3):
        node.table.faults.failed(node.locator("testproto:2"), errno.ENETDOWN, node.now)
        node.now += 4
    for name in ("eth1", "mhost0"):
        node.core.devices[name].up = False
    node.table.faults.failed(node.locator("testproto:2"), errno.ENETDOWN, node.now)
    node.sendto(node.socket(), b"hello", "robot", 7)
    assert sent_on() == ["eth0"]


def test_what_is_wrong_with_the_datagram_is_no_fault_of_the_locator(node, sent_on):
    with pytest.raises(MhostError) as err:
        node.sendto(node.socket(), bytes(1490), "robot", 7)
    assert err.value.errno == errno.EMSGSIZE
    assert (node.table.faults, sent_on()) == ({}, [])


def test_an_address_that_refuses_is_not_replaced_by_another(node, sent_on):
    node.core.devices["eth0"].up = False
    with pytest.raises(MhostError, match="device eth0 is down"):
        node.sendto(node.socket(), b"hello", "testproto:2", 7)
    assert sent_on() == []
    assert list(node.table.faults) == [(node.locator("testproto:2"), 0)]


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_translation_learns_from_what_speaks_of_the_locator(node, number):
    sa = node.sa("testproto:2", 7)
    node.af_mhost.mhost_err(sa, MhostError(number, "an ICMP error, say"), node.now)
    learned = [0] * (number in LOCATOR_ERRNOS - SOURCE_ERRNOS) + [7] * (number in PORT_ERRNOS)
    assert list(node.table.faults) == [(node.locator("testproto:2"), port) for port in learned]


def test_an_error_of_the_datagram_itself_is_none_of_a_locator():
    refused = {errno.EMSGSIZE, errno.EINVAL, errno.EPIPE, errno.EAGAIN, errno.ENOBUFS}
    assert not refused & (LOCATOR_ERRNOS | PORT_ERRNOS)
    assert {errno.ENETDOWN, errno.EHOSTUNREACH} <= LOCATOR_ERRNOS
    assert {errno.ECONNREFUSED, errno.ENOPROTOOPT} == PORT_ERRNOS


def test_the_send_buffer_bounds_one_datagram(node):
    sk = node.socket()
    sk.sndbuf = 100
    node.sendto(sk, bytes(100), "robot", 7)
    with pytest.raises(MhostError, match="payload of 101 octets exceeds 100") as err:
        node.sendto(sk, bytes(101), "robot", 7)
    assert err.value.errno == errno.EMSGSIZE


def test_a_refused_send_does_not_bind(node):
    sk = node.socket()
    for text, port in (("robot", 0), ("198.51.100.1", 7)):
        with pytest.raises(MhostError):
            node.sendto(sk, b"hello", text, port)
    assert sk.sport == 0


def test_a_name_that_nobody_knows_asks_the_resolver_and_sends_nothing(node, sent_on):
    node.table.mhost_hold("cat")
    with pytest.raises(HostUnresolvedError):
        node.sendto(node.socket(), b"hello", "cat", 7)
    assert sent_on() == []


@pytest.mark.parametrize(
    "sa", [None, SockaddrMhost(AF_MHOST, 7), SockaddrMhost(AF_MHOST)], ids=str
)
def test_nowhere_and_everywhere_are_no_destination(node, sa):
    with pytest.raises(MhostError) as err:
        node.af_mhost.mhost_sendmsg(node.socket(), b"", sa, node.now)
    assert err.value.errno == errno.EDESTADDRREQ


def test_a_bound_socket_sends_over_what_it_is_bound_to(node, sent_on):
    sk = node.socket("10.77.0.1")
    node.sendto(sk, b"hello", "robot", 7)
    assert sent_on() == ["mhost0"]


def test_who_has_called_is_answered_the_way_he_came(node, make_node, sent_on):
    there = make_node(2)
    there.sendto(there.socket("*", 5101), b"who?", "10.77.0.1", 4000)
    sk = node.socket("*", 4000)
    node.receive(*there.sent())
    node.sendto(sk, b"me", "robot", 5101)
    assert sent_on() == ["mhost0"]  # and not eth0, which comes first
    node.sendto(sk, b"another port, another caller", "robot", 5102)
    assert sent_on() == ["eth0"]


def test_whom_we_called_first_is_sent_to_by_the_best_way(node, make_node, sent_on):
    there = make_node(2)
    sk = node.socket("*", 4000)
    node.sendto(sk, b"hello", "robot", 5101)
    assert sent_on() == ["eth0"]
    there.sendto(there.socket("*", 5101), b"an answer", "10.77.0.1", 4000)
    node.receive(*there.sent())
    node.sendto(sk, b"more", "robot", 5101)
    assert sent_on() == ["eth0"]


def test_a_caller_whose_way_breaks_is_answered_another_way(node, make_node, sent_on):
    there = make_node(2)
    there.sendto(there.socket("*", 5101), b"who?", "10.77.0.1", 4000)
    sk = node.socket("*", 4000)
    node.receive(*there.sent())
    node.tun.up = False
    node.sendto(sk, b"me", "robot", 5101)
    assert sent_on() == ["eth0"]
