"""Associated hosts in the fast lane: what it may seal, open and send by itself.

The lane is told which session seals, which paths datagrams take and from where the peer's
own come; the counters of the sessions are looked at while there is traffic (host/peer.py).
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from mhostd import native
from mhostd.dev import NetCore
from mhostd.host.overlay import Overlay, pktinfo
from mhostd.host.path import Path, Way
from mhostd.host.peer import Peer
from mhostd.host.wire import PORT
from mhostd.mhost_table import MhostTable
from mhostd.sock import Locator, Sock
from mhostd.structs import MhostProto
from mhostd.uapi import AF_INET, AF_INET6, SockaddrMhost
from mhostd.udp.udp_mhost import UdpMhost

# enum lane_item_kind of native/lane.h
ENCAP, OPENED, WARM, ENCAP_ERROR = 6, 7, 8, 9
_TUN, _HOST_UDP = 1, 3  # enum flow_kind of native/flow.h
_FAILOVER, _DUPLICATE = 1, 2  # flags of a flow, native/lane_peer.h
_PATHS = 4  # PEER_PATHS there

_ENCAP = struct.Struct("=IBBHQII16s16sII")  # struct lane_encap of native/lane_peer.h
_FLOW = struct.Struct("=II")  # number of the peer, flags; the UDP header follows
_SOCKADDR_IN, _SOCKADDR_IN6 = struct.Struct("=H2s4s8x"), struct.Struct("=H2s4x16sI")


class FastPeers:
    """Peers by a small number, which the lane knows them by.

    Attributes:
        host_error: the association port of that family has an error; main gives it.
    """

    def __init__(
        self,
        lane: native.LaneType,
        core: NetCore,
        table: MhostTable,
        udp: UdpMhost,
        overlay: Overlay,
    ) -> None:
        self._lane = lane
        self._core = core
        self._table = table
        self._udp = udp
        self._overlay = overlay
        self._numbers: dict[Peer, int] = {}
        self._peers: dict[int, Peer] = {}
        self._free: list[int] = []
        self._sessions: dict[int, Peer] = {}
        self.host_error: Callable[[Sock, int], None] = lambda _sk, _family: None
        lane.encap(overlay.hosts.us.identifier, PORT)
        overlay.lane_changed, overlay.lane_warm = self.changed, self.warm
        overlay.lane_del = self.session_removed
        overlay.lane_forget = self.forget
        overlay.lane_number = self.number

    # --- from the walk to the lane

    def number(self, peer: Peer, duplicate: bool, failover: bool) -> bytes:
        """What a flow to a peer begins with: its number, and what the socket has asked for."""
        number = self._numbers.get(peer)
        if number is None:
            number = self._free.pop() if self._free else len(self._numbers)
            self._numbers[peer] = number
            self._peers[number] = peer
            self.changed(peer)
        flags = _DUPLICATE if duplicate else _FAILOVER if failover else 0
        return _FLOW.pack(number, flags)

    def changed(self, peer: Peer) -> None:
        """Datagrams of a peer take another path or session, or come from elsewhere."""
        if peer not in self._numbers and peer.session is None:
            return
        if peer not in self._numbers:
            self.number(peer, False, False)
            return
        number = self._numbers[peer]
        session = peer.session
        paths = [found for p in peer.data_paths(True) if (found := self._path(p))]
        first = self._path(peer.active) if peer.active is not None else None
        if first is None:
            paths = []
        elif first in paths:
            paths.remove(first)
            paths.insert(0, first)
        else:
            paths.insert(0, first)
        sources = [
            (theirs, path.way.remote.family, path.way.remote.address, path.way.port)
            for theirs, path in peer.theirs.items()
        ]
        self._lane.peer_set(
            number,
            peer.identifier,
            session.shim if session else None,
            peer.duplicate,
            peer.warm,
            paths[:_PATHS],
            sources,
        )
        for each in peer.sessions():
            if each.confirmed and each.local_id not in self._sessions:
                self._sessions[each.local_id] = peer
                self._lane.session_add(each.local_id, number, each.shim)

    def _path(self, path: Path) -> tuple[int, int, int, int, bytes, bytes] | None:
        """What the lane needs of a path: None if the walk must send over it."""
        way = path.way
        proto = self._table.proto_named(way.l3)
        if proto is None:
            return None
        family, address, scope_id = way.remote
        if proto.udp is not None:
            port = way.port.to_bytes(2, "big")
            if family == AF_INET:
                to = _SOCKADDR_IN.pack(family, port, address)
            else:
                to = _SOCKADDR_IN6.pack(family, port, address, scope_id)
            return path.number, _HOST_UDP, family, path.room, to, pktinfo(way)
        if proto.flow_header is None:
            return None
        sa = SockaddrMhost(family, way.port, address, 0, scope_id)
        found = self._udp.flow_headers(self._overlay.sk, proto, sa)
        if found is None:
            return None
        return path.number, _TUN, family, path.room, found[0], b""

    def warm(self, peer: Peer, warm: bool) -> None:
        """The walk looks at a peer's traffic, or does not any more."""
        if not warm and peer in self._numbers:
            self._lane.peer_cold(self._numbers[peer])

    def session_removed(self, local_id: int) -> None:
        """Nothing that comes with it counts any more."""
        if self._sessions.pop(local_id, None) is not None:
            self._lane.session_del(local_id)

    def forget(self, peer: Peer) -> None:
        """There is no such peer any more."""
        number = self._numbers.pop(peer, None)
        if number is not None:
            del self._peers[number]
            self._free.append(number)
            self._lane.peer_del(number)
            self._table.changed()

    # --- from the lane to the walk

    def item(self, kind: int, what: int, octets: bytes) -> None:
        """What the lane has handed over."""
        if kind == ENCAP_ERROR:
            try:
                self.host_error(self._overlay.sk, AF_INET6 if what else AF_INET)
            finally:
                self._lane.encap_watch(bool(what))
            return
        if kind == WARM:
            peer = self._peers.get(what)
            if peer is not None:
                self._overlay.traffic(peer)
            return
        local_id, path, next_, port, seq, family, scope_id, saddr, daddr, ifindex, kernel = (
            _ENCAP.unpack_from(octets)
        )
        rest = octets[_ENCAP.size :]
        length = 4 if family == AF_INET else 16
        proto = self._proto(family, daddr[:length], bool(kernel))
        self._core.received += 1
        way = Way(
            proto.name if proto else "",
            Locator(family, daddr[:length], scope_id and ifindex),
            ifindex,
            Locator(family, saddr[:length], scope_id),
            port,
        )
        if kind == ENCAP:
            self._core.account(self._overlay.receive(way, rest))
        else:
            self._core.account(self._overlay.opened(local_id, path, seq, next_, rest, way))

    def _proto(self, family: int, address: bytes, kernel: bool) -> MhostProto | None:
        for proto in self._table.mhost_protos_for_family(family):
            if kernel and proto.udp is not None:
                return proto
            if not kernel and address in proto.addresses():
                return proto
        return None
