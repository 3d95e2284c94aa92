"""The AF_MHOST family: socket, bind, connect, sendmsg, getname, shutdown, sockopts.

Everything here is a function of the tables, the arguments and `now`; receiving needs
none of it, because udp_mhost puts what arrives on the socket's queue.
"""

from __future__ import annotations

import errno
import itertools
from collections.abc import Callable

from mhostd.errors import MhostError
from mhostd.ip_cmsg import ip_cmsg_send
from mhostd.mhost_table import MhostTable
from mhostd.options import (
    IP_RECVERR,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPPROTO_UDP,
    IPV6_RECVERR,
    IPV6_V6ONLY,
    SOCK_DGRAM,
)
from mhostd.silence import SILENT_ERRNO
from mhostd.sock import Client, Heard, Locator, Place, Sock, sock_called
from mhostd.sockopt import SockOpts
from mhostd.structs import ErrorReport, MhostProto, Proto
from mhostd.uapi import (
    AF_INET,
    AF_INET6,
    AF_MHOST,
    AF_UNSPEC,
    MHOST_RECVERR,
    SOL_MHOST,
    UDP_PAYLOAD_MAX,
    SockaddrMhost,
)

_SOCK_MAX, _IPPROTO_MAX = 11, 263  # linux/net.h, linux/in.h
SHUT_RD, SHUT_WR, SHUT_RDWR = 0, 1, 2

SOCKETS_PER_CLIENT_MAX = 16_384
_UDP_HLEN, _L3_HLEN = 8, {AF_INET: 20, AF_INET6: 40}  # octets

ANYWHERE = SockaddrMhost(AF_MHOST)

# What says that a locator does not work now, and not that the request is wrong.
LOCATOR_ERRNOS = frozenset({
    errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EHOSTDOWN,
    errno.ENONET, errno.ENODEV, errno.ENXIO, errno.EADDRNOTAVAIL, errno.EPERM,
    errno.EACCES,
})  # fmt: skip
# What may be said of where the socket is bound, and then nothing of the locator.
SOURCE_ERRNOS = frozenset({errno.EADDRNOTAVAIL})
# The same of one port there: ICMP port unreachable, RFC 1122 section 4.1.3.3.
PORT_ERRNOS = frozenset({errno.ECONNREFUSED, errno.ENOPROTOOPT})


