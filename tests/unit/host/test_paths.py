"""The paths to a peer, driven by hand: which there are, what is probed, what is taken."""

from __future__ import annotations

import errno
import itertools
from dataclasses import dataclass, field

import pytest

from mhostd.errors import MhostError
from mhostd.host.path import IDLE_PROBE_S, SILENCE_FLOOR_S, State, Uplink, Way
from mhostd.host.paths import (
    CREDIT_AGAIN_S,
    CREDIT_MAX,
    CREDIT_TIMES,
    DUPLICATES_MAX,
    PATHS_MAX,
    ROOM_AGAIN_S,
    ROOM_ASKED,
    ROOM_MIN,
    Paths,
)
from mhostd.host.wire import PORT, Probe, TheirLocator
from mhostd.sock import Locator
from mhostd.uapi import AF_INET, AF_INET6

CONTROL = 80  # octets of a CONTROL packet with one probe, here


def at(link, host, family=AF_INET):
    if family == AF_INET6:
        return Locator(family, bytes.fromhex("20010db8") + bytes(10) + bytes((link, host)))
    return Locator(family, bytes((10, link, 0, host)))


@dataclass
class Around:
    """Net and Owner in one: what was sent and told is written down."""

    links: list[Uplink] = field(
        default_factory=lambda: [Uplink("host_inet", at(n, 1), n, f"eth{n}") for n in (1, 2)]
    )
    sent: list[tuple[Way, Probe]] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    refuse: dict[str, int] = field(default_factory=dict)  # errno by our device number
    width: int = 1472
    traffic: bool = False
    deaths: int = 0
    nonces: int = 0
    changes: int = 0

    def transmit(self, way, packet):
        if way.ifindex in self.refuse:
            raise MhostError(self.refuse[way.ifindex], "refused")
        self.sent.append((way, packet.probe))

    def room(self, way):
        return self.width

    def routes(self, uplink, locator):
        return locator.address[1:2] == uplink.locator.address[1:2] or locator.family == AF_INET6

    def uplinks(self):
        return tuple(self.links)

    def nonce(self):
        self.nonces += 1
        return self.nonces

    def seal(self, path, messages):
        (probe,) = messages
        return Packet(probe)

    def event(self, what, text):
        self.events.append(f"{what}: {text}")

    def changed(self):
        self.changes += 1

    def working(self, now):
        pass

    def dead(self, now):
        self.deaths += 1

    def busy(self):
        return self.traffic


class Packet:
    """A sealed packet, of which only the length and the probe matter."""

    def __init__(self, probe):
        self.probe = probe

    def __len__(self):
        return CONTROL + self.probe.pad


@pytest.fixture
def around():
    return Around()


@pytest.fixture
def paths(around):
    made = Paths(around, around)
    made.hint("config", [at(1, 2), at(2, 2)], 0.0)
    return made


def by_link(paths):
    return {path.device: path for path in paths.by_number.values()}


def answer(paths, around, now):
    """Everything that was asked is answered."""
    sent, around.sent = around.sent, []
    for _way, probe in sent:
        paths.answered(probe.nonce, now)
    return sent


def working(paths, around, now=1.0):
    """All paths work, and their round trip is known and small."""
    paths.begin(now)
    paths.run(now)
    while answer(paths, around, now + 0.001):
        pass
    assert all(path.state is State.WORKS for path in paths.by_number.values())
    return by_link(paths)


def test_there_is_a_path_for_each_pair_with_a_route(paths):
    assert {(p.device, p.way.remote) for p in paths.by_number.values()} == {
        ("eth1", at(1, 2)), ("eth2", at(2, 2)),
    }  # fmt: skip
    paths.hint("directory", [at(3, 2), at(1, 3)], 1.0)
    assert {p.way.remote for p in paths.by_number.values()} == {
        at(1, 2), at(2, 2), at(1, 3),
    }  # fmt: skip
    paths.hint("directory", [], 2.0)
    assert {p.way.remote for p in paths.by_number.values()} == {at(1, 2), at(2, 2)}


def test_there_are_only_so_many(paths):
    paths.hint("directory", [at(1, n) for n in range(100, 200)], 1.0)
    assert len(paths.by_number) == PATHS_MAX


