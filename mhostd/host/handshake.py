"""Handshakes: INIT, RESPONSE and COOKIE, and what they cost before anything is proven.

As in WireGuard (section 5.3 and 5.4 of its paper) two codes follow the Noise message of
INIT: mac1 shows that the sender knows whom it asks, mac2 that it receives at the address it
sends from. Under load nothing expensive is done for an INIT without a right mac2; the
answer then is COOKIE, smaller than the question.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable
from dataclasses import dataclass

from mhostd.host.identity import Identity
from mhostd.host.noise import Initiator, Keys, NoiseError, Responder
from mhostd.host.wire import (
    COOKIE,
    COOKIE_LEN,
    COOKIE_PACKET_LEN,
    HLEN,
    INIT,
    INIT_LEN,
    MAC_LEN,
    RESPONSE,
    RESPONSE_LEN,
    WireError,
    emit_header,
    init_payload,
    parse_header,
    parse_init_payload,
    parse_response_payload,
    response_payload,
)

PROLOGUE = b"mhostd association 1"
COOKIE_LIFE_S = 120.0  # and as long again, until the secret before is forgotten
LOAD_INITS = 20  # INITs a second that are answered without a cookie


def _mac(key: bytes, octets: bytes) -> bytes:
    return hashlib.blake2s(octets, digest_size=MAC_LEN, key=key).digest()


def mac1_key(public_key: bytes) -> bytes:
    """The key of mac1 of what is sent to the host with a public key."""
    return hashlib.blake2s(b"mhostd mac1" + public_key).digest()


class Initiation:
    """An INIT that was sent and has no answer yet.

    Attributes:
        local_id: association id that we shall have.
    """

    def __init__(
        self, us: Identity, remote_public: bytes, local_id: int, timestamp_ns: int
    ) -> None:
        self.local_id = local_id
        self._noise = Initiator(us.private, remote_public, PROLOGUE)
        self._message = self._noise.write(init_payload(timestamp_ns, local_id))
        self._key = mac1_key(remote_public)
        self._cookie = b""
        self._mac1s: set[bytes] = set()

    def packet(self, path: int) -> bytes:
        """INIT for one path."""
        octets = emit_header(INIT, path, self.local_id) + self._message
        mac1 = _mac(self._key, octets)
        self._mac1s.add(mac1)
        mac2 = _mac(self._cookie, octets + mac1) if self._cookie else bytes(MAC_LEN)
        return octets + mac1 + mac2

    def cookie(self, packet: bytes) -> bool:
        """COOKIE has come; whether it answers us, and INIT is to be sent again."""
        if len(packet) != COOKIE_PACKET_LEN:
            return False
        if packet[HLEN : HLEN + MAC_LEN] not in self._mac1s:
            return False
        self._cookie = packet[-COOKIE_LEN:]
        return True

    def response(self, packet: bytes) -> tuple[int, Keys]:
        """RESPONSE has come: the peer's association id, and the keys.

        Raises:
            NoiseError, WireError: it is none; the right one may still come.
        """
        if len(packet) != RESPONSE_LEN:
            raise WireError(f"RESPONSE of {len(packet)} octets; want {RESPONSE_LEN}")
        payload, keys = self._noise.read(packet[HLEN:])
        return parse_response_payload(payload), keys


@dataclass(frozen=True, slots=True)
class Invitation:
    """An INIT that is right.

    Attributes:
        public: 32 octets, whose it is.
        timestamp_ns: of its making; greater than that of the peer's earlier ones.
        remote_id: the peer's association id.
        answer: makes RESPONSE, given our association id.
    """

    public: bytes
    timestamp_ns: int
    remote_id: int
    answer: Callable[[int, int], tuple[bytes, Keys]]


class Doorkeeper:
    """Who looks at each INIT before anybody does anything expensive for it."""

    def __init__(self, us: Identity, random: Callable[[int], bytes]) -> None:
        """Begin; `random` gives that many octets that nobody can guess."""
        self._us = us
        self._key = mac1_key(us.public)
        self._random = random
        self._secrets = [random(32), b""]
        self._secret_s = 0.0
        self._second_s = 0.0
        self._inits = 0

    def admit(self, packet: bytes, source: bytes, now: float) -> bytes | None:
        """Whether an INIT may cost us something.

        Args:
            packet: the INIT.
            source: octets that name where it came from.
            now: seconds of a monotonic clock.

        Returns:
            None if it may; else what to send back: COOKIE, or nothing.
        """
        if len(packet) != INIT_LEN:
            return b""
        before = packet[: -2 * MAC_LEN]
        mac1, mac2 = packet[-2 * MAC_LEN : -MAC_LEN], packet[-MAC_LEN:]
        if not hmac.compare_digest(mac1, _mac(self._key, before)):
            return b""
        if now - self._second_s >= 1:
            self._second_s, self._inits = now, 0
        if self._inits < LOAD_INITS:
            self._inits += 1
            return None
        for secret in self._secrets_now(now):
            cookie = _mac(secret, source)
            if hmac.compare_digest(mac2, _mac(cookie, before + mac1)):
                return None
        cookie = _mac(self._secrets[0], source)
        return emit_header(COOKIE, 0, parse_header(packet).id) + mac1 + cookie

    def _secrets_now(self, now: float) -> list[bytes]:
        age = now - self._secret_s
        if age >= COOKIE_LIFE_S:
            before = self._secrets[0] if age < 2 * COOKIE_LIFE_S else b""
            self._secrets, self._secret_s = [self._random(32), before], now
        return [secret for secret in self._secrets if secret]

    def read(self, packet: bytes) -> Invitation:
        """Read an INIT that was admitted; a few hundred microseconds.

        Raises:
            NoiseError, WireError: it is none.
        """
        noise = Responder(self._us.private, PROLOGUE)
        stamp, remote_id = parse_init_payload(noise.read(packet[HLEN : -2 * MAC_LEN]))
        if remote_id != parse_header(packet).id:
            raise WireError("INIT with two association ids")
        if noise.remote_static == self._us.public:
            raise NoiseError("INIT of ourselves")

        def answer(local_id: int, path: int) -> tuple[bytes, Keys]:
            message, keys = noise.write(response_payload(local_id))
            return emit_header(RESPONSE, path, remote_id) + message, keys

        return Invitation(noise.remote_static, stamp, remote_id, answer)
