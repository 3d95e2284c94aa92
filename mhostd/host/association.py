"""An association: the handshakes with one peer, and the sessions that they leave.

The last session that either side has made is used; one before it is heard for as long as
the peer uses it. One that the peer has asked for counts once the peer has used it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

from mhostd.errors import MhostError
from mhostd.host.handshake import Initiation, Invitation
from mhostd.host.identity import Identity
from mhostd.host.path import IDLE_PROBE_S, Path, Way
from mhostd.host.paths import NEVER, Paths
from mhostd.host.session import REJECT_S, REKEY_LATE_S, REKEY_S, Session
from mhostd.host.wire import HLEN, MAC_LEN

RACE_S = 0.250  # RFC 8305 section 8: Connection Attempt Delay
RACE_END_S = 0.1  # for the answer to the last one
INIT_AGAIN_S = 1.0  # until the next INIT, doubled up to
INIT_AGAIN_MAX_S = 8.0
NEXT_S = 15.0  # how long a session waits for the peer to use it
PREVIOUS_S = 3 * IDLE_PROBE_S  # how long one is kept that the peer does not use any more


class Ids(Protocol):
    """What is asked of the host."""

    us: Identity

    def transmit(self, way: Way, packet: bytes) -> None:
        """Send; MhostError says why that is impossible now."""

    def new_id(self) -> int:
        """An association id that nobody has."""

    def drop_id(self, local_id: int) -> None:
        """It is not used any more."""

    def timestamp(self) -> int:
        """Nanoseconds since the epoch, greater than the last time."""
        ...


class Association:
    """One of them.

    Attributes:
        session: what is used; None while there is no association.
        newest_ns: time stamp of the peer's last INIT.
        due_s: when run() is to be called.
    """

    def __init__(
        self,
        ids: Ids,
        public: bytes,
        paths: Paths,
        established: Callable[[bool, float], None],
        changed: Callable[[], None],
    ) -> None:
        """Begin without one.

        Args:
            ids: the host.
            public: the peer's key.
            paths: to the peer.
            established: called when another session is used: whether there was none.
            changed: called when one is used no more.
        """
        self._ids = ids
        self._public = public
        self._paths = paths
        self._established = established
        self._changed = changed
        self.session: Session | None = None
        self._previous: Session | None = None
        self._next: Session | None = None
        self._initiation: Initiation | None = None
        self._init_s = NEVER  # when the next INIT is due
        self._end_s = NEVER  # when another handshake is begun instead
        self._race: deque[Path] = deque()
        self._sent: list[Path] = []  # over which INIT went
        self._backoff_s = INIT_AGAIN_S
        self.newest_ns = 0
        self._answered: tuple[bytes, bytes] | None = None  # an INIT and its RESPONSE
        self._answered_ways: set[Way] = set()
        self.due_s = NEVER

    def sessions(self) -> list[Session]:
        """Those that are heard."""
        return [s for s in (self.session, self._previous, self._next) if s is not None]

    @property
    def forming(self) -> bool:
        """An INIT has no answer yet."""
        return self._initiation is not None

    # --- we call

    def connect(self, now: float) -> None:
        """Begin a handshake, unless one is under way: INIT races over the paths."""
        if self._initiation is not None:
            return
        self._initiation = Initiation(
            self._ids.us, self._public, self._ids.new_id(), self._ids.timestamp()
        )
        self._sent.clear()
        self._race = deque(self._paths.ordered())
        self._end_s = now + max(self._backoff_s, RACE_S * len(self._race) + RACE_END_S)
        self._backoff_s = min(2 * self._backoff_s, INIT_AGAIN_MAX_S)
        self._initiate(now)

    def _initiate(self, now: float) -> None:
        """The next candidate; one that cannot even send is no reason to wait."""
        assert self._initiation is not None
        self._init_s = NEVER
        while self._race:
            path = self._race.popleft()
            try:
                self._ids.transmit(path.way, self._initiation.packet(path.number))
            except MhostError as err:
                self._paths.failed(path, err.strerror, now)
                continue
            self._sent.append(path)
            self._init_s = now + RACE_S
            break
        self._due(now)

    def hurry(self, now: float) -> None:
        """A candidate is said not to work: the next one need not wait."""
        if self._initiation is not None and self._race:
            self._initiate(now)

    def found(self, now: float) -> None:
        """There may be other candidates now: they join the race."""
        if self._initiation is None:
            return
        known = {*self._sent, *self._race}
        self._race.extend(path for path in self._paths.ordered() if path not in known)
        if self._race and self._init_s == NEVER:
            self._end_s = max(self._end_s, now + RACE_S * len(self._race) + RACE_END_S)
            self._initiate(now)

    def awaits(self, local_id: int) -> bool:
        """Whether an INIT with that association id has no answer yet."""
        return self._initiation is not None and self._initiation.local_id == local_id

    def cookie(self, packet: bytes, way: Way) -> None:
        """The peer is under load and wants to see that we are where we say."""
        path = self._paths.at(way)
        if self._initiation is not None and self._initiation.cookie(packet) and path:
            try:
                self._ids.transmit(path.way, self._initiation.packet(path.number))
            except MhostError:
                return  # INIT is sent again

    def response(self, packet: bytes, way: Way, now: float) -> None:
        """RESPONSE has come: the association is there.

        Raises:
            NoiseError, WireError: it is not the peer's.
        """
        initiation = self._initiation
        assert initiation is not None
        remote_id, keys = initiation.response(packet)
        session = Session(keys, initiation.local_id, remote_id, True, now)
        self._initiation = None
        self._init_s = self._end_s = NEVER
        self._backoff_s = INIT_AGAIN_S
        self._use(session, now)
        path = self._paths.of(way, now)
        if path in self._sent:  # from elsewhere it proves nothing of a path
            self._paths.works_now(path, "handshake answered", now)
        self._told(now)

    def give_up(self) -> None:
        """Nobody waits for an association any more."""
        if self._initiation is not None:
            self._ids.drop_id(self._initiation.local_id)
        self._initiation = None
        self._init_s = self._end_s = NEVER

    # --- the peer calls

    def invitation(self, packet: bytes, invitation: Invitation, way: Way, now: float) -> None:
        """A right INIT has come: make a session that counts once the peer uses it."""
        self.newest_ns = invitation.timestamp_ns
        if self._next is not None:
            self._ids.drop_id(self._next.local_id)
        path = self._paths.of(way, now)
        local_id = self._ids.new_id()
        answer, keys = invitation.answer(local_id, path.number if path else 0)
        self._next = Session(keys, local_id, invitation.remote_id, False, now)
        self._answered = packet[HLEN : -2 * MAC_LEN], answer
        self._answered_ways = {path.way if path else way}
        self._answer(way)
        self._due(now)

    def invited_again(self, packet: bytes, way: Way) -> bool:
        """The same INIT over another path, or once more: the same answer."""
        if self._answered is None or packet[HLEN : -2 * MAC_LEN] != self._answered[0]:
            return False
        path = self._paths.at(way)
        if path is not None:  # what anybody may repeat makes no path
            self._answered_ways.add(path.way)
        self._answer(way)
        return True

    def _answer(self, way: Way) -> None:
        assert self._answered is not None
        try:
            self._ids.transmit(way, self._answered[1])
        except MhostError:
            return  # the peer asks again

    # --- sessions

    def authentic(self, session: Session, path: Path | None, now: float) -> None:
        """Something came in a session that only the peer can have sent."""
        session.heard_s = now
        if session.confirmed:
            return
        session.confirmed = True
        self._use(session, now)
        if path is not None and path.way in self._answered_ways:
            self._paths.works_now(path, "handshake confirmed", now)  # RESPONSE went there
        self._told(now)

    def _use(self, session: Session, now: float) -> None:
        # Where both have called at once each may take the other's session for the older
        # one: the one that the peer uses stays, whichever that is.
        old = [s for s in (self.session, self._previous) if s is not None]
        old.sort(key=lambda s: s.heard_s)
        for each in old[:-1]:
            self._ids.drop_id(each.local_id)
        self._previous = old[-1] if old else None
        self.session = session
        if not old:
            self._paths.begin(now)
        if self._next is session:
            self._next = None

    def _told(self, now: float) -> None:
        self._established(self._previous is None, now)
        self._due(now)

    def forget(self, session: Session) -> None:
        """Neither side uses a session any more."""
        self._ids.drop_id(session.local_id)
        if session is self.session:
            self.session = None
            if self._previous is not None:
                self.forget(self._previous)
            self._changed()
        elif session is self._previous:
            self._previous = None
        elif session is self._next:
            self._next = None

    def close(self) -> None:
        """Forget all of them."""
        for session in self.sessions():
            self.forget(session)
        self.give_up()
        self.due_s = NEVER

    # --- time

    def run(self, waiting: bool, stale: bool, now: float) -> None:
        """Do what is due.

        Args:
            waiting: something waits to be sent.
            stale: somebody sends and no path works: the peer may have forgotten us.
            now: seconds.
        """
        if self._initiation is not None:
            if now >= self._init_s:
                self._initiate(now)
            if now >= self._end_s:
                self.give_up()
                if waiting or stale:
                    self.connect(now)
                else:
                    self._backoff_s = INIT_AGAIN_S
        elif self.session is None:
            if waiting:
                self.connect(now)
        elif stale or now >= self._rekey_s(self.session):
            self.connect(now)
        for session in self.sessions():
            age_s = now - session.made_s
            if (
                age_s >= REJECT_S
                or (session is self._next and age_s >= NEXT_S)
                or (session is self._previous and now - session.heard_s >= PREVIOUS_S)
            ):
                self.forget(session)
        self._due(now)

    @staticmethod
    def _rekey_s(session: Session) -> float:
        return session.made_s + (REKEY_S if session.initiator else REKEY_LATE_S)

    def _due(self, now: float) -> None:
        due_s = min(self._init_s, self._end_s)
        if self.session is not None:
            due_s = min(due_s, max(now + 1.0, self._rekey_s(self.session)))
        if self._previous is not None:
            due_s = min(due_s, now + PREVIOUS_S)
        if self._next is not None:
            due_s = min(due_s, now + NEXT_S)
        self.due_s = due_s
