"""The fast lane beside the walk: who uses it, what it may repeat, what it counts.

native.Lane moves datagrams between the rings of sockets in shared memory and the TUN by
itself as long as it knows their flow. What it does not know it hands to the walk,
untouched; once the walk has carried a datagram out, its flow is told to the lane
(`learn_up`, `learn_down`), and forgotten when anything that the walk had looked at
changes. Order holds within a socket: what it sends behind a record that is at the walk
waits, and no frame is read while one of a flow that was just learned is.

Whatever is here is decided by the tables; descriptors belong to native and are never
looked at.
"""

from __future__ import annotations

import logging
import struct
from collections import deque
from collections.abc import Callable
from functools import partial

from mhostd import native
from mhostd.dev import NetCore, NetDevice
from mhostd.errors import DropReason, MhostError, Verdict
from mhostd.fast_peers import ENCAP, FastPeers
from mhostd.host.overlay import NAME
from mhostd.mhost_table import MhostTable
from mhostd.silence import ASKED, SILENT_S, PeerKey
from mhostd.skb import SkBuff
from mhostd.sock import SK_BUF_MAX, Datagram, Locator, Sock, sock_dequeue, sock_rfree
from mhostd.structs import MhostProto, UdpOps
from mhostd.uapi import (
    AF_INET,
    AF_INET6,
    AF_MHOST,
    CONTROL_MAX,
    LANE_RING,
    MHOST_FRESHNESS,
    RECORD_CONNECTED,
    RECORD_HLEN,
    SOL_MHOST,
    UDP_PAYLOAD_MAX,
    Record,
    SockaddrMhost,
    pack_record,
    record_size,
    unpack_records,
)
from mhostd.udp.udp_mhost import UdpMhost

log = logging.getLogger(__name__)

# Octets of records in a ring that still has room for one more, with a pad.
RING_MOST = LANE_RING - 2 * record_size(UDP_PAYLOAD_MAX, CONTROL_MAX)

DRAIN_MS = 50  # how long a call waits for what its socket has sent before it
DRAIN_TRIES = 100  # batches of LANE_BATCH records (lane.h) that the walk takes for it

# enum lane_item_kind of native/lane.h
_FRAME, _RECORDS, _GONE, _DATAGRAM, _HOST, _HOST6 = range(6)
_TUN, _LO, _HOST_UDP, _PEER = 1, 2, 3, 4  # enum flow_kind of native/flow.h

# struct sockaddr_in and sockaddr_in6, linux/in.h and in6.h
_SOCKADDR_IN, _SOCKADDR_IN6 = struct.Struct("=H2s4s8x"), struct.Struct("=H2s4x16sI")


