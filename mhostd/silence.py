"""Plain peers with several addresses: which of them does not answer.

A peer that runs nothing of ours says nothing of its addresses; it answers, or it does not.
Who asks twice within a quarter of a second and hears nothing is sent to another address.
A peer that never answers anybody may be one that need not: a stream to it stays where it
is, and of who asks seldom each of its addresses is tried once; then it stays with the first.
"""

from __future__ import annotations

import errno
from collections import OrderedDict
from dataclasses import dataclass, field

from mhostd.sock import Locator

SILENT_S = 0.250  # RFC 8305 section 5, Connection Attempt Delay
SILENT_ERRNO = errno.ETIMEDOUT  # what a locator is passed over for
ASKED = 2  # datagrams without an answer that are needed as well
PATIENT_S = 0.080  # between datagrams of who waits for an answer
PEERS_MAX = 4_096  # remembered, the one that was longest unused is forgotten first

PeerKey = tuple[int, int]
"""(handle, port) of a host."""


@dataclass(slots=True)
class _Peer:
    """One of them.

    Attributes:
        answers: it has answered before.
        asked: since when, and how often, a locator was sent to without an answer.
        silent: locators that were given up, while it has never answered.
    """

    answers: bool = False
    asked: dict[Locator, tuple[float, int]] = field(default_factory=dict)
    silent: set[Locator] = field(default_factory=set)


class Silence:
    """What was asked, and what has not been answered."""

    def __init__(self) -> None:
        self._peers: OrderedDict[PeerKey, _Peer] = OrderedDict()

    def sent(self, key: PeerKey, locator: Locator, now: float) -> None:
        """A datagram goes to a host, at one of its several locators."""
        peer = self._peers.get(key)
        if peer is None:
            if len(self._peers) >= PEERS_MAX:
                self._peers.popitem(last=False)
            peer = self._peers[key] = _Peer()
        self._peers.move_to_end(key)
        since_s, count = peer.asked.get(locator, (now, 0))
        peer.asked[locator] = since_s, count + 1

    def heard(self, key: PeerKey, locator: Locator) -> None:
        """A datagram came from there."""
        peer = self._peers.get(key)
        if peer is not None:
            peer.answers = True
            peer.asked.pop(locator, None)
            peer.silent.clear()

    def elsewhere(self, key: PeerKey, locator: Locator) -> None:
        """The fast lane sees from now on whether it is answered there."""
        peer = self._peers.get(key)
        if peer is not None:
            peer.asked.pop(locator, None)

    def silent(self, key: PeerKey, locators: list[Locator], now: float) -> Locator | None:
        """The locator of a host, of these, that should be passed over now, if any."""
        peer = self._peers.get(key)
        if peer is None:
            return None
        for locator, (since_s, count) in peer.asked.items():
            if count < ASKED or now - since_s < SILENT_S or locator not in locators:
                continue
            if not peer.answers and now - since_s < count * PATIENT_S:
                continue  # who sends that fast waits for no answer
            del peer.asked[locator]
            if not peer.answers:
                if len(peer.silent) >= len(locators) - 1:
                    return None  # all were tried: perhaps it never answers
                peer.silent.add(locator)
            return locator
        return None

    def pending(self, key: PeerKey) -> bool:
        """Whether silence would mean something: it answers, or was not tried everywhere."""
        peer = self._peers.get(key)
        return peer is not None and (peer.answers or bool(peer.asked) or bool(peer.silent))
