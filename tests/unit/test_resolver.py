"""When a name is asked for, and what its answer is worth meanwhile; the clock is virtual."""

import itertools

import pytest

from mhostd.config import Resolver as ResolverConfig
from mhostd.dev import NetCore
from mhostd.mhost_table import MhostTable
from mhostd.resolver import ASKED_MAX, SLOW_MAX, SLOW_S, STALE_S, Resolver
from mhostd.sock import Locator

TTL_S, NEGATIVE_TTL_S = 30.0, 5.0
ONE, TWO = Locator(2, bytes((192, 0, 2, 1))), Locator(10, bytes(15) + b"\1")


class Lookups:
    """A resolver, and a name service that answers when it is told to.

    Attributes:
        asked: names in the order in which they were asked for.
        open: how to answer those that wait.
    """

    def __init__(self, **config):
        self.now = 1000.0
        self.core = NetCore(lambda: self.now)
        self.table = MhostTable()
        self.asked, self.open, self.done = [], {}, []
        config = {"ttl_s": TTL_S, "negative_ttl_s": NEGATIVE_TTL_S, **config}
        self.config = ResolverConfig(**config)
        self.resolver = Resolver(
            self.table, self.config, self.core, self._ask, lambda callback: callback()
        )

    def _ask(self, name, answered):
        assert name not in self.open, "asked for while it is being asked for"
        self.asked.append(name)
        self.open[name] = answered

    def resolve(self, name="robot"):
        self.resolver.resolve(name, lambda: self.done.append(name))

    def answer(self, *locators, name="robot"):
        self.open.pop(name)(list(locators))

    def fail(self, name="robot"):
        self.open.pop(name)(None)

    def wait(self, seconds):
        self.now += seconds
        self.core.run_timers()


@pytest.fixture
def lookups():
    return Lookups()


@pytest.fixture
def host(lookups):
    return lookups.table.mhost_hold("robot")


@pytest.fixture
def known(lookups, host):
    """Of `robot` there is an answer."""
    lookups.resolve()
    lookups.answer(ONE, TWO)
    return host


def test_all_answers_are_locators_in_their_order_and_the_asker_is_told(lookups, known):
    assert known.resolved == known.locators == [ONE, TWO]
    assert lookups.done == ["robot"]


def test_who_asks_for_what_is_being_asked_waits_with_the_first(lookups, host):
    lookups.resolve()
    lookups.resolve()
    assert lookups.asked == ["robot"]
    assert lookups.done == []
    lookups.answer(ONE)
    assert lookups.done == ["robot"] * 2


def test_an_old_answer_is_used_while_the_next_one_is_asked_for(lookups, known):
    lookups.wait(TTL_S - 0.001)
    assert lookups.asked == ["robot"]
    lookups.wait(0.001)
    assert lookups.asked == ["robot"] * 2
    lookups.wait(20)
    assert known.locators == [ONE, TWO]
    lookups.answer(TWO)
    assert known.locators == [TWO]
    lookups.wait(TTL_S)
    assert lookups.asked == ["robot"] * 3


@pytest.mark.parametrize("how", ["answer", "fail"])
def test_that_there_is_no_answer_is_remembered_too_and_asked_when_it_is_used(
    lookups, host, how
):
    lookups.resolve()
    getattr(lookups, how)()
    assert host.resolved == []
    assert lookups.done == ["robot"]
    lookups.wait(NEGATIVE_TTL_S - 0.001)
    assert host.resolved == []
    lookups.wait(0.001)
    assert host.resolved is None
    assert lookups.asked == ["robot"]


def test_while_nobody_can_answer_the_old_answer_counts_for_a_day(lookups, known):
    lookups.wait(TTL_S)
    lookups.fail()
    failures = 0
    while known.resolved == [ONE, TWO]:
        lookups.wait(NEGATIVE_TTL_S)
        lookups.fail()
        failures += 1
    assert failures == STALE_S / NEGATIVE_TTL_S
    assert known.resolved == []


def test_after_a_failure_the_next_answer_lasts_its_full_time(lookups, known):
    lookups.wait(TTL_S)
    lookups.fail()
    lookups.wait(NEGATIVE_TTL_S)
    lookups.answer(TWO)
    asked = len(lookups.asked)
    lookups.wait(TTL_S - 0.001)
    assert len(lookups.asked) == asked
    lookups.wait(0.001)
    assert len(lookups.asked) == asked + 1


