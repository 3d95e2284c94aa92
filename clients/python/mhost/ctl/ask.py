"""One question to the daemon: mhostctl starts, asks and ends.

It speaks MessagePack through msgpack, which loads in 5 ms, and not through mhostd.uapi,
whose msgspec takes 37 of the 60 ms that mhostctl may take; tests/unit/test_ctl.py
compares the two.
"""

from __future__ import annotations

import os

import msgpack

from mhost.ctl.zmtp import Dealer

TYPE_CHECKING = False  # for type checkers it is true; typing takes 10 ms to load
if TYPE_CHECKING:
    from typing import Any

    Request = list[Any]  # ["tag", seq, field, ...], docs/ipc.md

VERSION = 1
DEFAULT_SOCKET = "ipc:///run/mhostd/mhost.sock"
TIMEOUT_S = 5.0
_SILENT = "mhostd at {} does not answer; see `systemctl status mhostd`"


class NoDaemonError(Exception):
    """Nobody answers; the text says what to do."""


class RefusedError(Exception):
    """The daemon does not do it; the text is its own."""


def show(what: str, name: str = "") -> Any:
    """Return the value of a reading verb, of the host `name` if it is about one."""
    return _application().ask(["show", 1, what, name])


def change(request: Request) -> None:
    """Carry out a changing verb, on the admin socket that the daemon names."""
    _Connection(_application().admin_socket).ask(request)


def _application() -> _Connection:
    return _Connection(os.environ.get("MHOST_SOCKET") or DEFAULT_SOCKET)


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
        self.admin_socket = str(self.ask(["hello", 0, VERSION, "mhostctl"])[3])

    def ask(self, request: Request) -> Any:
        """Send a request and return the value of its reply."""
        try:
            self._dealer.send(msgpack.packb(request))
            tag, *fields = msgpack.unpackb(self._dealer.recv())
        except (OSError, ValueError):
            raise NoDaemonError(_SILENT.format(self._address)) from None
        if tag != "reply":
            raise RefusedError(f"mhostd at {self._address} answered {tag} {fields}")
        _seq, number, text, value = fields
        if number:
            raise RefusedError(text)
        return value
