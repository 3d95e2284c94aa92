"""The security session of _native in plain Python: specification, fallback and oracle.

    octet  0     1     2     3     4           8                 16
           +-----+-----+-----+-----+-----------+-----------------+---------+---------+
           |v t  |next |path | 0   | id        | sequence number | inner   | tag: 16 |
           +-----+-----+-----+-----+-----------+-----------------+---------+---------+

v is the version, 1, and t the type, 5 for data; `next` is the IP protocol of what is
inside, `path` the sender's number of the path, `id` the receiver's of the session. The
tag is SipHash-2-4-128 over all that is in front of it. All is in network order.
"""

from __future__ import annotations

import errno
import hmac
import struct

Buffer = bytes | bytearray | memoryview

_HDR = struct.Struct("!BBBBIQ")
_DATA = 0x15  # version 1, type 5
_KEY = _TAG = 16  # octets
_OVERHEAD = _HDR.size + _TAG
_WORD = 0xFFFF_FFFF_FFFF_FFFF

INNER_MAX = 0xFFFF - _OVERHEAD
SEQ_MAX = _WORD - 1  # the last that is sent
WINDOW = 8192  # sequence numbers, the highest one included
_SEEN = (1 << WINDOW) - 1

OK, MALFORMED, REPLAYED, BAD_TAG = 0, -1, -2, -3  # what may become of a packet


def siphash128(key: Buffer, data: Buffer, more: Buffer = b"", /) -> bytes:
    """SipHash-2-4 with 128 bits, in the octets of the reference implementation.

    Args:
        key: 16 octets.
        data: the message, or the first piece of it.
        more: what follows `data`.

    Returns:
        16 octets.

    Raises:
        ValueError: the key has another length.
    """
    view = memoryview(key)
    if view.nbytes != _KEY:
        raise ValueError(f"siphash128: key of {view.nbytes} octets; want {_KEY}")
    k0, k1 = struct.unpack("<2Q", view)
    v0, v1 = k0 ^ 0x736F6D6570736575, k1 ^ 0x646F72616E646F6D ^ 0xEE
    v2, v3 = k0 ^ 0x6C7967656E657261, k1 ^ 0x7465646279746573
    message = b"".join((data, more))
    whole = len(message) // 8
    rest = message[8 * whole :].ljust(7, b"\0") + bytes([len(message) & 0xFF])
    for word in struct.unpack(f"<{whole + 1}Q", message[: 8 * whole] + rest):
        v0, v1, v2, v3 = _sip_rounds(v0, v1, v2, v3 ^ word, 2)
        v0 ^= word
    v0, v1, v2, v3 = _sip_rounds(v0, v1, v2 ^ 0xEE, v3, 4)
    low = v0 ^ v1 ^ v2 ^ v3
    v0, v1, v2, v3 = _sip_rounds(v0, v1 ^ 0xDD, v2, v3, 4)
    return struct.pack("<2Q", low, v0 ^ v1 ^ v2 ^ v3)


def _sip_rounds(v0: int, v1: int, v2: int, v3: int, rounds: int) -> tuple[int, int, int, int]:
    for _ in range(rounds):
        v0 = v0 + v1 & _WORD
        v2 = v2 + v3 & _WORD
        v1 = (v1 << 13 & _WORD | v1 >> 51) ^ v0
        v3 = (v3 << 16 & _WORD | v3 >> 48) ^ v2
        v0 = v0 << 32 & _WORD | v0 >> 32
        v2 = v2 + v1 & _WORD
        v0 = v0 + v3 & _WORD
        v1 = (v1 << 17 & _WORD | v1 >> 47) ^ v2
        v3 = (v3 << 21 & _WORD | v3 >> 43) ^ v0
        v2 = v2 << 32 & _WORD | v2 >> 32
    return v0, v1, v2, v3


