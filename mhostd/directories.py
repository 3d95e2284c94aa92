"""Which directory the configuration names."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

from mhostd.config import Config, ConfigError
from mhostd.directory_etcd import EtcdDirectory
from mhostd.directory_file import FileDirectory
from mhostd.host.directory import Directory, NoDirectory


def open_directory(
    config: Config,
    state_dir: Path,
    loop: asyncio.AbstractEventLoop,
    soon: Callable[[Callable[[], object]], object] | None = None,
) -> Directory:
    """Open it; nothing is read or sent before it is used.

    Args:
        config: the whole file.
        state_dir: where the file backend's folder is, unless it is named.
        loop: in whose thread callbacks are called.
        soon: calls them there; the loop itself if it is not given.

    Raises:
        ConfigError: what the backend needs is not there.
    """
    section = config.directory
    call = soon or loop.call_soon
    if section.backend == "none":
        return NoDirectory(call)
    if section.backend == "file":
        path = Path(section.path) if section.path else state_dir / "directory"
        return FileDirectory(path, lambda callback: loop.call_soon_threadsafe(call, callback))
    try:
        from mhostd.etcd_gateway import EtcdGateway
    except ModuleNotFoundError as err:
        raise ConfigError(
            f"directory.backend: etcd needs {err.name}; `pip install 'mhostd[etcd]'` has it"
        ) from None
    password = ""
    if section.password_file:
        try:
            password = Path(section.password_file).read_text().strip("\r\n")
        except (OSError, UnicodeDecodeError) as err:
            raise ConfigError(f"directory.password_file: {err}") from None
    try:
        gateway = EtcdGateway(section, password)
    except OSError as err:  # an SSLError is one, too
        names = " ".join(filter(None, (section.ca, section.cert, section.key)))
        raise ConfigError(f"directory: {names}: {err.strerror or err}") from None
    return EtcdDirectory(gateway, section.prefix, loop, call)
