"""Cuts that leave the carrier (benchmarks/failover/events.py) stop what they are to stop."""

import json

import pytest
from events import one_way, ports
from lab import Lab, two_links


def received(host):
    shown = json.loads(host.run("ip", "-j", "-s", "link", "show", "eth0").stdout)[0]
    assert "LOWER_UP" in shown["flags"]
    return shown["stats64"]["rx"]["packets"]


@pytest.fixture
def links():
    with Lab() as lab:
        two_links(lab)
        yield lab.hosts


@pytest.mark.parametrize(
    ("step", "reaches"),
    [
        (None, {"a", "b"}),
        (ports(0, 0), set()),
        (one_way("b0"), {"a"}),
        (one_way("a0"), {"b"}),
    ],
    ids=["none", "both", "a-to-b", "b-to-a"],
)
def test_frames_of_a_cut_direction_die_while_both_ends_see_their_carrier(links, step, reaches):
    pings = [("a", "10.1.0.2"), ("b", "10.1.0.1")]
    for name, address in pings:  # so that neighbours are known
        links[name].run("ping", "-c1", "-W2", address)
    if step:
        links[step.host].run("sh", "-c", step.command)
    before = {name: received(links[name]) for name, _address in pings}
    for name, address in pings:
        links[name].run("ping", "-c3", "-i0.01", "-W0.2", address, check=False)
    assert {name for name in before if received(links[name]) > before[name]} == reaches
