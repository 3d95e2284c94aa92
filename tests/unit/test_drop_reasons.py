"""Every DropReason occurs, through the device, and is counted exactly once."""

import errno

import pytest

from mhostd.dev import ETH_P_MHOST, NetDevice
from mhostd.errors import DropReason
from mhostd.l3.reassembly import DATAGRAMS_MAX

US4, US6 = "10.77.0.1", "fd77::1"
PEER4, PEER6 = "10.77.0.101", "fd77::101"


class RefusingDevice(NetDevice):
    """A device whose every write fails."""

    def __init__(self, core, err):
        super().__init__("mhost0")
        self._core, self._err = core, err

    def flush(self):
        queue, self.tx_queue = self.tx_queue, []
        for skb in queue:
            self._core.tx_done(self, len(skb), self._err)


def ip4(s, dst=US4, **fields):
    return s.IP(src=PEER4, dst=dst, **fields)


def udp4(s, *, sport=5101, dport=4000, **fields):
    return ip4(s, **fields) / s.UDP(sport=sport, dport=dport) / b"hello"


def udp6(s, **fields):
    return s.IPv6(src=PEER6, dst=US6) / s.UDP(sport=5101, dport=4000, **fields) / b"hello"


def changed(frame, at, value):
    """The octets with one of them overwritten."""
    octets = bytearray(bytes(frame))
    octets[at] = value
    return bytes(octets)


def udp4_with_len(s, length):
    packet = ip4(s) / s.UDP(sport=1, dport=4000, len=length, chksum=0)
    return bytes(packet / b"hello")


def rcvbuf_is_full(node, s, _golden):
    sk = node.socket("*", 4000)
    sk.rcvbuf = 48  # one record of up to 8 octets of payload
    node.receive(bytes(udp4(s)))
    assert not node.core.drops
    node.receive(bytes(udp4(s)))
    assert (len(sk.receive_queue), sk.rx_drops) == (1, 1)


def connected_elsewhere(node, s, _golden):
    sk = node.socket("*", 4000)
    node.connect(sk, "robot", 5101)
    node.receive(bytes(udp4(s)))
    assert not sk.receive_queue


def echo_while_down(node, s, _golden):
    node.tun.up = False
    node.receive(bytes(ip4(s) / s.ICMP(type=8)))


def write_fails(err):
    def make(node, s, _golden):
        node.core.devices["mhost0"] = RefusingDevice(node.core, err)
        node.core.dev_queue_xmit(node.core.devices["mhost0"], skb_of(node, s))
        node.core.flush()

    return make


def skb_of(node, _s):
    node.sendto(node.socket(), b"hello", PEER4, 9)
    (skb,) = node.tun.tx_queue
    node.core._dirty.clear()
    return skb


def twice(make):
    """A case that is one frame, two times."""

    def receive(node, s, _golden):
        for _ in range(2):
            node.receive(bytes(make(s)))

    return receive


def overlapping(node, s, _golden):
    """The first is held until the second shows that both are wrong: two drops."""
    node.receive(bytes(ip4(s, flags="MF") / s.Raw(b"x" * 16)))
    node.receive(bytes(ip4(s, flags="MF", frag=1) / s.Raw(b"x" * 16)))
    return 2


def half_lost(node, s, _golden):
    node.receive(bytes(v6_fragment(s) / s.Raw(b"x" * 16)))
    assert not node.drops
    node.now += 60
    node.core.run_timers()


def too_many_held(node, s, _golden):
    for i in range(DATAGRAMS_MAX + 1):
        node.receive(bytes(ip4(s, flags="MF", id=i) / s.Raw(b"x" * 16)))


TIMESTAMP_CUT = bytes.fromhex("0d00f2ff 00000000")


