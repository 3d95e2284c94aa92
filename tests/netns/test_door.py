"""Clients that send garbage, claim, stop, flood or die; a good one beside them is not hurt."""

import contextlib
import errno
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

import pytest
import zmq
from lab import BIN

from mhostd.uapi import (
    AF_MHOST,
    AF_UNSPEC,
    MESSAGE_MAX,
    RECORD_REPLY,
    VERSION,
    Bind,
    Close,
    Connect,
    Consumed,
    GetName,
    GetSockOpt,
    Hello,
    HostsAdd,
    Record,
    Reply,
    Reset,
    SetSockOpt,
    Show,
    Shutdown,
    SockaddrMhost,
    Socket,
    decode_event,
    encode,
    pack_data,
    pack_record,
)

LOOPBACK = bytes((127, 0, 0, 1))


class Client:
    """A client that says what it likes."""

    def __init__(self, address, hello=True, name=b""):
        self.context = zmq.Context()
        self.dealer = self.context.socket(zmq.DEALER)
        self.dealer.linger = 0
        self.dealer.rcvtimeo = 5000
        if name:
            self.dealer.routing_id = name
        self.dealer.connect(address)
        if hello:
            assert self.ask(Hello(1, VERSION, "test")).errno == 0

    def ask(self, request):
        self.dealer.send(encode(request) if not isinstance(request, bytes) else request)
        return decode_event(self.dealer.recv())

    def open(self, port=0):
        number = self.ask(Socket(2, AF_MHOST, socket.SOCK_DGRAM, 0)).value
        bound = self.ask(Bind(3, number, SockaddrMhost(AF_MHOST, port)))
        assert bound.errno == 0, bound
        return number, bound.value

    def close(self):
        self.dealer.close()
        self.context.term()


@pytest.fixture
def admin(pair):
    return pair[0].socket.replace("mhost.sock", "admin.sock")


@pytest.fixture
def client(pair):
    client = Client(pair[0].socket)
    yield client
    client.close()


pytestmark = pytest.mark.usefixtures("good")


# --- garbage


@pytest.mark.parametrize("which", ["mhost.sock", "admin.sock"])
def test_garbage_octets_on_the_unix_socket_hurt_nobody(pair, which):
    path = str(pair[0].dir / which)
    rng = random.Random(1)
    for size in (0, 1, 10, 64, 65, 1000, 100_000):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
            s.connect(path)
            try:
                s.sendall(rng.randbytes(size))
            except BrokenPipeError:
                pass  # it was refused before its end


@pytest.mark.parametrize("which", ["mhost.sock", "admin.sock"])
@pytest.mark.parametrize("hello", [False, True])
def test_garbage_messages_get_a_clear_error(pair, which, hello):
    client = Client(f"ipc://{pair[0].dir / which}", hello)
    rng = random.Random(2)
    messages = [b"", b"\xc1", b"\xc1" * 8, b"\xff", b"\x91\xa4nope", encode(["hello", "x"])]
    messages += [rng.randbytes(rng.randrange(1, 200)) for _ in range(200)]
    for message in messages:
        answer = client.ask(message)
        if message[:1] == b"\xc1" and not hello:
            assert isinstance(answer, Reset)  # datagrams, and nobody knows of which socket
        else:
            assert isinstance(answer, Reply)
            assert answer.errno
            assert "not understood" in answer.text
    client.close()


def test_a_message_of_several_frames_is_refused(client):
    client.dealer.send_multipart([encode(Show(1, "l3")), b"more"])
    assert "2 frames; want one" in decode_event(client.dealer.recv()).text


def test_a_message_that_is_too_long_ends_the_connection_of_its_sender(pair):
    client = Client(pair[0].socket)
    _number, port = client.open()
    client.dealer.send(bytes(MESSAGE_MAX + 1))
    until_free(pair[0], port)
    client.close()


def test_every_verb_before_hello_is_answered_with_reset(pair):
    client = Client(pair[0].socket, hello=False)
    assert isinstance(client.ask(Socket(1, AF_MHOST, 2, 0)), Reset)
    assert isinstance(client.ask(Show(1, "l3")), Reset)
    client.close()


def test_another_protocol_version_is_refused_by_number(pair):
    client = Client(pair[0].socket, hello=False)
    answer = client.ask(Hello(1, VERSION + 1))
    assert os.strerror(answer.errno) == "Protocol not supported"
    assert f"speaks {VERSION}" in answer.text
    client.close()


@pytest.mark.parametrize("cut", [1, 7, 12, 40, 47])
def test_a_record_that_is_cut_short_is_refused(client, cut):
    number, _port = client.open()
    message = pack_data(number, pack_record(Record(SockaddrMhost(2, 9, LOOPBACK), b"x" * 8)))
    answer = client.ask(message[:cut])
    assert answer.errno
    assert "not understood" in answer.text


