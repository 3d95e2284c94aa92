"""mhostd and the Linux kernel on one wire: Linux is the judge of our octets."""

import json
import subprocess
import sys
import time

import pytest
from lab import config, two_hosts


def mhost_echo(host):
    """An AF_MHOST application bound everywhere that echoes."""
    app = host.app()
    app("socket", "mhost")
    _host, port = app("bind", "*", 0)
    app("echo")
    return app, port


@pytest.mark.parametrize("address", ["10.77.1.1", "fd77:1::1"])
@pytest.mark.parametrize("size", [0, 1, 56, 1400, 1473, 20_000])
def test_linux_pings_our_address_from_its_own_host_and_from_another(pair, address, size):
    for host in pair:
        done = host.run(
            "ping", "-n", "-c", "2", "-i", "0.2", "-s", str(size), "-W", "5", address
        )
        assert "2 received" in done.stdout


@pytest.mark.parametrize(("family", "far"), [("inet", "10.77.2.1"), ("inet6", "fd77:2::1")])
@pytest.mark.parametrize("size", [0, 1, 2, 7, 1000, 1400, 1473, 9000, 65_000])
def test_linux_takes_our_udp_and_we_take_its(pair, family, far, size):
    a, b = pair
    app, port = mhost_echo(b)
    peer = a.app()
    peer("socket", family)
    text = "x" * size
    peer("sendto", text, far, port)
    echo, host, source_port, _via = peer("recv")
    assert (host, source_port) == (far, port)
    assert echo.endswith("|" + text)
    assert echo.startswith(f"{family} ")
    app("stop")


@pytest.mark.parametrize(("family", "far"), [("inet", "10.77.2.1"), ("inet6", "fd77:2::1")])
def test_a_connected_kernel_socket_gets_its_answer_from_the_address_it_asked(pair, family, far):
    """It takes no other, and its own address is in no prefix of the TUN."""
    a, b = pair
    app, port = mhost_echo(b)
    peer = a.app()
    peer("socket", family)
    peer("connect", far, port)
    peer("sendto", "hello", far, port)
    assert peer("recv")[0].endswith("|hello")
    app("stop")


def test_two_families_of_0x88b5_are_told_apart_on_one_interface(pair):
    a, b = pair
    app, port = mhost_echo(b)
    peer = a.app()
    peer("socket", "mhost")
    for where, l3 in (("testproto:2", "testproto"), ("otherproto:0:0:0:2", "otherproto")):
        peer("sendto", "hello", where, port)
        echo, _host, _port, via = peer("recv")
        assert echo.startswith(f"{l3} ")
        assert via == f"{l3} eth0 {where}"
    app("stop")


SNIFF = """
import socket, sys
with socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0) as s:
    s.setsockopt(263, 23, 1)  # PACKET_IGNORE_OUTGOING
    s.bind(("eth0", 0x88B5))
    print("ready", flush=True)
    for _ in range(2):
        print({0: "unicast", 1: "broadcast"}[s.recvfrom(2000)[1][2]], flush=True)
"""


@pytest.mark.parametrize("configured", [False, True])
def test_a_neighbour_is_reached_by_broadcast_until_it_is_learned(lab, configured):
    a, b = two_hosts(lab)
    mac = json.loads(b.run("ip", "-j", "link", "show", "eth0").stdout)[0]["address"]
    known = f'[ethernet.neighbours]\n"testproto:2" = "{mac}"\n' if configured else ""
    a.start(config(1, 2).replace("[l3.testproto]", known + "[l3.testproto]"))
    b.start(config(2, 1))
    _app, port = mhost_echo(b)
    sniffer = b.popen(sys.executable, "-c", SNIFF, stdout=subprocess.PIPE, text=True)
    assert sniffer.stdout.readline() == "ready\n"
    peer = a.app()
    peer("socket", "mhost")
    for _ in range(2):
        peer("sendto", "hello", "testproto:2", port)
        peer("recv")
    first = "unicast\n" if configured else "broadcast\n"
    assert [sniffer.stdout.readline() for _ in range(2)] == [first, "unicast\n"]


def test_a_frame_for_somebody_else_is_dropped_by_name(pair):
    a, b = pair
    before = b.show("drops")["otherhost"]
    app = a.app()
    app("socket", "mhost")
    app("sendto", "who", "testproto:99", 1)
    deadline = time.monotonic() + 10
    while b.show("drops")["otherhost"] == before and time.monotonic() < deadline:
        pass
    assert b.show("drops")["otherhost"] == before + 1


def test_loopback_means_what_it_means_to_every_other_program(pair):
    a, _b = pair
    kernel, ours = a.app(), a.app()
    kernel("socket", "inet")
    _host, port = kernel("bind", "127.0.0.1", 0)
    ours("socket", "mhost")
    ours("sendto", "hello", "127.0.0.1", port)
    text, host, source_port, _via = kernel("recv")
    assert (text, host) == ("hello", "127.0.0.1")
    kernel("sendto", "back", host, source_port)
    assert ours("recv") == ["back", "127.0.0.1", port, "host_inet lo 127.0.0.1"]


def test_our_own_addresses_are_reached_without_leaving_the_host(pair):
    a, _b = pair
    app = a.app()
    app("socket", "mhost")
    _host, port = app("bind", "*", 0)
    before = a.show("counters")["lo"]["tx_packets"]
    for where in ("10.77.1.1", "fd77:1::1", "testproto:1", "otherproto:0:0:0:1"):
        app("sendto", where, where, port)
        assert app("recv")[0] == where
    assert a.show("counters")["lo"]["tx_packets"] == before + 4


@pytest.mark.parametrize(("family", "far"), [("inet", "10.77.2.1"), ("inet6", "fd77:2::1")])
def test_linux_learns_of_a_closed_port_and_so_do_we(pair, family, far):
    a, _b = pair
    kernel, ours = a.app(), a.app()
    kernel("socket", family)
    kernel("connect", far, 9)
    kernel("sendto", "anybody?", far, 9)
    with pytest.raises(OSError, match="refused"):
        kernel("recv")
    ours("socket", "mhost")
    ours("connect", far, 9)
    ours("sendto", "anybody?", far, 9)
    with pytest.raises(OSError, match="refused"):
        ours("recv")


def test_a_smaller_link_on_the_way_is_found_and_fitted(lab):
    a, b = two_hosts(lab)
    a.start(config(1, 2))
    b.start(config(2, 1))
    for host in (a, b):
        host.ip("link set eth0 mtu 1400")
    app, port = mhost_echo(b)
    peer = a.app()
    peer("socket", "mhost")
    for where in ("10.77.2.1", "fd77:2::1"):
        deadline = time.monotonic() + 10
        while True:  # the first datagrams are lost to the link, and tell of it
            peer("sendto", "x" * 1420, where, port)
            try:
                assert peer("recv")[0].endswith("x" * 1420)
                break
            except OSError:
                assert time.monotonic() < deadline
    app("stop")
