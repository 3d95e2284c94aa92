"""The daemon's side of a socket in shared memory, in Python: what ring.h says, again."""

from __future__ import annotations

import fcntl
import mmap
import os
import select
import socket
import struct

import pytest
from mhost._ring import Ring

from mhostd.uapi import LANE_OCTETS, RECORD_ALIGN, RECORD_HLEN

RING = 1 << 20
HEAD = 4096
RX, TX = 0, 256  # octets of struct ring_ctl
HEAD_AT, TAIL_AT, WAKE_AT, ROOM_AT = 0, 64, 128, 192
PAD = 0x8000

_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


class Twin:
    """A socket's memory with the C ring on our side and this class on the daemon's.

    Attributes:
        ring: mhost._ring.Ring.
        shm: the memory.
        near, far: the pair of sockets.
    """

    def __init__(self, start=0):
        """Begin at that position, as a socket does that has been in use."""
        memfd = os.memfd_create("twin", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.ftruncate(memfd, LANE_OCTETS)
        fcntl.fcntl(memfd, fcntl.F_ADD_SEALS, _SEALS)
        self.shm = mmap.mmap(memfd, LANE_OCTETS)
        for ctl in (RX, TX):
            self.set(ctl + HEAD_AT, start)
            self.set(ctl + TAIL_AT, start)
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        self.ring = Ring(memfd, self.near.fileno(), self.far.fileno())
        os.close(memfd)
        self.put_at = self.take_at = start

    def close(self):
        self.ring.close()
        self.near.close()
        self.far.close()
        self.shm.close()

    def get(self, at, form="=Q"):
        return struct.unpack_from(form, self.shm, at)[0]

    def set(self, at, value, form="=Q"):
        struct.pack_into(form, self.shm, at, value)

    # --- what comes

    def put(self, record):
        """Put a record, padded or not, where nobody sees it yet; False if it is full."""
        need = -(-len(record) // RECORD_ALIGN) * RECORD_ALIGN
        to_end = RING - self.put_at % RING
        pad = to_end if need > to_end else 0
        if self.put_at + pad + need - self.get(RX + TAIL_AT) > RING:
            return False
        if pad:
            struct.pack_into("=IH", self.shm, HEAD + self.put_at % RING, pad, PAD)
            self.put_at += pad
        at = HEAD + self.put_at % RING
        self.shm[at : at + len(record)] = record
        self.put_at += need
        return True

    def publish(self):
        self.set(RX + HEAD_AT, self.put_at)

    def wake(self):
        """The doorbell, if somebody wants it and has not taken all."""
        if self.get(RX + TAIL_AT) != self.put_at and self.get(RX + WAKE_AT, "=I"):
            self.set(RX + WAKE_AT, 0, "=I")
            self.far.send(b"\0")

    def readable(self):
        return bool(select.select([self.near], [], [], 0)[0])

    # --- what is sent

    def take(self):
        """The oldest record that was sent, header and payload; None if there is none."""
        while self.take_at != self.get(TX + HEAD_AT):
            at = HEAD + RING + self.take_at % RING
            length, flags = struct.unpack_from("=IH", self.shm, at)
            if flags & PAD:
                assert self.take_at % RING + length == RING
                self.take_at += length
                continue
            assert length >= RECORD_HLEN
            assert self.take_at % RING + length <= RING
            self.take_at += -(-length // RECORD_ALIGN) * RECORD_ALIGN
            return self.shm[at : at + length]
        return None

    def release(self):
        """Give the room back, and say so if somebody waits and half of the ring is free."""
        self.set(TX + TAIL_AT, self.take_at)
        waits = self.get(TX + ROOM_AT, "=I")
        if waits and self.get(TX + HEAD_AT) - self.take_at > RING // 2:
            return
        self.set(TX + ROOM_AT, 0, "=I")
        self.octets()

    def octets(self):
        """Take the octets of the doorbell off; how many there were."""
        count = 0
        while select.select([self.far], [], [], 0)[0]:
            self.far.recv(8)
            count += 1
        return count

    def writable(self):
        return bool(select.select([], [self.near], [], 0)[1])


@pytest.fixture(scope="session")
def make_twin():
    """Twin(start); what a property test makes is closed by itself."""
    return Twin


@pytest.fixture
def twin():
    """At the beginning of fresh memory."""
    made = Twin()
    yield made
    made.close()


@pytest.fixture
def used_twin():
    """Just before the end of the ring, so that what comes next goes around it."""
    made = Twin(RING - 64)
    yield made
    made.close()
