import pytest

from mhostd.errors import MhostError

# family 1, ones, to 2, from 1; UDP 4000 > 5101, 13 octets, ~(0fa0+13ed+000d+6865+6c6c+6f00)
GOLDEN = bytes.fromhex("0001ffff00020001 0fa013ed000d 9893 68656c6c6f")


@pytest.fixture
def eth0(node):
    return node.core.devices["eth0"]


def test_what_goes_out_is_the_picture_in_the_source(node, eth0):
    node.sendto(node.socket("*", 4000), b"hello", "testproto:2", 5101)
    assert node.sent(eth0) == [GOLDEN]


def test_what_one_node_writes_another_one_delivers(make_node):
    there = make_node(2)
    sk = there.socket("testproto:2", 5101)
    there.receive(GOLDEN)
    assert there.received(sk) == [(b"hello", "testproto:1", 4000)]
    assert sk.rx_datagrams == 1


def test_it_goes_out_with_its_ethertype_and_by_broadcast_while_nobody_is_known(node, eth0):
    node.sendto(node.socket(), b"hello", "testproto:2", 5101)
    (skb,) = eth0.tx_queue
    assert (skb.protocol, skb.lladdr) == (0x88B5, b"")


def test_where_a_neighbour_is_is_learned_from_its_frames(make_node):
    there = make_node(2)
    eth0 = there.core.devices["eth0"]
    there.receive(GOLDEN, lladdr=b"\2\0\0\0\0\1")
    assert eth0.neigh_lookup(1, b"\0\1") == b"\2\0\0\0\0\1"
    there.sendto(there.socket(), b"hello", "testproto:1", 4000)
    assert [skb.lladdr for skb in eth0.tx_queue] == [b"\2\0\0\0\0\1"]


def test_nothing_is_learned_from_a_frame_for_another(node, eth0):
    node.receive(GOLDEN, lladdr=b"\2\0\0\0\0\1")  # to 2, and we are 1
    assert (node.drops, len(eth0.learned)) == ({"OTHERHOST": 1}, 0)


def test_a_configured_neighbour_is_asked_for_by_its_address(make_node, config_text):
    config = config_text().replace(
        'device = "eth0"\n',
        'device = "eth0"\nneighbours = {{ "testproto:2" = "02:00:00:00:00:0A" }}\n',
        1,
    )
    node = make_node(1, config=config)
    node.sendto(node.socket(), b"hello", "testproto:2", 5101)
    (skb,) = node.core.devices["eth0"].tx_queue
    assert skb.lladdr == b"\2\0\0\0\0\x0a"


def test_a_datagram_without_checksum_is_let_in(node):
    sk = node.socket("*", 4000)
    node.receive(bytes.fromhex("0001ffff00010002 13ed0fa0000a0000 6869"))
    assert node.received(sk) == [(b"hi", "testproto:2", 5101)]


def test_the_handler_is_down_with_its_device(node, eth0):
    proto = node.table.proto_named("testproto")
    assert (proto.up(), proto.device, proto.mtu()) == (True, "eth0", 1492)
    eth0.up = False
    assert not proto.up()
    with pytest.raises(MhostError, match="device eth0 is down"):
        node.sendto(node.socket(), b"hello", "testproto:2", 7)
