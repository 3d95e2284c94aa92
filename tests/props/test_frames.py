"""Any octets as a frame: nothing raises, and every frame ends in exactly one place."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mhostd.errors import DropReason

ETHERTYPES = (0x0800, 0x86DD, 0x88B5)
TESTPROTO = bytes.fromhex("0001ffff00010002 13ed0fa0000d0000 68656c6c6f")
OTHERPROTO = bytes.fromhex("00031140") + bytes(7) + b"\1" + bytes(7) + b"\2" + TESTPROTO[8:]


def ended(node, sk):
    """How many frames ended: delivered, answered, consumed, dropped; or are held."""
    protos = [node.table.proto_named(name) for name in ("inet", "inet6")]
    return {
        "delivered": sk.rx_datagrams,
        "answered": sum(proto.counters["icmp_echos"] for proto in protos),
        "consumed": sum(proto.counters["icmp_errors"] for proto in protos),
        "absorbed": sum(proto.counters["ip_reasm_absorbed"] for proto in protos),
        "held": sum(handler.fragments for handler in node.reassemblies()),
        "dropped": sum(node.core.drops.values()),
    }


def one_ends_in_one_place(node, frame, ethertype):
    sk = node.socket("*", 4000)
    sk.rcvbuf = 1 << 30
    before = ended(node, sk)
    node.receive(frame, ethertype, node.core.devices["eth0"])
    after = ended(node, sk)
    assert sum(after.values()) - sum(before.values()) == 1
    assert len(sk.receive_queue) == after["delivered"]
    node.sent()  # what goes to ourselves is received here, and ends too
    assert node.lo.stats["rx_packets"] == sum(ended(node, sk).values()) - sum(after.values())


@given(frame=st.binary(min_size=1, max_size=120), ethertype=st.sampled_from(ETHERTYPES))
def test_any_octets_end_once(make_node, frame, ethertype):
    one_ends_in_one_place(make_node(), frame, ethertype)


@settings(max_examples=400)
@given(data=st.data())
def test_a_good_frame_that_was_changed_ends_once(make_node, golden, data):
    frames = [frame for name, frame in sorted(golden.items()) if frame[0] >> 4 in (4, 6)]
    frame = bytearray(data.draw(st.sampled_from([*frames, TESTPROTO, OTHERPROTO])))
    ethertype = {4: 0x0800, 6: 0x86DD}.get(frame[0] >> 4, 0x88B5)
    for _ in range(data.draw(st.integers(0, 3))):
        frame[data.draw(st.integers(0, len(frame) - 1))] = data.draw(st.integers(0, 255))
    if ethertype == 0x0800 and data.draw(st.booleans()):
        mend(frame)
    del frame[data.draw(st.integers(len(frame) - 4, len(frame))) :]
    one_ends_in_one_place(make_node(), frame, ethertype)


def mend(frame):
    """Make the header checksum right again, so that what is behind it is looked at."""
    hlen = min(4 * (frame[0] & 15), len(frame)) // 2 * 2
    frame[10:12] = b"\0\0"
    total = sum(int.from_bytes(frame[i : i + 2], "big") for i in range(0, hlen, 2))
    frame[10:12] = (~(total % 0xFFFF) & 0xFFFF).to_bytes(2, "big")


@given(data=st.data())
def test_a_frame_of_any_other_ethertype_is_for_nobody(make_node, data):
    node = make_node()
    ethertype = data.draw(st.integers(0, 0xFFFF).filter(lambda n: n not in ETHERTYPES))
    node.receive(data.draw(st.binary(min_size=1, max_size=60)), ethertype, node.tun)
    assert node.core.drops == {DropReason.UNHANDLED_PROTO: 1}
