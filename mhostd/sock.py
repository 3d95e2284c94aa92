"""struct sock: one AF_MHOST socket, its bounded receive queue, and who owns it."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from mhostd.errors import DropReason, End, MhostError, Verdict
from mhostd.uapi import SockaddrMhost, record_size

SK_BUF_DEFAULT = 212_992  # octets, as Linux net.core.rmem_default and wmem_default
SK_BUF_MAX = 2 * 4_194_304  # octets; what SO_RCVBUF may double to
CALLERS_MAX = 4_096  # peers that one socket remembers, the oldest is forgotten first
SK_BUF_MIN = 2_304  # octets, SOCK_MIN_RCVBUF of Linux include/net/sock.h


# linux/errqueue.h
SO_EE_ORIGIN_LOCAL, SO_EE_ORIGIN_ICMP, SO_EE_ORIGIN_ICMP6 = 1, 2, 3


class Datagram(NamedTuple):
    """One received datagram.

    Attributes:
        payload: octets.
        source: locator it came from; `source.id_no` is the known host that has
            that locator, or 0.
        l3: number of the L3 handler that received it.
        daddr: L3 address of ours that it came to.
        dev: name of the device that received it.
        ttl: time to live or hop limit it came with.
        tos: type of service or traffic class it came with.
        control: control messages that the socket has asked for.
        via: the path of an association that it took, as MHOST_PKTINFO has it.
    """

    payload: bytes
    source: SockaddrMhost
    l3: int = 0
    daddr: bytes = b""
    dev: str = ""
    ttl: int = 0
    tos: int = 0
    control: bytes = b""
    via: str = ""


class SkError(NamedTuple):
    """A datagram of a socket failed after its send had returned.

    Attributes:
        error: errno and text.
        sa: the destination: as the application had given it if `origin` is
            SO_EE_ORIGIN_LOCAL, else the locator that the ICMP error is about.
        fatal: a connected socket is told without having asked for it.
        origin: SO_EE_ORIGIN_* of linux/errqueue.h.
        type: of the ICMP message.
        code: of the ICMP message.
        info: MTU of the next hop, or pointer to the octet that is wrong, or 0.
        offender: who sent the ICMP message, if anybody.
        payload: of the datagram, as far as the message quotes it.
    """

    error: MhostError
    sa: SockaddrMhost
    fatal: bool = True
    origin: int = SO_EE_ORIGIN_LOCAL
    type: int = 0
    code: int = 0
    info: int = 0
    offender: SockaddrMhost | None = None
    payload: bytes = b""

    @property
    def local(self) -> bool:
        """It never left this host."""
        return self.origin == SO_EE_ORIGIN_LOCAL


class Locator(NamedTuple):
    """An L3 address without a port."""

    family: int
    address: bytes
    scope_id: int = 0


class Heard(NamedTuple):
    """Where a peer called us from: its locator, and the number of the L3 handler."""

    locator: Locator
    l3: int


CallerKey = tuple[int, int] | tuple[int, bytes, int]
"""(handle, port) of a known host, or (family, address, port)."""


class Place(NamedTuple):
    """Somewhere a socket is bound: one L3 handler, or everywhere.

    Attributes:
        l3: name of the handler; empty is every handler that uses our own UDP.
        family: its address family; 0 with `l3` empty.
        address: local L3 address; empty is any.
        scope_id: interface index of a link-local address, or 0.
    """

    l3: str
    family: int
    address: bytes
    scope_id: int = 0


@dataclass(slots=True, eq=False)
class Client:
    """An application process, as the kernel named it when it connected.

    Attributes:
        pid: process, in the daemon's namespace.
        uid: user.
        program: what the process called itself in Hello; for display only.
        admin: it came through the admin socket.
        fd: descriptor of its connection, as libzmq's monitor names it.
        pidfd: of the process, -1 without one; the door closes it.
        told: addresses whose text it was sent.
        socks: its open sockets by number.
        handles: hosts it has looked up; they are held while it lives.
    """

    pid: int
    uid: int
    program: str = ""
    admin: bool = False
    fd: int = -1
    pidfd: int = -1
    told: set[SockaddrMhost] = field(default_factory=set)
    socks: dict[int, Sock] = field(default_factory=dict)
    handles: set[int] = field(default_factory=set)


@dataclass(slots=True, eq=False)
class Sock:
    """One AF_MHOST socket.

    Attributes:
        number: what its owner calls it.
        client: its owner.
        data_ready: called after each datagram is queued (sk_data_ready).
        error_report: called with (sk, error) when a datagram failed after its send
            had returned (sk_error_report).
        sport: bound port, 0 while unbound.
        bound: what bind() was given, or None.
        places: where that is.
        peer: what connect() was given, or None.
        shut_read: shutdown(SHUT_RD) was called.
        shut_write: shutdown(SHUT_WR) was called.
        rcvbuf: octets of records that may wait, here and unread in the client.
        sndbuf: octets one datagram may have at most.
        rmem_queued: octets of records in receive_queue.
        rmem_sent: octets of records the client has and has not consumed.
        options: ints that were set, (level, option) -> value, in the order of setting.
        structures: memberships and the interface for multicast, the same.
        device: name of the only device it uses (SO_BINDTODEVICE); empty is any.
        wants_control: control messages are to come with each datagram.
        encap_rcv: takes what comes for it, instead of its queue (Linux: udp_sock).
        slot: its place in the fast lane, -1 if it has no rings.
        used: with a slot, octets of records that are in the ring.
        ring_most: octets of records that may wait here.
        pumped: its rings are the daemon's own, its data goes over ZeroMQ.
        heard: goes up when `callers` says something else of a peer than before.
        callers: where a peer last called us from, None if we called it first. An
            answer goes back the way the question came.
    """

    number: int
    client: Client
    data_ready: Callable[[Sock], None]
    error_report: Callable[[Sock, SkError], None]
    sport: int = 0
    bound: SockaddrMhost | None = None
    places: tuple[Place, ...] = ()
    peer: SockaddrMhost | None = None
    shut_read: bool = False
    shut_write: bool = False
    rcvbuf: int = SK_BUF_DEFAULT
    sndbuf: int = SK_BUF_DEFAULT
    rmem_queued: int = 0
    rmem_sent: int = 0
    receive_queue: deque[Datagram] = field(default_factory=deque)
    rx_datagrams: int = 0
    tx_datagrams: int = 0
    callers: OrderedDict[CallerKey, Heard | None] = field(default_factory=OrderedDict)
    rx_drops: int = 0
    options: dict[tuple[int, int], int] = field(default_factory=dict)
    structures: list[tuple[tuple[int, int], bytes]] = field(default_factory=list)
    device: str = ""
    wants_control: bool = False
    encap_rcv: Callable[[Sock, Datagram], End] | None = None
    slot: int = -1
    used: Callable[[], int] | None = None
    ring_most: int = SK_BUF_MAX
    pumped: bool = False
    heard: int = 0

    @property
    def rmem_alloc(self) -> int:
        """Octets of records that wait, here and in the client (sk_rmem_alloc)."""
        return self.rmem_queued + self.rmem_sent + (self.used() if self.used else 0)


def sock_called(sk: Sock, key: CallerKey, heard: Heard | None) -> None:
    """A peer has sent us something, or (`heard` is None) we send to it.

    Whoever speaks first decides: where we called first the best way is used, and the
    peer's answers do not change that.
    """
    if key not in sk.callers:
        if len(sk.callers) >= CALLERS_MAX:
            sk.callers.popitem(last=False)
        sk.callers[key] = heard
        sk.heard += heard is not None
    elif heard is not None and sk.callers[key] is not None:
        sk.heard += sk.callers[key] != heard
        sk.callers[key] = heard


def sock_queue_rcv_skb(sk: Sock, datagram: Datagram) -> End:
    """Queue one datagram, or say that the receive buffer is full.

    As in Linux a datagram is let in while the buffer is not full yet, so one
    larger than the whole buffer still arrives.
    """
    waits = sk.rmem_alloc
    if waits >= sk.rcvbuf or waits - sk.rmem_sent >= sk.ring_most:
        sk.rx_drops += 1
        return DropReason.SOCKET_RCVBUFF
    sk.rmem_queued += record_size(len(datagram.payload), len(datagram.control))
    sk.receive_queue.append(datagram)
    sk.rx_datagrams += 1
    sk.data_ready(sk)
    return Verdict.DELIVERED


def sock_dequeue(sk: Sock) -> Datagram:
    """Take the oldest datagram to hand it to the application; it still counts."""
    datagram = sk.receive_queue.popleft()
    size = record_size(len(datagram.payload), len(datagram.control))
    sk.rmem_queued -= size
    sk.rmem_sent += size
    return datagram


def sock_rfree(sk: Sock, octets: int) -> None:
    """The application has consumed records of that many octets."""
    sk.rmem_sent = max(0, sk.rmem_sent - octets)
