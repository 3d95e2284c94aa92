"""Traffic with one peer: what was sent is to be reported, what came is reported.

While datagrams go, by the walk or by the fast lane, the counters of the sessions are looked
at every 10 ms. What was sent over a path and is not reported in time says that the path is
silent; who receives reports every 25 ms, over the path on which it came.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from mhostd.host.association import Association
from mhostd.host.path import REPORT_S, Path, State
from mhostd.host.paths import NEVER, Paths
from mhostd.host.session import Session
from mhostd.host.wire import Report, Reports, emit_messages

TICK_S = 0.010
COLD_S = 0.300  # without any it is not looked at any more
REPORTS_MAX = 64  # in one packet
MEASURE_S = 0.25  # how often the path that is taken is probed meanwhile
COPIES_OCTETS_S = 12_500_000  # of copies on further paths, to one peer (RFC 8085, 3.1)
COPIES_BURST_S = 0.1
CAME_EVERY_S, CAME_MAX = 0.001, 1024  # what is kept of when datagrams came


class Traffic:
    """Of one peer.

    Attributes:
        warm: it is looked at.
        sent_s: when something was sent last.
        due_s: when tick() is to be called.
    """

    def __init__(
        self,
        association: Association,
        paths: Paths,
        send: Callable[[Path, bytes], None],
        warm: Callable[[bool], None],
    ) -> None:
        """Begin cold.

        Args:
            association: whose sessions count.
            paths: to the peer.
            send: sends a packet over a path, if it can.
            warm: told when traffic is looked at from now on, and when not.
        """
        self._association = association
        self._paths = paths
        self._send = send
        self._warm = warm
        self.warm = False
        self.sent_s = float("-inf")
        self.due_s = NEVER
        self._moved_s = float("-inf")
        self._reported_s = float("-inf")
        self._patient_s = float("-inf")
        self._came: deque[tuple[float, int]] = deque(maxlen=CAME_MAX)
        self._allowance = (float("-inf"), 0.0)  # octets of copies, and when that was

    def moves(self, now: float) -> None:
        """A datagram goes, or has come."""
        self._moved_s = now
        if not self.warm:
            self.warm = True
            self.due_s = now + TICK_S
            self._warm(True)

    def cool(self) -> None:
        """Nobody looks any more."""
        if self.warm:
            self.warm = False
            self.due_s = NEVER
            self._warm(False)

    def may_copy(self, octets: int, now: float) -> bool:
        """Whether the limit of copies lets one more go; the first one needs no leave."""
        when_s, left = self._allowance
        most = COPIES_OCTETS_S * COPIES_BURST_S
        left = min(most, left + COPIES_OCTETS_S * (now - when_s))
        may = left >= octets
        self._allowance = now, left - octets if may else left
        return may

    def late_s(self, session: Session, seq: int, now: float) -> float:
        """How long ago a datagram with a higher sequence number came."""
        highest = session.shim.rx_max
        newest = self._came[-1] if self._came else (float("-inf"), 0)
        if now - newest[0] >= CAME_EVERY_S or highest < newest[1]:
            self._came.append((now, highest))
        if seq >= highest:
            return 0.0
        return next((now - when_s for when_s, high in self._came if high > seq), 0.0)

    def tick(self, now: float) -> None:
        """Look at the counters."""
        if now - self.due_s > 3 * TICK_S:  # we slept: what came was not read yet
            self._patient_s = now + REPORT_S + TICK_S
        self.due_s = now + TICK_S
        moved = self._mark(now)
        if moved:
            self.sent_s = now
        if now - self._reported_s >= REPORT_S:
            for session in self._association.sessions():
                moved |= self._report(session, now)
        if moved:
            self._moved_s = now
        if self._association.session is not None and now >= self._patient_s:
            for path in list(self._paths.by_number.values()):
                self._listen(path, now)
            self._measure(now)
        waits = any(path.marks for path in self._paths.by_number.values())
        if now - self._moved_s > COLD_S and not waits:
            self.cool()

    def _measure(self, now: float) -> None:
        """Know the round trip of the path that is taken: what is late depends on it."""
        active = self._paths.active
        if active is None or active.probes or now - active.answered_s < MEASURE_S:
            return
        if now - self._moved_s < MEASURE_S and active.state is State.WORKS:
            self._paths.probe(active, now)

    def _mark(self, now: float) -> bool:
        """Note what was sent by now; whether that is more than before."""
        session = self._association.session
        if session is None:
            return False
        moved = False
        seq = session.shim.tx_seq
        for number, count in session.shim.sent():
            path = self._paths.by_number.get(number)
            if path is not None:
                before = path.marked
                path.mark(now, seq, count, session.local_id)
                moved |= path.marked != before
        return moved

    def _report(self, session: Session, now: float) -> bool:
        """Tell the peer what came, over the paths on which it came."""
        received = session.shim.received()
        if received == session.reported or not session.confirmed:
            return False
        self._reported_s = session.heard_s = now
        before = {number: count for number, count, _highest in session.reported}
        news = [each for each in received if each not in session.reported]
        session.reported = received
        octets = emit_messages([Reports(tuple(Report(*each) for each in news[:REPORTS_MAX]))])
        paths = self._paths
        over: list[Path] = []
        for number, count, _highest in news:
            path = paths.theirs.get(number, paths.active)
            if count != before.get(number) and path is not None and path not in over:
                over.append(path)
        for path in over:
            path.heard_s = now
            self._send(path, session.seal(path.number, octets))
        active = paths.active
        if active is None or active in over or active.probes or not over:
            return True
        # The peer takes another path: is there something wrong with ours?
        if now - max(active.answered_s, active.heard_s) > 4 * REPORT_S:
            paths.probe(active, now)
        return True

    def _listen(self, path: Path, now: float) -> None:
        """Silence under traffic."""
        if path.state is not State.WORKS or not path.marks:
            return
        silent_s = path.silent_s(now)
        if silent_s <= path.silence_s + REPORT_S + TICK_S:
            return
        if len(path.marks) >= 3 or path.unanswered:
            reason = f"silent for {1000 * silent_s:.0f} ms under traffic"
            self._paths.silent(path, reason, now)
        elif not path.probes:
            self._paths.probe(path, now)
