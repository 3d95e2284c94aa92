"""mhostctl has its own words for a few messages; they are those of uapi."""

import msgpack
import pytest
from mhost.ctl import ask

from mhostd import uapi


@pytest.mark.parametrize(
    ("request_", "want"),
    [
        (["hello", 0, ask.VERSION, "mhostctl"], uapi.Hello(0, uapi.VERSION, "mhostctl")),
        (["show", 1, "status"], uapi.Show(1, "status")),
        (["hosts_add", 1, "x", ["a", "b"]], uapi.HostsAdd(1, "x", ["a", "b"])),
        (["hosts_del", 1, "x", []], uapi.HostsDel(1, "x", [])),
        (["l3_set", 1, "inet", True], uapi.L3Set(1, "inet", up=True)),
    ],
)
def test_what_mhostctl_asks_is_what_the_daemon_reads(request_, want):
    assert uapi.decode_request(msgpack.packb(request_)) == want


def test_it_looks_where_the_daemon_is():
    assert ask.DEFAULT_SOCKET == uapi.DEFAULT_SOCKET


def test_a_reply_is_what_mhostctl_reads():
    octets = uapi.encode(uapi.Reply(7, 2, "no", {"key": [1.5, None, True]}))
    assert msgpack.unpackb(octets) == ["reply", 7, 2, "no", {"key": [1.5, None, True]}]
