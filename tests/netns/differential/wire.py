"""A way to put frames in and to see what comes back, until all of them were handled.

Nobody waits for a time: after the frames comes an echo request, and what is on the wire
before its answer is what the frames have caused.
"""

import ctypes
import os
import time
from concurrent.futures import ThreadPoolExecutor

from scapy.layers.inet import ICMP

from differential.frames import icmp6, ip4

MARKER = {4: "10.77.255.1", 6: "fd77::ff:1"}
DEADLINE_S = 10


def marker(version, number):
    """An echo request whose answer says that all before it was handled."""
    peer = MARKER[version]
    if version == 4:
        return bytes(ip4(peer) / ICMP(id=0xBEEF, seq=number))
    return bytes(icmp6(peer, 128, 0, b"\xbe\xef" + number.to_bytes(2, "big")))


def is_answer(frame, number):
    """Whether a packet is the answer to marker(version, number)."""
    rest = b"\xbe\xef" + number.to_bytes(2, "big")
    if frame[0] >> 4 == 4:
        return frame[9] == 1 and frame[20] == 0 and frame[24:28] == rest
    return frame[6] == 58 and frame[40] == 129 and frame[44:48] == rest


def is_chatter(frame):
    """Whether a kernel says it on its own: multicast listeners, routers, neighbours."""
    return frame[0] >> 4 == 6 and frame[24] == 0xFF


def in_namespace(netns):
    """An executor whose one thread lives in a network namespace."""
    libc = ctypes.CDLL(None, use_errno=True)

    def enter():
        with open(netns) as file:
            assert libc.setns(file.fileno(), 0) == 0, os.strerror(ctypes.get_errno())

    return ThreadPoolExecutor(1, initializer=enter)


class Wire:
    """A way to put frames in, and to see what comes back."""

    def __init__(self):
        self._number = 0

    def exchange(self, version, frames):
        """Put frames in; return what came back until all were handled."""
        self._number = (self._number + 1) & 0xFFFF
        for frame in (*frames, marker(version, self._number)):
            self.write(frame, version)
        came, deadline = [], time.monotonic() + DEADLINE_S
        while True:
            frame = self.read(deadline)
            if is_answer(frame, self._number):
                return came
            if not is_chatter(frame):
                came.append(frame)
