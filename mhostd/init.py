"""mhost_init: the one place where the layers are joined; read it from top to bottom.

Each layer is given the one below it, then tells the one below it whom to call. It
opens nothing: the devices are given, so a whole stack runs inside a test, and
`mhostctl config check` builds one to see whether it could.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from random import Random
from typing import NamedTuple, TypeVar, cast

from mhostd.af_mhost import AfMhost
from mhostd.config import Config, ConfigError, HostEntry, tun_address
from mhostd.dev import NetCore, NetDevice
from mhostd.errors import MhostError
from mhostd.host.identity import Identity, identifier_of, key_pton
from mhostd.host.overlay import PREFIXES, Overlay
from mhostd.host_udp import HostUdp
from mhostd.l3.host_inet import AfHostInet
from mhostd.l3.inet import AfInet
from mhostd.l3.inet6 import AfInet6
from mhostd.l3.wrapper import IPPROTO_UDP, L3Wrapper
from mhostd.lo import Loopback
from mhostd.mhost_table import MhostTable, host_key
from mhostd.sock import Client, Locator, Sock
from mhostd.structs import MhostProto, PacketType
from mhostd.uapi import AF_INET, AF_INET6
from mhostd.udp.udp_mhost import UdpMhost
from mhostd.udp.udp_table import UdpTable

_T = TypeVar("_T")

# A new L3 protocol is its file l3/NAME.py and its line here: NAME, and the class in it
# whose attribute NAME_mhost_proto is the MhostProto to register.
PLUG_INS = {
    "testproto": "AfTestproto",
    "otherproto": "AfOtherproto",
}


@dataclass(frozen=True, slots=True)
class Handler:
    """An L3 handler as the configuration wants it, registered or not."""

    proto: MhostProto
    prefixes: tuple[tuple[bytes, int], ...] = ((b"", 0),)
    ptype: PacketType | None = None


@dataclass(frozen=True, slots=True)
class Stack:
    """One network stack; a process may hold several, and tests do."""

    core: NetCore
    table: MhostTable
    af_mhost: AfMhost
    udp: UdpMhost
    overlay: Overlay | None = None
    handlers: dict[str, Handler] = field(default_factory=dict)

    def l3_register(self, handler: Handler) -> list[tuple[Sock, MhostError]]:
        """Register a handler, also under live sockets.

        Returns:
            The sockets that could not be bound there too, and why.
        """
        self.table.mhost_register_proto(handler.proto, handler.prefixes)
        if handler.ptype is not None:
            try:
                self.core.dev_add_pack(handler.ptype)
            except MhostError:
                self.table.mhost_unregister_proto(handler.proto.name)
                raise
        self.handlers[handler.proto.name] = handler
        if self.overlay is not None:
            self.overlay.look()
        return self.af_mhost.mhost_proto_added(handler.proto)

    def l3_unregister(self, name: str) -> None:
        """Remove a handler; its sockets stay open and go on with the others."""
        proto = self.table.mhost_unregister_proto(name)
        ptype = self.handlers[name].ptype
        if ptype is not None:
            self.core.dev_remove_pack(ptype)
        self.af_mhost.mhost_proto_removed(proto)
        if self.overlay is not None:
            self.overlay.look()

    def l3_set(self, name: str, up: bool) -> list[tuple[Sock, MhostError]]:
        """Register again, or remove, a handler that the configuration has.

        Returns:
            The sockets that could not be bound there too, and why.
        """
        if name not in self.handlers:
            raise MhostError(
                errno.ENOENT,
                f"no L3 handler {name} is configured; there are {', '.join(self.handlers)}",
            )
        if up:
            return self.l3_register(self.handlers[name])
        self.l3_unregister(name)
        return []


def mhost_init(
    config: Config,
    core: NetCore,
    *,
    tun: NetDevice | None = None,
    ethernet: tuple[NetDevice, ...] = (),
    host_udp: HostUdp | None = None,
    rng: Random | None = None,
    realtime_ns: Callable[[], int] = lambda: 0,
    port_limit: Callable[[Client, int], int] = lambda _client, _port: 0,
    identity: Identity | None = None,
    random: Callable[[int], bytes] = os.urandom,
) -> Stack:
    """Build a stack on devices that are open already.

    Args:
        config: checked by parse_config().
        core: empty; the devices have it too.
        tun: the TUN, if the configuration has one.
        ethernet: devices in the order of the configuration.
        host_udp: the host kernel's UDP; without it there is no `host_inet`.
        realtime_ns: nanoseconds since the epoch, for time stamps.
        rng: where ephemeral ports come from; unpredictable unless given.
        port_limit: below what a client may not bind, 0 if it may bind a port.
        identity: who we are to other hosts with mhostd; without it there is no `mhost`.
        random: octets that nobody can guess.

    Raises:
        ConfigError: a plug-in or a host is not what the configuration says.
    """
    table = MhostTable(host_udp.ifindex if host_udp else lambda _name: 0)
    udp = UdpMhost(UdpTable(rng or Random()), table, realtime_ns)
    lo = Loopback(core)
    l3 = L3Wrapper(core, table, lo, udp.udpmhost_prot)
    af_mhost = AfMhost(table, udp.udpmhost_prot, port_limit)
    overlay = None
    if identity is not None:
        strangers = config.host.accept == "any"
        overlay = Overlay(l3, table, udp, identity, random, realtime_ns, strangers)
        overlay.duplicate = config.host.policy == "duplicate"
    stack = Stack(core, table, af_mhost, udp, overlay)

    for dev in (lo, tun, *ethernet):
        if dev is not None:
            core.register_netdevice(dev)
    core.dev_add_pack(l3.mhost_ptype)
    l3.mhost_add_protocol(IPPROTO_UDP, udp.udp_protocol)

    if host_udp is not None:
        for family in (AF_INET, AF_INET6):
            if host_udp.supported(family):
                kernel = AfHostInet(l3, host_udp, family)
                host_udp.queue_rcv[family] = kernel.host_inet_queue_rcv
                stack.l3_register(Handler(kernel.host_inet_mhost_proto))
    if tun is not None and config.tun is not None:
        if config.tun.inet is not None:
            v4 = tun_address(config.tun.inet, 4)
            inet = AfInet(l3, tun, v4.address)
            stack.l3_register(Handler(inet.inet_mhost_proto, v4.prefixes, inet.inet_ptype))
        if config.tun.inet6 is not None:
            v6 = tun_address(config.tun.inet6, 6)
            inet6 = AfInet6(l3, tun, v6.address)
            stack.l3_register(Handler(inet6.inet6_mhost_proto, v6.prefixes, inet6.inet6_ptype))
    for name, plug_in in config.l3.items():
        if name not in PLUG_INS:
            raise ConfigError(f"l3.{name}: no such handler; there are {', '.join(PLUG_INS)}")
        dev = core.devices.get(plug_in.device or _default_device(tun, ethernet))
        if dev is None:
            raise ConfigError(f"l3.{name}.device: there is no device to use; name `lo`")
        try:
            stack.l3_register(Handler(_plug_in(name, l3, dev, plug_in.address)))
        except ValueError as err:
            raise ConfigError(f"l3.{name}.address: {err}") from None

    for i, eth in enumerate(config.ethernet):
        for text, mac in eth.neighbours.items():
            where = f"ethernet[{i}].neighbours.{text}"
            family, address, _scope = _checked(where, table.mhost_pton, text)
            ethernet[i].neighbours[family, address] = bytes.fromhex(mac.replace(":", ""))
    if overlay is not None:
        stack.l3_register(Handler(overlay.mhost_proto, PREFIXES))
    bind_hosts(stack, read_hosts(table, config), {})
    return stack


def check_config(config: Config) -> Stack:
    """Build the stack of a configuration on devices that are none, to see if one can.

    Raises:
        ConfigError: with the path of the key and the reason.
    """
    core = NetCore()
    return mhost_init(
        config,
        core,
        tun=NetDevice(config.tun.name, config.tun.mtu) if config.tun else None,
        ethernet=tuple(NetDevice(eth.device) for eth in config.ethernet),
        host_udp=HostUdp(core, lambda _fd, _callback: None),
    )


class Binding(NamedTuple):
    """What a configuration says of a name.

    Attributes:
        locators: where it is; of a host with an identity its identifier.
        public: 32 octets of its key, empty without one.
        hints: where a host with an identity may be.
        duplicate: what it is sent takes every path.
    """

    locators: list[Locator]
    public: bytes = b""
    hints: tuple[Locator, ...] = ()
    duplicate: bool = False


Bindings = dict[str, Binding]


def read_hosts(table: MhostTable, config: Config) -> Bindings:
    """Read the names of a configuration; nothing is bound yet.

    Raises:
        ConfigError: with the key that is wrong.
    """
    read: Bindings = {}
    for name, entry in config.hosts.items():
        where = f"hosts.{name}"
        table.mhost_put(_checked(where, table.mhost_hold, name).handle)
        if isinstance(entry, HostEntry):
            locators = _locators(f"{where}.locators", table, entry.locators)
            try:
                public = key_pton(entry.key)
            except ValueError as err:
                raise ConfigError(f"{where}.key: {err}") from None
            if not config.host.enable:
                raise ConfigError(
                    f"{where}.key: [host] has enable = false, so no keys are used"
                )
            duplicate = (entry.policy or config.host.policy) == "duplicate"
            itself = [Locator(AF_INET6, identifier_of(public))]
            read[name] = Binding(itself, public, tuple(locators), duplicate)
        else:
            read[name] = Binding(_locators(where, table, entry))
    return read


def _locators(where: str, table: MhostTable, texts: list[str]) -> list[Locator]:
    locators = [
        _checked(f"{where}[{i}]", table.mhost_pton, text) for i, text in enumerate(texts)
    ]
    for i, locator in enumerate(locators):
        if not locator.address:
            raise ConfigError(f"{where}[{i}]: `*` is no locator")
    return locators


def bind_hosts(stack: Stack, wanted: Bindings, instead_of: Bindings) -> None:
    """Bind names to locators instead of those that the last configuration gave.

    What `mhostctl hosts add` gave a name stays, behind what the configuration gives.
    """
    table = stack.table
    locators_of = {name: binding.locators for name, binding in wanted.items()}
    for name, binding in instead_of.items():
        host = table.hosts.get(host_key(name))
        bound = host.bound if host else []
        theirs = [locator for locator in binding.locators if locator in bound]
        added = [locator for locator in bound if locator not in theirs]
        if theirs:
            table.remove_sockaddr_id(name)
            if added:
                locators_of[name] = [*locators_of.get(name, []), *added]
    for name, locators in locators_of.items():
        table.insert_sockaddr_id(name, locators)
    if stack.overlay is not None:
        keys = {binding.public for binding in wanted.values()}
        for binding in instead_of.values():
            if binding.public and binding.public not in keys:
                stack.overlay.unname(binding.public)
        for name, binding in wanted.items():
            if binding.public:
                stack.overlay.name(name, binding.public, binding.hints, binding.duplicate)


def _checked(where: str, read: Callable[[str], _T], text: str) -> _T:
    try:
        return read(text)
    except MhostError as err:
        raise ConfigError(f"{where}: {err.strerror}") from None


def _plug_in(name: str, l3: L3Wrapper, dev: NetDevice, address: str) -> MhostProto:
    """Load a plug-in and give it its device; ValueError if the address is none of its."""
    handler = getattr(import_module(f"mhostd.l3.{name}"), PLUG_INS[name])(l3, dev, address)
    return cast(MhostProto, getattr(handler, f"{name}_mhost_proto"))


def _default_device(tun: NetDevice | None, ethernet: tuple[NetDevice, ...]) -> str:
    """Plug-ins leave the host over Ethernet where there is one."""
    if ethernet:
        return ethernet[0].name
    return tun.name if tun else ""
