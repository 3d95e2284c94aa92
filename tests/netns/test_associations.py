"""Two hosts with keys, each with its own daemon: what programs and operators see of it."""

from __future__ import annotations

import base64
import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time

import msgspec
import pytest
from lab import BIN, Lab, config, key_of, locators, stranger, two_hosts, two_links

from mhostd.directory_file import emit_line, parse_line

L3S = dict(
    zip(("inet", "inet6", "host_inet", "host_inet6", "testproto", "otherproto"), locators(2),
        strict=True)
)  # fmt: skip
MTU = 1500
NARROW = 1232  # octets of UDP payload that every path of IPv6 takes
OVER = 40  # octets of header, tag and inner UDP header that an association adds


def entry(host, *locators, policy=""):
    """A host with a key, as configuration has it."""
    fields = {"key": key_of(host), "locators": list(locators)} | (
        {"policy": policy} if policy else {}
    )
    return "{ " + ", ".join(f"{k} = {json.dumps(v)}" for k, v in fields.items()) + " }"


def kernel_only(a, b, *links, more="", policy=""):
    """Start both daemons with the host kernel's networks alone; each knows the other."""
    for host, peer, number in ((a, b, 2), (b, a, 1)):
        at = [f"10.{link + 1}.0.{number}" for link in links]
        host.start(
            f"[tun]\nenable = false\n{more}"
            f"[hosts]\n{peer.name} = {entry(peer, *at, policy=policy)}\n"
        )


def until(true, seconds=5.0):
    """Wait for something to become true."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, found
        time.sleep(0.02)
    return found


def active(host):
    return next((path for path in host.show("paths") if path["active"]), None)


def working(host):
    return sum(path["state"] == "works" for path in host.show("paths"))


def carrier(via):
    """The L3 of the path, in MHOST_PKTINFO's words: mhost device identifier L3 ours theirs."""
    words = via.split()
    assert words[0] == "mhost"
    return words[3]


def identifier(host):
    return host.show("key")["identifier"]


@pytest.fixture(scope="module")
def everything():
    """Hosts with every L3 there is; b knows nobody."""
    with Lab() as lab:
        a, b = two_hosts(lab)
        key_b = key_of(b)
        a.start(config(1, 2))
        b.start(config(2, 1))
        echo = b.app()
        echo("socket", "mhost")
        echo("bind", "*", 7)
        echo("echo")
        yield a, b, key_b


def ask(app, text, host, port=7):
    app("sendto", text, host, port)
    return app("recv")


@pytest.fixture(scope="module")
def sink(everything):
    """It says nothing, so that its host has no reason to call when it is left."""
    app = everything[1].app()
    app("socket", "mhost")
    app("bind", "*", 6)
    return app


@pytest.mark.parametrize("l3", L3S)
def test_an_association_forms_over_every_l3(everything, sink, l3):
    """One locator is known; b has never heard of a, and is told its identifier."""
    a, b, key = everything
    a.mhostctl("hosts", "add", "bob", "--key", key, L3S[l3])
    app = a.app()
    app("socket", "mhost")
    try:
        app("sendto", f"over {l3}", "bob", 6)
        text, source, _port, via = sink("recv")
        assert (text, source, carrier(via)) == (f"over {l3}", identifier(a), l3)
        assert association(a, "bob") == association(b, identifier(a)) == "established"
    finally:
        app("close")
        a.mhostctl("hosts", "del", "bob")
    until(lambda: association(b, identifier(a)) in (None, "none"))


def association(host, name):
    """Its state, as `mhostctl hosts` shows it."""
    named = [each["identity"] for each in host.show("hosts") if each["name"] == name]
    return named[0] and named[0]["association"] if named else None