def test_the_first_that_answers_is_taken_and_the_best_in_the_end(paths, around):
    paths.begin(1.0)
    paths.run(1.0)
    (first, second) = around.sent
    assert first[0].remote == at(1, 2)
    paths.answered(second[1].nonce, 1.001)
    assert paths.active is by_link(paths)["eth2"]
    paths.answered(first[1].nonce, 1.002)
    assert paths.active is by_link(paths)["eth2"]
    paths.run(3.1)
    assert paths.active is by_link(paths)["eth1"]


def test_an_idle_path_is_asked_as_seldom_as_rfc_8085_wants(paths, around):
    ways = working(paths, around)
    now, times = 1.0, []
    while now < 200:
        paths.run(now)
        times += [now for way, _probe in answer(paths, around, now + 0.001)]
        now += 0.25
    assert IDLE_PROBE_S >= 15
    assert len(times) <= len(ways) * 200 / 15


def test_who_does_not_answer_is_asked_twice_then_left_and_asked_less_and_less(paths, around):
    ways = working(paths, around)
    first = ways["eth1"]
    now = 1.0 + IDLE_PROBE_S + 1
    asked = []
    while now < 150:
        paths.run(now)
        for way, probe in around.sent:
            if way.ifindex == 1:
                asked.append(now)
            else:
                paths.answered(probe.nonce, now + 0.001)
        around.sent.clear()
        now += 0.01
    assert first.state is State.FAILED
    assert "probes without an answer" in first.reason or first.reason == "no answer"
    assert paths.active is ways["eth2"]
    assert asked[1] - asked[0] == pytest.approx(SILENCE_FLOOR_S, abs=0.03)
    gaps = [after - before for before, after in itertools.pairwise(asked[1:])]
    assert gaps[0] < 5
    rounded = [round(gap) for gap in gaps]
    assert rounded == sorted(rounded)
    assert 10 < gaps[-1] < 16


def test_a_path_that_cannot_even_send_has_failed(paths, around):
    ways = working(paths, around)
    around.refuse[1] = errno.ENETUNREACH
    paths.probe(ways["eth1"], 2.0)
    assert (ways["eth1"].state, ways["eth1"].reason) == (State.FAILED, "refused")
    assert paths.active is ways["eth2"]
    assert paths.last_switch.cause.endswith("refused")


def test_when_none_is_left_whoever_may_know_is_asked(paths, around):
    ways = working(paths, around)
    paths.failed(ways["eth1"], "silent", 2.0)
    assert around.deaths == 0
    paths.failed(ways["eth2"], "silent", 2.1)
    assert around.deaths == 1
    assert paths.active is not None  # nobody knows better


def test_what_failed_has_the_others_asked_at_once_and_one_miss_is_enough_then(paths, around):
    ways = working(paths, around)
    around.sent.clear()
    paths.failed(ways["eth1"], "silent", 2.0)
    assert [way.ifindex for way, _probe in around.sent] == [2]
    paths.run(2.0 + SILENCE_FLOOR_S + 0.001)
    assert ways["eth2"].state is State.FAILED


def test_an_icmp_error_has_a_path_asked_and_no_more(paths, around):
    ways = working(paths, around)
    around.sent.clear()
    paths.suspect(at(1, 2), "port unreachable (ICMP)", 2.0)
    assert [way.remote for way, _probe in around.sent] == [at(1, 2)]
    assert ways["eth1"].state is State.WORKS
    answer(paths, around, 2.001)
    assert paths.active is ways["eth1"]


def test_an_address_that_never_answered_gets_three_times_what_came_from_the_peer(paths, around):
    """RFC 9000 section 8.1; and a little at the start, so that one can begin at all."""
    paths.hint("directory", [at(1, n) for n in range(100, 120)], 1.0)
    now = 1.0
    for _ in range(40):
        now += CREDIT_AGAIN_S
        paths.run(now)
    assert sum(CONTROL + probe.pad for _way, probe in around.sent) <= CREDIT_MAX
    around.sent.clear()
    paths.came(100)
    for _ in range(40):
        now += CREDIT_AGAIN_S
        paths.run(now)
    sent = sum(CONTROL + probe.pad for _way, probe in around.sent)
    assert 0 < sent <= CREDIT_TIMES * 100 + CREDIT_MAX % CONTROL


def test_a_path_that_takes_what_it_should_is_asked_once(paths, around):
    paths.begin(1.0)
    paths.run(1.0)
    answer(paths, around, 1.001)
    pads = [probe.pad for _way, probe in around.sent]
    assert pads
    assert all(pad > 1300 for pad in pads)
    answer(paths, around, 1.002)
    assert all(path.room == 1472 for path in paths.by_number.values())
    paths.run(1.5)
    assert around.sent == []


