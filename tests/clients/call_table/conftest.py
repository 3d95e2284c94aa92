"""A table of calls, run on a kernel UDP socket and on an AF_MHOST socket side by side.

A module's ROWS are {name: (function, versions, differs)}. The function is given a fresh
socket and its Side; what it returns, values and names of errors, must be the same on both.
`versions` are those of IP that it is run with. `differs` says why AF_MHOST is different by
design: then it must be so. The kernel's sockets are those of this process's namespace, the
daemon's in one of its own: all traffic stays on lo.
"""

import ctypes
import errno
import select
import socket
import time

import mhost
import pytest

DEADLINE_S = 10

libc = ctypes.CDLL(None, use_errno=True)


class Side:
    """The kernel's sockets of one family, or those of AF_MHOST."""

    def __init__(self, version, ours):
        self.version, self.ours = version, ours
        self.family = socket.AF_INET if version == 4 else socket.AF_INET6
        self.host = "127.0.0.1" if version == 4 else "::1"
        self.opened = []

    def socket(self, kind=socket.SOCK_DGRAM, proto=0, family=None):
        if self.ours:
            sock = mhost.Socket(mhost.AF_MHOST if family is None else family, kind, proto)
        else:
            sock = socket.socket(self.family if family is None else family, kind, proto)
        self.opened.append(sock)
        if not kind & socket.SOCK_NONBLOCK:
            sock.settimeout(5)
        return sock

    def bound(self):
        """A socket bound to the loopback address, and its address."""
        sock = self.socket()
        sock.bind((self.host, 0))
        return sock, sock.getsockname()[:2]

    def peer(self, sock):
        """The same, and `sock` is connected to it."""
        other, address = self.bound()
        sock.connect(address)
        return other

    def refuses(self):
        """An address where nobody listens."""
        sock, address = self.bound()
        sock.close()
        return address

    def at(self, sock):
        """Where others reach it."""
        return self.host, sock.getsockname()[1]

    def disconnect(self, sock):
        """connect(2) with AF_UNSPEC, which the stdlib cannot say."""
        if self.ours:
            sock.connect(None)
        elif libc.connect(sock.fileno(), bytes(16), 16):
            raise OSError(ctypes.get_errno(), "connect")

    def given(self, sock, *payloads):
        """`sock` is bound and sent these; return the sender."""
        sock.bind((self.host, 0))
        sender = self.socket()
        for payload in payloads:
            sender.sendto(payload, self.at(sock))
        self.ready(sock)
        return sender

    def place(self, address):
        """An address without what differs from run to run."""
        if not isinstance(address, tuple):
            return address
        return ("here" if address[0] == self.host else address[0], "port" if address[1] else 0)

    def close(self):
        for sock in self.opened:
            sock.close()

    # --- what rows are made of

    @staticmethod
    def outcome(call, *args):
        """What it returns, or the name of its error."""
        try:
            return call(*args)
        except OSError as err:
            return errno.errorcode.get(err.errno, type(err).__name__)
        except (TypeError, ValueError, OverflowError) as err:
            return type(err).__name__

    def at_once(self, sock, call, *args):
        """The outcome of what does not block."""
        sock.setblocking(False)
        return self.outcome(call, *args)

    @staticmethod
    def receive(sock, call, flags=0):
        """Nine octets at most, by the call of that name."""
        buffer = bytearray(9)
        args = {
            "recv": (9, flags),
            "recvfrom": (9, flags),
            "recv_into": (buffer, 0, flags),
            "recvfrom_into": (buffer, 0, flags),
            "recvmsg": (9, 0, flags),
            "recvmsg_into": ([buffer], 0, flags),
        }
        return getattr(sock, call)(*args[call])

    @staticmethod
    def ready(sock):
        """Wait until it is readable."""
        assert select.select([sock], [], [], DEADLINE_S)[0]

    @staticmethod
    def until(call, unless):
        """Call it until it returns something else."""
        deadline = time.monotonic() + DEADLINE_S
        while (got := call()) == unless and time.monotonic() < deadline:
            time.sleep(0.005)
        return got


def pytest_generate_tests(metafunc):
    """Each row is a test."""
    if "row" in metafunc.fixturenames:
        rows = metafunc.module.ROWS.items()
        metafunc.parametrize("row", [
            pytest.param((function, version, differs), id=f"{name}-v{version}")
            for name, (function, versions, differs) in rows for version in versions
        ])  # fmt: skip


@pytest.fixture
def run():
    """Run a row on the kernel's sockets, or on ours."""

    def one(function, version, ours):
        side = Side(version, ours)
        try:
            return function(side.socket(), side)
        finally:
            side.close()

    return one
