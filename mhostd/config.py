"""mhostd.toml -> frozen Config. Units are in the names; unknown keys are refused."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal, NamedTuple

import msgspec

from mhostd.uapi import DEFAULT_ADMIN_SOCKET, DEFAULT_SOCKET

SUN_PATH_MAX = 107  # octets of path, unix(7)
BESIDE = ".events"  # the longest of what stands behind a path for a socket beside it
IFNAMSIZ = 16  # octets, linux/if.h, the terminating zero included
LEASE_MAX_S = 3600


class ConfigError(ValueError):
    """The configuration is refused; the text has the path of the key and why."""


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table of the file; a misspelt key is an error with its path."""


IfName = Annotated[
    str, msgspec.Meta(min_length=1, max_length=IFNAMSIZ - 1, pattern=r"^[^/\s]+$")
]


class Ipc(_Section, frozen=True):
    """Where applications and mhostctl find the daemon."""

    socket: str = DEFAULT_SOCKET
    admin_socket: str = DEFAULT_ADMIN_SOCKET
    group: str = "mhost"


class TunInet(_Section, frozen=True):
    """One IP family on the TUN.

    Attributes:
        address: ours, with the length of the on-link prefix: "10.77.1.1/24".
        host_address: the kernel's end, in the same prefix.
        prefixes: destinations that mhostd reaches over the TUN instead of the host
            kernel's UDP; the on-link prefix is always one of them.
    """

    address: str
    host_address: str
    prefixes: list[str] = []


class Tun(_Section, frozen=True):
    """The TUN device; without an `inet` or `inet6` it carries plug-ins only."""

    enable: bool = True
    name: IfName = "mhost0"
    mtu: Annotated[int, msgspec.Meta(ge=1280, le=65535)] = 1500
    inet: TunInet | None = None
    inet6: TunInet | None = None
    routes: list[str] = []


class Ethernet(_Section, frozen=True):
    """An Ethernet device for plug-ins; neighbours: `proto:address` -> MAC."""

    device: IfName
    neighbours: dict[str, str] = {}


class L3(_Section, frozen=True):
    """A plug-in L3 protocol: our address on it, and the device it uses."""

    address: str
    device: IfName | None = None


class Resolver(_Section, frozen=True):
    """What is asked about names that nobody bound."""

    system: bool = True
    ttl_s: Annotated[float, msgspec.Meta(ge=1, le=86400)] = 30.0
    negative_ttl_s: Annotated[float, msgspec.Meta(ge=0.1, le=3600)] = 5.0


class Host(_Section, frozen=True):
    """Who we are to other hosts with mhostd (docs/mobility.md).

    Attributes:
        enable: have an identity and associations at all.
        state: directory of the key and of what is to outlive the daemon; by default
            systemd's $STATE_DIRECTORY, or /var/lib/mhostd.
        policy: what datagrams to associated hosts do, unless a host or socket says else.
        accept: whether hosts that nobody here has named may call: "any" or "known".
    """

    enable: bool = True
    state: str = ""
    policy: Literal["failover", "duplicate"] = "failover"
    accept: Literal["any", "known"] = "any"


class HostEntry(_Section, frozen=True):
    """A host with mhostd: its public key, and where it may be.

    Attributes:
        key: as `mhostctl key` prints it there.
        locators: hints; it tells where it really is once it was reached.
        policy: instead of that of [host].
    """

    key: str
    locators: list[str] = []
    policy: Literal["failover", "duplicate", ""] = ""