def test_a_path_that_swallows_large_packets_is_thought_narrow_and_works(paths, around):
    """RFC 8899: a black hole; it is asked anew after ten minutes."""
    paths.begin(1.0)
    now, padded = 1.0, 0
    while now < 4.0:
        paths.run(now)
        sent, around.sent = around.sent, []
        for _way, probe in sent:
            padded += bool(probe.pad)
            if not probe.pad:
                paths.answered(probe.nonce, now + 0.001)
        now += 0.01
    assert padded == ROOM_ASKED * 2
    assert {path.room for path in paths.by_number.values()} == {ROOM_MIN}
    assert {path.state for path in paths.by_number.values()} == {State.WORKS}
    assert paths.room() == ROOM_MIN
    later = 4.0
    while later < ROOM_AGAIN_S + 100:
        later += 0.5
        paths.run(later)
        answer(paths, around, later + 0.001)
    assert {path.room for path in paths.by_number.values()} == {1472}


def test_a_link_that_is_narrower_now_is_asked_anew(paths, around):
    working(paths, around)
    around.width = 1372
    paths.resize(2.0)
    assert paths.room() == 1372


def test_duplicates_take_every_path_that_works_and_is_to_be_kept(paths, around):
    paths.hint("directory", [at(1, n) for n in range(3, 9)], 0.5)
    paths.came(10_000)
    now = 1.0
    paths.begin(now)
    for _ in range(40):
        now += 0.1
        paths.came(1000)
        paths.run(now)
        answer(paths, around, now)
    assert len(paths.data_paths(True)) == DUPLICATES_MAX
    assert paths.data_paths(False) == [paths.active]
    for path in paths.by_number.values():
        path.drained = path.device == "eth1"
    assert [path.device for path in paths.data_paths(True)] == ["eth2"]


def test_where_nothing_works_the_last_one_is_still_taken(paths, around):
    ways = working(paths, around)
    for path in ways.values():
        paths.failed(path, "silent", 2.0)
    assert len(paths.data_paths(True)) == len(paths.data_paths(False)) == 1


def test_an_uplink_that_goes_takes_its_paths_with_it(paths, around):
    ways = working(paths, around)
    around.links.pop(0)
    paths.refresh(2.0)
    assert list(by_link(paths)) == ["eth2"]
    assert paths.active is ways["eth2"]
    assert paths.last_switch.cause == "eth1: our address is gone"


def test_an_interface_of_another_number_is_another_path(paths, around):
    before = working(paths, around)["eth1"]
    around.links[0] = around.links[0]._replace(ifindex=9)
    paths.refresh(2.0)
    assert by_link(paths)["eth1"] is not before
    assert by_link(paths)["eth1"].state is State.NEW


def test_what_the_peer_drains_is_left_and_taken_back(paths, around):
    ways = working(paths, around)
    both = TheirLocator(at(1, 2), True), TheirLocator(at(2, 2))
    paths.told(both, 2.0)
    assert paths.active is ways["eth2"]
    paths.told((both[0]._replace(drained=False), both[1]), 3.0)
    paths.run(6.0)
    assert paths.active is ways["eth1"]


def test_what_the_peer_has_left_is_no_path_though_it_is_configured(paths, around):
    working(paths, around)
    paths.told((TheirLocator(at(1, 2)), TheirLocator(at(2, 2))), 2.0)
    paths.told((TheirLocator(at(2, 2)),), 3.0)
    assert list(by_link(paths)) == ["eth2"]
    paths.refresh(4.0)
    assert list(by_link(paths)) == ["eth2"]
    paths.hint("config", [at(1, 2), at(2, 2), at(2, 9)], 5.0)  # said anew
    assert sorted(p.way.remote for p in paths.by_number.values()) == [
        at(1, 2), at(2, 2), at(2, 9),
    ]  # fmt: skip