@pytest.mark.parametrize("length", [0, 39, 57, 0xFFFF_FFFF])
def test_a_record_that_lies_about_its_length_is_refused(client, length):
    number, _port = client.open()
    record = bytearray(pack_record(Record(SockaddrMhost(2, 9, LOOPBACK), b"x" * 16)))
    record[:4] = length.to_bytes(4, sys.byteorder)
    answer = client.ask(pack_data(number, bytes(record)))
    assert f"length {length} is not in" in answer.text


def test_af_unspec_as_a_destination_is_refused(client):
    number, port = client.open()
    record = Record(SockaddrMhost(AF_UNSPEC, port), b"x", RECORD_REPLY, 0, 77)
    answer = client.ask(pack_data(number, pack_record(record)))
    assert answer.seq == 77
    assert os.strerror(answer.errno) == "Address family not supported by protocol"


# --- claims


def of_another(number):
    """Every request and record that names a socket, made with somebody else's."""
    to = SockaddrMhost(2, 9, LOOPBACK)
    return [
        Bind(9, number, to),
        Connect(9, number, to),
        Connect(9, number, None),
        GetName(9, number, False),
        GetName(9, number, True),
        Shutdown(9, number, 2),
        SetSockOpt(9, number, socket.SOL_SOCKET, socket.SO_RCVBUF, 0),
        GetSockOpt(9, number, socket.SOL_SOCKET, socket.SO_RCVBUF),
        Close(9, number),
        pack_data(number, pack_record(Record(to, b"stolen", RECORD_REPLY, 0, 5))),
    ]


def test_a_socket_of_another_client_cannot_be_touched(pair, client):
    other = Client(pair[0].socket)
    number, port = other.open()
    shown = lambda: next(s for s in pair[0].show("sockets") if s["port"] == port)  # noqa: E731
    before = shown()
    for request in of_another(number):
        answer = client.ask(request)
        assert os.strerror(answer.errno) == "Bad file descriptor", request
    client.dealer.send(encode(Consumed(number, 1 << 31)))
    assert shown() == before
    assert other.ask(Close(9, number)).errno == 0
    other.close()


def test_no_number_is_another_clients(pair, client):
    """Whatever it guesses: all sockets of all clients, that of the good one included."""
    numbers = [row["socket"] for row in pair[0].show("sockets")]
    assert numbers
    for number in numbers:
        for request in of_another(number):
            assert os.strerror(client.ask(request).errno) == "Bad file descriptor"


def test_a_routing_id_that_another_has_is_not_given_twice(pair):
    """ZMTP lets a peer name itself; who came first keeps the name and what it stands for."""
    first = Client(pair[0].socket, hello=False, name=b"me")
    assert first.ask(Hello(1, VERSION, "first")).errno == 0
    second = Client(pair[0].socket, hello=False, name=b"me")
    number, _port = first.open()
    second.dealer.rcvtimeo = 300
    with pytest.raises(zmq.Again):
        second.ask(Close(9, number))
    assert first.ask(GetName(9, number, False)).errno == 0
    first.close()
    second.close()


def test_verbs_that_change_are_taken_on_the_admin_socket_only(pair, client, admin):
    request = HostsAdd(4, "claimed", ["127.0.0.1"])
    answer = client.ask(request)
    assert os.strerror(answer.errno) == "Operation not permitted"
    assert "admin socket" in answer.text
    root = Client(admin)
    assert root.ask(request).errno == 0
    root.close()
    assert "claimed" in {host["name"] for host in pair[0].show("hosts")}
    pair[0].mhostctl("hosts", "del", "claimed")


def test_the_admin_socket_is_for_root_and_the_other_for_its_group(pair):
    modes = {path.name: path.stat().st_mode & 0o777 for path in pair[0].dir.glob("*.sock")}
    assert modes == {"mhost.sock": 0o660, "admin.sock": 0o600}


# --- death and silence


def until_free(host, port, timeout_s=10):
    """Wait until no socket has the port; return how long it took."""
    start = time.monotonic()
    while any(sk["port"] == port for sk in host.show("sockets")):
        assert time.monotonic() - start < timeout_s, f"port {port} is still taken"
    return time.monotonic() - start


HOLD = """
import mhost, sys, time
s = mhost.Socket(); s.bind(("*", 0)); t = mhost.Socket(); t.bind(("testproto:*", 0))
print(s.getsockname()[1], t.getsockname()[1], flush=True)
time.sleep(600)
"""


