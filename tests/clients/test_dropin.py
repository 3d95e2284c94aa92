"""mhost.socket in the place of the stdlib's module: the same program over both."""

import json
import socket
import subprocess
import sys
import warnings

import mhost.socket
import pytest
from mhost.socket import InetSocket

UDP = socket.SOCK_DGRAM


@pytest.fixture(params=["kernel", "mhost"])
def module(request):
    return socket if request.param == "kernel" else mhost.socket


@pytest.fixture
def sock(module):
    """socket(family, SOCK_DGRAM), bound if a host is given, closed at the end."""
    opened = []

    def make(family=socket.AF_INET, host=None):
        made = module.socket(family, UDP)
        opened.append(made)
        made.settimeout(5)
        if host is not None:
            made.bind((host, 0))
        return made

    yield make
    for each in opened:
        each.close()


def test_every_name_of_the_stdlib_is_there():
    assert [name for name in dir(socket) if not hasattr(mhost.socket, name)] == []
    differ = {n for n in socket.__all__ if getattr(mhost.socket, n) != getattr(socket, n)}
    assert differ == {"socket", "SocketType", "getaddrinfo", "gethostbyname"} & set(
        socket.__all__
    )


def test_udp_is_mhostds_and_everything_else_is_the_stdlibs(on_a):
    made = [
        mhost.socket.socket(*args)
        for args in (
            (socket.AF_INET, UDP),
            (socket.AF_INET6, UDP | socket.SOCK_NONBLOCK, socket.IPPROTO_UDP),
            (mhost.AF_MHOST, UDP),
            (socket.AF_INET, socket.SOCK_STREAM),
            (),
            (socket.AF_UNIX, UDP),
        )
    ]
    kinds = [type(each) for each in made]
    assert kinds == [InetSocket, InetSocket, mhost.Socket, *[mhost.socket.socket] * 3]
    assert all(isinstance(each, mhost.socket.socket) for each in made)
    assert (made[1].family, made[1].type, made[1].getblocking()) == (10, UDP, False)
    for each in made:
        each.close()


