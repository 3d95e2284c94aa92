import typing

import msgspec
import pytest

from mhostd import uapi
from mhostd.uapi import SockaddrMhost, decode_event, decode_request, encode

SA = SockaddrMhost(10, 65535, bytes(range(16)), 0xFFFF_FFFF, 3)
ALL_REQUESTS = [
    uapi.Hello(1, uapi.VERSION, "demo"),
    uapi.Socket(2, uapi.AF_MHOST, 2, 17),
    uapi.Bind(3, 1, SA),
    uapi.Connect(4, 1, SA),
    uapi.Connect(4, 1, None),
    uapi.GetName(5, 1, peer=True),
    uapi.Shutdown(6, 1, 2),
    uapi.Close(7, 1),
    uapi.SetSockOpt(8, 1, 1, 8, -1),
    uapi.GetSockOpt(9, 1, 1, 8),
    uapi.Consumed(1, 48),
    uapi.Lookup(10, "testproto:7"),
    uapi.Resolve(11, "robot"),
    uapi.Spell(12, SA),
    uapi.Show(13, "status"),
    uapi.HostsAdd(14, "robot", ["testproto:7"]),
    uapi.HostsDel(15, "robot", []),
    uapi.L3Set(16, "testproto", up=False),
    uapi.PathDrain(17, "eth0", undo=True),
]
ALL_EVENTS = [
    uapi.Reply(1, 98, "port 80 is taken", None),
    uapi.Reply(0xFFFF_FFFF, 0, "", {"l3": [1, "inet", 2]}),
    uapi.SockError(1, 111, "refused", SA, local=False),
    uapi.Named(SA, "robot"),
    uapi.Reset("say hello first"),
]


@pytest.mark.parametrize("request_", ALL_REQUESTS, ids=lambda r: type(r).__name__)
def test_every_request_survives_the_wire(request_):
    assert decode_request(encode(request_)) == request_


@pytest.mark.parametrize("event", ALL_EVENTS, ids=lambda e: type(e).__name__)
def test_every_event_survives_the_wire(event):
    assert decode_event(encode(event)) == event


def test_there_is_no_request_and_no_event_beside_these():
    assert {type(r) for r in ALL_REQUESTS} == set(typing.get_args(uapi.Request))
    assert {type(e) for e in ALL_EVENTS} == set(typing.get_args(uapi.Event))


def test_a_request_is_an_array_that_begins_with_its_tag():
    assert msgspec.msgpack.decode(encode(uapi.Close(7, 1))) == ["close", 7, 1]


def test_no_control_message_begins_as_a_data_message_does():
    assert all(encode(m)[0] != uapi.DATA_MAGIC for m in (*ALL_REQUESTS, *ALL_EVENTS))


def test_fields_that_come_later_may_be_missing():
    assert decode_request(msgspec.msgpack.encode(["hello", 1, 1])) == uapi.Hello(1, 1, "")


@pytest.mark.parametrize(
    "fields",
    [
        ["nosuch", 1],
        ["close", -1, 1],
        ["close", 1 << 32, 1],
        ["close", 1, 1 << 32],
        ["close", 1],
        ["close", "1", 1],
        ["bind", 1, 1, [2, 65536]],
        ["bind", 1, 1, [2, -1]],
        ["bind", 1, 1, [65536, 1]],
        ["bind", 1, 1, [2, 1, bytes(17)]],
        ["bind", 1, 1, [2, 1, b"", 1 << 32]],
        ["bind", 1, 1, [2, 1, b"", 0, 1 << 32]],
        ["bind", 1, 1, None],
        ["shutdown", 1, 1, 3],
        ["shutdown", 1, 1, -1],
        ["hello", 1, 1, "x" * 65],
        ["lookup", 1, "x" * 254],
        ["resolve", 1, "x" * 254],
        ["show", 1, "x" * 33],
        ["hosts_add", 1, "robot", [], "x" * 65],
        ["path_drain", 1, "x" * 65, False],
        ["hosts_add", 1, "robot", ["a"] * 65],
        ["hosts_del", 1, "robot", ["a"] * 65],
        ["l3_set", 1, "x" * 33, True],
        ["l3_set", 1, "inet", 1],
        ["consumed", 1, 1 << 32],
        ["setsockopt", 1, 1, 1, 8, "many"],
        {"op": "close", "seq": 1, "sock": 1},
        [],
        None,
    ],
    ids=repr,
)
def test_what_is_out_of_bounds_is_refused(fields):
    with pytest.raises(msgspec.ValidationError):
        decode_request(msgspec.msgpack.encode(fields))


def test_octets_that_are_no_messagepack_are_refused_as_a_value_error():
    with pytest.raises(ValueError, match=r"0xc1|invalid|malformed"):
        decode_request(b"\xc1")
