"""The reading verbs: each returns what `mhostctl -j` prints, numbers as numbers."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from mhostd import __version__, native
from mhostd.dev import NetCore
from mhostd.errors import OUTGOING, DropReason, Verdict
from mhostd.ipc.show_paths import ShowPaths
from mhostd.mhost_table import MhostTable
from mhostd.sock import Locator, Sock
from mhostd.structs import Answer, MhostProto
from mhostd.uapi import AF_MHOST, Reply, SockaddrMhost

log = logging.getLogger(__name__)


class Show:
    """Looks at the tables; changes nothing."""

    def __init__(
        self,
        core: NetCore,
        table: MhostTable,
        socks: dict[int, Sock],
        clock: Callable[[], float],
        warnings: Callable[[], list[str]],
        soon: Callable[[Callable[[], object]], None],
        host_addresses: Callable[[int], list[bytes]] = lambda _family: [],
        sync: Callable[[], None] = lambda: None,
        paths: ShowPaths | None = None,
    ) -> None:
        self._core = core
        self._table = table
        self._socks = socks
        self._clock = clock
        self._warnings = warnings
        self._soon = soon
        self._host_addresses = host_addresses
        self._sync = sync
        self._paths = paths
        self._started_s = clock()
        self._verbs: dict[str, Callable[[], Any]] = {
            "sockets": self.sockets,
            "hosts": self.hosts,
            "l3": self.l3,
            "routes": self.routes,
            "counters": self.counters,
            "drops": self.drops,
        }
        if paths is not None:
            self._verbs["key"] = paths.key
            self._verbs["paths"] = lambda: paths.paths(clock())

    def __call__(self, what: str, name: str, answer: Answer, seq: int) -> None:
        """Answer one verb; `status` asks the kernel, and does so off the loop."""
        self._sync()
        if what == "status":
            task = asyncio.get_running_loop().run_in_executor(None, self._warnings)

            def tell() -> None:
                answer(Reply(seq, 0, "", self.status(_result(task))))

            task.add_done_callback(lambda _task: self._soon(tell))
        elif what == "explain" and self._paths is not None:
            answer(Reply(seq, 0, "", self._paths.explain(name, self._clock())))
        elif what in self._verbs:
            answer(Reply(seq, 0, "", self._verbs[what]()))
        else:
            text = f"show: no verb {what!r}; there are status, {', '.join(self._verbs)}"
            if what in ("key", "paths", "explain"):
                text = f"show: no {what}: this host has no identity; see [host] in mhostd.toml"
            answer(Reply(seq, errno.EINVAL, text))

    def status(self, warnings: list[str]) -> dict[str, Any]:
        """One object: the daemon and its devices."""
        times = os.times()
        return {
            "version": __version__,
            "pid": os.getpid(),
            "uptime_s": round(self._clock() - self._started_s, 3),
            "cpu_s": round(times.user + times.system, 3),
            "rss_kib": _rss_kib(),
            "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "native": native.IMPL,
            "sockets": len(self._socks),
            "hosts": sum(1 for host in self._table.hosts.values() if host.bound),
            "devices": [
                {
                    "name": dev.name,
                    "kind": dev.kind,
                    "up": dev.up,
                    "mtu": dev.mtu,
                    "neighbours": len(dev.neighbours) + len(dev.learned),
                }
                for dev in self._core.devices.values()
            ],
            "warnings": warnings,
        }

    def sockets(self) -> list[dict[str, Any]]:
        """One object for each open socket, as `ss -uap` has them."""
        return [
            {
                "socket": sk.number,
                "pid": sk.client.pid,
                "uid": sk.client.uid,
                "program": sk.client.program,
                "lane": "shm" if sk.slot >= 0 and not sk.pumped else "zmq",
                "local": self._local(sk),
                "port": sk.sport,
                "peer": self._table.mhost_ntop(sk.peer) if sk.peer else None,
                "peer_port": sk.peer.port if sk.peer else None,
                "recv_q": sk.rmem_alloc,
                "rcvbuf": sk.rcvbuf,
                "rx_datagrams": sk.rx_datagrams,
                "tx_datagrams": sk.tx_datagrams,
                "rx_drops": sk.rx_drops,
            }
            for sk in self._socks.values()
        ]

    def _local(self, sk: Sock) -> str:
        return self._table.mhost_ntop(sk.bound or SockaddrMhost(AF_MHOST)) if sk.sport else ""

    def hosts(self) -> list[dict[str, Any]]:
        """One object for each host that has locators, in the order of preference."""
        return [
            {
                "name": host.name,
                "handle": host.handle,
                "source": "bound" if host.bound else "resolver",
                "locators": [self._locator(loc) for loc in host.locators],
                "identity": self._identity(host.bound),
            }
            for host in self._table.hosts.values()
            if host.locators
        ] + self._strangers()

    def _identity(self, bound: list[Locator]) -> dict[str, Any] | None:
        if self._paths is not None:
            for locator in bound:
                found = self._paths.identity(locator.address, self._clock())
                if found is not None:
                    return found
        return None

    def _strangers(self) -> list[dict[str, Any]]:
        """Hosts that have called and that nobody here has named."""
        if self._paths is None:
            return []
        return [
            {
                "name": identity["identifier"],
                "handle": 0,
                "source": "peer",
                "locators": [],
                "identity": identity,
            }
            for identity in self._paths.strangers(self._clock())
        ]

    def _locator(self, locator: Locator) -> dict[str, Any]:
        family, address, scope_id = locator
        proto = self._table.mhost_route(family, address)
        fault = self._table.faults.get((locator, 0))
        now = self._clock()
        passed_over = fault is not None and now < fault.retry_s
        return {
            "locator": self._table.mhost_ntop(SockaddrMhost(family, 0, address, 0, scope_id)),
            "l3": proto.name if proto else None,
            "usable": proto is not None and proto.up() and not passed_over,
            "error": errno.errorcode.get(fault.errno) if fault and passed_over else None,
            "retry_s": round(fault.retry_s - now, 3) if fault and passed_over else None,
        }

    def l3(self) -> list[dict[str, Any]]:
        """One object for each registered L3 handler."""
        return [
            {
                "number": number,
                "name": proto.name,
                "family": proto.family,
                "addresses": [proto.ntop(address) for address in proto.addresses()],
                "host_addresses": self._of_kernel(proto),
                "device": proto.device,
                "up": proto.up(),
                "mtu": proto.mtu(),
                "own_udp": proto.udp is not None,
            }
            for number, proto in self._table.protos.items()
        ]

    def _of_kernel(self, proto: MhostProto) -> list[str]:
        """Addresses of the host kernel, where the protocol is the kernel's own."""
        found = self._host_addresses(proto.family) if proto.udp else []
        return [proto.ntop(address) for address in found]

    def routes(self) -> list[dict[str, Any]]:
        """Which L3 handler sends to which prefix, in the order of look-up."""
        return [
            {
                "family": proto.family,
                "prefix": f"{proto.ntop(prefix)}/{bits}",
                "l3": proto.name,
                "device": proto.device,
            }
            for proto, prefix, bits in self._table.routes()
        ]

    def counters(self) -> dict[str, dict[str, int]]:
        """Of each device, each L3 handler, all sockets together, and where frames end."""
        counters = {dev.name: dict(dev.stats) for dev in self._core.devices.values()}
        counters |= {p.name: dict(p.counters) for p in self._table.protos.values()}
        socks = self._socks.values()
        counters["sockets"] = {
            "rx_datagrams": sum(sk.rx_datagrams for sk in socks),
            "tx_datagrams": sum(sk.tx_datagrams for sk in socks),
            "rx_drops": sum(sk.rx_drops for sk in socks),
        }
        counters["accounting"] = self.accounting()
        return counters

    def accounting(self) -> dict[str, int]:
        """Where every frame, and every datagram of the host kernel, has ended.

        `received` is the sum of the others: each ends once, or waits as a fragment.
        """
        protos = self._table.protos.values()
        dropped = sum(self._core.drops.values()) - sum(self._core.drops[r] for r in OUTGOING)
        return {
            "received": self._core.received,
            "delivered": self._core.ends[Verdict.DELIVERED],
            "answered": self._core.ends[Verdict.ANSWERED],
            "consumed": self._core.ends[Verdict.CONSUMED],
            "absorbed": sum(p.counters["ip_reasm_absorbed"] for p in protos),
            "dropped": dropped,
            "held": sum(p.held() for p in protos),
        }

    def drops(self) -> dict[str, int]:
        """How many frames and datagrams ended for each reason there is."""
        return {reason.value: self._core.drops[reason] for reason in DropReason}


def _result(done: asyncio.Future[list[str]]) -> list[str]:
    """The warnings, or one that says why there are none."""
    err = done.exception()
    if err is not None:
        log.warning("status: asking the kernel for routes failed: %s", err)
        return [f"routes could not be checked: {err}"]
    return done.result()


def _rss_kib() -> int:
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024