def test_a_flow_goes_from_one_l3_to_the_next(everything):
    """All but one are drained, one after another: nothing is lost, and both ends follow."""
    a, _b, key = everything
    a.mhostctl("hosts", "add", "bob", "--key", key, *L3S.values())
    app = a.app()
    app("socket", "mhost")
    try:
        ask(app, "hello", "bob")
        until(lambda: {p["l3"] for p in a.show("paths") if p["state"] == "works"} == set(L3S))
        for l3 in L3S:
            a.mhostctl("path", "undrain", l3)  # one is left at any time
            for other in L3S:
                if other != l3:
                    a.mhostctl("path", "drain", other)

            def both(l3=l3):
                text, _source, _port, via = ask(app, "x", "bob")
                return carrier(via) == carrier(text.split("|")[0]) == l3

            until(both)
    finally:
        for l3 in L3S:
            a.mhostctl("path", "undrain", l3, check=False)
        app("close")
        a.mhostctl("hosts", "del", "bob")


def test_a_host_is_named_by_its_identifier(everything):
    """Or by its key; a stranger can be answered, and called, by what he is seen as."""
    a, b, key = everything
    a.mhostctl("hosts", "add", "bob", "--key", key, "192.0.2.2")
    app, stranger = a.app(), b.app()
    try:
        for each in (app, stranger):
            each("socket", "mhost")
        for text in (identifier(b), key, f"mhost:{key}"):
            assert ask(app, "hi", text)[1] == "bob"  # who is named has a name
        stranger("bind", "*", 8)
        app("sendto", "who am I", "bob", 8)
        text, source, port, _via = stranger("recv")
        assert (text, source) == ("who am I", identifier(a))
        stranger("sendto", "a stranger", source, port)
        assert app("recv")[:3] == ["a stranger", "bob", 8]
    finally:
        app("close")
        stranger("close")
        a.mhostctl("hosts", "del", "bob")


def test_an_identifier_that_nobody_knows_is_refused_at_once(everything):
    a = everything[0]
    app = a.app()
    app("socket", "mhost")
    with pytest.raises(OSError, match="no key is known for host 2001:2f:") as caught:
        app("sendto", "x", "2001:2f::1", 7)
    assert caught.value.errno == errno.EHOSTUNREACH
    app("close")


def test_a_port_that_nobody_has_refuses_as_the_kernels_does(everything):
    """A connected socket is told, and goes on when somebody has the port."""
    a, b, key = everything
    a.mhostctl("hosts", "add", "bob", "--key", key, "192.0.2.2")
    app, late = a.app(), b.app()
    try:
        app("socket", "mhost")
        assert ask(app, "hi", "bob")[1] == "bob"
        app("connect", "bob", 9)
        app("sendto", "anybody", "bob", 9)
        with pytest.raises(ConnectionRefusedError):
            app("recv")
        late("socket", "mhost")
        late("bind", "*", 9)
        app("sendto", "now", "bob", 9)
        assert late("recv")[0] == "now"
        assert b.show("drops")["shim_no_socket"] == 1
    finally:
        app("close")
        late("close")
        a.mhostctl("hosts", "del", "bob")


@pytest.mark.parametrize("who", ["nobody there", "another key"])
def test_who_does_not_answer_is_unreachable_in_time(everything, who):
    """A datagram waits 3 s for its association, then its socket is told."""
    a = everything[0]
    key = base64.b64encode(bytes(31) + b"\x09").decode()
    at = "192.0.2.77" if who == "nobody there" else "192.0.2.2"
    a.mhostctl("hosts", "add", "silent", "--key", key, at)
    code = (
        "import mhost, time\n"
        "s = mhost.Socket(); s.settimeout(20); s.connect(('silent', 7))\n"
        "began = time.monotonic(); s.send(b'x')\n"
        "try:\n"
        "    s.recv(10)\n"
        "except OSError as err:\n"
        "    print(err.errno, time.monotonic() - began)\n"
    )
    try:
        number, seconds = a.run(sys.executable, "-c", code).stdout.split()
        assert int(number) == errno.EHOSTUNREACH
        assert 1 < float(seconds) < 10
    finally:
        a.mhostctl("hosts", "del", "silent")


