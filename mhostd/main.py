"""The process: arguments, configuration, locks, devices, event loop, signals."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import errno
import logging
import math
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import uvloop
import zmq

from mhostd import __version__, native
from mhostd.config import Config, ConfigError, parse_config
from mhostd.dev import NetCore
from mhostd.directories import open_directory
from mhostd.errors import MhostError
from mhostd.eth import EthDevice
from mhostd.fast import FastLane
from mhostd.fast_peers import FastPeers
from mhostd.host.directory import Directory, NoDirectory
from mhostd.host.identity import Identity
from mhostd.host.overlay import Overlay
from mhostd.host.path import Uplink
from mhostd.host.whereabouts import Whereabouts
from mhostd.host_key import load_identity
from mhostd.host_udp import HostUdp
from mhostd.init import bind_hosts, check_config, mhost_init, read_hosts
from mhostd.ipc.admin import Admin
from mhostd.ipc.calls import Calls
from mhostd.ipc.door import Door, chgrp
from mhostd.ipc.events import Events
from mhostd.ipc.handover import Handover
from mhostd.ipc.pump import Pumps
from mhostd.ipc.show import Show
from mhostd.ipc.show_paths import ShowPaths
from mhostd.links import Link, Links
from mhostd.lock import DeviceLock, SocketLock
from mhostd.name_service import NameService
from mhostd.netlink import (
    Change,
    IfAddress,
    Monitor,
    Route,
    Rtnetlink,
    address_warnings,
    lost_address,
    route_warnings,
)
from mhostd.poller import Poller
from mhostd.privileges import open_pidfd, port_limit
from mhostd.resolver import Resolver
from mhostd.sock import Locator
from mhostd.tun import TunDevice
from mhostd.uapi import DEFAULT_CONFIG, DEFAULT_STATE

DIRECTORY_CLOSE_S = 1.0
BACKLOG_RETRY_S = 0.005  # how often a client that reads nothing is tried again

log = logging.getLogger("mhostd")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the daemon until SIGTERM or SIGINT.

    Returns:
        0 after a clean stop, 1 if it could not start, 2 for a bad command line or
        configuration.
    """
    parser = argparse.ArgumentParser(
        prog="mhostd", description="AF_MHOST sockets: they name a host, not an address."
    )
    parser.add_argument("--config", metavar="FILE", type=Path, help=f"default {DEFAULT_CONFIG}")
    parser.add_argument("--version", action="version", version=f"mhostd {__version__}")
    args = parser.parse_args(argv)
    logging.basicConfig(
        stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )
    try:
        config = read_config(args.config)
    except (ConfigError, OSError) as err:
        print(f"mhostd: {args.config or DEFAULT_CONFIG}: {err}", file=sys.stderr)
        return 2
    log.setLevel(config.log.level.upper())
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit(0))  # until serve() has its own
    try:
        with contextlib.ExitStack() as cleanup:
            daemon = Daemon(config, args.config, cleanup)
            uvloop.run(daemon.serve())
    except KeyboardInterrupt:
        return 130
    except MhostError as err:
        print(f"mhostd: {err.strerror}", file=sys.stderr)
        return 1
    except (ConfigError, OSError, zmq.ZMQError) as err:
        print(f"mhostd: {err}", file=sys.stderr)
        return 1
    return 0


def read_config(path: Path | None) -> Config:
    """Read the file; the defaults where none is named and the usual one is missing."""
    if path is None and not Path(DEFAULT_CONFIG).exists():
        return parse_config("")
    return parse_config((path or Path(DEFAULT_CONFIG)).read_bytes())


