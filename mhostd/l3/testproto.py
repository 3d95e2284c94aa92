"""AF_TESTPROTO (1): the smallest L3 protocol there can be; copy this file to start.

    octet  0       2       4       6       8
           +-------+-------+-------+-------+
           |family | ones  | daddr | saddr |
           | = 1   | ffff  |       |       |
           +-------+-------+-------+-------+

Addresses are numbers, 0..65535, spelled `testproto:7`. It has no pseudo-header.
"""

from __future__ import annotations

import struct

from mhostd.l3.wrapper import DropReason, End, L3Wrapper, MhostProto, NetDevice, SkBuff
from mhostd.uapi import AF_TESTPROTO

_HDR = struct.Struct("!HH2s2s")
_ONES = 0xFFFF


def testproto_pton(text: str) -> bytes:
    """Read an address: "7" to two octets."""
    if not (text.isascii() and text.isdigit() and int(text) <= 0xFFFF):
        raise ValueError(f"{text!r} is no testproto address; want a number 0..65535")
    return int(text).to_bytes(2, "big")


def testproto_ntop(address: bytes) -> str:
    """Write an address: two octets to "7"."""
    return str(int.from_bytes(address, "big"))


class AfTestproto:
    """One address of ours on one device."""

    def __init__(self, l3: L3Wrapper, dev: NetDevice, address: str) -> None:
        self._l3 = l3
        self._dev = dev
        self._address = own = testproto_pton(address)
        self.testproto_mhost_proto = MhostProto(
            family=AF_TESTPROTO,
            name="testproto",
            addr_len=2,
            pton=testproto_pton,
            ntop=testproto_ntop,
            addresses=lambda: (own,),
            mtu=lambda: dev.mtu - _HDR.size,
            device=dev.name,
            up=lambda: dev.up,
            sendmsg=self.testproto_sendmsg,
            rcv=self.testproto_rcv,
            csum_pseudo=lambda _saddr, _daddr, _ulen: 0,
        )

    def testproto_sendmsg(self, skb: SkBuff, saddr: bytes, daddr: bytes) -> None:
        """Put the eight octets on."""
        _HDR.pack_into(skb.push(_HDR.size), 0, AF_TESTPROTO, _ONES, daddr, saddr)
        dev = self._l3.lo if daddr == self._address else self._dev
        self._l3.mhost_send_to_l2(skb, dev, neighbour=(AF_TESTPROTO, daddr))

    def testproto_rcv(self, skb: SkBuff) -> End:
        """Check the eight octets and take them off."""
        if len(skb) < _HDR.size:
            return DropReason.PKT_TOO_SMALL
        _family, ones, daddr, saddr = _HDR.unpack_from(skb.buf, skb.head)
        if ones != _ONES:
            return DropReason.IP_INHDR
        if daddr != self._address:
            return DropReason.OTHERHOST
        self._l3.neigh_update(skb, AF_TESTPROTO, saddr)
        skb.saddr, skb.daddr = saddr, daddr
        skb.pull(_HDR.size)
        return self._l3.mhost_send_to_l4(skb, self.testproto_mhost_proto)
