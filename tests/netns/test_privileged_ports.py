"""Ports below 1024 are for processes that have CAP_NET_BIND_SERVICE, as in Linux."""

import errno
import json
import sys

import pytest
from lab import Lab, config, two_hosts

BIND = """
import json, mhost, sys
answers = {}
for host, port in json.loads(sys.argv[1]):
    with mhost.Socket() as s:
        try:
            s.bind((host, port))
            answers[f"{host} {port}"] = [0, s.getsockname()[1]]
        except OSError as err:
            answers[f"{host} {port}"] = [err.errno, err.strerror]
print(json.dumps(answers))
"""
PLACES = ["*", "10.77.1.1", "fd77:1::1", "testproto:1", "127.0.0.1", "192.0.2.1", "me"]
NOBODY = ("setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups")
WITH = (*NOBODY, "--inh-caps", "+net_bind_service", "--ambient-caps", "+net_bind_service")
ROOT_WITHOUT = ("setpriv", "--bounding-set", "-net_bind_service")
ROOT_OF_ITS_OWN = (*NOBODY, "unshare", "--user", "--map-root-user")


@pytest.fixture(scope="module")
def host():
    with Lab() as lab:
        a, _b = two_hosts(lab)
        a.start(config(1, 2))
        for path in (a.dir.parent, a.dir):  # the group mhost lets them in elsewhere
            path.chmod(0o755)
        (a.dir / "mhost.sock").chmod(0o666)
        yield a


def bind(host, who, *places):
    done = host.run(*who, sys.executable, "-c", BIND, json.dumps(places))
    return json.loads(done.stdout)


@pytest.mark.parametrize("who", [NOBODY, ROOT_WITHOUT, ROOT_OF_ITS_OWN])
def test_without_the_capability_every_place_is_refused_and_says_why(host, who):
    answers = bind(host, who, *((place, 1023) for place in PLACES))
    assert {number for number, _text in answers.values()} == {errno.EACCES}
    for _number, text in answers.values():
        assert "bind: port 1023 is below 1024" in text
        assert "CAP_NET_BIND_SERVICE" in text
        assert "net.ipv4.ip_unprivileged_port_start" in text


@pytest.mark.parametrize("who", [(), WITH])
def test_with_the_capability_every_place_is_given(host, who):
    answers = bind(host, who, *((place, 1023) for place in PLACES))
    assert list(answers.values()) == [[0, 1023]] * len(PLACES)


def test_other_ports_are_everybodys(host):
    answers = bind(host, NOBODY, *((place, port) for place in PLACES for port in (0, 1024)))
    assert {number for number, _port in answers.values()} == {0}
    assert min(port for _number, port in answers.values()) == 1024


def test_the_limit_is_the_systems(host):
    host.sysctl("net.ipv4.ip_unprivileged_port_start", 80)
    try:
        answers = bind(host, NOBODY, ("*", 80), ("*", 79))
    finally:
        host.sysctl("net.ipv4.ip_unprivileged_port_start", 1024)
    assert answers["* 80"] == [0, 80]
    assert answers["* 79"][0] == errno.EACCES
    assert "below 80" in answers["* 79"][1]
