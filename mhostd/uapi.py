"""What applications and the daemon both see; clients import this and nothing else.

Three things cross the ZeroMQ socket (docs/ipc.md has offsets and a hex example):

* a *record*: one datagram with its address, 40 octets of header, 8-byte aligned;
* a *data message*: an 8-octet prefix that names the socket, then records;
* a *control message*: a msgspec struct in MessagePack, one of the closed unions
  `Request` (up to the daemon) and `Event` (back).

A data message starts with the octet 0xc1, which MessagePack never uses. Both ends
share one machine, so records are in its byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import msgspec

VERSION = 1  # of everything in this file; HELLO carries it

AF_UNSPEC = 0
AF_TESTPROTO = 1
AF_INET = 2
AF_OTHERPROTO = 3
AF_INET6 = 10
AF_MHOST = 27

SOL_MHOST = 0x6D68
MHOST_RECVPKTINFO = 1  # int: attach MHOST_PKTINFO to what recvmsg returns
MHOST_PKTINFO = 2  # control message: "<L3 name> <device> <locator>[ <path>]", UTF-8
MHOST_RECVERR = 3  # int: queue errors of every L3; and the control message with one
MHOST_POLICY = 5  # int, MHOST_POLICY_*: how datagrams to associated hosts go
MHOST_MTU = 6  # int, read only: octets of payload that one packet to the peer holds now
MHOST_FRESHNESS = 7  # int: datagrams later than so many ms are lost; 0 is none
MHOST_POLICY_HOST, MHOST_POLICY_FAILOVER, MHOST_POLICY_DUPLICATE = 0, 1, 2

DEFAULT_SOCKET = "ipc:///run/mhostd/mhost.sock"
DEFAULT_ADMIN_SOCKET = "ipc:///run/mhostd/admin.sock"
DEFAULT_STATE = "/var/lib/mhostd"
DEFAULT_CONFIG = "/etc/mhostd/mhostd.toml"

ADDRESS_MAX = 16  # octets of an L3 address
UDP_PAYLOAD_MAX = 65507  # octets: 65535 less 8 of UDP and 20 of IPv4, as in Linux
OPTION_MAX = 256  # octets of a socket option's value
HOST_NAME_MAX = 253  # octets, RFC 1035 section 2.3.4 in text form
BATCH_OCTETS = 1 << 16  # of records in one data message, if there are several
MESSAGE_MAX = 1 << 17  # octets of one ZeroMQ message; the answer to Show may be longer

Port = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
U32 = Annotated[int, msgspec.Meta(ge=0, le=0xFFFF_FFFF)]


class SockaddrMhost(NamedTuple):
    """Where a datagram goes or comes from.

    Attributes:
        family: address family; AF_MHOST names a host, any other an L3 address.
        port: UDP port, host order; 0 means "choose one" in bind().
        address: L3 address, up to 16 octets in network order; empty is "any".
        id_no: handle of a host when family is AF_MHOST; 0 is "everywhere".
        scope_id: interface index of an IPv6 link-local address (RFC 4007), or 0.
    """

    family: Annotated[int, msgspec.Meta(ge=0, le=0xFFFF)]
    port: Port = 0
    address: Annotated[bytes, msgspec.Meta(max_length=ADDRESS_MAX)] = b""
    id_no: U32 = 0
    scope_id: U32 = 0


# --- records ---------------------------------------------------------------

#   octet 0        4       6       8       10      12       16         32      36
#         +--------+-------+-------+-------+-------+--------+----------+-------+-------+
#         | length | flags | segsz | family| port  | cookie | address  | id_no | scope |
#         +--------+-------+-------+-------+-------+--------+----------+-------+-------+
_RECORD = struct.Struct("=IHHHHI16sII")
RECORD_HLEN = _RECORD.size  # octets
RECORD_ALIGN = 8

RECORD_REPLY = 1  # down: answer with Reply(seq=cookie); without it errors are events
RECORD_CONNECTED = 2  # down: to the peer of connect(), the address is not looked at
RECORD_CONTROL = 4  # control messages stand before the payload, behind their length

_CONTROL = struct.Struct("=II")  # octets of control messages, 0
CONTROL_MAX = 1024  # octets of control messages of one record

_DATA = struct.Struct("=BBHI")  # 0xc1, version, 0, socket number
DATA_HLEN = _DATA.size
DATA_MAGIC = 0xC1


# Shared memory (docs/ipc.md): what a client sends for a socket, with a sealed memfd and an
# end of a pair of sockets; the answer is an errno in four octets, then a text.
LANE = struct.Struct("=II")  # VERSION, socket number
LANE_RING = 1 << 20  # octets of records, each way
LANE_OCTETS = 4096 + 2 * LANE_RING  # of the memfd


class Record(NamedTuple):
    """One datagram between application and daemon.

    Attributes:
        sa: going down the destination, coming up the locator it came from; with
            `sa.id_no` the handle of the known host that owns that locator, or 0.
        payload: octets of the datagram (or of several, see segment_size).
        flags: RECORD_* bits, but for RECORD_CONTROL, which `control` says.
        segment_size: 0, or octets of each datagram in `payload` (the last may be
            shorter).
        cookie: going down what the Reply will carry as seq; coming up the number
            of the L3 handler that received it (HelloReply.l3 names them).
        control: control messages as msg_control of sendmsg(2) and recvmsg(2) holds
            them on a 64-bit Linux: struct cmsghdr, data, padding to 8 octets, again.
    """

    sa: SockaddrMhost
    payload: bytes
    flags: int = 0
    segment_size: int = 0
    cookie: int = 0
    control: bytes = b""


def record_size(payload_len: int, control_len: int = 0) -> int:
    """Octets a record of that payload and those control messages takes, with padding."""
    if control_len:
        payload_len += _CONTROL.size + control_len
    return -(-(RECORD_HLEN + payload_len) // RECORD_ALIGN) * RECORD_ALIGN


def pack_record(record: Record) -> bytes:
    """Return the record with its padding; the address is zero padded to 16 octets."""
    sa, payload, flags, segment_size, cookie, control = record
    flags &= ~RECORD_CONTROL
    if control:
        flags |= RECORD_CONTROL
        payload = _CONTROL.pack(len(control), 0) + control + payload
    length = RECORD_HLEN + len(payload)
    head = _RECORD.pack(
        length, flags, segment_size, sa.family, sa.port, cookie,
        sa.address, sa.id_no, sa.scope_id,
    )  # fmt: skip
    return head + payload + bytes(-length % RECORD_ALIGN)


def pack_data(sock: int, records: bytes) -> bytes:
    """Return a data message: the prefix, then what pack_record() made."""
    return _DATA.pack(DATA_MAGIC, VERSION, 0, sock) + records


def unpack_data(message: bytes) -> tuple[int, Iterator[Record]]:
    """Read a data message.

    Returns:
        The socket number, and the records; their addresses keep all 16 octets.

    Raises:
        ValueError: the prefix is short, of another version, or the iterator met a
            length that does not fit or control messages of a wrong length; it names
            octet and value.
    """
    if len(message) < DATA_HLEN:
        raise ValueError(f"data message of {len(message)} octets; want {DATA_HLEN}")
    magic, version, _zero, sock = _DATA.unpack_from(message)
    if (magic, version) != (DATA_MAGIC, VERSION):
        raise ValueError(f"data message 0x{magic:02x} version {version}; want 0xc1 1")
    return sock, unpack_records(message, DATA_HLEN)


def unpack_records(message: bytes, at: int = 0) -> Iterator[Record]:
    """Read the records that stand in `message` from octet `at` on.

    Raises:
        ValueError: as unpack_data().
    """
    end = len(message)
    while at < end:
        if end - at < RECORD_HLEN:
            raise ValueError(f"record at octet {at}: {end - at} octets are no header")
        (length, flags, segment_size, family, port, cookie, address, id_no, scope) = (
            _RECORD.unpack_from(message, at)
        )
        if not RECORD_HLEN <= length <= end - at:
            raise ValueError(
                f"record at octet {at}: length {length} is not in {RECORD_HLEN}..{end - at}"
            )
        sa = SockaddrMhost(family, port, address, id_no, scope)
        payload = message[at + RECORD_HLEN : at + length]
        control = b""
        if flags & RECORD_CONTROL:
            flags &= ~RECORD_CONTROL
            control, payload = _split_control(at, payload)
        yield Record(sa, payload, flags, segment_size, cookie, control)
        at += -(-length // RECORD_ALIGN) * RECORD_ALIGN


def _split_control(at: int, octets: bytes) -> tuple[bytes, bytes]:
    if len(octets) < _CONTROL.size:
        raise ValueError(f"record at octet {at}: RECORD_CONTROL, and {len(octets)} octets")
    controllen, _zero = _CONTROL.unpack_from(octets)
    limit = min(len(octets) - _CONTROL.size, CONTROL_MAX)
    if controllen % RECORD_ALIGN or controllen > limit:
        raise ValueError(
            f"record at octet {at}: {controllen} octets of control messages; "
            f"want a multiple of {RECORD_ALIGN} in 0..{limit}"
        )
    return octets[_CONTROL.size :][:controllen], octets[_CONTROL.size + controllen :]


# --- control messages ------------------------------------------------------


class _Message(msgspec.Struct, frozen=True, array_like=True, tag_field="op"):
    """On the wire: ["tag", field, field, ...]; new fields go last, with a default."""


class Hello(_Message, frozen=True, tag="hello"):
    """First of every connection; answered with a HelloReply dict as value."""

    seq: U32
    version: int
    program: Annotated[str, msgspec.Meta(max_length=64)] = ""


class Socket(_Message, frozen=True, tag="socket"):
    """socket(2); the value is the socket's number, good on this connection only."""

    seq: U32
    family: int
    type: int
    proto: int


