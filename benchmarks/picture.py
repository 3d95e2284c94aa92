"""One picture: rate against datagram size, and against the number of sockets."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from pathlib import Path

import matplotlib
from ends import SOCKETS, Bench

matplotlib.use("Agg")
from matplotlib import pyplot as plt

SIZES = (64, 256, 512, 1024, 1400)
COUNTS = (1, 10, 100, 1000, SOCKETS)
ROUNDS = 3

Curve = list[tuple[float, float, float]]  # median, least, most


def measure(
    points: tuple[int, ...], rates: dict[str, Callable[[int], float]]
) -> dict[str, Curve]:
    """Measure each curve at each point, in alternation."""
    curves: dict[str, Curve] = {name: [] for name in rates}
    for point in points:
        found: dict[str, list[float]] = {name: [] for name in rates}
        for _ in range(ROUNDS):
            for name, rate in rates.items():
                found[name].append(rate(point))
        for name, each in found.items():
            curves[name].append((statistics.median(each), min(each), max(each)))
    return curves


def draw(bench: Bench, path: Path, caption: str) -> None:
    """Measure and draw."""
    by_size = measure(SIZES, {
        "mhost, sendmmsg": lambda size: bench.sending("inet", "sendmmsg", "gro", size),
        "mhost, recvmmsg": lambda size: bench.receiving("inet", "recvmmsg", "gso", size),
        "kernel, sendto": lambda size: bench.sending("kernel", "send", "gro", size),
        "kernel, recvfrom": lambda size: bench.receiving("kernel", "recvfrom", "gso", size),
    })  # fmt: skip
    by_count = measure(COUNTS, {
        "mhost, recv under epoll": lambda n: bench.over_sockets("mhost", "serve", n)["per_s"],
        "kernel, recv under epoll": lambda n: bench.over_sockets("kernel", "serve", n)["per_s"],
    })  # fmt: skip
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.2))
    for axes, points, curves in ((left, SIZES, by_size), (right, COUNTS, by_count)):
        for name, curve in curves.items():
            middle = [each[0] for each in curve]
            spread = [
                [each[0] - each[1] for each in curve],
                [each[2] - each[0] for each in curve],
            ]
            style = "o-" if name.startswith("mhost") else "s--"
            axes.errorbar(points, middle, spread, fmt=style, capsize=3, label=name)
        axes.set_ylabel("datagrams a second")
        axes.grid(alpha=0.3, which="both")
        axes.legend(fontsize=8)
    left.set_yscale("log")
    right.set_ylim(bottom=0)
    left.set_xlabel("octets of payload; Python, peer with segmentation offload")
    right.set_xscale("log")
    right.set_xlabel("sockets of one server in Python; 64 octets, ordinary sender")
    figure.suptitle(caption, fontsize=9)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    print(f"drawn in {path.relative_to(Path.cwd())}")
