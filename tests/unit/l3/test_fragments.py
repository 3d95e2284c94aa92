"""Fragments both ways, and the ICMP errors that we send; scapy is the other side."""

import itertools

import pytest

US4, US6 = "10.77.0.1", "fd77::1"
PEER4, PEER6 = "10.77.0.101", "fd77::101"
PAYLOAD = bytes(range(256)) * 24  # 6144 octets: five fragments or so


def fragments4(s, payload=PAYLOAD, size=1400):
    packet = s.IP(src=PEER4, dst=US4, id=7) / s.UDP(sport=5101, dport=4000) / s.Raw(payload)
    return [bytes(part) for part in packet.fragment(size)]


def fragments6(s, payload=PAYLOAD, size=1400):
    head = s.IPv6(src=PEER6, dst=US6) / s.IPv6ExtHdrFragment(id=7)
    packet = s.IPv6(bytes(head / s.UDP(sport=5101, dport=4000) / s.Raw(payload)))
    return [bytes(part) for part in s.fragment6(packet, size)]


MAKERS = {"inet": (fragments4, PEER4), "inet6": (fragments6, PEER6)}


@pytest.fixture(params=MAKERS)
def l3(request):
    return request.param


def counters(node, l3):
    return node.table.proto_named(l3).counters


def test_fragments_make_a_datagram_in_every_order(make_node, scapy, l3):
    make, peer = MAKERS[l3]
    frames = make(scapy, PAYLOAD[:3000], 1100)
    assert len(frames) in (3, 4)
    for order in itertools.permutations(frames):
        node = make_node()
        sk = node.socket("*", 4000)
        for frame in order:
            node.receive(frame)
        assert node.received(sk) == [(PAYLOAD[:3000], peer, 5101)]
        assert node.drops == {}
        assert counters(node, l3)["ip_reasm_absorbed"] == len(frames) - 1


def test_fragments_of_two_datagrams_are_not_mixed(node, scapy, l3):
    make, peer = MAKERS[l3]
    sk = node.socket("*", 4000)
    other = make_other(scapy, l3)
    for pair in zip(make(scapy), other, strict=True):
        for frame in pair:
            node.receive(frame)
    assert node.received(sk) == [(PAYLOAD, peer, 5101), (PAYLOAD[::-1], peer, 5101)]


def make_other(s, l3):
    frames = MAKERS[l3][0](s, PAYLOAD[::-1])
    for i, frame in enumerate(frames):
        packet = s.IP(frame) if l3 == "inet" else s.IPv6(frame)
        if l3 == "inet":
            packet.id = 8
            del packet.chksum
        else:
            packet[s.IPv6ExtHdrFragment].id = 8
        frames[i] = bytes(packet)
    return frames


def test_what_is_late_is_told_of_where_the_first_fragment_had_come(node, scapy, l3):
    make, peer = MAKERS[l3]
    first, *_rest, last = make(scapy)
    node.receive(first)
    node.now += 61
    node.core.run_timers()
    (error,) = node.sent()
    packet = scapy.IP(error) if l3 == "inet" else scapy.IPv6(error)
    assert packet.dst == peer
    if l3 == "inet":
        assert (packet[scapy.ICMP].type, packet[scapy.ICMP].code) == (11, 1)
    else:
        assert packet[scapy.ICMPv6TimeExceeded].code == 1
    node.receive(last)
    node.now += 61
    node.core.run_timers()
    assert node.sent() == []
    assert node.drops == {"FRAG_REASM_TIMEOUT": 2}


def test_what_is_held_is_bounded_in_octets(node, scapy):
    part = scapy.IP(src=PEER4, dst=US4, flags="MF") / scapy.Raw(b"x" * 65_000)
    for id_ in range(100):
        part.id = id_
        node.receive(bytes(part))
    (held,) = [h for h in node.reassemblies() if h.fragments]
    assert held.fragments * 65_000 <= 4 << 20
    assert node.drops["FRAG_EVICTED"] == 100 - held.fragments


