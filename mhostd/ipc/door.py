"""A ZeroMQ ROUTER in the place of the system call: who asks, and to whom to answer.

A connection is a client once it has said Hello; until then, and after the daemon was
restarted, it is told Reset. Who it is the kernel says (SO_PEERCRED of the connection,
"Peer-Address" in libzmq), never the message.

Two traps of ZeroMQ shape this file (tests/platform/test_zmq.py): its descriptor is
edge-triggered, so whoever was woken, or has sent, must look whether more waits; and a
ROUTER drops silently at its high-water mark unless ROUTER_MANDATORY is set.
"""

from __future__ import annotations

import errno
import grp
import logging
import os
import resource
import socket
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import zmq

from mhostd.errors import MhostError
from mhostd.sock import Client
from mhostd.structs import ProtoOps
from mhostd.uapi import (
    DATA_MAGIC,
    MESSAGE_MAX,
    VERSION,
    Event,
    Hello,
    Reply,
    Reset,
    decode_request,
    encode,
)

MESSAGES_PER_WAKE = 256
BACKLOG_MESSAGES = 1024  # to one client that does not read; then it must wait

_DATA = bytes((DATA_MAGIC,))
_NO_SESSION = Reset("no session on this connection; say hello first")
_ARE_YOU_THERE = Reply(0)  # nobody waits for it; sending says whether there is a peer
_MONITOR_EVENT = struct.Struct("=HI")  # zmq_socket_monitor(3), first frame

log = logging.getLogger(__name__)


