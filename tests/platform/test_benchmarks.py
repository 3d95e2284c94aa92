"""The programs in C of `make bench` can be built, and name all that they use."""

import ctypes
import os

from ends import build


def test_they_can_be_built(tmp_path):
    peer, library = build(tmp_path)
    assert os.access(peer, os.X_OK)
    assert ctypes.CDLL(library, os.RTLD_NOW).ring_begin
