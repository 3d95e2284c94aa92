"""The program in C of `make bench` can be built for each kind of socket."""

import os

from ends import build


def test_it_can_be_built(tmp_path):
    programs = build(tmp_path)
    assert set(programs) == {"kernel", "libmhost", "preload"}
    for argv in programs.values():
        assert os.access(argv[-1], os.X_OK)
