"""Two and three stacks on one wire: who hears what, and that every frame is accounted for."""

import pytest


def echo_server(wire, number, port=7):
    """Answers whatever comes to a node; returns its socket."""
    node = wire.nodes[number]
    sk = node.socket("*", port)

    def serve():
        while sk.receive_queue:
            payload, source, *_ = sk.receive_queue.popleft()
            node.af_mhost.mhost_sendmsg(sk, payload, source, node.now)

    wire.apps.append(serve)
    return sk


HOSTS = ["10.77.0.{n}", "fd77::{n}", "testproto:{n}", "otherproto:0:0:0:{n}"]


@pytest.mark.parametrize("host", HOSTS)
def test_every_echo_comes_back_from_whom_it_was_sent_to(make_wire, host):
    wire = make_wire(stacks=3)
    client = wire.nodes[1].socket()
    for n in (2, 3):
        echo_server(wire, n)
        wire.nodes[1].sendto(client, b"to %d" % n, host.format(n=n), 7)
    wire.run(1.0)
    assert sorted(wire.nodes[1].received(client)) == sorted(
        (b"to %d" % n, host.format(n=n), 7) for n in (2, 3)
    )


@pytest.mark.parametrize("host", ["testproto:2", "otherproto:0:0:0:2"])
def test_strangers_hear_only_the_first_frame_of_a_conversation(make_wire, host):
    wire = make_wire(stacks=3)
    client = wire.nodes[1].socket()
    echo_server(wire, 2)
    wire.run(1.0, 0.1, lambda: wire.nodes[1].sendto(client, b"hello", host, 7))
    assert len(wire.nodes[1].received(client)) == 10
    assert wire.nodes[3].drops == {"OTHERHOST": 1}
    assert wire.nodes[1].drops == wire.nodes[2].drops == {}


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("stacks", [2, 3])
def test_every_frame_is_lost_or_delivered_and_every_delivery_ends_once(make_wire, stacks, seed):
    wire = make_wire(seed, stacks, loss=0.2, duplicate=0.2, reorder=0.3)
    clients = {n: node.socket() for n, node in wire.nodes.items()}
    servers = {n: echo_server(wire, n) for n in wire.nodes}

    def everyone_to_everyone():
        for n, node in wire.nodes.items():
            for to in wire.nodes:
                for host in HOSTS if to != n else ():
                    node.sendto(clients[n], b"hello", host.format(n=to), 7)

    wire.run(0.2, 0.01, everyone_to_everyone)
    wire.run(1.0)
    fate = wire.fate
    assert fate["lost"] > 0 < fate["duplicated"]
    assert fate["delivered"] == fate["sent"] + fate["duplicated"] - fate["lost"]
    received = sum(dev.stats["rx_packets"] for node in wire.nodes.values()
                   for dev in node.core.devices.values())  # fmt: skip
    assert received == fate["delivered"]
    for n, node in wire.nodes.items():
        frames = sum(dev.stats["rx_packets"] for dev in node.core.devices.values())
        ended = clients[n].rx_datagrams + servers[n].rx_datagrams
        assert frames == ended + sum(node.core.drops.values())
        assert set(node.drops) <= {"OTHERHOST"}


def test_the_order_is_that_of_the_wire(make_wire):
    def numbers(**how):
        wire = make_wire(3, **how)
        client, server = wire.nodes[1].socket(), wire.nodes[2].socket("*", 7)
        count = iter(range(100))
        wire.run(
            1.0, 0.01, lambda: wire.nodes[1].sendto(client, b"%02d" % next(count), "robot", 7)
        )
        wire.run(1.0)
        return [int(payload) for payload, _host, _port in wire.nodes[2].received(server)]

    assert numbers() == list(range(100))
    late = numbers(reorder=0.3)
    assert late != list(range(100))
    assert sorted(late) == list(range(100))


def test_a_host_that_answers_over_what_it_was_asked_is_heard_while_connected(make_wire):
    """A socket connected to a name lets every locator of that host in, and no other."""
    wire = make_wire(stacks=3)
    node = wire.nodes[1]
    client = node.socket()
    node.connect(client, "robot", 7)
    for n in (2, 3):
        sk = wire.nodes[n].socket("*", 7)
        for host in HOSTS:
            wire.nodes[n].sendto(sk, b"from %d" % n, host.format(n=1), client.sport)
    wire.run(1.0)
    assert sorted(node.received(client)) == sorted(
        (b"from 2", host.format(n=2), 7) for host in HOSTS
    )
    assert node.drops == {"SOCKET_FILTER": 4}
