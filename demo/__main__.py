"""The main job, shown: two hosts, two daemons, two applications, six ways between them.

`make demo` runs this. Each line says what was sent, over which L3 and locator, and what
came back. Everything happens in network namespaces that end with this process.
"""

from __future__ import annotations

import contextlib
import signal
import sys
import time
from collections.abc import Callable

from lab import Host, Lab, config, locators, two_hosts

PORT = 7077
PER_S = 200  # datagrams of the stream
STREAM_S = 0.25  # how long it goes on after each move
MOVE_TIMEOUT_S = 5.0


class Demo:
    """The steps, and how many of them passed."""

    def __init__(self, a: Host, b: Host) -> None:
        self.a, self.b = a, b
        self.passed = self.total = 0
        self.app_a, self.app_b = a.app(), b.app()
        self.kernel_a, self.kernel_b = a.app(), b.app()

    def step(self, what: str, do: Callable[[], str]) -> None:
        """Do one step; `do` returns what happened, or raises why not."""
        self.total += 1
        try:
            result = do()
        except (OSError, AssertionError) as err:
            print(f"FAIL  {what}: {err}", flush=True)
        else:
            self.passed += 1
            print(f"ok    {what}: {result}", flush=True)

    def run(self) -> None:
        """All of them."""
        self.app_b("socket", "mhost")
        self.app_b("bind", "*", PORT)
        self.app_b("echo")
        self.app_a("socket", "mhost")
        names = ("inet", "inet6", "host_inet", "host_inet6", "testproto", "otherproto")
        for l3, locator in zip(names, locators(2), strict=True):
            self.step(f"{l3:10} mhost a -> mhost b", lambda n=l3, w=locator: self.echoed(n, w))
        self.step("bound once mhost b received over", lambda: self.seen_over(names))
        for family, near, far in (
            ("inet", "192.0.2.1", "192.0.2.2"),
            ("inet6", "2001:db8::1", "2001:db8::2"),
        ):
            self.step(
                f"host_{family:5} mhost a -> kernel b -> mhost a",
                lambda f=family, n=near, w=far: self.to_kernel(f, n, w),
            )
            self.step(
                f"host_{family:5} kernel a -> mhost b -> kernel a",
                lambda f=family, w=far: self.from_kernel(f, w, f"host_{f}"),
            )
        for family, where in (("inet", "10.77.2.1"), ("inet6", "fd77:2::1")):
            self.step(
                f"{family:10} kernel a -> TUN of b -> kernel a",
                lambda f=family, w=where: self.from_kernel(f, w, f),
            )
        self.app_b("stop")
        self.app_b("noted")
        self.moving()

    def echoed(self, l3: str, where: str) -> str:
        """Send to a locator, and see that the echo came over the L3 that was meant."""
        text = f"hello over {l3}"
        self.app_a("sendto", text, where, PORT)
        echo, host, port, via = self.app_a("recv")
        over, _, sent = echo.partition("|")
        assert (sent, over.split()[0], via.split()[0]) == (text, l3, l3), (echo, via)
        assert (host, port) == ("peer", PORT), (host, port)
        return f"{text!r} to {where} arrived over {over}; echo from {host!r} over {via}"

    def seen_over(self, names: tuple[str, ...]) -> str:
        """The one socket of b has received over each."""
        over = dict.fromkeys(via.split()[0] for _text, via in self.app_b("noted"))
        assert set(over) == set(names), over
        return ", ".join(over)

    def to_kernel(self, family: str, near: str, far: str) -> str:
        """An AF_MHOST socket sends to a plain kernel socket, which answers."""
        self.kernel_b("socket", family)
        _host, port = self.kernel_b("bind", far, 0)
        self.app_a("sendto", "ping", far, port)
        text, host, source_port, _via = self.kernel_b("recv")
        assert (text, host) == ("ping", near), (text, host)
        self.kernel_b("sendto", "pong", host, source_port)
        text, name, source, via = self.app_a("recv")
        assert (text, source) == ("pong", port), (text, source)
        return f"'ping' arrived from {host}; 'pong' came from {name!r} over {via}"

    def from_kernel(self, family: str, where: str, l3: str) -> str:
        """A plain kernel socket sends to the AF_MHOST socket, which echoes."""
        self.kernel_a("socket", family)
        self.kernel_a("sendto", "ping", where, PORT)
        echo, host, port, _via = self.kernel_a("recv")
        assert echo.startswith(f"{l3} ") and echo.endswith("|ping"), echo
        assert (host, port) == (where, PORT), (host, port)
        return f"'ping' arrived over {echo.partition('|')[0]}; echo from {host}"

    def moving(self) -> None:
        """Take the locators of a name away one by one while a stream goes on."""
        self.app_b("sink")
        self.app_a("stream", "peer", PORT, PER_S)
        received: list[str] = []
        for what, l3, take in (
            ("stream to the name 'peer' starts", "inet", lambda: None),
            (
                "route to the TUN of b removed (ICMP unreachable)",
                "inet6",
                lambda: self.a.ip("route del 10.77.2.0/24"),
            ),
            (
                "IPv6 route to the TUN of b removed (ICMPv6)",
                "host_inet",
                lambda: self.a.ip("-6 route del fd77:2::/64"),
            ),
            (
                "192.0.2.2 made unreachable",
                "host_inet6",
                lambda: self.a.ip("route add unreachable 192.0.2.2/32"),
            ),
            (
                "2001:db8::2 made unreachable",
                "testproto",
                lambda: self.a.ip("-6 route add unreachable 2001:db8::2/128"),
            ),
            (
                "handler testproto removed from a",
                "otherproto",
                lambda: self.a.mhostctl("l3", "down", "testproto"),
            ),
            ("192.0.2.2 and the routes back", "inet", self.give_back),
        ):
            self.step(what, lambda n=l3, t=take: self.moved(n, t, received))
            time.sleep(STREAM_S)
        sent = self.app_a("stop")
        time.sleep(0.3)
        received += [text for text, _via in self.app_b("noted")]
        self.app_b("stop")
        self.step("nothing twice, little lost", lambda: self.counted(sent, received))

    def give_back(self) -> None:
        """The best locator works again; the new route is seen at once."""
        self.a.ip("route del unreachable 192.0.2.2/32")
        self.a.ip("route add 10.77.2.0/24 via 192.0.2.2")

    def moved(self, l3: str, take: Callable[[], object], received: list[str]) -> str:
        """Wait until the stream arrives over that L3."""
        take()
        start = time.monotonic()
        limit = start + (2 * MOVE_TIMEOUT_S if l3 == "inet" else MOVE_TIMEOUT_S)
        while time.monotonic() < limit:
            noted = self.app_b("noted")
            received += [text for text, _via in noted]
            over = [via for _text, via in noted if via.split()[0] == l3]
            if over:
                took_ms = (time.monotonic() - start) * 1000
                return f"stream goes on over {over[-1]} ({took_ms:.0f} ms)"
            time.sleep(0.01)
        raise AssertionError(f"nothing came over {l3} in {limit - start:.0f} s")

    @staticmethod
    def counted(sent: int, received: list[str]) -> str:
        """Each move may cost the datagrams that were on their way, and each retry one."""
        lost = sent - len(set(received))
        assert len(received) == len(set(received)), "a datagram arrived twice"
        assert lost <= sent // 20, f"{lost} of {sent} datagrams lost"
        return f"{len(received)} of {sent} datagrams arrived, {lost} lost in 6 moves"


def main() -> int:
    """Run the demo; 0 only if everything passed."""
    signal.signal(signal.SIGTERM, lambda *_args: sys.exit(130))
    print("setting up two network namespaces and two daemons ...", flush=True)
    with contextlib.ExitStack() as cleanup:
        lab = cleanup.enter_context(Lab())
        a, b = two_hosts(lab)
        a.start(config(1, 2))
        b.start(config(2, 1))
        start = time.monotonic()
        demo = Demo(a, b)
        demo.run()
        took_s = time.monotonic() - start
    print(f"took {took_s:.1f} s; nothing is left behind")
    print(f"demo: {demo.passed} of {demo.total} passed")
    return 0 if demo.passed == demo.total else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("interrupted; everything was cleaned up", file=sys.stderr)
        sys.exit(130)
