"""SkBuff: one frame on its way through the stack.

        buf  |<-- headroom -->|<------- data ------->|
                              ^ head                 ^ len(buf)

Going down, each layer calls push() to claim octets in front of the data. Coming
up, each layer calls pull() to step over its own header. Octets never move.
"""

from __future__ import annotations

MHOST_MAX_HEADER = 80  # octets: 60 IPv4 with options + 10 virtio_net_hdr + 4 tun_pi, rounded up

# linux/in.h
IP_PMTUDISC_DONT, IP_PMTUDISC_WANT, IP_PMTUDISC_DO, IP_PMTUDISC_PROBE = 0, 1, 2, 3
IP_PMTUDISC_INTERFACE, IP_PMTUDISC_OMIT = 4, 5


class SkBuff:
    """A frame and how far into it we are.

    Attributes:
        protocol: EtherType.
        dev: name of the device it came from or goes to.
        l3: number of the L3 handler that carries it.
        saddr: L3 address it came from, as the handler spells it in octets.
        daddr: L3 address it came to.
        lladdr: link-layer address it came from or goes to; empty if there is none.
        ttl: time to live or hop limit it came with, or is to go with; 0 is the default.
        tos: type of service or traffic class, the same two ways.
        via: coming up, the path of an association that it took, as MHOST_PKTINFO has it.
        late_ms: coming up, how long ago a later one of its association came.
        policy: going down, MHOST_POLICY_* of its socket.
        pmtudisc: going down, IP_PMTUDISC_* of linux/in.h.
        pseudo_csum: partial sum of the L3 pseudo-header, 0 if L3 has none.
        csum_required: L3 does not allow a UDP checksum of 0 (IPv6: RFC 8200,
            section 8.1).
    """

    __slots__ = (
        "buf",
        "csum_required",
        "daddr",
        "dev",
        "family",
        "head",
        "l3",
        "late_ms",
        "lladdr",
        "pmtudisc",
        "policy",
        "protocol",
        "pseudo_csum",
        "saddr",
        "tos",
        "ttl",
        "via",
    )

    def __init__(self, buf: bytearray, head: int = 0) -> None:
        self.buf = buf
        self.head = head
        self.protocol = 0
        self.dev = ""
        self.via = ""
        self.family = 0
        self.l3 = 0
        self.saddr = b""
        self.daddr = b""
        self.lladdr = b""
        self.ttl = 0
        self.tos = 0
        self.pmtudisc = IP_PMTUDISC_WANT
        self.policy = 0
        self.late_ms = 0
        self.pseudo_csum = 0
        self.csum_required = False

    @classmethod
    def alloc(cls, payload: bytes, headroom: int = MHOST_MAX_HEADER) -> SkBuff:
        """Copy `payload` behind `headroom` octets; the only copy on the way down."""
        return cls(bytearray(headroom) + payload, headroom)

    def reassembled(self, payload: bytes) -> SkBuff:
        """Return the datagram whose last fragment this is: from and to the same."""
        whole = SkBuff(bytearray(payload))
        whole.dev, whole.saddr, whole.daddr = self.dev, self.saddr, self.daddr
        whole.ttl, whole.tos = self.ttl, self.tos
        return whole

    def __len__(self) -> int:
        return len(self.buf) - self.head

    @property
    def data(self) -> memoryview:
        """The octets from head to the end."""
        return memoryview(self.buf)[self.head :]

    def push(self, n: int) -> memoryview:
        """Claim `n` octets of headroom and return them, ready to be written."""
        if n > self.head:
            raise AssertionError(f"headroom is {self.head} octets, need {n}")
        self.head -= n
        return memoryview(self.buf)[self.head : self.head + n]

    def pull(self, n: int) -> None:
        """Step over `n` octets; the caller has checked that they are there."""
        self.head += n

    def trim(self, n: int) -> None:
        """Keep `n` octets of data; what follows is padding of the link."""
        del self.buf[self.head + n :]
