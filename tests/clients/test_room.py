"""A ring that is full; over ZeroMQ alone a sender that waits holds the connection's lock."""

import signal
import threading
import time

import pytest

FREE_S = 10  # seconds


@pytest.mark.native
def test_a_sender_that_waits_for_room_holds_up_no_receiver(bound, pair):
    sock, port = bound
    to = ("10.77.1.1", port)
    sends, copy = sock.dup(), sock.dup()
    for _ in range(2):
        sends.sendto(b"known", to)
        assert sock.recv(9) == b"known"
    sends.settimeout(None)

    def fill():
        for _ in range(40):  # more than what the memory takes
            sends.sendto(bytes(60_000), to)

    thread = threading.Thread(target=fill)
    pair[0].daemon.send_signal(signal.SIGSTOP)
    try:
        thread.start()
        while not sock._sk.arrived._waiting:
            time.sleep(0.001)
        copy.close()
        sock.settimeout(0.05)
        with pytest.raises(TimeoutError):
            while True:  # what the daemon had taken before it stopped
                sock.recv(9)
    finally:
        pair[0].daemon.send_signal(signal.SIGCONT)
    thread.join(FREE_S)
    assert not thread.is_alive()
    sends.close()
