"""Any octets as a frame: nothing raises, and every frame ends in exactly one place."""

from hypothesis import given, settings
from hypothesis import strategies as st

from mhostd.errors import DropReason, Verdict

ETHERTYPES = (0x0800, 0x86DD, 0x88B5)
TESTPROTO = bytes.fromhex("0001ffff00010002 13ed0fa0000d0000 68656c6c6f")
OTHERPROTO = bytes.fromhex("00031140") + bytes(7) + b"\1" + bytes(7) + b"\2" + TESTPROTO[8:]


def ended(node, sk):
    """How many frames ended: delivered, answered, consumed, dropped; or are held."""
    protos = [node.table.proto_named(name) for name in ("inet", "inet6")]
    ends = node.core.ends
    return {
        "delivered": sk.rx_datagrams,
        "answered": ends[Verdict.ANSWERED],
        "consumed": ends[Verdict.CONSUMED],
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


@settings(max_examples=300)
@given(
    next_headers=st.lists(st.sampled_from([0, 17, 43, 44, 58, 59, 60, 6, 255]), min_size=1),
    contents=st.binary(max_size=160),
    length=st.none() | st.integers(0, 0xFFFF),
)
def test_any_chain_of_extension_headers_ends_once(make_node, next_headers, contents, length):
    chain = b""
    for number in next_headers[1:]:
        chain += bytes((number, 0)) + contents[len(chain) : len(chain) + 6].ljust(6, b"\0")
    body = chain + contents
    node = make_node()
    us, peer = (node.locator(text).address for text in ("fd77::1", "fd77::101"))
    plen = len(body) if length is None else length
    header = b"\x60\0\0\0" + plen.to_bytes(2, "big") + bytes((next_headers[0], 64))
    one_ends_in_one_place(node, header + peer + us + body, 0x86DD)


@settings(max_examples=300)
@given(options=st.binary(max_size=40), payload=st.binary(max_size=40))
def test_any_options_end_once(make_node, options, payload):
    options += bytes(-len(options) % 4)
    node = make_node()
    us, peer = (node.locator(text).address for text in ("10.77.0.1", "10.77.0.101"))
    length = (20 + len(options) + len(payload)).to_bytes(2, "big")
    first = bytes((0x45 + len(options) // 4, 0)) + length + bytes(4)
    frame = bytearray(first + bytes((64, 17, 0, 0)) + peer + us + options + payload)
    mend(frame)
    one_ends_in_one_place(node, bytes(frame), 0x0800)
