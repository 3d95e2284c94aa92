"""A private network namespace for the length of one test."""

import ctypes
import os

import pytest

CLONE_NEWNET = 0x40000000


@pytest.fixture
def netns():
    libc = ctypes.CDLL(None, use_errno=True)
    before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    if libc.unshare(CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare: the platform tests need root")
    yield
    libc.setns(before, CLONE_NEWNET)
    os.close(before)
