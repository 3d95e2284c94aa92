import errno

import pytest

from mhostd.errors import MhostError
from mhostd.ipc.admin import Admin
from mhostd.uapi import HostsAdd, HostsDel, L3Set


@pytest.fixture
def admin(node):
    return Admin(node.table, node.stack.l3_set)


def test_a_name_is_bound_and_bound_further(node, admin):
    admin(HostsAdd(1, "cat", ["testproto:7"]))
    admin(HostsAdd(1, "cat", ["10.77.0.7", "testproto:7"]))
    assert node.table.hosts["cat"].bound == [
        node.locator("testproto:7"),
        node.locator("10.77.0.7"),
    ]


def test_a_name_is_unbound_in_part_or_whole(node, admin):
    admin(HostsDel(1, "robot", ["testproto:2", "testproto:2", "fd77::2"]))
    assert len(node.table.hosts["robot"].bound) == 2
    admin(HostsDel(1, "robot", []))
    assert "robot" not in node.table.hosts


@pytest.mark.parametrize(
    ("request_", "err"),
    [
        (HostsAdd(1, "cat", ["testproto:7", "ipx:1"]), errno.EAFNOSUPPORT),
        (HostsAdd(1, "cat", ["testproto:7", "testproto:*"]), errno.EINVAL),
        (HostsAdd(1, "no name", ["testproto:7"]), errno.EINVAL),
        (HostsDel(1, "cat", []), errno.ENOENT),
        (HostsDel(1, "robot", ["testproto:2", "testproto:9"]), errno.ENOENT),
        (L3Set(1, "ipx", up=True), errno.ENOENT),
        (L3Set(1, "inet", up=True), errno.EEXIST),
    ],
)
def test_what_is_wrong_is_refused_and_changes_nothing(node, admin, request_, err):
    before = [*node.table.hosts["robot"].bound]
    with pytest.raises(MhostError) as raised:
        admin(request_)
    assert raised.value.errno == err
    assert list(node.table.hosts) == ["robot"]
    assert node.table.hosts["robot"].bound == before


def test_a_handler_is_removed_and_registered(node, admin):
    admin(L3Set(1, "testproto", up=False))
    assert node.table.proto_named("testproto") is None
    admin(L3Set(1, "testproto", up=True))
    assert node.table.proto_named("testproto") is not None


def test_a_socket_that_could_not_be_bound_there_is_named_in_the_log(
    kernel_node, kernel, caplog
):
    admin = Admin(kernel_node.table, kernel_node.stack.l3_set)
    sk = kernel_node.socket("*", 4000)
    admin(L3Set(1, "host_inet", up=False))
    kernel.taken.add(4000)
    admin(L3Set(1, "host_inet", up=True))
    assert f"not under socket {sk.number}" in caplog.text
