"""mhost_init and what is done to a stack afterwards."""

import pytest

from mhostd.config import ConfigError, parse_config
from mhostd.errors import MhostError
from mhostd.init import bind_hosts, read_hosts
from mhostd.uapi import SockaddrMhost


def hosts(node):
    """Every name with its locators as text."""

    def text(locator):
        return node.table.mhost_ntop(SockaddrMhost(locator.family, 0, locator.address))

    return {name: list(map(text, host.bound)) for name, host in node.table.hosts.items()}


def bind(node, text, instead_of=""):
    """Bind the names of one configuration instead of those of another."""
    new, old = (
        read_hosts(node.table, parse_config(f"[hosts]\n{hosts}"))
        for hosts in (text, instead_of)
    )
    bind_hosts(node.stack, new, old)


def test_every_layer_of_the_configuration_is_there(node):
    assert list(node.core.devices) == ["lo", "mhost0", "eth0", "eth1"]
    assert [(p.name, p.device) for p in node.table.protos.values()] == [
        ("inet", "mhost0"),
        ("inet6", "mhost0"),
        ("testproto", "eth0"),
        ("otherproto", "eth1"),
    ]
    assert list(node.stack.handlers) == ["inet", "inet6", "testproto", "otherproto"]


def test_two_stacks_share_nothing(make_node):
    first, second = make_node(1), make_node(1)
    first.socket("*", 4000)
    second.socket("*", 4000)
    first.stack.l3_set("inet", up=False)
    assert second.table.proto_named("inet") is not None


def test_a_plug_in_without_a_device_leaves_over_ethernet_or_the_tun(make_node):
    alone = "[l3.testproto]\naddress = '{n}'"
    assert make_node(config=alone).table.proto_named("testproto").device == "mhost0"
    both = alone + "\n[[ethernet]]\ndevice = 'eth7'"
    assert make_node(config=both).table.proto_named("testproto").device == "eth7"


def test_a_plug_in_on_lo_talks_to_itself(make_node):
    node = make_node(config="[l3.testproto]\naddress = '{n}'\ndevice = 'lo'")
    sk = node.socket("*", 4000)
    node.sendto(sk, b"hello", "testproto:1", 4000)
    node.sent()
    assert node.received(sk) == [(b"hello", "testproto:1", 4000)]


def test_new_names_take_the_place_of_the_old_ones(node):
    old = "cat = ['testproto:7', '10.77.0.7']\ndog = ['testproto:8']"
    new = "cat = ['testproto:9']\ncow = ['10.77.0.9']"
    bind(node, old)
    bind(node, new, old)
    assert hosts(node) == {
        "robot": ["testproto:2", "otherproto:0:0:0:2", "10.77.0.2", "fd77::2"],
        "cat": ["testproto:9"],
        "cow": ["10.77.0.9"],
    }


def test_what_was_added_by_hand_stays_behind_what_is_new(node):
    old, new = ("cat = ['testproto:7']"), ("cat = ['testproto:9']")
    bind(node, old)
    node.table.insert_sockaddr_id("cat", [node.locator("10.77.0.7")])
    bind(node, new, old)
    assert hosts(node)["cat"] == ["testproto:9", "10.77.0.7"]


def test_a_handle_that_is_held_outlives_a_reload(node):
    old = "cat = ['testproto:7']"
    bind(node, old)
    handle = node.table.mhost_hold("cat").handle
    bind(node, "cat = ['testproto:9']", old)
    assert node.table.hosts["cat"].handle == handle


def test_one_wrong_name_and_nothing_is_changed(node):
    old = "cat = ['testproto:7']"
    bind(node, old)
    before = hosts(node)
    with pytest.raises(ConfigError, match=r"hosts\.dog\[0\]: "):
        bind(node, "cat = ['testproto:9']\ndog = ['nowhere:1']", old)
    assert hosts(node) == before


def test_a_socket_bound_to_one_kernel_address_is_bound_there_again(kernel_node, kernel):
    sk = kernel_node.socket("192.0.2.1")
    port = sk.sport
    kernel_node.stack.l3_set("host_inet", False)
    assert kernel.bound == {}
    assert kernel_node.stack.l3_set("host_inet", True) == []
    ((place, again),) = kernel.bound[sk, 2]
    assert (place.address, again) == (bytes.fromhex("c0000201"), port)


def test_a_handler_whose_ethertype_is_taken_is_not_half_registered(node):
    node.stack.l3_unregister("inet")
    handler = node.stack.handlers["inet"]
    node.core.dev_add_pack(handler.ptype)
    with pytest.raises(MhostError, match="EtherType"):
        node.stack.l3_register(handler)
    assert node.table.proto_named("inet") is None
