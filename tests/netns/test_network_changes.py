"""Links, addresses and routes change under a stream to a name with two locators."""

import itertools
import time

import pytest

PEER = '[hosts]\npeer = {}\nme = ["192.0.2.1", "198.51.100.1", "203.0.113.9"]\n'
FIRST, SECOND = "host_inet eth0 192.0.2.1", "host_inet eth1 198.51.100.1"  # as b hears a


def until(condition, what, timeout_s=20):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)


@pytest.fixture
def hosts(lab):
    """a and b with two links between them."""
    a, b = lab.host("a"), lab.host("b")
    for name, prefix in (("eth0", "192.0.2"), ("eth1", "198.51.100")):
        lab.link(a, b, name)
        for number, host in ((1, a), (2, b)):
            host.ip(f"addr add {prefix}.{number}/24 dev {name}")
    b.start("")
    return a, b


class Stream:
    """Numbered datagrams from a to `peer`.

    Attributes:
        got: (number, L3 and locator that brought it to b).
    """

    def __init__(self, a, b, bind=("*", 0)):
        self.sink = b.app()
        self.sink("socket", "mhost")
        _host, port = self.sink("bind", "*", 0)
        self.sink("sink")
        self.source = a.app()
        self.source("socket", "mhost")
        self.source("bind", *bind)
        self.source("stream", "peer", port, 200)
        self.got = []

    def more(self):
        new = [(int(text), via) for text, via in self.sink("noted")]
        self.got += new
        return new

    def until_over(self, via):
        """Wait until it comes that way, and for some datagrams more."""

        start = len(self.got)

        def over():
            self.more()
            return [v for _n, v in self.got[start:]][-5:] == [via] * 5

        until(over, f"the stream does not come from {via}: {self.got[-5:]}")

    def end(self, held=()):
        """Stop; return the numbers that did not arrive; those of `held` may have come late."""
        sent = self.source("stop")
        until(lambda: self.more() == [] and self.got[-1][0] == sent - 1, "the end came")
        numbers = [number for number, _via in self.got]
        assert len(set(numbers)) == len(numbers), "none comes twice"
        in_order = [pair for pair in self.got if pair[0] not in held]
        for at, (before, after) in enumerate(itertools.pairwise(in_order), 1):
            assert before[0] < after[0], f"order: {in_order[max(0, at - 5) : at + 5]}"
        return sorted(set(range(sent)) - set(numbers))


def test_a_cable_that_is_pulled_and_put_back(hosts):
    a, b = hosts
    a.start(PEER.format('["192.0.2.2", "198.51.100.2"]'))
    stream = Stream(a, b)
    stream.until_over(FIRST)
    b.ip("link set eth0 down")  # the link of a goes down; its routes stay
    stream.until_over(SECOND)
    change = next(number for number, via in stream.got if via == SECOND)
    last = max(number for number, via in stream.got if via == FIRST)
    (peer,) = [host for host in a.show("hosts") if host["name"] == "peer"]
    assert peer["locators"][0]["error"] == "ENETDOWN"
    b.ip("link set eth0 up")
    stream.until_over(FIRST)
    # What went to the link before the kernel said that it is down (linkwatch, up to a second
    # later) may be lost, and no other, beside what it did not carry at the very beginning.
    # Before it says so it forgets the neighbours there (neigh_carrier_down()), and what is
    # sent then waits for an ARP answer, which comes when the link is back.
    held = range(last + 1, change)
    missing = [number for number in stream.end(held) if number > stream.got[0][0]]
    assert set(missing) <= set(held)


def test_an_explicit_address_over_a_link_that_is_down_is_refused_with_its_name(hosts):
    a, b = hosts
    a.start("")
    b.ip("link set eth1 down")
    app = a.app()
    app("socket", "mhost")
    until(lambda: _errno(app, "198.51.100.2"), "there is an error")
    with pytest.raises(OSError, match="reached over eth1, which has no link"):
        app("sendto", "x", "198.51.100.2", 9)
    assert _errno(app, "192.0.2.2") is None


def _errno(app, host):
    try:
        app("sendto", "x", host, 9)
    except OSError as err:
        return err.errno
    return None


