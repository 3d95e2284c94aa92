"""The L3 protocol `mhost`: its addresses are identifiers, its links are associations.

Down: udp_mhost puts its header on as for any other L3 without a UDP of its own, and what
follows the shim is that packet. Up: a DATA packet that its association has let in goes
to udp_mhost like a packet of any other L3. In between is `Hosts`; all that it sends goes
through one socket of ours, on one port, over every L3 there is.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable, Iterable
from functools import lru_cache, partial

from mhostd.cmsg import pack_cmsgs, unpack_cmsgs
from mhostd.errors import DropReason, End, MhostError, Verdict
from mhostd.host.hosts import Hosts, unknown
from mhostd.host.identity import Identity, identifier_ntop, identifier_of, key_pton
from mhostd.host.path import Path, Uplink, Way
from mhostd.host.peer import Peer
from mhostd.host.uplinks import Uplinks
from mhostd.host.wire import L3_NAME, OVERHEAD, PORT
from mhostd.l3.address import inet6_ntop, inet6_pton
from mhostd.l3.icmp import ICMPV6_DEST_UNREACH
from mhostd.l3.icmp_limit import IcmpLimit
from mhostd.l3.icmpv6 import ICMPV6_PORT_UNREACH
from mhostd.l3.wrapper import IPPROTO_UDP, L3Wrapper
from mhostd.mhost_table import MhostTable
from mhostd.options import (
    IP_MTU_DISCOVER,
    IP_PKTINFO,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_MTU_DISCOVER,
    IPV6_PKTINFO,
    IPV6_RECVPKTINFO,
)
from mhostd.skb import IP_PMTUDISC_DO, SkBuff
from mhostd.sock import (
    SO_EE_ORIGIN_ICMP6,
    SO_EE_ORIGIN_LOCAL,
    Client,
    Datagram,
    Locator,
    Place,
    SkError,
    Sock,
)
from mhostd.structs import IcmpError, MhostProto
from mhostd.uapi import (
    AF_INET,
    AF_INET6,
    MHOST_POLICY_DUPLICATE,
    MHOST_POLICY_FAILOVER,
    SockaddrMhost,
)
from mhostd.udp.header import UDP_HLEN, UDP_LEN_MAX
from mhostd.udp.udp_mhost import UdpMhost

NAME = L3_NAME
PREFIXES = ((bytes.fromhex("20010020") + bytes(12), 28),)  # RFC 7343 section 2

_IPV6_HLEN = 40
_ROOM_MIN = 1280 - _IPV6_HLEN - UDP_HLEN  # every IPv6 link carries that (RFC 8200)
_HLEN = {AF_INET: 20 + UDP_HLEN, AF_INET6: _IPV6_HLEN + UDP_HLEN}
_IN_PKTINFO = struct.Struct("=i4s4s")  # struct in_pktinfo, linux/in.h
_IN6_PKTINFO = struct.Struct("=16sI")  # struct in6_pktinfo, linux/in6.h
_WAYS = 256  # whose texts are kept
_REFUSAL_S = 0.1  # between refusals to one peer, once its burst is used up
_CHECK = slice(6, 8)  # of a UDP header

EventSink = Callable[[dict[str, str | float]], None]


class Overlay:
    """Identifiers as addresses.

    Attributes:
        mhost_proto: what mhost_register_proto() is given.
        hosts: ourselves and the peers.
        uplinks: where we can send from.
        sk: the socket on the association port.
        device_mtu: octets of L3 packet that an interface takes; main fills it in.
        kernel_routes: whether the host kernel has a route to a locator by an interface.
        duplicate: what hosts do that are named without a policy.
        sink: is given what happens, for whoever listens.
        directory_ask: no path to that peer works (whereabouts.py fills these in).
        directory_say: we are somewhere else.
        met: there is another peer.
        missed: there is one less.
    """

    def __init__(
        self,
        l3: L3Wrapper,
        table: MhostTable,
        udp: UdpMhost,
        us: Identity,
        random: Callable[[int], bytes],
        realtime_ns: Callable[[], int],
        accept_strangers: bool = True,
    ) -> None:
        self._l3 = l3
        self._table = table
        self._udp = udp
        self.realtime_ns = realtime_ns
        self._armed_s = float("inf")
        self._end: End = Verdict.CONSUMED
        self.sk = Sock(0, Client(0, 0, "mhostd"), _ignore, self._error)
        self.sk.encap_rcv = self.encap_rcv
        self.sk.wants_control = True
        for key, value in (
            ((IPPROTO_IP, IP_PKTINFO), 1),
            ((IPPROTO_IP, IP_MTU_DISCOVER), IP_PMTUDISC_DO),
            ((IPPROTO_IPV6, IPV6_RECVPKTINFO), 1),
            ((IPPROTO_IPV6, IPV6_MTU_DISCOVER), IP_PMTUDISC_DO),
        ):
            self.sk.options[key] = value
        self.uplinks = Uplinks(table)
        self._via = lru_cache(_WAYS)(self.uplinks.way_text)
        self.device_mtu: Callable[[int], int] = lambda _ifindex: UDP_LEN_MAX
        self.kernel_routes: Callable[[int, Locator], bool] = lambda _ifindex, _locator: True
        self.sink: EventSink = lambda _event: None
        self.directory_ask: Callable[[Peer], None] = lambda _peer: None
        self.directory_say: Callable[[], None] = lambda: None
        self.met: Callable[[Peer], None] = lambda _peer: None
        self.missed: Callable[[Peer], None] = lambda _peer: None
        self.duplicate = False
        self.lane_changed: Callable[[Peer], None] = lambda _peer: None
        self.lane_forget: Callable[[Peer], None] = lambda _peer: None
        self.lane_number: Callable[[Peer, bool, bool], bytes] | None = None
        self.lane_del: Callable[[int], None] = lambda _local_id: None
        self.lane_warm: Callable[[Peer, bool], None] = lambda _peer, _warm: None
        self._refusals = IcmpLimit(_REFUSAL_S)
        self.hosts = Hosts(us, self, random, l3.now(), accept_strangers)
        self.mhost_proto = MhostProto(
            family=AF_INET6,
            name=NAME,
            addr_len=16,
            pton=_pton,
            ntop=inet6_ntop,
            addresses=lambda: (us.identifier,),
            mtu=lambda: UDP_LEN_MAX - OVERHEAD - UDP_HLEN,
            device="",
            up=lambda: True,
            sendmsg=self.sendmsg,
            rcv=lambda _skb: DropReason.UNHANDLED_PROTO,
            csum_pseudo=lambda _saddr, _daddr, _ulen: 0,
            path_mtu=self.path_mtu,
            flow_header=self.flow_header,
        )

    def bind(self) -> None:
        """Take the association port everywhere.

        Raises:
            MhostError: EADDRINUSE.
        """
        places = [Place(p.name, p.family, b"") for p in self._table.protos.values() if p.udp]
        self.sk.places = (*places, Place("", 0, b""))
        self._udp.udpmhost_get_port(self.sk, self.sk.places, PORT)

    def name(self, name: str, public: bytes, hints: Iterable[Locator], duplicate: bool) -> Peer:
        """Name a peer, and say where it may be."""
        peer = self.hosts.add(public, name, hints, self._l3.now())
        peer.duplicate = duplicate
        self._arm()
        return peer

    def unname(self, public: bytes) -> None:
        """Nobody names that peer any more."""
        self.forget(identifier_of(public))

    def forget(self, identifier: bytes) -> None:
        """The same, by its identifier, if it is one."""
        peer = self.hosts.peers.get(identifier)
        if peer is not None:
            self.hosts.remove(peer)

    # --- down

    def sendmsg(self, skb: SkBuff, saddr: bytes, daddr: bytes) -> None:
        """Send a UDP packet to the host with an identifier."""
        inner = bytearray(skb.data)
        inner[_CHECK] = b"\0\0"  # the tag covers more than a checksum would
        if daddr == self.hosts.us.identifier:
            self._up(daddr, bytes(inner), None)
            return
        peer = self.hosts.peer(daddr)
        duplicate = skb.policy == MHOST_POLICY_DUPLICATE or (
            skb.policy != MHOST_POLICY_FAILOVER and peer.duplicate
        )
        try:
            self.hosts.send(daddr, IPPROTO_UDP, bytes(inner), duplicate, self._l3.now())
        finally:
            self._arm()

    def flow_header(
        self, skb: SkBuff, _saddr: bytes, identifier: bytes
    ) -> tuple[bytes, int] | None:
        """What the fast lane needs to know of every datagram to a host."""
        peer = self.hosts.peers.get(identifier)
        if peer is None or peer.session is None or self.lane_number is None:
            return None
        duplicate = skb.policy == MHOST_POLICY_DUPLICATE
        failover = skb.policy == MHOST_POLICY_FAILOVER
        return self.lane_number(peer, duplicate, failover), UDP_LEN_MAX - OVERHEAD

    def path_mtu(self, identifier: bytes) -> int:
        """Octets of an IPv6 packet whose payload would reach a host.

        What is left after 40 of IPv6 and 8 of UDP is what an application may send.
        """
        peer = self.hosts.peers.get(identifier)
        if peer is None:
            raise unknown(identifier)
        return peer.mtu() + _IPV6_HLEN

    def transmit(self, way: Way, packet: bytes) -> None:
        """Hosts sends: from that source, by that interface."""
        proto = self._table.proto_named(way.l3)
        if proto is None:
            raise MhostError(errno.ENETUNREACH, f"{way.l3} is not registered")
        family, address, scope_id = way.remote
        sa = SockaddrMhost(family, way.port, address, 0, scope_id)
        control = b"" if proto.udp is None else pktinfo(way)
        self._udp.udpmhost_sendmsg(self.sk, packet, proto, sa, control)

    def room(self, way: Way) -> int:
        """Octets of UDP payload that a way takes in one packet."""
        proto = self._table.proto_named(way.l3)
        if proto is None:
            return _ROOM_MIN
        family, address, scope_id = way.remote
        hlen = _HLEN.get(family, UDP_HLEN)
        try:
            if proto.udp is not None:
                sa = SockaddrMhost(family, way.port, address, 0, scope_id)
                mtu = proto.udp.path_mtu(sa, way.source.address)
                mtu = min(mtu, self.device_mtu(way.ifindex))
            elif proto.path_mtu is not None:
                mtu = proto.path_mtu(address)
            else:
                mtu, hlen = proto.mtu(), UDP_HLEN
        except MhostError:
            return min(_ROOM_MIN, self.device_mtu(way.ifindex) - hlen)
        return mtu - hlen

    def routes(self, uplink: Uplink, locator: Locator) -> bool:
        """Whether the L3 handler of an uplink is the one that serves a locator."""
        proto = self._table.mhost_route(locator.family, locator.address)
        if proto is None or proto.name != uplink.l3:
            return False
        if len(locator.address) != proto.addr_len:  # said by who knows another protocol
            return False
        if locator.scope_id != uplink.locator.scope_id:  # link-local, and on another link
            return False
        return proto.udp is None or self.kernel_routes(uplink.ifindex, locator)

    # --- up

    def encap_rcv(self, _sk: Sock, datagram: Datagram) -> End:
        """A datagram has come to the association port (Linux: udp_sk(sk)->encap_rcv)."""
        source = datagram.source
        proto = self._table.protos[datagram.l3]
        daddr, ifindex = datagram.daddr, 0
        if proto.udp is not None:
            daddr, ifindex = _arrival(datagram.control)
        way = Way(
            proto.name,
            Locator(source.family, daddr, source.scope_id and ifindex),
            ifindex,
            Locator(source.family, source.address, source.scope_id),
            source.port,
        )
        return self.receive(way, datagram.payload)

    def receive(self, way: Way, packet: bytes) -> End:
        """A packet has come to the association port; `way` is how an answer would go."""
        self._end = Verdict.CONSUMED
        reason = self.hosts.receive(way, packet, self._l3.now())
        self._arm()
        return reason or self._end

    def opened(
        self, local_id: int, number: int, seq: int, next_: int, inner: bytes, way: Way
    ) -> End:
        """The fast lane has opened a DATA packet and found no socket that it may give it."""
        self._end = DropReason.SHIM_NO_SESSION
        self.hosts.opened(local_id, number, seq, next_, inner, way, self._l3.now())
        self._arm()
        return self._end

    def traffic(self, peer: Peer) -> None:
        """The fast lane carries datagrams of a peer that nobody looked at."""
        peer.traffic(self._l3.now())
        self.hosts.arm(peer)
        self._arm()

    def deliver(
        self, peer: Peer, next_: int, inner: bytes, path: Path | None, late_s: float
    ) -> None:
        """Hosts has let a datagram in."""
        if next_ != IPPROTO_UDP:
            self._end = DropReason.SHIM_NO_SOCKET
            return
        self._end = self._up(peer.identifier, inner, path, int(1000 * late_s))
        if self._end is DropReason.NO_SOCKET:  # not of the packet that carried it
            self._end = DropReason.SHIM_NO_SOCKET
            if self._refusals.allow(self._l3.now(), peer.identifier):
                peer.refuse(next_, inner)

    def _up(self, saddr: bytes, inner: bytes, path: Path | None, late_ms: int = 0) -> End:
        skb = SkBuff(bytearray(inner))
        skb.late_ms = late_ms
        skb.saddr, skb.daddr = saddr, self.hosts.us.identifier
        skb.dev = "lo" if saddr == skb.daddr else ""
        if path is not None:
            skb.dev, skb.via = path.device or path.way.l3, self._via(path.way)
        return self._l3.mhost_send_to_l4(skb, self.mhost_proto)

    # --- errors

    def unreachable(self, peer: Peer, inner: bytes, err: MhostError) -> None:
        """A datagram that waited is given up: its socket is told, as by ICMP."""
        said = IcmpError(err.errno, True, SO_EE_ORIGIN_LOCAL, 0, 0, 0, b"")
        self._tell(peer, IPPROTO_UDP, inner, said)
        self.event(peer, "unreachable", err.strerror)

    def refused(self, peer: Peer, next_: int, head: bytes) -> None:
        """Nobody there has the port: what ICMPv6 says of that (RFC 4443 section 3.1)."""
        err = IcmpError(
            errno.ECONNREFUSED, True, SO_EE_ORIGIN_ICMP6, ICMPV6_DEST_UNREACH,
            ICMPV6_PORT_UNREACH, 0, peer.identifier,
        )  # fmt: skip
        self._tell(peer, next_, head, err)

    def _tell(self, peer: Peer, number: int, inner: bytes, err: IcmpError) -> None:
        """Tell the socket that has sent a packet to a peer what became of it."""
        skb = SkBuff(bytearray(inner))
        skb.family = AF_INET6
        skb.saddr, skb.daddr = self.hosts.us.identifier, peer.identifier
        self._l3.mhost_err(skb, number, err)

    def _error(self, _sk: Sock, err: SkError) -> None:
        """What we sent to a locator has failed, an ICMP message or the kernel says."""
        if err.error.errno == errno.EMSGSIZE:
            self.resized()
            return
        remote = Locator(err.sa.family, err.sa.address, err.sa.scope_id)
        self.hosts.suspect(remote, err.error.strerror, self._l3.now())
        self._arm()

    def resized(self) -> None:
        """Interfaces, or paths behind them, take more or less than before."""
        self.hosts.resize(self._l3.now())
        self._arm()

    # --- where we are

    def set_kernel(self, uplinks: Iterable[Uplink]) -> None:
        """The addresses of the host kernel's interfaces, those with a link."""
        self.uplinks.set_kernel(uplinks)
        self.look()

    def routes_changed(self) -> None:
        """The host kernel's routes are others: paths may come and go."""
        self.hosts.refresh(self._l3.now())
        self._arm()

    def look(self) -> None:
        """Addresses, links, handlers or drains may be others now."""
        self.hosts.set_uplinks(self.uplinks.found(), self._l3.now())
        self._arm()

    def drain(self, what: str, drained: bool) -> list[str]:
        """Plan to leave an uplink, or take it back: as Uplinks.drain."""
        named = self.uplinks.drain(what, drained)
        self.look()
        return named

    # --- what Hosts tells

    def event(self, peer: Peer, what: str, text: str) -> None:
        """Something that an operator may want to know."""
        self.sink(
            {
                "time_s": self.realtime_ns() / 1e9,
                "event": what,
                "host": peer.name,
                "identifier": identifier_ntop(peer.identifier),
                "text": text,
            }
        )

    def changed(self, peer: Peer) -> None:
        """Datagrams take another path, or another session."""
        self.lane_changed(peer)

    def warm(self, peer: Peer, warm: bool) -> None:
        """Traffic is looked at from now on, or is not any more."""
        self.lane_warm(peer, warm)

    def session_removed(self, local_id: int) -> None:
        """None counts any more."""
        self.lane_del(local_id)

    def forgotten(self, peer: Peer) -> None:
        """There is no such peer any more."""
        self.lane_forget(peer)
        self.missed(peer)

    def added(self, peer: Peer) -> None:
        """There is another peer."""
        self.met(peer)

    def hint(self, peer: Peer, origin: str, locators: Iterable[Locator]) -> None:
        """Somebody says where a peer may be."""
        peer.hint(origin, locators, self._l3.now())
        self.hosts.arm(peer)
        self._arm()

    def lost(self, peer: Peer) -> None:
        """No path works."""
        self.directory_ask(peer)

    def moved(self) -> None:
        """We are somewhere else."""
        self.directory_say()

    # --- time

    def _arm(self) -> None:
        due = self.hosts.next_s
        if due is not None and due < self._armed_s:
            self._armed_s = due
            self._l3.add_timer(due, partial(self._timeout, due))

    def _timeout(self, due_s: float, now: float) -> None:
        if due_s != self._armed_s:
            return  # an earlier one was set after it, which has set others
        self._armed_s = float("inf")
        self.hosts.timeout(now)
        self._arm()