def test_a_name_that_has_vanished_is_gone_at_once(lookups, known):
    lookups.wait(TTL_S)
    lookups.answer()
    assert known.locators == []


def test_a_name_that_nobody_holds_is_asked_for_no_longer(lookups, known):
    lookups.table.mhost_put(known.handle)
    lookups.wait(TTL_S)
    assert lookups.asked == ["robot"]
    assert lookups.core.next_timer_s is None


def test_a_name_that_was_let_go_while_it_waited_is_not_asked_for(lookups):
    for i in range(ASKED_MAX + 1):
        lookups.table.mhost_hold(f"n{i}")
        lookups.resolve(f"n{i}")
    last = f"n{ASKED_MAX}"
    lookups.table.mhost_put(lookups.table.hosts[last].handle)
    lookups.answer(ONE, name="n0")
    assert last not in lookups.asked
    assert lookups.done == ["n0", last]


def test_a_name_let_go_and_held_again_is_asked_for_once_in_each_ttl(lookups, known):
    lookups.table.mhost_put(known.handle)
    lookups.wait(TTL_S / 2)
    again = lookups.table.mhost_hold("robot")
    lookups.resolve()
    lookups.answer(TWO)
    lookups.wait(TTL_S / 2)  # the time of the first answer
    assert lookups.asked == ["robot"] * 2
    lookups.wait(TTL_S / 2)
    assert lookups.asked == ["robot"] * 3
    assert again.locators == [TWO]


def test_what_somebody_has_bound_is_not_asked_for_again(lookups, known):
    lookups.table.insert_sockaddr_id("robot", [TWO])
    lookups.wait(TTL_S)
    assert lookups.asked == ["robot"]
    lookups.table.remove_sockaddr_id("robot")
    assert known.resolved is None  # the next send asks


def test_silent_names_hold_up_the_others_for_a_moment_only(lookups):
    for i in range(ASKED_MAX):
        lookups.table.mhost_hold(f"silent{i}")
        lookups.resolve(f"silent{i}")
    lookups.table.mhost_hold("robot")
    lookups.resolve()
    assert "robot" not in lookups.asked
    lookups.wait(SLOW_S)
    lookups.answer(ONE)
    assert lookups.done == ["robot"]


def test_no_more_than_so_many_are_asked_for_at_a_time(lookups):
    names = [f"silent{i}" for i in range(SLOW_MAX + 100)]
    for name in names:
        lookups.table.mhost_hold(name)
        lookups.resolve(name)
    for _ in range(SLOW_MAX // ASKED_MAX + 10):
        lookups.wait(SLOW_S)
    assert len(lookups.open) == SLOW_MAX
    for name in itertools.islice(list(lookups.open), 100):
        lookups.answer(ONE, name=name)
    lookups.wait(SLOW_S)
    assert len(lookups.open) == SLOW_MAX
    while lookups.open:
        lookups.answer(ONE, name=next(iter(lookups.open)))
    assert sorted(lookups.done) == sorted(names)


def test_without_the_system_nobody_is_asked_and_nothing_waits():
    lookups = Lookups(system=False)
    host = lookups.table.mhost_hold("robot")
    lookups.resolve()
    assert lookups.done == ["robot"]
    assert host.resolved == []
    assert lookups.asked == []
    assert lookups.core.next_timer_s is None


def test_a_reload_turns_the_system_off_and_on(lookups, known):
    off = ResolverConfig(system=False)
    lookups.wait(TTL_S)  # a look-up is under way
    lookups.resolver.reload(off)
    assert known.resolved is None
    lookups.answer(ONE)
    assert known.resolved == []
    lookups.resolver.reload(lookups.config)
    assert known.resolved is None
    lookups.resolve()
    lookups.answer(TWO)
    assert known.locators == [TWO]
    asked = len(lookups.asked)
    lookups.wait(TTL_S)
    assert len(lookups.asked) == asked + 1


def test_a_reload_with_other_ttls_counts_from_the_next_answer_on(lookups, known):
    lookups.resolver.reload(ResolverConfig(ttl_s=100.0))
    assert known.locators == [ONE, TWO]
    lookups.wait(TTL_S)
    lookups.answer(ONE)
    lookups.wait(99.9)
    assert lookups.asked == ["robot"] * 2
    lookups.wait(0.1)
    assert lookups.asked == ["robot"] * 3
