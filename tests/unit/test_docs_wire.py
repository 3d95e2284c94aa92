"""docs/wire.md: its octets are what the code makes and takes, and what others compute."""

from __future__ import annotations

import hashlib
import hmac
import importlib
import re
import shutil
import struct
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mhostd.host import handshake, identity, noise, wire
from mhostd.host.handshake import Doorkeeper, Initiation
from mhostd.host.identity import Identity, identifier_ntop, key_ntop
from mhostd.host.session import Session
from mhostd.native import _pure_shim
from mhostd.sock import Locator

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "wire.md").read_text()


def octets_of(text: str) -> bytes:
    """What a hex block says; what is behind a ";" is a comment."""
    return bytes.fromhex("".join(row.partition(";")[0] for row in text.splitlines()))


PACKETS = {
    name: octets_of(rows)
    for name, rows in re.findall(r"<!-- hex: (\S+) -->\n\n```hex\n(.*?)```", TEXT, re.DOTALL)
}
MESSAGES = {
    name: (octets_of(rows), line)
    for name, rows, line in re.findall(
        r"<!-- message: (\S+) -->\n\n```hex\n(.*?)```\n\n```python\n(.*?)```", TEXT, re.DOTALL
    )
}
VALUES = {
    name: bytes.fromhex(octets)
    for name, octets in re.findall(r"^\| ([\w ]+) \| `([0-9a-f]+)` \|$", TEXT, re.MULTILINE)
}
STAMP_NS, ID_A, ID_B = 1_750_000_000_000_000_000, 0x01020304, 0x0A0B0C0D


def test_every_block_is_looked_at():
    assert TEXT.count("```hex") == len(PACKETS) + len(MESSAGES)
    assert TEXT.count("| `") >= len(VALUES) == 14


# --- by our code


@pytest.fixture
def ends(monkeypatch):
    """A and B after their handshake, and the packets of it."""

    def ephemeral(name: str) -> None:
        key = X25519PrivateKey.from_private_bytes(VALUES[f"{name} ephemeral"])
        stand_in = SimpleNamespace(generate=lambda: key)
        monkeypatch.setattr(noise, "X25519PrivateKey", stand_in)

    a, b = (Identity.from_private(VALUES[f"{name} private"]) for name in "AB")
    ephemeral("A")
    initiation = Initiation(a, b.public, ID_A, STAMP_NS)
    init = initiation.packet(0)
    door = Doorkeeper(b, bytes)
    assert door.admit(init, b"", 0.0) is None
    invitation = door.read(PACKETS["init"])
    assert (invitation.public, invitation.timestamp_ns) == (a.public, STAMP_NS)
    assert invitation.remote_id == ID_A
    ephemeral("B")
    response, keys_b = invitation.answer(ID_B, 2)
    remote_id, keys_a = initiation.response(PACKETS["response"])
    assert remote_id == ID_B
    return SimpleNamespace(
        initiation=initiation,
        init=init,
        response=response,
        keys=(keys_a, keys_b),
        a=Session(keys_a, ID_A, ID_B, True, 0.0),
        b=Session(keys_b, ID_B, ID_A, False, 0.0),
    )


def test_the_handshake_is_what_the_code_makes_and_takes(ends):
    assert ends.init.hex(" ") == PACKETS["init"].hex(" ")
    assert ends.response.hex(" ") == PACKETS["response"].hex(" ")
    for keys in ends.keys:
        assert keys.handshake_hash == VALUES["handshake hash"]
        assert keys.more == VALUES["more"]
        for label in ("data initiator", "data responder"):
            assert keys.derive(label.encode(), 16) == VALUES[label]


