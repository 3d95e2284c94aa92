"""One datagram through every layer, down and up, over each L3 (DESIGN 3.1 and 3.2)."""

import pytest

from mhostd.errors import DropReason
from mhostd.uapi import SockaddrMhost

WAYS = [
    ("10.77.0.2", "mhost0", "inet", "10.77.0.1", 0x0800),
    ("fd77::2", "mhost0", "inet6", "fd77::1", 0x86DD),
    ("testproto:2", "eth0", "testproto", "testproto:1", 0x88B5),
    ("otherproto:0:0:0:2", "eth1", "otherproto", "otherproto:0:0:0:1", 0x88B5),
]


@pytest.mark.parametrize(("to", "device", "l3", "source", "ethertype"), WAYS)
def test_a_datagram_arrives_and_its_source_can_be_answered(
    make_node, to, device, l3, source, ethertype
):
    here, there = make_node(1), make_node(2)
    client, server = here.socket(), there.socket("*", 5101)

    here.sendto(client, b"question", to, 5101)
    (skb,) = here.core.devices[device].tx_queue
    assert skb.protocol == ethertype
    there.receive(*here.sent(here.core.devices[device]), dev=there.core.devices[device])

    payload, sa, number, *_ = server.receive_queue[0]
    assert payload == b"question"
    assert there.table.protos[number].name == l3
    assert there.received(server) == [(b"question", source, client.sport)]

    there.af_mhost.mhost_sendmsg(server, b"answer", sa, there.now)
    here.receive(*there.sent(there.core.devices[device]), dev=here.core.devices[device])
    assert here.received(client) == [(b"answer", to, 5101)]
    assert here.drops == there.drops == {}


def test_an_answer_to_a_host_by_its_handle_goes_to_the_host(make_node):
    here, there = make_node(1), make_node(2)
    there.table.insert_sockaddr_id("base", [there.locator("testproto:1")])
    client, server = here.socket(), there.socket("*", 5101)
    here.sendto(client, b"question", "robot", 5101)
    there.receive(*here.sent(here.core.devices["eth0"]))
    _payload, source, *_ = server.receive_queue[0]
    base = there.table.hosts["base"]
    assert source.id_no == base.handle
    by_name = SockaddrMhost(27, source.port, b"", source.id_no)
    there.af_mhost.mhost_sendmsg(server, b"answer", by_name, there.now)
    here.receive(*there.sent(there.core.devices["eth0"]))
    assert here.received(client) == [(b"answer", "testproto:2", 5101)]


def test_every_device_counts_what_it_received(node, golden):
    node.receive(golden["udp4"])
    node.receive(golden["router_solicitation"])
    octets = len(golden["udp4"]) + len(golden["router_solicitation"])
    assert (node.tun.stats["rx_packets"], node.tun.stats["rx_bytes"]) == (2, octets)
    assert node.core.drops == {DropReason.NO_SOCKET: 1, DropReason.OTHERHOST: 1}
