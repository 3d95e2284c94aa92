"""The tables of functions by which the layers know one another.

    kernel                      here           filled in by     looked up in
    struct packet_type          PacketType     l3/<proto>.py    dev.py
    struct mhost_proto          MhostProto     l3/<proto>.py    mhost_table.py
    (udp_sendmsg of it)         UdpOps         l3/host_inet.py  udp/udp_mhost.py
    struct net_protocol         NetProtocol    udp/udp_mhost    l3/wrapper.py
    struct proto                Proto          udp/udp_mhost    af_mhost.py
    struct proto_ops            ProtoOps       ipc/calls.py     ipc/door.py

Every Rcv returns how the frame ended: a Verdict, or the reason for which it was dropped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mhostd.errors import End
from mhostd.skb import SkBuff
from mhostd.sock import Client, Datagram, Place, SkError, Sock
from mhostd.uapi import Reply, Request, SockaddrMhost

Rcv = Callable[[SkBuff], End]
Watch = Callable[[int, Callable[[], None] | None], None]
"""watch(fd, callback): call back whenever fd is readable; None ends it."""


@dataclass(frozen=True, slots=True)
class PacketType:
    """Which function takes the frames of one EtherType."""

    type: int
    func: Rcv


@dataclass(frozen=True, slots=True)
class UdpOps:
    """What an L3 with a UDP of its own offers instead of `sendmsg` and `rcv`.

    Attributes:
        sendmsg: send payload to a locator (with port) from the socket's place, with
            control messages (cmsg.py).
        local: whether (address, interface index) is an address of ours there.
        bind: take (address, port) of this L3 for a socket; port 0 chooses.
            Returns the port.
        release: give back what bind took; a socket without any is left alone.
        setsockopt: set (level, option) on what was bound, or see whether it could be.
        path_mtu: octets of L3 packet that reach a locator from an address of ours, b"" any.
        connect: see whether a locator can be connected to; our address then.
    """

    sendmsg: Callable[[Sock, bytes, SockaddrMhost, bytes], None]
    local: Callable[[bytes, int], bool]
    bind: Callable[[Sock, Place, int], int]
    release: Callable[[Sock], None]
    setsockopt: Callable[[Sock, tuple[int, int], int | bytes], None]
    path_mtu: Callable[[SockaddrMhost, bytes], int]
    connect: Callable[[Sock, SockaddrMhost], SockaddrMhost]


def _nothing() -> None:
    """What a handler without init or exit does."""


@dataclass(frozen=True, slots=True)
class MhostProto:
    """One L3 protocol, as the rest of the stack knows it.

    Attributes:
        family: AF_* number; for plug-ins also the first two octets of the header.
        name: for `proto:address`, messages and `mhostctl l3`.
        addr_len: octets of an address, 1..16.
        pton: text to octets; raises ValueError with what it wants instead.
        ntop: octets to text; what pton takes.
        addresses: our own addresses on it; empty if it has none of its own.
        mtu: octets of UDP header and payload that go out in one packet.
        fragments: more than that goes out in several.
        path_mtu: octets of L3 packet that reach an address (RFC 1191, RFC 8201).
        flow_header: the L3 header, from one address to another, of every UDP packet
            that goes out whole as the skb says, its lengths and checksum 0, and how
            many octets may follow it; None if the walk must look at each.
        device: name of the device it sends to, for display.
        up: whether it can send now.
        sendmsg: put the L3 header on (source, destination) and send to L2.
        rcv: take the L3 header off and send to L4.
        csum_pseudo: partial sum of the pseudo-header of a UDP datagram of that
            many octets from one address to another; 0 if there is none.
        udp: set if the protocol brings its own UDP; then udp_mhost hands over and
            does nothing else.
        init: called when it is registered.
        exit: called when it is removed.
        held: fragments that wait for the others now.
        counters: whatever the handler counts, for `mhostctl counters`.
    """

    family: int
    name: str
    addr_len: int
    pton: Callable[[str], bytes]
    ntop: Callable[[bytes], str]
    addresses: Callable[[], Sequence[bytes]]
    mtu: Callable[[], int]
    device: str
    up: Callable[[], bool]
    sendmsg: Callable[[SkBuff, bytes, bytes], None]
    rcv: Rcv
    csum_pseudo: Callable[[bytes, bytes, int], int]
    fragments: bool = False
    path_mtu: Callable[[bytes], int] | None = None
    flow_header: Callable[[SkBuff, bytes, bytes], tuple[bytes, int] | None] | None = None
    udp: UdpOps | None = None
    init: Callable[[], None] = _nothing
    exit: Callable[[], None] = _nothing
    held: Callable[[], int] = int
    counters: Counter[str] = field(default_factory=Counter)


class IcmpError(NamedTuple):
    """What an ICMP message says, for the socket whose datagram it quotes.

    Attributes:
        errno: as Linux icmp_err_convert or tab_unreach has it.
        fatal: a connected socket is told without having asked for it (the same tables).
        origin: SO_EE_ORIGIN_ICMP or SO_EE_ORIGIN_ICMP6 of linux/errqueue.h.
        type: of the message.
        code: of the message.
        info: MTU of the next hop, or pointer to the octet that is wrong, or 0.
        offender: L3 address of the host that sent it.
    """

    errno: int
    fatal: bool
    origin: int
    type: int
    code: int
    info: int
    offender: bytes


@dataclass(frozen=True, slots=True)
class NetProtocol:
    """One transport, as L3 knows it.

    Attributes:
        rcv: take what follows the L3 header.
        err: an ICMP error quotes a datagram of ours; skb is at the quoted transport
            header, skb.saddr is us, skb.daddr whom we had sent to.
    """

    rcv: Rcv
    err: Callable[[SkBuff, IcmpError], None]


@dataclass(frozen=True, slots=True)
class Proto:
    """One transport, as af_mhost knows it.

    Attributes:
        sendmsg: send one datagram to a locator through a protocol, with control
            messages (cmsg.py).
        get_port: bind to a port at each of these places, all or none.
        put_port: unbind.
        connect: sk.peer has changed.
        queue_rcv: put a datagram, already demultiplexed, on a socket's queue.
    """

    name: str
    sendmsg: Callable[[Sock, bytes, MhostProto, SockaddrMhost, bytes], None]
    get_port: Callable[[Sock, Sequence[Place], int], None]
    put_port: Callable[[Sock], None]
    connect: Callable[[Sock], None]
    queue_rcv: Callable[[Sock, Datagram], End]


Answer = Callable[[Reply], object]


@dataclass(frozen=True, slots=True)
class ProtoOps:
    """What the door calls; the system-call side of the stack.

    Attributes:
        request: carry out one control message; the answer may come later.
        records: carry out a data message of this client.
        release: the client is gone: close all that it had open.
    """

    request: Callable[[Client, Request, Answer], None]
    records: Callable[[Client, bytes, Answer], None]
    release: Callable[[Client], None]


ErrorReport = Callable[[Sock, SkError], None]