def test_a_route_that_comes_and_goes_costs_no_datagram(hosts):
    a, b = hosts
    b.ip("addr add 203.0.113.2/32 dev lo")
    a.start(PEER.format('["203.0.113.2", "198.51.100.2"]'))
    stream = Stream(a, b)
    stream.until_over(SECOND)
    for _ in range(2):
        a.ip("route add 203.0.113.2/32 via 192.0.2.2")
        stream.until_over(FIRST)
        a.ip("route del 203.0.113.2/32")
        stream.until_over(SECOND)
    assert stream.end() == []


def test_an_address_that_goes_and_comes_under_a_socket_bound_to_its_host(hosts):
    a, b = hosts
    a.start(PEER.format('["192.0.2.2", "198.51.100.2"]'))
    stream = Stream(a, b, ("me", 0))
    stream.until_over(FIRST)
    for _ in range(2):
        a.ip("addr del 192.0.2.1/24 dev eth0")
        stream.until_over(SECOND)
        a.ip("addr add 192.0.2.1/24 dev eth0")
        stream.until_over(FIRST)
    assert stream.end() == []


def test_a_socket_bound_to_a_host_is_bound_to_its_new_address_too(hosts):
    a, b = hosts
    a.start(PEER.format("[]"))
    app, kernel = a.app(), b.app()
    app("socket", "mhost")
    _host, port = app("bind", "me", 0)
    kernel("socket", "inet")
    b.ip("route add 203.0.113.9/32 via 192.0.2.1")
    a.ip("addr add 203.0.113.9/32 dev eth0")

    def arrives():
        kernel("sendto", "hello", "203.0.113.9", port)
        try:
            return app("recv")[0] == "hello"
        except OSError:  # timed out
            return False

    until(arrives, "bound there")


def test_a_socket_whose_only_address_is_gone_says_so_and_others_go_on(hosts):
    a, b = hosts
    a.ip("addr add 203.0.113.9/32 dev eth0")
    a.start(PEER.format('["192.0.2.2"]'))
    bound, free, sink = a.app(), a.app(), b.app()
    for app in (bound, free, sink):
        app("socket", "mhost")
    _host, port = sink("bind", "*", 0)
    bound("bind", "203.0.113.9", 0)
    bound("sendto", "bound", "peer", port)
    assert sink("recv")[:2] == ["bound", "203.0.113.9"]
    a.ip("addr del 203.0.113.9/32 dev eth0")
    until(lambda: _errno(bound, "peer"), "there is an error")
    with pytest.raises(OSError, match=r"203\.0\.113\.9, to which the socket is bound, is no"):
        until(lambda: bound("sendto", "x", "peer", port) and False, "an error")
    free("sendto", "free", "peer", port)
    while sink("recv")[0] != "free":
        pass
    assert [host["locators"][0]["error"] for host in a.show("hosts")][:1] == [None]
    a.ip("addr add 203.0.113.9/32 dev eth0")
    until(lambda: _errno(bound, "peer") is None, "the address is back")


def test_the_addresses_of_the_host_are_shown_as_they_are(hosts):
    a, _b = hosts
    a.start("")

    def shown():
        return {row["name"]: row["host_addresses"] for row in a.show("l3")}

    assert shown()["host_inet"] == ["127.0.0.1", "192.0.2.1", "198.51.100.1"]
    a.ip("addr del 198.51.100.1/24 dev eth1")
    a.ip("addr add 2001:db8::1/64 dev eth1 nodad")
    assert shown()["host_inet"] == ["127.0.0.1", "192.0.2.1"]
    assert "2001:db8::1" in shown()["host_inet6"]


def test_a_tun_that_was_taken_its_address_is_warned_of(hosts):
    a, _b = hosts
    a.start('[tun.inet]\naddress = "10.77.1.1/24"\nhost_address = "10.77.1.254"\n')
    assert a.show("status")["warnings"] == []
    a.ip("addr del 10.77.1.254/24 dev mhost0")
    (warning,) = a.show("status")["warnings"]
    assert "mhost0 has lost its address 10.77.1.254/24" in warning
    until(lambda: warning in a.log(), "it is in the log")
    a.ip(warning.split("`ip ")[1].rstrip("`"))
    assert a.show("status")["warnings"] == []
