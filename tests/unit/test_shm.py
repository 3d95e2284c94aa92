"""Handing a socket's memory over to a daemon that is this test."""

import array
import fcntl
import os
import socket
import struct
import threading

import pytest
from mhost.shm import LaneLink, memory, pair

from mhostd.uapi import LANE, LANE_OCTETS, VERSION


class Listener:
    """Takes one connection and answers each message on it with the next of `answers`.

    Attributes:
        seen: (version, number, size and seals of the memory) of each.
    """

    def __init__(self, path, answers):
        self.seen = []
        self._answers = answers
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(path)
        self._listener.listen()
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def _run(self):
        client, _ = self._listener.accept()
        with self._listener, client:
            for answer in self._answers:
                message, ancillary, _flags, _from = client.recvmsg(99, socket.CMSG_SPACE(8))
                memfd, far = array.array("i", ancillary[0][2])
                seals = fcntl.fcntl(memfd, fcntl.F_GET_SEALS)
                self.seen.append((*LANE.unpack(message), os.fstat(memfd).st_size, seals))
                os.write(far, b"!")
                os.close(memfd)
                os.close(far)
                if answer is None:
                    return
                client.send(answer)


@pytest.fixture
def descriptors():
    fds = [memory(), *pair()]
    yield fds
    for fd in fds:
        os.close(fd)


def test_what_is_handed_over_and_what_the_answers_mean(tmp_path, descriptors):
    memfd, near, far = descriptors
    answers = [struct.pack("=i", 0), struct.pack("=i", 22) + b"why", b"\0", None]
    listener = Listener(str(tmp_path / "lane"), answers)
    link = LaneLink(str(tmp_path / "lane"))
    taken = [link.hand_over(number, memfd, far) for number in range(5)]
    assert taken == [True, False, False, False, False]
    listener.thread.join()
    link.close()
    seals = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL
    assert listener.seen == [(VERSION, n, LANE_OCTETS, seals) for n in range(4)]
    assert [os.read(near, 9) for _ in range(4)] == [b"!"] * 4


def test_nobody_listens(tmp_path):
    with pytest.raises(FileNotFoundError):
        LaneLink(str(tmp_path / "lane"))


def test_a_daemon_that_does_not_answer_is_not_waited_for(tmp_path, descriptors, monkeypatch):
    memfd, _near, far = descriptors
    monkeypatch.setattr("mhost.shm.HAND_OVER_TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(str(tmp_path / "lane"))
        listener.listen()
        link = LaneLink(str(tmp_path / "lane"))
        assert not link.hand_over(1, memfd, far)
        link.close()
