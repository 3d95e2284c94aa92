"""An Ethernet device: EtherType 0x88b5 on a named interface through AF_PACKET.

A TUN's kernel side does not forward EtherTypes it does not know, so this is how the
plug-ins reach other machines, as the original's mhost_send_to_l2 did. The kernel
builds and strips the Ethernet header (SOCK_DGRAM); addresses are in sockaddr_ll.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct

from mhostd.dev import ETH_P_MHOST, NetCore, NetDevice
from mhostd.errors import MhostError
from mhostd.skb import SkBuff

RX_BATCH = 64
BROADCAST = b"\xff" * 6

_SOL_PACKET = 263  # linux/socket.h
_PACKET_IGNORE_OUTGOING = 23  # linux/if_packet.h
_PACKET_OTHERHOST = 3
_SIOCGIFMTU = 0x8921  # linux/sockios.h


class EthDevice(NetDevice):
    """A NetDevice on an interface that belongs to the host."""

    kind = "ethernet"

    def __init__(self, core: NetCore, name: str) -> None:
        """Listen on the interface.

        Raises:
            MhostError: ENODEV if there is none of that name, EPERM without
                CAP_NET_RAW.
        """
        super().__init__(name)
        self._core = core
        try:
            self._sock = socket.socket(
                socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0
            )
        except PermissionError as err:
            raise MhostError(
                errno.EPERM, f"device {name}: CAP_NET_RAW is needed for Ethernet"
            ) from err
        try:
            self._sock.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self.rebind()
        except OSError as err:
            self._sock.close()
            number = err.errno or errno.EIO
            text = f"device {name}: {os.strerror(number)}; `ip link` lists the interfaces"
            raise MhostError(number, text) from None

    def rebind(self) -> None:
        """Listen on the interface that has this name now; OSError if there is none."""
        self._sock.bind((self.name, ETH_P_MHOST))
        self.mtu = self._mtu()

    def _mtu(self) -> int:
        request = struct.pack("16s16x", self.name.encode())
        answer = fcntl.ioctl(self._sock, _SIOCGIFMTU, request)
        return int(struct.unpack_from("=i", answer, 16)[0])

    def fileno(self) -> int:
        """For the poller."""
        return self._sock.fileno()

    def on_readable(self) -> None:
        """Take up to RX_BATCH frames off the interface."""
        for _ in range(RX_BATCH):
            try:
                frame, address = self._sock.recvfrom(65536)
            except BlockingIOError:
                return
            except OSError as err:  # ENETDOWN: the link went away; netlink says so too
                if err.errno == errno.ENETDOWN:
                    continue
                raise
            _name, protocol, pkttype, _hatype, lladdr = address
            if pkttype == _PACKET_OTHERHOST:
                continue
            skb = SkBuff(bytearray(frame))
            skb.protocol, skb.lladdr = protocol, lladdr
            self._core.netif_receive_skb(self, skb)

    def flush(self) -> None:
        """Send everything queued; to all where the neighbour is not known."""
        queue, self.tx_queue = self.tx_queue, []
        for skb in queue:
            to = (self.name, skb.protocol, 0, 0, skb.lladdr or BROADCAST)
            try:
                self._sock.sendto(skb.data, to)
            except OSError as err:
                self._core.tx_done(self, len(skb), err.errno or errno.EIO)
            else:
                self._core.tx_done(self, len(skb))

    def close(self) -> None:
        """Stop listening; the interface stays as it is."""
        self._sock.close()
