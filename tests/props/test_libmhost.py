"""The C library's ZMTP and MessagePack beside libzmq and msgspec."""

import ctypes
import subprocess
from pathlib import Path

import msgspec
import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
SOURCES = [ROOT / "clients/c" / name for name in ("zmtp.c", "msgpack.c")]
MESSAGE_MAX = 1 << 17
MESSAGE, WAIT, BROKEN = range(3)


@pytest.fixture(scope="module")
def lib(tmp_path_factory):
    """The two files as a library."""
    path = tmp_path_factory.mktemp("libmhost") / "parts.so"
    argv = ["cc", "-std=c11", "-D_GNU_SOURCE", "-shared", "-fPIC", "-O1", "-o", path, *SOURCES]
    subprocess.run(argv, check=True)
    loaded = ctypes.CDLL(str(path))
    loaded.zmtp_hello.restype = loaded.zmtp_frame.restype = ctypes.c_size_t
    loaded.zmtp_room.restype = ctypes.c_void_p
    loaded.mp_get_int.restype = ctypes.c_int64
    loaded.mp_get_octets.restype = ctypes.c_void_p
    loaded.mp_get_array.restype = ctypes.c_uint32
    for name in ("mp_get_bool", "mp_take_nil", "mp_is_octets", "mp_is_array", "zmtp_open"):
        getattr(loaded, name).restype = ctypes.c_bool
    return loaded


# --- ZMTP


class Zmtp:
    """A struct zmtp."""

    def __init__(self, lib):
        self.lib = lib
        self.z = ctypes.create_string_buffer(MESSAGE_MAX + 64)
        lib.zmtp_begin(self.z)

    def hello(self):
        out = ctypes.create_string_buffer(107)
        assert self.lib.zmtp_hello(out) == 107
        return out.raw

    def frame(self, message):
        out = ctypes.create_string_buffer(9)
        n = self.lib.zmtp_frame(out, ctypes.c_size_t(len(message)))
        return out.raw[:n] + message

    def feed(self, octets):
        """The messages that these octets complete; BROKEN at the end if it is."""
        found = []
        while octets:
            room = ctypes.c_size_t()
            at = self.lib.zmtp_room(self.z, ctypes.byref(room))
            assert room.value
            part, octets = octets[: room.value], octets[room.value :]
            ctypes.memmove(at, part, len(part))
            self.lib.zmtp_got(self.z, ctypes.c_size_t(len(part)))
            found += self.messages()
            if BROKEN in found:
                break
        return found

    def messages(self):
        found = []
        while True:
            at, size = ctypes.c_void_p(), ctypes.c_size_t()
            says = self.lib.zmtp_message(self.z, ctypes.byref(at), ctypes.byref(size))
            if says != MESSAGE:
                return found + [BROKEN] * (says == BROKEN)
            found.append(ctypes.string_at(at, size.value))


@pytest.fixture
def zmtp(lib):
    return Zmtp(lib)


@pytest.fixture
def router(tmp_path):
    """A stock ROUTER, and a connection to it."""
    import socket

    with zmq.Context() as context, context.socket(zmq.ROUTER) as sock:
        sock.linger = 0
        sock.bind(f"ipc://{tmp_path}/router")
        sock.rcvtimeo = 10_000
        with socket.socket(socket.AF_UNIX) as stream:
            stream.settimeout(10)
            stream.connect(f"{tmp_path}/router")
            yield sock, stream


SIZES = [0, 1, 22, 254, 255, 256, 65_535, 65_536, MESSAGE_MAX]


def test_a_stock_router_understands(zmtp, router):
    sock, stream = router
    stream.sendall(zmtp.hello())
    while not zmtp.lib.zmtp_open(zmtp.z):
        assert zmtp.feed(stream.recv(5)) == []
    for size in SIZES:
        stream.sendall(zmtp.frame(bytes(size)))
        peer, message = sock.recv_multipart()
        assert message == bytes(size)
        sock.send_multipart([peer, b"y" * size])
        found = []
        while not found:
            found = zmtp.feed(stream.recv(50_000))
        assert found == [b"y" * size]


@pytest.fixture
def greeted(zmtp, router):
    """What a stock ROUTER sends before its first message."""
    _sock, stream = router
    stream.sendall(zmtp.hello())
    octets = b""
    while b"ROUTER" not in octets or len(octets) < 64 + 2 + octets[65]:
        octets += stream.recv(1000)
    return octets


def test_however_it_is_cut(zmtp, greeted):
    octets = greeted + b"".join(map(zmtp.frame, (b"one", b"x" * 300, b"")))
    found = []
    for i in range(len(octets)):
        found += zmtp.feed(octets[i : i + 1])
    assert found == [b"one", b"x" * 300, b""]