class Daemon:
    """Everything that owns a descriptor, joined to a stack that owns none."""

    def __init__(
        self, config: Config, path: Path | None, cleanup: contextlib.ExitStack
    ) -> None:
        """Take the locks and open everything; `cleanup` closes it in reverse order."""
        self._config = config
        self._path = path
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        for address in (config.ipc.socket, config.ipc.admin_socket):
            cleanup.callback(SocketLock(address).close)

        self._core = core = NetCore(time.monotonic)
        self._poller = poller = Poller()
        cleanup.callback(poller.close)
        self._stop = asyncio.Event()
        self._failed = ""
        tun = None
        if config.tun is not None:
            cleanup.callback(DeviceLock(config.tun.name).close)
            tun = TunDevice(
                core,
                config.tun.name,
                config.tun.mtu,
                self._tun_deleted,
                vnet=native.Lane is not None,
            )
            cleanup.callback(tun.close)
            tun.configure(config.tun)
            if native.Lane is None:
                poller.watch(tun.fileno(), tun.on_readable)
        ethernet = []
        for section in config.ethernet:
            cleanup.callback(DeviceLock(section.device).close)
            eth = EthDevice(core, section.device)
            cleanup.callback(eth.close)
            poller.watch(eth.fileno(), eth.on_readable)
            ethernet.append(eth)
        self._ethernet = {eth.name: eth for eth in ethernet}
        self._ifindex: dict[str, int] = {}
        self._tun_addresses = tun.kernel_addresses(config.tun) if tun and config.tun else {}
        rtnetlink = Rtnetlink()
        cleanup.callback(rtnetlink.close)
        self._links = Links(rtnetlink.route_oif, rtnetlink.route_by)
        self._host_udp = HostUdp(core, poller.watch, self._links)

        self._stack = stack = mhost_init(
            config,
            core,
            tun=tun,
            ethernet=tuple(ethernet),
            host_udp=self._host_udp,
            realtime_ns=time.time_ns,
            port_limit=port_limit,
            identity=self._identity(),
        )
        self._rtnetlink = rtnetlink
        if stack.overlay is not None:
            self._join(stack.overlay)
            cleanup.callback(stack.udp.udpmhost_put_port, stack.overlay.sk)
            cleanup.callback(core.flush)  # what goes over the TUN and Ethernet
            cleanup.callback(stack.overlay.hosts.close)

        self._fast = self._fast_lane(tun, cleanup)
        self._hosts = read_hosts(stack.table, config)
        monitor = Monitor(self._network_changed)
        cleanup.callback(monitor.close)
        poller.watch(monitor.fileno(), monitor.on_readable)
        names = NameService(poller.soon)
        self._resolver = Resolver(stack.table, config.resolver, core, names.ask, poller.soon)
        show = Show(
            core,
            stack.table,
            stack.af_mhost.socks,
            time.monotonic,
            self._warnings,
            poller.soon,
            rtnetlink.addresses,
            self._fast.sync if self._fast else lambda: None,
            ShowPaths(stack.overlay, stack.table) if stack.overlay else None,
        )
        lane_socket = f"{config.ipc.socket.removeprefix('ipc://')}.lane" if self._fast else ""
        pumps = Pumps(self._fast, poller.watch) if self._fast else None
        self._calls = calls = Calls(
            stack.af_mhost,
            stack.table,
            time.monotonic,
            self._resolver.resolve,
            show,
            Admin(stack.table, stack.l3_set, stack.overlay),
            config.ipc.admin_socket,
            self._fast,
            pumps,
            lane_socket,
        )
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        cleanup.callback(context.destroy, 0)
        ipc = config.ipc
        app = Door(
            context, ipc.socket, calls.ops, poller.soon, open_pidfd=open_pidfd, group=ipc.group
        )
        cleanup.callback(app.close)
        admin = Door(
            context, ipc.admin_socket, calls.ops, poller.soon, open_pidfd=open_pidfd, admin=True
        )
        cleanup.callback(admin.close)
        if stack.overlay is not None:
            events = Events(context, f"{ipc.socket}.events", ipc.group)
            cleanup.callback(events.close)
            stack.overlay.sink = events.send
            cleanup.callback(setattr, stack.overlay, "sink", lambda _event: None)
        self._doors = (app, admin)
        send = calls.send = lambda client, event: (admin if client.admin else app).send(
            client, event
        )
        for door in self._doors:
            for fd, callback in door.filenos():
                poller.watch(fd, callback)
        if self._fast is not None and pumps is not None:
            pumps.send = send
            self._fast.records, self._fast.gone = calls.ring, calls.gone
            self._fast.hand_over = calls.flush
            socks = stack.af_mhost.socks
            admit = lambda path: chgrp(path, ipc.group) if ipc.group else None  # noqa: E731
            handover = Handover(lane_socket, self._fast, pumps, socks, poller.watch, admit)
            cleanup.callback(handover.close)
        self._retrying = False
        self._timer_s: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        poller.flush = self._flush

    def _open_directory(self, loop: asyncio.AbstractEventLoop) -> Directory:
        """Say where we are, and hear where our peers are."""
        overlay = self._stack.overlay
        if overlay is None:
            return NoDirectory(loop.call_soon)
        directory = open_directory(self._config, self._state(), loop, self._poller.soon)
        lease_s = self._config.directory.lease_s
        self._whereabouts = Whereabouts(overlay, self._stack.table, directory, lease_s)
        return directory

    def _state(self) -> Path:
        """The directory of what is to outlive the daemon."""
        said = self._config.host.state or os.environ.get("STATE_DIRECTORY")
        return Path(said or DEFAULT_STATE)

    def _identity(self) -> Identity | None:
        """Who we are; None if that cannot be kept, or is not wanted."""
        if not self._config.host.enable:
            return None
        try:
            return load_identity(self._state())
        except ValueError as err:
            raise MhostError(errno.EINVAL, f"host key: {err}") from None
        except OSError as err:
            log.warning("no associations: the key of this host cannot be kept: %s", err)
            return None

    def _join(self, overlay: Overlay) -> None:
        """Give the associations their port and our addresses."""
        try:
            overlay.bind()
        except MhostError as err:
            log.warning("no associations: %s", err.strerror)
        overlay.device_mtu = self._links.mtu
        overlay.kernel_routes = lambda ifindex, locator: self._links.routed(
            locator.family, locator.address, ifindex
        )
        overlay.set_kernel(self._uplinks())

    def _uplinks(self) -> list[Uplink]:
        """The addresses of interfaces with a link, other than `lo` and the TUN."""
        tun = self._config.tun.name if self._config.tun else ""
        found = []
        for each in self._rtnetlink.ifaddresses():
            link = self._links.get(each.ifindex)
            if link is None or not link.up or link.name in ("lo", tun) or each.tentative:
                continue
            l3 = "host_inet" if each.family == socket.AF_INET else "host_inet6"
            scope_id = each.ifindex if each.address[:2] == b"\xfe\x80" else 0
            locator = Locator(each.family, each.address, scope_id)
            found.append(Uplink(l3, locator, each.ifindex, link.name))
        return found

    def _fast_lane(
        self, tun: TunDevice | None, cleanup: contextlib.ExitStack
    ) -> FastLane | None:
        """The native thread, started, and what the walk has of it; None without C."""
        if native.Lane is None:
            return None
        device = (tun.fileno(), tun.vnet, tun.uso) if tun else ()
        lane = native.Lane(*device)
        cleanup.callback(lane.stop)
        stack, lo = self._stack, self._core.devices["lo"]
        fast = FastLane(lane, self._core, stack.table, stack.udp, tun, lo)
        fast.deleted = self._tun_deleted
        host_udp = self._host_udp
        host_udp.lane_add, host_udp.lane_del = fast.host_add, fast.host_del
        fast.host_received, fast.host_error = host_udp.received, host_udp.lane_error
        fast.host_settle = host_udp.settle
        if stack.overlay is not None:
            fast.peers = FastPeers(lane, self._core, stack.table, stack.udp, stack.overlay)
            fast.peers.host_error = host_udp.lane_error
            host_udp.settle(stack.overlay.sk)
        self._poller.watch(lane.fileno(), fast.on_readable)
        lane.start()
        return fast

    async def serve(self) -> None:
        """Serve until a signal says stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        self._poller.arm = lambda: loop.call_soon(self._poller.wake)
        self._poller.arm()
        loop.add_reader(self._poller.fileno(), self._poller.wake)
        directory = self._open_directory(loop)
        log.info("%s", "; ".join(self._summary()))
        sd_notify("READY=1")
        try:
            await self._stop.wait()
        finally:
            sd_notify("STOPPING=1")
            log.info("stopping")
            await close_directory(directory)
            loop.remove_reader(self._poller.fileno())
        if self._failed:
            raise MhostError(errno.ENODEV, self._failed)

    def _flush(self) -> None:
        """The end of a wake: devices first, as `lo` may bring something for the sockets."""
        self._core.run_timers()
        self._core.flush()
        self._calls.flush()
        if self._fast is not None:
            self._fast.settle()
        self._calls.settle()
        for door in self._doors:
            door.settle()
        if self._calls.waiting and not self._retrying:
            self._retrying = True
            asyncio.get_running_loop().call_later(BACKLOG_RETRY_S, self._retry)

        when_s = self._core.next_timer_s
        if when_s is not None and when_s != self._timer_s:
            self._timer_s = when_s
            # uvloop rounds to milliseconds: one that came early would find nothing due.
            delay_s = math.ceil(1000 * max(0.0, when_s - time.monotonic())) / 1000
            if self._timer is not None:
                self._timer.cancel()
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = self._timer_s = None
        self._poller.wake()

    def _retry(self) -> None:
        self._retrying = False
        self._poller.wake()

    def _network_changed(self, changes: list[Change]) -> None:
        """Links, addresses and routes of the host, as bind and translation see them."""
        resized = False
        for change in changes:
            if isinstance(change, Link):
                before = self._links.get(change.ifindex)
                resized |= before is not None and before.mtu != change.mtu
                self._links.link_changed(change)
                self._link_event(change)
        self._links.routes_changed()
        self._stack.table.changed()
        if self._stack.overlay is not None:
            self._stack.overlay.set_kernel(self._uplinks())
            if any(isinstance(change, Route) for change in changes):
                self._stack.overlay.routes_changed()
            if resized:
                self._stack.overlay.resized()
        if any(not isinstance(change, Route) or change.local for change in changes):
            self._host_udp.addresses_changed()
        faults = self._stack.table.faults
        if any(isinstance(change, Link) and change.up for change in changes):
            faults.link_up()
        routes = [c for c in changes if isinstance(c, Route) and c.mends]
        faults.routes_mended([(r.family, r.prefix, r.bits) for r in routes])
        addresses = [c for c in changes if isinstance(c, IfAddress)]
        added = [c.address for c in addresses if not c.gone]
        added += [r.prefix for r in routes if r.local]
        for address in dict.fromkeys(added):
            for sk, err in self._stack.af_mhost.mhost_address_added(address):
                log.warning("new address: not under socket %d: %s", sk.number, err.strerror)
        for change in addresses:
            if change.gone and change.address in self._tun_addresses:
                log.warning("%s", lost_address(*self._tun_addresses[change.address]))

    def _link_event(self, link: Link) -> None:
        dev = self._core.devices.get(link.name)
        if dev is None or dev.kind == "loopback":
            return
        before = self._ifindex.setdefault(link.name, link.ifindex)
        if link.ifindex != before and link.name in self._ethernet:
            self._ifindex[link.name] = link.ifindex
            self._ethernet[link.name].rebind()
            log.info("device %s is another one now; listening on it", link.name)
        if dev.up != link.up:
            dev.up = link.up
            self._stack.table.changed()
            log.info("device %s is %s", link.name, "up" if link.up else "down")

    def _tun_deleted(self) -> None:
        """Nothing brings it back but another start; sockets live on over that."""
        assert self._config.tun is not None
        self._failed = f"device {self._config.tun.name} was deleted; start mhostd again"
        self._stop.set()

    def _reload(self) -> None:
        """SIGHUP: check the whole file first, then take over names, resolver and log level."""
        try:
            new = read_config(self._path)
            hosts = read_hosts(check_config(new).table, new)
        except (ConfigError, OSError) as err:
            log.error("reload: %s; nothing was changed", err)
            return
        bind_hosts(self._stack, hosts, self._hosts)
        self._hosts = hosts
        self._resolver.reload(new.resolver)
        log.setLevel(new.log.level.upper())
        rest = [
            key
            for key in ("ipc", "tun", "ethernet", "l3", "host")
            if getattr(new, key) != getattr(self._config, key)
        ]
        self._config = new
        note = f"; restart for changes of {', '.join(rest)}" if rest else ""
        log.info("reload: %d hosts%s", len(new.hosts), note)

    def _warnings(self) -> list[str]:
        """What keeps the TUN's locators from being reached; run in a thread."""
        if self._config.tun is None:
            return []
        table = self._stack.table
        destinations = []
        for host in list(table.hosts.values()):
            for family, address, _scope in list(host.bound):
                proto = table.mhost_route(family, address)
                behind = proto is not None and proto.device == self._config.tun.name
                if proto and behind and family in (2, 10) and address not in proto.addresses():
                    destinations.append((family, proto.ntop(address)))
        return [
            *address_warnings(self._tun_addresses),
            *route_warnings(self._config.tun.name, destinations),
        ]

    def _summary(self) -> Iterator[str]:
        yield f"mhostd {__version__} on {self._config.ipc.socket}"
        for proto in self._stack.table.protos.values():
            ours = ", ".join(proto.ntop(address) for address in proto.addresses())
            yield f"{proto.name} {ours} on {proto.device}" if ours else proto.name


async def close_directory(directory: Directory) -> None:
    """Take back what we said there; whoever cannot be told is not waited for."""
    closed = asyncio.get_running_loop().create_future()

    def done() -> None:
        if not closed.done():
            closed.set_result(None)

    directory.close(done)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(closed, DIRECTORY_CLOSE_S)


def sd_notify(state: str) -> None:
    """Tell systemd, where it is there (sd_notify(3)): "READY=1"."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.connect("\0" + path[1:] if path[0] == "@" else path)
        s.send(state.encode())