class Directory(_Section, frozen=True):
    """Where hosts publish where they are; all but `path` and `lease_s` is etcd's.

    Attributes:
        backend: "none" asks and tells nobody.
        path: folder of the file backend; empty: `directory` in the state directory.
        endpoints: URLs of the members of the cluster.
        prefix: of keys.
        ca: certificates that the members' are checked against; empty: the system's.
        cert: ours, with its `key`.
        key: see there.
        user: whose password `password_file` holds.
        password_file: see there.
        lease_s: how long a host is believed that says nothing more.
    """

    backend: Literal["file", "etcd", "none"] = "file"
    path: str = ""
    endpoints: Annotated[list[str], msgspec.Meta(max_length=16)] = []
    prefix: Annotated[str, msgspec.Meta(max_length=256, pattern=r"^[!-}]+\Z")] = "mhost/"
    ca: str = ""
    cert: str = ""
    key: str = ""
    user: str = ""
    password_file: str = ""
    lease_s: Annotated[float, msgspec.Meta(ge=2, le=LEASE_MAX_S)] = 30.0


class Log(_Section, frozen=True):
    """Python logging; nothing per packet above debug."""

    level: Literal["debug", "info", "warning", "error"] = "info"


class Config(_Section, frozen=True):
    """The whole file; `tun` is None where it is not enabled."""

    ipc: Ipc = Ipc()
    tun: Tun | None = Tun()
    ethernet: list[Ethernet] = []
    l3: dict[str, L3] = {}
    host: Host = Host()
    hosts: dict[str, list[str] | HostEntry] = {}
    resolver: Resolver = Resolver()
    directory: Directory = Directory()
    log: Log = Log()


class TunAddress(NamedTuple):
    """A TunInet, read.

    Attributes:
        address: ours, octets.
        host_address: the kernel's, text.
        prefixlen: of the on-link prefix.
        prefixes: (address octets, bits) that go over the TUN, on-link one first.
    """

    address: bytes
    host_address: str
    prefixlen: int
    prefixes: tuple[tuple[bytes, int], ...]


