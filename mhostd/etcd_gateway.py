"""etcd's JSON gateway over HTTP: members, connections, certificates and tokens."""

from __future__ import annotations

import asyncio
import random
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial
from typing import Any

import httpx

from mhostd.config import Directory
from mhostd.host import etcd
from mhostd.host.etcd import EtcdError, T

ATTEMPT_S = 3.0  # an answer of one member
QUIET_S = 30.0  # of a watch; whatever may have happened to its connection is found so
ANSWER_MAX = 1 << 22  # octets; etcd takes values of 1.5 MiB, which are not ours
LINE_MAX = 1 << 23  # of a watch, which catches up on 1,000 changes in one
ASKED_MAX = 16  # at a time


class EtcdGateway:
    """The members of a cluster: one is asked for as long as it answers."""

    def __init__(self, config: Directory, password: str) -> None:
        """Begin; nothing is sent yet. OSError if a certificate cannot be read."""
        self._endpoints = [httpx.URL(text) for text in config.endpoints]
        self._at = 0
        self._user, self._password = config.user, password
        self._token = ""
        self._login = asyncio.Lock()
        self._asking = asyncio.Semaphore(ASKED_MAX)
        context: ssl.SSLContext | bool = False
        if any(endpoint.scheme == "https" for endpoint in self._endpoints):
            context = ssl.create_default_context(cafile=config.ca or None)
            if config.cert:
                context.load_cert_chain(config.cert, config.key)
        self._http = httpx.AsyncClient(
            verify=context,
            trust_env=False,
            timeout=ATTEMPT_S,
            headers={"Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=2 * ASKED_MAX, keepalive_expiry=60.0),
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._http.aclose()

    async def ask(self, path: str, body: etcd.Body, kind: type[T]) -> T:
        """Ask one member after the other; EtcdError if none answers, or one refuses."""
        async with self._asking:  # who waits for a connection of ours blames no member
            data = await self._anywhere(partial(self._post, path, body))
        return etcd.decode(data, kind)

    async def watch(self, body: etcd.Body) -> AsyncGenerator[etcd.Watch, None]:
        """Open a watch, and say what it says until it ends or has been quiet for long."""
        response = await self._anywhere(partial(self._open, body))
        line = b""
        try:
            async with asyncio.timeout(ATTEMPT_S) as first:
                async for octets in response.aiter_raw():
                    first.reschedule(None)
                    *lines, line = (line + octets).split(b"\n")
                    if len(line) > LINE_MAX:
                        raise EtcdError(f"a change of more than {LINE_MAX} octets")
                    for whole in lines:
                        answer = etcd.decode_watch(whole)
                        if answer.canceled and etcd.cancelled(answer).token_expired:
                            self._token = ""
                        yield answer
            raise EtcdError("the watch was ended")
        except httpx.ReadTimeout:
            return  # quiet
        except TimeoutError:
            self._move()
            raise EtcdError("a watch was not opened") from None
        except (httpx.HTTPError, OSError) as err:
            self._move()
            raise EtcdError(_reason(err)) from None
        finally:
            await response.aclose()

    async def _anywhere(self, attempt: Callable[[httpx.URL], Awaitable[Any]]) -> Any:
        for left in reversed(range(len(self._endpoints))):
            at = self._at
            try:
                return await self._with_token(partial(attempt, self._endpoints[at]))
            except EtcdError as err:
                if err.elsewhere and at == self._at:
                    self._move()
                if not err.elsewhere or not left:
                    raise
        raise EtcdError("no endpoint")

    def _move(self) -> None:
        self._at = (self._at + 1) % len(self._endpoints)

    async def _with_token(self, attempt: Callable[[], Awaitable[Any]]) -> Any:
        if not self._user:
            return await attempt()
        for again in (True, False):
            async with self._login:
                if not self._token:
                    self._token = await self._authenticate()
                token = self._token
            try:
                return await attempt()
            except EtcdError as err:
                if not again or not err.token_expired:
                    raise
                if token == self._token:
                    self._token = ""
        raise AssertionError

    async def _authenticate(self) -> str:
        body = etcd.authenticate(self._user, self._password)
        path = "/v3/auth/authenticate"
        try:
            data = await self._post(path, body, self._endpoints[self._at])
        except EtcdError as err:
            if err.code == etcd.FAILED_PRECONDITION:  # it is not enabled (yet)
                return ""
            raise
        return etcd.decode(data, etcd.Token).token

    async def _post(self, path: str, body: etcd.Body, endpoint: httpx.URL) -> bytes:
        try:
            async with asyncio.timeout(ATTEMPT_S):
                response = await self._send(path, body, endpoint)
                return await _read(response)
        except TimeoutError:
            raise EtcdError("no answer") from None
        except (httpx.HTTPError, OSError) as err:
            raise EtcdError(_reason(err)) from None

    async def _open(self, body: etcd.Body, endpoint: httpx.URL) -> httpx.Response:
        quiet_s = QUIET_S * random.uniform(0.8, 1.2)
        timeout = httpx.Timeout(ATTEMPT_S, read=quiet_s)
        try:
            async with asyncio.timeout(ATTEMPT_S):
                return await self._send("/v3/watch", body, endpoint, timeout)
        except TimeoutError:
            raise EtcdError("no answer") from None
        except (httpx.HTTPError, OSError) as err:
            raise EtcdError(_reason(err)) from None

    async def _send(
        self, path: str, body: etcd.Body, endpoint: httpx.URL, timeout: Any = ATTEMPT_S
    ) -> httpx.Response:
        # A member without a leader ends a watch instead of being silent.
        headers = {"Grpc-Metadata-hasleader": "true"}
        if self._token:
            headers["Authorization"] = self._token
        request = self._http.build_request(
            "POST",
            endpoint.join(path),
            content=etcd.encode(body),
            headers=headers,
            timeout=timeout,
        )
        response = await self._http.send(request, stream=True)
        if response.status_code != 200:
            raise etcd.refusal(response.status_code, await _read(response))
        return response


async def _read(response: httpx.Response) -> bytes:
    data = bytearray()
    try:
        async for octets in response.aiter_raw():
            data += octets
            if len(data) > ANSWER_MAX:
                text = f"an answer of more than {ANSWER_MAX} octets"
                raise EtcdError(text, etcd.OUT_OF_RANGE)
    finally:
        await response.aclose()
    return bytes(data)


def _reason(err: BaseException) -> str:
    """What is at the bottom of it: "connection refused"."""
    if isinstance(err, httpx.TimeoutException):
        return "no answer"
    text, cause = type(err).__name__, err
    while True:
        strerror = getattr(cause, "strerror", None) or ""
        text = strerror.lower() or str(cause) or text
        below = cause.__cause__ or cause.__context__
        if isinstance(below, BaseExceptionGroup):
            below = below.exceptions[0]
        if below is None:
            return text[:200]
        cause = below
