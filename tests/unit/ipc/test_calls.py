"""Control messages: each request becomes a call, and its answer."""

import errno

import pytest

from mhostd.ipc.calls import HANDLES_PER_CLIENT_MAX, PARKED_MAX
from mhostd.sock import Locator
from mhostd.uapi import (
    AF_INET6,
    AF_MHOST,
    VERSION,
    Bind,
    Close,
    Connect,
    Consumed,
    GetName,
    GetSockOpt,
    Hello,
    HostsAdd,
    Lookup,
    Reply,
    Resolve,
    SetSockOpt,
    Show,
    Shutdown,
    SockaddrMhost,
    Socket,
    Spell,
)

ANYWHERE = SockaddrMhost(AF_MHOST)


def test_hello_is_told_version_instance_and_handlers(desk):
    version, instance, l3, *sockets = desk.ask(Hello(1, VERSION)).value
    assert (version, *sockets) == (VERSION, "ipc:///run/admin.sock", "")
    assert instance != desk.ask(Hello(2, VERSION)).value[1]  # another session
    assert l3 == [(1, "inet", 2), (2, "inet6", 10), (3, "testproto", 1), (4, "otherproto", 3)]


def test_every_system_call_of_a_socket(desk):
    number = desk.socket()
    assert desk.ask(Bind(2, number, ANYWHERE._replace(port=4000))) == Reply(2, 0, "", 4000)
    assert desk.ask(GetName(3, number, peer=False)).value == ANYWHERE._replace(port=4000)
    robot = desk.ask(Lookup(4, "robot")).value._replace(port=7)
    assert desk.ask(Connect(5, number, robot)) == Reply(5, 0, "", 4000)
    assert desk.ask(GetName(6, number, peer=True)).value == robot
    assert desk.ask(SetSockOpt(7, number, 1, 8, 5000)) == Reply(7)
    assert desk.ask(GetSockOpt(8, number, 1, 8)) == Reply(8, 0, "", 10_000)
    assert desk.ask(Shutdown(9, number, 0)) == Reply(9)
    assert desk.ask(Connect(10, number, None)) == Reply(10, 0, "", 4000)
    assert desk.ask(Close(11, number)) == Reply(11)
    assert desk.client.socks == {}


def test_a_refusal_is_answered_with_errno_and_text(desk):
    reply = desk.ask(Socket(9, 2, 2, 0))
    assert (reply.seq, reply.errno, reply.value) == (9, errno.EAFNOSUPPORT, None)
    assert "is not AF_MHOST" in reply.text


@pytest.mark.parametrize(
    "request_", [Close(1, 99), Bind(1, 99, ANYWHERE), GetSockOpt(1, 99, 1, 8)]
)
def test_a_socket_that_is_not_open_is_a_bad_descriptor(desk, request_):
    assert desk.ask(request_).errno == errno.EBADF


def test_the_socket_of_another_client_is_not_there(desk, make_client):
    number = desk.socket()
    assert desk.ask(Close(1, number), make_client()).errno == errno.EBADF
    assert number in desk.client.socks


def test_an_internal_error_is_an_answer_too(desk, caplog, monkeypatch):
    monkeypatch.setattr(desk.node.af_mhost, "mhost_create", lambda *_args: 1 / 0)
    assert desk.ask(Socket(1, AF_MHOST, 2, 0)).errno == errno.EIO
    assert "ZeroDivisionError" in caplog.text


def test_only_the_admin_socket_changes_something(desk, make_client):
    request = HostsAdd(1, "cat", ["testproto:9"])
    assert desk.ask(request).errno == errno.EPERM
    assert "cat" not in desk.node.table.hosts
    assert desk.ask(request, make_client(admin=True)) == Reply(1)
    assert "cat" in desk.node.table.hosts


def test_a_reading_verb_is_for_everyone(desk):
    assert desk.ask(Show(3, "routes")).value


# --- names


@pytest.mark.parametrize(
    ("text", "sa"),
    [
        ("testproto:2", SockaddrMhost(1, 0, b"\0\2")),
        ("fd77::2", SockaddrMhost(AF_INET6, 0, bytes.fromhex("fd77") + bytes(13) + b"\2")),
        ("fe80::2%7", SockaddrMhost(AF_INET6, 0, b"\xfe\x80" + bytes(13) + b"\2", 0, 7)),
    ],
)
def test_a_literal_is_looked_up_and_spelled_alike(desk, text, sa):
    assert desk.ask(Lookup(1, text)).value == sa
    assert desk.ask(Spell(2, sa)).value == text


