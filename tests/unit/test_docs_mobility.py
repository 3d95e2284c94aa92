"""docs/mobility.md: its configuration is taken, its names and numbers are those of the code."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

import pytest

from mhostd import uapi
from mhostd.config import parse_config
from mhostd.errors import DropReason
from mhostd.host import association, handshake, hosts, path, paths, peer, session, traffic, wire
from mhostd.init import check_config

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "mobility.md").read_text()
WORDS = " ".join(TEXT.split())
TOML = [
    textwrap.dedent(block)
    for block in re.findall(r"^ *```toml\n(.*?)^ *```", TEXT, re.MULTILINE | re.DOTALL)
]


@pytest.mark.parametrize("block", TOML)
def test_the_configuration_is_taken(block):
    check_config(parse_config(block))


def test_there_is_some():
    assert len(TOML) == TEXT.count("```toml") == 2


def test_the_drops_are_those_of_the_code():
    row = next(row for row in TEXT.splitlines() if row.startswith("| `mhostctl drops`"))
    named = set(re.findall(r"shim_\w+", row))
    assert named == {str(r.value) for r in DropReason if r.value.startswith("shim_")}


@pytest.mark.parametrize(
    "text",
    [
        f"UDP port {wire.PORT}",
        f"udp dport {wire.PORT} accept",
        f"RESPONSE ({wire.RESPONSE_LEN} octets)",
        f"COOKIE ({wire.COOKIE_PACKET_LEN})",
        f"INIT ({wire.INIT_LEN})",
        f"Header and tag take {wire.OVERHEAD} octets",
        f"{1500 - 20 - 8 - wire.OVERHEAD - 8} octets of payload are left with IPv4",
        f"{1500 - 40 - 8 - wire.OVERHEAD - 8} with IPv6",
        f"Beyond {handshake.LOAD_INITS} a second",
        f"at most {hosts.STRANGERS_MAX:,}",
        f"{paths.PATHS_MAX} at most",
        f"up to {paths.DUPLICATES_MAX} working paths",
        f"wait for it up to {peer.QUEUE_S:.0f} s",
        f"forgotten after {association.NEXT_S:.0f} s",
        f"for {session.REJECT_S:.0f} s without a handshake",
        f"every {session.REKEY_S / 60:.0f} minutes",
        f"worked for {path.HOLD_S:.0f} s, doubled each time that it fails, up to "
        f"{path.HOLD_MAX_S:.0f} s",
        f"says so every {1000 * path.REPORT_S:.0f} ms",
        f"and {1000 * (path.REPORT_S + traffic.TICK_S):.0f} ms, so",
        f"within {path.IDLE_PROBE_S:.0f} s",
        f"MHOST_POLICY ({uapi.MHOST_POLICY})",
        f"1 failover, {uapi.MHOST_POLICY_DUPLICATE} duplicate",
    ],
)
def test_the_numbers_are_those_of_the_code(text):
    assert text in WORDS