def test_the_key_is_made_once_and_is_nobody_elses(everything):
    a = everything[0]
    key = a.show("key")["key"]
    file = a.dir / "state" / "host.key"
    assert stat.S_IMODE(os.stat(file).st_mode) == 0o600
    before = file.read_bytes()
    a.stop()
    a.start(config(1, 2))
    assert a.show("key")["key"] == key
    assert file.read_bytes() == before


@pytest.fixture
def kernel_pair():
    """Two hosts with two links of the host kernel, and no daemon yet."""
    with Lab() as lab:
        a, b, _net = two_links(lab)
        yield a, b


SIZES = """
import json, mhost, socket, sys
s = mhost.Socket(); s.settimeout(5); s.connect((sys.argv[1], 7))
s.send(b"hello"); s.recv(100)
most = s.getsockopt(mhost.SOL_MHOST, 6)
told = s.getsockopt(socket.IPPROTO_IPV6, 24)
s.send(bytes(most)); came = int(s.recv(100))
found = []
for send in (
    lambda: (s.send(bytes(most + 1)), s.recv(100)),  # the memory takes it; the daemon says
    lambda: mhost.Socket().sendto(bytes(most + 1), (sys.argv[1], 7)),
):
    try:
        send()
    except OSError as err:
        found.append((err.errno, str(err)))
print(json.dumps([most, told, came, *found]))
"""
COUNTER = """
import mhost
s = mhost.Socket(); s.bind(("*", 7)); print("ready", flush=True)
while True:
    data, source = s.recvfrom(65536)
    s.sendto(b"%d" % len(data), source)
"""


def sizes(a, b, wanted):
    """See that what fits is `wanted` octets, everywhere, and is carried."""
    until(lambda: (path := active(a)) is None or path["payload_max"] == wanted)
    said = json.loads(a.run(sys.executable, "-c", SIZES, "b").stdout)
    assert said[:3] == [wanted, wanted + 48, wanted]
    assert [number for number, _text in said[3:]] == [errno.EMSGSIZE] * 2
    assert f"exceeds {wanted}" in said[4][1]


