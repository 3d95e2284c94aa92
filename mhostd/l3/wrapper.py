"""All that an L3 protocol needs to know of mhostd.

Down: udp_mhost calls your sendmsg(), you push your header and call
mhost_send_to_l2(). Up: mhost_rcv() calls your rcv(), you check and pull your
header and call mhost_send_to_l4(). What mhost_register_proto() is given, a
`MhostProto`, is the rest; l3/testproto.py is the file to copy.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from mhostd.dev import ETH_P_MHOST, NetCore, NetDevice
from mhostd.errors import DropReason, End, MhostError, Verdict
from mhostd.mhost_table import MhostTable
from mhostd.skb import SkBuff
from mhostd.sock import Locator
from mhostd.structs import IcmpError, MhostProto, NetProtocol, PacketType, Proto, UdpOps

__all__ = [
    "IPPROTO_UDP",
    "DropReason",
    "End",
    "IcmpError",
    "L3Wrapper",
    "Locator",
    "MhostError",
    "MhostProto",
    "NetDevice",
    "PacketType",
    "SkBuff",
    "UdpOps",
    "Verdict",
]

IPPROTO_UDP = 17

_FAMILY = struct.Struct("!H")


class L3Wrapper:
    """Between the L3 handlers and everything else.

    Attributes:
        mhost_ptype: the packet type of every L3 without an EtherType of its own.
        lo: the device for frames to ourselves.
        udp: where the datagrams of an L3 with its own UDP go.
    """

    def __init__(self, core: NetCore, table: MhostTable, lo: NetDevice, udp: Proto) -> None:
        self._core = core
        self._table = table
        self._l4: dict[int, NetProtocol] = {}
        self.lo = lo
        self.udp = udp
        self.mhost_ptype = PacketType(type=ETH_P_MHOST, func=self.mhost_rcv)

    def now(self) -> float:
        """Seconds of a clock that never goes back."""
        return self._core.clock()

    def add_timer(self, when_s: float, callback: Callable[[float], None]) -> None:
        """Call back once, with the time, when now() has come to `when_s`."""
        self._core.add_timer(when_s, callback)

    def kfree_skb(self, reason: DropReason, count: int) -> None:
        """Count frames that were held and end here."""
        self._core.kfree_skb(reason, count)

    def changed(self) -> None:
        """What is sent to a destination may be sent otherwise now (MhostTable.changes)."""
        self._table.changed()

    def proto_number(self, proto: MhostProto) -> int:
        """Return the number under which a protocol is registered."""
        return self._table.proto_number(proto.name)

    def mhost_add_protocol(self, number: int, protocol: NetProtocol) -> None:
        """Register an L4 protocol under its IP protocol number."""
        self._l4[number] = protocol

    def mhost_send_to_l2(
        self,
        skb: SkBuff,
        dev: NetDevice,
        ethertype: int = ETH_P_MHOST,
        neighbour: tuple[int, bytes] | None = None,
    ) -> None:
        """Send a finished L3 packet.

        Args:
            skb: at its L3 header.
            dev: the device; `lo` for our own addresses.
            ethertype: 0x88b5 unless the protocol has its own.
            neighbour: (family, address) of the next hop on a device with link-layer
                addresses; one that is not known is reached by broadcast.

        Raises:
            MhostError: ENETDOWN, EMSGSIZE.
        """
        skb.protocol = ethertype
        if neighbour is not None:
            skb.lladdr = dev.neigh_lookup(*neighbour)
        self._core.dev_queue_xmit(dev, skb)

    def neigh_update(self, skb: SkBuff, family: int, saddr: bytes) -> None:
        """Learn where `saddr` is from a frame that was addressed to us."""
        if skb.lladdr:
            self._core.devices[skb.dev].neigh_update(family, saddr, skb.lladdr)

    def mhost_rcv(self, skb: SkBuff) -> End:
        """Take an ETH_P_MHOST frame; its first two octets name the family."""
        if len(skb) < _FAMILY.size:
            return DropReason.PKT_TOO_SMALL
        (family,) = _FAMILY.unpack_from(skb.buf, skb.head)
        for proto in self._table.mhost_protos_for_family(family):
            return proto.rcv(skb)
        return DropReason.UNHANDLED_PROTO

    def mhost_send_to_l4(
        self, skb: SkBuff, proto: MhostProto, number: int = IPPROTO_UDP
    ) -> End:
        """Hand what follows the L3 header of `proto` to its L4 protocol."""
        protocol = self._l4.get(number)
        if protocol is None:
            return DropReason.IP_NOPROTO
        skb.family = proto.family
        skb.l3 = self.proto_number(proto)
        return protocol.rcv(skb)

    def mhost_err(self, skb: SkBuff, number: int, err: IcmpError) -> None:
        """Hand an ICMP error to the L4 protocol whose packet it quotes.

        Args:
            skb: at the quoted L4 header; family, saddr (us) and daddr are set.
            number: the quoted protocol number.
            err: what the message says.
        """
        if number in self._l4:
            self._l4[number].err(skb, err)