def test_the_identities_are_those_of_the_code():
    for name in "AB":
        us = Identity.from_private(VALUES[f"{name} private"])
        assert us.public == VALUES[f"{name} public"]
        assert us.identifier == VALUES[f"{name} identifier"]
    us = Identity.from_private(VALUES["A private"])
    assert (
        f"A is {identifier_ntop(us.identifier)}, with the key `{key_ntop(us.public)}`" in TEXT
    )
    assert VALUES["context id"] == identity.CONTEXT_ID
    assert handshake.mac1_key(VALUES["B public"]) == VALUES["mac1 key of B"]


def test_the_cookie_is_taken_and_mac2_made(ends):
    assert ends.initiation.cookie(PACKETS["cookie"])
    again = ends.initiation.packet(0)
    assert again == PACKETS["init"][:-16] + PACKETS["mac2"]


def test_a_doorkeeper_under_load_makes_such_a_cookie_and_takes_the_mac2_of_it():
    b = Identity.from_private(VALUES["B private"])
    door = Doorkeeper(b, bytes)
    init = PACKETS["init"]
    for _ in range(handshake.LOAD_INITS):
        assert door.admit(init, b"here", 0.0) is None
    cookie = door.admit(init, b"here", 0.0)
    assert cookie[:32] == PACKETS["cookie"][:32]
    assert len(cookie) == len(PACKETS["cookie"])
    mac2 = hashlib.blake2s(init[:-16], digest_size=16, key=cookie[32:]).digest()
    assert door.admit(init[:-16] + mac2, b"here", 0.0) is None
    assert door.admit(init[:-16] + mac2, b"there", 0.0) not in (None, b"")


@pytest.mark.parametrize("name", ["probe", "reply"])
def test_control_is_what_the_code_makes_and_takes(ends, name):
    packet, messages = PACKETS[f"control-{name}"], MESSAGES[name][0]
    sender, receiver = (ends.a, ends.b) if name == "probe" else (ends.b, ends.a)
    assert sender.seal(packet[2], messages).hex(" ") == packet.hex(" ")
    assert receiver.open(wire.parse_header(packet), packet) == (messages, True)
    with pytest.raises(noise.NoiseError):  # it comes again
        receiver.open(wire.parse_header(packet), packet)


@pytest.mark.parametrize("twin", [False, True])
def test_data_is_what_the_code_makes_and_takes(ends, twin):
    a, b = ends.a.shim, ends.b.shim
    if twin:
        tx, rx = VALUES["data initiator"], VALUES["data responder"]
        a, b = _pure_shim.Shim(rx, tx, ID_B), _pure_shim.Shim(tx, rx, ID_A)
    packet = PACKETS["data"]
    inner = packet[16:-16]
    assert a.seal(0, 17, inner).hex(" ") == packet.hex(" ")
    assert b.open(packet) == (17, 0, 1, inner)
    assert b.open(packet) == _pure_shim.REPLAYED
    assert b.open(packet[:-1] + b"\0") == _pure_shim.BAD_TAG


@pytest.mark.parametrize("name", MESSAGES)
def test_the_messages_are_what_the_code_makes_and_takes(name):
    octets, line = MESSAGES[name]
    messages = eval(line, {**vars(wire), "Locator": Locator})
    assert wire.emit_messages(messages).hex(" ") == octets.hex(" ")
    without_pad = [m._replace(pad=0) if isinstance(m, wire.Probe) else m for m in messages]
    assert wire.parse_messages(octets) == without_pad


# --- by others: cryptography, hashlib and openssl, and nothing of ours


def _public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _dh(private: X25519PrivateKey, public: bytes) -> bytes:
    return private.exchange(X25519PublicKey.from_public_bytes(public))


def _blake2s(octets: bytes, size: int = 32, key: bytes = b"") -> bytes:
    return hashlib.blake2s(octets, digest_size=size, key=key).digest()


def _hkdf(ck: bytes, material: bytes) -> tuple[bytes, bytes, bytes]:
    temp = hmac.digest(ck, material, "blake2s")
    first = hmac.digest(temp, b"\x01", "blake2s")
    second = hmac.digest(temp, first + b"\x02", "blake2s")
    return first, second, hmac.digest(temp, second + b"\x03", "blake2s")


