"""libmhost in this process, through ctypes; addresses and messages as C has them."""

import ctypes
import errno
import os
import socket
import struct
from pathlib import Path

import mhost
import pytest

AF_MHOST, SOL_MHOST = 27, 0x6D68
DIRECTORY = Path(mhost.__file__).parent / "c"
LIB = ctypes.CDLL(str(DIRECTORY / "libmhost.so.0"), use_errno=True)
LIB.mhost_errtext.restype = ctypes.c_char_p
for _name in ("send", "sendto", "sendmsg", "recv", "recvfrom", "recvmsg"):
    getattr(LIB, f"mhost_{_name}").restype = ctypes.c_ssize_t

_MHOST = struct.Struct("=HHI8s")


class Msghdr(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p), ("namelen", ctypes.c_uint32),
        ("iov", ctypes.c_void_p), ("iovlen", ctypes.c_size_t),
        ("control", ctypes.c_void_p), ("controllen", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    ]  # fmt: skip


class Iovec(ctypes.Structure):
    _fields_ = [("base", ctypes.c_void_p), ("len", ctypes.c_size_t)]


class Mmsghdr(ctypes.Structure):
    _fields_ = [("hdr", Msghdr), ("len", ctypes.c_uint)]


class Addrinfo(ctypes.Structure):
    pass


Addrinfo._fields_ = [
    ("flags", ctypes.c_int), ("family", ctypes.c_int), ("socktype", ctypes.c_int),
    ("protocol", ctypes.c_int), ("addrlen", ctypes.c_uint32), ("addr", ctypes.c_void_p),
    ("canonname", ctypes.c_char_p), ("next", ctypes.POINTER(Addrinfo)),
]  # fmt: skip


