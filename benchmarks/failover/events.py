"""What happens to the links of two hosts (two_links of the lab) while a stream goes on.

Silent cuts leave the carrier at both ends. A bridge port that is disabled neither takes
nor gives frames; one whose queue is a `blackhole` takes them, and gives none, so that the
frames of one direction die.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from lab import BIN, Armed, Host, addresses, batch

NEVER_SEEN = 101  # the last octet of a's new addresses; b's is one more


class Step(NamedTuple):
    """A command of the shell on one of the hosts."""

    host: str
    command: str
    after_s: float = 0.0


class Event(NamedTuple):
    """What happens, and what it is done with."""

    name: str
    steps: tuple[Step, ...]


def down(host: str, device: str, after_s: float = 0.0) -> Step:
    """A device without its carrier, or a device of the host set down."""
    return Step(host, f"ip link set {device} down", after_s)


def mhostctl(host: str, arguments: str) -> Step:
    """What a host's daemon is told."""
    return Step(host, f"{BIN}/mhostctl {arguments}")


def ports(link: int, state: int) -> Step:
    """Both ports of a bridge stop (0, disabled) or go on (3, forwarding).

    `bridge` says it: `ip link set` ends in a notification on which the bridge starts a
    disabled port that has its carrier.
    """
    each = (f"a{link}", f"b{link}")
    lines = (f"link set dev {port} state {state}" for port in each)
    return Step("net", batch(*lines, tool="bridge"))


def one_way(port: str) -> Step:
    """What would leave a bridge by that port dies there."""
    return Step("net", f"tc qdisc replace dev {port} root blackhole")


def moved(host: str) -> Step:
    """eth0 has no address any more, and eth1 others than ever before."""
    number = {"a": 1, "b": 2}[host]
    old = [*addresses(number, 0), *addresses(number, 1)]
    new = addresses(number, 1, NEVER_SEEN - 1 + number)
    gone = [f"addr del {each.removesuffix(' nodad')}" for each in old]
    return Step(host, batch(*gone, *(f"addr add {each}" for each in new)))


EVENTS = (
    Event("planned", (mhostctl("a", "path drain eth0"), down("a", "eth0", 1.0))),
    Event("carrier-a", (down("a", "eth0"),)),
    Event("carrier-b", (down("b", "eth0"),)),
    Event("carrier-peer", (down("net", "a0"),)),
    Event("silent", (ports(0, 0),)),
    Event("silent-a-to-b", (one_way("b0"),)),
    Event("silent-b-to-a", (one_way("a0"),)),
    Event("new-address", (moved("a"),)),
    Event("both-move", (moved("a"), moved("b"))),
    Event("plain-dies", (ports(0, 0),)),
)


class Prepared:
    """An event whose processes wait for it, so that it happens at a known time."""

    def __init__(self, event: Event, hosts: dict[str, Host]) -> None:
        self._steps: list[tuple[Step, Armed]] = [
            (step, hosts[step.host].armed(step.command)) for step in event.steps
        ]

    def happen(self) -> int:
        """Do it.

        Returns:
            When it began, in ns of CLOCK_MONOTONIC.
        """
        begun_ns = time.monotonic_ns()
        for step, armed in self._steps:
            sleep_until(begun_ns + round(step.after_s * 1e9))
            armed.fire()
        return begun_ns

    def check(self) -> None:
        """Wait until it has happened; RuntimeError if a command went wrong."""
        for _step, armed in self._steps:
            armed.check()


def sleep_until(at_ns: int) -> None:
    """Sleep until that time of CLOCK_MONOTONIC."""
    time.sleep(max(0, at_ns - time.monotonic_ns()) / 1e9)