@pytest.mark.parametrize(
    "octets",
    [
        b"\1\3abc",  # of several frames
        b"\4\5\4PING",  # a command
        b"\x08\0",  # a flag that there is not
        b"\2" + (MESSAGE_MAX + 1).to_bytes(8, "big"),
        b"\2" + (2**64 - 1).to_bytes(8, "big"),
    ],
)
def test_what_breaks_a_connection(zmtp, greeted, octets):
    assert zmtp.feed(greeted + zmtp.frame(b"one") + octets) == [b"one", BROKEN]
    assert zmtp.messages() == [BROKEN]


@pytest.mark.parametrize("at", [0, 9, 10, 12, 15, 31, 64, 66])
def test_what_is_no_greeting(zmtp, greeted, at):
    wrong = bytearray(greeted)
    wrong[at] ^= 0x01 if at == 9 else 0x55
    assert zmtp.feed(bytes(wrong) + zmtp.frame(b"one")) == [BROKEN]


# --- MessagePack


class In(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("end", ctypes.c_void_p), ("bad", ctypes.c_bool)]


class Reader:
    """A struct mp_in, and what it reads of it as Python has it."""

    def __init__(self, lib, octets):
        self.lib, self.kept = lib, ctypes.create_string_buffer(octets, len(octets) or 1)
        start = ctypes.addressof(self.kept)
        self.mp = In(start, start + len(octets), False)
        self.left = len(octets)

    def __call__(self, name, *args):
        return getattr(self.lib, f"mp_{name}")(ctypes.byref(self.mp), *args)

    def value(self):
        if self("take_nil"):
            return None
        if self("is_array"):
            return [self.value() for _ in range(self("get_array"))]
        if self("is_octets"):
            size = ctypes.c_size_t()
            at = self("get_octets", ctypes.byref(size))
            return ctypes.string_at(at, size.value)
        if self.mp.at != self.mp.end and ctypes.string_at(self.mp.at, 1) in (b"\xc2", b"\xc3"):
            return self("get_bool")
        return self("get_int")


class Out(ctypes.Structure):
    _fields_ = In._fields_


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=300)
    | st.text(max_size=100),
    lambda inner: st.lists(inner, max_size=20),
    max_leaves=40,
)  # fmt: skip


def as_read(value):
    if isinstance(value, str):
        return value.encode()
    return [as_read(each) for each in value] if isinstance(value, list) else value


@given(values)
def test_what_msgspec_writes_is_read(lib, value):
    octets = msgspec.msgpack.encode(value)
    reader = Reader(lib, octets)
    assert reader.value() == as_read(value)
    assert (reader.mp.at, reader.mp.bad) == (reader.mp.end, False)
    skipper = Reader(lib, octets)
    skipper("skip")
    assert (skipper.mp.at, skipper.mp.bad) == (skipper.mp.end, False)


@given(values, st.data())
def test_a_message_that_is_cut_is_bad(lib, value, data):
    octets = msgspec.msgpack.encode([value])
    cut = octets[: data.draw(st.integers(0, len(octets) - 1))]
    skipper = Reader(lib, cut)
    skipper("skip")
    assert skipper.mp.bad


@given(st.binary(max_size=300))
def test_any_octets_end(lib, octets):
    skipper = Reader(lib, octets)
    while not skipper.mp.bad and skipper.mp.at != skipper.mp.end:
        skipper("skip")
    assert skipper.mp.at <= skipper.mp.end


def put(lib, out, value):
    if value is None:
        lib.mp_nil(out)
    elif isinstance(value, bool):
        lib.mp_bool(out, value)
    elif isinstance(value, int):
        if 0 <= value < 2**32:
            lib.mp_u32(out, ctypes.c_uint32(value))
        else:
            lib.mp_int(out, ctypes.c_int64(value))
    elif isinstance(value, list):
        lib.mp_array(out, len(value))
        for each in value:
            put(lib, out, each)
    elif isinstance(value, bytes):
        lib.mp_bin(out, value, ctypes.c_size_t(len(value)))
    else:
        octets = value.encode()
        lib.mp_str(out, octets, ctypes.c_size_t(len(octets)))


@given(values.filter(lambda value: len(str(value)) < 3000), st.integers(0, 4000))
def test_what_is_written_msgspec_reads(lib, value, room):
    octets = ctypes.create_string_buffer(room or 1)
    start = ctypes.addressof(octets)
    mp = Out(start, start + room, False)
    put(lib, ctypes.byref(mp), value)
    if mp.bad:
        assert room < 4000 or _too_wide(value)
    else:
        assert msgspec.msgpack.decode(octets.raw[: mp.at - start]) == value


def _too_wide(value):
    wide = isinstance(value, list)
    return wide and (len(value) > 15 or any(map(_too_wide, value)))
