"""The mhost table: which L3 protocols there are, and where each host is.

An *identifier* names a host; a *locator* is an L3 address at which it can be
reached (RFC 6740 section 2); a *binding* is an identifier's list of locators. A
*handle* is the number by which the applications of this daemon name a host; it
never goes on the wire.
"""

from __future__ import annotations

import errno
import itertools
import re
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field

from mhostd.errors import HostUnresolvedError, MhostError
from mhostd.faults import Faults
from mhostd.silence import Silence
from mhostd.sock import Heard, Locator
from mhostd.structs import MhostProto
from mhostd.uapi import ADDRESS_MAX, AF_INET6, AF_MHOST, AF_UNSPEC, HOST_NAME_MAX, SockaddrMhost

_ZONE = re.compile(r"[0-9]{1,9}")
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")


@dataclass(slots=True)
class Host:
    """One host.

    Attributes:
        handle: its number, unchanged for as long as anybody knows the name.
        name: lower case.
        bound: locators from configuration or `mhostctl hosts add`, as ordered there.
        resolved: locators from the resolver, as RFC 6724 orders them; None if it
            was not asked yet. They count only while nobody bound the name.
        expires_s: when the resolver asks again, seconds of a monotonic clock.
        stale_s: until when its answer counts while nobody can give another.
        holders: how many clients hold the handle.
    """

    handle: int
    name: str
    bound: list[Locator] = field(default_factory=list)
    resolved: list[Locator] | None = None
    expires_s: float = 0.0
    stale_s: float = 0.0
    holders: int = 0

    @property
    def locators(self) -> list[Locator]:
        """Those that count now."""
        return self.bound or self.resolved or []


