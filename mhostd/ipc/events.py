"""What happens to hosts and paths, for whoever listens: a ZeroMQ PUB socket.

A message has two parts: what happened ("path", "switch", "association", "unreachable"), to
subscribe to, and a JSON object. Who listens too slowly misses some; nothing waits.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import zmq

from mhostd.errors import MhostError
from mhostd.ipc.door import chgrp

BACKLOG_MESSAGES = 1000  # that wait for one listener


class Events:
    """The socket; anybody who may ask the daemon may listen."""

    def __init__(
        self, context: zmq.Context[zmq.Socket[bytes]], address: str, group: str = ""
    ) -> None:
        """Bind it.

        Raises:
            MhostError: the path cannot be bound, or its group not set.
        """
        self._path = Path(address.removeprefix("ipc://"))
        self._socket = context.socket(zmq.PUB)
        self._socket.sndhwm = BACKLOG_MESSAGES
        self._socket.linger = 0
        mask = os.umask(0o117)
        try:
            self._socket.bind(address)
            if group:
                chgrp(address.removeprefix("ipc://"), group)
        except (OSError, zmq.ZMQError) as err:
            self.close()
            number = err.errno or errno.EIO
            text = f"socket {address}: {os.strerror(number)}; name another path"
            raise MhostError(number, text) from None
        finally:
            os.umask(mask)

    def send(self, event: dict[str, str | float]) -> None:
        """Tell those who listen."""
        what = str(event["event"])
        self._socket.send_multipart([what.encode(), json.dumps(event).encode()], zmq.DONTWAIT)

    def close(self) -> None:
        """Nobody is told any more."""
        self._socket.close()
        self._path.unlink(missing_ok=True)