@pytest.mark.parametrize(
    ("family", "host"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_datagrams_go_both_ways(sock, family, host):
    server, client = sock(family, host), sock(family)
    at = server.getsockname()
    assert (at[0], at[2:]) == (host, () if family == socket.AF_INET else (0, 0))
    assert client.sendto(b"question", at) == 8
    data, source = server.recvfrom(99)
    assert (data, source[0], source[2:]) == (b"question", host, at[2:])
    server.sendto(b"answer", source)
    assert client.recvfrom(99) == (b"answer", at)
    client.connect(at)
    assert client.getpeername() == at
    client.send(b"again")
    buffer = bytearray(9)
    assert server.recvfrom_into(buffer)[0] == 5
    assert bytes(buffer[:5]) == b"again"


def test_a_socket_of_ipv6_hears_ipv4_as_mapped(sock):
    server, client = sock(socket.AF_INET6, "::"), sock()
    client.sendto(b"v4", ("127.0.0.1", server.getsockname()[1]))
    data, source = server.recvfrom(9)
    assert (data, source[0], len(source)) == (b"v4", "::ffff:127.0.0.1", 4)
    server.sendto(b"back", source)
    assert client.recvfrom(9)[0] == b"back"


def test_nobody_is_bound_at_first(sock):
    assert sock().getsockname() == ("0.0.0.0", 0)
    assert sock(socket.AF_INET6).getsockname() == ("::", 0, 0, 0)
    client, server = sock(), sock(host="")
    client.sendto(b"x", ("localhost", server.getsockname()[1]))
    assert client.getsockname()[0] == "0.0.0.0"
    assert server.recv(1) == b"x"
    client.connect(("127.0.0.1", 9))
    assert client.getsockname()[0] == "127.0.0.1"  # what it sends from


BAD = {
    "no tuple": lambda s: s.bind("x"),
    "too long": lambda s: s.bind(("127.0.0.1", 1, 2)),
    "port": lambda s: s.sendto(b"x", ("127.0.0.1", 70_000)),
    "port of text": lambda s: s.sendto(b"x", ("127.0.0.1", "7")),
    "host of no text": lambda s: s.sendto(b"x", (5, 7)),
    "another family": lambda s: s.sendto(b"x", ("::1", 7)),
    "70,000 octets": lambda s: s.sendto(bytes(70_000), ("127.0.0.1", 7)),
    "not connected": lambda s: s.getpeername(),
    "no destination": lambda s: s.send(b"x"),
    "bound twice": lambda s: [s.bind(("127.0.0.1", 0)) for _ in range(2)],
    "not ours": lambda s: s.bind(("203.0.113.9", 0)),
    "listen": lambda s: s.listen(),
    "accept": lambda s: s.accept(),
}


@pytest.mark.parametrize("what", BAD)
def test_what_is_wrong_is_wrong_in_the_same_way(on_a, what):
    found = []
    for module in (socket, mhost.socket):
        with module.socket(socket.AF_INET, UDP) as s:
            try:
                BAD[what](s)
            except OSError as err:
                found.append((type(err), err.errno))
            except Exception as err:
                found.append(type(err))
    assert found[0] == found[1]
    assert len(found) == 2


@pytest.mark.parametrize("args", [(2, 3), (99, 2), (2, 2, 6)])
def test_wrong_sockets_are_refused_alike(on_a, args):
    if args == (2, 3):
        args = (socket.AF_INET, 77)
    codes = []
    for module in (socket, mhost.socket):
        with pytest.raises(OSError) as err:  # noqa: PT011
            module.socket(*args)
        codes.append(err.value.errno)
    assert codes[0] == codes[1]


def test_a_name_of_mhostds_is_found(on_a):
    with pytest.raises(socket.gaierror):
        socket.getaddrinfo("peer", 7)
    infos = mhost.socket.getaddrinfo("peer", 7, socket.AF_INET, UDP)
    assert ("10.77.2.1", 7) in [info[4] for info in infos]
    assert mhost.socket.gethostbyname("localhost") == "127.0.0.1"
    with pytest.raises(socket.gaierror):
        mhost.socket.getaddrinfo("nobody.invalid", 7)


def test_without_a_daemon_it_is_the_kernels(monkeypatch, tmp_path):
    monkeypatch.setenv("MHOST_SOCKET", f"ipc://{tmp_path}/none")
    monkeypatch.setattr(mhost.socket, "_warned", False)
    with pytest.warns(RuntimeWarning, match="UDP sockets are the kernel's: .*no mhostd at"):
        s = mhost.socket.socket(socket.AF_INET, UDP)
    s.bind(("127.0.0.1", 0))
    s.sendto(b"x", s.getsockname())
    assert s.recv(1) == b"x"
    s.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mhost.socket.socket(socket.AF_INET, UDP).close()  # it is said once


# --- programs that import the stdlib's module by themselves

PROGRAM = """
import sys, mhost.socket
sys.modules["socket"] = mhost.socket
import asyncio, json, selectors, socketserver, threading
import socket
from mhost.socket import InetSocket
"""

ENDPOINTS = """
class Echo(asyncio.DatagramProtocol):
    def connection_made(self, transport): self.transport = transport
    def datagram_received(self, data, address): self.transport.sendto(data[::-1], address)

class Ask(asyncio.DatagramProtocol):
    def __init__(self, done): self.done = done
    def connection_made(self, transport): transport.sendto(b"hello")
    def datagram_received(self, data, address): self.done.set_result(data.decode())

async def main():
    loop = asyncio.get_running_loop()
    server, _ = await loop.create_datagram_endpoint(Echo, local_addr=("127.0.0.1", 0))
    at = server.get_extra_info("sockname")
    done = loop.create_future()
    client, _ = await loop.create_datagram_endpoint(lambda: Ask(done), remote_addr=at)
    ours = isinstance(server.get_extra_info("socket")._sock, InetSocket)
    answer = await asyncio.wait_for(done, 5)
    server.close(), client.close()
    return ours, answer, at[0]

print(json.dumps(asyncio.run(main())))
"""

SOCK_CALLS = """
async def main():
    loop = asyncio.get_running_loop()
    a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
    for s in (a, b):
        s.setblocking(False)
    a.bind(("127.0.0.1", 0))
    waits = asyncio.create_task(loop.sock_recvfrom(a, 99))
    await asyncio.sleep(0)
    sent = await loop.sock_sendto(b, b"hello", a.getsockname())
    data, source = await asyncio.wait_for(waits, 5)
    a.close(), b.close()
    return isinstance(a, InetSocket), sent, data.decode(), source[0]

print(json.dumps(asyncio.run(main())))
"""

SELECTORS = """
a, b = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
a.bind(("127.0.0.1", 0))
with selectors.DefaultSelector() as selector:
    selector.register(a, selectors.EVENT_READ)
    before = selector.select(0)
    b.sendto(b"hello", a.getsockname())
    ready = [key.fileobj is a for key, _ in selector.select(5)]
print(json.dumps([isinstance(a, InetSocket), before, ready, a.recv(9).decode()]))
a.close(), b.close()
"""

SERVER = """
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        data, sock = self.request
        sock.sendto(data.upper(), self.client_address)

with socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler) as server:
    threading.Thread(target=server.serve_forever, args=(0.05,)).start()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        s.settimeout(5)
        s.sendto(b"hello", server.server_address)
        data, source = s.recvfrom(99)
    server.shutdown()
    print(json.dumps([isinstance(server.socket, InetSocket), data.decode(), source[0]]))
"""

DNS = """
import dns.message, dns.query, dns.rrset

server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.1", 0))

def serve():
    wire, source = server.recvfrom(4096)
    question = dns.message.from_wire(wire)
    answer = dns.message.make_response(question)
    answer.answer.append(dns.rrset.from_text("robot.", 60, "IN", "A", "10.77.2.1"))
    server.sendto(answer.to_wire(), source)

threading.Thread(target=serve).start()
query = dns.message.make_query("robot.", "A")
seen = []
make = dns.query.socket_factory
dns.query.socket_factory = lambda *a: seen.append(make(*a)) or seen[-1]
answer = dns.query.udp(query, "127.0.0.1", timeout=5, port=server.getsockname()[1])
print(json.dumps([type(seen[0]) is InetSocket, answer.answer[0][0].address]))
server.close()
"""

QUIC = """
import datetime, ssl, tempfile
from aioquic.asyncio import connect, serve
from aioquic.quic.configuration import QuicConfiguration
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
now = datetime.datetime.now(datetime.timezone.utc)
cert = (x509.CertificateBuilder().subject_name(name).issuer_name(name)
    .public_key(key.public_key()).serial_number(1).not_valid_before(now)
    .not_valid_after(now + datetime.timedelta(days=1)).sign(key, hashes.SHA256()))

def handler(reader, writer):
    async def answer():
        writer.write((await reader.read())[::-1])
        writer.write_eof()
    asyncio.ensure_future(answer())

async def main():
    server_config = QuicConfiguration(is_client=False, alpn_protocols=["echo"])
    server_config.certificate, server_config.private_key = cert, key
    server = await serve("127.0.0.1", 0, configuration=server_config, stream_handler=handler)
    at = server._transport.get_extra_info("sockname")
    config = QuicConfiguration(alpn_protocols=["echo"], verify_mode=ssl.CERT_NONE)
    async with connect("127.0.0.1", at[1], configuration=config) as client:
        reader, writer = await client.create_stream()
        writer.write(b"hello" * 10_000)
        writer.write_eof()
        data = await asyncio.wait_for(reader.read(), 20)
        ours = type(client._transport.get_extra_info("socket")._sock) is InetSocket
    server.close()
    return ours, data == (b"hello" * 10_000)[::-1]

print(json.dumps(asyncio.run(main())))
"""


def run(pair, program):
    argv = [sys.executable, "-W", "error", "-c", PROGRAM + program]
    done = subprocess.run(argv, env=pair[0].env, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_asyncios_datagram_endpoints(pair):
    assert run(pair, ENDPOINTS) == [True, "olleh", "127.0.0.1"]


def test_asyncios_calls_on_sockets(pair):
    assert run(pair, SOCK_CALLS) == [True, 5, "hello", "127.0.0.1"]


def test_selectors(pair):
    assert run(pair, SELECTORS) == [True, [], [True], "hello"]


def test_socketserver(pair):
    assert run(pair, SERVER) == [True, "HELLO", "127.0.0.1"]


def test_dnspython(pair):
    assert run(pair, DNS) == [True, "10.77.2.1"]


def test_aioquic(pair):
    assert run(pair, QUIC) == [True, True]
