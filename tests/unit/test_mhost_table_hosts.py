"""Hosts: names, bindings and handles."""

import errno

import pytest

from mhostd.errors import MhostError
from mhostd.mhost_table import MhostTable
from mhostd.sock import Locator

A, B, C = (Locator(1, bytes((0, n))) for n in (1, 2, 3))


@pytest.fixture
def table():
    return MhostTable()


def test_a_name_is_bound_to_locators_in_their_order(table):
    host = table.insert_sockaddr_id("cat", [B, A])
    assert host.locators == [B, A]


def test_locators_that_come_later_go_behind_and_count_once(table):
    table.insert_sockaddr_id("cat", [A])
    assert table.insert_sockaddr_id("cat", [B, A, C, B]).locators == [A, B, C]


def test_case_makes_no_other_host(table):
    host = table.insert_sockaddr_id("Cat", [A])
    assert host.name == "cat"
    assert table.insert_sockaddr_id("CAT", [B]) is host
    table.remove_sockaddr_id("cAt")
    assert table.hosts == {}


@pytest.mark.parametrize("name", ["a", "x1", "_srv", "a-b.example.org", "a.", "x" * 253])
def test_what_may_be_a_host_name_is_one(table, name):
    assert table.mhost_hold(name).name == name.removesuffix(".")
    assert table.mhost_hold(f"{name.upper()}").name == name.removesuffix(".")


@pytest.mark.parametrize(
    "name", ["", ".", "-a", "a-", "a b", "a/b", "caf\xe9", "a:1", "*", "a\n", "x" * 254]
)
def test_what_may_not_be_a_host_name_is_refused(table, name):
    with pytest.raises(MhostError, match="is no host name") as err:
        table.insert_sockaddr_id(name, [A])
    assert err.value.errno == errno.EINVAL
    assert table.hosts == {}


def test_an_address_without_octets_is_no_locator(table):
    with pytest.raises(MhostError, match=r"`\*` is no locator") as err:
        table.insert_sockaddr_id("cat", [A, Locator(2, b"")])
    assert err.value.errno == errno.EINVAL
    assert table.hosts == {}


def test_a_locator_is_unbound_and_the_others_stay(table):
    host = table.insert_sockaddr_id("cat", [A, B, C])
    table.remove_sockaddr_id("cat", [B])
    assert host.locators == [A, C]


def test_to_name_a_locator_twice_unbinds_it_once(table):
    host = table.insert_sockaddr_id("cat", [A, B])
    table.remove_sockaddr_id("cat", [B, B])
    assert host.locators == [A]


def test_one_wrong_locator_and_nothing_is_unbound(table):
    host = table.insert_sockaddr_id("cat", [A, B])
    with pytest.raises(MhostError, match="host cat has no locator"):
        table.remove_sockaddr_id("cat", [A, C])
    assert host.locators == [A, B]


def test_a_name_that_is_only_held_is_not_bound(table):
    table.mhost_hold("cat")
    with pytest.raises(MhostError, match="host cat is not bound") as err:
        table.remove_sockaddr_id("cat")
    assert err.value.errno == errno.ENOENT


def test_a_host_is_forgotten_with_its_last_locator(table):
    host = table.insert_sockaddr_id("cat", [A, B])
    table.remove_sockaddr_id("cat", [A])
    assert table.mhost_host(host.handle) is host
    table.remove_sockaddr_id("cat", [B])
    with pytest.raises(MhostError, match="names no host") as err:
        table.mhost_host(host.handle)
    assert err.value.errno == errno.EHOSTUNREACH


def test_a_held_handle_stays_when_the_name_is_unbound_and_bound_anew(table):
    host = table.insert_sockaddr_id("cat", [A])
    assert table.mhost_hold("cat") is host
    table.remove_sockaddr_id("cat")
    assert table.mhost_host(host.handle) is host
    assert host.locators == []
    assert table.insert_sockaddr_id("cat", [B]) is host


def test_the_last_holder_takes_a_host_that_is_not_bound_with_him(table):
    host = table.mhost_hold("cat")
    table.mhost_hold("cat")
    table.mhost_put(host.handle)
    assert table.mhost_host(host.handle) is host
    table.mhost_put(host.handle)
    assert table.hosts == {}


def test_a_bound_host_outlives_its_holders(table):
    host = table.insert_sockaddr_id("cat", [A])
    table.mhost_hold("cat")
    table.mhost_put(host.handle)
    assert table.hosts == {"cat": host}


def test_a_handle_is_never_used_again(table):
    first = table.mhost_hold("cat").handle
    table.mhost_put(first)
    assert table.mhost_hold("cat").handle != first


def test_what_the_resolver_said_counts_only_while_nobody_bound_the_name(table):
    host = table.mhost_hold("cat")
    host.resolved = [A]
    assert host.locators == [A]
    table.insert_sockaddr_id("cat", [B])
    assert host.locators == [B]
    table.remove_sockaddr_id("cat")
    assert host.locators == [A]


def test_a_locator_is_owned_by_the_first_who_was_bound_to_it(table):
    cat = table.insert_sockaddr_id("cat", [A, B])
    dog = table.insert_sockaddr_id("dog", [A, C])
    assert [table.mhost_owner(loc) for loc in (A, B, C)] == [cat, cat, dog]
    assert table.mhost_owner(Locator(1, b"\0\x09")) is None


def test_a_locator_that_its_owner_loses_goes_to_the_next_one(table):
    table.insert_sockaddr_id("cat", [A])
    dog = table.insert_sockaddr_id("dog", [B, A])
    table.remove_sockaddr_id("cat")
    assert table.mhost_owner(A) is dog
    table.remove_sockaddr_id("dog", [A])
    assert table.mhost_owner(A) is None
