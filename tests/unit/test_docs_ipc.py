"""docs/ipc.md against mhostd.uapi: octets, tags, fields, offsets and numbers."""

from __future__ import annotations

import json
import re
import sys
from itertools import count
from pathlib import Path
from typing import get_args

import pytest

from mhostd import uapi
from mhostd.config import parse_config
from mhostd.dev import NetCore, NetDevice
from mhostd.host.identity import Identity, key_ntop
from mhostd.host.peer import Switch
from mhostd.init import check_config, mhost_init
from mhostd.ipc.show import Show
from mhostd.ipc.show_paths import ShowPaths
from mhostd.sock import Client

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "ipc.md").read_text()

# <!-- hex: name -->, the octets with what they are behind ";", the line that makes them
_BLOCK = re.compile(
    r"<!-- hex: (?P<name>\S+) -->\n\n```hex\n(?P<octets>.*?)```"
    r"\n\n```python\n(?P<line>.*?)\n```",
    re.DOTALL,
)
BLOCKS = {m["name"]: (m["octets"], m["line"]) for m in _BLOCK.finditer(TEXT)}

MESSAGES = [*get_args(uapi.Request), *get_args(uapi.Event)]


def octets_of(text: str) -> bytes:
    """What a hex block says; what is behind a ";" is a comment."""
    return bytes.fromhex("".join(row.partition(";")[0] for row in text.splitlines()))


def test_every_hex_block_has_a_name_and_the_line_that_makes_it():
    assert TEXT.count("```hex") == len(BLOCKS) > 0
    assert TEXT.count("<!-- hex: ") == len(BLOCKS)


@pytest.mark.skipif(sys.byteorder != "little", reason="records are in the machine's byte order")
@pytest.mark.parametrize("name", BLOCKS)
def test_the_octets_are_what_the_code_makes(name):
    octets, line = BLOCKS[name]
    assert octets_of(octets).hex(" ") == eval(line, vars(uapi).copy()).hex(" ")


@pytest.mark.skipif(sys.byteorder != "little", reason="records are in the machine's byte order")
@pytest.mark.parametrize("name", BLOCKS)
def test_the_code_reads_the_octets(name):
    octets = octets_of(BLOCKS[name][0])
    if octets[0] == uapi.DATA_MAGIC:
        sock, records = uapi.unpack_data(octets)
        (record,) = records
        again = uapi.pack_data(sock, uapi.pack_record(record))
    else:
        upward = name.endswith("-reply")
        again = uapi.encode((uapi.decode_event if upward else uapi.decode_request)(octets))
    assert again == octets


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: message.__name__)
def test_every_message_is_specified_with_its_fields(message):
    fields = [f'"{message.__struct_config__.tag}"', *message.__struct_fields__]
    assert f"* `[{', '.join(fields)}]`:" in TEXT


def test_no_message_is_specified_that_does_not_exist():
    tags = {message.__struct_config__.tag for message in MESSAGES}
    assert set(re.findall(r'^\* `\["(\w+)"', TEXT, re.MULTILINE)) == tags


def test_the_sa_is_specified_with_its_parts():
    assert f"`[{', '.join(uapi.SockaddrMhost._fields)}]`" in TEXT


def test_the_hello_reply_is_specified_with_its_parts():
    assert f"`[{', '.join(uapi.HelloReply._fields)}]`" in " ".join(TEXT.split())


def test_the_offsets_of_a_record_are_those_of_the_code():
    rows = re.findall(r"^\| (\d+) \|(?: (\d+))? \| (\w+) \|.*\|.*\|$", TEXT, re.MULTILINE)
    want = [
        (0, 4, "length"),
        (4, 2, "flags"),
        (6, 2, "segment_size"),
        (8, 2, "family"),
        (10, 2, "port"),
        (12, 4, "cookie"),
        (16, 16, "address"),
        (32, 4, "id_no"),
        (36, 4, "scope_id"),
    ]
    fields = [(int(at), int(size), name) for at, size, name in rows if size]
    assert fields == want
    assert rows[-1] == (str(uapi.RECORD_HLEN), "", "payload")
    # the code agrees: each field of a record has its own value at its own offset
    sa = uapi.SockaddrMhost(0x0101, 0x0202, b"\x03" * 16, 0x04040404, 0x05050505)
    record = uapi.pack_record(uapi.Record(sa, b"", 0x0A0A, 0x0707, 0x08080808))
    values = [b"\x0a", b"\x07", b"\x01", b"\x02", b"\x08", b"\x03", b"\x04", b"\x05"]
    for (at, size, _name), value in zip(want[1:], values, strict=True):
        assert record[at : at + size] == value * size


@pytest.mark.parametrize(
    "number",
    [
        uapi.MESSAGE_MAX,
        uapi.UDP_PAYLOAD_MAX,
        uapi.HOST_NAME_MAX,
        uapi.record_size(0),
    ],
)
def test_the_limits_are_those_of_the_code(number):
    assert re.search(rf"\b{number:,}\b", TEXT)


