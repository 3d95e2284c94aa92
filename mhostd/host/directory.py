"""Where hosts publish, and find, hints about where a host is now.

Nothing of it is trusted: an association proves who a peer is, so a record that is wrong
costs a handshake that fails. All that is read is checked, and bounded.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from typing import Annotated, Protocol

import msgspec

LOCATORS_MAX = 64
OCTETS_MAX = 4096  # of a record
LEASE_MAX_S = 3600.0
ORCHID = ipaddress.IPv6Network("2001:20::/28")  # ORCHIDv2, RFC 7343 section 2

_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=r"^[!-~]+\Z")]


class Record(msgspec.Struct, frozen=True):
    """What a host says of where it is.

    Attributes:
        identifier: the host, as RFC 5952 writes the address that its ORCHIDv2 is.
        number: a counter of the publisher; of two records the one with more is newer.
        locators: the best first: "10.0.1.1", "fd00::1", "testproto:7". None at all is
            what a host without a network says.
        port: UDP port of its associations.
    """

    identifier: Annotated[str, msgspec.Meta(max_length=39)]
    number: Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
    locators: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=LOCATORS_MAX)]
    port: Annotated[int, msgspec.Meta(ge=1, le=65535)]

    def encode(self) -> bytes:
        """Write it as JSON.

        Raises:
            ValueError: it is none that decode() would read; the text says why.
        """
        data = msgspec.json.encode(self)
        Record.decode(data)
        return data

    @staticmethod
    def decode(data: bytes) -> Record:
        """Read what a stranger may have written; keys that are not known are left out.

        Raises:
            ValueError: with what is wrong.
        """
        if len(data) > OCTETS_MAX:
            raise ValueError(f"record of {len(data)} octets exceeds {OCTETS_MAX}")
        try:
            record = _DECODER.decode(data)
        except (msgspec.MsgspecError, UnicodeDecodeError) as err:
            raise ValueError(f"record: {err}") from None
        except RecursionError:
            raise ValueError("record: nested too deeply") from None
        check_identifier(record.identifier)
        return record


_DECODER = msgspec.json.Decoder(Record)


def check_identifier(text: str) -> str:
    """Return an identifier as it is.

    Raises:
        ValueError: it is no ORCHIDv2, or not written as RFC 5952 says, by which each host
            has one name only.
    """
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        raise ValueError(f"identifier: {text!r} is no IPv6 address") from None
    if address not in ORCHID:
        raise ValueError(f"identifier: {text} is not in {ORCHID} (ORCHIDv2, RFC 7343)")
    plain = str(ipaddress.IPv6Address(address.packed))  # no zone, RFC 4007
    if plain != text:
        raise ValueError(f"identifier: {text} is to be written {plain}")
    return text


Found = Callable[[Record | None], object]
"""found(record); None: there is none."""
Cancel = Callable[[], None]


class Watcher:
    """A callback until it is cancelled; both are done in the loop's thread."""

    def __init__(self, callback: Found) -> None:
        self._callback: Found | None = callback

    def found(self, record: Record | None) -> None:
        """Call back."""
        if self._callback is not None:
            self._callback(record)

    def cancel(self) -> None:
        """Call nobody any more."""
        self._callback = None


class Directory(Protocol):
    """A store of records.

    Nothing here waits. Callbacks are called in the thread of the event loop, never before
    the call that names them has returned. A record or an identifier that cannot be is
    refused at once, with ValueError.
    """

    def put(self, record: Record, lease_s: float) -> None:
        """Publish for as long as we live, or until the next record for this identifier.

        The backend keeps it alive and puts it again if it is lost. It gives way to a
        record with a higher number that somebody else publishes, for as long as that one
        is there.

        Args:
            record: what to say.
            lease_s: how long others believe it after this process died, up to
                LEASE_MAX_S.
        """

    def get(self, identifier: str, callback: Found) -> None:
        """Ask once; None is also what comes if nobody can say within seconds."""

    def watch(self, identifier: str, callback: Found) -> Cancel:
        """Call back with what there is, as soon as that is known, and when it changes.

        While nobody can say, the last word holds.

        Returns:
            What ends it; after that nothing is called any more.
        """

    def txn(
        self,
        identifier: str,
        expected: Record | None,
        record: Record,
        lease_s: float,
        callback: Callable[[bool], object],
    ) -> None:
        """Compare and swap: put() if what is there is `expected`.

        The callback is told whether it was. False is also what comes if nobody can say
        within seconds; should it have been written all the same, it goes with its lease.
        """

    def state(self) -> str:
        """For display: "ok", or what is wrong and what becomes of it."""

    def close(self, closed: Callable[[], object] = ...) -> None:
        """Withdraw what was put, within a second, then call back; no other callback comes."""


class NoDirectory:
    """The backend "none": nobody is ever found."""

    def __init__(self, call: Callable[[Callable[[], object]], object]) -> None:
        """Begin; `call` hands a callback to the event loop."""
        self._call = call

    def put(self, record: Record, lease_s: float) -> None:
        """Keep it to ourselves."""
        check_put(record, lease_s)

    def get(self, identifier: str, callback: Found) -> None:
        """Nobody is there."""
        self.watch(identifier, callback)

    def watch(self, identifier: str, callback: Found) -> Cancel:
        """Nobody is there, and nobody comes."""
        check_identifier(identifier)
        wanted = [callback]
        self._call(lambda: [found(None) for found in wanted])
        return wanted.clear

    def txn(
        self,
        identifier: str,
        expected: Record | None,
        record: Record,
        lease_s: float,
        callback: Callable[[bool], object],
    ) -> None:
        """Nothing can be swapped."""
        check_txn(identifier, record, lease_s)
        self._call(lambda: callback(False))

    def state(self) -> str:
        """For display."""
        return "none"

    def close(self, closed: Callable[[], object] = lambda: None) -> None:
        """Nothing is to be withdrawn."""
        self._call(closed)


def check_put(record: Record, lease_s: float) -> bytes:
    """Return what is to be stored; ValueError if it cannot be."""
    if not 0 < lease_s <= LEASE_MAX_S:
        raise ValueError(f"lease of {lease_s} s is not in 0..{LEASE_MAX_S:.0f}")
    return record.encode()


def check_txn(identifier: str, record: Record, lease_s: float) -> bytes:
    """Return what is to be stored; ValueError if it cannot be."""
    if identifier != record.identifier:
        raise ValueError(f"txn: the record is of {record.identifier}, not of {identifier}")
    return check_put(record, lease_s)