class Bind(_Message, frozen=True, tag="bind"):
    """bind(2); the value is the port."""

    seq: U32
    sock: U32
    sa: SockaddrMhost


class Connect(_Message, frozen=True, tag="connect"):
    """connect(2); None dissolves the association, as AF_UNSPEC does in Linux."""

    seq: U32
    sock: U32
    sa: SockaddrMhost | None


class GetName(_Message, frozen=True, tag="getname"):
    """getsockname(2), or getpeername(2) if `peer`; the value is a SockaddrMhost.

    With `source` the local address of a connected socket that is bound to none is the one
    that it would send from now, as Linux has it.
    """

    seq: U32
    sock: U32
    peer: bool
    source: bool = False


class Shutdown(_Message, frozen=True, tag="shutdown"):
    """shutdown(2); `how` is SHUT_RD, SHUT_WR or SHUT_RDWR."""

    seq: U32
    sock: U32
    how: Annotated[int, msgspec.Meta(ge=0, le=2)]


class Close(_Message, frozen=True, tag="close"):
    """close(2)."""

    seq: U32
    sock: U32


class SetSockOpt(_Message, frozen=True, tag="setsockopt"):
    """setsockopt(2); the value as an int, or in octets where it is a structure."""

    seq: U32
    sock: U32
    level: int
    option: int
    value: int | Annotated[bytes, msgspec.Meta(max_length=OPTION_MAX)]


