"""A stream to a name whose locators go away one by one and come back."""

from itertools import groupby

import pytest

PERIOD_S = 0.01
PORT = 5101


class Stream:
    """Numbered datagrams from node 1 to `robot`, and what node 2 makes of them.

    Attributes:
        got: (number, name of the L3 handler that brought it).
    """

    def __init__(self, wire):
        self.here, self.there = wire.nodes[1], wire.nodes[2]
        self.client, self.server = self.here.socket(), self.there.socket("*", PORT)
        self.count, self.got = 0, []
        wire.apps.append(self._read)

    def send(self):
        self.here.sendto(self.client, self.count.to_bytes(4, "big"), "robot", PORT)
        self.count += 1

    def _read(self):
        names = {number: proto.name for number, proto in self.there.table.protos.items()}
        l3 = [names[datagram.l3] for datagram in self.server.receive_queue]
        payloads = [payload for payload, _host, _port in self.there.received(self.server)]
        numbers = [int.from_bytes(payload, "big") for payload in payloads]
        self.got += zip(numbers, l3, strict=True)

    def carriers(self):
        """Which L3 carried the stream, one after the other."""
        return [name for name, _ in groupby(name for _number, name in self.got)]


def unreachable_router(scapy, daddr):
    """A router that answers every packet to an address with host unreachable."""

    def router(packet):
        v4 = packet[0] >> 4 == 4
        quoted = (scapy.IP if v4 else scapy.IPv6)(packet)
        if quoted.dst != daddr:
            return None
        if v4:
            icmp = scapy.ICMP(type=3, code=1) / packet[:28]
            return bytes(scapy.IP(src="10.77.0.254", dst=quoted.src) / icmp)
        icmp = scapy.ICMPv6DestUnreach(code=3) / packet
        return bytes(scapy.IPv6(src="fd77::254", dst=quoted.src) / icmp)

    return router


def story(wire, scapy):
    """One second of each: all well, eth0 gone, eth1 too, IPv4 too; then eth0 is back."""
    stream = Stream(wire)
    devices = wire.nodes[1].core.devices

    def second():
        wire.run(1.0, PERIOD_S, stream.send)

    second()
    devices["eth0"].up = False
    second()
    devices["eth1"].up = False
    second()
    wire.router = unreachable_router(scapy, "10.77.0.2")
    second()
    devices["eth0"].up = True
    second()
    wire.run(1.0)
    return stream


def test_each_locator_takes_over_from_the_one_before_and_the_first_comes_back(make_wire, scapy):
    wire = make_wire()
    stream = story(wire, scapy)
    assert stream.carriers() == ["testproto", "otherproto", "inet", "inet6", "testproto"]
    assert wire.nodes[1].client.socks[stream.client.number].sport == stream.client.sport


def test_only_what_was_under_way_when_an_error_came_back_is_lost(make_wire, scapy):
    """A device that is down loses nothing; the ICMP error takes one delay to arrive."""
    stream = story(make_wire(delay_s=0.025), scapy)
    missing = sorted(set(range(stream.count)) - {number for number, _l3 in stream.got})
    assert missing == [300, 301, 302]


def test_a_device_is_tried_again_when_its_time_has_come_and_not_before(make_wire, scapy):
    """eth0 fails at 1 s, 2 s (then for 2 s) and is up since 4 s: 400 is the first back."""
    stream = story(make_wire(), scapy)
    back = [n for n, l3 in stream.got if l3 == "testproto" and n >= 100]
    assert back == list(range(400, 500))


@pytest.mark.parametrize("seed", range(5))
def test_on_a_bad_wire_the_same_l3_carry_it_and_most_arrives(make_wire, scapy, seed):
    wire = make_wire(seed, loss=0.1, duplicate=0.1, reorder=0.2)
    stream = story(wire, scapy)
    arrived = {number for number, _l3 in stream.got}
    assert 0.8 * stream.count < len(arrived) < stream.count
    for number, l3 in stream.got:
        # which second it was sent in decides; IPv4 goes on until the error is back
        expected = ["testproto", "otherproto", "inet", "inet6", "testproto"][number // 100]
        assert l3 == expected, number
    assert stream.server.rx_datagrams == len(stream.got)
    assert len(stream.got) > len(arrived)  # duplicates: plain UDP, as the kernel's


def test_one_seed_is_one_story(make_wire, scapy):
    def run(seed):
        wire = make_wire(seed, loss=0.2, duplicate=0.1, reorder=0.3)
        return story(wire, scapy).got, dict(wire.fate)

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_ipv6_fails_over_to_ipv4_and_comes_back_when_the_route_heals(make_wire, scapy):
    wire = make_wire()
    table = wire.nodes[1].table
    locators = [table.mhost_pton("fd77::2"), table.mhost_pton("10.77.0.2")]
    table.remove_sockaddr_id("robot")
    table.insert_sockaddr_id("robot", locators)
    stream = Stream(wire)
    wire.run(0.5, PERIOD_S, stream.send)
    wire.router = unreachable_router(scapy, "fd77::2")
    wire.run(2.0, PERIOD_S, stream.send)  # fails at 0.5 and again at 1.5, then for 2 s
    wire.router = lambda _packet: None
    wire.run(2.0, PERIOD_S, stream.send)
    wire.run(1.0)
    assert stream.carriers() == ["inet6", "inet", "inet6"]
    back = min(n for n, l3 in stream.got if l3 == "inet6" and n > 60)
    assert 350 <= back <= 352
    missing = stream.count - len(stream.got)
    assert missing == 2  # the one of each try


def test_while_everything_is_down_the_sender_is_told_and_then_it_goes_on(make_wire):
    wire = make_wire()
    stream = Stream(wire)
    node = wire.nodes[1]
    for dev in (node.tun, *node.ethernet):
        dev.up = False
    refused = []

    def send():
        try:
            stream.send()
        except OSError as err:
            refused.append(err.strerror)

    wire.run(0.5, PERIOD_S, send)
    assert len(refused) == 50
    node.tun.up = True
    wire.run(0.5, PERIOD_S, send)
    wire.run(0.1)
    assert len(refused) == 50
    assert stream.carriers() == ["inet"]
    assert len(stream.got) == 50


def test_a_peer_that_is_heard_from_is_used_again_at_once(make_wire, scapy):
    """An answer over IPv6 ends the fault before its time."""
    wire = make_wire()
    here, there = wire.nodes[1], wire.nodes[2]
    sk, peer = here.socket("*", 4000), there.socket("*", PORT)
    here.table.remove_sockaddr_id("robot", [here.locator("testproto:2")])
    here.table.faults.failed(here.locator("otherproto:0:0:0:2"), 113, wire.now)
    here.sendto(sk, b"1", "robot", PORT)
    there.sendto(peer, b"I am back", "otherproto:0:0:0:1", 4000)
    wire.run(0.1)
    here.sendto(sk, b"2", "robot", PORT)
    wire.run(0.1)
    l3 = [there.table.protos[datagram.l3].name for datagram in peer.receive_queue]
    assert l3 == ["inet", "otherproto"]
