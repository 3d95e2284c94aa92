import pytest

from mhostd.l3.otherproto import otherproto_csum_pseudo

US, PEER = bytes(7) + b"\1", bytes(7) + b"\2"
HEADER = bytes.fromhex("00031140") + PEER + US  # family 3, next UDP, 64 hops, to 2, from 1
PSEUDO = US + PEER + bytes.fromhex("000d0011")


@pytest.fixture
def eth1(node):
    return node.core.devices["eth1"]


def check(octets):
    """RFC 1071 section 4.1, word by word: nothing of ours."""
    total = 0
    for i in range(0, len(octets), 2):
        total += int.from_bytes(octets[i : i + 2].ljust(2, b"\0"), "big")
        total = (total & 0xFFFF) + (total >> 16)
    return (~total & 0xFFFF).to_bytes(2, "big")


UDP = bytes.fromhex("0fa013ed000d")
GOLDEN = HEADER + UDP + check(PSEUDO + UDP + b"\0\0hello") + b"hello"


def test_what_goes_out_is_the_picture_in_the_source(node, eth1):
    node.sendto(node.socket("*", 4000), b"hello", "otherproto:0:0:0:2", 5101)
    assert node.sent(eth1) == [GOLDEN]


def test_what_one_node_writes_another_one_delivers(make_node):
    there = make_node(2)
    sk = there.socket("otherproto:0:0:0:2", 5101)
    there.receive(GOLDEN, dev=there.core.devices["eth1"], lladdr=b"\2\0\0\0\0\1")
    assert there.received(sk) == [(b"hello", "otherproto:0:0:0:1", 4000)]
    assert there.core.devices["eth1"].neigh_lookup(3, US) == b"\2\0\0\0\0\1"


def test_the_pseudo_header_covers_addresses_length_and_protocol():
    assert (~otherproto_csum_pseudo(US, PEER, 13) & 0xFFFF).to_bytes(2, "big") == check(PSEUDO)
    assert otherproto_csum_pseudo(US, PEER, 13) != otherproto_csum_pseudo(US, PEER, 14)


def test_an_address_on_the_way_that_changed_is_noticed(make_node):
    there = make_node(2)
    there.socket("*", 5101)
    forged = bytearray(GOLDEN)
    forged[19] = 9  # the last octet of saddr
    there.receive(forged, dev=there.core.devices["eth1"])
    assert there.drops == {"UDP_CSUM": 1}


def test_the_two_plug_ins_are_told_apart_by_the_family_alone(make_node):
    there = make_node(2)
    there.socket("*", 5101)
    there.receive(GOLDEN)  # over eth0, which is testproto's
    assert there.drops == {}
    assert there.table.mhost_route(3, US).mtu() == 1480
