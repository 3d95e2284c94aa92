"""The picture of demo/failover.py: what a stream lost, and when."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib
from judge import TAIL_NS

matplotlib.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from failover import Result, Seen

PICTURE = Path(__file__).parent.parent / "build" / "failover.png"


def draw(seen: list[Seen], start_ns: int, end_ns: int, results: list[Result]) -> Path:
    """The gaps between arrivals and what was lost, over time."""
    figure, (upper, lower) = plt.subplots(2, 1, figsize=(11, 6), sharex=True)
    for (direction, arrivals), style in zip(results, ("-", "--"), strict=False):
        times = sorted(arrivals.first.values())
        times = [start_ns, *times, end_ns]
        at_s, gaps_ms = [], []
        for last, each in itertools.pairwise(times):
            # A gap is drawn from its beginning to its end, at its height.
            at_s += [(last - start_ns) / 1e9, (each - start_ns) / 1e9]
            gaps_ms += 2 * [(each - last) / 1e6]
        upper.plot(at_s, gaps_ms, style, linewidth=1, label=direction)
        bin_ns = 100_000_000
        edges = range(start_ns, end_ns - TAIL_NS, bin_ns)
        counts = [len(arrivals.lost(edge, edge + bin_ns, start_ns)) for edge in edges]
        middles = [(edge - start_ns) / 1e9 for edge in edges]
        lower.step(middles, counts, style, where="post", label=direction)
    for name, at_ns in seen:
        for axes in (upper, lower):
            axes.axvline((at_ns - start_ns) / 1e9, color="grey", linewidth=0.8)
        upper.annotate(
            name, ((at_ns - start_ns) / 1e9, 1), xycoords=("data", "axes fraction"),
            xytext=(3, 4), textcoords="offset points", rotation=20, fontsize=8,
        )  # fmt: skip
    upper.set_yscale("log")
    upper.set_ylim(bottom=0.5)
    upper.set_ylabel("ms between arrivals")
    lower.set_ylabel("lost in 100 ms, of 100")
    lower.set_xlabel("seconds")
    for axes in (upper, lower):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper right")
    figure.tight_layout()
    PICTURE.parent.mkdir(exist_ok=True)
    figure.savefig(PICTURE, dpi=110)
    return PICTURE
