"""What happens to the network, and what that should cost at most."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from lab import Host


@dataclass(frozen=True)
class Event:
    """One event.

    Attributes:
        name: of it.
        happen: makes it happen: a, b, the network, kind of sender.
        gap_ms: the longest gap that is wanted.
        lost: how many datagrams, None if it does not matter.
        kinds: which kinds of senders have it.
    """

    name: str
    happen: Callable[[Host, Host, Host, str], None]
    gap_ms: float
    lost: int | None
    kinds: tuple[str, ...] = ("mhost", "mhost-duplicate", "mptcp", "kernel")


def _planned(a: Host, _b: Host, _net: Host, _kind: str) -> None:
    a.mhostctl("path", "drain", "eth0")
    time.sleep(1)
    a.ip("link set eth0 down")


def _carrier_a(a: Host, _b: Host, _net: Host, _kind: str) -> None:
    a.ip("link set eth0 down")


def _carrier_b(_a: Host, b: Host, _net: Host, _kind: str) -> None:
    b.ip("link set eth0 down")


def _carrier_lost(_a: Host, _b: Host, net: Host, _kind: str) -> None:
    """The cable: a's interface is up and has no link."""
    net.ip("link set a0 down")


def _silent(_a: Host, _b: Host, net: Host, _kind: str) -> None:
    """The port of the bridge is disabled: both ends still see a link."""
    net.run("bridge", "link", "set", "dev", "a0", "state", "0")


def _silent_to_b(_a: Host, _b: Host, net: Host, _kind: str) -> None:
    """A queue of one octet lets nothing through."""
    net.run("tc", "qdisc", "add", "dev", "b0", "root", "bfifo", "limit", "1")


def _silent_to_a(_a: Host, _b: Host, net: Host, _kind: str) -> None:
    net.run("tc", "qdisc", "add", "dev", "a0", "root", "bfifo", "limit", "1")


def _new_addresses(host: Host, number: int) -> None:
    """It is somewhere else at once: one network gone, other addresses in the other one."""
    batch = "\n".join(
        (
            "link set eth0 down",
            f"addr del 10.2.0.{number}/24 dev eth1",
            f"addr del fd02::{number}/64 dev eth1",
            f"addr add 10.2.0.{number + 100}/24 dev eth1",
            f"addr add fd02::{number + 100}/64 dev eth1 nodad",
        )
    )
    host.run("sh", "-c", f"printf '%s\\n' '{batch}' | ip -batch -")


def _move(a: Host, _b: Host, _net: Host, _kind: str) -> None:
    _new_addresses(a, 1)


def _both(a: Host, b: Host, _net: Host, _kind: str) -> None:
    _new_addresses(a, 1)
    _new_addresses(b, 2)


_OURS = ("mhost", "mhost-duplicate")
EVENTS = (
    Event("planned move", _planned, 20, 0, _OURS),
    Event("link set down, a", _carrier_a, 20, 10),
    Event("link set down, b", _carrier_b, 20, 10),
    Event("carrier lost, a", _carrier_lost, 20, 10),
    Event("silent, both ways", _silent, 200, 200),
    Event("silent, a to b", _silent_to_b, 200, 200),
    Event("silent, b to a", _silent_to_a, 200, 200),
    Event("never seen addresses", _move, 200, 200, ("mhost",)),
    Event("both move", _both, 2000, None, ("mhost",)),
)
