"""Devices and the hook in front of them: which EtherType goes to whom.

`NetCore` is what Linux keeps in net/core/dev.c: packet types, the list of devices,
and the one counter of drops. A `NetDevice` queues what goes out; `flush` writes it
at the end of the wake.
"""

from __future__ import annotations

import errno
import heapq
import itertools
from collections import Counter, OrderedDict
from collections.abc import Callable

from mhostd.errors import DropReason, End, MhostError, Verdict
from mhostd.skb import SkBuff
from mhostd.structs import PacketType

ETH_P_IP = 0x0800
ETH_P_IPV6 = 0x86DD
ETH_P_MHOST = 0x88B5  # IEEE Std 802, Local Experimental EtherType 1

STATS = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes", "tx_dropped")
NEIGHBOURS_MAX = 1024  # learned ones; configured ones are not counted


class NetDevice:
    """One device.

    Attributes:
        name: interface name.
        mtu: octets of L3 packet that fit.
        up: it has a link; netlink keeps this true.
        tx_queue: frames to be written by flush().
        stats: counters, as named in STATS.
    """

    kind = "none"

    def __init__(self, name: str, mtu: int = 1500) -> None:
        self.name = name
        self.mtu = mtu
        self.up = True
        self.tx_queue: list[SkBuff] = []
        self.stats: Counter[str] = Counter(dict.fromkeys(STATS, 0))
        self.neighbours: dict[tuple[int, bytes], bytes] = {}
        self.learned: OrderedDict[tuple[int, bytes], bytes] = OrderedDict()

    def flush(self) -> None:
        """Write everything queued by dev_queue_xmit."""

    def close(self) -> None:
        """Give the interface back."""

    def neigh_lookup(self, family: int, address: bytes) -> bytes:
        """Return the link-layer address of an L3 address; empty if not known."""
        key = (family, address)
        return self.neighbours.get(key) or self.learned.get(key, b"")

    def neigh_update(self, family: int, address: bytes, lladdr: bytes) -> None:
        """Learn a neighbour from a frame that was addressed to us."""
        key = (family, address)
        if key in self.neighbours:
            return
        self.learned[key] = lladdr
        self.learned.move_to_end(key)
        if len(self.learned) > NEIGHBOURS_MAX:
            self.learned.popitem(last=False)


class NetCore:
    """Packet types, devices and drops of one stack."""

    def __init__(self, clock: Callable[[], float] = lambda: 0.0) -> None:
        """Begin empty; `clock` gives seconds that never go back."""
        self.clock = clock
        self._timers: list[tuple[float, int, Callable[[float], None]]] = []
        self._timer_numbers = itertools.count()
        self.devices: dict[str, NetDevice] = {}
        self.drops: Counter[DropReason] = Counter()
        self.ends: Counter[Verdict] = Counter()
        self.received = 0  # frames, and datagrams of the host kernel
        self._ptypes: dict[int, PacketType] = {}
        self._dirty: dict[str, NetDevice] = {}

    def register_netdevice(self, dev: NetDevice) -> None:
        """Add a device; a name can be registered once."""
        if dev.name in self.devices:
            raise MhostError(errno.EEXIST, f"device {dev.name} is registered already")
        self.devices[dev.name] = dev

    def dev_add_pack(self, ptype: PacketType) -> None:
        """Register who takes the frames of an EtherType."""
        if ptype.type in self._ptypes:
            raise MhostError(
                errno.EEXIST,
                f"dev_add_pack: EtherType 0x{ptype.type:04x} has a handler already; "
                "dev_remove_pack that one first",
            )
        self._ptypes[ptype.type] = ptype

    def dev_remove_pack(self, ptype: PacketType) -> None:
        """Undo dev_add_pack; one that is not registered is left alone."""
        if self._ptypes.get(ptype.type) is ptype:
            del self._ptypes[ptype.type]

    def netif_receive_skb(self, dev: NetDevice, skb: SkBuff) -> None:
        """Classify one frame by EtherType, walk it to its end, count its drop."""
        self.received += 1
        dev.stats["rx_packets"] += 1
        dev.stats["rx_bytes"] += len(skb)
        skb.dev = dev.name
        ptype = self._ptypes.get(skb.protocol)
        self.account(ptype.func(skb) if ptype else DropReason.UNHANDLED_PROTO)

    def account(self, end: End) -> None:
        """Count how one frame, or one datagram of the host kernel, has ended."""
        if isinstance(end, Verdict):
            self.ends[end] += 1
        else:
            self.drops[end] += 1

    def kfree_skb(self, reason: DropReason, count: int = 1) -> None:
        """Count the one reason for which a frame or a datagram ended here."""
        self.drops[reason] += count

    def add_timer(self, when_s: float, callback: Callable[[float], None]) -> None:
        """Call back once, with the time, when the clock has come to `when_s`."""
        heapq.heappush(self._timers, (when_s, next(self._timer_numbers), callback))

    @property
    def next_timer_s(self) -> float | None:
        """When run_timers() has something to do; None while there is no timer."""
        return self._timers[0][0] if self._timers else None

    def run_timers(self) -> None:
        """Call back those whose time has come."""
        now = self.clock()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2](now)

    def dev_queue_xmit(self, dev: NetDevice, skb: SkBuff) -> None:
        """Queue one frame; skb.protocol and skb.lladdr say how it is addressed.

        Raises:
            MhostError: ENETDOWN if the device has no link, EMSGSIZE if the packet
                is larger than its MTU.
        """
        if not dev.up:
            raise MhostError(
                errno.ENETDOWN,
                f"device {dev.name} is down; `ip link set {dev.name} up`, or plug the cable in",
            )
        if len(skb) > dev.mtu:
            raise MhostError(
                errno.EMSGSIZE,
                f"packet of {len(skb)} octets exceeds the MTU of {dev.mtu} "
                f"of device {dev.name}",
            )
        dev.tx_queue.append(skb)
        self._dirty[dev.name] = dev

    def tx_done(self, dev: NetDevice, octets: int, err: int = 0) -> None:
        """Account for one frame that flush() wrote, or could not."""
        if not err:
            dev.stats["tx_packets"] += 1
            dev.stats["tx_bytes"] += octets
            return
        dev.stats["tx_dropped"] += 1
        full = err in (errno.EAGAIN, errno.ENOBUFS)
        self.kfree_skb(DropReason.FULL_RING if full else DropReason.DEV_READY)

    def flush(self) -> None:
        """Write what this wake has queued, and what that causes on `lo`."""
        while self._dirty:
            dirty, self._dirty = self._dirty, {}
            for dev in dirty.values():
                dev.flush()
