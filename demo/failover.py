"""One stream each way between two hosts, which loses one way after another; with a picture.

`make demo-failover` runs this: 1,000 datagrams a second each way; a planned move, the loss
of a carrier, a silent cut, and a walk from IPv4 to IPv6 to Ethernet to the host kernel's
IPv4. Each line says what an event has done to the stream; build/failover.png shows it.
Everything happens in network namespaces that end with this process.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks" / "failover"))

from events import Event, Prepared, Step, down, mhostctl, ports, sleep_until
from field import Streams
from judge import TAIL_NS, Arrivals
from kinds import LOCATORS, Ends, Kind, UnavailableError, entry_of_peer, key, state
from lab import Host, Lab, addresses, batch, two_links

QUIET_S = 2.0
LINK_S = 5.0  # from an event on a link to the next event
REPAIR_S = 2.5  # after the event
LOOK_S = 4.0  # after the event: on which link the stream is, for the next one
WALK_S = 2.5
NUMBER = {"a": 1, "b": 2}
DIRECTION = {"b": "a to b", "a": "b to a"}  # by where it arrives
UNDRAIN = ("path", "undrain")  # where draining lasts until then


class Walker(Kind):
    """Associations between hosts with every L3; the host kernel's IPv4 is the best way."""

    name = "mhost"

    def prepare(self, a: Host, b: Host, event: str) -> Ends:
        """Start the daemons, and route to the addresses of each other's TUN over eth1."""
        del event
        keys = {host.name: key(host) for host in (a, b)}
        for host, peer in ((a, b), (b, a)):
            host.sysctl("net.ipv4.ip_forward", 1)
            host.sysctl("net.ipv6.conf.all.forwarding", 1)
            host.batch(*(f"route add {each}" for each in routes(host.name)))
            host.start(self._config(host, peer, keys[peer.name]))
        return {"a": ["mhost", "*", "b"], "b": ["mhost", "*", "a"]}

    @staticmethod
    def _config(host: Host, peer: Host, public: str) -> str:
        number, other = NUMBER[host.name], NUMBER[peer.name]
        own = (f"10.77.{other}.1", f"fd77:{other}::1", f"testproto:{other}")
        entry = entry_of_peer(public, LOCATORS[peer.name] + own)
        return f"""
[tun]
[tun.inet]
address = "10.77.{number}.1/24"
host_address = "10.77.{number}.254"
prefixes = ["10.77.0.0/16"]
[tun.inet6]
address = "fd77:{number}::1/64"
host_address = "fd77:{number}::fe"
prefixes = ["fd77::/16"]
[[ethernet]]
device = "eth1"
[l3.testproto]
address = "{number}"
[host]
state = "{state(host)}"
[hosts]
{peer.name} = {entry}
"""


def routes(host: str) -> list[str]:
    """To the other TUN, over eth1 and by way of an IPv6 address."""
    peer, via = 3 - NUMBER[host], f"fd02::{3 - NUMBER[host]} dev eth1"
    return [f"10.77.{peer}.0/24 via inet6 {via}", f"fd77:{peer}::/64 via {via}"]


class Seen(NamedTuple):
    """An event of the run, and when it was (ns)."""

    name: str
    at_ns: int


class Demo:
    """The events, one after another, and when they were."""

    def __init__(self, kind: Kind, hosts: dict[str, Host]) -> None:
        self.kind, self.hosts = kind, hosts
        self.seen: list[Seen] = []
        self._link = 0  # that the stream is on

    @property
    def lasts_s(self) -> float:
        """How long all of it takes."""
        return QUIET_S + 3 * LINK_S + (len(WALK) * WALK_S if self._walks else 0)

    @property
    def _walks(self) -> bool:
        return isinstance(self.kind, Walker)

    def run(self, start_ns: int) -> None:
        """Let everything happen."""
        at_ns = start_ns + round(QUIET_S * 1e9)
        for name, cut, repair in (
            ("planned move", self._planned, self._up),
            ("carrier loss", self._carrier, self._up),
            ("silent cut", self._silent, self._healed),
        ):
            link = self._link
            self._happen(Event(name, cut(link)), at_ns)
            sleep_until(at_ns + round(REPAIR_S * 1e9))
            repair(link)
            sleep_until(at_ns + round(LOOK_S * 1e9))
            if self._walks:
                self._link = self._busy()
            at_ns += round(LINK_S * 1e9)
        for event in WALK if self._walks else ():
            self._happen(event, at_ns)
            at_ns += round(WALK_S * 1e9)

    def _happen(self, event: Event, at_ns: int) -> None:
        prepared = Prepared(event, self.hosts)
        sleep_until(at_ns)
        self.seen.append(Seen(event.name, prepared.happen()))
        prepared.check()

    def _planned(self, link: int) -> tuple[Step, ...]:
        drain = [mhostctl("a", f"path drain eth{link}")] if self._walks else []
        return (*drain, down("a", f"eth{link}", 1.0))

    @staticmethod
    def _carrier(link: int) -> tuple[Step, ...]:
        return (down("a", f"eth{link}"),)

    @staticmethod
    def _silent(link: int) -> tuple[Step, ...]:
        return (ports(link, 0),)

    def _up(self, link: int) -> None:
        """What a device loses when it goes down is given back."""
        a = self.hosts["a"]
        a.batch(
            f"link set eth{link} up",
            *(f"addr replace {each}" for each in addresses(1, link)),
            *(f"route replace {each}" for each in routes(a.name) if link and self._walks),
        )
        if self._walks:
            a.mhostctl(*UNDRAIN, f"eth{link}", check=False)

    def _healed(self, link: int) -> None:
        step = ports(link, 3)
        self.hosts[step.host].run("sh", "-c", step.command)

    def _busy(self) -> int:
        """The link that most frames of a go over."""
        before = self._frames()
        time.sleep(0.2)
        after = self._frames()
        return max((0, 1), key=lambda link: after[f"a{link}"] - before[f"a{link}"])

    def _frames(self) -> dict[str, int]:
        shown = json.loads(self.hosts["net"].run("ip", "-j", "-s", "link", "show").stdout)
        return {each["ifname"]: each["stats64"]["rx"]["packets"] for each in shown}


