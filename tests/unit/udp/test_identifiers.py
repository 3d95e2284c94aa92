"""Only an association proves who a host is; and what a socket thinks too late."""

from __future__ import annotations

import pytest

from mhostd.errors import DropReason, Verdict
from mhostd.skb import SkBuff
from mhostd.sock import Datagram
from mhostd.uapi import AF_INET6, MHOST_FRESHNESS, SOL_MHOST, SockaddrMhost

IDENTIFIER = bytes.fromhex("20010021547c9b6d8eef87fb9515f517")


def test_a_plain_datagram_from_an_identifier_is_dropped(node):
    sk = node.socket("*", 4000)
    l3 = node.table.proto_number("inet6")
    source = SockaddrMhost(AF_INET6, 7, IDENTIFIER)
    udp = node.stack.udp
    assert udp.udp_mhost_queue_rcv(sk, Datagram(b"x", source, l3)) is (
        DropReason.IP_INVALID_SOURCE
    )
    other = source._replace(address=bytes.fromhex("fd77") + bytes(13) + b"\2")
    assert udp.udp_mhost_queue_rcv(sk, Datagram(b"x", other, l3)) is Verdict.DELIVERED


@pytest.mark.parametrize(
    ("late_ms", "end"), [(0, None), (20, None), (21, "late"), (500, "late")]
)
def test_what_is_later_than_its_socket_wants_is_lost(node, late_ms, end):
    sk = node.socket("*", 4000)
    node.stack.af_mhost.mhost_setsockopt(sk, SOL_MHOST, MHOST_FRESHNESS, 20)
    skb = SkBuff(bytearray.fromhex("13ed0fa0000a0000") + b"hi")
    skb.family, skb.saddr, skb.daddr = AF_INET6, bytes(15) + b"\1", bytes(15) + b"\2"
    skb.l3, skb.late_ms = node.table.proto_number("inet6"), late_ms
    got = node.stack.udp.udp_mhost_rcv(skb)
    assert got is (DropReason.SHIM_LATE if end else Verdict.DELIVERED)