class GetSockOpt(_Message, frozen=True, tag="getsockopt"):
    """getsockopt(2); the value is an int, or octets where it is a structure."""

    seq: U32
    sock: U32
    level: int
    option: int


class Consumed(_Message, frozen=True, tag="consumed"):
    """Credit: the application took records of that many octets; not answered."""

    sock: U32
    octets: U32


class Lookup(_Message, frozen=True, tag="lookup"):
    """Text to address: `proto:address` or a host name; the value is a SockaddrMhost."""

    seq: U32
    host: Annotated[str, msgspec.Meta(max_length=HOST_NAME_MAX)]


class Resolve(_Message, frozen=True, tag="resolve"):
    """All locators of a host name, in the order of use; a list of SockaddrMhost."""

    seq: U32
    host: Annotated[str, msgspec.Meta(max_length=HOST_NAME_MAX)]


class Spell(_Message, frozen=True, tag="spell"):
    """Address to text, the other way round; the value is what Lookup would take."""

    seq: U32
    sa: SockaddrMhost


class Show(_Message, frozen=True, tag="show"):
    """A reading verb of mhostctl; the value is what `mhostctl -j` prints."""

    seq: U32
    what: Annotated[str, msgspec.Meta(max_length=32)]
    name: Annotated[str, msgspec.Meta(max_length=HOST_NAME_MAX)] = ""


class HostsAdd(_Message, frozen=True, tag="hosts_add"):
    """Bind a name to locators, in order of preference (admin socket only).

    Attributes:
        seq: comes back in the Reply.
        name: of the host.
        locators: `proto:address` or an IP literal; with a key they are hints.
        key: base64 of its public key, where it has mhostd, else empty.
        policy: "failover", "duplicate", or empty for that of the configuration.
    """

    seq: U32
    name: Annotated[str, msgspec.Meta(max_length=HOST_NAME_MAX)]
    locators: Annotated[list[str], msgspec.Meta(max_length=64)]
    key: Annotated[str, msgspec.Meta(max_length=64)] = ""
    policy: Annotated[str, msgspec.Meta(max_length=16)] = ""