def both(do: Callable[[str], str]) -> tuple[Step, ...]:
    """The same on both hosts."""
    return tuple(Step(name, do(name)) for name in NUMBER)


def _kernel_inet(host: str, verb: str) -> list[str]:
    return [f"addr {verb} {addresses(NUMBER[host], link)[0]}" for link in (0, 1)]


def _without_kernel_inet(host: str) -> str:
    # With its last IPv4 address a device loses its IPv4 routes.
    return batch(*_kernel_inet(host, "del"), f"route replace {routes(host)[0]}")


def _tun(host: str, route: int) -> str:
    return f"ip route del {routes(host)[route]}"


WALK = (
    Event("to IPv4 of mhostd", both(_without_kernel_inet)),
    Event("to IPv6", both(lambda host: _tun(host, 0))),
    Event("to Ethernet", both(lambda host: _tun(host, 1))),
    Event(
        "to the kernel's IPv4",
        (
            *both(lambda host: batch(*_kernel_inet(host, "add"))),
            *(mhostctl(host, "l3 down testproto") for host in NUMBER),
        ),
    ),
)


class Result(NamedTuple):
    """What came of a stream in one direction."""

    direction: str
    arrivals: Arrivals


def line(seen: Seen, until_ns: int, start_ns: int, results: list[Result]) -> tuple[str, bool]:
    """What an event has done, of both directions the worse, and whether it came back.

    Args:
        seen: the event.
        until_ns: the next one, or the end.
        start_ns: when the stream began.
        results: of both directions.
    """
    gaps, lost = [], []
    for _direction, arrivals in results:
        gaps.append(arrivals.longest_ms(seen.at_ns, until_ns - TAIL_NS, until_ns))
        lost.append(len(arrivals.lost(seen.at_ns, until_ns, start_ns)))
    came_back = math.isfinite(max(gaps))
    gap = f"longest gap {max(gaps):.0f} ms" if came_back else "the stream did not come back"
    return f"{seen.name}: {gap}, lost {max(lost)}", came_back


def main() -> int:
    """Run it; 0 only if the stream came back each time."""
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit(130))
    parser = argparse.ArgumentParser(description="A stream between two hosts that fail over.")
    parser.add_argument("--kind", choices=("mhost", "kernel"), default="mhost")
    kind = Walker() if parser.parse_args().kind == "mhost" else Kind()
    print("setting up two hosts with two links ...", flush=True)
    with Lab() as lab:
        a, b, _net = two_links(lab)
        try:
            ends = kind.prepare(a, b, "")
        except UnavailableError as err:
            print(err, file=sys.stderr)
            return 1
        streams = Streams(lab.hosts, ends)
        demo = Demo(kind, lab.hosts)
        start_ns, end_ns = streams.begin(demo.lasts_s)
        print(f"a stream of {demo.lasts_s:g} s each way ...", flush=True)
        demo.run(start_ns)
        came = streams.end()
    results = [Result(DIRECTION[name], came[name].arrivals) for name in DIRECTION]
    ok = True
    until = [*(each.at_ns for each in demo.seen[1:]), end_ns - TAIL_NS]
    for seen, until_ns in zip(demo.seen, until, strict=True):
        text, came_back = line(seen, until_ns, start_ns, results)
        print(text)
        ok &= came_back
    if importlib.util.find_spec("matplotlib"):
        from failover_picture import draw

        print(f"drawn in {draw(demo.seen, start_ns, end_ns, results).relative_to(ROOT)}")
    else:
        print("no picture: matplotlib is not installed; `make demo-failover` does that")
    print("nothing is left behind")
    return 0 if ok else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; everything was cleaned up", file=sys.stderr)
        sys.exit(130)
