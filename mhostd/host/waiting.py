"""What waits for an association: datagrams, for a while and not too many; and our locators.

The first sends of an application are not lost while a handshake is under way, and what we
say of where we are is said until it is acknowledged.
"""

from __future__ import annotations

import errno
from collections import deque
from typing import NamedTuple

from mhostd.errors import MhostError

NEVER = float("inf")
QUEUE_S = 3.0  # how long a datagram waits
QUEUE_MAX = 64  # datagrams that wait, and octets
QUEUE_OCTETS = 262_144
LOCATORS_AGAIN_S = 0.030
LOCATORS_AGAIN_MAX_S = 1.0
LOCATORS_FOR_S = 30.0


class Waiter(NamedTuple):
    """A datagram that waits.

    Attributes:
        deadline_s: until when.
        next: protocol of the inner packet.
        inner: the packet.
        duplicate: it is to take every path.
    """

    deadline_s: float
    next: int
    inner: bytes
    duplicate: bool


class Waiting:
    """Those of one peer, in their order."""

    def __init__(self) -> None:
        self._queue: deque[Waiter] = deque()
        self._octets = 0

    def __len__(self) -> int:
        return len(self._queue)

    @property
    def due_s(self) -> float:
        """When expired() is to be called."""
        return self._queue[0].deadline_s if self._queue else NEVER

    def put(self, next_: int, inner: bytes, duplicate: bool, now: float) -> None:
        """Have one more wait.

        Raises:
            MhostError: ENOBUFS if there are too many.
        """
        if len(self._queue) >= QUEUE_MAX or self._octets + len(inner) > QUEUE_OCTETS:
            raise MhostError(
                errno.ENOBUFS,
                f"sendto: {len(self._queue)} datagrams of {self._octets} octets wait for an "
                f"association, {QUEUE_MAX} and {QUEUE_OCTETS} may; send again in a moment",
            )
        self._queue.append(Waiter(now + QUEUE_S, next_, inner, duplicate))
        self._octets += len(inner)

    def take(self) -> list[Waiter]:
        """None waits any more."""
        found = list(self._queue)
        self._queue.clear()
        self._octets = 0
        return found

    def expired(self, now: float) -> list[Waiter]:
        """Those that have waited long enough; they wait no more."""
        found = []
        while self._queue and self._queue[0].deadline_s <= now:
            found.append(self._queue.popleft())
            self._octets -= len(found[-1].inner)
        return found


class Announcement:
    """Locators that are sent again until the peer acknowledges them, or is not there.

    Attributes:
        number: of the last ones; the peer takes none with a lower number.
        due_s: when they are to be sent again.
    """

    def __init__(self) -> None:
        self.number = 0
        self.due_s = NEVER
        self._again_s = LOCATORS_AGAIN_S
        self._until_s = NEVER

    def begin(self, number: int, now: float) -> None:
        """There are others."""
        self.number = number
        self.due_s = now
        self._again_s = LOCATORS_AGAIN_S
        self._until_s = now + LOCATORS_FOR_S

    def due(self, now: float) -> bool:
        """Whether to send them; once for each time that it says so."""
        if now < self.due_s:
            return False
        if now >= self._until_s:
            self.due_s = NEVER
            return False
        self.due_s = now + self._again_s
        self._again_s = min(2 * self._again_s, LOCATORS_AGAIN_MAX_S)
        return True

    def acknowledged(self, number: int) -> None:
        """The peer has those with a number."""
        if number >= self.number:
            self.due_s = NEVER
