import errno
from random import Random

import pytest

from mhostd.errors import MhostError
from mhostd.sock import Client, Sock
from mhostd.udp.udp_table import EPHEMERAL, UdpKey, UdpTable

US, OTHER, PEER, STRANGER = b"\0\1", b"\0\x09", b"\0\2", b"\0\3"


@pytest.fixture
def table():
    return UdpTable(Random(1))


@pytest.fixture
def sock():
    return lambda: Sock(1, Client(1, 0), print, print)


def test_the_socket_that_matches_most_fields_gets_it(table, sock):
    """Each of these is looked up with what is more specific taken away."""
    sk = sock()
    lookup = UdpKey(1, US, 80, PEER, 7)
    table.udp_table_insert(sk, 1, US, 80)
    table.udp_table_connect(sk, 1, PEER, 7)
    assert table.udp_table_lookup(lookup) is sk
    assert table.udp_table_lookup(lookup._replace(remote=STRANGER)) is sk
    table.udp_table_remove(sk)
    assert table.udp_table_lookup(lookup) is None
    assert len(table) == 0


@pytest.mark.parametrize(
    ("family", "local", "reached"),
    [
        (1, US, [(1, US)]),
        (1, b"", [(1, US), (1, OTHER)]),
        (0, b"", [(1, US), (1, OTHER), (2, US), (2, OTHER)]),
    ],
)
def test_a_place_takes_what_comes_to_it_and_nothing_else(table, sock, family, local, reached):
    sk = sock()
    table.udp_table_insert(sk, family, local, 80)
    for key in [(1, US), (1, OTHER), (2, US), (2, OTHER)]:
        found = table.udp_table_lookup(UdpKey(*key, 80, PEER, 7))
        assert (found is sk) == (key in reached)
        assert table.udp_table_lookup(UdpKey(*key, 81, PEER, 7)) is None


def test_two_addresses_of_one_port_belong_to_two_sockets(table, sock):
    first, second = sock(), sock()
    table.udp_table_insert(first, 1, US, 80)
    table.udp_table_insert(second, 1, OTHER, 80)
    assert table.udp_table_lookup(UdpKey(1, US, 80, PEER, 7)) is first
    assert table.udp_table_lookup(UdpKey(1, OTHER, 80, PEER, 7)) is second


ANY, FAMILY_1, US_1, OTHER_1, FAMILY_2 = (0, b""), (1, b""), (1, US), (1, OTHER), (2, b"")


@pytest.mark.parametrize(
    ("first", "second", "conflict"),
    [
        (ANY, ANY, True),
        (ANY, FAMILY_1, True),
        (ANY, US_1, True),
        (FAMILY_1, ANY, True),
        (US_1, ANY, True),
        (FAMILY_1, FAMILY_1, True),
        (FAMILY_1, US_1, True),
        (US_1, FAMILY_1, True),
        (US_1, US_1, True),
        (US_1, OTHER_1, False),
        (US_1, FAMILY_2, False),
        (FAMILY_1, FAMILY_2, False),
    ],
)
def test_who_overlaps_has_a_conflict_until_the_other_goes(table, sock, first, second, conflict):
    early, late = sock(), sock()
    table.udp_table_insert(early, *first, 80)
    if conflict:
        with pytest.raises(MhostError, match="port 80 is taken") as err:
            table.udp_table_insert(late, *second, 80)
        assert err.value.errno == errno.EADDRINUSE
    table.udp_table_insert(late, *second, 81)
    table.udp_table_remove(early)
    table.udp_table_insert(late, *second, 80)


def test_a_socket_at_several_places_gives_all_of_them_back(table, sock):
    sk = sock()
    table.udp_table_insert(sk, 1, US, 80)
    table.udp_table_insert(sk, 2, b"", 80)
    assert len(table) == 1
    table.udp_table_remove(sk)
    table.udp_table_remove(sk)  # not bound any more: left as it is
    table.udp_table_insert(sock(), 0, b"", 80)


def test_an_ephemeral_port_is_a_dynamic_one_and_not_always_the_same(sock):
    ports = {UdpTable(Random(n)).udp_table_insert(sock(), 0, b"", 0) for n in range(20)}
    assert ports <= set(EPHEMERAL)
    assert len(ports) > 10
    assert (EPHEMERAL[0], EPHEMERAL[-1]) == (49152, 65535)


def test_every_ephemeral_port_is_found_and_then_there_is_none(table, sock):
    ports = [table.udp_table_insert(sock(), 0, b"", 0) for _ in EPHEMERAL]
    assert sorted(ports) == list(EPHEMERAL)
    with pytest.raises(MhostError, match="all 16384 ephemeral ports are taken") as err:
        table.udp_table_insert(sock(), 1, US, 0)
    assert err.value.errno == errno.EADDRINUSE


def test_the_last_free_ephemeral_port_is_found(table, sock):
    for port in EPHEMERAL:
        if port != 50000:
            table.udp_table_insert(sock(), 0, b"", port)
    assert table.udp_table_insert(sock(), 0, b"", 0) == 50000


def test_to_connect_anew_forgets_the_old_peer(table, sock):
    sk = sock()
    table.udp_table_insert(sk, 1, US, 80)
    table.udp_table_connect(sk, 1, PEER, 7)
    table.udp_table_connect(sk, 1, STRANGER, 8)
    assert sorted(key for key in table._socks if key.rport) == [UdpKey(1, US, 80, STRANGER, 8)]
    table.udp_table_connect(sk, 0, b"", 0)
    assert [key for key in table._socks if key.rport] == []
    assert table.udp_table_lookup(UdpKey(1, US, 80, PEER, 7)) is sk


def test_a_peer_of_another_family_adds_nothing(table, sock):
    sk = sock()
    table.udp_table_insert(sk, 1, US, 80)
    table.udp_table_connect(sk, 2, PEER, 7)
    assert [key for key in table._socks if key.rport] == []


def test_a_socket_bound_everywhere_is_connected_in_the_family_of_its_peer(table, sock):
    sk = sock()
    table.udp_table_insert(sk, 0, b"", 80)
    table.udp_table_connect(sk, 2, PEER, 7)
    assert [key for key in table._socks if key.rport] == [UdpKey(2, b"", 80, PEER, 7)]
    table.udp_table_remove(sk)
    assert table._socks == {}
    assert table._bound == {}
