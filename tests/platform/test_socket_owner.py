"""A kernel socket can be given to a user, and SO_REUSEPORT compares that one (Linux)."""

import errno
import os
import socket

import pytest


def bound(uid, port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    os.fchown(sock.fileno(), uid, -1)
    try:
        sock.bind(("127.0.0.1", port))
    except OSError:
        sock.close()
        raise
    return sock


def test_a_port_is_shared_by_sockets_of_one_user_only():
    with bound(1000, 0) as first:
        port = first.getsockname()[1]
        bound(1000, port).close()
        for uid in (0, 1001):
            with pytest.raises(OSError, match="in use") as err:
                bound(uid, port)
            assert err.value.errno == errno.EADDRINUSE
