"""The host kernel's own INET and INET6, delegated to as the original did.

A datagram goes to the kernel as it is, with address and port, and comes back the
same way: no header is ours. There is one kernel socket for each place where an
AF_MHOST socket is bound; `host_udp`, given by mhost_init(), keeps the descriptors.
"""

from __future__ import annotations

from typing import Protocol

from mhostd.l3.address import inet6_ntop, inet6_pton, inet_ntop, inet_pton
from mhostd.l3.wrapper import DropReason, End, L3Wrapper, MhostProto, SkBuff, UdpOps
from mhostd.sock import Datagram, Place, Sock
from mhostd.uapi import AF_INET, AF_INET6, UDP_PAYLOAD_MAX, SockaddrMhost


class HostUdp(Protocol):
    """What is asked of mhostd/host_udp.py; each as in structs.UdpOps."""

    def sendmsg(self, sk: Sock, payload: bytes, sa: SockaddrMhost, control: bytes) -> None:
        """Send from the kernel socket of the address family of `sa`."""

    def local(self, family: int, address: bytes, scope_id: int) -> bool:
        """Whether the kernel has this address."""

    def bind(self, sk: Sock, place: Place, port: int) -> int:
        """Open and bind a kernel socket."""

    def release(self, sk: Sock, family: int) -> None:
        """Close the kernel sockets of one family."""

    def setsockopt(
        self, sk: Sock, family: int, key: tuple[int, int], value: int | bytes
    ) -> None:
        """Set an option on the kernel sockets of one family."""

    def path_mtu(self, sa: SockaddrMhost, source: bytes) -> int:
        """Octets of L3 packet that reach a locator from an address of ours, b"" any."""

    def connect(self, sk: Sock, sa: SockaddrMhost) -> SockaddrMhost:
        """See whether the kernel would connect to a locator, and from where."""
        ...


class AfHostInet:
    """One family of the host kernel: `host_inet` or `host_inet6`."""

    def __init__(self, l3: L3Wrapper, host_udp: HostUdp, family: int) -> None:
        self._l3 = l3
        v4 = family == AF_INET
        assert v4 or family == AF_INET6
        self.host_inet_mhost_proto = MhostProto(
            family=family,
            name="host_inet" if v4 else "host_inet6",
            addr_len=4 if v4 else 16,
            pton=inet_pton if v4 else inet6_pton,
            ntop=inet_ntop if v4 else inet6_ntop,
            addresses=tuple,
            mtu=lambda: UDP_PAYLOAD_MAX,
            device="kernel",
            up=lambda: True,
            sendmsg=self.host_inet_sendmsg,
            rcv=self.host_inet_rcv,
            csum_pseudo=lambda _saddr, _daddr, _ulen: 0,
            udp=UdpOps(
                sendmsg=host_udp.sendmsg,
                local=lambda address, scope: host_udp.local(family, address, scope),
                bind=host_udp.bind,
                release=lambda sk: host_udp.release(sk, family),
                setsockopt=lambda sk, key, value: host_udp.setsockopt(sk, family, key, value),
                path_mtu=host_udp.path_mtu,
                connect=host_udp.connect,
            ),
        )

    def host_inet_sendmsg(self, _skb: SkBuff, _saddr: bytes, _daddr: bytes) -> None:
        """Never called: udp_mhost hands over to `udp.sendmsg` before headers."""
        raise AssertionError("the host kernel builds its own headers")

    def host_inet_rcv(self, _skb: SkBuff) -> End:
        """The host kernel's packets never come as frames with EtherType MHOST."""
        return DropReason.UNHANDLED_PROTO

    def host_inet_queue_rcv(self, sk: Sock, datagram: Datagram) -> End:
        """A datagram that the kernel has demultiplexed to our socket of `sk`."""
        number = self._l3.proto_number(self.host_inet_mhost_proto)
        return self._l3.udp.queue_rcv(sk, datagram._replace(l3=number))