def _aead(key: bytes, number: int, ad: bytes, text: bytes) -> bytes:
    return ChaCha20Poly1305(key).encrypt(struct.pack("<IQ", 0, number), text, ad)


@pytest.fixture(scope="module")
def oracle():
    """The handshake, step by step as revision 34 of the Noise document has it."""
    sa, sb, ea, eb = (
        X25519PrivateKey.from_private_bytes(VALUES[name])
        for name in ("A private", "B private", "A ephemeral", "B ephemeral")
    )
    h = ck = _blake2s(b"Noise_IK_25519_ChaChaPoly_BLAKE2s")
    h = _blake2s(h + b"mhostd association 1")
    h = _blake2s(h + _public(sb))
    # -> e, es, s, ss
    h = _blake2s(h + _public(ea))
    ck, k, _ = _hkdf(ck, _dh(ea, _public(sb)))
    s = _aead(k, 0, h, _public(sa))
    h = _blake2s(h + s)
    ck, k, _ = _hkdf(ck, _dh(sa, _public(sb)))
    payload = _aead(k, 0, h, struct.pack(">QI", STAMP_NS, ID_A))
    h = _blake2s(h + payload)
    init = b"\x11\0\0\0" + struct.pack(">IQ", ID_A, 0) + _public(ea) + s + payload
    key = _blake2s(b"mhostd mac1" + _public(sb))
    init += _blake2s(init, 16, key) + bytes(16)
    # <- e, ee, se
    h = _blake2s(h + _public(eb))
    ck, k, _ = _hkdf(ck, _dh(eb, _public(ea)))
    ck, k, _ = _hkdf(ck, _dh(eb, _public(sa)))
    payload = _aead(k, 0, h, struct.pack(">I", ID_B))
    h = _blake2s(h + payload)
    response = b"\x12\0\x02\0" + struct.pack(">IQ", ID_A, 0) + _public(eb) + payload
    k1, k2, more = _hkdf(ck, b"")
    return SimpleNamespace(init=init, response=response, h=h, k1=k1, k2=k2, more=more)


def test_another_noise_makes_the_same_handshake(oracle):
    assert oracle.init.hex(" ") == PACKETS["init"].hex(" ")
    assert oracle.response.hex(" ") == PACKETS["response"].hex(" ")
    assert (oracle.h, oracle.more) == (VALUES["handshake hash"], VALUES["more"])
    assert _blake2s(b"mhostd mac1" + VALUES["B public"]) == VALUES["mac1 key of B"]
    for label in ("data initiator", "data responder"):
        assert _blake2s(label.encode(), 16, oracle.more) == VALUES[label]
    cookie = PACKETS["cookie"]
    assert cookie[16:32] == oracle.init[-32:-16]
    assert _blake2s(oracle.init[:-16], 16, cookie[32:]) == PACKETS["mac2"]


@pytest.mark.parametrize(("name", "key"), [("probe", "k1"), ("reply", "k2")])
def test_another_aead_makes_the_same_control(oracle, name, key):
    packet = PACKETS[f"control-{name}"]
    sealed = _aead(getattr(oracle, key), 1, packet[:16], MESSAGES[name][0])
    assert packet[:16] + sealed == packet


def test_another_hash_makes_the_same_identifiers():
    context = hashlib.sha256(b"mhostd X25519 host identity").digest()[:16]
    assert context == VALUES["context id"]
    for name in "AB":
        digest = hashlib.sha256(context + VALUES[f"{name} public"]).digest()
        identifier = bytes.fromhex("20010021") + digest[10:22]
        assert identifier == VALUES[f"{name} identifier"]