@pytest.fixture
def show():
    """The reading verbs on a stack that has one of everything."""
    config = """
    [tun.inet]
    address = "10.77.1.1/24"
    host_address = "10.77.1.2"
    [hosts]
    robot = ["10.77.1.3"]
    """
    stack = check_config(parse_config(config))
    client = Client(1, 0)
    stack.af_mhost.mhost_create(client, uapi.AF_MHOST, 2, 0, print, print)
    socks = stack.af_mhost.socks
    return Show(stack.core, stack.table, socks, lambda: 0.0, list, lambda call: call())


def keys_of(value: object) -> object:
    """The keys of nested objects; of an array those of its first object."""
    if isinstance(value, dict):
        return {key: keys_of(inner) for key, inner in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [keys_of(value[0])]
    return None


@pytest.mark.parametrize("verb", ["status", "sockets", "hosts", "l3", "routes"])
def test_the_example_of_a_reading_verb_has_the_keys_of_the_code(show, verb):
    example = re.search(rf"^`{verb}`, an .*?```json\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL)
    assert example is not None
    value = show.status([]) if verb == "status" else getattr(show, verb)()
    assert keys_of(json.loads(example[1])) == keys_of(value)


@pytest.fixture
def show_paths():
    """Verbs of a host with a key that knows another one."""
    us, rover = (Identity.from_private(bytes([i] * 32)) for i in (1, 2))
    config = parse_config(
        f"""
    [tun.inet]
    address = "10.77.1.1/24"
    host_address = "10.77.1.2"
    [hosts]
    rover = {{ key = "{key_ntop(rover.public)}", locators = ["10.77.1.3"] }}
    plain = ["10.77.1.4"]
    """
    )
    tun = NetDevice("mhost0", 1500)
    stack = mhost_init(config, NetCore(), tun=tun, identity=us, random=bytes_of_a_count())
    assert stack.overlay is not None
    stack.overlay.look()
    return ShowPaths(stack.overlay, stack.table)


def bytes_of_a_count():
    """Octets that are never the same."""
    numbers = count(1)
    return lambda n: next(numbers).to_bytes(n, "big")


def example_of(verb: str) -> object:
    example = re.search(rf"^`{verb}`, an .*?```json\n(.*?)```", TEXT, re.MULTILINE | re.DOTALL)
    assert example is not None
    return json.loads(example[1])


def test_the_examples_of_associated_hosts_have_the_keys_of_the_code(show_paths):
    assert keys_of(example_of("key")) == keys_of(show_paths.key())
    paths = show_paths.paths(0.0)
    assert keys_of(example_of("paths")) == keys_of(paths)
    explain, example = show_paths.explain("rover", 0.0), example_of("explain")
    assert keys_of(explain["candidates"]) == keys_of(paths)
    assert isinstance(example, dict)
    assert list(example) == list(explain)
    assert list(example["last_switch"]) == list(Switch._fields)
    plain = show_paths.explain("plain", 0.0)
    assert list(plain) == ["host", "association", "candidates"]
    assert list(plain["candidates"][0]) == ["locator", "l3", "active", "reason"]
    identity = example_of("hosts")[1]["identity"]  # type: ignore[index]
    peer = show_paths.explain("rover", 0.0)
    assert list(identity) == [key for key in peer if key in identity]


def test_every_reading_verb_has_an_example_that_is_json():
    section = TEXT.partition("## 10.")[2].partition("## 11.")[0]
    verbs = re.findall(r"^`(\w+)`, an ", section, re.MULTILINE)
    assert verbs == [
        "status", "sockets", "hosts", "l3", "routes", "counters",
        "key", "paths", "explain", "drops",
    ]  # fmt: skip
    for example in re.findall(r"```json\n(.*?)```", section, re.DOTALL):
        json.loads(example)


def test_the_defaults_are_those_of_the_code():
    assert uapi.DEFAULT_SOCKET in TEXT
    assert uapi.DEFAULT_ADMIN_SOCKET in TEXT
    assert f"Version of everything here: {uapi.VERSION}." in TEXT


# --- shared memory


def _header(name: str) -> str:
    return (Path(__file__).resolve().parents[2] / "mhostd" / "native" / name).read_text()


def test_the_layout_of_shared_memory_is_that_of_the_header():
    section = TEXT.partition("## 7. Shared memory")[2].partition("\n## ")[0]
    fields = re.findall(r"^\| (\d+) \| (\w+) \| u(\d+) \|", section, re.MULTILINE)
    text = _header("ring.h").partition("struct ring_ctl {")[2].partition("};")[0]
    at, expected = 0, []
    for aligned, bits, name in re.findall(
        r"^\t(_Alignas\(64\) )?_Atomic uint(\d+)_t (\w+);", text, re.MULTILINE
    ):
        at = -(-at // 64) * 64 if aligned else at
        expected.append((str(at), name, bits))
        at += int(bits) // 8
    assert fields == expected
    assert f"{uapi.LANE_OCTETS:,} octets" in section
    ring = (uapi.LANE_OCTETS - 4096) // 2
    assert f"records of rx at 4,096, of tx at {4096 + ring:,}, {ring:,}" in section
    pad = int(re.search(r"RECORD_PAD\s+(\w+)", _header("record.h"))[1], 16)
    assert f"flags (0x{pad:x})" in section
