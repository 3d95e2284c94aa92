"""mhost_translate_sa: from a destination to a protocol and a locator, at a given time."""

import copy
import errno

import pytest

from mhostd.errors import HostUnresolvedError, MhostError
from mhostd.faults import FAULTS_MAX
from mhostd.sock import Heard, Locator
from mhostd.uapi import AF_INET, AF_INET6, AF_MHOST, AF_UNSPEC, SockaddrMhost

NAMES = ["testproto", "otherproto", "inet", "inet6"]  # robot's locators in their order


@pytest.fixture
def translate(node):
    def translate(text="robot", now=0.0, usable=lambda _proto: True, heard=None):
        proto, _sa = node.table.mhost_translate_sa(node.sa(text, 7), now, usable, heard)
        return proto.name

    return translate


@pytest.fixture
def robot(node):
    return node.table.hosts["robot"].bound


def test_a_name_becomes_its_first_locator_with_the_port(node):
    proto, sa = node.table.mhost_translate_sa(node.sa("robot", 7), 0.0)
    assert (proto.name, sa) == ("testproto", SockaddrMhost(1, 7, b"\0\2"))


def test_the_scope_of_a_locator_goes_with_it(node):
    link_local = bytes.fromhex("fe80") + bytes(13) + b"\1"
    node.stack.l3_unregister("inet6")
    handler = node.stack.handlers["inet6"]
    node.table.mhost_register_proto(handler.proto, [(bytes(16), 0)])
    node.table.insert_sockaddr_id("cat", [Locator(AF_INET6, link_local, 3)])
    _proto, sa = node.table.mhost_translate_sa(node.sa("cat", 7), 0.0)
    assert sa == SockaddrMhost(AF_INET6, 7, link_local, 0, 3)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("10.77.0.9", "inet"),
        ("10.78.255.255", "inet"),
        ("fd77::9", "inet6"),
        ("testproto:9", "testproto"),
        ("otherproto:0:0:0:9", "otherproto"),
    ],
)
def test_a_named_family_is_left_as_it_is_and_selects_the_protocol(node, text, name):
    sa = node.sa(text, 7)
    proto, locator = node.table.mhost_translate_sa(sa, 0.0)
    assert (proto.name, locator) == (name, sa)


def test_an_address_with_padding_is_cut_to_its_family(node):
    padded = SockaddrMhost(AF_INET, 7, bytes((10, 77, 0, 9)) + bytes(12))
    assert node.table.mhost_translate_sa(padded, 0.0)[1].address == bytes((10, 77, 0, 9))


def test_a_locator_that_failed_is_passed_over_until_its_time_has_come(node, translate, robot):
    node.table.faults.failed(robot[0], errno.ENETDOWN, 10.0)
    assert [translate(now=now) for now in (10.0, 10.999, 11.0)] == [
        "otherproto",
        "otherproto",
        "testproto",
    ]


def test_the_next_one_in_order_is_used_each_time_one_fails(node, translate, robot):
    seen = []
    for locator in robot:
        seen.append(translate(now=5.0))
        node.table.faults.failed(locator, errno.EHOSTUNREACH, 5.0)
    assert seen == NAMES


def test_each_further_failure_doubles_the_time_up_to_thirty_seconds(node, robot):
    now, pauses = 0.0, []
    for _ in range(8):
        node.table.faults.failed(robot[0], errno.ENETDOWN, now)
        retry_s = node.table.faults[robot[0], 0].retry_s
        pauses.append(retry_s - now)
        now = retry_s
    assert pauses == [1, 2, 4, 8, 16, 30, 30, 30]


def test_a_burst_of_errors_counts_once(node, robot):
    for _ in range(100):
        node.table.faults.failed(robot[0], errno.ENETDOWN, 0.5)
    assert node.table.faults[robot[0], 0].retry_s == 1.5


def test_a_locator_that_is_heard_from_works_again_at_once(node, translate, robot):
    node.table.faults.failed(robot[0], errno.ENETDOWN, 0.0)
    node.table.faults.heard(robot[0], 7)
    assert translate(now=0.1) == "testproto"
    node.table.faults.failed(robot[0], errno.ENETDOWN, 0.1)
    assert node.table.faults[robot[0], 0].backoff_s == 1  # from the beginning


def test_if_all_failed_the_one_whose_time_comes_first_is_used(node, translate, robot):
    for locator, now in zip(robot, (3.0, 1.0, 2.0, 4.0), strict=True):
        node.table.faults.failed(locator, errno.ENETDOWN, now)
    assert translate(now=1.5) == "otherproto"


def test_a_closed_port_is_passed_over_and_the_other_ports_are_not(node, robot):
    node.table.faults.failed(robot[0], errno.ECONNREFUSED, 0.0, port=7)

    def name(port, now=0.5):
        return node.table.mhost_translate_sa(node.sa("robot", port), now)[0].name

    assert (name(7), name(8), name(7, now=1.0)) == ("otherproto", "testproto", "testproto")


def test_who_is_heard_from_one_port_has_that_port_and_his_host_forgiven(node, robot):
    for port in (0, 7, 8):
        node.table.faults.failed(robot[0], errno.EHOSTUNREACH, 0.0, port)
    node.table.faults.heard(robot[0], 7)
    assert list(node.table.faults) == [(robot[0], 8)]