class MhostTable:
    """Registered protocols and known hosts.

    Attributes:
        protos: by number.
        ifindex: index of an interface by name, 0 if there is none.
        changes: goes up when translation may say something else than before.
    """

    def __init__(self, ifindex: Callable[[str], int] = lambda _name: 0) -> None:
        """Begin empty; `ifindex` gives the index of an interface, or 0."""
        self.ifindex = ifindex
        self.changes = 0
        self.protos: dict[int, MhostProto] = {}  # by number
        self._by_name: dict[str, int] = {}
        self._by_family: dict[int, list[MhostProto]] = {}
        self.hosts: dict[str, Host] = {}
        self.faults = Faults(self.changed)
        self.silence = Silence()
        self._numbers = itertools.count(1)
        self._handles = itertools.count(1)
        self._by_handle: dict[int, Host] = {}
        self._owners: dict[Locator, list[Host]] = {}
        self._routes: dict[int, list[tuple[int, int, MhostProto]]] = {}

    def changed(self) -> None:
        """Translation may say something else from now on."""
        self.changes += 1

    # --- protocols

    def mhost_register_proto(
        self, proto: MhostProto, prefixes: Iterable[tuple[bytes, int]] = ((b"", 0),)
    ) -> int:
        """Add a protocol and the prefixes (address, bits) of its family it serves.

        Returns:
            Its number, which is never used again.

        Raises:
            MhostError: EEXIST if the name, or one of the prefixes, is taken.
        """
        routes = self._routes.setdefault(proto.family, [])
        wanted = [(bits, _prefix(a, bits, proto.addr_len)) for a, bits in prefixes]
        if proto.name in self._by_name:
            raise MhostError(
                errno.EEXIST,
                f"mhost_register_proto: {proto.name} is registered already; "
                "unregister that one first",
            )
        for bits, value, taken in routes:
            if (bits, value) in wanted:
                raise MhostError(
                    errno.EEXIST,
                    f"mhost_register_proto: a /{bits} of family {proto.family} that "
                    f"{proto.name} wants is {taken.name}'s; unregister that one first",
                )
        proto.init()
        self.changed()
        number = next(self._numbers)
        self.protos[number] = proto
        self._by_name[proto.name] = number
        self._by_family.setdefault(proto.family, []).append(proto)
        routes.extend((bits, value, proto) for bits, value in wanted)
        routes.sort(key=lambda route: -route[0])  # longest match first
        return number

    def mhost_unregister_proto(self, name: str) -> MhostProto:
        """Remove a protocol and its routes, and return it.

        Raises:
            MhostError: ENOENT if there is none of that name.
        """
        number = self.proto_number(name)
        self.changed()
        proto = self.protos.pop(number)
        del self._by_name[name]
        self._by_family[proto.family].remove(proto)
        routes = self._routes[proto.family]
        routes[:] = [route for route in routes if route[2] is not proto]
        proto.exit()
        return proto

    def proto_number(self, name: str) -> int:
        """Return the number of a registered protocol; ENOENT if there is none."""
        number = self._by_name.get(name)
        if number is None:
            raise MhostError(errno.ENOENT, f"no L3 handler {name}; {self._known()}")
        return number

    def proto_named(self, name: str) -> MhostProto | None:
        """Return a registered protocol by name."""
        return self.protos.get(self._by_name.get(name, 0))

    def mhost_protos_for_family(self, family: int) -> Sequence[MhostProto]:
        """Return the protocols of a family, in the order of registration."""
        return self._by_family.get(family, ())

    def mhost_route(self, family: int, address: bytes) -> MhostProto | None:
        """Return the protocol with the longest prefix that holds the address."""
        value, bits = int.from_bytes(address, "big"), 8 * len(address)
        for plen, prefix, proto in self._routes.get(family, ()):
            if plen <= bits and value >> (bits - plen) == prefix:
                return proto
        return None

    def routes(self) -> list[tuple[MhostProto, bytes, int]]:
        """All of them as (protocol, prefix, bits), in the order of look-up."""
        return [
            (proto, _unprefix(value, bits, proto.addr_len), bits)
            for routes in self._routes.values()
            for bits, value, proto in routes
        ]

    # --- hosts

    def insert_sockaddr_id(self, name: str, locators: Sequence[Locator]) -> Host:
        """Bind a name to locators; new ones go behind those it has.

        Raises:
            MhostError: EINVAL if the name could not be a host name, or a locator has
                no address.
        """
        if not all(locator.address for locator in locators):
            raise MhostError(errno.EINVAL, f"host {name}: `*` is no locator")
        host = self._host(name)
        self.changed()
        for locator in locators:
            if locator not in host.bound:
                host.bound.append(locator)
                self._owners.setdefault(locator, []).append(host)
        return host

    def remove_sockaddr_id(self, name: str, locators: Sequence[Locator] = ()) -> None:
        """Unbind a name, or only these locators of it.

        Raises:
            MhostError: ENOENT if the name is not bound, or not to one of them.
        """
        host = self.hosts.get(host_key(name))
        if host is None or not host.bound:
            raise MhostError(
                errno.ENOENT, f"host {name} is not bound; `mhostctl hosts` lists those that are"
            )
        for locator in locators:
            if locator not in host.bound:
                text = self.mhost_ntop(SockaddrMhost(*locator[:1], 0, locator.address))
                raise MhostError(errno.ENOENT, f"host {name} has no locator {text}")
        self.changed()
        for locator in list(dict.fromkeys(locators or host.bound)):
            host.bound.remove(locator)
            self._owners[locator].remove(host)
            if not self._owners[locator]:
                del self._owners[locator]
        self._forget(host)

    def mhost_hold(self, name: str) -> Host:
        """Return the host of a name, made if need be, and hold its handle."""
        host = self._host(name)
        host.holders += 1
        return host

    def mhost_put(self, handle: int) -> None:
        """Let a handle go; a host that is neither bound nor held is forgotten."""
        host = self._by_handle[handle]
        host.holders -= 1
        self._forget(host)

    def mhost_host(self, handle: int) -> Host:
        """Return the host of a handle.

        Raises:
            MhostError: EHOSTUNREACH if there is none.
        """
        try:
            return self._by_handle[handle]
        except KeyError:
            raise MhostError(
                errno.EHOSTUNREACH,
                f"handle {handle} names no host; look the name up again",
            ) from None

    def mhost_known_host(self, handle: int) -> Host:
        """Return the host of a handle whose locators are known, be there none.

        Raises:
            HostUnresolvedError: nobody bound it, and the resolver was not asked yet.
        """
        host = self.mhost_host(handle)
        if not host.bound and host.resolved is None:
            raise HostUnresolvedError(*_unreachable(host.name), host.name)
        return host

    def mhost_owner(self, locator: Locator) -> Host | None:
        """Return the bound host that has a locator: translation the other way."""
        owners = self._owners.get(locator)
        return owners[0] if owners else None

    def _host(self, name: str) -> Host:
        key = host_key(name)
        host = self.hosts.get(key)
        if host is None:
            if len(name) > HOST_NAME_MAX or not _NAME.fullmatch(name):
                raise MhostError(
                    errno.EINVAL,
                    f"{name!r} is no host name: letters, digits, '-', '_' and '.', "
                    f"at most {HOST_NAME_MAX}; addresses are `proto:address`",
                )
            host = Host(next(self._handles), key)
            self.hosts[key] = self._by_handle[host.handle] = host
        return host

    def _forget(self, host: Host) -> None:
        if not host.bound and not host.holders:
            del self.hosts[host.name], self._by_handle[host.handle]

    # --- translation

    def mhost_translate_sa(
        self,
        sa: SockaddrMhost,
        now: float,
        usable: Callable[[MhostProto], bool] = lambda _proto: True,
        heard: Heard | None = None,
        tried: Collection[Locator] = (),
    ) -> tuple[MhostProto, SockaddrMhost]:
        """Find the protocol and the locator for a destination; changes nothing.

        Args:
            sa: a locator of any registered family, or an AF_MHOST handle.
            now: seconds of a monotonic clock; a locator that gave an error is
                passed over until its time has come. If all of them did, the one
                whose time comes first is used.
            usable: says of each protocol whether the socket can send over it; one that
                is bound where the route does not lead sends from there.
            heard: where the destination called us from, if it did: an answer goes
                back there and over the same L3, unless that gave an error.
            tried: locators that have just refused this datagram; they come last.

        Returns:
            The protocol that will send it, and the locator with the port of `sa`.

        Raises:
            MhostError: EAFNOSUPPORT if the family is AF_UNSPEC or unknown, EINVAL
                if the address is too short for it, EHOSTUNREACH if the host has no
                locator (HostUnresolvedError if a resolver may know one), ENETUNREACH
                if the socket is bound where none of them can be reached.
        """
        if sa.family != AF_MHOST:
            proto, locator = self._explicit(sa, heard)
            if not usable(proto):
                # A socket sends from where it is bound, as in Linux, whatever the route.
                for other in self.mhost_protos_for_family(sa.family):
                    if usable(other):
                        return other, locator
                raise MhostError(
                    errno.ENETUNREACH,
                    f"sendto: {self.mhost_ntop(sa)} goes over {proto.name}, where this "
                    "socket is not bound; bind to '*' to send over every L3",
                )
            return proto, locator
        host = self.mhost_known_host(sa.id_no)
        routed = [(self._way(loc, heard), loc) for loc in host.locators]
        reachable = [(proto, loc) for proto, loc in routed if proto]
        if not reachable:
            raise MhostError(*_unreachable(host.name))
        candidates = [(proto, loc) for proto, loc in reachable if usable(proto)]
        if not candidates:
            names = ", ".join(dict.fromkeys(proto.name for proto, _ in reachable))
            raise MhostError(
                errno.ENETUNREACH,
                f"sendto: host {host.name} is reached over {names}, where this socket "
                "is not bound; bind to '*' to send over every L3",
            )
        first = heard.locator if heard else None

        def rank(candidate: tuple[MhostProto, Locator]) -> tuple[bool, float, bool]:
            loc = candidate[1]
            return loc in tried, self.faults.not_before(loc, sa.port, now), loc != first

        proto, loc = min(candidates, key=rank)
        return proto, SockaddrMhost(loc.family, sa.port, loc.address, 0, loc.scope_id)

    def _way(self, locator: Locator, heard: Heard | None) -> MhostProto | None:
        if heard is not None and heard.locator == locator and heard.l3 in self.protos:
            return self.protos[heard.l3]
        return self.mhost_route(locator.family, locator.address)

    def _explicit(
        self, sa: SockaddrMhost, heard: Heard | None
    ) -> tuple[MhostProto, SockaddrMhost]:
        protos = self.mhost_protos_for_family(sa.family)
        if not protos:
            unspec = "AF_UNSPEC names no destination" if sa.family == AF_UNSPEC else ""
            raise MhostError(
                errno.EAFNOSUPPORT,
                unspec or f"no L3 handler for family {sa.family}; {self._known()}",
            )
        length = protos[0].addr_len
        if len(sa.address) < length:
            raise MhostError(
                errno.EINVAL,
                f"address of {len(sa.address)} octets; family {sa.family} "
                f"({protos[0].name}) has {length}",
            )
        locator = sa
        if len(sa.address) > length:
            locator = sa._replace(address=sa.address[:length])
        proto = self._way(Locator(sa.family, locator.address, sa.scope_id), heard)
        if proto is None:
            raise MhostError(
                errno.ENETUNREACH,
                f"no L3 handler for {self.mhost_ntop(locator)}; `mhostctl routes` shows "
                "which prefixes have one",
            )
        return proto, locator

    # --- text

    def mhost_pton(self, text: str) -> Locator:
        """Read `proto:address`, or an IPv4 or IPv6 literal.

        A zone (RFC 4007 section 11) is an interface's index or name: "fe80::1%3".

        Raises:
            MhostError: EAFNOSUPPORT if no handler has that name, EINVAL if the
                address is none of its addresses.
        """
        plain, _percent, zone = text.partition("%")
        scope_id = int(zone) if _ZONE.fullmatch(zone) else self.ifindex(zone) if zone else 0
        for proto in self.protos.values():
            if proto.addr_len in (4, 16) and proto.family in (2, AF_INET6):
                try:
                    if scope_id and proto.family == AF_INET6:
                        return Locator(proto.family, proto.pton(plain), scope_id)
                    return Locator(proto.family, proto.pton(text))
                except ValueError:
                    continue
        name, colon, address = text.partition(":")
        named = self.proto_named(name)
        if named is None:
            raise MhostError(
                errno.EAFNOSUPPORT,
                f"{text!r}: {f'no L3 handler {name!r}' if colon else 'no address'}; "
                f"{self._known()}; an address is `proto:address`",
            )
        if address == "*":
            return Locator(named.family, b"")
        try:
            return Locator(named.family, named.pton(address))
        except ValueError as err:
            raise MhostError(errno.EINVAL, f"{text!r}: {err}") from None

    def mhost_ntop(self, sa: SockaddrMhost) -> str:
        """Write an address as applications spell it; never raises."""
        if sa.family == AF_MHOST:
            host = self._by_handle.get(sa.id_no)
            return host.name if host else f"handle-{sa.id_no}" if sa.id_no else "*"
        protos = self.mhost_protos_for_family(sa.family)
        if not protos or 0 < len(sa.address) < protos[0].addr_len:
            return f"family-{sa.family}:{sa.address.hex()}"
        proto = protos[0]
        plain = proto.family in (2, AF_INET6)
        if not sa.address:
            text = "*"
        else:
            text = proto.ntop(sa.address[: proto.addr_len])
            if plain:
                return f"{text}%{sa.scope_id}" if sa.scope_id else text
        return f"{proto.name}:{text}"

    def _known(self) -> str:
        return "registered: " + (", ".join(p.name for p in self.protos.values()) or "none")


def host_key(name: str) -> str:
    """The one spelling of a name: lower case, without the dot of the root."""
    return name.lower().removesuffix(".")


def _prefix(address: bytes, bits: int, addr_len: int) -> int:
    """The leading bits of an address, as a number."""
    assert addr_len <= ADDRESS_MAX
    return int.from_bytes(address.ljust(addr_len, b"\0"), "big") >> (8 * addr_len - bits)


def _unprefix(value: int, bits: int, addr_len: int) -> bytes:
    """The other way round, padded with zero bits."""
    return (value << (8 * addr_len - bits)).to_bytes(addr_len, "big")


def _unreachable(name: str) -> tuple[int, str]:
    return (
        errno.EHOSTUNREACH,
        f"host {name} has no usable locator; add one with `mhostctl hosts add {name} LOCATOR`",
    )
