"""The door without ZeroMQ: what it would put on a client's connection stays in a list."""

import pytest

from mhostd.ipc.admin import Admin
from mhostd.ipc.calls import Calls
from mhostd.ipc.show import Show
from mhostd.sock import Client
from mhostd.uapi import Hello, Socket, unpack_data

AF_MHOST = 27


class Desk:
    """Calls over Node 1, with one client.

    Attributes:
        sent: what went to clients, as (client, event).
        reads: while it is False, no client takes data messages.
        asked: (name, done) of what the resolver was asked.
    """

    def __init__(self, node):
        self.node = node
        self.sent, self.answers, self.asked = [], [], []
        self.reads = True
        self.client = Client(pid=7, uid=1000, program="test")
        clock = lambda: node.now  # noqa: E731
        self.show = Show(
            node.core, node.table, node.af_mhost.socks, clock, lambda: [], lambda _call: None
        )
        self.calls = Calls(
            node.af_mhost,
            node.table,
            clock,
            lambda name, done: self.asked.append((name, done)),
            self.show,
            Admin(node.table, node.stack.l3_set),
            "ipc:///run/admin.sock",
        )
        self.calls.send = self._send
        self.ask(Hello(0, 1, "test"))

    def _send(self, client, event):
        if isinstance(event, bytes) and not self.reads:
            return False
        self.sent.append((client, event))
        return True

    def ask(self, request, client=None):
        """The answer to a request, or None if there is none yet."""
        self.answers.clear()
        self.calls.request(client or self.client, request, self.answers.append)
        return self.answers.pop() if self.answers else None

    def socket(self, client=None):
        return self.ask(Socket(1, AF_MHOST, 2, 0), client).value

    def records(self, message, client=None):
        """The answers to a data message."""
        self.answers.clear()
        self.calls.records(client or self.client, message, self.answers.append)
        return list(self.answers)

    def data(self):
        """Flush, and take the data messages: (socket, records)."""
        self.calls.flush()
        messages = [event for _client, event in self.sent if isinstance(event, bytes)]
        self.sent = [entry for entry in self.sent if not isinstance(entry[1], bytes)]
        return [(number, list(records)) for number, records in map(unpack_data, messages)]


@pytest.fixture
def desk(node):
    return Desk(node)


@pytest.fixture
def make_client():
    return lambda pid=8, admin=False: Client(pid=pid, uid=0, program="other", admin=admin)