def checked(result):
    """A result of the library, or its errno as OSError with what the daemon said."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, LIB.mhost_errtext().decode() or os.strerror(number))
    return result


def sockaddr_in(host, port):
    return struct.pack("=H", 2) + struct.pack("!H4s8x", port, socket.inet_aton(host))


def sockaddr_in6(host, port, scope=0):
    packed = socket.inet_pton(socket.AF_INET6, host)
    return (
        struct.pack("=H", 10) + struct.pack("!HI", port, 0) + packed + struct.pack("=I", scope)
    )


def sockaddr_mhost(port, id_no=0, family=AF_MHOST, opaque=b""):
    return _MHOST.pack(family, socket.htons(port), id_no, opaque)


def family_of(address):
    return struct.unpack_from("=H", address)[0]


def parts(address):
    """(family, port, id_no, opaque) of a struct sockaddr_mhost."""
    family, port, id_no, opaque = _MHOST.unpack(address)
    return family, socket.ntohs(port), id_no, opaque


def getaddrinfo(node, port, family=AF_MHOST):
    """The addresses that mhost_getaddrinfo() gives, in octets; EAI_* as an int."""
    hints = Addrinfo(family=family, socktype=2)
    found = ctypes.POINTER(Addrinfo)()
    text = None if node is None else node.encode()
    service = str(port).encode()
    err = LIB.mhost_getaddrinfo(text, service, ctypes.byref(hints), ctypes.byref(found))
    if err:
        return err
    addresses, each = [], found
    while each:
        info = each.contents
        assert (info.socktype, info.protocol) == (2, 17)
        addresses.append(ctypes.string_at(info.addr, info.addrlen))
        assert family_of(addresses[-1]) == info.family
        each = info.next
    LIB.mhost_freeaddrinfo(found)
    return addresses


def getnameinfo(address):
    host, service = ctypes.create_string_buffer(256), ctypes.create_string_buffer(32)
    err = LIB.mhost_getnameinfo(address, len(address), host, 256, service, 32, 3)
    return err or (host.value.decode(), int(service.value))


class Sock:
    """One descriptor of libmhost."""

    def __init__(self, family=AF_MHOST, kind=2, proto=0):
        self.fd = checked(LIB.mhost_socket(family, kind, proto))
        if self.fd >= 0:
            self.setsockopt(1, socket.SO_RCVTIMEO, struct.pack("qq", 10, 0))

    def close(self):
        if self.fd >= 0:
            checked(LIB.mhost_close(self.fd))
        self.fd = -1

    def bind(self, address):
        checked(LIB.mhost_bind(self.fd, address, len(address)))
        return self

    def connect(self, address):
        checked(LIB.mhost_connect(self.fd, address, len(address)))

    def name(self, call, room=128):
        buffer, size = ctypes.create_string_buffer(room), ctypes.c_uint32(room)
        checked(getattr(LIB, f"mhost_get{call}name")(self.fd, buffer, ctypes.byref(size)))
        return buffer.raw[: min(size.value, room)]

    @property
    def port(self):
        return socket.ntohs(struct.unpack_from("=HH", self.name("sock"))[1])

    def setsockopt(self, level, option, value):
        octets = value if isinstance(value, bytes) else struct.pack("=i", value)
        checked(LIB.mhost_setsockopt(self.fd, level, option, octets, len(octets)))

    def getsockopt(self, level, option, room=4):
        buffer, size = ctypes.create_string_buffer(room), ctypes.c_uint32(room)
        checked(LIB.mhost_getsockopt(self.fd, level, option, buffer, ctypes.byref(size)))
        return buffer.raw[: size.value]

    def send(self, data, flags=0):
        return checked(LIB.mhost_send(self.fd, data, ctypes.c_size_t(len(data)), flags))

    def sendto(self, data, address, flags=0):
        size = ctypes.c_size_t(len(data))
        return checked(LIB.mhost_sendto(self.fd, data, size, flags, address, len(address)))

    def recvfrom(self, room=65536, flags=0, address_room=128):
        data, size = ctypes.create_string_buffer(room or 1), ctypes.c_uint32(address_room)
        source = ctypes.create_string_buffer(address_room or 1)
        n = checked(
            LIB.mhost_recvfrom(
                self.fd, data, ctypes.c_size_t(room), flags, source, ctypes.byref(size)
            )
        )
        return data.raw[: min(n, room)], source.raw[: min(size.value, address_room)]

    def recvmsg(self, room=65536, control_room=512, flags=0):
        """(data, [(level, type, data)], flags, source)"""
        data, control = ctypes.create_string_buffer(room), ctypes.create_string_buffer(512)
        name = ctypes.create_string_buffer(128)
        iov = Iovec(ctypes.cast(data, ctypes.c_void_p), room)
        message = Msghdr(
            ctypes.cast(name, ctypes.c_char_p), 128,
            ctypes.cast(ctypes.byref(iov), ctypes.c_void_p), 1,
            ctypes.cast(control, ctypes.c_void_p), control_room,
        )  # fmt: skip
        n = checked(LIB.mhost_recvmsg(self.fd, ctypes.byref(message), flags))
        found, at, octets = [], 0, control.raw[: message.controllen]
        while len(octets) - at >= 16:
            length, level, kind = struct.unpack_from("=Qii", octets, at)
            found.append((level, kind, octets[at + 16 : at + length]))
            at += -(-length // 8) * 8
        return data.raw[:n], found, message.flags, name.raw[: message.namelen]

    def sendmsg(self, buffers, control=(), address=None):
        kept = [ctypes.create_string_buffer(each, len(each)) for each in buffers]
        iovs = (Iovec * len(kept))(
            *(Iovec(ctypes.cast(each, ctypes.c_void_p), len(each)) for each in kept)
        )
        octets = b"".join(
            struct.pack("=Qii", 16 + len(data), level, kind) + data + bytes(-len(data) % 8)
            for level, kind, data in control
        )
        held = ctypes.create_string_buffer(octets, len(octets) or 1)
        message = Msghdr(
            address, len(address or b""), ctypes.cast(iovs, ctypes.c_void_p), len(kept),
            ctypes.cast(held, ctypes.c_void_p) if octets else None, len(octets),
        )  # fmt: skip
        return checked(LIB.mhost_sendmsg(self.fd, ctypes.byref(message), 0))


def errno_of(call, *args):
    with pytest.raises(OSError) as err:  # noqa: PT011
        call(*args)
    return errno.errorcode[err.value.errno]
