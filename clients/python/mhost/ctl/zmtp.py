"""A DEALER that asks one question: ZMTP 3.0, NULL mechanism, over AF_UNIX.

libzmq takes 25 ms to load, almost half of what mhostctl may need to start, and two
threads; this needs neither. https://rfc.zeromq.org/spec/23/ is what it implements:

    greeting   ff 00*8 7f | 3 0 | "NULL" zero padded to 20 | 0 | 00*31    64 octets
    frame      flags (1 more, 2 long, 4 command) | length, 1 or 8 octets | body
"""

from __future__ import annotations

import socket
import struct

_GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
_MORE, _LONG, _COMMAND = 1, 2, 4
_FRAME_MAX = 1 << 24  # octets; a listing of 10,000 sockets has 3 MB


class Dealer:
    """One connection; send() and recv() are messages of one frame."""

    def __init__(self, address: str, timeout_s: float) -> None:
        """Connect and shake hands.

        Raises:
            OSError: nobody listens at `ipc://` address, or it did not answer in time.
            ValueError: it does not speak ZMTP 3.
        """
        path = address.removeprefix("ipc://")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_s)
        try:
            self._socket.connect("\0" + path[1:] if path.startswith("@") else path)
            ready = _property("Socket-Type", b"DEALER") + _property("Identity", b"")
            command = b"\x05READY" + ready
            self._socket.sendall(_GREETING + bytes((_COMMAND, len(command))) + command)
            greeting = self._read(len(_GREETING))
            if greeting[:1] != b"\xff" or greeting[9:11] != b"\x7f\x03":
                raise ValueError(f"{address} does not speak ZMTP 3")
            self._read_frame()  # its READY
        except BaseException:
            self._socket.close()
            raise

    def send(self, body: bytes) -> None:
        """Send one message."""
        if len(body) > 0xFF:
            head = struct.pack("!BQ", _LONG, len(body))
        else:
            head = struct.pack("!BB", 0, len(body))
        self._socket.sendall(head + body)

    def recv(self) -> bytes:
        """Receive one message; commands of the peer are passed over."""
        while True:
            flags, body = self._read_frame()
            if not flags & _COMMAND:
                return body

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _read_frame(self) -> tuple[int, bytes]:
        flags, length = self._read(2)
        if flags & _LONG:
            (length,) = struct.unpack("!Q", bytes((length,)) + self._read(7))
        if length > _FRAME_MAX:
            raise ValueError(f"frame of {length} octets exceeds {_FRAME_MAX}")
        return flags, self._read(length)

    def _read(self, octets: int) -> bytes:
        data = bytearray()
        while len(data) < octets:
            more = self._socket.recv(octets - len(data))
            if not more:
                raise ConnectionResetError("the daemon hung up")
            data += more
        return bytes(data)


def _property(name: str, value: bytes) -> bytes:
    return bytes((len(name),)) + name.encode() + struct.pack("!I", len(value)) + value