def test_an_atomic_fragment_is_a_datagram(node, scapy):
    sk = node.socket("*", 4000)
    udp = scapy.UDP(sport=5101, dport=4000) / scapy.Raw(b"hello")
    node.receive(bytes(scapy.IPv6(src=PEER6, dst=US6) / scapy.IPv6ExtHdrFragment(id=9) / udp))
    assert node.received(sk) == [(b"hello", PEER6, 5101)]


@pytest.mark.parametrize("size", [1473, 3000, 65_507])
def test_a_large_datagram_goes_out_in_fragments_that_scapy_puts_together(node, scapy, l3, size):
    payload = (PAYLOAD * 11)[:size]
    sk = node.socket("*", 4000)
    node.sendto(sk, payload, MAKERS[l3][1], 9)
    frames = node.sent()
    assert len(frames) > 1
    assert all(len(frame) <= 1500 for frame in frames)
    if l3 == "inet":
        (whole,) = scapy.defragment([scapy.IP(frame) for frame in frames])
        whole = scapy.IP(bytes(whole))
        check = scapy.in4_chksum(17, whole, bytes(whole.payload))
    else:
        whole = scapy.IPv6(bytes(scapy.defragment6([scapy.IPv6(f) for f in frames])))
        check = scapy.in6_chksum(17, whole, bytes(whole.payload))
    assert bytes(whole[scapy.UDP].payload) == payload
    assert check in (0, 0xFFFF)


def test_a_large_datagram_to_ourselves_is_whole_again(node, l3):
    sk = node.socket("*", 4000)
    node.sendto(sk, PAYLOAD, US4 if l3 == "inet" else US6, 4000)
    node.sent()
    ((payload, *_source),) = node.received(sk)
    assert payload == PAYLOAD


def test_a_smaller_path_mtu_is_kept_and_forgotten(node, scapy, l3):
    sk = node.socket("*", 4000)
    peer = MAKERS[l3][1]
    node.sendto(sk, b"x" * 1400, peer, 9)
    (sent,) = node.sent()
    if l3 == "inet":
        error = scapy.IP(src="10.77.0.9", dst=US4) / scapy.ICMP(type=3, code=4, nexthopmtu=1300)
    else:
        error = scapy.IPv6(src="fd77::9", dst=US6) / scapy.ICMPv6PacketTooBig(mtu=1300)
    node.receive(bytes(error / scapy.Raw(sent)))
    node.sendto(sk, b"x" * 1400, peer, 9)
    assert max(map(len, node.sent())) <= 1300
    node.now += 601
    node.sendto(sk, b"x" * 1400, peer, 9)
    assert len(node.sent()) == 1


def test_a_path_mtu_is_never_below_what_every_link_has(node, scapy):
    sk = node.socket("*", 4000)
    node.sendto(sk, b"x" * 1400, PEER6, 9)
    (sent,) = node.sent()
    error = scapy.IPv6(src="fd77::9", dst=US6) / scapy.ICMPv6PacketTooBig(mtu=68)
    node.receive(bytes(error / scapy.Raw(sent)))
    node.sendto(sk, b"x" * 1400, PEER6, 9)
    assert max(map(len, node.sent())) > 1200


# --- errors we send


def test_a_closed_port_is_told_of_with_the_datagram_that_came(node, scapy, l3):
    v4 = l3 == "inet"
    ip = scapy.IP(src=PEER4, dst=US4) if v4 else scapy.IPv6(src=PEER6, dst=US6)
    came = bytes(ip / scapy.UDP(sport=5101, dport=9) / scapy.Raw(b"anybody?"))
    node.receive(came)
    (error,) = node.sent()
    packet = scapy.IP(error) if v4 else scapy.IPv6(error)
    if v4:
        assert (packet[scapy.ICMP].type, packet[scapy.ICMP].code) == (3, 3)
        assert error[28:] == came
    else:
        assert packet[scapy.ICMPv6DestUnreach].code == 4
        assert error[48:] == came
    assert node.drops == {"NO_SOCKET": 1}