def test_where_a_packet_came_from_is_a_path_for_as_long_as_it_works(paths, around):
    """Behind a NAT the peer says nothing of that address."""
    working(paths, around)
    way = Way("host_inet", at(1, 1), 1, at(1, 77), 4242)
    path = paths.of(way, 2.0)
    assert paths.of(way, 2.1) is path
    assert path.heard
    assert path.state is State.NEW
    paths.works_now(path, "probe answered", 2.2)
    paths.told((TheirLocator(at(1, 2)),), 2.3)
    assert path in paths.by_number.values()
    paths.failed(path, "silent", 3.0)
    paths.told((TheirLocator(at(1, 2)),), 3.1)
    assert path not in paths.by_number.values()


def test_a_packet_to_an_address_that_is_not_ours_makes_no_path(paths):
    assert paths.of(Way("host_inet", at(7, 1), 7, at(7, 2), PORT), 1.0) is None


def test_numbers_are_never_shared(paths, around):
    seen = set()
    for n in range(600):
        paths.hint("directory", [at(1, 3 + n % 200)], float(n))
        numbers = list(paths.by_number)
        assert len(set(numbers)) == len(paths.by_number) <= PATHS_MAX
        assert all(paths.by_number[number].number == number for number in numbers)
        seen |= set(numbers)
    assert len(seen) == 256


def test_what_the_kernel_refuses_though_it_should_fit_is_too_large(paths, around):
    ways = working(paths, around)
    around.refuse[1] = errno.EMSGSIZE
    paths.probe(ways["eth1"], 2.0, 1400)
    assert (ways["eth1"].room, ways["eth1"].state) == (ROOM_MIN, State.WORKS)
    around.width = 1372
    paths.probe(ways["eth1"], 3.0, 1400)
    assert ways["eth1"].room == 1372


def test_whoever_sends_is_told_when_another_path_may_be_copied_to(paths, around):
    """The one that is taken stays; the fast lane has those of policy duplicate, too."""
    working(paths, around)
    for drained in (True, False):
        around.changes = 0
        around.links[1] = around.links[1]._replace(drained=drained)
        paths.refresh(2.0)
        assert around.changes
    around.changes = 0
    paths.refresh(3.0)
    assert not around.changes
    around.links.pop()
    paths.refresh(4.0)
    assert around.changes


def test_a_better_one_that_does_not_work_wakes_nobody(paths, around):
    ways = working(paths, around)
    paths.failed(ways["eth1"], "silent", 2.0)
    answer(paths, around, 2.001)
    now, turns = 100.0, 0
    while now < 200:
        now = max(now, paths.due_s)
        paths.run(now)
        for way, probe in around.sent:
            if way.ifindex == 2:
                paths.answered(probe.nonce, now)
        around.sent.clear()
        turns += 1
    assert turns < 30


def test_addresses_that_never_answered_are_asked_less_and_less(paths, around):
    """Also while there is no credit for them."""
    paths.hint("directory", [at(1, n) for n in range(100, 110)], 0.5)
    paths.begin(1.0)
    now, turns = 1.0, 0
    while now < 300:
        now = max(now + 0.001, paths.due_s)
        paths.came(CONTROL // 3)
        paths.run(now)
        around.sent.clear()
        turns += now > 200
    assert turns < 300


def test_the_path_that_is_taken_and_fails_twice_is_left(paths, around):
    ways = working(paths, around)
    paths.failed(ways["eth2"], "silent", 2.0)
    paths.failed(ways["eth1"], "silent", 2.1)
    assert paths.active is ways["eth1"]
    ways["eth2"].turn(State.WORKS, "answered", 2.2)
    paths.failed(ways["eth1"], "refused", 2.3)
    assert paths.active is ways["eth2"]


def test_a_path_whose_report_was_late_is_what_it_was(paths, around):
    """The peer was busy; what it says came over that path, and so did what it says."""
    first = working(paths, around)["eth1"]
    since_s, hold_s = first.since_s, first.hold_s
    paths.silent(first, "silent for 100 ms under traffic", 5.0)
    assert paths.active is not first
    paths.reported(first, 5.02)
    assert paths.active is first
    assert (first.state, first.since_s, first.hold_s) == (State.WORKS, since_s, hold_s)
    paths.failed(first, "refused", 6.0)
    paths.reported(first, 6.01)  # for another reason: no report mends that
    assert first.state is State.FAILED


def test_a_path_that_was_heard_first_ranks_as_its_locator_once_that_is_named(paths):
    early = paths.of(Way("host_inet", at(1, 1), 1, at(1, 7), PORT), 1.0)
    paths.hint("config", [at(1, 7), at(1, 2), at(2, 2)], 2.0)
    assert paths.ordered()[0] is early
