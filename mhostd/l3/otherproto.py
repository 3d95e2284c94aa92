"""AF_OTHERPROTO (3): a second plug-in, so that demultiplexing by family is real.

    octet  0       2       3       4               12              20
           +-------+-------+-------+-------+-------+-------+-------+
           |family | next  | hop   | daddr         | saddr         |
           | = 3   |       | limit |               |               |
           +-------+-------+-------+-------+-------+-------+-------+

Unlike testproto it names the protocol that follows, has 8-octet addresses, spelled
as an interface identifier (`otherproto:0:0:0:2a`, RFC 4291 section 2.2 style), and
its UDP checksum covers a pseudo-header of saddr, daddr, length and next.
"""

from __future__ import annotations

import re
import struct

from mhostd import native
from mhostd.l3.wrapper import (
    IPPROTO_UDP,
    DropReason,
    End,
    L3Wrapper,
    MhostProto,
    NetDevice,
    SkBuff,
)
from mhostd.uapi import AF_OTHERPROTO

_HDR = struct.Struct("!HBB8s8s")
_PSEUDO = struct.Struct("!8s8sHH")
_GROUPS = struct.Struct("!4H")
_TEXT = re.compile(r"[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){3}")
_HOP_LIMIT = 64


def otherproto_pton(text: str) -> bytes:
    """Read an address: "0:0:0:2a" to eight octets."""
    if not _TEXT.fullmatch(text):
        raise ValueError(
            f"{text!r} is no otherproto address; want four groups of hex: 0:0:0:2a"
        )
    return _GROUPS.pack(*(int(group, 16) for group in text.split(":")))


def otherproto_ntop(address: bytes) -> str:
    """Write an address: eight octets to "0:0:0:2a"."""
    return ":".join(f"{group:x}" for group in _GROUPS.unpack(address))


def otherproto_csum_pseudo(saddr: bytes, daddr: bytes, ulen: int) -> int:
    """Partial sum of the pseudo-header above."""
    return native.csum_fold(_PSEUDO.pack(saddr, daddr, ulen, IPPROTO_UDP))


class AfOtherproto:
    """One address of ours on one device."""

    def __init__(self, l3: L3Wrapper, dev: NetDevice, address: str) -> None:
        self._l3 = l3
        self._dev = dev
        self._address = own = otherproto_pton(address)
        self.otherproto_mhost_proto = MhostProto(
            family=AF_OTHERPROTO,
            name="otherproto",
            addr_len=8,
            pton=otherproto_pton,
            ntop=otherproto_ntop,
            addresses=lambda: (own,),
            mtu=lambda: dev.mtu - _HDR.size,
            device=dev.name,
            up=lambda: dev.up,
            sendmsg=self.otherproto_sendmsg,
            rcv=self.otherproto_rcv,
            csum_pseudo=otherproto_csum_pseudo,
        )

    def otherproto_sendmsg(self, skb: SkBuff, saddr: bytes, daddr: bytes) -> None:
        """Put the header on."""
        hdr = (AF_OTHERPROTO, IPPROTO_UDP, _HOP_LIMIT, daddr, saddr)
        _HDR.pack_into(skb.push(_HDR.size), 0, *hdr)
        dev = self._l3.lo if daddr == self._address else self._dev
        self._l3.mhost_send_to_l2(skb, dev, neighbour=(AF_OTHERPROTO, daddr))

    def otherproto_rcv(self, skb: SkBuff) -> End:
        """Check the header and take it off."""
        if len(skb) < _HDR.size:
            return DropReason.PKT_TOO_SMALL
        _family, number, hops, daddr, saddr = _HDR.unpack_from(skb.buf, skb.head)
        if hops == 0:
            return DropReason.IP_INHDR
        if daddr != self._address:
            return DropReason.OTHERHOST
        self._l3.neigh_update(skb, AF_OTHERPROTO, saddr)
        skb.saddr, skb.daddr = saddr, daddr
        skb.pull(_HDR.size)
        ulen = int.from_bytes(skb.data[4:6], "big")
        skb.pseudo_csum = otherproto_csum_pseudo(saddr, daddr, ulen)
        return self._l3.mhost_send_to_l4(skb, self.otherproto_mhost_proto, number)
