"""What etcd's JSON gateway is asked and answers (API v3, etcd 3.4 and later); pure.

The gateway is protobuf's JSON mapping: octets are base64, 64-bit integers are strings, and
what is zero is left out. It refuses with a gRPC status code.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

# gRPC status codes (google.rpc.Code).
NOT_FOUND = 5
FAILED_PRECONDITION = 9
OUT_OF_RANGE = 11
UNAUTHENTICATED = 16
# Another member may do better: UNKNOWN, DEADLINE_EXCEEDED, INTERNAL, UNAVAILABLE.
_ELSEWHERE = {2, 4, 13, 14}

T = TypeVar("T", bound=msgspec.Struct)


class EtcdError(Exception):
    """What was asked was refused, or nobody was there to ask.

    Attributes:
        code: a gRPC status code; 0 if there was no answer.
    """

    def __init__(self, text: str, code: int = 0) -> None:
        super().__init__(text)
        self.code = code

    @property
    def elsewhere(self) -> bool:
        """Whether another member is to be asked."""
        return self.code == 0 or self.code in _ELSEWHERE

    @property
    def token_expired(self) -> bool:
        """Whether to authenticate again: also after any change to users and roles."""
        return self.code == UNAUTHENTICATED or "auth store is old" in str(self)


class Header(msgspec.Struct, frozen=True):
    """Of each answer.

    Attributes:
        cluster_id: another one, and revisions begin anew.
        revision: of the whole store.
    """

    cluster_id: int = 0
    revision: int = 0


class KeyValue(msgspec.Struct, frozen=True):
    """A key; of one that was deleted, `mod_revision` says when."""

    key: bytes = b""
    value: bytes = b""
    mod_revision: int = 0
    lease: int = 0


class Range(msgspec.Struct, frozen=True):
    """The answer to range_of()."""

    header: Header = Header()
    kvs: list[KeyValue] = []

    @property
    def kv(self) -> KeyValue:
        """The key that was asked for; revision 0 if there is none."""
        return self.kvs[0] if self.kvs else KeyValue()


class Txn(msgspec.Struct, frozen=True):
    """The answer to swap()."""

    succeeded: bool = False


class _RangeResponse(msgspec.Struct, frozen=True):
    response_range: Range = Range()


class Ranges(msgspec.Struct, frozen=True):
    """The answer to ranges_of(), in the order of the keys."""

    header: Header = Header()
    responses: list[_RangeResponse] = []

    @property
    def kvs(self) -> list[KeyValue]:
        """The keys that were asked for."""
        return [response.response_range.kv for response in self.responses]


class Lease(msgspec.Struct, frozen=True):
    """The answer to grant() and keep_alive(): seconds left, 0 if there is no such lease."""

    id: int = msgspec.field(name="ID", default=0)
    ttl_s: int = msgspec.field(name="TTL", default=0)


class LeaseResult(msgspec.Struct, frozen=True):
    """A stream's answer to keep_alive()."""

    result: Lease = Lease()


class Token(msgspec.Struct, frozen=True):
    """The answer to authenticate()."""

    token: str = ""


class Empty(msgspec.Struct, frozen=True):
    """An answer of which nothing is used."""


class Event(msgspec.Struct, frozen=True):
    """A change of a key."""

    kv: KeyValue = KeyValue()
    type: str = "PUT"


class Watch(msgspec.Struct, frozen=True):
    """What a watch says.

    Attributes:
        header: its revision may be ahead of the events while they catch up.
        created: the watch holds from here on.
        canceled: it is over, because of `cancel_reason`, or since all before
            `compact_revision` is forgotten.
        compact_revision: see there.
        cancel_reason: see there.
        events: in the order of their revisions.
    """

    header: Header = Header()
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    events: list[Event] = []


class _StreamError(msgspec.Struct, frozen=True):
    message: str = ""
    grpc_code: int = 2


class _WatchResult(msgspec.Struct, frozen=True):
    result: Watch | None = None
    error: _StreamError | None = None


class _Refusal(msgspec.Struct, frozen=True):
    message: str = ""
    error: Any = ""
    code: int = 2


Body = dict[str, Any]


def range_of(key: bytes) -> Body:
    """Ask for a key: /v3/kv/range. It sees all that was committed before."""
    return {"key": key}


def ranges_of(keys: list[bytes]) -> Body:
    """Ask for keys, as of one revision: /v3/kv/txn, at most 128 by default."""
    return {"success": [{"request_range": {"key": key}} for key in keys]}


def swap(key: bytes, seen: int, value: bytes, lease: int) -> Body:
    """Put a key if its revision is still the one that was seen: /v3/kv/txn."""
    compare = {"key": key, "target": "MOD", "result": "EQUAL", "mod_revision": seen}
    return {
        "compare": [compare],
        "success": [{"request_put": {"key": key, "value": value, "lease": lease}}],
    }


def grant(ttl_s: int) -> Body:
    """Ask for a lease: /v3/lease/grant."""
    return {"TTL": ttl_s}


def lease_of(lease: int) -> Body:
    """Name a lease: /v3/lease/keepalive, /v3/lease/revoke."""
    return {"ID": lease}


def authenticate(user: str, password: str) -> Body:
    """Ask for a token: /v3/auth/authenticate."""
    return {"name": user, "password": password}


def watch_prefix(prefix: bytes, revision: int) -> Body:
    """Watch all keys with a prefix from a revision on, 0: from now on: /v3/watch."""
    end = prefix[:-1] + bytes([prefix[-1] + 1])  # a prefix is ASCII
    return {
        "create_request": {"key": prefix, "range_end": end, "start_revision": revision},
    }


def encode(body: Body) -> bytes:
    """Write a question; octets become base64."""
    return msgspec.json.encode(body)


def decode(data: bytes, kind: type[T]) -> T:
    """Read an answer; EtcdError if it is none."""
    try:
        return msgspec.json.decode(data, type=kind, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
        raise EtcdError(f"the answer is not etcd's: {err}") from None


def decode_watch(line: bytes) -> Watch:
    """Read what a watch says; EtcdError if it is that it has failed."""
    answer = decode(line, _WatchResult)
    if answer.error is not None:
        raise EtcdError(answer.error.message, answer.error.grpc_code)
    return answer.result or Watch()


def refusal(status: int, data: bytes) -> EtcdError:
    """Read why something was refused; `status` is HTTP's."""
    try:
        answer = decode(data, _Refusal)
    except EtcdError:
        return EtcdError(f"HTTP status {status}")
    text = answer.message or str(answer.error)
    text = text.removeprefix("etcdserver: ") or f"HTTP status {status}"
    return EtcdError(text[:200], answer.code)


def cancelled(answer: Watch) -> EtcdError:
    """Say why a watch is over."""
    unauthenticated = "Unauthenticated" in answer.cancel_reason
    reason = answer.cancel_reason.rpartition("etcdserver: ")[2]
    return EtcdError(
        (reason or "watch cancelled")[:200], UNAUTHENTICATED if unauthenticated else 2
    )
