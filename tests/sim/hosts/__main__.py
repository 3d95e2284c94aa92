"""make sim: random scenarios, each a function of its seed.

    python tests/sim/hosts [COUNT [FIRST]]

FIRST is chosen at random unless it is given. A seed that fails is printed, and run again by
`python tests/sim/hosts 1 SEED`.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time
import traceback
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import scenario


def attempt(seed: int) -> tuple[int, str]:
    """Run one: its seed, and what went wrong."""
    try:
        scenario.run(seed)
    except Exception:
        return seed, traceback.format_exc(limit=-3)
    return seed, ""


def main() -> int:
    """Run them all; 1 if one has failed."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 10_000
    first = int(sys.argv[2]) if len(sys.argv) > 2 else random.randrange(2**31)
    print(f"sim: {count} scenarios, seeds {first} to {first + count - 1}", flush=True)
    begin_s = time.monotonic()
    failed = 0
    with multiprocessing.get_context("fork").Pool(os.cpu_count()) as pool:
        seeds = range(first, first + count)
        for done, (seed, text) in enumerate(pool.imap_unordered(attempt, seeds, 8), 1):
            if text:
                failed += 1
                print(f"seed {seed}:\n{text}", flush=True)
            if done % 1000 == 0:
                print(f"sim: {done} done", flush=True)
    print(f"sim: {failed} of {count} failed, {time.monotonic() - begin_s:.0f} s")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