class HostsDel(_Message, frozen=True, tag="hosts_del"):
    """Unbind a name, or only these of its locators (admin socket only)."""

    seq: U32
    name: Annotated[str, msgspec.Meta(max_length=HOST_NAME_MAX)]
    locators: Annotated[list[str], msgspec.Meta(max_length=64)]


class L3Set(_Message, frozen=True, tag="l3_set"):
    """Register (`up`) or remove an L3 handler of the configuration (admin only)."""

    seq: U32
    name: Annotated[str, msgspec.Meta(max_length=32)]
    up: bool


class PathDrain(_Message, frozen=True, tag="path_drain"):
    """Leave an uplink before it is lost, or (`undo`) take it back (admin only).

    Replied with the uplinks that it is about.
    """

    seq: U32
    what: Annotated[str, msgspec.Meta(max_length=64)]
    undo: bool = False


SocketRequest = (
    Bind | Connect | GetName | Shutdown | Close | SetSockOpt | GetSockOpt
)  # those that name an open socket
AdminRequest = HostsAdd | HostsDel | L3Set | PathDrain
ClientRequest = Hello | Socket | Lookup | Resolve | Spell
AnsweredRequest = ClientRequest | SocketRequest | Show | AdminRequest
Request = AnsweredRequest | Consumed


class Reply(_Message, frozen=True, tag="reply"):
    """The one answer to a request, or to a record with RECORD_REPLY.

    Attributes:
        seq: that of the request.
        errno: 0 if it was done.
        text: what went wrong and the way out, empty if nothing did.
        value: as the request's docstring says, or None.
    """

    seq: U32
    errno: int = 0
    text: str = ""
    value: Any = None


class ExtendedErr(NamedTuple):
    """An error as the error queue has it: struct sock_extended_err and its datagram.

    Attributes:
        origin: SO_EE_ORIGIN_* of linux/errqueue.h.
        type: of the ICMP message.
        code: of the ICMP message.
        info: MTU of the next hop, or pointer to the octet that is wrong, or 0.
        offender: who sent the ICMP message, or None.
        payload: of the datagram, as far as the message quotes it.
    """

    origin: int
    type: int
    code: int
    info: int
    offender: SockaddrMhost | None
    payload: bytes


class SockError(_Message, frozen=True, tag="sock_error"):
    """A datagram of this socket failed after sendto had returned.

    Attributes:
        sock: the socket.
        errno: why.
        text: the same in words.
        sa: the destination: as the application had given it if `local`, else the
            locator that the ICMP error is about.
        local: it never left this host (else an ICMP error came back).
        fatal: a connected socket gives it as SO_ERROR; the others are for the error
            queue and for translation.
        queued: for the error queue, if the socket has asked for the errors of this
            family (IP_RECVERR, IPV6_RECVERR, MHOST_RECVERR).
    """

    sock: U32
    errno: int
    text: str
    sa: SockaddrMhost
    local: bool
    fatal: bool = True
    queued: ExtendedErr | None = None


class Named(_Message, frozen=True, tag="named"):
    """What an address is called, before the first record that comes from there.

    Attributes:
        sa: a known host (family AF_MHOST), or a locator of a plug-in; port 0.
        text: what Lookup would take for it.
    """

    sa: SockaddrMhost
    text: str


class Reset(_Message, frozen=True, tag="reset"):
    """This connection has no session: say Hello and create the sockets anew."""

    text: str


Event = Reply | SockError | Named | Reset


class HelloReply(NamedTuple):
    """What the value of the reply to Hello holds.

    Attributes:
        version: of the daemon's protocol.
        instance: of this session; handles and socket numbers of another one mean
            nothing in it.
        l3: (number, name, family) of each registered handler.
        admin_socket: where the verbs that change something are taken.
        lane_socket: path of the UNIX socket that takes a socket's shared memory; empty
            if this daemon has none.
    """

    version: int
    instance: str
    l3: list[tuple[int, str, int]]
    admin_socket: str
    lane_socket: str = ""


encode = msgspec.msgpack.Encoder().encode
decode_request = msgspec.msgpack.Decoder(Request).decode
decode_event = msgspec.msgpack.Decoder(Event).decode
