"""A session: the keys of one handshake, for control (sealed) and for data (tagged)."""

from __future__ import annotations

from mhostd import native
from mhostd.host.noise import Keys, ReplayedError
from mhostd.host.wire import CONTROL, HLEN, Header, emit_header

WINDOW = 1024  # control packets that may come after a later one

REKEY_S = 600.0  # age at which the initiator makes a new one
REKEY_LATE_S = 630.0  # and the responder, if that did not
REJECT_S = 900.0  # age at which it is of no use any more


class ReplayWindow:
    """Which sequence numbers have come (RFC 4303 section 3.4.3)."""

    __slots__ = ("_bits", "highest")

    def __init__(self) -> None:
        self.highest = 0
        self._bits = 0

    def seen(self, seq: int) -> bool:
        """Whether a number has come, or could have: it is too old to be told."""
        age = self.highest - seq
        return seq == 0 or (age >= 0 and (age >= WINDOW or bool(self._bits >> age & 1)))

    def mark(self, seq: int) -> None:
        """A number has come that was not seen."""
        if seq > self.highest:
            self._bits = (self._bits << seq - self.highest | 1) & ((1 << WINDOW) - 1)
            self.highest = seq
        else:
            self._bits |= 1 << self.highest - seq


class Session:
    """One of them.

    Attributes:
        local_id: association id in what comes.
        remote_id: association id in what goes.
        initiator: we have made the handshake.
        made_s: when.
        heard_s: when the peer used it last.
        confirmed: the peer has shown that it has the keys.
        shim: what seals and opens DATA.
        reported: what the last report said.
    """

    __slots__ = (
        "_rx",
        "_seq",
        "_tx",
        "_window",
        "confirmed",
        "heard_s",
        "initiator",
        "local_id",
        "made_s",
        "remote_id",
        "reported",
        "shim",
    )

    def __init__(
        self, keys: Keys, local_id: int, remote_id: int, initiator: bool, now: float
    ) -> None:
        self.local_id, self.remote_id = local_id, remote_id
        self.initiator = initiator
        self.made_s = self.heard_s = now
        self.confirmed = initiator
        self._tx, self._rx = keys.initiator, keys.responder
        tx, rx = keys.derive(b"data initiator", 16), keys.derive(b"data responder", 16)
        if not initiator:
            self._tx, self._rx = self._rx, self._tx
            tx, rx = rx, tx
        self.shim = native.Shim(rx, tx, remote_id)
        self._seq = 0
        self._window = ReplayWindow()
        self.reported: list[tuple[int, int, int]] = []

    def seal(self, path: int, messages: bytes) -> bytes:
        """A CONTROL packet."""
        self._seq += 1
        header = emit_header(CONTROL, path, self.remote_id, self._seq)
        return header + self._tx.encrypt(self._seq, header, messages)

    def open(self, header: Header, packet: bytes) -> tuple[bytes, bool]:
        """Read a CONTROL packet: its messages, and whether none after it came before.

        Raises:
            NoiseError: it is not the peer's, or (ReplayedError) has come before.
        """
        if self._window.seen(header.seq):
            raise ReplayedError("replayed")
        messages = self._rx.decrypt(header.seq, packet[:HLEN], packet[HLEN:])
        newest = header.seq > self._window.highest
        self._window.mark(header.seq)
        return messages, newest
