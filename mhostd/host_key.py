"""The file that keeps our key: made on the first start, readable by its owner alone."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from mhostd.host.identity import KEY_LEN, Identity

FILE = "host.key"


def load_identity(state: Path) -> Identity:
    """Read our key, or make one.

    Args:
        state: the directory; it is made if need be.

    Raises:
        OSError: it cannot be read, or made.
        ValueError: what is there is no key; nothing is overwritten.
    """
    path = state / FILE
    try:
        octets = path.read_bytes()
    except FileNotFoundError:
        return _make(state)
    if len(octets) != KEY_LEN:
        raise ValueError(
            f"{path} has {len(octets)} octets; a key has {KEY_LEN}. Restore it, or remove it "
            "to be another host from now on"
        )
    return Identity.from_private(octets)


def _make(state: Path) -> Identity:
    """Make one; of two who do so at once the first wins, and a crash leaves all or nothing."""
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    ours = state / f".{FILE}.{secrets.token_hex(8)}"
    fd = os.open(ours, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(Identity.generate().private_octets())
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(ours, state / FILE)
        except FileExistsError:
            pass
    finally:
        ours.unlink()
    directory = os.open(state, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
    return load_identity(state)