def test_the_ports_of_a_client_that_is_killed_are_free_again(pair):
    host = pair[0]
    holder = host.popen(sys.executable, "-c", HOLD, stdout=subprocess.PIPE, text=True)
    ports = [int(port) for port in holder.stdout.readline().split()]
    holder.send_signal(signal.SIGKILL)
    waiter = Client(host.socket)
    start = time.monotonic()
    holder.wait()
    number = waiter.ask(Socket(2, AF_MHOST, socket.SOCK_DGRAM, 0)).value
    while waiter.ask(Bind(3, number, SockaddrMhost(AF_MHOST, ports[0]))).errno:
        assert time.monotonic() - start < 10
    print(f"port free {1000 * (time.monotonic() - start):.1f} ms after kill -9")
    until_free(host, ports[1])
    waiter.close()


def test_a_client_that_hangs_up_without_closing_frees_its_sockets(pair):
    client = Client(pair[0].socket)
    _number, port = client.open()
    client.close()
    until_free(pair[0], port)


def test_a_stopped_client_loses_only_its_own_datagrams(pair):
    host = pair[0]
    holder = host.popen(sys.executable, "-c", HOLD, stdout=subprocess.PIPE, text=True)
    port = int(holder.stdout.readline().split()[0])
    holder.send_signal(signal.SIGSTOP)
    flood = host.app()
    flood("socket", "mhost")
    flood("bind", "*", 0)
    flood("flood", 20_000, 1000, "127.0.0.1", port)

    def stopped():
        return next(sk for sk in host.show("sockets") if sk["port"] == port)

    until_dropped = time.monotonic() + 10
    while not stopped()["rx_drops"]:
        assert time.monotonic() < until_dropped
    row = stopped()
    assert row["recv_q"] <= row["rcvbuf"] + 2000
    assert host.show("drops")["socket_rcvbuff"] >= row["rx_drops"]
    assert host.show("status")["rss_kib"] < 80 * 1024
    holder.send_signal(signal.SIGCONT)
    assert host.show("sockets")
    holder.kill()
    until_free(host, port)


def test_a_client_that_reads_no_answers_is_let_go(pair):
    """The kernel's and ZeroMQ's buffers fill, then the daemon lets it go."""
    client = Client(pair[0].socket)
    _number, port = client.open()
    question = encode(Show(1, "counters"))
    client.dealer.sndtimeo = 2000
    for _ in range(20_000):
        try:
            client.dealer.send(question)
        except zmq.Again:
            break
    until_free(pair[0], port)
    assert "does not read its answers" in pair[0].log()
    assert pair[0].show("status")["rss_kib"] < 120 * 1024
    client.close()


def test_sockets_of_clients_that_hang_up_are_all_gone_also_when_descriptors_recur(pair):
    host = pair[0]
    before = len(host.show("sockets"))
    flooding = threading.Event()

    def flood():
        client = Client(host.socket)
        while not flooding.is_set():
            client.ask(Show(1, "sockets"))
        client.close()

    def churn():
        with zmq.Context() as context:
            for _ in range(150):
                with context.socket(zmq.DEALER) as dealer:
                    dealer.connect(host.socket)
                    dealer.send(encode(Hello(1, VERSION, "churn")))
                    dealer.send(encode(Socket(2, AF_MHOST, socket.SOCK_DGRAM, 0)))
                    dealer.linger = 200

    threads = [threading.Thread(target=churn) for _ in range(3)]
    flooder = threading.Thread(target=flood)
    for thread in (flooder, *threads):
        thread.start()
    for thread in threads:
        thread.join()
    flooding.set()
    flooder.join()
    deadline = time.monotonic() + 10
    while len(host.show("sockets")) > before:
        assert time.monotonic() < deadline, host.show("sockets")


def test_many_connections_and_sockets_do_not_take_the_last_descriptor(lab):
    host = lab.host("h")
    host.start("")
    host.stop()
    limit = 1000
    argv = ["prlimit", f"--nofile={limit}"]
    path = str(host.dir / "mhostd.toml")
    with (host.dir / "mhostd.log").open("ab") as log:
        host.daemon = host.popen(*argv, str(BIN / "mhostd"), "--config", path, stderr=log)
    while host.mhostctl("status", check=False).returncode:
        assert host.daemon.poll() is None
    client = Client(host.socket)
    path = str(host.dir / "mhost.sock")
    with contextlib.ExitStack() as stack:
        for _ in range(2 * limit):
            s = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            s.connect(path)
        errors = set()
        for _ in range(limit):
            number = client.ask(Socket(2, AF_MHOST, socket.SOCK_DGRAM, 0)).value
            errors.add(client.ask(Bind(3, number, SockaddrMhost(AF_MHOST))).errno)
        assert errors == {0, errno.EMFILE}
    assert host.daemon.poll() is None
    assert "are hung up on" in host.log()
    client.close()
    deadline = time.monotonic() + 10
    while host.mhostctl("status", check=False).returncode:
        assert time.monotonic() < deadline, host.log()