class Door:
    """One ROUTER: messages in, calls on ProtoOps, answers and datagrams out."""

    def __init__(
        self,
        context: zmq.Context[zmq.Socket[bytes]],
        address: str,
        ops: ProtoOps,
        soon: Callable[[Callable[[], object]], None],
        *,
        open_pidfd: Callable[[int], int],
        group: str = "",
        admin: bool = False,
    ) -> None:
        """Bind the socket; the caller holds its lock (mhostd/lock.py).

        `open_pidfd` gives a pidfd of the process at the other end of a descriptor, or -1.

        Raises:
            MhostError: the path cannot be bound, or its group not set.
        """
        self._ops = ops
        self._soon = soon
        self._open_pidfd = open_pidfd
        self._admin = admin
        self._address = address
        self._clients: dict[bytes, Client] = {}
        self._routing_ids: dict[Client, bytes] = {}
        self._by_fd: dict[int, set[bytes]] = {}
        self._pidfds: dict[int, int] = {}  # by connection
        # A connection and its pidfd, two doors; the other half is for kernel sockets.
        self._connections_max = max(32, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 8)
        self._refused = 0
        self._bound = False
        self._sent = False
        self._router = context.socket(zmq.ROUTER)
        self._router.router_mandatory = 1
        self._router.maxmsgsize = MESSAGE_MAX
        self._router.sndhwm = BACKLOG_MESSAGES
        self._router.linger = 0
        events = zmq.Event.ACCEPTED | zmq.Event.DISCONNECTED
        self._monitor = self._router.get_monitor_socket(events)
        mask = os.umask(0o177 if admin else 0o117)
        try:
            self._router.bind(address)
            self._bound = True
            if group:
                chgrp(address.removeprefix("ipc://"), group)
        except (OSError, zmq.ZMQError) as err:
            self.close()
            number = err.errno or errno.EIO
            text = f"socket {address}: {os.strerror(number)}; name another path"
            raise MhostError(number, text) from None
        finally:
            os.umask(mask)

    def filenos(self) -> list[tuple[int, Callable[[], None]]]:
        """Descriptors and what to call when they are readable, for the poller."""
        return [
            (int(self._monitor.getsockopt(zmq.FD)), self._on_monitor),
            (int(self._router.getsockopt(zmq.FD)), self.on_readable),
        ]

    # --- in

    def on_readable(self) -> None:
        """Serve up to MESSAGES_PER_WAKE messages; if more wait, ask to be woken."""
        for _ in range(MESSAGES_PER_WAKE):
            try:
                routing_id = self._router.recv(zmq.DONTWAIT)
            except zmq.Again:
                return
            # Only a frame, not bytes, knows whose connection it came over.
            message = self._router.recv(zmq.DONTWAIT, copy=routing_id in self._clients)
            extra = 0
            while self._router.getsockopt(zmq.RCVMORE):
                self._router.recv(zmq.DONTWAIT)
                extra += 1
            self._message(routing_id, message, extra)
        self._soon(self.on_readable)

    def settle(self) -> None:
        """At the end of a wake: sending may have eaten the edge of a message."""
        if self._sent:
            self._sent = False
            if int(self._router.getsockopt(zmq.EVENTS)) & zmq.POLLIN:
                self._soon(self.on_readable)

    def _message(self, routing_id: bytes, message: bytes | zmq.Frame, extra: int) -> None:
        octets = message if isinstance(message, bytes) else message.bytes
        client = self._clients.get(routing_id)
        answer = partial(self._send_to, routing_id)
        try:
            if extra:
                raise ValueError(f"message of {extra + 1} frames; want one")
            if octets[:1] == _DATA:
                if client is None:
                    answer(_NO_SESSION)
                else:
                    self._ops.records(client, octets, answer)
                return
            request = decode_request(octets)
        except ValueError as err:  # msgspec's are ValueErrors too
            log.debug("%s: not understood: %s", client or routing_id.hex(), err)
            answer(Reply(0, errno.EINVAL, f"message not understood: {err}"))
            return
        if isinstance(request, Hello) and isinstance(message, zmq.Frame):
            client = self._accept(routing_id, message, request)
            if client is None:
                return
        if client is None:
            answer(_NO_SESSION)
        else:
            self._ops.request(client, request, answer)

    def _accept(self, routing_id: bytes, frame: zmq.Frame, hello: Hello) -> Client | None:
        if hello.version != VERSION:
            text = f"hello: protocol version {hello.version}; this daemon speaks {VERSION}"
            self._send_to(routing_id, Reply(hello.seq, errno.EPROTONOSUPPORT, text))
            return None
        self._on_monitor()  # so that _pidfds is as new as this message
        fd = frame.get(zmq.SRCFD)
        if not isinstance(fd, int) or fd not in self._pidfds:
            return None  # it has hung up meanwhile
        _host, uid, _gid, pid = str(frame.get("Peer-Address")).split(":")
        client = Client(int(pid), int(uid), hello.program, self._admin, fd, self._pidfds[fd])
        self._clients[routing_id] = client
        self._routing_ids[client] = routing_id
        others = self._by_fd.setdefault(fd, set())
        if others:  # a descriptor is one connection's: which of these is gone?
            for other in (routing_id, *others):
                self._soon(partial(self._send_to, other, _ARE_YOU_THERE))
        others.add(routing_id)
        log.debug("client %d (%r, uid %d) connected", client.pid, client.program, client.uid)
        return client

    def _on_monitor(self) -> None:
        """Note connections, and end the session of each that is gone."""
        while True:
            try:
                head, _endpoint = self._monitor.recv_multipart(zmq.DONTWAIT)
            except zmq.Again:
                return
            event, fd = _MONITOR_EVENT.unpack(head)
            if event == zmq.Event.ACCEPTED:
                self._close_pidfd(fd)
                if len(self._pidfds) >= self._connections_max:
                    self._refuse(fd)
                else:
                    self._pidfds[fd] = self._open_pidfd(fd)
            else:
                for routing_id in list(self._by_fd.get(fd, ())):
                    self._gone(routing_id)
                self._by_fd.pop(fd, None)
                self._close_pidfd(fd)

    def _close_pidfd(self, fd: int) -> None:
        pidfd = self._pidfds.pop(fd, -1)
        if pidfd >= 0:
            os.close(pidfd)

    def _refuse(self, fd: int) -> None:
        """Hang up on a connection: libzmq aborts where accept() has no descriptor left."""
        if not self._refused:
            log.warning(
                "%s: %d connections, the most there may be with this LimitNOFILE; more are "
                "hung up on", self._address, self._connections_max,
            )  # fmt: skip
        self._refused += 1
        try:
            with socket.socket(fileno=os.dup(fd)) as s:
                s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has gone by itself

    def _gone(self, routing_id: bytes) -> None:
        client = self._clients.pop(routing_id, None)
        if client is not None:
            del self._routing_ids[client]
            ids = self._by_fd.get(client.fd)
            if ids is not None:
                ids.discard(routing_id)
            self._ops.release(client)
            log.debug("client %d (%r) is gone", client.pid, client.program)

    # --- out

    def send(self, client: Client, event: Event | bytes) -> bool:
        """Send an event or a data message; False if the client's backlog is full.

        A client whose backlog is full of answers that it does not read is let go: a
        datagram can wait in its socket's queue, an answer has no place to wait.
        """
        routing_id = self._routing_ids.get(client)
        if routing_id is None:
            return True
        return self._send_to(routing_id, event)

    def _send_to(self, routing_id: bytes, event: Event | bytes) -> bool:
        message = event if isinstance(event, bytes) else encode(event)
        self._sent = True
        try:
            self._router.send_multipart([routing_id, message], zmq.DONTWAIT, copy=False)
        except zmq.Again:
            if not isinstance(event, bytes):
                client = self._clients.get(routing_id)
                if client is not None:
                    log.warning("client %d does not read its answers", client.pid)
                    self._gone(routing_id)
            return False
        except zmq.ZMQError as err:
            if err.errno != zmq.EHOSTUNREACH:
                raise
            self._gone(routing_id)
        return True

    def close(self) -> None:
        """Close the socket and remove its file."""
        for routing_id in list(self._clients):
            self._gone(routing_id)
        for fd in list(self._pidfds):
            self._close_pidfd(fd)
        self._router.disable_monitor()
        self._monitor.close(0)
        self._router.close(0)
        if self._bound:
            Path(self._address.removeprefix("ipc://")).unlink(missing_ok=True)


def chgrp(path: str, group: str) -> None:
    """Let the group in where there is one; without it only root can open the door."""
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        log.warning(
            "there is no group %s, so only root can use %s; `groupadd --system %s`",
            group, path, group,
        )  # fmt: skip
        return
    os.chown(path, -1, gid)
