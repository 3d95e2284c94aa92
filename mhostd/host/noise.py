"""Noise_IK_25519_ChaChaPoly_BLAKE2s (the Noise Protocol Framework, revision 34).

    IK:
      <- s
      ...
      -> e, es, s, ss
      <- e, ee, se

The initiator knows the responder's static key; both know the other's when it is done.
"""

from __future__ import annotations

import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305

from mhostd.host.identity import KEY_LEN, public_octets

PROTOCOL_NAME = b"Noise_IK_25519_ChaChaPoly_BLAKE2s"
TAG_LEN = 16
MESSAGE1_LEN = KEY_LEN + KEY_LEN + TAG_LEN + TAG_LEN  # and the payload
MESSAGE2_LEN = KEY_LEN + TAG_LEN  # and the payload

_NONCE = struct.Struct("<4xQ")  # section 12.3


class NoiseError(ValueError):
    """A message is not what the other side of this handshake would have sent."""


class ReplayedError(NoiseError):
    """A message has come before."""


def _hash(octets: bytes) -> bytes:
    return hashlib.blake2s(octets).digest()


def _hkdf(chaining_key: bytes, material: bytes, n: int) -> list[bytes]:
    """HKDF of section 4.3, with HMAC-BLAKE2s: `n` outputs of 32 octets, 2 or 3."""
    temp = hmac.digest(chaining_key, material, "blake2s")
    outputs = [b""]
    for i in range(1, n + 1):
        outputs.append(hmac.digest(temp, outputs[-1] + bytes([i]), "blake2s"))
    return outputs[1:]


class CipherState:
    """A key; the nonce is given with each message (sections 5.1 and 11.4)."""

    __slots__ = ("_aead",)

    def __init__(self, key: bytes) -> None:
        self._aead = ChaCha20Poly1305(key)

    def encrypt(self, n: int, ad: bytes, plaintext: bytes) -> bytes:
        """Encrypt with nonce `n`; 16 octets longer than the plaintext."""
        return self._aead.encrypt(_NONCE.pack(n), plaintext, ad)

    def decrypt(self, n: int, ad: bytes, ciphertext: bytes) -> bytes:
        """Decrypt; NoiseError if it was made with another key, nonce or `ad`."""
        try:
            return self._aead.decrypt(_NONCE.pack(n), ciphertext, ad)
        except InvalidTag:
            raise NoiseError("wrong tag") from None


class Keys:
    """What a finished handshake leaves (section 5.2, Split).

    Attributes:
        initiator: cipher of what the initiator sends.
        responder: cipher of what the responder sends.
        handshake_hash: 32 octets, the same at both ends and in no other handshake.
        more: 32 octets, a third output of Split's HKDF, from which other keys are made.
    """

    __slots__ = ("handshake_hash", "initiator", "more", "responder")

    def __init__(self, chaining_key: bytes, handshake_hash: bytes) -> None:
        k1, k2, self.more = _hkdf(chaining_key, b"", 3)
        self.initiator, self.responder = CipherState(k1), CipherState(k2)
        self.handshake_hash = handshake_hash

    def derive(self, label: bytes, octets: int) -> bytes:
        """Another key, 1 to 32 octets, for a label of at most 32."""
        return hashlib.blake2s(label, digest_size=octets, key=self.more).digest()


class _Symmetric:
    """SymmetricState (section 5.2)."""

    def __init__(self, prologue: bytes) -> None:
        # A name longer than a hash (33 octets here, 32 there) is hashed.
        self.ck = self.h = _hash(PROTOCOL_NAME)
        self.mix_hash(prologue)
        self._cipher: CipherState | None = None
        self._n = 0

    def mix_hash(self, octets: bytes) -> None:
        self.h = _hash(self.h + octets)

    def mix_key(self, private: X25519PrivateKey, public: bytes) -> None:
        try:
            shared = private.exchange(X25519PublicKey.from_public_bytes(public))
        except ValueError:  # of small order: the secret would be all zeros
            raise NoiseError("the public key is of small order") from None
        self.ck, key = _hkdf(self.ck, shared, 2)
        self._cipher, self._n = CipherState(key), 0

    def encrypt_and_hash(self, plaintext: bytes) -> bytes:
        assert self._cipher is not None
        ciphertext = self._cipher.encrypt(self._n, self.h, plaintext)
        self._n += 1
        self.mix_hash(ciphertext)
        return ciphertext

    def decrypt_and_hash(self, ciphertext: bytes) -> bytes:
        assert self._cipher is not None
        plaintext = self._cipher.decrypt(self._n, self.h, ciphertext)
        self._n += 1
        self.mix_hash(ciphertext)
        return plaintext