class FastLane:
    """The sockets in shared memory, and what the lane knows of them.

    Attributes:
        records: carries out a record of a socket, as calls.py does; main gives it.
        gone: the application of a socket is gone, or wrote nonsense; main gives it.
        hand_over: gives applications what the walk has queued for them; main gives it.
        host_received: the host kernel has received a datagram for a socket.
        host_error: the host kernel's socket of that family has an error for a socket.
        host_settle: see whether the lane should have the host kernel's sockets of one.
        deleted: the TUN was deleted; main gives it.
        peers: associated hosts in the lane, where there is an overlay; main gives it.
    """

    def __init__(
        self,
        lane: native.LaneType,
        core: NetCore,
        table: MhostTable,
        udp: UdpMhost,
        tun: NetDevice | None,
        lo: NetDevice,
    ) -> None:
        self._lane = lane
        self._core = core
        self._table = table
        self._udp = udp
        self._tun = tun
        self._lo = lo
        self._socks: dict[int, Sock] = {}
        self._counts: dict[Sock, tuple[int, int, int]] = {}
        self._total = lane.counts()
        self._changes = table.changes
        self._heard: dict[Sock, int] = {}
        self._told: set[Sock] = set()
        self._up: dict[tuple[Sock, SockaddrMhost, bytes], int] = {}
        self._down: dict[bytes, tuple[Sock, MhostProto, SockaddrMhost]] = {}
        self._done: dict[int, int] = {}
        self._items: deque[tuple[int, int, bytes]] = deque()
        self.peers: FastPeers | None = None
        self._asked: dict[Sock, tuple[float, int, int, PeerKey, Locator]] = {}
        udp.learn = self.learn_up
        self.records: Callable[[Sock, bytes], None] = lambda _sk, _octets: None
        self.gone: Callable[[Sock], None] = lambda _sk: None
        self.hand_over: Callable[[], None] = lambda: None
        self.deleted: Callable[[], None] = lambda: None
        self.host_received: Callable[[Sock, Datagram], None] = lambda _sk, _datagram: None
        self.host_error: Callable[[Sock, int], None] = lambda _sk, _family: None
        self.host_settle: Callable[[Sock], None] = lambda _sk: None

    # --- sockets

    def add(self, sk: Sock, memfd: int, far: int) -> None:
        """Have a socket's data go through shared memory from now on.

        Raises:
            OSError: EINVAL if a descriptor is not what it should be, EBUSY if it does.
        """
        sk.slot = self._lane.sock_add(memfd, far, min(sk.rcvbuf, RING_MOST))
        sk.ring_most = RING_MOST
        sk.used = partial(self._lane.used, sk.slot)
        self._socks[sk.slot] = sk
        self._counts[sk] = (0, 0, 0)
        self._heard[sk] = sk.heard

    def release(self, sk: Sock) -> None:
        """The socket is closed."""
        self._sync_sock(sk)
        self._up.clear()
        self._down.clear()
        self._lane.sock_del(sk.slot)
        del self._socks[sk.slot], self._counts[sk], self._heard[sk]
        self._done.pop(sk.slot, None)
        sk.slot, sk.used, sk.ring_most = -1, None, SK_BUF_MAX

    def changed(self, sk: Sock, port: int = 0) -> None:
        """A socket is bound, connected or set otherwise than before, or has let a port go."""
        self._up.clear()
        self._down.clear()
        for each in {sk.sport, port} - {0}:
            self._lane.forget_port(each)
        if sk.slot >= 0:
            self._lane.forget_sock(sk.slot)
            self.limit(sk)
            self.host_settle(sk)

    def limit(self, sk: Sock) -> None:
        """What of the receive buffer is left for the ring."""
        left = max(0, sk.rcvbuf - sk.rmem_sent)
        self._lane.sock_rcvbuf(sk.slot, min(left, RING_MOST))

    def host_add(self, sk: Sock, family: int, fd: int) -> bool:
        """Have the lane receive and send through a socket of the host kernel."""
        try:
            if sk.encap_rcv is not None:
                self._lane.encap_add(family == AF_INET6, fd)
            else:
                self._lane.host_add(sk.slot, family == AF_INET6, fd)
        except OSError:  # a kernel without UDP_GRO: before Linux 5.0
            return False
        return True

    def host_del(self, sk: Sock, family: int) -> None:
        """Have the lane leave it alone, before it is closed."""
        if sk.encap_rcv is not None:
            self._lane.encap_del(family == AF_INET6)
        elif sk.slot >= 0:
            self._lane.host_del(sk.slot, family == AF_INET6)

    def catch_up(self, sk: Sock) -> None:
        """What a socket has put in its ring goes before what it asks for now."""
        for _ in range(DRAIN_TRIES):
            if self._lane.drain(sk.slot, DRAIN_MS):
                return
            self.on_readable()
            if sk.slot < 0 or sk.slot not in self._done:
                return
            self.finish()
            self._resume()

    def finish(self) -> None:
        """What the walk has queued goes out, or in, before what the lane takes next."""
        self._core.flush()
        self.hand_over()

    # --- from the lane to the walk

    def on_readable(self) -> None:
        """Walk what the lane has handed over, in its order, also where one calls another."""
        self._items.extend(self._lane.take())
        if self._lane.lost():
            self.deleted()
        while self._items:
            item = self._items.popleft()
            try:
                self._item(*item)
            except Exception:  # the others have come, too
                log.exception("unexpected error; the daemon goes on")

    def _item(self, kind: int, what: int, octets: bytes) -> None:
        if kind == _FRAME:
            self._frame(what, octets)
            return
        if kind >= ENCAP:
            if self.peers is not None:
                self.peers.item(kind, what, octets)
            return
        sk = self._socks.get(what)
        if sk is None:
            return
        if kind == _RECORDS:
            self._done[what] = self._done.get(what, 0) + 1
            self.records(sk, octets)
        elif kind == _GONE:
            self.gone(sk)
        elif kind == _DATAGRAM:
            (record,) = unpack_records(octets)
            self.host_received(sk, Datagram(record.payload, _short(record.sa)))
        else:
            try:
                self.host_error(sk, AF_INET if kind == _HOST else AF_INET6)
            finally:
                if sk.slot >= 0:
                    self._lane.host_watch(sk.slot, kind == _HOST6)

    def _frame(self, ethertype: int, octets: bytes) -> None:
        assert self._tun is not None
        skb = SkBuff(bytearray(octets))
        skb.protocol = ethertype
        self._core.netif_receive_skb(self._tun, skb)

    # --- from the walk to the lane

    def deliver(self, sk: Sock) -> bool:
        """Put what the walk has queued in the ring of the socket; False if some must wait."""
        while sk.receive_queue:
            first = sk.receive_queue[0]
            record = Record(first.source, first.payload, cookie=first.l3, control=first.control)
            if not self._lane.put(sk.slot, pack_record(record)):
                return False
            sock_dequeue(sk)
            sock_rfree(sk, record_size(len(first.payload), len(first.control)))  # in the ring
        return True

    def learn_up(self, sk: Sock, datagram: Datagram) -> None:
        """What comes from there to there again may go to this socket at once."""
        self._told.add(sk)
        proto = self._table.protos.get(datagram.l3)
        if proto is None or sk.wants_control or not _plain(proto):
            return
        if sk.options.get((SOL_MHOST, MHOST_FRESHNESS)) and proto.name == NAME:
            return
        if self._table.faults and datagram.source.id_no and proto.name != NAME:
            return  # as in learn_down(): what is asked there is answered here
        self._up[sk, datagram.source, datagram.daddr] = datagram.l3

    def learn_down(
        self, sk: Sock, record: Record, proto: MhostProto, sa: SockaddrMhost
    ) -> None:
        """A record was sent that way; the next ones of its socket to there may be at once.

        A host with a locator that is passed over now is looked at each time.
        """
        if sk.slot < 0 or record.control or not _plain(proto):
            return
        named = AF_MHOST in (record.sa.family, sk.peer and sk.peer.family)
        if self._table.faults and named and proto.name != NAME:
            return
        sa_of = sk.peer if record.flags & RECORD_CONNECTED else record.sa
        if sa_of is not None and sa_of.family == AF_MHOST and proto.name != NAME:
            key = sa_of.id_no, sa_of.port
            if self._table.silence.pending(key):
                self._listen_to(sk, key, Locator(sa.family, sa.address, sa.scope_id))
        flags = record.flags & RECORD_CONNECTED
        head = pack_record(record._replace(payload=b"", flags=flags))[:RECORD_HLEN]
        self._down[head] = sk, proto, sa

    def _listen_to(self, sk: Sock, key: PeerKey, locator: Locator) -> None:
        """The lane sends to one of several locators: see whether anything is answered."""
        self._table.silence.elsewhere(key, locator)
        if not self._asked:
            self._core.add_timer(self._core.clock() + SILENT_S / 2, self._listen)
        if sk not in self._asked:
            self._asked[sk] = (self._core.clock(), *self._rx_tx(sk), key, locator)

    def _rx_tx(self, sk: Sock) -> tuple[int, int]:
        return self._lane.sock_counts(sk.slot)[:2]

    def _listen(self, now: float) -> None:
        """What is not answered is looked at by the walk again."""
        asked, self._asked = self._asked, {}
        for sk, (since_s, rx, tx, key, locator) in asked.items():
            if sk.slot < 0:
                continue
            now_rx, now_tx = self._rx_tx(sk)
            if now_rx != rx:
                self._table.silence.heard(key, locator)
                since_s, rx, tx = now, now_rx, now_tx
            elif now_tx != tx and now - since_s >= SILENT_S:
                for _ in range(min(now_tx - tx, ASKED)):
                    self._table.silence.sent(key, locator, since_s)
                self._lane.forget_sock(sk.slot)
                continue
            self._asked[sk] = since_s, rx, tx, key, locator
        if self._asked:
            self._core.add_timer(now + SILENT_S / 2, self._listen)

    def hung_up(self, sk: Sock) -> bool:
        """No copy of its application's end is left, and gone() may be on its way."""
        return sk.slot >= 0 and not sk.pumped and self._lane.hung_up(sk.slot)

    def error(self, sk: Sock, *, wake: bool) -> None:
        """An error is about to be told to a socket: what it asks from now on waits for it.

        `wake` says that a receiver is to have it.
        """
        self._lane.error(sk.slot, wake)

    # --- the end of a wake

    def settle(self) -> None:
        """Applications see what was put; flows that were learned, or forgotten, count."""
        for sk in self._told:
            if sk.slot >= 0 and sk.heard != self._heard[sk]:  # answers go another way now
                self._heard[sk] = sk.heard
                self._lane.forget_sock(sk.slot)
        self._told.clear()
        self._lane.publish()
        if self._changes != self._table.changes:
            self._changes = self._table.changes
            self._lane.forget()
        else:
            self._tell()
        self._up.clear()
        self._down.clear()
        self._resume()
        self._lane.go_on()

    def _tell(self) -> None:
        for (sk, source, daddr), l3 in self._up.items():
            if sk.slot >= 0 and not sk.receive_queue:
                family, port, saddr, id_no, scope_id = source
                flow = (sk.slot, family, saddr, daddr, port, sk.sport, id_no, l3, scope_id)
                self._lane.flow_up(*flow)
        for head, (sk, proto, sa) in self._down.items():
            if sk.slot < 0:
                continue
            if proto.udp is not None:
                self._tell_host(sk, head, proto.udp, sa)
                continue
            found = self._udp.flow_headers(sk, proto, sa)
            if found is not None:
                headers, most = found
                kind = _LO if sa.address in proto.addresses() else _TUN
                if proto.name == NAME:
                    kind = _PEER
                self._lane.flow_down(sk.slot, head, kind, sa.family, headers, most, most)

    def _tell_host(self, sk: Sock, head: bytes, udp: UdpOps, sa: SockaddrMhost) -> None:
        """A flow through the host kernel: where to, and what fits one of its packets."""
        port = sa.port.to_bytes(2, "big")
        if sa.family == AF_INET:
            to, hlen = _SOCKADDR_IN.pack(sa.family, port, sa.address), 28
        else:
            to, hlen = _SOCKADDR_IN6.pack(sa.family, port, sa.address, sa.scope_id), 48
        try:
            segment_max = udp.path_mtu(sa, b"") - hlen
        except MhostError:
            return
        most = min(sk.sndbuf, UDP_PAYLOAD_MAX)
        self._lane.flow_down(sk.slot, head, _HOST_UDP, sa.family, to, most, segment_max)

    def _resume(self) -> None:
        done, self._done = self._done, {}
        for slot, count in done.items():
            if slot in self._socks:
                self._lane.sent(slot, count)

    # --- counters

    def sync(self) -> None:
        """Add to every counter what the lane has done since the last time."""
        before, self._total = self._total, self._lane.counts()
        (
            rx, rx_bytes, tx, tx_bytes, full, failed, host_full, lo, lo_bytes,
            delivered, rcvbuff, host, host_backlog, backlog, backlog_bytes,
            malformed, replayed, tag, refused,
        ) = (now - then for now, then in zip(self._total, before, strict=True))  # fmt: skip
        core = self._core
        core.received += rx + lo + host + backlog + host_backlog
        core.ends[Verdict.DELIVERED] += delivered
        for reason, count in (
            (DropReason.SOCKET_RCVBUFF, rcvbuff),
            (DropReason.CPU_BACKLOG, backlog + host_backlog),
            (DropReason.FULL_RING, full + host_full),
            (DropReason.DEV_READY, failed),
            (DropReason.SHIM_MALFORMED, malformed),
            (DropReason.SHIM_REPLAYED, replayed),
            (DropReason.SHIM_TAG, tag),
            (DropReason.SHIM_REFUSED, refused),
        ):
            if count:
                core.kfree_skb(reason, count)
        if self._tun is not None:
            stats = self._tun.stats
            stats["rx_packets"] += rx + backlog
            stats["rx_bytes"] += rx_bytes + backlog_bytes
            stats["tx_packets"] += tx
            stats["tx_bytes"] += tx_bytes
            stats["tx_dropped"] += full + failed
        for way in ("rx", "tx"):
            self._lo.stats[f"{way}_packets"] += lo
            self._lo.stats[f"{way}_bytes"] += lo_bytes
        for sk in self._socks.values():
            self._sync_sock(sk)

    def _sync_sock(self, sk: Sock) -> None:
        before = self._counts[sk]
        now = self._counts[sk] = self._lane.sock_counts(sk.slot)
        sk.rx_datagrams += now[0] - before[0]
        sk.tx_datagrams += now[1] - before[1]
        sk.rx_drops += now[2] - before[2]


def _plain(proto: MhostProto) -> bool:
    """Whether the lane can do what this protocol does: IPv4 and IPv6, anybody's."""
    return proto.flow_header is not None or proto.udp is not None


def _short(sa: SockaddrMhost) -> SockaddrMhost:
    """An address as long as it is; in a record it is padded."""
    return sa._replace(address=sa.address[: 4 if sa.family == AF_INET else 16])