class AfMhost:
    """The socket operations, and every open socket.

    Attributes:
        socks: by number.
        mhost_getsockopt: getsockopt(2), as SockOpts.get.
        mhost_setsockopt: setsockopt(2), as SockOpts.set.
    """

    def __init__(
        self,
        table: MhostTable,
        prot: Proto,
        port_limit: Callable[[Client, int], int] = lambda _client, _port: 0,
    ) -> None:
        """Begin without sockets.

        Args:
            table: protocols and hosts.
            prot: the transport.
            port_limit: below what a client may not bind, 0 if it may bind a port.
        """
        self._port_limit = port_limit
        self._table = table
        self._prot = prot
        self._numbers = itertools.count(1)
        opts = SockOpts(table, self._path_mtu)
        self.mhost_getsockopt, self.mhost_setsockopt = opts.get, opts.set
        self.socks: dict[int, Sock] = {}

    def mhost_create(
        self,
        client: Client,
        family: int,
        type_: int,
        proto: int,
        data_ready: Callable[[Sock], None],
        error_report: ErrorReport,
    ) -> Sock:
        """socket(2): open an AF_MHOST datagram socket; its protocol is always UDP.

        Raises:
            MhostError: EAFNOSUPPORT, ESOCKTNOSUPPORT or EPROTONOSUPPORT for any
                other family, type or protocol, EMFILE beyond the client's limit.
        """
        if family != AF_MHOST:
            raise MhostError(
                errno.EAFNOSUPPORT,
                f"socket: family {family} is not AF_MHOST ({AF_MHOST})",
            )
        if not (0 <= type_ < _SOCK_MAX and 0 <= proto < _IPPROTO_MAX):
            raise MhostError(
                errno.EINVAL,
                f"socket: type {type_} is not in 0..{_SOCK_MAX - 1}, or protocol {proto} not "
                f"in 0..{_IPPROTO_MAX - 1}",
            )
        if type_ != SOCK_DGRAM:
            raise MhostError(
                errno.ESOCKTNOSUPPORT,
                f"socket: type {type_} is not SOCK_DGRAM ({SOCK_DGRAM})",
            )
        if proto not in (0, IPPROTO_UDP):
            raise MhostError(
                errno.EPROTONOSUPPORT,
                f"socket: protocol {proto} is neither 0 nor UDP ({IPPROTO_UDP})",
            )
        if len(client.socks) >= SOCKETS_PER_CLIENT_MAX:
            raise MhostError(
                errno.EMFILE,
                f"socket: this process has {SOCKETS_PER_CLIENT_MAX} sockets open, "
                "the most there may be; close some",
            )
        sk = Sock(next(self._numbers), client, data_ready, error_report)
        self.socks[sk.number] = client.socks[sk.number] = sk
        return sk

    def mhost_release(self, sk: Sock) -> None:
        """close(2): give everything back."""
        if sk.sport:
            self._prot.put_port(sk)
        del self.socks[sk.number], sk.client.socks[sk.number]

    # --- bind

    def mhost_bind(self, sk: Sock, sa: SockaddrMhost) -> int:
        """bind(2): everywhere, to one L3, to one address, or to one host's addresses.

        Args:
            sk: the socket.
            sa: family AF_MHOST with handle 0 for everywhere, with a handle for those
                locators of that host which are ours; any other family for all of
                that L3 (empty or all-zero address) or for one address.

        Returns:
            The port; for port 0 one that was free at every place.

        Raises:
            MhostError: EINVAL if it is bound, EAFNOSUPPORT, EADDRNOTAVAIL if the
                address is not ours, EADDRINUSE, EACCES for a port that needs a privilege.
        """
        if sk.sport:
            raise MhostError(
                errno.EINVAL,
                f"bind: socket is bound to port {sk.sport}; open another one",
            )
        places = self._places(sk, sa)
        limit = self._port_limit(sk.client, sa.port) if sa.port else 0
        if limit:
            raise MhostError(
                errno.EACCES,
                f"bind: port {sa.port} is below {limit}, where a process needs "
                "CAP_NET_BIND_SERVICE; run it with that, choose another port, or lower "
                "sysctl net.ipv4.ip_unprivileged_port_start",
            )
        self._prot.get_port(sk, places, sa.port)
        sk.places, sk.bound = tuple(places), sa
        return sk.sport

    def _autobind(self, sk: Sock) -> None:
        """The wildcard and an ephemeral port, as the first send or connect does."""
        places = self._places(sk, (sk.bound or ANYWHERE)._replace(port=0))
        self._prot.get_port(sk, places, 0)
        sk.places = tuple(places)

    def _places(self, sk: Sock, sa: SockaddrMhost) -> list[Place]:
        if sa.family == AF_MHOST:
            v6_only = sk.options.get((IPPROTO_IPV6, IPV6_V6ONLY))
            everywhere = self._any_places(AF_INET6 if v6_only else 0)
            return self._host_places(sa.id_no) if sa.id_no else everywhere
        protos = self._table.mhost_protos_for_family(sa.family)
        if sa.family == AF_UNSPEC or not protos:
            raise MhostError(
                errno.EAFNOSUPPORT,
                f"bind: no L3 handler for family {sa.family}; `mhostctl l3` lists them",
            )
        if not sa.address or (sa.family in (AF_INET, AF_INET6) and not any(sa.address)):
            return self._any_places(sa.family)
        length = protos[0].addr_len
        if len(sa.address) < length:
            raise MhostError(
                errno.EINVAL,
                f"bind: address of {len(sa.address)} octets; family {sa.family} "
                f"({protos[0].name}) has {length}",
            )
        sa = sa._replace(address=sa.address[:length])
        place = self._local_place(Locator(sa.family, sa.address, sa.scope_id))
        if place is None:
            ours = [p.ntop(a) for p in protos for a in p.addresses()]
            raise MhostError(
                errno.EADDRNOTAVAIL,
                f"bind: {self._table.mhost_ntop(sa)} is not an address of this host; "
                f"of mhostd's own it has {', '.join(ours) or 'none'} in this family",
            )
        return [place]

    def _any_places(self, family: int) -> list[Place]:
        kernel = [
            Place(proto.name, proto.family, b"")
            for proto in self._table.protos.values()
            if proto.udp and family in (0, proto.family)
        ]
        return [*kernel, Place("", family, b"")]

    def _host_places(self, handle: int) -> list[Place]:
        host = self._table.mhost_known_host(handle)
        places = [p for locator in host.locators if (p := self._local_place(locator))]
        if not places:
            raise MhostError(
                errno.EADDRNOTAVAIL,
                f"bind: none of the locators of {host.name} is an address of this host; "
                "`mhostctl hosts` lists them, '*' binds everywhere",
            )
        return places

    def _local_place(self, locator: Locator) -> Place | None:
        family, address, scope_id = locator
        for proto in self._table.mhost_protos_for_family(family):
            if address in proto.addresses():
                return Place("", family, address)
            if proto.udp and proto.udp.local(address, scope_id):
                return Place(proto.name, family, address, scope_id)
        return None

    # --- connect

    def mhost_connect(self, sk: Sock, sa: SockaddrMhost | None, now: float) -> int:
        """connect(2): set whom send() goes to and whose datagrams are let in.

        Args:
            sk: the socket; it is bound if it was not.
            sa: a locator, or a handle: then every locator of that host is let in.
                None dissolves the association, and an autobound port with it.
            now: seconds of a monotonic clock.

        Returns:
            The local port.

        Raises:
            MhostError: as mhost_translate_sa and mhost_bind.
        """
        if sa is None:
            sk.peer = None
            if sk.sport and (sk.bound is None or not sk.bound.port):
                self._prot.put_port(sk)
                sk.places = ()
        else:
            sa = self._full(sa)
            proto, locator = self._table.mhost_translate_sa(sa, now, self._usable(sk))
            if proto.udp is not None and sa.family != AF_MHOST:
                proto.udp.connect(sk, locator)
            if not sk.sport:
                self._autobind(sk)
            sk.peer = sa
        self._prot.connect(sk)
        return sk.sport

    def _full(self, sa: SockaddrMhost) -> SockaddrMhost:
        """An explicit address cut to the length of its family."""
        for proto in self._table.mhost_protos_for_family(sa.family):
            if len(sa.address) > proto.addr_len:
                return sa._replace(address=sa.address[: proto.addr_len])
        return sa

    # --- send

    def mhost_sendmsg(
        self,
        sk: Sock,
        payload: bytes,
        sa: SockaddrMhost | None,
        now: float,
        control: bytes = b"",
    ) -> tuple[MhostProto, SockaddrMhost]:
        """sendmsg(2): translate, bind if unbound, send; nothing is sent on error.

        For an AF_MHOST destination a locator that refuses the datagram at once is
        passed over and the next one tried, until one takes it.

        Args:
            sk: the socket.
            payload: octets of one datagram, at most 65507.
            sa: destination, or None for the connected peer.
            now: seconds of a monotonic clock.
            control: control messages (cmsg.py), for this datagram alone.

        Returns:
            The protocol that sent it, and the locator that it went to.

        Raises:
            MhostError: EPIPE after shutdown, EDESTADDRREQ, EMSGSIZE, EINVAL for
                port 0, and what mhost_translate_sa and the last locator say.
        """
        if sk.shut_write:
            raise MhostError(errno.EPIPE, "sendto: shut down for writing")
        if sa is None:
            sa = sk.peer
        if sa is None or sa == sa._replace(family=AF_MHOST, id_no=0):
            raise MhostError(
                errno.EDESTADDRREQ, "sendto: no destination; give one, or connect first"
            )
        limit = min(sk.sndbuf, UDP_PAYLOAD_MAX)
        if len(payload) > limit:
            raise MhostError(
                errno.EMSGSIZE,
                f"sendto: payload of {len(payload)} octets exceeds {limit}",
            )
        if sa.port == 0:
            raise MhostError(errno.EINVAL, "sendto: port 0 is no destination")
        if control:
            ip_cmsg_send(control)  # what is wrong with it is said, wherever it goes
        sa = self._full(sa)
        plain = self._listen(sa, now) if sa.family == AF_MHOST else []
        usable = self._usable(sk)
        tried: set[Locator] = set()
        failed: MhostError | None = None
        heard = self._heard(sk, sa)
        while True:
            proto, locator = self._table.mhost_translate_sa(sa, now, usable, heard, tried)
            where = Locator(locator.family, locator.address, locator.scope_id)
            if failed is not None and where in tried:
                raise failed
            tried.add(where)
            if not sk.sport:
                self._autobind(sk)
            try:
                self._prot.sendmsg(sk, payload, proto, locator, control)
            except MhostError as err:
                self.mhost_err(locator, err, now)
                if sa.family != AF_MHOST or err.errno not in LOCATOR_ERRNOS:
                    raise
                failed = err
            else:
                sk.tx_datagrams += 1
                if plain:
                    self._table.silence.sent((sa.id_no, sa.port), where, now)
                return proto, locator

    def _listen(self, sa: SockaddrMhost, now: float) -> list[Locator]:
        """Pass over a locator of a host that has not answered.

        Returns:
            The locators of a host that has several; of others none.
        """
        locators = self._table.mhost_known_host(sa.id_no).locators
        if len(locators) < 2:
            return []
        silent = self._table.silence.silent((sa.id_no, sa.port), locators, now)
        if silent is not None:
            self._table.faults.failed(silent, SILENT_ERRNO, now, sa.port)
        return locators

    def _heard(self, sk: Sock, sa: SockaddrMhost) -> Heard | None:
        """Where the destination called us from, unless we call first."""
        if sa.family == AF_MHOST:
            sock_called(sk, (sa.id_no, sa.port), None)
            return sk.callers[sa.id_no, sa.port]
        family, port, address, _id_no, scope_id = sa
        owner = self._table.mhost_owner(Locator(family, address, scope_id))
        if owner is not None:
            sock_called(sk, (owner.handle, port), None)
        return sk.callers.get((family, address, port))

    def mhost_err(self, sa: SockaddrMhost, err: MhostError, now: float) -> None:
        """A datagram to that locator and port failed: translation learns.

        A closed port says nothing about the locator's other ports.
        """
        locator = Locator(sa.family, sa.address, sa.scope_id)
        if err.errno in PORT_ERRNOS:
            self._table.faults.failed(locator, err.errno, now, sa.port)
        elif err.errno in LOCATOR_ERRNOS - SOURCE_ERRNOS:
            self._table.faults.failed(locator, err.errno, now)

    @staticmethod
    def wants_errors(sk: Sock, family: int) -> bool:
        """Whether a socket has asked for the errors of its datagrams (IP_RECVERR)."""
        of_family = {AF_INET: (IPPROTO_IP, IP_RECVERR), AF_INET6: (IPPROTO_IPV6, IPV6_RECVERR)}
        every = sk.options.get((SOL_MHOST, MHOST_RECVERR), 0)
        return bool(every or (family in of_family and sk.options.get(of_family[family], 0)))

    @staticmethod
    def _usable(sk: Sock) -> Callable[[MhostProto], bool]:
        def usable(proto: MhostProto) -> bool:
            if sk.device and not proto.udp and sk.device != proto.device:
                return False
            if not sk.sport:
                return True
            if proto.udp:
                return any(place.l3 == proto.name for place in sk.places)
            return any(
                not place.l3 and place.family in (0, proto.family) for place in sk.places
            )

        return usable

    # --- the rest

    def mhost_getname(
        self, sk: Sock, peer: bool, source: bool = False, now: float = 0.0
    ) -> SockaddrMhost:
        """getsockname(2), or getpeername(2).

        Args:
            sk: the socket.
            peer: of its peer.
            source: of a connected socket that is bound to no address, what it would send
                from now.
            now: seconds of a monotonic clock.

        Raises:
            MhostError: ENOTCONN if there is no peer.
        """
        if not peer:
            name = (sk.bound or ANYWHERE)._replace(port=sk.sport)
            if source and sk.peer is not None and not name.id_no and not any(name.address):
                name = self._source(sk, sk.peer, now) or name
            return name._replace(port=sk.sport)
        if sk.peer is None:
            raise MhostError(errno.ENOTCONN, "getpeername: the socket is not connected")
        return sk.peer

    def _source(self, sk: Sock, peer: SockaddrMhost, now: float) -> SockaddrMhost | None:
        """The address that a datagram to the peer has now; None if none could be sent."""
        try:
            proto, sa = self._table.mhost_translate_sa(peer, now, self._usable(sk))
            if proto.udp is not None:
                return proto.udp.connect(sk, sa)
        except MhostError:
            return None
        ours = proto.addresses()
        return SockaddrMhost(sa.family, 0, ours[0]) if ours else None

    def mhost_shutdown(self, sk: Sock, how: int) -> None:
        """shutdown(2); as in Linux it takes effect even where it says ENOTCONN."""
        sk.shut_read |= how in (SHUT_RD, SHUT_RDWR)
        sk.shut_write |= how in (SHUT_WR, SHUT_RDWR)
        if sk.peer is None:
            raise MhostError(errno.ENOTCONN, "shutdown: the socket is not connected")

    def _path_mtu(self, sk: Sock, family: int, now: float) -> int:
        """IP_MTU and IPV6_MTU: of the path to the peer, if that is of this family now.

        Of AF_MHOST (MHOST_MTU) it is the payload that one packet to the peer holds.
        """
        if sk.peer is not None:
            proto, sa = self._table.mhost_translate_sa(sk.peer, now, self._usable(sk))
            if family == AF_MHOST:
                hlen = _UDP_HLEN + _L3_HLEN.get(proto.family, 0)
                if proto.udp is not None:
                    return proto.udp.path_mtu(sa, b"") - hlen
                if proto.path_mtu is not None:
                    return proto.path_mtu(sa.address) - hlen
                return proto.mtu() - _UDP_HLEN
            if sa.family == family and proto.udp is not None:
                return proto.udp.path_mtu(sa, b"")
            if sa.family == family and proto.path_mtu is not None:
                return proto.path_mtu(sa.address)
        raise MhostError(
            errno.ENOTCONN, "getsockopt: MTU: the socket is not connected over this family"
        )

    # --- protocols come and go under live sockets

    def mhost_proto_added(self, proto: MhostProto) -> list[tuple[Sock, MhostError]]:
        """Bind the sockets that are bound everywhere (or to its family) there too.

        Returns:
            The sockets for which that failed, and why; they go on without it.
        """
        failed = []
        for sk in self.socks.values() if proto.udp else ():
            if not sk.sport:
                continue
            try:
                self._bind_also(sk, lambda place: place.l3 == proto.name)
            except MhostError as err:
                failed.append((sk, err))
        return failed

    def mhost_address_added(self, address: bytes) -> list[tuple[Sock, MhostError]]:
        """The host kernel has another address: bind the sockets of its host there too.

        Returns:
            The sockets for which that failed, and why; they go on without it.
        """
        failed = []
        for sk in self.socks.values():
            if sk.bound is None or not sk.bound.id_no:
                continue
            try:
                host = self._table.mhost_host(sk.bound.id_no)
                if any(locator.address == address for locator in host.locators):
                    self._bind_also(sk, lambda place: place.address == address)
            except MhostError as err:
                failed.append((sk, err))
        return failed

    def _bind_also(self, sk: Sock, wanted: Callable[[Place], bool]) -> None:
        """Bind a bound socket at more places of the host kernel."""
        for place in self._places(sk, sk.bound or ANYWHERE):
            proto = self._table.proto_named(place.l3)
            if proto and proto.udp and place not in sk.places and wanted(place):
                proto.udp.bind(sk, place, sk.sport)
                sk.places = (place, *sk.places)

    def mhost_proto_removed(self, proto: MhostProto) -> None:
        """Let go of what the sockets had there; they stay open."""
        for sk in self.socks.values() if proto.udp else ():
            assert proto.udp is not None
            proto.udp.release(sk)
            sk.places = tuple(p for p in sk.places if p.l3 != proto.name)
