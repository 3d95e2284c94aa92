"""The host's name service: getaddrinfo(3), which blocks, in a thread for each name."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Callable

from mhostd.sock import Locator

# What says that there is no such name, or no address of it; all else may pass (netdb.h).
_NO_NAME = {getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY")}

log = logging.getLogger(__name__)


class NameService:
    """Asks off the loop; an answer is handed over in a wake."""

    def __init__(self, soon: Callable[[Callable[[], object]], None]) -> None:
        self._soon = soon

    def ask(self, name: str, answered: Callable[[list[Locator] | None], None]) -> None:
        """Ask for a name; `answered` is given what system_locators() says."""
        loop = asyncio.get_running_loop()

        def run() -> None:
            locators = system_locators(name)
            try:
                loop.call_soon_threadsafe(self._soon, lambda: answered(locators))
            except RuntimeError:
                pass  # the loop has ended meanwhile

        try:
            threading.Thread(target=run, daemon=True).start()  # it does not hold up the end
        except RuntimeError as err:  # TasksMax
            log.warning("%s: %s", name, err)
            self._soon(lambda: answered(None))


def system_locators(name: str) -> list[Locator] | None:
    """Ask the system; it orders its answers as RFC 6724 says, and that order is kept.

    Returns:
        Each address once; none if the name does not exist or has no address; None if
        nobody could say.
    """
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    except UnicodeError:  # a label of more than 63 octets
        return []
    except OSError as err:
        log.debug("%s: %s", name, err)
        return [] if err.errno in _NO_NAME else None
    locators = []
    for family, _type, _proto, _canonname, sa in answers:
        if family in (socket.AF_INET, socket.AF_INET6):
            text = str(sa[0]).partition("%")[0]
            scope_id = int(sa[3]) if len(sa) == 4 else 0
            locators.append(Locator(family, socket.inet_pton(family, text), scope_id))
    return list(dict.fromkeys(locators))
