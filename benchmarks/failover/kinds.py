"""The kinds of sender, and what an event may cost each.

A kind makes two hosts ready for an event and says what the ends of the stream are run
with (stream.py); an end of kind `echo` is no judge of anything.
"""

from __future__ import annotations

import math
import socket
from pathlib import Path
from typing import NamedTuple

from lab import Host
from stream import IPPROTO_MPTCP

ADDRESS = {"a": "10.1.0.1", "b": "10.1.0.2"}
LOCATORS = {"a": ("10.1.0.1", "10.2.0.1"), "b": ("10.1.0.2", "10.2.0.2")}
PEER = {"a": "b", "b": "a"}

Ends = dict[str, list[str]]  # by host, in the order in which they are started


class UnavailableError(Exception):
    """This kind of sender is not to be had here."""


class Wanted(NamedTuple):
    """At most that much."""

    gap_ms: float
    lost: float = math.inf
    doubles: float = math.inf


class Kind:
    """A kernel UDP socket at each end, bound to one address."""

    name = "kernel"
    not_for: tuple[str, ...] = ("planned",)

    def prepare(self, a: Host, b: Host, event: str) -> Ends:
        """Make both hosts ready.

        Returns:
            What stream.py is run with on each.

        Raises:
            UnavailableError: not to be had here.
        """
        del a, b
        if event == "plain-dies":
            return {"b": plain_echo(), "a": ["udp", ADDRESS["a"], ADDRESS["b"]]}
        return {each: ["udp", ADDRESS[each], ADDRESS[PEER[each]]] for each in ("a", "b")}

    def wanted(self, event: str) -> Wanted | None:
        """Nobody wants anything of the kernel."""
        del event
        return None


class Mptcp(Kind):
    """The kernel's multipath TCP, with a subflow on each link."""

    name = "mptcp"
    not_for = ("planned", "plain-dies")

    def prepare(self, a: Host, b: Host, event: str) -> Ends:
        """Let b tell of its address on eth1, to which a makes its second subflow."""
        del event
        try:
            socket.socket(socket.AF_INET, socket.SOCK_STREAM, IPPROTO_MPTCP).close()
        except OSError:
            raise UnavailableError("this kernel has no MPTCP") from None
        for host in (a, b):
            host.ip("mptcp limits set subflow 2 add_addr_accepted 2")
        b.ip(f"mptcp endpoint add {LOCATORS['b'][1]} dev eth1 signal")
        return {"b": ["mptcp", "", ""], "a": ["mptcp", ADDRESS["a"], ADDRESS["b"]]}


class Mhost(Kind):
    """An AF_MHOST socket at each end; each host knows the other by its key."""

    name = "mhost"
    not_for: tuple[str, ...] = ()
    policy = ""

    _WANTED = {  # noqa: RUF012
        "planned": Wanted(20, 0),
        "carrier": Wanted(20, 10),
        "silent": Wanted(200, 200),
        "new-address": Wanted(200, 200),
        "both-move": Wanted(2000),
        "plain-dies": Wanted(1000),
    }

    def prepare(self, a: Host, b: Host, event: str) -> Ends:
        """Start the daemons; the peer of `plain-dies` has none."""
        if event == "plain-dies":
            a.start(config(a) + f"b = {toml(LOCATORS['b'])}\n")
            return {"b": plain_echo(), "a": ["mhost", "*", "b"]}
        directory = a.dir.parent / "directory" if event == "both-move" else None
        keys = {host.name: key(host) for host in (a, b)}
        for host in (a, b):
            peer = PEER[host.name]
            entry = entry_of_peer(keys[peer], LOCATORS[peer], self.policy)
            host.start(config(host, directory) + f"{peer} = {entry}\n")
        return {each: ["mhost", "*", PEER[each]] for each in ("a", "b")}

    def wanted(self, event: str) -> Wanted | None:
        """By event, or by the sort of event."""
        return self._WANTED.get(event) or self._WANTED[event.partition("-")[0]]


class MhostDuplicate(Mhost):
    """The same, each datagram by way of both links."""

    name = "mhost-duplicate"
    not_for = ("plain-dies",)
    policy = "duplicate"

    def wanted(self, event: str) -> Wanted | None:
        """With both links there, nothing may be lost by the loss of one."""
        if event in ("new-address", "both-move"):
            return super().wanted(event)
        return Wanted(10, 0, 0)


KINDS = (Kind(), Mptcp(), Mhost(), MhostDuplicate())


def plain_echo() -> list[str]:
    """A server of b that knows nothing of mhostd, at both addresses."""
    return ["echo", *LOCATORS["b"]]


def key(host: Host) -> str:
    """The public key of a host, which is made if need be."""
    asked = host.mhostctl("key", "--state", str(state(host)), check=False)
    if asked.returncode:
        said = asked.stderr.splitlines() or [f"exit code {asked.returncode}"]
        raise UnavailableError(f"mhostctl key: {said[-1][:80]}")
    return asked.stdout.strip()


def state(host: Host) -> Path:
    """Where a daemon keeps what it must not forget."""
    return host.dir / "state"


def config(host: Host, directory: Path | None = None) -> str:
    """mhostd.toml without a TUN, up to its table of hosts, which is open at the end.

    Args:
        host: whose.
        directory: for the locators of hosts that move, the same for all of them.
    """
    text = f'[tun]\nenable = false\n[host]\nstate = "{state(host)}"\n'
    if directory is not None:
        directory.mkdir(exist_ok=True)
        text += f'[directory]\nbackend = "file"\npath = "{directory}"\n'
    return text + "[hosts]\n"


def entry_of_peer(public: str, locators: tuple[str, ...], policy: str = "") -> str:
    """A host with a key, as mhostd.toml has it."""
    more = f', policy = "{policy}"' if policy else ""
    return f'{{ key = "{public}", locators = {toml(locators)}{more} }}'


def toml(values: tuple[str, ...]) -> str:
    """A list of texts."""
    return "[" + ", ".join(f'"{value}"' for value in values) + "]"
