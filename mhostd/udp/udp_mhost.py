"""UDP over any L3 protocol: udpmhost_sendmsg down, udp_mhost_rcv up (RFC 768)."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Sequence

from mhostd import native
from mhostd.cmsg import pack_cmsgs
from mhostd.errors import DropReason, End, MhostError
from mhostd.host.identity import is_identifier
from mhostd.host.wire import L3_NAME
from mhostd.ip_cmsg import (
    NO_COOKIE,
    IpcmCookie,
    ip_cmsg_recv,
    ip_cmsg_send,
    ip_setup_cork,
    pmtudisc,
)
from mhostd.mhost_table import MhostTable
from mhostd.options import SO_RXQ_OVFL, SOL_SOCKET
from mhostd.skb import IP_PMTUDISC_DONT, SkBuff
from mhostd.sock import (
    Datagram,
    Heard,
    Locator,
    Place,
    SkError,
    Sock,
    sock_called,
    sock_queue_rcv_skb,
)
from mhostd.structs import IcmpError, MhostProto, NetProtocol, Proto
from mhostd.uapi import (
    AF_MHOST,
    MHOST_FRESHNESS,
    MHOST_PKTINFO,
    MHOST_POLICY,
    MHOST_RECVPKTINFO,
    SOL_MHOST,
    UDP_PAYLOAD_MAX,
    SockaddrMhost,
)
from mhostd.udp.header import UDP_HLEN, UDP_LEN_MAX, UdpHeader
from mhostd.udp.udp_table import UdpKey, UdpTable

BIND_TRIES = 32  # ports that may turn out to be taken elsewhere before we give up


class UdpMhost:
    """The transport behind every AF_MHOST datagram socket.

    Attributes:
        learn: told of what comes for a socket in shared memory, also if its buffer is
            full: whatever comes from there to there is that socket's.
    """

    def __init__(
        self, ports: UdpTable, table: MhostTable, realtime_ns: Callable[[], int] = lambda: 0
    ) -> None:
        """Begin with no sockets.

        Args:
            ports: who has which port of our own UDP.
            table: protocols and hosts.
            realtime_ns: nanoseconds since the epoch, for time stamps.
        """
        self._ports = ports
        self._table = table
        self._realtime_ns = realtime_ns
        self.learn: Callable[[Sock, Datagram], None] = lambda _sk, _datagram: None
        self.udpmhost_prot = Proto(
            name="UDPMHOST",
            sendmsg=self.udpmhost_sendmsg,
            get_port=self.udpmhost_get_port,
            put_port=self.udpmhost_put_port,
            connect=self.udpmhost_connect,
            queue_rcv=self.udp_mhost_queue_rcv,
        )
        self.udp_protocol = NetProtocol(rcv=self.udp_mhost_rcv, err=self.udp_mhost_err)

    # --- ports

    def udpmhost_get_port(self, sk: Sock, places: Sequence[Place], port: int) -> None:
        """Take one port at every place, or at none.

        For port 0 the first place chooses, those of the host kernel before ours, and
        the others confirm; if one of them has it taken the whole is tried again.

        Raises:
            MhostError: EADDRINUSE, or whatever a place says.
        """
        for left in reversed(range(BIND_TRIES if port == 0 else 1)):
            try:
                sk.sport = self._take(sk, places, port)
            except MhostError as err:
                self.udpmhost_put_port(sk)
                if err.errno != errno.EADDRINUSE or not left:
                    raise
            else:
                return

    def _take(self, sk: Sock, places: Sequence[Place], port: int) -> int:
        ours = []
        for place in places:
            proto = self._table.proto_named(place.l3)
            if proto and proto.udp:
                port = proto.udp.bind(sk, place, port)
            else:
                ours.append(place)
        for place in ours:
            port = self._ports.udp_table_insert(sk, place.family, place.address, port)
        return port

    def udpmhost_put_port(self, sk: Sock) -> None:
        """Give the port back everywhere."""
        for proto in self._table.protos.values():
            if proto.udp:
                proto.udp.release(sk)
        self._ports.udp_table_remove(sk)
        sk.sport = 0

    def udpmhost_connect(self, sk: Sock) -> None:
        """Let the port table know whom a socket is connected to, or that it is not."""
        peer = sk.peer
        if peer is None or peer.family == AF_MHOST:
            self._ports.udp_table_connect(sk, 0, b"", 0)
        else:
            self._ports.udp_table_connect(sk, peer.family, peer.address, peer.port)

    # --- down

    def udpmhost_sendmsg(
        self, sk: Sock, payload: bytes, proto: MhostProto, sa: SockaddrMhost, control: bytes
    ) -> None:
        """Send one datagram; `proto` and `sa` come from mhost_translate_sa().

        Raises:
            MhostError: EMSGSIZE if header and payload exceed 65535 octets or the
                MTU, EINVAL or ENODEV for a source that is none, or what the protocol
                says.
        """
        if proto.udp is not None:
            proto.udp.sendmsg(sk, payload, sa, control)
            return
        ulen = UDP_HLEN + len(payload)
        limit = UDP_LEN_MAX if proto.fragments else min(UDP_LEN_MAX, proto.mtu())
        if ulen > limit:
            raise MhostError(
                errno.EMSGSIZE,
                f"sendto: payload of {len(payload)} octets exceeds {limit - UDP_HLEN}, "
                f"what one packet of {proto.name} on {proto.device} holds",
            )
        saddr = self._source(sk, proto)
        skb = SkBuff.alloc(payload)
        if sk.options or control:
            skb.policy = sk.options.get((SOL_MHOST, MHOST_POLICY), 0)
            cookie = ip_cmsg_send(control).get(proto.family, NO_COOKIE)
            ip_setup_cork(skb, sk, proto.family, cookie)
            saddr = self._said_source(proto, cookie) or saddr
        skb.push(UDP_HLEN)
        psum = proto.csum_pseudo(saddr, sa.address, ulen)
        native.udp_push(skb.data, sk.sport, sa.port, psum)
        proto.sendmsg(skb, saddr, sa.address)

    def flow_headers(
        self, sk: Sock, proto: MhostProto, sa: SockaddrMhost
    ) -> tuple[bytes, int] | None:
        """What udpmhost_sendmsg() puts before every datagram of a flow, where that is all.

        Returns:
            L3 and UDP header, lengths and checksums 0, and octets of payload at most;
            None if each datagram must be looked at.
        """
        if proto.flow_header is None:
            return None
        skb = SkBuff(bytearray())
        if sk.options:
            skb.policy = sk.options.get((SOL_MHOST, MHOST_POLICY), 0)
            ip_setup_cork(skb, sk, proto.family, NO_COOKIE)
        found = proto.flow_header(skb, self._source(sk, proto), sa.address)
        if found is None:
            return None
        header, room = found
        udp = UdpHeader(sk.sport, sa.port, 0, 0).emit()
        return header + udp, min(room - UDP_HLEN, sk.sndbuf, UDP_PAYLOAD_MAX)

    @staticmethod
    def _source(sk: Sock, proto: MhostProto) -> bytes:
        for place in sk.places:
            if place.family == proto.family and place.address in proto.addresses():
                return place.address
        return proto.addresses()[0]

    def _said_source(self, proto: MhostProto, cookie: IpcmCookie) -> bytes:
        """The source of IP_PKTINFO, checked; empty if it names none."""
        if cookie.ifindex and cookie.ifindex != self._table.ifindex(proto.device):
            raise MhostError(
                errno.ENODEV,
                f"sendmsg: {proto.name} sends over {proto.device}, which is not the device "
                f"with index {cookie.ifindex}",
            )
        if cookie.source and cookie.source not in proto.addresses():
            raise MhostError(
                errno.EINVAL,
                f"sendmsg: source {proto.ntop(cookie.source)} is no address of {proto.name}; "
                f"it has {', '.join(map(proto.ntop, proto.addresses()))}",
            )
        return cookie.source

    # --- up

    def udp_mhost_rcv(self, skb: SkBuff) -> End:
        """Check a datagram and queue it on the socket that its ports belong to."""
        datagram = skb.data
        hdr = UdpHeader.parse(datagram)
        if isinstance(hdr, DropReason):
            return hdr
        datagram = datagram[: hdr.len]
        unchecked = hdr.check == 0 and not skb.csum_required  # RFC 768
        if not unchecked and native.csum_fold(datagram, skb.pseudo_csum) != 0xFFFF:
            return DropReason.UDP_CSUM
        key = UdpKey(skb.family, skb.daddr, hdr.dest, skb.saddr, hdr.source)
        sk = self._ports.udp_table_lookup(key, skb.dev)
        if sk is None:
            return DropReason.NO_SOCKET
        if skb.late_ms and 0 < sk.options.get((SOL_MHOST, MHOST_FRESHNESS), 0) < skb.late_ms:
            return DropReason.SHIM_LATE
        source = SockaddrMhost(skb.family, hdr.source, skb.saddr)
        payload = bytes(datagram[UDP_HLEN:])
        return self.udp_mhost_queue_rcv(
            sk,
            Datagram(
                payload, source, skb.l3, skb.daddr, skb.dev, skb.ttl, skb.tos, via=skb.via
            ),
        )

    def udp_mhost_queue_rcv(self, sk: Sock, datagram: Datagram) -> End:
        """Queue a datagram on its socket, whichever UDP it came through."""
        source = datagram.source
        proto = self._table.protos.get(datagram.l3)
        if proto is not None and proto.name != L3_NAME and is_identifier(source.address):
            return DropReason.IP_INVALID_SOURCE  # only an association proves an identifier
        locator = Locator(source.family, source.address, source.scope_id)
        self._table.faults.heard(locator, source.port)
        if sk.peer is not None and not self._is_peer(sk.peer, locator, source.port):
            return DropReason.SOCKET_FILTER
        if sk.encap_rcv is not None:
            return sk.encap_rcv(sk, datagram)
        heard = Heard(locator, datagram.l3)
        routed = self._table.mhost_route(source.family, source.address)
        if routed is not self._table.protos.get(datagram.l3):
            sock_called(sk, (source.family, source.address, source.port), heard)
        owner = self._table.mhost_owner(locator)
        if owner is not None:
            self._table.silence.heard((owner.handle, source.port), locator)
            sock_called(sk, (owner.handle, source.port), heard)
            datagram = datagram._replace(source=source._replace(id_no=owner.handle))
        if sk.wants_control:
            control = datagram.control + self._control(sk, datagram)
            datagram = datagram._replace(control=control)
        if sk.slot >= 0:
            self.learn(sk, datagram)
        return sock_queue_rcv_skb(sk, datagram)

    def _control(self, sk: Sock, datagram: Datagram) -> bytes:
        """Control messages; the host kernel has given its own ones already."""
        proto = self._table.protos[datagram.l3]
        control = b""
        if proto.udp is None:
            ifindex = self._table.ifindex(datagram.dev)
            control = ip_cmsg_recv(sk, datagram, ifindex, self._realtime_ns())
        ours: list[tuple[int, int, bytes]] = []
        if sk.rx_drops and sk.options.get((SOL_SOCKET, SO_RXQ_OVFL)):
            drops = (sk.rx_drops & 0xFFFF_FFFF).to_bytes(4, sys.byteorder)
            ours.append((SOL_SOCKET, SO_RXQ_OVFL, drops))
        if sk.options.get((SOL_MHOST, MHOST_RECVPKTINFO)):
            where = self._table.mhost_ntop(datagram.source._replace(id_no=0))
            text = f"{proto.name} {datagram.dev or '-'} {where} {datagram.via}".rstrip()
            ours.append((SOL_MHOST, MHOST_PKTINFO, text.encode()))
        return control + pack_cmsgs(ours)

    def _is_peer(self, peer: SockaddrMhost, locator: Locator, port: int) -> bool:
        if port != peer.port:
            return False
        if peer.family != AF_MHOST:
            return locator[:2] == (peer.family, peer.address)
        try:
            return locator in self._table.mhost_host(peer.id_no).locators
        except MhostError:  # unbound, and held by nobody: the name means no host now
            return False

    def udp_mhost_err(self, skb: SkBuff, err: IcmpError) -> None:
        """An ICMP error quotes our datagram: tell its socket.

        Args:
            skb: at the quoted UDP header, of which at least 8 octets are there.
            err: what the message says.
        """
        hdr = UdpHeader.parse(skb.data)
        if isinstance(hdr, DropReason) and len(skb) < UDP_HLEN:
            return
        source, dest = (int.from_bytes(skb.data[i : i + 2], "big") for i in (0, 2))
        key = UdpKey(skb.family, skb.saddr, source, skb.daddr, dest)
        sk = self._ports.udp_table_lookup(key)
        if sk is not None:
            if err.errno == errno.EMSGSIZE and pmtudisc(sk, skb.family) == IP_PMTUDISC_DONT:
                return
            sa = SockaddrMhost(skb.family, dest, skb.daddr)
            text = f"{self._table.mhost_ntop(sa)}: {os.strerror(err.errno)} (ICMP)"
            offender = SockaddrMhost(skb.family, 0, err.offender)
            quoted = bytes(skb.data[UDP_HLEN:])
            sk.error_report(
                sk, SkError(MhostError(err.errno, text), sa, *err[1:-1], offender, quoted)
            )