def pktinfo(way: Way) -> bytes:
    """The control message that pins a datagram of the host kernel to a path."""
    if way.source.family == AF_INET:
        data = _IN_PKTINFO.pack(way.ifindex, way.source.address, bytes(4))
        return pack_cmsgs([(IPPROTO_IP, IP_PKTINFO, data)])
    data = _IN6_PKTINFO.pack(way.source.address, way.ifindex)
    return pack_cmsgs([(IPPROTO_IPV6, IPV6_PKTINFO, data)])


def _arrival(control: bytes) -> tuple[bytes, int]:
    """Address and interface that a datagram of the host kernel came to."""
    for level, type_, data in unpack_cmsgs(control):
        if (level, type_) == (IPPROTO_IP, IP_PKTINFO):
            ifindex, _spec_dst, address = _IN_PKTINFO.unpack(data)
            return address, ifindex
        if (level, type_) == (IPPROTO_IPV6, IPV6_PKTINFO):
            address, ifindex = _IN6_PKTINFO.unpack_from(data)
            return address, ifindex
    return b"", 0


def _pton(text: str) -> bytes:
    """Read an identifier, or the public key that it is made of; ValueError."""
    if text.endswith("="):  # as base64 of 32 octets does, and no address
        return identifier_of(key_pton(text))
    return inet6_pton(text)


def _ignore(_sk: Sock) -> None:
    """Nothing is queued on the association socket: encap_rcv takes it all."""
