"""Paths: one way to a peer each, and what is known of it.

A path is (L3 handler, source, interface, locator of the peer). What decides is here and in
choose.py; nothing has a clock or a descriptor.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple

from mhostd.host.wire import Report
from mhostd.sock import Locator

SILENCE_FLOOR_S = 0.060  # SRT's stability timeout, as 2 RTT + 4 RTTVar
REPORT_S = 0.025  # a receiver reports at least as often while something comes
IDLE_PROBE_S = 30.0  # RFC 8085 section 3.5: not more than one in 15 s
HOLD_S = 2.0  # how long a better path must have worked until we go back to it
HOLD_MAX_S = 60.0
STEADY_S = 60.0  # after so long without a failure its hold is HOLD_S again
RTT_FIRST_S = 1.0  # of an answer, until one was measured (RFC 6298 section 2.1)
_LATE_MAX = 8  # probes that were given up and may be answered still
PROBE_BACKOFF_MAX_S = 15.0
_MARKS = 256


class State(Enum):
    """What a path is good for."""

    NEW = "new"  # nothing has come over it yet
    WORKS = "works"  # what we sent over it was answered
    FAILED = "failed"


class Uplink(NamedTuple):
    """Somewhere we can send from.

    Attributes:
        l3: name of the L3 handler.
        locator: our address there.
        ifindex: of the interface, 0 where the handler has a device of its own.
        device: name of the interface.
        drained: to be left, by `mhostctl path drain`.
    """

    l3: str
    locator: Locator
    ifindex: int = 0
    device: str = ""
    drained: bool = False


class Way(NamedTuple):
    """What a packet needs to take a path; a path's key.

    Attributes:
        l3: name of the L3 handler.
        source: our address.
        ifindex: of the interface, or 0.
        remote: the peer's locator.
        port: the peer's UDP port there.
    """

    l3: str
    source: Locator
    ifindex: int
    remote: Locator
    port: int


class Mark(NamedTuple):
    """By then so much was sent.

    Attributes:
        when_s: when it was seen.
        seq: last sequence number of the session.
        sent: datagrams on this path.
        session: association id.
    """

    when_s: float
    seq: int
    sent: int
    session: int


@dataclass(slots=True, eq=False)
class Path:
    """One of them.

    Attributes:
        number: ours, in every packet that takes it.
        way: what it is.
        device: name of the interface, for display.
        rank: of RFC 6724 and of configuration; less is better.
        state: what it is good for.
        reason: why it is in this state.
        since_s: since when.
        drained: we, or the peer, want to leave it.
        heard: found because the peer sent from there (behind a NAT it tells us of none).
        room: octets of UDP payload that fit.
        room_asked: how often it was asked whether they do.
        room_s: since when it is thought so.
        srtt, rttvar: RFC 6298, in s; 0 before the first measurement.
        loss: share of what was sent over it, smoothed, 0..1.
        rx_octets, tx_octets: before it was validated, for the limit of 3 times.
        probes: those without an answer, when they were sent, by nonce.
        late: the same of those that were given up.
        probe_s: when the next is due.
        unanswered: in a row.
        marks: what was sent and not reported, oldest first.
        hold_s: how long it must work until it is preferred again.
        doubted_s: when another one by the same interface failed last.
        reported_s: when the peer said last that more of what we send has come.
        before_silence: since_s and hold_s, if it failed for silence and nothing else.
    """

    number: int
    way: Way
    device: str
    rank: tuple[int, ...]
    room: int
    state: State = State.NEW
    reason: str = "not tried yet"
    since_s: float = 0.0
    drained: bool = False
    heard: bool = False
    room_asked: int = 0
    room_s: float = float("-inf")
    srtt: float = 0.0
    rttvar: float = 0.0
    loss: float = 0.0
    probed: int = 0
    answered: int = 0
    probes: dict[int, tuple[float, int]] = field(default_factory=dict)
    late: dict[int, tuple[float, int]] = field(default_factory=dict)
    probe_s: float = 0.0
    unanswered: int = 0
    marks: deque[Mark] = field(default_factory=deque)
    marked: int = 0
    last: Mark | None = None
    last_report: Report | None = None
    hold_s: float = HOLD_S
    failed_s: float = float("-inf")
    heard_s: float = float("-inf")
    answered_s: float = float("-inf")
    doubted_s: float = float("-inf")
    before_silence: tuple[float, float] | None = None
    reported_s: float = float("-inf")

    @property
    def doubted(self) -> bool:
        """Another one by the same interface has failed, and nothing has come since."""
        return self.doubted_s > self.answered_s

    @property
    def silence_s(self) -> float:
        """How long an answer may take."""
        if not self.srtt:
            return RTT_FIRST_S
        return max(SILENCE_FLOOR_S, 2 * self.srtt + 4 * self.rttvar)

    def turn(self, state: State, reason: str, now: float) -> None:
        """It is in another state, or in this one for another reason."""
        self.reason = reason
        if state is self.state:
            return
        self.before_silence = None
        if state is State.FAILED:
            steady = now - max(self.since_s, self.failed_s) > STEADY_S
            if self.state is State.WORKS:
                self.hold_s = HOLD_S if steady else min(2 * self.hold_s, HOLD_MAX_S)
            self.failed_s = now
            self.marks.clear()
        self.state, self.since_s = state, now

    # --- round trips

    def rtt_sample(self, seconds: float) -> None:
        """One round trip (RFC 6298 section 2)."""
        if not self.srtt:
            self.srtt, self.rttvar = seconds, seconds / 2
            return
        self.rttvar += (abs(self.srtt - seconds) - self.rttvar) / 4
        self.srtt += (seconds - self.srtt) / 8

    def probe(self, nonce: int, now: float, pad: int = 0) -> None:
        """A probe goes out."""
        self.probes[nonce] = now, pad
        self.probed += 1

    def answer(self, nonce: int, now: float) -> int | None:
        """A probe was answered: how many octets it was padded with, None if there is none."""
        found = self.probes.pop(nonce, None) or self.late.pop(nonce, None)
        if found is None:
            return None
        when_s, pad = found
        self.rtt_sample(now - when_s)
        self.answered += 1
        self.unanswered = 0
        self.answered_s = self.heard_s = now
        # What was sent before the probe is not needed to see that the path works.
        while self.marks and self.marks[0].when_s <= when_s:
            self.last = self.marks.popleft()
        return pad

    def overdue(self, now: float) -> tuple[int, int]:
        """Give up probes that should have been answered: how many plain, how many padded."""
        limit_s = self.silence_s
        late = [n for n, (when_s, _pad) in self.probes.items() if when_s + limit_s <= now]
        padded = sum(1 for nonce in late if self.probes[nonce][1])
        # Where more has come since, on a path that is full, one that is lost says nothing.
        lost = [
            n for n in late if not self.probes[n][1] and self.probes[n][0] > self.reported_s
        ]
        for nonce in late:
            if len(self.late) >= _LATE_MAX:
                del self.late[next(iter(self.late))]
            self.late[nonce] = self.probes.pop(nonce)
        self.unanswered += len(lost)
        return len(lost), padded  # a padded one may have been too large

    # --- traffic

    def mark(self, now: float, seq: int, sent: int, session: int) -> None:
        """Note what was sent by now, if it is more than before.

        On a path that has failed nobody waits for reports.
        """
        newest = self.marks[-1] if self.marks else self.last
        if newest is not None and newest.session != session:
            self.marks.clear()
            self.last, self.marked, self.last_report = None, 0, None
        if sent == self.marked:
            return
        self.marked = sent
        if self.state is State.WORKS and len(self.marks) < _MARKS:
            self.marks.append(Mark(now, seq, sent, session))

    def report(self, report: Report, session: int, now: float) -> bool:
        """The peer has received so much of it; whether that is more than before."""
        confirmed = None
        while (
            self.marks
            and self.marks[0].session == session
            and self.marks[0].seq <= report.highest
        ):
            confirmed = self.marks.popleft()
        before = self.last_report
        news = before is None or report.highest > before.highest
        if news:
            self.heard_s = self.reported_s = now
        if confirmed is None:
            return news
        if self.last is not None and before is not None and self.last.session == session:
            sent = confirmed.sent - self.last.sent
            came = report.came - before.came
            if sent > 0:
                share = min(1.0, max(0.0, 1 - came / sent))
                self.loss += (share - self.loss) / 8
        self.last, self.last_report = confirmed, report
        return news

    def silent_s(self, now: float) -> float:
        """For how long nothing that was sent has been reported, 0 if all was."""
        return now - self.marks[0].when_s if self.marks else 0.0
