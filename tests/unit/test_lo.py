from mhostd.dev import NetCore
from mhostd.lo import Loopback
from mhostd.skb import SkBuff
from mhostd.structs import PacketType


def test_what_is_sent_on_lo_is_received_with_its_ethertype():
    core, got = NetCore(), []
    lo = Loopback(core)
    core.dev_add_pack(PacketType(0x88B5, lambda skb: got.append((bytes(skb.data), skb.dev))))
    skb = SkBuff.alloc(b"hello")
    skb.protocol = 0x88B5
    core.dev_queue_xmit(lo, skb)
    assert got == []
    core.flush()
    assert got == [(b"hello", "lo")]
    assert +lo.stats == {"tx_packets": 1, "tx_bytes": 5, "rx_packets": 1, "rx_bytes": 5}


def test_what_a_frame_on_lo_causes_goes_out_in_the_same_flush():
    core, left = NetCore(), [3]
    lo = Loopback(core)

    def again(skb):
        left[0] -= 1
        if left[0]:
            core.dev_queue_xmit(lo, SkBuff.alloc(bytes(skb.data)))

    core.dev_add_pack(PacketType(0, again))
    core.dev_queue_xmit(lo, SkBuff.alloc(b"ball"))
    core.flush()
    assert left == [0]
    assert lo.tx_queue == []


def test_a_datagram_to_ourselves_never_leaves_the_host(node):
    sk = node.socket("*", 4000)
    for text in ("10.77.0.1", "fd77::1", "testproto:1", "otherproto:0:0:0:1"):
        node.sendto(sk, b"hello", text, 4000)
    assert [node.sent(dev) for dev in (node.tun, *node.ethernet)] == [[], [], []]
    assert [host for _payload, host, _port in node.received(sk)] == [
        "10.77.0.1",
        "fd77::1",
        "testproto:1",
        "otherproto:0:0:0:1",
    ]