class Initiator:
    """The side that sends first."""

    def __init__(
        self,
        static: X25519PrivateKey,
        remote_static: bytes,
        prologue: bytes,
        ephemeral: X25519PrivateKey | None = None,
    ) -> None:
        """Begin; `ephemeral` is given by tests alone."""
        self._s, self._rs = static, remote_static
        self._e = ephemeral or X25519PrivateKey.generate()
        self._state = _Symmetric(prologue)
        self._state.mix_hash(remote_static)

    def write(self, payload: bytes) -> bytes:
        """The first message, 96 octets and the payload."""
        state = self._state
        e = public_octets(self._e)
        state.mix_hash(e)
        state.mix_key(self._e, self._rs)
        s = state.encrypt_and_hash(public_octets(self._s))
        state.mix_key(self._s, self._rs)
        return e + s + state.encrypt_and_hash(payload)

    def read(self, message: bytes) -> tuple[bytes, Keys]:
        """Read the second message: its payload, and the keys.

        A message that is none leaves this as it was: the right one may come later.

        Raises:
            NoiseError: the responder has not sent it.
        """
        if len(message) < MESSAGE2_LEN:
            raise NoiseError(f"message of {len(message)} octets; want {MESSAGE2_LEN}")
        before = self._state.ck, self._state.h
        try:
            return self._read(message)
        except NoiseError:
            self._state.ck, self._state.h = before
            raise

    def _read(self, message: bytes) -> tuple[bytes, Keys]:
        state = self._state
        re = message[:KEY_LEN]
        state.mix_hash(re)
        state.mix_key(self._e, re)
        state.mix_key(self._s, re)
        payload = state.decrypt_and_hash(message[KEY_LEN:])
        return payload, Keys(state.ck, state.h)


class Responder:
    """The side that answers.

    Attributes:
        remote_static: 32 octets, who it is, once read() has returned.
    """

    def __init__(
        self,
        static: X25519PrivateKey,
        prologue: bytes,
        ephemeral: X25519PrivateKey | None = None,
    ) -> None:
        """Begin; `ephemeral` is given by tests alone."""
        self._s = static
        self._e = ephemeral
        self._re = b""
        self.remote_static = b""
        self._state = _Symmetric(prologue)
        self._state.mix_hash(public_octets(static))

    def read(self, message: bytes) -> bytes:
        """Read the first message; its payload.

        Raises:
            NoiseError: nobody who knows our key has sent it.
        """
        if len(message) < MESSAGE1_LEN:
            raise NoiseError(f"message of {len(message)} octets; want {MESSAGE1_LEN}")
        state = self._state
        self._re = message[:KEY_LEN]
        state.mix_hash(self._re)
        state.mix_key(self._s, self._re)
        end = KEY_LEN + KEY_LEN + TAG_LEN
        self.remote_static = state.decrypt_and_hash(message[KEY_LEN:end])
        state.mix_key(self._s, self.remote_static)
        return state.decrypt_and_hash(message[end:])

    def write(self, payload: bytes) -> tuple[bytes, Keys]:
        """The second message, 48 octets and the payload, and the keys."""
        state = self._state
        ephemeral = self._e or X25519PrivateKey.generate()
        e = public_octets(ephemeral)
        state.mix_hash(e)
        state.mix_key(ephemeral, self._re)
        state.mix_key(ephemeral, self.remote_static)
        return e + state.encrypt_and_hash(payload), Keys(state.ck, state.h)
