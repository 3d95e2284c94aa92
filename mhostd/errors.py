"""How things go wrong, once for each direction.

Downward (an application asked for something): raise `MhostError`. It is an
`OSError`, so its errno and text cross ZeroMQ and the client raises what a
kernel socket would have raised.

Upward (a frame arrived): return an `End`: a `Verdict` or a `DropReason`. Nobody waits
for an exception there; `NetCore.netif_receive_skb` counts it, once, for everyone.
"""

from __future__ import annotations

import enum


class MhostError(OSError):
    """A request the stack refuses.

    Attributes:
        errno: what the application will see.
        strerror: names the call, the value, the limit and the way out.
    """

    errno: int
    strerror: str


class HostUnresolvedError(MhostError):
    """Nobody bound this name and no resolver answered for it yet.

    Attributes:
        name: the host name to resolve; the send may be tried again afterwards.
    """

    def __init__(self, err: int, text: str, name: str) -> None:
        super().__init__(err, text)
        self.name = name


class Verdict(enum.StrEnum):
    """How a frame ended that was not dropped."""

    DELIVERED = "delivered"  # on a socket's queue
    ANSWERED = "answered"  # an echo or a timestamp, sent back
    CONSUMED = "consumed"  # a control message that was acted on
    HELD = "held"  # a fragment that waits for the others; it ends with them


class DropReason(enum.StrEnum):
    """Why a frame was dropped; names follow Linux `enum skb_drop_reason`."""

    PKT_TOO_SMALL = "pkt_too_small"  # shorter than its headers or lengths say
    UNHANDLED_PROTO = "unhandled_proto"  # no handler for EtherType or family
    IP_INHDR = "ip_inhdr"  # an L3 header field has a value it may not have
    IP_CSUM = "ip_csum"  # IPv4 header checksum
    IP_NOPROTO = "ip_noproto"  # no L4 handler for this protocol number
    PKT_TOO_BIG = "pkt_too_big"  # fragments of more than 65535 octets
    DUP_FRAG = "dup_frag"  # the same fragment again
    FRAG_OVERLAP = "frag_overlap"  # fragments that overlap, RFC 5722; all of them
    FRAG_REASM_TIMEOUT = "frag_reasm_timeout"  # the rest did not come in time
    FRAG_EVICTED = "frag_evicted"  # held for too long where too much is held
    IP_INVALID_SOURCE = "ip_invalid_source"  # a source that no host may have
    OTHERHOST = "otherhost"  # not addressed to us
    ICMP_CSUM = "icmp_csum"  # ICMP or ICMPv6 checksum
    ICMP_TYPE = "icmp_type"  # an ICMP message that nothing here acts on
    UDP_HDR = "udp_hdr"  # a UDP length below 8 (RFC 768)
    UDP_CSUM = "udp_csum"  # UDP checksum
    NO_SOCKET = "no_socket"  # nobody has the port
    SOCKET_FILTER = "socket_filter"  # connected to somebody else
    SOCKET_RCVBUFF = "socket_rcvbuff"  # the socket's receive buffer is full
    SHIM_MALFORMED = "shim_malformed"  # on the association port, and not of our protocol
    SHIM_NO_SESSION = "shim_no_session"  # of an association that there is not, or no more
    SHIM_TAG = "shim_tag"  # not from the peer: its tag or seal is wrong
    SHIM_REPLAYED = "shim_replayed"  # it has come before, over this path or another
    SHIM_NO_SOCKET = "shim_no_socket"  # nobody here has the port that it is for
    SHIM_LATE = "shim_late"  # later than its socket wants it (MHOST_FRESHNESS)
    SHIM_REFUSED = "shim_refused"  # a handshake that is not ours, or too many of them
    CPU_BACKLOG = "cpu_backlog"  # too many frames wait for the walk
    DEV_READY = "dev_ready"  # going out: the device is down
    FULL_RING = "full_ring"  # going out: the device takes no more


End = Verdict | DropReason
OUTGOING = (DropReason.DEV_READY, DropReason.FULL_RING)  # what was not received
