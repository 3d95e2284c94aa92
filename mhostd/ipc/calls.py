"""The system calls: each request and each record becomes a call on AfMhost.

The only place that turns a MhostError into an answer, parks a send until the resolver
has one, and hands what has arrived to the applications at the end of a wake.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
from collections.abc import Callable
from functools import partial
from typing import Any

from mhostd.af_mhost import AfMhost
from mhostd.errors import HostUnresolvedError, MhostError
from mhostd.fast import FastLane
from mhostd.ipc.pump import Pumps
from mhostd.mhost_table import MhostTable, host_key
from mhostd.sock import Client, Datagram, SkError, Sock, sock_dequeue, sock_rfree
from mhostd.structs import Answer, ProtoOps
from mhostd.uapi import (
    AF_INET,
    AF_INET6,
    AF_MHOST,
    BATCH_OCTETS,
    DATA_HLEN,
    RECORD_CONNECTED,
    RECORD_REPLY,
    VERSION,
    AdminRequest,
    AnsweredRequest,
    Bind,
    ClientRequest,
    Close,
    Connect,
    Consumed,
    Event,
    ExtendedErr,
    GetName,
    GetSockOpt,
    Hello,
    HelloReply,
    Lookup,
    Named,
    Record,
    Reply,
    Request,
    Resolve,
    SetSockOpt,
    Show,
    Shutdown,
    SockaddrMhost,
    SockError,
    Socket,
    SocketRequest,
    Spell,
    pack_data,
    pack_record,
    unpack_data,
    unpack_records,
)

HANDLES_PER_CLIENT_MAX = 65_536
SEGMENTS_MAX = 512  # datagrams of one record, as LANE_SEGMENTS of native/lane.h
PARKED_MAX = 256  # sends of one client that wait for the resolver

Send = Callable[[Client, Event | bytes], bool]

log = logging.getLogger(__name__)


class Calls:
    """What the door is given as ProtoOps.

    Attributes:
        send: puts a message on a client's connection; False if it must wait. init
            gives it, as the door is built after this.
    """

    def __init__(
        self,
        af_mhost: AfMhost,
        table: MhostTable,
        clock: Callable[[], float],
        resolve: Callable[[str, Callable[[], None]], None],
        show: Callable[[str, str, Answer, int], None],
        admin: Callable[[AdminRequest], Any],
        admin_socket: str,
        fast: FastLane | None = None,
        pumps: Pumps | None = None,
        lane_socket: str = "",
    ) -> None:
        self._af_mhost = af_mhost
        self._table = table
        self._clock = clock
        self._resolve = resolve
        self._show = show
        self._admin = admin
        self._admin_socket = admin_socket
        self._fast = fast
        self._pumps = pumps
        self._lane_socket = lane_socket
        self._instance = os.urandom(8).hex()
        self._sessions = itertools.count(1)
        self._ready: dict[Sock, None] = {}
        self._parked: dict[Client, int] = {}
        self._walked: set[Sock] = set()  # what they send in this wake is behind a walk
        self._answers: list[tuple[Answer, Reply]] = []
        self.send: Send = lambda _client, _event: True
        self.ops = ProtoOps(self.request, self.records, self.release)

    # --- requests

    def request(self, client: Client, request: Request, answer: Answer) -> None:
        """Carry out one control message and answer it."""
        if isinstance(request, Consumed):
            sk = client.socks.get(request.sock)
            if sk is not None:
                sock_rfree(sk, request.octets)
                if self._fast is not None and sk.slot >= 0:
                    self._fast.limit(sk)
            return
        try:
            self._dispatch(client, request, answer)
        except HostUnresolvedError as err:
            try:
                self._park(
                    client, err.name, lambda: self._once_resolved(client, request, answer)
                )
            except MhostError as full:
                answer(Reply(request.seq, full.errno, full.strerror))
        except MhostError as err:
            answer(Reply(request.seq, err.errno, err.strerror))
        except Exception:
            log.exception("%s of client %d", type(request).__name__, client.pid)
            answer(Reply(request.seq, errno.EIO, "internal error; see the daemon's log"))

    def _once_resolved(self, client: Client, request: AnsweredRequest, answer: Answer) -> None:
        try:
            self._dispatch(client, request, answer)
        except MhostError as err:
            answer(Reply(request.seq, err.errno, err.strerror))

    def _dispatch(self, client: Client, request: AnsweredRequest, answer: Answer) -> None:
        if isinstance(request, Show):
            self._show(request.what, request.name, answer, request.seq)
            return
        if isinstance(request, SocketRequest):
            value = self._on_socket(client, request)
        elif isinstance(request, AdminRequest):
            if not client.admin:
                raise MhostError(
                    errno.EPERM,
                    "this verb changes something: ask on the admin socket, as root",
                )
            value = self._admin(request)
        else:
            value = self._on_client(client, request)
        answer(Reply(request.seq, 0, "", value))

    def _on_client(self, client: Client, request: ClientRequest) -> Any:
        match request:
            case Hello():
                self.release(client)  # a second one begins anew
                protos = self._table.protos.items()
                l3 = [(number, p.name, p.family) for number, p in protos]
                session = f"{self._instance}-{next(self._sessions)}"
                return HelloReply(VERSION, session, l3, self._admin_socket, self._lane_socket)
            case Socket(family=family, type=type_, proto=proto):
                sk = self._af_mhost.mhost_create(
                    client, family, type_, proto, self._sk_data_ready, self._sk_error_report
                )
                return sk.number
            case Lookup(host=text):
                if ":" in text or text.endswith("=") or text.replace(".", "").isdigit():
                    locator = self._table.mhost_pton(text)
                    return SockaddrMhost(
                        locator.family, 0, locator.address, 0, locator.scope_id
                    )
                return SockaddrMhost(AF_MHOST, 0, b"", self._hold(client, text))
            case Resolve(host=text):
                return self._locators(client, text)
            case Spell(sa=sa):
                return self._table.mhost_ntop(sa)

    def _on_socket(self, client: Client, request: SocketRequest) -> Any:
        sk = client.socks.get(request.sock)
        if sk is None:
            raise MhostError(
                errno.EBADF, f"socket {request.sock} is not open on this connection"
            )
        call = self._af_mhost
        match request:
            case GetName(peer=peer, source=source):
                return call.mhost_getname(sk, peer, source, self._clock())
            case GetSockOpt(level=level, option=option):
                return call.mhost_getsockopt(sk, level, option, self._clock())
        if self._fast is not None and sk.slot >= 0:
            self._fast.catch_up(sk)
            if sk.number not in client.socks:  # its application turned out to be gone
                raise MhostError(errno.EBADF, f"socket {request.sock} is closed")
        port = sk.sport
        try:
            return self._change(sk, request)
        finally:
            if self._fast is not None:
                self._fast.changed(sk, port)

    def _change(self, sk: Sock, request: SocketRequest) -> Any:
        call = self._af_mhost
        match request:
            case Bind(sa=sa):
                return self._bind(sk, sa)
            case Connect(sa=sa):
                return call.mhost_connect(sk, sa, self._clock())
            case Shutdown(how=how):
                return call.mhost_shutdown(sk, how)
            case Close():
                return self._close(sk)
            case SetSockOpt(level=level, option=option, value=value):
                return call.mhost_setsockopt(sk, level, option, value)

    def _bind(self, sk: Sock, sa: SockaddrMhost) -> int:
        """Bind; a port whose process has just ended is free, as in Linux."""
        try:
            return self._af_mhost.mhost_bind(sk, sa)
        except MhostError as err:
            if err.errno != errno.EADDRINUSE or not self._bury(sa.port):
                raise
        return self._af_mhost.mhost_bind(sk, sa)

    def _bury(self, port: int) -> bool:
        """Close sockets at a port whose applications are gone; whether there were any."""
        if self._fast is None or not port:
            return False
        there = [sk for sk in self._af_mhost.socks.values() if sk.sport == port]
        dead = [sk for sk in there if self._fast.hung_up(sk)]
        for sk in dead:
            self.gone(sk)
        return bool(dead)

    def _close(self, sk: Sock) -> None:
        if sk.number not in sk.client.socks:
            return
        self._ready.pop(sk, None)
        if self._pumps is not None:
            self._pumps.close(sk)
        if self._fast is not None and sk.slot >= 0:
            self._fast.release(sk)
        self._af_mhost.mhost_release(sk)

    def gone(self, sk: Sock) -> None:
        """The application of a socket in shared memory is gone; what it had sent goes."""
        if self._fast is not None and sk.number in sk.client.socks:
            self._fast.catch_up(sk)
            self._close(sk)

    def _hold(self, client: Client, name: str) -> int:
        host = self._table.hosts.get(host_key(name))
        if host is not None and host.handle in client.handles:
            return host.handle
        if len(client.handles) >= HANDLES_PER_CLIENT_MAX:
            raise MhostError(
                errno.ENOBUFS,
                f"lookup: this process holds {HANDLES_PER_CLIENT_MAX} names, the most "
                "there may be; close its connection to let them go",
            )
        handle = self._table.mhost_hold(name).handle
        client.handles.add(handle)
        return handle

    def _locators(self, client: Client, name: str) -> list[SockaddrMhost]:
        """The order of use: what works now first, as the next send would have it."""
        host = self._table.mhost_known_host(self._hold(client, name))
        now, faults = self._clock(), self._table.faults
        ordered = sorted(host.locators, key=lambda loc: faults.not_before(loc, 0, now))
        return [SockaddrMhost(loc.family, 0, loc.address, 0, loc.scope_id) for loc in ordered]

    # --- records: application to wire

    def records(self, client: Client, message: bytes, answer: Answer) -> None:
        """Send each record of a data message from the socket that its prefix names."""
        number, _records = unpack_data(message)
        first, at = client.socks.get(number), DATA_HLEN
        if first is not None and self._fast is not None:
            pumps = self._pumps_of(first)
            if pumps is not None and first not in self._walked:
                at = pumps.put(first, message)
                if at < len(message):
                    self._walked.add(first)
            elif first.slot >= 0:
                self._fast.catch_up(first)
        for record in unpack_records(message, at):
            sk = client.socks.get(number)  # the client may go while this lasts
            if sk is not None:
                self._on_record(sk, record, answer)
            elif record.flags & RECORD_REPLY:
                text = f"socket {number} is not open on this connection"
                answer(Reply(record.cookie, errno.EBADF, text))

    def ring(self, sk: Sock, octets: bytes) -> None:
        """Send a record that a socket has put in its ring; a wrong one is dropped."""
        try:
            for record in unpack_records(octets):
                self._on_record(sk, record, partial(self.send, sk.client))
        except ValueError as err:
            log.debug("socket %d: %s", sk.number, err)

    def _on_record(
        self, sk: Sock, record: Record, answer: Answer, *, resolved: bool = False
    ) -> None:
        try:
            self._sendmsg(sk, record)
        except HostUnresolvedError as err:
            if resolved:
                self._sent(sk, record, answer, err)
                return

            def again() -> None:
                if sk.number in sk.client.socks:
                    self._on_record(sk, record, answer, resolved=True)

            try:
                self._park(sk.client, err.name, again)
            except MhostError as full:
                self._sent(sk, record, answer, full)
        except MhostError as err:
            self._sent(sk, record, answer, err)
        else:
            self._sent(sk, record, answer)

    def _sendmsg(self, sk: Sock, record: Record) -> None:
        if record.flags & ~(RECORD_REPLY | RECORD_CONNECTED):
            raise MhostError(
                errno.EINVAL,
                f"record: flags 0x{record.flags:x}; 0x7 are what this daemon knows",
            )
        sa = None if record.flags & RECORD_CONNECTED else record.sa
        payload, step = record.payload, record.segment_size or len(record.payload) or 1
        if len(payload) > step * SEGMENTS_MAX:
            raise MhostError(
                errno.EINVAL,
                f"record: {len(payload)} octets are more than {SEGMENTS_MAX} datagrams of "
                f"{step}",
            )
        for at in range(0, len(payload), step) or (0,):
            part, now = payload[at : at + step], self._clock()
            way = self._af_mhost.mhost_sendmsg(sk, part, sa, now, record.control)
        if self._fast is not None:
            self._fast.learn_down(sk, record, *way)

    def _sent(
        self, sk: Sock, record: Record, answer: Answer, err: MhostError | None = None
    ) -> None:
        if record.flags & RECORD_REPLY:
            reply = Reply(record.cookie, 0, "", sk.sport)
            if err is not None:
                reply = Reply(record.cookie, err.errno, err.strerror)
            if sk.slot >= 0:
                self._answers.append((answer, reply))
            else:
                answer(reply)
        elif err is not None:
            sa = record.sa
            if record.flags & RECORD_CONNECTED and sk.peer is not None:
                sa = sk.peer
            self._fail(sk, SockError(sk.number, err.errno, err.strerror, sa, local=True))

    def _park(self, client: Client, name: str, again: Callable[[], None]) -> None:
        """Do it again once the resolver has answered; a bounded number may wait.

        Raises:
            MhostError: ENOBUFS if too many do.
        """
        waiting = self._parked.get(client, 0)
        if waiting >= PARKED_MAX:
            raise MhostError(
                errno.ENOBUFS,
                f"{PARKED_MAX} requests of this process wait for the resolver already",
            )
        self._parked[client] = waiting + 1

        def done() -> None:
            if client in self._parked:
                self._parked[client] -= 1
                again()

        self._resolve(name, done)

    # --- records: wire to application

    def _sk_data_ready(self, sk: Sock) -> None:
        self._ready[sk] = None

    def _sk_error_report(self, sk: Sock, err: SkError) -> None:
        number, text = err.error.errno, err.error.strerror
        self._af_mhost.mhost_err(err.sa, err.error, self._clock())
        queued = None
        if self._af_mhost.wants_errors(sk, err.sa.family):
            queued = ExtendedErr(*err[3:])
        event = SockError(sk.number, number, text, err.sa, err.local, err.fatal, queued)
        self._fail(sk, event)

    def _fail(self, sk: Sock, event: SockError) -> None:
        if self._fast is not None and sk.slot >= 0:
            receiver = event.queued is not None or (event.fatal and sk.peer is not None)
            self._fast.error(sk, wake=receiver)
        self.send(sk.client, event)

    def flush(self) -> None:
        """Hand over what has been queued since the last wake, a batch for each socket."""
        if self._pumps is not None:
            self._pumps.flush()
        ready, self._ready = self._ready, {}
        for sk in ready:
            if self._fast is not None and (sk.slot >= 0 or self._pumps_of(sk)):
                for datagram in sk.receive_queue:
                    self._tell(sk.client, datagram.source)
                if not self._fast.deliver(sk):
                    self._ready[sk] = None
                continue
            while sk.receive_queue:
                if not self._push(sk):
                    self._ready[sk] = None  # its client reads nothing now; later
                    break

    def settle(self) -> None:
        """Answer what was sent from shared memory, once it has left this wake.

        What its application sends next may go by the fast lane, and not before it.
        """
        self._walked.clear()
        answers, self._answers = self._answers, []
        for answer, reply in answers:
            answer(reply)

    @property
    def waiting(self) -> bool:
        """Some client's backlog is full: flush() should be called again soon."""
        return bool(self._ready) or (self._pumps is not None and self._pumps.waiting)

    def _pumps_of(self, sk: Sock) -> Pumps | None:
        """Who pumps for a socket, from its first datagram on, if it has no shared memory."""
        if self._pumps is None or (sk.slot >= 0 and not sk.pumped):
            return None
        return self._pumps if sk.pumped or self._pumps.open(sk) else None

    def _push(self, sk: Sock) -> bool:
        taken: list[tuple[bytes, Datagram]] = []
        octets = 0
        while sk.receive_queue and octets < BATCH_OCTETS:
            first = sk.receive_queue[0]
            source = first.source
            record = pack_record(
                Record(source, first.payload, cookie=first.l3, control=first.control)
            )
            if taken and octets + len(record) > BATCH_OCTETS:
                break
            octets += len(record)
            taken.append((record, sock_dequeue(sk)))
            self._tell(sk.client, source)
        if self.send(sk.client, pack_data(sk.number, b"".join(r for r, _ in taken))):
            return True
        for _record, datagram in reversed(taken):
            sk.receive_queue.appendleft(datagram)
        sk.rmem_queued += octets
        sk.rmem_sent -= octets
        return False

    def _tell(self, client: Client, source: SockaddrMhost) -> None:
        """Before a client first hears from a host or a plug-in: what they are called."""
        family, _port, address, id_no, _scope = source
        if id_no:
            named = SockaddrMhost(AF_MHOST, 0, b"", id_no)
        elif family not in (AF_INET, AF_INET6):
            named = SockaddrMhost(family, 0, address)
        else:
            return
        if named not in client.told:
            if len(client.told) >= HANDLES_PER_CLIENT_MAX:
                client.told.clear()
            client.told.add(named)
            self.send(client, Named(named, self._table.mhost_ntop(named)))

    def release(self, client: Client) -> None:
        """The client is gone: close all that it had open."""
        self._parked.pop(client, None)
        for sk in list(client.socks.values()):
            port = sk.sport
            if self._fast is not None and sk.slot >= 0:
                self._fast.catch_up(sk)
            self._close(sk)
            if self._fast is not None:
                self._fast.changed(sk, port)
        for handle in client.handles:
            self._table.mhost_put(handle)
        client.handles.clear()
        client.told.clear()
