"""Path MTU: what is believed, and for how long (Linux net/ipv4/route.c)."""

import pytest

from mhostd.l3.pmtu import ENTRIES_MAX, EXPIRES_S, PathMtu, PathMtus


class Clock:
    """A clock that is moved by hand."""

    now = 1000.0

    def __call__(self):
        return self.now


PEER = b"\x0a\x4d\x00\x02"


@pytest.mark.parametrize(
    ("heard", "known"),
    [
        ([1400], PathMtu(1400)),
        ([1500], PathMtu(1500)),
        ([9000], PathMtu(1500)),
        ([1400, 1450], PathMtu(1400)),
        ([1400, 1300], PathMtu(1300)),
        ([552], PathMtu(552)),
        ([551], PathMtu(552, locked=True)),
        ([0], PathMtu(552, locked=True)),
        ([68, 1400], PathMtu(552, locked=True)),
    ],
)
def test_only_less_is_believed_and_not_too_little(heard, known):
    clock = Clock()
    pmtus = PathMtus(552, False, clock)
    for mtu in heard:
        pmtus.learn(PEER, mtu, 1500)
    assert pmtus.path_mtu(PEER, 1500) == known.octets
    assert (pmtus.lookup(PEER, 1500) or PathMtu(1500)) == known
    clock.now += EXPIRES_S
    assert pmtus.lookup(PEER, 1500) is None
    assert pmtus.path_mtu(b"\x0a\x4d\x00\x03", 1500) == 1500


@pytest.mark.parametrize(("mtu", "known"), [(0, 1500), (1279, 1500), (1280, 1280)])
def test_ipv6_does_not_hear_of_less_than_every_link_has(mtu, known):
    pmtus = PathMtus(1280, True, Clock())
    pmtus.learn(PEER, mtu, 1500)
    assert pmtus.path_mtu(PEER, 1500) == known


def test_a_device_that_has_shrunk_knows_better():
    pmtus = PathMtus(552, False, Clock())
    pmtus.learn(PEER, 1400, 1500)
    assert pmtus.path_mtu(PEER, 1300) == 1300


def test_what_is_known_is_bounded():
    pmtus = PathMtus(552, False, Clock())
    for i in range(ENTRIES_MAX + 1):
        pmtus.learn(i.to_bytes(4, "big"), 1400, 1500)
    assert pmtus.path_mtu(bytes(4), 1500) == 1500
    assert pmtus.path_mtu((1).to_bytes(4, "big"), 1500) == 1400