def test_openssl_makes_the_same_tag(tmp_path):
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("no openssl here")
    packet = PACKETS["data"]
    (tmp_path / "message").write_bytes(packet[:-16])
    key = VALUES["data initiator"].hex()
    argv = [openssl, "mac", "-macopt", f"hexkey:{key}", "-macopt", "size:16"]
    done = subprocess.run(
        [*argv, "-in", str(tmp_path / "message"), "SIPHASH"],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        pytest.skip("this openssl has no SipHash")
    assert bytes.fromhex(done.stdout) == packet[-16:]


# --- numbers


def _rows(section: str) -> list[list[str]]:
    text = TEXT.partition(f"# {section}")[2].partition("\n##")[0]
    rows = re.findall(r"^\| (.*) \|$", text, re.MULTILINE)
    return [[cell.strip() for cell in row.split("|")] for row in rows]


def test_the_offsets_of_the_header_are_those_of_the_code():
    rows = [row for row in _rows("2. The header") if row[1].isdigit()]
    fields = {name: (int(at), int(size)) for at, size, name, _meaning in rows}
    assert list(fields) == ["version_type", "next", "path", "flags", "id", "seq"]
    packet = wire.emit_header(5, 0x33, 0x44444444, 0x5555555555555555, 0x22)
    want = {
        "version_type": 0x15,
        "next": 0x22,
        "path": 0x33,
        "flags": 0,
        "id": 0x44,
        "seq": 0x55,
    }
    for name, (at, size) in fields.items():
        assert packet[at : at + size] == bytes([want[name]]) * size
    assert len(packet) == sum(size for _at, size in fields.values())


@pytest.mark.parametrize(
    ("section", "length"),
    [
        ("3.1 INIT", wire.INIT_LEN),
        ("3.2 RESPONSE", wire.RESPONSE_LEN),
        ("3.3 COOKIE", wire.COOKIE_PACKET_LEN),
    ],
)
def test_the_fields_of_a_handshake_fill_it(section, length):
    at = 0
    rows = [row for row in _rows(section) if row[0].isdigit()]
    for row in rows:
        assert int(row[0]) == at
        at += int(row[1])
    assert at == length


def test_types_and_kinds_are_those_of_the_code():
    types = {row[1]: int(row[0]) for row in _rows("2. The header") if row[0].isdigit()}
    for name in ("INIT", "RESPONSE", "COOKIE", "CONTROL", "DATA"):
        assert types[name] == getattr(wire, name)
    kinds = {
        row[1]: int(row[0]) for row in _rows("4. CONTROL") if len(row) == 3 and row[1].isupper()
    }
    codes = (
        "PADDING",
        "PROBE",
        "REPLY",
        "REPORTS",
        "LOCATORS",
        "LOCATORS_ACK",
        "CLOSE",
        "REFUSED",
    )
    assert list(kinds.values()) == [getattr(wire, f"_{name}") for name in codes]
    assert list(kinds) == [name.removeprefix("LOCATORS_") for name in codes]


def test_the_constants_are_those_of_the_code():
    rows = re.findall(r"^\| `([\w.]+)[. ](\w+)` \| ([\d.]+) \|$", TEXT, re.MULTILINE)
    assert len(rows) == 36
    for place, name, value in rows:
        if place.endswith(".h"):
            header = (ROOT / "mhostd" / "native" / place).read_text()
            found = re.search(rf"#define {name}\s+(\d+)", header)
            assert found, name
            assert int(found[1]) == float(value)
        else:
            module = importlib.import_module(f"mhostd.host.{place}")
            assert getattr(module, name) == float(value), name


def test_the_rest_of_the_numbers():
    assert f"port {wire.PORT}" in TEXT
    assert handshake.PROLOGUE.decode() in TEXT
    assert f"DATA adds {wire.OVERHEAD} octets" in TEXT
    assert f"Version of everything here: {wire.VERSION}." in TEXT
    for ip, payload in ((20, 1432), (40, 1412)):
        assert 1500 - ip - 8 - wire.OVERHEAD - 8 == payload
        assert f"{payload} " in TEXT