def test_a_name_is_looked_up_to_one_handle_that_the_client_holds(desk):
    sa = desk.ask(Lookup(1, "cat")).value
    assert (sa.family, sa.address) == (AF_MHOST, b"")
    assert desk.ask(Lookup(2, "CAT")).value == sa
    host = desk.node.table.hosts["cat"]
    assert (host.handle, host.holders, desk.client.handles) == (sa.id_no, 1, {sa.id_no})
    assert desk.ask(Spell(3, sa)).value == "cat"


def test_what_is_no_name_is_refused(desk):
    assert desk.ask(Lookup(1, "no name")).errno == errno.EINVAL
    assert desk.ask(Lookup(1, "ipx:1")).errno == errno.EAFNOSUPPORT
    assert desk.client.handles == set()


def test_a_client_holds_a_bounded_number_of_names(desk):
    desk.client.handles = set(range(10, 10 + HANDLES_PER_CLIENT_MAX))
    reply = desk.ask(Lookup(1, "cat"))
    assert reply.errno == errno.ENOBUFS
    assert "cat" not in desk.node.table.hosts
    desk.client.handles.clear()


def test_a_name_is_resolved_in_the_order_in_which_a_send_would_try(desk):
    def order():
        return [desk.node.table.mhost_ntop(sa) for sa in desk.ask(Resolve(1, "robot")).value]

    assert order() == ["testproto:2", "otherproto:0:0:0:2", "10.77.0.2", "fd77::2"]
    robot = desk.node.table.hosts["robot"].bound
    desk.node.table.faults.failed(robot[0], errno.ENETDOWN, desk.node.now)
    assert order() == ["otherproto:0:0:0:2", "10.77.0.2", "fd77::2", "testproto:2"]


def test_what_nobody_bound_waits_for_the_resolver(desk):
    assert desk.ask(Resolve(5, "cat")) is None
    ((name, done),) = desk.asked
    assert name == "cat"
    desk.node.table.hosts["cat"].resolved = [Locator(1, b"\0\x09")]
    done()
    assert desk.answers == [Reply(5, 0, "", [SockaddrMhost(1, 0, b"\0\x09")])]


def test_what_the_resolver_does_not_know_is_an_empty_list(desk):
    desk.ask(Resolve(5, "cat"))
    desk.node.table.hosts["cat"].resolved = []
    desk.asked[0][1]()
    assert desk.answers == [Reply(5, 0, "", [])]


def test_a_connect_waits_for_the_resolver_too(desk):
    number = desk.socket()
    cat = desk.ask(Lookup(1, "cat")).value._replace(port=7)
    assert desk.ask(Connect(6, number, cat)) is None
    desk.node.table.hosts["cat"].resolved = []
    desk.asked[0][1]()
    assert [(a.seq, a.errno) for a in desk.answers] == [(6, errno.EHOSTUNREACH)]


def test_a_bounded_number_of_requests_waits(desk):
    for _ in range(PARKED_MAX):
        assert desk.ask(Resolve(1, "cat")) is None
    assert desk.ask(Resolve(2, "cat")).errno == errno.ENOBUFS
    desk.node.table.hosts["cat"].resolved = []
    desk.asked[0][1]()
    assert desk.ask(Resolve(3, "dog")) is None


# --- the end


def test_a_client_that_is_gone_leaves_nothing(desk):
    number = desk.socket()
    desk.ask(Bind(1, number, ANYWHERE._replace(port=4000)))
    desk.ask(Lookup(2, "cat"))
    desk.ask(Resolve(3, "dog"))
    desk.calls.release(desk.client)
    desk.asked[0][1]()  # the resolver answers late
    assert desk.answers == []
    assert (desk.node.af_mhost.socks, desk.client.handles) == ({}, set())
    assert list(desk.node.table.hosts) == ["robot"]
    assert desk.node.socket("*", 4000).sport == 4000


def test_credit_for_a_socket_that_is_closed_is_nothing(desk):
    assert desk.ask(Consumed(99, 48)) is None
