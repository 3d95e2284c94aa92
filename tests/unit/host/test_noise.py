"""Noise_IK_25519_ChaChaPoly_BLAKE2s against the vector of noise-c ("noise-c-basic")."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from mhostd.host.identity import public_octets
from mhostd.host.noise import MESSAGE1_LEN, MESSAGE2_LEN, Initiator, NoiseError, Responder


def private(text: str) -> X25519PrivateKey:
    return X25519PrivateKey.from_private_bytes(bytes.fromhex(text))


INIT_S = private("e61ef9919cde45dd5f82166404bd08e38bceb5dfdfded0a34c8df7ed542214d1")
INIT_E = private("893e28b9dc6ca8d611ab664754b8ceb7bac5117349a4439a6b0569da977c464a")
RESP_S = private("4a3acbfdb163dec651dfa3194dece676d437029c62a408b4c5ea9114246e4893")
RESP_E = private("bbdb4cdbd309f1a1f2e1456967fe288cadd6f712d65dc7b7793d5e63da6b375b")
RESP_S_PUBLIC = bytes.fromhex(
    "31e0303fd6418d2f8c0e78b91f22e8caed0fbe48656dcf4767e4834f701b8f62"
)
PROLOGUE = b"Prologue123"
PAYLOAD1, MESSAGE1 = (
    b"Ludwig von Mises",
    bytes.fromhex(
        "ca35def5ae56cec33dc2036731ab14896bc4c75dbb07a61f879f8e3afa4c79440b03"
        "ddc7aac5123d06a1b23b71670e32e76c28239a7ca4ac8f784de7e44c1adb78f20587"
        "71dfd4229fbdc85c5fba3b587b1d171ce368229c7b752ac25b8faf4e7b2fab7326f0"
        "d6fa1fdbef58de623245"
    ),
)
PAYLOAD2, MESSAGE2 = (
    b"Murray Rothbard",
    bytes.fromhex(
        "95ebc60d2b1fa672c1f46a8aa265ef51bfe38e7ccb39ec5be34069f144808843d9b"
        "5a8927f0ac9655ef76833bc7e55269c081ec38c61031f76fe15b2aaaad5"
    ),
)
HASH = bytes.fromhex("45e34c56ca0de9c348e104edcf503035e5559ceed661ac22916f6f171696d994")
TRANSPORT = [
    (b"F. A. Hayek", "2c256ed08fcd08c2980f954ee4beaccb61c9581340f5dd2fd1cf3b"),
    (b"Carl Menger", "d6033f70eee20945c7c9dba304e397ee3b284ff5e00fd9efb095d3"),
    (
        b"Jean-Baptiste Say",
        "a9c068ca5d8babf72560652d8e851adbfac35c8a66e810d560863173e96adf4cfe",
    ),
    (
        "Eugen B\xf6hm von Bawerk".encode("latin-1"),
        "2a09d8f459e5927e40fdd2eddc99bdafb04e13a26f145cb5cfe9e6ba34c94331ebc17d5156",
    ),
]


def pair() -> tuple[Initiator, Responder]:
    return (
        Initiator(INIT_S, RESP_S_PUBLIC, PROLOGUE, INIT_E),
        Responder(RESP_S, PROLOGUE, RESP_E),
    )


def test_the_published_vector() -> None:
    assert public_octets(RESP_S) == RESP_S_PUBLIC
    initiator, responder = pair()
    assert initiator.write(PAYLOAD1) == MESSAGE1
    assert responder.read(MESSAGE1) == PAYLOAD1
    assert responder.remote_static == public_octets(INIT_S)
    message2, theirs = responder.write(PAYLOAD2)
    assert message2 == MESSAGE2
    payload2, ours = initiator.read(MESSAGE2)
    assert payload2 == PAYLOAD2
    assert ours.handshake_hash == theirs.handshake_hash == HASH
    assert ours.derive(b"x", 16) == theirs.derive(b"x", 16) != ours.derive(b"y", 16)
    for i, (plain, octets) in enumerate(TRANSPORT):
        sends, reads = (
            (ours.initiator, theirs.initiator)
            if i % 2 == 0
            else (theirs.responder, ours.responder)
        )
        assert sends.encrypt(i // 2, b"", plain) == bytes.fromhex(octets)
        assert reads.decrypt(i // 2, b"", bytes.fromhex(octets)) == plain


@pytest.mark.parametrize("at", range(0, len(MESSAGE1), 7))
def test_a_first_message_that_was_changed_is_refused(at: int) -> None:
    changed = bytearray(MESSAGE1)
    changed[at] ^= 1
    with pytest.raises(NoiseError):
        Responder(RESP_S, PROLOGUE, RESP_E).read(bytes(changed))


def test_a_wrong_second_message_does_no_harm() -> None:
    initiator, _responder = pair()
    initiator.write(PAYLOAD1)
    for wrong in (MESSAGE2[:-1] + b"\0", bytes(len(MESSAGE2)), MESSAGE2[: MESSAGE2_LEN - 1]):
        with pytest.raises(NoiseError):
            initiator.read(wrong)
    assert initiator.read(MESSAGE2)[0] == PAYLOAD2


def test_short_messages_and_keys_of_small_order() -> None:
    with pytest.raises(NoiseError, match="want 96"):
        Responder(RESP_S, PROLOGUE).read(bytes(MESSAGE1_LEN - 1))
    with pytest.raises(NoiseError, match="small order"):
        Responder(RESP_S, PROLOGUE).read(bytes(MESSAGE1_LEN))
    with pytest.raises(NoiseError, match="small order"):
        Initiator(INIT_S, bytes(32), PROLOGUE).write(b"")