class Shim:
    """The data plane of one security session, both ways.

    Attributes:
        tx_seq: the last sequence number that was given out, 0 for none.
        rx_max: the highest that came, 0 for none.
    """

    tx_seq: int
    rx_max: int

    def __init__(self, rx_key: bytes, tx_key: bytes, remote_id: int) -> None:
        """A session in which nothing was sent or received.

        Args:
            rx_key: 16 octets, for what comes.
            tx_key: 16 octets, for what goes out.
            remote_id: the other side's number of the session, 1..0xffffffff.

        Raises:
            ValueError: a key has another length, or the number is out of range.
        """
        for name, key in (("rx_key", rx_key), ("tx_key", tx_key)):
            if len(key) != _KEY:
                raise ValueError(f"Shim: {name} of {len(key)} octets; want {_KEY}")
        _check("Shim: remote_id", remote_id, 1, 0xFFFF_FFFF)
        self._rx_key, self._tx_key, self._remote_id = rx_key, tx_key, remote_id
        self.tx_seq = self.rx_max = 0
        self._seen = 0  # bit i: rx_max - i came
        self._counts = {OK: 0, MALFORMED: 0, REPLAYED: 0, BAD_TAG: 0}
        self._sent: dict[int, int] = {}
        self._received: dict[int, tuple[int, int]] = {}

    def next(self) -> int:
        """Take a sequence number, for one datagram on several paths.

        Raises:
            OSError: EOVERFLOW; they are used up, and a new session is due.
        """
        return self._next("next")

    def seal(self, path: int, next_: int, inner: Buffer, /) -> bytes:
        """Make a packet, which counts as sent on its path.

        Args:
            path: our number of the path, 0..255.
            next_: IP protocol of what is inside, 0..255.
            inner: the inner packet, at most INNER_MAX octets.

        Raises:
            ValueError: something is out of range.
            OSError: EOVERFLOW, as of next().
        """
        _check_sent("seal", path, next_, None, inner)
        return self._emit(path, next_, self._next("seal"), inner)

    def seal_as(self, path: int, next_: int, seq: int, inner: Buffer, /) -> bytes:
        """seal() with a sequence number that the caller has of next().

        Args:
            path: as of seal().
            next_: as of seal().
            seq: 1..SEQ_MAX; neither it nor one below it is given out any more.
            inner: as of seal().

        Raises:
            ValueError: something is out of range.
        """
        _check_sent("seal_as", path, next_, seq, inner)
        self.tx_seq = max(self.tx_seq, seq)
        return self._emit(path, next_, seq, inner)

    def open(self, packet: Buffer, /) -> tuple[int, int, int, bytes] | int:
        """Check a packet, and count it.

        A tag is checked of every packet, and first: what is seen again counts as
        received on its path if it is genuine, for loss is measured from that; what is
        not genuine changes nothing but a counter. The caller has seen by the id whose
        session it is.

        Args:
            packet: from its header to its tag.

        Returns:
            `next`, path, sequence number and inner packet; or MALFORMED, BAD_TAG or
            REPLAYED: the tag is right, but the sequence number was seen before or is
            below the window.
        """
        octets = bytes(packet)
        says, result = self._open(octets)
        self._counts[says] += 1
        return says if result is None else result

    def sent(self) -> list[tuple[int, int]]:
        """Path and number of packets, for each path with any."""
        return sorted(self._sent.items())

    def received(self) -> list[tuple[int, int, int]]:
        """Path, number of packets and highest sequence number, for each with any."""
        return [(path, *counts) for path, counts in sorted(self._received.items())]

    def counts(self) -> tuple[int, int, int, int]:
        """Packets that came: good, malformed, replayed, with a bad tag."""
        counts = self._counts
        return counts[OK], counts[MALFORMED], counts[REPLAYED], counts[BAD_TAG]

    def _next(self, call: str) -> int:
        if self.tx_seq >= SEQ_MAX:
            raise OSError(
                errno.EOVERFLOW,
                f"{call}: no sequence number after {SEQ_MAX}; a new session is due",
            )
        self.tx_seq += 1
        return self.tx_seq

    def _emit(self, path: int, next_: int, seq: int, inner: Buffer) -> bytes:
        packet = _HDR.pack(_DATA, next_, path, 0, self._remote_id, seq) + bytes(inner)
        self._sent[path] = self._sent.get(path, 0) + 1
        return packet + siphash128(self._tx_key, packet)

    def _open(self, packet: bytes) -> tuple[int, tuple[int, int, int, bytes] | None]:
        if not _OVERHEAD <= len(packet) <= _OVERHEAD + INNER_MAX:
            return MALFORMED, None
        first, next_, path, flags, _id, seq = _HDR.unpack_from(packet)
        if first != _DATA or flags or not seq:
            return MALFORMED, None
        if not hmac.compare_digest(siphash128(self._rx_key, packet[:-_TAG]), packet[-_TAG:]):
            return BAD_TAG, None
        count, highest = self._received.get(path, (0, 0))
        self._received[path] = count + 1, max(highest, seq)
        if not self._mark(seq):
            return REPLAYED, None
        return OK, (next_, path, seq, packet[_HDR.size : -_TAG])

    def _mark(self, seq: int) -> bool:
        """Whether a sequence number is new, which it then is no more."""
        ahead = seq - self.rx_max
        if ahead > 0:
            self.rx_max = seq
            self._seen = (self._seen << ahead | 1) & _SEEN if ahead < WINDOW else 1
            return True
        if -ahead >= WINDOW or self._seen >> -ahead & 1:
            return False
        self._seen |= 1 << -ahead
        return True


def _check(name: str, value: int, least: int, most: int) -> None:
    if not least <= value <= most:
        raise ValueError(f"{name} {value} is not in {least}..{most}")


def _check_sent(call: str, path: int, next_: int, seq: int | None, inner: Buffer) -> None:
    _check(f"{call}: path", path, 0, 0xFF)
    _check(f"{call}: next", next_, 0, 0xFF)
    if seq is not None:
        _check(f"{call}: seq", seq, 1, SEQ_MAX)
    if len(inner) > INNER_MAX:
        raise ValueError(f"{call}: inner of {len(inner)} octets exceeds {INNER_MAX}")