def counter(b):
    """It answers each datagram with its length."""
    process = b.popen(sys.executable, "-c", COUNTER, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"


def test_what_fits_is_said_and_what_does_not_is_refused(kernel_pair):
    """EMSGSIZE, MHOST_MTU and IPV6_MTU agree, also when the way changes."""
    a, b = kernel_pair
    kernel_only(a, b, 0)
    counter(b)
    for mtu in (MTU, 1400, MTU):
        for host in (a, b):
            host.batch(*(f"link set eth{n} mtu {mtu}" for n in (0, 1)))
        sizes(a, b, mtu - 20 - 8 - OVER)


POLICY = """
import mhost, sys
s = mhost.Socket(); s.settimeout(5)
if sys.argv[2]:
    s.setsockopt(mhost.SOL_MHOST, 5, int(sys.argv[2]))
s.connect((sys.argv[1], 7))
for n in range(200):
    s.send(b"%d" % n); s.recv(100)
"""


@pytest.mark.parametrize(
    ("host", "entry", "socket", "copies"),
    [
        ("", "", "", False),
        ("duplicate", "", "", True),
        ("", "duplicate", "", True),
        ("duplicate", "failover", "", False),
        ("", "", "2", True),
        ("duplicate", "", "1", False),
        ("", "duplicate", "0", True),
    ],
)
def test_the_policy_is_the_sockets_then_the_peers_then_the_hosts(
    kernel_pair, host, entry, socket, copies
):
    """Copies are seen on the second link, and what they are copies of comes once."""
    a, b = kernel_pair
    kernel_only(a, b, 0, 1, more=f'[host]\npolicy = "{host}"\n' if host else "", policy=entry)
    echo = b.app()
    echo("socket", "mhost")
    echo("bind", "*", 7)
    echo("echo")
    hello = a.app()
    hello("socket", "mhost")
    ask(hello, "hello", "b")
    until(lambda: working(a) > 1)
    echo("noted")
    before = octets(a)
    a.run(sys.executable, "-c", POLICY, "b", socket)
    came = [text for text, _via in echo("noted")]
    assert came == [str(n) for n in range(200)]
    most, least = (after - then for after, then in zip(octets(a), before, strict=True))
    if least > most:
        most, least = least, most
    assert (least > 0.8 * most) == copies, (most, least)
    assert (least < 0.5 * most) == (not copies), (most, least)


def octets(host):
    """Sent by eth0 and eth1."""
    shown = json.loads(host.run("ip", "-j", "-s", "link", "show").stdout)
    sent = {each["ifname"]: each["stats64"]["tx"]["bytes"] for each in shown}
    return sent["eth0"], sent["eth1"]


@pytest.mark.parametrize("family", ["IPv4", "both"])
def test_a_peer_whose_daemon_is_killed_is_heard_again(kernel_pair, family):
    """The sockets of its programs come back with it, and the stream to them.

    Meanwhile its host says that nobody has the port, in ICMP.
    """
    a, b = kernel_pair
    for host in (a, b) if family == "IPv4" else ():
        for n in (0, 1):
            host.ip(f"-6 addr flush dev eth{n}")
    kernel_only(a, b, 0, 1)
    sink, source = b.app(), a.app()
    for app in (sink, source):
        app("socket", "mhost")
    sink("bind", "*", 7)
    sink("sink")
    source("stream", "b", 7, 200)
    until(lambda: sink("noted"))
    b.stop(signal.SIGKILL)
    toml = (b.dir / "mhostd.toml").read_text()
    b.start(toml.partition('group = ""\n')[2])
    sink("noted")
    first = until(lambda: sink("noted"), 10)[0][0]
    time.sleep(0.5)
    numbers = [int(text) for text, _via in sink("noted")]
    assert len(numbers) > 50
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    assert numbers[0] > int(first)
    sent = source("stop")
    assert numbers[-1] <= sent


def test_a_daemon_that_is_stopped_says_so_also_where_something_waits(kernel_pair):
    """It ends with 0, and its peers need not find out."""
    a, b = kernel_pair
    kernel_only(a, b, 0, 1)
    app, sink = a.app(), b.app()
    for each in (app, sink):
        each("socket", "mhost")
    sink("bind", "*", 7)
    app("sendto", "hello", "b", 7)
    assert sink("recv")[0] == "hello"
    key = base64.b64encode(bytes(31) + b"\x09").decode()
    a.mhostctl("hosts", "add", "silent", "--key", key, "10.1.0.77")
    app("sendto", "anybody", "silent", 7)
    assert association(a, "silent") == "forming"
    assert association(b, "a") == "established"
    assert a.stop(signal.SIGTERM) == 0
    assert association(b, "a") == "none"


def test_a_daemon_that_is_stopped_says_so_over_the_tun_too():
    """What it says last is written before the device is closed."""
    with Lab() as lab:
        a, b = two_hosts(lab)
        b.start(config(2, 1))
        a.start(config(1, 2))
        for l3 in set(L3S) - {"inet"}:
            a.mhostctl("l3", "down", l3)
        a.mhostctl("hosts", "add", "bob", "--key", key_of(b), L3S["inet"])
        app, sink = a.app(), b.app()
        for each in (app, sink):
            each("socket", "mhost")
        sink("bind", "*", 7)
        app("sendto", "hello", "bob", 7)
        assert carrier(sink("recv")[3]) == "inet"
        name = identifier(a)
        assert association(b, name) == "established"
        assert a.stop(signal.SIGTERM) == 0
        until(lambda: association(b, name) in (None, "none"))


def test_each_choice_is_explained_and_told(kernel_pair):
    a, b = kernel_pair
    kernel_only(a, b, 0, 1)
    events = a.popen(
        str(BIN / "mhostctl"), "--json", "events", stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    echo, app = b.app(), a.app()
    for each in (echo, app):
        each("socket", "mhost")
    echo("bind", "*", 7)
    echo("echo")
    time.sleep(0.3)  # who listens is heard from then on only
    ask(app, "hello", "b")
    until(lambda: working(a) > 1)
    before = active(a)
    a.ip(f"link set {before['device']} down")
    until(lambda: active(a) and active(a)["device"] != before["device"])
    assert ask(app, "again", "b")[0].endswith("|again")
    told = a.show("explain", "b")
    taken = [each for each in told["candidates"] if each["active"]]
    assert len(taken) == 1
    assert taken[0]["reason"].startswith("taken: ")
    assert all(each["reason"] for each in told["candidates"])
    assert told["hints"]["config"] == ["10.1.0.2", "10.2.0.2"]
    assert before["device"] in told["last_switch"]["cause"] + told["last_switch"]["before"]
    text = a.mhostctl("explain", "b").stdout
    assert "taken: " in text
    assert a.mhostctl("explain", "nobody", check=False).returncode == 1
    a.ip(f"link set {before['device']} up")
    seen = []
    deadline = time.monotonic() + 5
    while not any("switch" in str(e) for e in seen) and time.monotonic() < deadline:
        seen.append(json.loads(events.stdout.readline()))
    assert {each["host"] for each in seen} == {"b"}
    assert {"association", "path", "switch"} & {each["event"] for each in seen}


def test_a_forged_record_of_the_directory_delays_and_never_redirects():
    """It says that b is at the host of x, who has a key of its own: x gets nothing."""
    with Lab() as lab:
        a, b, net = two_links(lab)
        x = stranger(lab, net)
        shared = a.dir.parent / "directory"
        shared.mkdir()
        more = f'[directory]\npath = "{shared}"\nlease_s = 10\n'
        keys = {host.name: key_of(host) for host in (a, b, x)}
        a.start(f'[tun]\nenable = false\n{more}[hosts]\nb = {{ key = "{keys["b"]}" }}\n')
        x.start('[tun]\nenable = false\n[directory]\nbackend = "none"\n')
        got = x.app()
        got("socket", "mhost")
        got("bind", "*", 7)
        got("sink")
        # b is away; somebody who may write to the folder says that it is where x is
        b.start(f"[tun]\nenable = false\n{more}")
        file = shared / identifier(b)
        until(file.exists)
        record, _expires_ms = parse_line(file.read_bytes())
        b.stop(signal.SIGKILL)
        assert set(record.locators) == {"10.1.0.2", "10.2.0.2", "fd01::2", "fd02::2"}
        forged = msgspec.structs.replace(
            record, locators=("10.1.0.66",), number=record.number + 10**12
        )
        file.write_bytes(emit_line(forged.encode(), int(1000 * (time.time() + 3))))
        app = a.app()
        app("socket", "mhost")
        app("sendto", "for b alone", "b", 7)
        until(lambda: any(p["locator"] == "10.1.0.66" for p in a.show("paths")))
        time.sleep(1)
        assert got("noted") == []
        assert x.show("paths") == []
        b.start(f"[tun]\nenable = false\n{more}")  # and says itself where it is
        echo = b.app()
        echo("socket", "mhost")
        echo("bind", "*", 7)
        echo("echo")

        def answered():
            try:
                return ask(app, "again", "b")[1] == "b"
            except OSError:
                return False

        until(answered, 20)
        assert got("noted") == []


def test_a_way_that_swallows_large_packets_is_found_to_be_narrow():
    """Nobody says "too big": a bridge drops them without a word (RFC 8899)."""
    with Lab() as lab:
        a, b, net = two_links(lab)
        net.ip("link set b0 mtu 1400")
        kernel_only(a, b, 0)
        for host in (a, b):
            host.ip("link set eth1 down")
        counter(b)
        hello = a.app()
        hello("socket", "mhost")
        ask(hello, "hello", "b")
        until(lambda: {p["pmtu"] for p in a.show("paths")} == {NARROW}, 15)
        sizes(a, b, NARROW - OVER)
