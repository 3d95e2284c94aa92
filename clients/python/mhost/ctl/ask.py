"""One question to the daemon: mhostctl starts, asks and ends."""

from __future__ import annotations

import os
from typing import Any

from mhost.ctl.zmtp import Dealer
from mhostd.uapi import (
    DEFAULT_SOCKET,
    VERSION,
    AdminRequest,
    AnsweredRequest,
    Hello,
    Reply,
    Show,
    decode_event,
    encode,
)

TIMEOUT_S = 5.0
_SILENT = "mhostd at {} does not answer; see `systemctl status mhostd`"


class NoDaemonError(Exception):
    """Nobody answers; the text says what to do."""


class RefusedError(Exception):
    """The daemon does not do it; the text is its own."""


def show(what: str) -> Any:
    """Return the value of a reading verb."""
    daemon = _Connection(os.environ.get("MHOST_SOCKET") or DEFAULT_SOCKET)
    return daemon.ask(Show(1, what))


def change(request: AdminRequest) -> Any:
    """Carry out a changing verb, on the admin socket that the daemon names."""
    daemon = _Connection(os.environ.get("MHOST_SOCKET") or DEFAULT_SOCKET)
    return _Connection(daemon.admin_socket).ask(request)


class _Connection:
    """A session; the end of the process ends it."""

    def __init__(self, address: str) -> None:
        self._address = address
        try:
            self._dealer = Dealer(address, TIMEOUT_S)
        except PermissionError:
            raise RefusedError(
                f"{address} is not open to you; become root, or join the group mhost"
            ) from None
        except TimeoutError:
            raise NoDaemonError(_SILENT.format(address)) from None
        except (OSError, ValueError) as err:
            why = getattr(err, "strerror", None) or err
            raise NoDaemonError(
                f"no mhostd at {address} ({why}); start it with `systemctl start mhostd` "
                "or `mhostd --config FILE`, or set MHOST_SOCKET"
            ) from None
        value = self.ask(Hello(0, VERSION, "mhostctl"))
        self.admin_socket = str(value[3])

    def ask(self, request: AnsweredRequest) -> Any:
        """Send a request and return the value of its reply."""
        try:
            self._dealer.send(encode(request))
            event = decode_event(self._dealer.recv())
        except (OSError, ValueError):
            raise NoDaemonError(_SILENT.format(self._address)) from None
        if not isinstance(event, Reply):
            raise RefusedError(f"mhostd at {self._address} answered {event}")
        if event.errno:
            raise RefusedError(event.text)
        return event.value
