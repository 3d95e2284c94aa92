"""The port table against a model that looks at every binding, one after the other."""

from random import Random

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from mhostd.errors import MhostError
from mhostd.sock import Client, Sock
from mhostd.udp.udp_table import EPHEMERAL, UdpKey, UdpTable

FAMILIES = st.sampled_from([1, 2])
LOCALS = st.sampled_from([b"", b"a", b"b"])
REMOTES = st.sampled_from([b"x", b"y"])
PORTS = st.sampled_from([80, 81, 50000])
RPORTS = st.sampled_from([7, 8])


class Model:
    """Bindings as a list: (sock, family, local, port), and the peer of each socket."""

    def __init__(self):
        self.bindings = []
        self.peers = {}

    def conflict(self, family, local, port):
        return any(
            port == p
            and (not f or not family or (f == family and (not a or not local or a == local)))
            for _sk, f, a, p in self.bindings
        )

    def lookup(self, family, local, port, remote, rport):
        """The binding that fits with the most exact fields; a peer is two of them."""
        best, found = -1, None
        for sk, f, a, p in self.bindings:
            if p != port or f not in (0, family) or a not in (b"", local):
                continue
            peer = self.peers.get(sk)
            score = bool(f) + bool(a) + 8 * (peer == (family, remote, rport))
            if score > best:
                best, found = score, sk
        return found


class UdpTableMachine(RuleBasedStateMachine):
    socks = Bundle("socks")

    def __init__(self):
        super().__init__()
        self.table, self.model = UdpTable(Random(0)), Model()

    @rule(target=socks)
    def socket(self):
        return Sock(1, Client(1, 0), print, print)

    @rule(sk=socks, family=FAMILIES, local=LOCALS, port=PORTS, everywhere=st.booleans())
    def insert(self, sk, family, local, port, everywhere):
        if any(sk is bound for bound, *_ in self.model.bindings):
            return
        if everywhere:
            family, local = 0, b""
        refused = self.model.conflict(family, local, port)
        try:
            self.table.udp_table_insert(sk, family, local, port)
        except MhostError:
            assert refused
        else:
            assert not refused
            self.model.bindings.append((sk, family, local, port))

    @rule(sk=socks)
    def insert_somewhere(self, sk):
        if any(sk is bound for bound, *_ in self.model.bindings):
            return
        port = self.table.udp_table_insert(sk, 0, b"", 0)
        assert port in EPHEMERAL
        assert not self.model.conflict(0, b"", port)
        self.model.bindings.append((sk, 0, b"", port))

    @rule(sk=socks, family=FAMILIES, remote=REMOTES, rport=RPORTS)
    def connect(self, sk, family, remote, rport):
        self.table.udp_table_connect(sk, family, remote, rport)
        if any(sk is bound for bound, *_ in self.model.bindings):
            self.model.peers[sk] = (family, remote, rport)

    @rule(sk=socks)
    def disconnect(self, sk):
        self.table.udp_table_connect(sk, 0, b"", 0)
        self.model.peers.pop(sk, None)

    @rule(sk=consumes(socks))
    def remove(self, sk):
        self.table.udp_table_remove(sk)
        self.model.bindings = [entry for entry in self.model.bindings if entry[0] is not sk]
        self.model.peers.pop(sk, None)

    @rule(
        family=FAMILIES,
        local=LOCALS.filter(bool),
        port=PORTS,
        remote=REMOTES,
        rport=RPORTS,
    )
    def lookup(self, family, local, port, remote, rport):
        found = self.table.udp_table_lookup(UdpKey(family, local, port, remote, rport))
        assert found is self.model.lookup(family, local, port, remote, rport)

    @invariant()
    def as_many_sockets(self):
        assert len(self.table) == len({id(sk) for sk, *_ in self.model.bindings})

    def teardown(self):
        for sk, *_ in self.model.bindings:
            self.table.udp_table_remove(sk)
        assert (self.table._socks, self.table._bound) == ({}, {})


def test_the_port_table_does_what_its_model_does():
    run_state_machine_as_test(
        UdpTableMachine, settings=settings(max_examples=80, stateful_step_count=40)
    )