def test_faults_are_bounded_and_the_oldest_is_forgotten(node, robot):
    for port in range(FAULTS_MAX + 1):
        node.table.faults.failed(robot[0], errno.ECONNREFUSED, 0.0, port)
    assert len(node.table.faults) == FAULTS_MAX
    assert (robot[0], 0) not in node.table.faults


def test_what_has_just_refused_comes_last_whatever_its_time(node, robot):
    for locator in robot[1:]:
        node.table.faults.failed(locator, errno.ENETDOWN, 5.0)
    proto, _sa = node.table.mhost_translate_sa(node.sa("robot", 7), 5.0, tried={robot[0]})
    assert proto.name == "otherproto"


def test_what_the_socket_cannot_use_is_passed_over(translate):
    assert translate(usable=lambda proto: proto.name == "inet6") == "inet6"


def test_a_locator_without_a_handler_is_passed_over(node, translate):
    node.stack.l3_unregister("testproto")
    assert translate() == "otherproto"


def test_an_answer_goes_back_the_way_the_question_came(node, translate, robot):
    inet = node.table.proto_number("inet")
    assert translate(heard=Heard(robot[2], inet)) == "inet"


def test_an_answer_takes_another_way_where_that_one_gave_an_error(node, translate, robot):
    heard = Heard(robot[2], node.table.proto_number("inet"))
    node.table.faults.failed(robot[2], errno.EHOSTUNREACH, 0.0)
    assert translate(now=0.5, heard=heard) == "testproto"


def test_an_answer_to_an_address_goes_over_the_l3_that_it_came_over(kernel_node):
    node = kernel_node
    sa = node.sa("10.77.0.9", 7)
    locator = Locator(AF_INET, sa.address)
    kernel_inet = node.table.proto_number("host_inet")
    assert node.table.mhost_translate_sa(sa, 0.0)[0].name == "inet"
    heard = Heard(locator, kernel_inet)
    assert node.table.mhost_translate_sa(sa, 0.0, heard=heard)[0].name == "host_inet"
    node.stack.l3_unregister("host_inet")
    assert node.table.mhost_translate_sa(sa, 0.0, heard=heard)[0].name == "inet"


def test_translation_changes_nothing(node, robot):
    node.table.faults.failed(robot[0], errno.ENETDOWN, 0.0)
    faults, hosts = copy.deepcopy(node.table.faults), copy.deepcopy(node.table.hosts)
    for now in (0.0, 0.5, 100.0):
        node.table.mhost_translate_sa(node.sa("robot", 7), now)
    assert (node.table.faults, node.table.hosts) == (faults, hosts)


def test_a_name_that_nobody_bound_is_for_the_resolver(node):
    handle = node.table.mhost_hold("cat").handle
    with pytest.raises(HostUnresolvedError) as err:
        node.table.mhost_translate_sa(SockaddrMhost(AF_MHOST, 7, b"", handle), 0.0)
    assert (err.value.errno, err.value.name) == (errno.EHOSTUNREACH, "cat")


def test_a_name_that_the_resolver_does_not_know_is_unreachable(node):
    host = node.table.mhost_hold("cat")
    host.resolved = []
    with pytest.raises(MhostError, match="mhostctl hosts add cat") as err:
        node.table.mhost_translate_sa(SockaddrMhost(AF_MHOST, 7, b"", host.handle), 0.0)
    assert err.value.errno == errno.EHOSTUNREACH
    assert not isinstance(err.value, HostUnresolvedError)


def test_what_the_resolver_said_is_used(node):
    host = node.table.mhost_hold("cat")
    host.resolved = [Locator(AF_INET, bytes((10, 77, 0, 9)))]
    assert node.table.mhost_translate_sa(node.sa("cat", 7), 0.0)[0].name == "inet"


@pytest.mark.parametrize(
    ("sa", "err", "why"),
    [
        (SockaddrMhost(AF_UNSPEC, 7), errno.EAFNOSUPPORT, "AF_UNSPEC names no destination"),
        (SockaddrMhost(99, 7, b"x"), errno.EAFNOSUPPORT, "no L3 handler for family 99"),
        (SockaddrMhost(AF_INET, 7, b"abc"), errno.EINVAL, "3 octets; family 2 .* has 4"),
        (SockaddrMhost(AF_INET6, 7, b""), errno.EINVAL, "0 octets; family 10"),
        (SockaddrMhost(AF_INET, 7, bytes(4)), errno.ENETUNREACH, "no L3 handler for 0.0.0.0"),
        (SockaddrMhost(AF_MHOST, 7, b"", 99), errno.EHOSTUNREACH, "handle 99 names no host"),
    ],
)
def test_what_cannot_be_translated_says_why(node, sa, err, why):
    with pytest.raises(MhostError, match=why) as raised:
        node.table.mhost_translate_sa(sa, 0.0)
    assert raised.value.errno == err


@pytest.mark.parametrize("text", ["robot", "testproto:2"])
def test_a_socket_that_is_bound_elsewhere_is_told_so(translate, text):
    with pytest.raises(MhostError, match=r"bind to '\*' to send over every L3") as err:
        translate(text, usable=lambda _proto: False)
    assert err.value.errno == errno.ENETUNREACH
