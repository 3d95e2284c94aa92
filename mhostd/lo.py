"""lo: frames to ourselves. What is written is received."""

from __future__ import annotations

from mhostd.dev import NetCore, NetDevice
from mhostd.skb import SkBuff


class Loopback(NetDevice):
    """A device whose wire ends where it begins."""

    kind = "loopback"

    def __init__(self, core: NetCore) -> None:
        super().__init__("lo", mtu=65536)
        self._core = core

    def flush(self) -> None:
        """Receive everything queued."""
        queue, self.tx_queue = self.tx_queue, []
        for sent in queue:
            self._core.tx_done(self, len(sent))
            skb = SkBuff(bytearray(sent.data))
            skb.protocol = sent.protocol
            self._core.netif_receive_skb(self, skb)