def options4(s, octets):
    """UDP with these options."""
    options = bytes.fromhex(octets)
    header = s.IP(src=PEER4, dst=US4, proto=17, ihl=5 + len(options) // 4)
    header.len = 4 * header.ihl + 13
    frame = bytearray(bytes(header) + options + bytes(s.UDP(sport=1, dport=4000) / b"hello"))
    frame[10:12] = bytes(2)
    total = sum(frame[i] << 8 | frame[i + 1] for i in range(0, 4 * header.ihl, 2))
    frame[10:12] = (~(total % 0xFFFF) & 0xFFFF).to_bytes(2, "big")
    return bytes(frame)


def options6(s, octets, nh=60):
    """UDP behind this extension header."""
    return s.IPv6(src=PEER6, dst=US6, nh=nh) / (bytes.fromhex(octets) + bytes(s.UDP()))


def ecn_mixed(node, s, _golden):
    """RFC 3168 section 5.3: a packet that was split before ECN, and marked."""
    node.receive(bytes(ip4(s, flags="MF") / s.Raw(b"x" * 16)))
    node.receive(bytes(ip4(s, frag=2, tos=3) / s.Raw(b"x" * 16)))
    return 2


def v6_fragment(s, offset=0):
    return s.IPv6(src=PEER6, dst=US6) / s.IPv6ExtHdrFragment(offset=offset, m=1, nh=17, id=7)


def frame(make, **how):
    """A case that is one frame, made by scapy."""
    return lambda node, s, _golden: node.receive(bytes(make(s)), **how)


def captured(name):
    """A case that is one frame, written by Linux."""
    return lambda node, _s, golden: node.receive(golden[name])


def mhost(text, dev="eth0"):
    """A case that is one frame with EtherType 0x88b5; otherproto is on eth1."""
    return lambda node, _s, _golden: node.receive(
        bytes.fromhex(text), ETH_P_MHOST, node.core.devices[dev]
    )


def claiming(src):
    """UDP to us from a source that no host may have."""
    if ":" in src:
        return frame(lambda s: s.IPv6(src=src, dst=US6) / s.UDP())
    return frame(lambda s: s.IP(src=src, dst=US4) / s.UDP())


def quoting(s, quoted, v6=False):
    """A port unreachable that quotes these octets."""
    if v6:
        return s.IPv6(src=PEER6, dst=US6) / s.ICMPv6DestUnreach(code=4) / quoted
    return ip4(s) / s.ICMP(type=3, code=3) / quoted


R = DropReason
CASES = [
    (R.PKT_TOO_SMALL, "IPv4 of 19 octets", frame(lambda s: bytes(udp4(s))[:19])),
    (R.PKT_TOO_SMALL, "IPv4 cut short", frame(lambda s: bytes(udp4(s))[:-1])),
    (R.PKT_TOO_SMALL, "IPv6 of 39 octets", frame(lambda s: bytes(udp6(s))[:39])),
    (R.PKT_TOO_SMALL, "IPv6 cut short", frame(lambda s: bytes(udp6(s))[:-1])),
    (R.PKT_TOO_SMALL, "UDP header cut", frame(lambda s: ip4(s, proto=17) / b"1234567")),
    (R.PKT_TOO_SMALL, "UDP length beyond IPv4's", frame(lambda s: udp4_with_len(s, 14))),
    (R.PKT_TOO_SMALL, "ICMP of 7 octets", frame(lambda s: ip4(s, proto=1) / b"1234567")),
    (
        R.PKT_TOO_SMALL,
        "ICMPv6 of 7 octets",
        frame(lambda s: s.IPv6(src=PEER6, dst=US6, nh=58) / b"1234567"),
    ),
    (R.PKT_TOO_SMALL, "ICMP error quotes 19", frame(lambda s: quoting(s, b"E" * 19))),
    (R.PKT_TOO_SMALL, "ICMPv6 error quotes 47", frame(lambda s: quoting(s, b"`" * 47, True))),
    (R.PKT_TOO_SMALL, "one octet of MHOST", mhost("00")),
    (R.PKT_TOO_SMALL, "testproto of 7 octets", mhost("0001ffff000100")),
    (R.PKT_TOO_SMALL, "otherproto of 19 octets", mhost("00031140" + "00" * 15, "eth1")),
    (R.UNHANDLED_PROTO, "EtherType of ARP", frame(udp4, ethertype=0x0806)),
    (R.UNHANDLED_PROTO, "family 99", mhost("0063ffff00010002")),
    (R.IP_INHDR, "IPv4 version 5", frame(lambda s: udp4(s, version=5), ethertype=0x0800)),
    (R.IP_INHDR, "IPv4 header of 16 octets", frame(lambda s: udp4(s, ihl=4))),
    (R.IP_INHDR, "IPv4 length below its header", frame(lambda s: udp4(s, len=19))),
    (
        R.IP_INHDR,
        "IPv6 version 7",
        frame(lambda s: changed(udp6(s), 0, 0x70), ethertype=0x86DD),
    ),
    (R.IP_INHDR, "testproto without its ones", mhost("0001fffe00010002")),
    (R.IP_INHDR, "otherproto with hop limit 0", mhost("00031100" + "00" * 16, "eth1")),
    (R.IP_INHDR, "ICMP error quotes 16 octets", frame(lambda s: quoting(s, b"D" * 28))),
    (R.IP_INHDR, "ICMP error quotes no ports", frame(lambda s: quoting(s, b"E" * 27))),
    (
        R.IP_INHDR,
        "ICMPv6 error quotes no next header",
        frame(lambda s: quoting(s, s.IPv6(src=US6, dst=PEER6, nh=59) / bytes(8), True)),
    ),
    (R.IP_INHDR, "source route", frame(lambda s: options4(s, "8307040a4d0909 00"))),
    (R.IP_INHDR, "option that overruns", frame(lambda s: options4(s, "9e050000"))),
    (R.IP_INHDR, "option to be discarded", frame(lambda s: options6(s, "1100 5e00 0102 0000"))),
    (R.IP_INHDR, "option to be reported", frame(lambda s: options6(s, "1100 9e00 0102 0000"))),
    (R.IP_INHDR, "PadN that is not zero", frame(lambda s: options6(s, "1100 0104 0000 0001"))),
    (
        R.IP_INHDR,
        "routing header, 1 left",
        frame(lambda s: options6(s, "1100 0001 00000000", 43)),
    ),
    (R.IP_INHDR, "fragment in fragment", frame(lambda s: options6(s, "2c" + "00" * 15, 44))),
    (R.IP_INHDR, "fragments with ECN 0 and 3", ecn_mixed),
    (
        R.PKT_TOO_SMALL,
        "extension header cut",
        frame(lambda s: options6(s, "11ff 0104 00000000")),
    ),
    (R.PKT_TOO_SMALL, "ICMP timestamp cut", frame(lambda s: ip4(s, proto=1) / TIMESTAMP_CUT)),
    (R.IP_CSUM, "IPv4 with another TTL", frame(lambda s: changed(udp4(s), 8, 63))),
    (R.IP_NOPROTO, "TCP over IPv4", captured("tcp4")),
    (R.IP_NOPROTO, "TCP over IPv6", captured("tcp6")),
    (
        R.IP_NOPROTO,
        "no next header",
        frame(lambda s: s.IPv6(src=PEER6, dst=US6, nh=59) / b"anything"),
    ),
    (R.NO_SOCKET, "destination options", captured("udp6_destination_options")),
    (R.IP_NOPROTO, "otherproto next 6", mhost("00030640" + "00" * 7 + "01" + "00" * 8, "eth1")),
    (
        R.DUP_FRAG,
        "twice the same of IPv4",
        twice(lambda s: ip4(s, flags="MF") / s.Raw(b"x" * 16)),
    ),
    (R.FRAG_OVERLAP, "two of IPv4 that overlap", overlapping),
    (R.FRAG_REASM_TIMEOUT, "the rest of an IPv6 one is lost", half_lost),
    (R.FRAG_EVICTED, "too many are held", too_many_held),
    (R.PKT_TOO_BIG, "IPv4", frame(lambda s: ip4(s, frag=8189) / s.Raw(b"x" * 100))),
    (R.PKT_TOO_BIG, "IPv6", frame(lambda s: v6_fragment(s, offset=8191) / s.Raw(b"x" * 104))),
    (R.IP_INHDR, "IPv4 fragment without octets", frame(lambda s: ip4(s, flags="MF"))),
    (
        R.IP_INHDR,
        "IPv6 fragment of 9 octets",
        frame(lambda s: v6_fragment(s) / s.Raw(b"x" * 9)),
    ),
    (R.IP_INHDR, "IPv6 fragment without octets", frame(v6_fragment)),
    (
        R.PKT_TOO_SMALL,
        "IPv6 fragment header cut",
        frame(lambda s: s.IPv6(src=PEER6, dst=US6, nh=44) / s.Raw(b"x" * 7)),
    ),
    (
        R.IP_INVALID_SOURCE,
        "no address",
        claiming("0.0.0.0"),
    ),
    (
        R.IP_INVALID_SOURCE,
        "loopback on the wire",
        claiming("127.0.0.1"),
    ),
    (
        R.IP_INVALID_SOURCE,
        "IPv4 multicast",
        claiming("224.0.0.1"),
    ),
    (
        R.IP_INVALID_SOURCE,
        "IPv4 broadcast",
        claiming("255.255.255.255"),
    ),
    (
        R.IP_INVALID_SOURCE,
        "IPv6 multicast",
        claiming("ff02::1"),
    ),
    (
        R.IP_INVALID_SOURCE,
        "IPv6 unspecified",
        claiming("::"),
    ),
    (
        R.IP_INVALID_SOURCE,
        "IPv6 loopback",
        claiming("::1"),
    ),
    (R.OTHERHOST, "router solicitation", captured("router_solicitation")),
    (R.OTHERHOST, "IPv4 to another", frame(lambda s: ip4(s, "10.77.0.3") / s.UDP())),
    (R.OTHERHOST, "testproto to another", mhost("0001ffff00030002")),
    (R.OTHERHOST, "otherproto to another", mhost("00031140" + "00" * 16, "eth1")),
    (R.OTHERHOST, "ICMP quotes another's", frame(lambda s: quoting(s, s.IP() / s.UDP()))),
    (
        R.OTHERHOST,
        "ICMPv6 quotes another's",
        frame(lambda s: quoting(s, s.IPv6(src=PEER6, dst=US6) / s.UDP(), True)),
    ),
    (R.ICMP_CSUM, "ICMP", frame(lambda s: ip4(s) / s.ICMP(type=8, chksum=1))),
    (
        R.ICMP_CSUM,
        "ICMPv6",
        frame(lambda s: s.IPv6(src=PEER6, dst=US6) / s.ICMPv6EchoRequest(cksum=1)),
    ),
    (R.ICMP_TYPE, "information request", frame(lambda s: ip4(s) / s.ICMP(type=15))),
    (R.ICMP_TYPE, "echo reply", frame(lambda s: ip4(s) / s.ICMP(type=0))),
    (R.ICMP_TYPE, "late fragments", frame(lambda s: ip4(s) / s.ICMP(type=11, code=1))),
    (
        R.ICMP_TYPE,
        "unreachable with code 16",
        frame(lambda s: ip4(s) / s.ICMP(type=3, code=16) / udp4(s)),
    ),
    (
        R.ICMP_TYPE,
        "neighbour solicitation",
        frame(lambda s: s.IPv6(src=PEER6, dst=US6) / s.ICMPv6ND_NS(tgt=US6)),
    ),
    (R.UDP_HDR, "UDP length 7", frame(lambda s: udp4_with_len(s, 7))),
    (R.UDP_CSUM, "IPv4, payload changed", frame(lambda s: changed(udp4(s), -1, 0))),
    (R.UDP_CSUM, "IPv6, payload changed", frame(lambda s: changed(udp6(s), -1, 0))),
    (R.UDP_CSUM, "IPv6 without a checksum", frame(lambda s: udp6(s, chksum=0))),
    (R.UDP_CSUM, "testproto", mhost("0001ffff00010002" + "13ed0fa000081234")),
    (R.NO_SOCKET, "IPv4", captured("udp4")),
    (R.NO_SOCKET, "IPv6", captured("udp6")),
    (R.SOCKET_FILTER, "connected elsewhere", connected_elsewhere),
    (R.SOCKET_RCVBUFF, "receive buffer full", rcvbuf_is_full),
    (R.DEV_READY, "echo reply to a device that is down", echo_while_down),
    (R.DEV_READY, "write fails with EIO", write_fails(errno.EIO)),
    (R.DEV_READY, "write fails with ENETDOWN", write_fails(errno.ENETDOWN)),
    (R.FULL_RING, "write fails with EAGAIN", write_fails(errno.EAGAIN)),
    (R.FULL_RING, "write fails with ENOBUFS", write_fails(errno.ENOBUFS)),
]


@pytest.mark.parametrize(
    ("reason", "make"),
    [pytest.param(reason, make, id=f"{reason}: {name}") for reason, name, make in CASES],
)
def test_every_drop_is_counted_once_under_its_reason(node, scapy, golden, reason, make):
    frames = make(node, scapy, golden) or 1
    assert node.core.drops == {reason: frames}


def test_every_drop_reason_has_a_case():
    # The fast lane's are in tests/lane/test_overflow.py, those of associations in
    # tests/unit/host/test_drops.py and tests/unit/udp/test_identifiers.py.
    theirs = {R.CPU_BACKLOG, *(reason for reason in R if reason.startswith("shim_"))}
    assert {reason for reason, _name, _make in CASES} == set(DropReason) - theirs


def test_a_frame_that_is_delivered_is_no_drop(node, golden):
    sk = node.socket("*", 4000)
    for name in ("udp4", "udp4_no_check", "udp4_router_alert"):
        node.receive(golden[name])
    node.receive(golden["udp6"])
    assert node.received(sk) == [(b"hello", "10.77.0.101", 5101)] * 3 + [
        (b"hello", "fd77::101", 5101)
    ]
    assert node.drops == {}
