"""The reading verbs about hosts with identities: key, paths, explain."""

from __future__ import annotations

import errno
from typing import Any

from mhostd.errors import MhostError
from mhostd.host import choose
from mhostd.host.identity import identifier_ntop, key_ntop
from mhostd.host.overlay import Overlay
from mhostd.host.path import Path
from mhostd.host.peer import Peer
from mhostd.host.wire import OVERHEAD
from mhostd.mhost_table import MhostTable, host_key
from mhostd.udp.header import UDP_HLEN


class ShowPaths:
    """Looks at peers and their paths; changes nothing."""

    def __init__(self, overlay: Overlay, table: MhostTable) -> None:
        self._overlay = overlay
        self._table = table

    def key(self) -> dict[str, Any]:
        """Who we are."""
        us = self._overlay.hosts.us
        return {
            "key": key_ntop(us.public),
            "identifier": identifier_ntop(us.identifier),
            "locators": [
                self._overlay.uplinks.text(each.locator)
                for each in self._overlay.hosts.locators()
            ],
        }

    def identity(self, identifier: bytes, now: float) -> dict[str, Any] | None:
        """What `mhostctl hosts` says of a host with an identity."""
        peer = self._overlay.hosts.peers.get(identifier)
        return None if peer is None else self._peer(peer, now)

    def strangers(self, now: float) -> list[dict[str, Any]]:
        """Peers that nobody here has named."""
        peers = self._overlay.hosts.peers.values()
        return [self._peer(peer, now) for peer in peers if not peer.known]

    def _peer(self, peer: Peer, now: float) -> dict[str, Any]:
        session = peer.session
        return {
            "identifier": identifier_ntop(peer.identifier),
            "key": key_ntop(peer.public),
            "association": peer.state(),
            "age_s": round(now - session.made_s, 3) if session else None,
            "path": self._text(peer.active) if peer.active else None,
            "paths": len(peer.paths),
            "policy": "duplicate" if peer.duplicate else "failover",
            "payload_max": peer.mtu() - UDP_HLEN,
        }

    def _text(self, path: Path) -> str:
        way = path.way
        ours, theirs = (self._overlay.uplinks.text(loc) for loc in (way.source, way.remote))
        device = f" {path.device}" if path.device else ""
        return f"{way.l3}{device} {ours} > {theirs}"

    def paths(self, now: float) -> list[dict[str, Any]]:
        """One object for each path, those of a host in the order of preference."""
        return [
            self._path(peer, path, now)
            for peer in self._overlay.hosts.peers.values()
            for path in choose.order(peer.paths.values())
        ]

    def _path(self, peer: Peer, path: Path, now: float) -> dict[str, Any]:
        way, switch = path.way, peer.last_switch
        return {
            "host": peer.name,
            "path": path.number,
            "l3": way.l3,
            "device": path.device or None,
            "source": self._overlay.uplinks.text(way.source),
            "locator": self._overlay.uplinks.text(way.remote),
            "port": way.port,
            "active": path is peer.active,
            "state": path.state.value,
            "reason": choose.why(path, peer.active, now),
            "since_s": round(now - path.since_s, 3),
            "rtt_ms": round(1000 * path.srtt, 3) if path.srtt else None,
            "rttvar_ms": round(1000 * path.rttvar, 3) if path.srtt else None,
            "loss": round(path.loss, 4),
            "pmtu": path.room,
            "payload_max": path.room - OVERHEAD - UDP_HLEN,
            "drained": path.drained,
            "last_switch_s": round(now - switch.when_s, 3) if switch else None,
            "last_switch_cause": switch.cause if switch else None,
        }

    def explain(self, name: str, now: float) -> dict[str, Any]:
        """Why a host's datagrams go where they go.

        Raises:
            MhostError: ENOENT if nobody knows the host.
        """
        identifier = self._identifier(name)
        peer = self._overlay.hosts.peers.get(identifier) if identifier else None
        if peer is None:
            return self._plain(name, now)
        return {
            "host": peer.name,
            **self._peer(peer, now),
            "candidates": [
                self._path(peer, path, now) for path in choose.order(peer.paths.values())
            ],
            "hints": {
                origin: [self._overlay.uplinks.text(locator) for locator in locators]
                for origin, locators in peer.hints.items()
            },
            "last_switch": peer.last_switch._asdict() if peer.last_switch else None,
        }

    def _identifier(self, name: str) -> bytes | None:
        host = self._table.hosts.get(host_key(name))
        for locator in host.bound if host else ():
            if locator.address in self._overlay.hosts.peers:
                return locator.address
        for peer in self._overlay.hosts.peers.values():
            if name in (peer.name, identifier_ntop(peer.identifier), key_ntop(peer.public)):
                return peer.identifier
        return None

    def _plain(self, name: str, now: float) -> dict[str, Any]:
        host = self._table.hosts.get(host_key(name))
        if host is None:
            raise MhostError(
                errno.ENOENT, f"explain: no host {name} is known; `mhostctl hosts` lists them"
            )
        candidates = []
        faults = self._table.faults
        ordered = sorted(host.locators, key=lambda loc: faults.not_before(loc, 0, now))
        for i, locator in enumerate(ordered):
            proto = self._table.mhost_route(locator.family, locator.address)
            fault = faults.get((locator, 0))
            if proto is None:
                reason = "no L3 handler serves its prefix"
            elif fault is not None and now < fault.retry_s:
                code = errno.errorcode.get(fault.errno, str(fault.errno))
                reason = f"passed over for {fault.retry_s - now:.1f} s more: {code}"
            else:
                reason = "taken" if i == 0 else "another one comes first"
            candidates.append(
                {
                    "locator": self._overlay.uplinks.text(locator),
                    "l3": proto.name if proto else None,
                    "active": i == 0,
                    "reason": reason,
                }
            )
        return {"host": host.name, "association": None, "candidates": candidates}
