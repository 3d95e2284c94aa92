"""getaddrinfo, names that come and go, and the resolver."""

import socket

import mhost
import pytest


def test_a_bound_host_gives_itself_then_its_locators_in_order(pair):
    found = mhost.getaddrinfo("peer", 8080)
    assert [(family, address) for family, _t, _p, _c, address in found] == [
        (mhost.AF_MHOST, ("peer", 8080)),
        (mhost.AF_INET, ("10.77.2.1", 8080)),
        (mhost.AF_INET6, ("fd77:2::1", 8080)),
        (mhost.AF_INET, ("192.0.2.2", 8080)),
        (mhost.AF_INET6, ("2001:db8::2", 8080)),
        (mhost.AF_TESTPROTO, ("testproto:2", 8080)),
        (mhost.AF_OTHERPROTO, ("otherproto:0:0:0:2", 8080)),
    ]
    assert {(t, p) for _f, t, p, _c, _a in found} == {(socket.SOCK_DGRAM, socket.IPPROTO_UDP)}


@pytest.mark.parametrize(
    ("host", "family", "want"),
    [
        ("peer", mhost.AF_MHOST, ["peer"]),
        ("peer", mhost.AF_INET, ["10.77.2.1", "192.0.2.2"]),
        ("127.0.0.1", 0, ["127.0.0.1"]),
        ("::1", 0, ["::1"]),
        ("testproto:9", 0, ["testproto:9"]),
        (None, 0, ["*"]),
        ("localhost", mhost.AF_INET, ["127.0.0.1"]),
    ],
)
def test_family_and_kinds_of_host(host, family, want):
    assert [a[0] for *_rest, a in mhost.getaddrinfo(host, 1, family)] == want


def test_services_and_what_is_refused():
    assert mhost.getaddrinfo("127.0.0.1", "domain")[0][4][1] == 53
    for arguments, code in (
        (("no-such-host", 1), socket.EAI_NONAME),
        (("bad name", 1), socket.EAI_NONAME),
        (("127.0.0.1", "no-such-service"), socket.EAI_SERVICE),
        (("127.0.0.1", 1, 0, socket.SOCK_STREAM), socket.EAI_SOCKTYPE),
        (("127.0.0.1", 1, mhost.AF_INET6), socket.EAI_NONAME),
    ):
        with pytest.raises(socket.gaierror) as err:
            mhost.getaddrinfo(*arguments)
        assert err.value.errno == code


def test_a_name_works_from_the_moment_it_is_bound_and_no_longer(pair, bound, sender):
    a, _b = pair
    sock, port = bound
    with pytest.raises(OSError, match="no usable locator"):
        sender.sendto(b"x", ("newcomer", port))
    a.mhostctl("hosts", "add", "newcomer", "192.0.2.1", "testproto:1")
    sender.sendto(b"hello", ("newcomer", port))
    assert sock.recvfrom(10)[0] == b"hello"
    a.mhostctl("hosts", "del", "newcomer", "192.0.2.1")
    sender.sendto(b"over the next", ("newcomer", port))
    assert sock.recvfrom(100)[0] == b"over the next"
    a.mhostctl("hosts", "del", "newcomer")
    with pytest.raises(OSError, match="no usable locator"):
        while True:  # it is told of later, as by a kernel socket
            sender.sendto(b"x", ("newcomer", port))


def test_a_name_nobody_bound_is_asked_of_the_system(bound, sender):
    sock, port = bound
    sender.sendto(b"hello", ("localhost", port))
    data, source = sock.recvfrom(100)
    assert data == b"hello"
    assert source[0] in ("127.0.0.1", "::1")


@pytest.mark.parametrize("name", ["ME", "me.", "Me."])
def test_names_know_neither_case_nor_the_dot_of_the_root(bound, sender, name):
    sock, port = bound
    sender.sendto(b"hello", (name, port))
    assert sock.recvfrom(100)[0] == b"hello"


def test_a_name_of_the_system_can_be_bound(make_socket, sender):
    sock = make_socket()
    sock.bind(("localhost", 0))
    sender.sendto(b"hello", ("127.0.0.1", sock.getsockname()[1]))
    assert sock.recv(10) == b"hello"


def test_a_zone_may_be_the_name_of_an_interface(pair):
    pair[0].mhostctl("hosts", "add", "near", "fe80::1%eth0")
    (near,) = [host for host in pair[0].show("hosts") if host["name"] == "near"]
    assert near["locators"][0]["locator"].startswith("fe80::1%")
    pair[0].mhostctl("hosts", "del", "near")