def test_a_protocol_that_nobody_speaks_is_told_of(node, scapy):
    node.receive(bytes(scapy.IP(src=PEER4, dst=US4) / scapy.TCP()))
    node.receive(bytes(scapy.IPv6(src=PEER6, dst=US6) / scapy.TCP()))
    v4, v6 = node.sent()
    assert (scapy.IP(v4)[scapy.ICMP].type, scapy.IP(v4)[scapy.ICMP].code) == (3, 2)
    problem = scapy.IPv6(v6)[scapy.ICMPv6ParamProblem]
    assert (problem.code, problem.ptr) == (1, 6)


@pytest.mark.parametrize(("version", "interval_s"), [(4, 1.0), (6, 1 / 16)])
def test_one_host_is_told_six_times_and_then_once_an_interval(node, scapy, version, interval_s):
    """As Linux icmp_ratelimit has it; XRLIM_BURST_FACTOR is 6."""
    header = scapy.IP(src=PEER4, dst=US4) if version == 4 else scapy.IPv6(src=PEER6, dst=US6)
    came = bytes(header / scapy.UDP(dport=9))
    for _ in range(20):
        node.receive(came)
    assert len(node.sent()) == 6
    assert counters(node, "inet" if version == 4 else "inet6")["icmp_ratelimited"] == 14
    node.now += interval_s * 1.01
    for _ in range(2):
        node.receive(came)
    assert len(node.sent()) == 1


def test_all_hosts_together_are_told_fifty_times_and_then_a_thousand_a_second(node, scapy):
    def ask(host):
        peer = f"10.77.{host // 250}.{host % 250 + 2}"
        node.receive(bytes(scapy.IP(src=peer, dst=US4) / scapy.UDP(dport=9)))

    for host in range(200):
        ask(host)
    assert len(node.sent()) == 50
    assert counters(node, "inet")["icmp_ratelimited"] == 150
    node.now += 1 / 64
    for host in range(200, 250):
        ask(host)
    assert len(node.sent()) == 1000 // 64


def test_an_error_is_never_answered_with_one(node, scapy):
    quoted = scapy.IP(src=US4, dst=PEER4) / scapy.UDP(sport=9, dport=9)
    node.receive(bytes(scapy.IP(src=PEER4, dst=US4) / scapy.ICMP(type=3, code=3) / quoted))
    node.receive(bytes(scapy.IP(src=PEER4, dst=US4) / scapy.ICMP(type=12)))
    node.receive(bytes(scapy.IP(src="224.0.0.1", dst=US4) / scapy.UDP(dport=9)))
    assert node.sent() == []


def test_one_timer_waits_whatever_is_held(node, scapy, l3):
    make, _peer = MAKERS[l3]
    node.socket("*", 4000)
    for _ in range(20):
        for frame in make(scapy):
            node.receive(frame)
    for frame in make(scapy)[:-1]:
        node.receive(frame)
    assert len(node.core._timers) == 1
    node.now += 200
    for _ in range(2):  # for what was whole long ago, then for what is held
        node.core.run_timers()
    assert len(node.core._timers) == 0
    assert node.drops == {"FRAG_REASM_TIMEOUT": len(make(scapy)) - 1}


def test_what_cannot_be_told_does_not_stop_what_comes_after(node, scapy, l3):
    make, _peer = MAKERS[l3]
    node.receive(make(scapy)[0])
    node.tun.up = False
    node.now += 61
    node.core.run_timers()
    assert node.drops == {"FRAG_REASM_TIMEOUT": 1}
    node.receive(make_other(scapy, l3)[0])
    assert len(node.core._timers) == 1


def test_a_closed_port_is_one_drop_also_while_nobody_can_be_told(node, scapy):
    node.tun.up = False
    node.receive(bytes(scapy.IP(src=PEER4, dst=US4) / scapy.UDP(dport=9)))
    assert node.drops == {"NO_SOCKET": 1}
