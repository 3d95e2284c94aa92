"""The reading verbs: every value is what `mhostctl -j` prints."""

import errno
import json

import pytest

from mhostd.errors import DropReason


@pytest.fixture
def show(desk):
    def show(what):
        answers = []
        desk.show(what, "", answers.append, 5)
        (reply,) = answers
        assert (reply.seq, reply.errno) == (5, 0)
        return json.loads(json.dumps(reply.value))

    return show


def test_a_verb_that_is_none_is_refused_with_those_that_are(desk):
    answers = []
    desk.show("weather", "", answers.append, 5)
    assert answers[0].errno == errno.EINVAL
    assert "there are status, sockets, hosts, l3, routes, counters, drops" in answers[0].text


def test_status_says_what_runs_and_on_which_devices(desk):
    desk.node.now += 12.5
    desk.node.core.devices["eth1"].up = False
    status = desk.show.status(["no route"])
    assert (status["uptime_s"], status["hosts"], status["warnings"]) == (12.5, 1, ["no route"])
    assert [(dev["name"], dev["up"]) for dev in status["devices"]] == [
        ("lo", True),
        ("mhost0", True),
        ("eth0", True),
        ("eth1", False),
    ]
    assert status["rss_kib"] > 1000


def test_sockets_are_shown_with_their_owner_and_both_ends(desk, show):
    node = desk.node
    sk = node.socket("testproto:1", 4000)
    node.connect(sk, "robot", 7)
    node.sendto(sk, b"hello")
    node.socket()
    bound, unbound = show("sockets")
    assert (bound["pid"], bound["program"], bound["local"], bound["port"]) == (
        101,
        "test",
        "testproto:1",
        4000,
    )
    assert (bound["peer"], bound["peer_port"], bound["tx_datagrams"]) == ("robot", 7, 1)
    assert (unbound["local"], unbound["port"], unbound["peer"]) == ("", 0, None)


def test_a_wildcard_is_shown_as_a_star(desk, show):
    sk = desk.node.socket()
    desk.node.sendto(sk, b"", "robot", 7)
    assert show("sockets")[0]["local"] == "*"


def test_hosts_are_shown_with_what_is_passed_over_and_for_how_long(desk, show):
    node = desk.node
    node.table.faults.failed(node.locator("testproto:2"), errno.ENETDOWN, node.now - 0.25)
    node.core.devices["eth1"].up = False
    node.table.mhost_hold("cat")
    (robot,) = show("hosts")  # `cat` is a name without a locator
    assert (robot["name"], robot["source"]) == ("robot", "bound")
    first, second, third, fourth = robot["locators"]
    assert first == {
        "locator": "testproto:2",
        "l3": "testproto",
        "usable": False,
        "error": "ENETDOWN",
        "retry_s": 0.75,
    }
    assert (second["usable"], second["error"]) == (False, None)  # its device is down
    assert [(third["usable"], third["l3"]), (fourth["usable"], fourth["l3"])] == [
        (True, "inet"),
        (True, "inet6"),
    ]
    node.now += 1
    assert show("hosts")[0]["locators"][0]["usable"]


def test_a_locator_whose_handler_is_gone_is_shown_as_such(desk, show):
    desk.node.stack.l3_set("testproto", up=False)
    assert show("hosts")[0]["locators"][0] == {
        "locator": "family-1:0002",
        "l3": None,
        "usable": False,
        "error": None,
        "retry_s": None,
    }


def test_handlers_are_shown_with_number_address_and_room(show):
    assert show("l3")[2] == {
        "number": 3,
        "name": "testproto",
        "family": 1,
        "addresses": ["1"],
        "host_addresses": [],
        "device": "eth0",
        "up": True,
        "mtu": 1492,
        "own_udp": False,
    }


def test_routes_are_shown_in_the_order_of_look_up(show):
    assert [(route["prefix"], route["l3"]) for route in show("routes")] == [
        ("10.77.0.0/24", "inet"),
        ("10.78.0.0/16", "inet"),
        ("fd77::/64", "inet6"),
        ("0/0", "testproto"),
        ("0:0:0:0/0", "otherproto"),
    ]


def test_counters_are_those_of_devices_handlers_and_sockets(desk, show, golden):
    desk.node.socket("*", 4000)
    desk.node.receive(golden["udp4"])
    desk.node.receive(golden["echo4"])
    counters = show("counters")
    assert counters["mhost0"]["rx_packets"] == 2
    assert counters["inet"]["icmp_echos"] == 1
    assert counters["sockets"] == {"rx_datagrams": 1, "tx_datagrams": 0, "rx_drops": 0}


def test_every_reason_is_shown_and_those_that_occurred_are_counted(desk, show, golden):
    desk.node.receive(golden["udp4"])
    drops = show("drops")
    assert list(drops) == [reason.value for reason in DropReason]
    assert {name: count for name, count in drops.items() if count} == {"no_socket": 1}