def parse_config(text: str | bytes) -> Config:
    """Read and check a configuration in UTF-8.

    Raises:
        ConfigError: with the path of the key and the reason, or line and column.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode()
        config = msgspec.toml.decode(text, type=Config)
    except UnicodeDecodeError as err:
        raise ConfigError(f"octet {err.start} is not UTF-8") from None
    except msgspec.ValidationError as err:
        raise ConfigError(_path_first(str(err))) from None
    except msgspec.DecodeError as err:
        raise ConfigError(str(err)) from None
    if config.tun is not None and not config.tun.enable:
        config = msgspec.structs.replace(config, tun=None)
    _check(config)
    return config


def tun_address(inet: TunInet, version: int) -> TunAddress:
    """Read the addresses of one family; ConfigError names the key."""
    where = "tun.inet" if version == 4 else "tun.inet6"
    own = _interface(f"{where}.address", inet.address, version)
    kernel = _interface(f"{where}.host_address", inet.host_address, version)
    if own.ip == kernel.ip:
        raise ConfigError(
            f"{where}.host_address: {kernel.ip} is `address` too; a packet to an address "
            "of the kernel never reaches the TUN, so the two must differ"
        )
    if kernel.ip not in own.network:
        raise ConfigError(f"{where}.host_address: {kernel.ip} is not in {own.network}")
    networks = [own.network]
    for i, prefix in enumerate(inet.prefixes):
        network = _network(f"{where}.prefixes[{i}]", prefix, version)
        if network.prefixlen == 0:
            raise ConfigError(
                f"{where}.prefixes[{i}]: {network} is the host kernel's; name longer "
                "prefixes, such as its two halves"
            )
        if network not in networks:
            networks.append(network)
    return TunAddress(
        own.ip.packed,
        str(kernel.ip),
        own.network.prefixlen,
        tuple((n.network_address.packed, n.prefixlen) for n in networks),
    )


def _check(config: Config) -> None:
    """What types alone do not say."""
    for key in ("socket", "admin_socket"):
        value = getattr(config.ipc, key)
        if not value.startswith("ipc:///"):
            raise ConfigError(f"ipc.{key}: {value!r} is no `ipc:///path`")
        length = len(value.removeprefix("ipc://").encode())
        most = SUN_PATH_MAX - len(BESIDE)
        if length > most:
            raise ConfigError(f"ipc.{key}: path of {length} octets exceeds {most}")
    if config.ipc.socket == config.ipc.admin_socket:
        raise ConfigError("ipc.admin_socket: it is ipc.socket too; name another path")
    devices = {"lo"}
    if config.tun:
        if config.tun.name in devices:
            raise ConfigError(f"tun.name: {config.tun.name} is the loopback device's")
        devices.add(config.tun.name)
        if config.tun.inet:
            tun_address(config.tun.inet, 4)
        if config.tun.inet6:
            tun_address(config.tun.inet6, 6)
        for i, route in enumerate(config.tun.routes):
            _network(f"tun.routes[{i}]", route)
    for i, eth in enumerate(config.ethernet):
        if eth.device in devices:
            raise ConfigError(f"ethernet[{i}].device: {eth.device} is named twice")
        devices.add(eth.device)
        for key, mac in eth.neighbours.items():
            if not re.fullmatch(r"([0-9a-fA-F]{2}:){5}[0-9a-fA-F]{2}", mac):
                raise ConfigError(
                    f"ethernet[{i}].neighbours.{key}: {mac!r} is no MAC address; "
                    "want 02:00:00:00:00:01"
                )
    for name, l3 in config.l3.items():
        if l3.device is not None and l3.device not in devices:
            raise ConfigError(
                f"l3.{name}.device: {l3.device!r} is no configured device; "
                f"have {', '.join(sorted(devices))}"
            )
        if l3.device is None and devices == {"lo"}:
            raise ConfigError(f"l3.{name}.device: there is no device to use; name `lo`")
    _check_directory(config.directory)


def _check_directory(directory: Directory) -> None:
    for key in ("path", "ca", "cert", "key", "password_file"):
        value = getattr(directory, key)
        if value and (not value.startswith("/") or "\0" in value):
            raise ConfigError(f"directory.{key}: {value!r} is no absolute path")
    for i, endpoint in enumerate(directory.endpoints):
        if not re.fullmatch(r"https?://([\w.-]+|\[[0-9a-fA-F:.]+\])(:\d{1,5})?", endpoint):
            raise ConfigError(
                f"directory.endpoints[{i}]: {endpoint!r} is no URL of a member of etcd; "
                "want https://etcd.example:2379"
            )
    if directory.backend == "etcd" and not directory.endpoints:
        raise ConfigError("directory.endpoints: name at least one for backend `etcd`")
    for one, other in (("cert", "key"), ("user", "password_file")):
        if bool(getattr(directory, one)) != bool(getattr(directory, other)):
            raise ConfigError(f"directory.{one}: it needs directory.{other}, and the reverse")
    plain = [text for text in directory.endpoints if text.startswith("http:")]
    if plain and (directory.ca or directory.cert):
        raise ConfigError(f"directory.endpoints: {plain[0]} has no use for ca and cert")


def _interface(
    where: str, text: str, version: int
) -> ipaddress.IPv4Interface | ipaddress.IPv6Interface:
    try:
        kind = ipaddress.IPv4Interface if version == 4 else ipaddress.IPv6Interface
        return kind(text)
    except ValueError as err:
        raise ConfigError(f"{where}: {err}") from None


def _network(
    where: str, text: str, version: int = 0
) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        network = ipaddress.ip_network(text)
    except ValueError as err:
        raise ConfigError(f"{where}: {err}") from None
    if version and network.version != version:
        raise ConfigError(f"{where}: {text} is no IPv{version} prefix")
    return network


def _path_first(message: str) -> str:
    """`what - at `$.a.b`` of msgspec as `a.b: what`."""
    what, _, path = message.partition(" - at ")
    path = path.strip("`").removeprefix("$").removeprefix(".")
    return f"{path}: {what}" if path else what
