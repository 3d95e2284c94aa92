"""The same frames for mhostd and for the Linux kernel: what comes of them is the same.

differential/ has the kinds of frames and the sides. Every difference stands in
DIFFERENCES with its reason; one that is no more fails the test as well.
"""

import pytest
from differential.differences import DIFFERENCES
from differential.frames import CONNECTED
from differential.kinds4 import KINDS as KINDS4
from differential.kinds6 import KINDS as KINDS6
from differential.sides import DaemonSide, KernelSide, StackSide
from lab import Lab

KINDS = [*KINDS4, *KINDS6]
PEERS = {
    kind: f"10.77.{1 + i // 250}.{1 + i % 250}" if kind.version == 4 else f"fd77::1:{i:x}"
    for i, kind in enumerate(KINDS, 1)
}


@pytest.fixture(scope="module")
def sides(make_node):
    with Lab() as lab:
        kernel = KernelSide(lab.host("kernel"))
        daemon = DaemonSide(lab.host("mhostd"))
        yield kernel, StackSide(make_node), daemon
        for side in (kernel, daemon):
            side.close()


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_frame_does_what_it_does_to_linux(sides, kind):
    kernel, stack, _daemon = sides
    theirs, ours = (side.run(kind, PEERS[kind]) for side in (kernel, stack))
    parts, _why = DIFFERENCES.get(kind.name, (set(), ""))
    assert theirs.differing(ours) == parts, f"\nLinux: {theirs}\nmhostd: {ours}"
