"""The wake: whatever is readable is drained, then everything queued is flushed once.

One epoll instance holds every descriptor of the daemon; the event loop waits for that
one alone. A second reason for it: libuv ends a watch on POLLERR, which is how a kernel
socket says that its error queue has something (tests/platform/test_uvloop_poll.py).
"""

from __future__ import annotations

import logging
import select
from collections.abc import Callable

EVENTS_PER_WAKE = 64

log = logging.getLogger(__name__)


class Poller:
    """Descriptors, their callbacks, and what is done after each round of them.

    Attributes:
        flush: called once at the end of each wake.
        arm: asks the event loop for another wake soon; main gives it.
    """

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._soon: dict[Callable[[], object], None] = {}
        self.flush: Callable[[], None] = lambda: None
        self.arm: Callable[[], object] = lambda: None

    def fileno(self) -> int:
        """For the event loop: readable while any of the descriptors is."""
        return self._epoll.fileno()

    def watch(self, fd: int, callback: Callable[[], None] | None) -> None:
        """Call back whenever `fd` is readable or has an error; None ends it."""
        if callback is None:
            if self._callbacks.pop(fd, None) is not None:
                self._epoll.unregister(fd)
            return
        self._callbacks[fd] = callback
        self._epoll.register(fd, select.EPOLLIN)

    def soon(self, callback: Callable[[], object]) -> None:
        """Call back once in the next wake, which is asked for."""
        if not self._soon:
            self.arm()
        self._soon[callback] = None

    def wake(self) -> None:
        """One round."""
        ready, self._soon = self._soon, {}
        for callback in ready:
            self._run(callback)
        for fd, _events in self._epoll.poll(0, EVENTS_PER_WAKE):
            ready_callback = self._callbacks.get(fd)
            if ready_callback is not None:
                self._run(ready_callback)
        self._run(self.flush)

    def close(self) -> None:
        """Forget every descriptor."""
        self._callbacks.clear()
        self._epoll.close()

    @staticmethod
    def _run(callback: Callable[[], object]) -> None:
        """One that fails is logged, and does not keep the others from running."""
        try:
            callback()
        except Exception:
            log.exception("unexpected error; the daemon goes on")
