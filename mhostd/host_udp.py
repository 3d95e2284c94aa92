"""The host kernel's UDP sockets, one for each place where a socket of ours is bound.

Every socket has IP_RECVERR on, so an ICMP error, which names the destination that it
is about, reaches the AF_MHOST socket and translation, connected or not (ip(7)).
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import socket
import struct
import sys
from collections.abc import Callable
from functools import partial

from mhostd.cmsg import Cmsg, pack_cmsgs, unpack_cmsgs
from mhostd.dev import NetCore
from mhostd.errors import DropReason, End, MhostError
from mhostd.l3.icmp import icmp_err_convert, icmpv6_err_convert
from mhostd.links import Links
from mhostd.options import (
    IP_MTU,
    IP_PKTINFO,
    IPV6_MTU,
    IPV6_PKTINFO,
    IPV6_RECVPKTINFO,
    OPTIONS,
    SO_BINDTODEVICE,
    SO_RXQ_OVFL,
    Key,
)
from mhostd.sock import (
    SO_EE_ORIGIN_ICMP,
    SO_EE_ORIGIN_LOCAL,
    Datagram,
    Place,
    SkError,
    Sock,
)
from mhostd.structs import Watch
from mhostd.uapi import CONTROL_MAX, MHOST_RECVPKTINFO, SOL_MHOST, SockaddrMhost

RX_BATCH = 64
QueueRcv = Callable[[Sock, Datagram], End]

_LEVEL: dict[int, int] = {
    socket.AF_INET: socket.IPPROTO_IP,
    socket.AF_INET6: socket.IPPROTO_IPV6,
}
ENCAP_RCVBUF = 4 << 20  # octets, of the association port
_SO_RCVBUFFORCE = 33  # asm-generic/socket.h
_SEND_TRIES = 4  # of one datagram, each after errors of earlier ones
# Of a source that is gone: what Linux says now, and what it said before.
_SOURCE_GONE = frozenset({errno.ENETUNREACH, errno.EINVAL})
_IP_RECVERR, _IPV6_RECVERR = 11, 25  # linux/in.h, linux/in6.h
_RECVERR = {(socket.IPPROTO_IP, _IP_RECVERR), (socket.IPPROTO_IPV6, _IPV6_RECVERR)}
_SOL_UDP, _UDP_GRO = 17, 104  # linux/udp.h
# Control message -> octet of the interface index in it, and the option that asks for it
_PKTINFO = {
    (socket.IPPROTO_IP, IP_PKTINFO): (0, (socket.IPPROTO_IP, IP_PKTINFO)),
    (socket.IPPROTO_IPV6, IPV6_PKTINFO): (16, (socket.IPPROTO_IPV6, IPV6_RECVPKTINFO)),
}
_EXTENDED_ERR = struct.Struct("=IBBBBII")  # struct sock_extended_err, linux/errqueue.h
_QUOTE_MAX = 576  # octets of the datagram that an ICMP error is about


class HostUdp:
    """Kernel sockets by AF_MHOST socket.

    The fast lane reads those of a socket in shared memory, if it has one in that family
    and wants no control messages; what the lane does not know comes to received().

    Attributes:
        queue_rcv: by address family, who takes what arrives; filled in by init.
        lane_add: have the fast lane read a descriptor of (socket, family), if it can.
        lane_del: have it leave that alone.
    """

    def __init__(self, core: NetCore, watch: Watch, links: Links | None = None) -> None:
        self._core = core
        self._links = links or Links()
        self._gone: set[socket.socket] = set()  # bound to an address that is gone
        self._sockets_max = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
        self._open_sockets = 0
        self._watch = watch
        self._socks: dict[tuple[Sock, int], list[socket.socket]] = {}
        self._dropped: dict[socket.socket, int] = {}  # by the kernel, with SO_RXQ_OVFL
        self._buffer = bytearray(65536)
        self._in_lane: set[tuple[Sock, int]] = set()
        self._gro: set[socket.socket] = set()  # several datagrams may come in one piece
        self.lane_add: Callable[[Sock, int, int], bool] = lambda _sk, _family, _fd: False
        self.lane_del: Callable[[Sock, int], None] = lambda _sk, _family: None
        self.queue_rcv: dict[int, QueueRcv] = {}

    @staticmethod
    def supported(family: int) -> bool:
        """Whether the kernel has this family at all (IPv6 can be off)."""
        try:
            socket.socket(family, socket.SOCK_DGRAM).close()
        except OSError:
            return False
        return True

    @staticmethod
    def ifindex(name: str) -> int:
        """Return the index of an interface, 0 if there is none of that name."""
        try:
            return socket.if_nametoindex(name)
        except (OSError, ValueError):
            return 0

    def local(self, family: int, address: bytes, scope_id: int) -> bool:
        """Whether the kernel has this address."""
        to = _sockaddr(SockaddrMhost(family, 0, address, 0, scope_id))
        try:
            with socket.socket(family, socket.SOCK_DGRAM) as s:
                s.bind(to)
        except OSError as err:
            if err.errno in (errno.EMFILE, errno.ENFILE):
                raise _error("bind", to[0], err) from None
            return False
        return True

    def bind(self, sk: Sock, place: Place, port: int) -> int:
        """Open and bind a kernel socket; port 0 lets the kernel choose.

        Returns:
            The port.

        Raises:
            MhostError: EADDRINUSE, EACCES, EADDRNOTAVAIL, EMFILE.
        """
        address = place.address or bytes(4 if place.family == socket.AF_INET else 16)
        to = _sockaddr(SockaddrMhost(place.family, port, address, 0, place.scope_id))
        if self._open_sockets >= self._sockets_max:  # the door needs descriptors too
            raise MhostError(
                errno.EMFILE,
                f"bind: {self._sockets_max} kernel sockets are open, the most there may be; "
                "raise LimitNOFILE of the daemon, or bind to mhostd's own addresses",
            )
        try:
            s = self._open(sk, place.family)
        except OSError as err:
            raise _error("socket", f"{place.l3}", err) from None
        try:
            s.bind(to)
        except OSError as err:
            s.close()
            raise _error("bind", f"{place.l3} {to[0]} port {port}", err) from None
        self._open_sockets += 1
        self._socks.setdefault((sk, place.family), []).append(s)
        self._watch(s.fileno(), lambda: self._on_readable(sk, s))
        self.settle(sk)
        return int(s.getsockname()[1])

    def settle(self, sk: Sock) -> None:
        """See who should read the kernel sockets of a socket, and change it if need be."""
        for family in (socket.AF_INET, socket.AF_INET6):
            socks = self._socks.get((sk, family), [])
            plain = sk.slot >= 0 and not sk.wants_control
            fits = len(socks) == 1 and (plain or sk.encap_rcv is not None)
            if fits == ((sk, family) in self._in_lane):
                continue
            if not fits:
                self._leave_lane(sk, family)
                for s in socks[:1]:
                    self._watch(s.fileno(), partial(self._on_readable, sk, s))
                continue
            (s,) = socks
            self._gro.add(s)
            self._watch(s.fileno(), None)
            if self.lane_add(sk, family, s.fileno()):
                self._in_lane.add((sk, family))
            else:
                self._watch(s.fileno(), partial(self._on_readable, sk, s))

    def _leave_lane(self, sk: Sock, family: int) -> None:
        if (sk, family) in self._in_lane:
            self._in_lane.remove((sk, family))
            self.lane_del(sk, family)

    def received(self, sk: Sock, datagram: Datagram) -> None:
        """Walk a datagram that the kernel has demultiplexed."""
        self._core.received += 1
        self._core.account(self.queue_rcv[datagram.source.family](sk, datagram))

    def lane_error(self, sk: Sock, family: int) -> None:
        """The kernel socket of that family, which the lane reads, has an error."""
        for s in self._socks.get((sk, family), []):
            self._error_queue(sk, s)

    @staticmethod
    def _open(sk: Sock, family: int) -> socket.socket:
        """A kernel socket with the options of ours, that belongs to its application's user.

        The user is what SO_REUSEPORT of Linux compares, and what `ss -e` shows.
        """
        s = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            if family == socket.AF_INET6:
                s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
                s.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVERR, 1)
            else:
                s.setsockopt(socket.IPPROTO_IP, _IP_RECVERR, 1)
            if sk.client.uid != os.geteuid():
                os.fchown(s.fileno(), sk.client.uid, -1)
            levels = (socket.SOL_SOCKET, _LEVEL[family])
            for (level, option), value in sk.options.items():
                if level in levels and OPTIONS[level, option].kernel:
                    s.setsockopt(level, option, value)
            for (level, option), octets in sk.structures:
                if level in levels:
                    s.setsockopt(level, option, octets)
            if sk.device:
                s.setsockopt(socket.SOL_SOCKET, SO_BINDTODEVICE, sk.device.encode() + b"\0")
            _want_pktinfo(s, sk)
            if sk.encap_rcv is not None:  # what a flood leaves no room for is lost
                with contextlib.suppress(PermissionError):
                    s.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, ENCAP_RCVBUF)
        except BaseException:
            s.close()
            raise
        return s

    def setsockopt(self, sk: Sock, family: int, key: Key, value: int | bytes) -> None:
        """Set an option on the kernel sockets of one family.

        A socket that is not bound yet has none; a passing one then says what the kernel
        says of the value, and those of the bind get it with the others.

        Raises:
            MhostError: what setsockopt(2) says.
        """
        bound = self._socks.get((sk, family), [])
        try:
            probe = [] if bound else [self._open(sk, family)]
            for s in bound or probe:
                s.setsockopt(*key, value)
                _want_pktinfo(s, sk)
        except OSError as err:
            raise _error("setsockopt", f"option {key[1]} of level {key[0]}", err) from None
        finally:
            for s in probe:
                s.close()

    def connect(self, sk: Sock, sa: SockaddrMhost) -> SockaddrMhost:
        """See whether the kernel would connect to a locator; ours stay unconnected.

        Returns:
            The address that it would send from.

        Raises:
            MhostError: what connect(2) says: ENETUNREACH, EACCES for a broadcast.
        """
        to = _sockaddr(sa)
        try:
            with self._open(sk, sa.family) as s:
                s.connect(to)
                return _from_sockaddr(sa.family, s.getsockname())
        except OSError as err:
            raise _error("connect", f"{to[0]} port {to[1]}", err) from None

    @staticmethod
    def path_mtu(sa: SockaddrMhost, source: bytes = b"") -> int:
        """Octets of L3 packet that reach a locator, as the kernel knows it.

        Args:
            sa: the locator.
            source: address that is sent from, by which the kernel may route.

        Raises:
            MhostError: what connect(2) says: ENETUNREACH, EHOSTUNREACH.
        """
        option = IP_MTU if sa.family == socket.AF_INET else IPV6_MTU
        to = _sockaddr(sa)
        try:
            with socket.socket(sa.family, socket.SOCK_DGRAM) as s:
                if source:
                    s.bind(_sockaddr(SockaddrMhost(sa.family, 0, source, 0, sa.scope_id)))
                s.connect(to)
                return s.getsockopt(_LEVEL[sa.family], option)
        except OSError as err:
            raise _error("getsockopt", f"MTU of the path to {to[0]}", err) from None

    def release(self, sk: Sock, family: int) -> None:
        """Close the kernel sockets of one family."""
        self._leave_lane(sk, family)
        for s in self._socks.pop((sk, family), ()):
            self._watch(s.fileno(), None)
            s.close()
            self._dropped.pop(s, None)
            self._gro.discard(s)
            self._gone.discard(s)
            self._open_sockets -= 1

    def sendmsg(
        self, sk: Sock, payload: bytes, sa: SockaddrMhost, control: bytes = b""
    ) -> None:
        """Send one datagram from the kernel socket of that family, with control messages.

        Raises:
            MhostError: what sendto(2) says of this datagram.
        """
        socks = self._socks.get((sk, sa.family))
        if not socks:
            raise MhostError(
                errno.ENETUNREACH, "sendto: the socket is not bound in this family"
            )
        to = _sockaddr(sa)
        messages = [each for each in unpack_cmsgs(control) if each.level == _LEVEL[sa.family]]
        s = self._there(socks)
        self._check_way(sk, sa, messages)
        tries = _SEND_TRIES
        while True:
            try:
                if messages:
                    s.sendmsg([payload], messages, 0, to)
                else:
                    s.sendto(payload, to)
            except OSError as err:
                if err.errno in (errno.EAGAIN, errno.ENOBUFS):  # as a full device queue
                    self._core.kfree_skb(DropReason.FULL_RING)
                    return
                if err.errno in _SOURCE_GONE and self._lost_its_address(s):
                    s = self._there(socks)  # before netlink has told
                    continue
                # With IP_RECVERR a pending error of an earlier datagram is raised here
                # instead of sending; take it off the queue and send. EMSGSIZE is of this
                # one, though it is on the queue as well.
                tries -= 1
                pending = self._error_queue(sk, s)
                if not pending or not tries or err.errno == errno.EMSGSIZE:
                    raise _error("sendto", f"{to[0]} port {to[1]}", err) from None
            else:
                return

    def _there(self, socks: list[socket.socket]) -> socket.socket:
        """Of the sockets of one family the first whose address the kernel still has."""
        for s in socks:
            if s not in self._gone:
                return s
        raise MhostError(
            errno.EADDRNOTAVAIL,
            f"sendto: {socks[0].getsockname()[0]}, to which the socket is bound, is no "
            "longer an address of this host; `ip addr add` it, or bind to '*'",
        )

    def _check_way(self, sk: Sock, sa: SockaddrMhost, messages: list[Cmsg]) -> None:
        """The kernel drops without a word what goes to an interface without a link."""
        source = next((p.address for p in sk.places if p.l3 and p.family == sa.family), b"")
        scope_id = sa.scope_id
        for level, type_, data in messages:
            if (level, type_) in _PKTINFO:  # the interface is named
                at = _PKTINFO[level, type_][0]
                scope_id = int.from_bytes(data[at : at + 4], sys.byteorder) or scope_id
        name = self._links.down_on_way(sa.family, sa.address, scope_id, source)
        if name:
            raise MhostError(
                errno.ENETDOWN,
                f"sendto: {_sockaddr(sa)[0]} is reached over {name}, which has no link; "
                "`ip route get` shows the way",
            )

    def addresses_changed(self) -> None:
        """Find the sockets that are bound to an address which the kernel has no longer."""
        here: dict[SockaddrMhost, bool] = {}
        self._gone.clear()
        for socks in self._socks.values():
            for s in socks:
                at = _from_sockaddr(s.family, s.getsockname())._replace(port=0)
                if at not in here:
                    here[at] = not any(at.address) or self._still(at)
                if not here[at]:
                    self._gone.add(s)

    def _lost_its_address(self, s: socket.socket) -> bool:
        at = _from_sockaddr(s.family, s.getsockname())._replace(port=0)
        if any(at.address) and not self._still(at):
            self._gone.add(s)
        return s in self._gone

    def _still(self, at: SockaddrMhost) -> bool:
        try:
            return self.local(at.family, at.address, at.scope_id)
        except MhostError:  # no descriptor to ask with
            return True

    def _on_readable(self, sk: Sock, s: socket.socket) -> None:
        for _ in range(RX_BATCH):
            control, dev, step = b"", "", 0
            try:
                if sk.wants_control or s in self._gro:
                    octets, control, dev, address, step = self._recvmsg(sk, s)
                else:
                    octets, address = s.recvfrom_into(self._buffer)
            except BlockingIOError:
                break
            except OSError:
                if self._error_queue(sk, s):
                    continue
                break
            source = _from_sockaddr(s.family, address)
            whole = memoryview(self._buffer)[:octets]
            step = step or octets or 1
            for at in range(0, octets, step) or (0,):
                payload = bytes(whole[at : at + step])
                self.received(sk, Datagram(payload, source, dev=dev, control=control))
        else:
            return
        self._error_queue(sk, s)

    def _recvmsg(
        self, sk: Sock, s: socket.socket
    ) -> tuple[int, bytes, str, tuple[str, int] | tuple[str, int, int, int], int]:
        """Receive with the kernel's control messages, those that the socket has asked for.

        Returns:
            Octets in the buffer, control messages, name of the device, source, and octets
            of each datagram where there are several, else 0.
        """
        octets, messages, _flags, address = s.recvmsg_into([self._buffer], CONTROL_MAX)
        dev, kept, step = "", [], 0
        for level, type_, data in messages:
            if (level, type_) == (socket.SOL_SOCKET, SO_RXQ_OVFL):
                total = int.from_bytes(data, sys.byteorder)
                sk.rx_drops += total - self._dropped.get(s, 0)
                self._dropped[s] = total
                continue
            if (level, type_) == (_SOL_UDP, _UDP_GRO):
                step = int.from_bytes(data[:4], sys.byteorder)
                continue
            pktinfo = _PKTINFO.get((level, type_))
            if pktinfo is not None:
                at, asked = pktinfo
                if sk.encap_rcv is None:  # which reads the number itself
                    dev = _ifname(int.from_bytes(data[at : at + 4], sys.byteorder))
                if not sk.options.get(asked):
                    continue
            kept.append((level, type_, data))
        return octets, pack_cmsgs(kept), dev, address, step

    def _error_queue(self, sk: Sock, s: socket.socket) -> int:
        """Report what the error queue holds; return how much that was."""
        for count in range(RX_BATCH):
            try:
                data, control, _flags, address = s.recvmsg(_QUOTE_MAX, 512, socket.MSG_ERRQUEUE)
            except OSError:
                return count
            sa = _from_sockaddr(s.family, address)
            for level, type_, octets in control:
                if (level, type_) in _RECVERR:  # IP_PKTINFO and others come with it
                    sk.error_report(sk, _sk_error(sa, data, octets))
        return RX_BATCH


def _want_pktinfo(s: socket.socket, sk: Sock) -> None:
    """MHOST_PKTINFO names the device, which the kernel tells with its own PKTINFO."""
    if sk.options.get((SOL_MHOST, MHOST_RECVPKTINFO)):
        option = IP_PKTINFO if s.family == socket.AF_INET else IPV6_RECVPKTINFO
        s.setsockopt(_LEVEL[s.family], option, 1)


def _ifname(ifindex: int) -> str:
    try:
        return socket.if_indextoname(ifindex)
    except OSError:
        return ""  # gone meanwhile


def _sk_error(sa: SockaddrMhost, payload: bytes, octets: bytes) -> SkError:
    """One control message of the error queue: sock_extended_err, then the offender."""
    number, origin, type_, code, _pad, info, _data = _EXTENDED_ERR.unpack_from(octets)
    text = f"{_sockaddr(sa)[0]} port {sa.port}: {os.strerror(number)}"
    if origin == SO_EE_ORIGIN_LOCAL:
        return SkError(MhostError(number, text), sa, True, origin, info=info, payload=payload)
    convert = icmp_err_convert if origin == SO_EE_ORIGIN_ICMP else icmpv6_err_convert
    _errno, fatal = convert(type_, code) or (number, True)
    at = _EXTENDED_ERR.size + (4 if sa.family == socket.AF_INET else 8)
    address = octets[at : at + (4 if sa.family == socket.AF_INET else 16)]
    offender = SockaddrMhost(sa.family, 0, address)
    error = MhostError(number, f"{text} (ICMP)")
    return SkError(error, sa, fatal, origin, type_, code, info, offender, payload)


def _sockaddr(sa: SockaddrMhost) -> tuple[str, int] | tuple[str, int, int, int]:
    text = socket.inet_ntop(sa.family, sa.address)
    if sa.family == socket.AF_INET:
        return text, sa.port
    return text, sa.port, 0, sa.scope_id


def _from_sockaddr(
    family: int, address: tuple[str, int] | tuple[str, int, int, int]
) -> SockaddrMhost:
    host = address[0].partition("%")[0]
    scope_id = address[3] if len(address) == 4 else 0
    return SockaddrMhost(family, address[1], socket.inet_pton(family, host), 0, scope_id)


def _error(call: str, what: str, err: OSError) -> MhostError:
    number = err.errno or errno.EIO
    ways_out = {
        errno.EADDRINUSE: "; `ss -ulnp` and `mhostctl sockets` show by whom",
        errno.EACCES: "; ports below 1024 need root or CAP_NET_BIND_SERVICE",
        errno.EMFILE: "; raise LimitNOFILE of the daemon",
    }
    text = f"{call}: {what}: {os.strerror(number)}{ways_out.get(number, '')}"
    return MhostError(number, text)
