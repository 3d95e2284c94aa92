"""Every errno that the stack raises is raised by a test, at the place that raises it."""

import ast
import errno
from pathlib import Path
from random import Random

import pytest

import mhostd
from mhostd.af_mhost import AfMhost
from mhostd.cmsg import pack_cmsgs
from mhostd.dev import NetDevice
from mhostd.errors import MhostError
from mhostd.options import (
    IP_ADD_MEMBERSHIP,
    IP_MTU,
    IP_PKTINFO,
    IP_TTL,
    IPPROTO_IP,
    IPPROTO_IPV6,
    IPV6_V6ONLY,
    SO_BINDTODEVICE,
    SO_REUSEADDR,
    SOL_SOCKET,
)
from mhostd.skb import IP_PMTUDISC_DO, SkBuff
from mhostd.sock import Client, Locator
from mhostd.structs import PacketType
from mhostd.uapi import AF_INET, AF_MHOST, AF_UNSPEC, SockaddrMhost
from mhostd.udp.udp_table import EPHEMERAL, UdpTable

PACKAGE = Path(mhostd.__file__).parent
CORE = "af_mhost sockopt options ip_cmsg mhost_table dev init"
SOURCES = [
    *(PACKAGE / f"{name}.py" for name in CORE.split()),
    *(PACKAGE / "udp").glob("*.py"),
    *(path for path in (PACKAGE / "l3").glob("*.py") if path.stem != "icmp"),  # it translates
]


class Sites(ast.NodeVisitor):
    """Where a source names an errno, but to compare with it: "module.function ENAME"."""

    def __init__(self, module):
        self._module, self._function, self.found = module, "", set()

    def visit_FunctionDef(self, node):
        outer, self._function = self._function, node.name
        self.generic_visit(node)
        self._function = outer

    def visit_Compare(self, node):
        pass

    def visit_Attribute(self, node):
        if self._function and getattr(node.value, "id", "") == "errno":
            self.found.add(f"{self._module}.{self._function} {node.attr}")


def sites():
    found = set()
    for path in SOURCES:
        visitor = Sites(path.stem)
        visitor.visit(ast.parse(path.read_text()))
        found |= visitor.found
    return found


WRITERS = ("_no_option", "_unreachable", "_bad")  # they write the text for those that raise it


def create(node, family=AF_MHOST, type_=2, proto=0):
    node.af_mhost.mhost_create(node.client, family, type_, proto, print, print)


def send_to(node, sa):
    node.af_mhost.mhost_sendmsg(node.socket(), b"hello", sa, node.now)


def send_control(node, control):
    sa = node.sa("10.77.0.2", 7)
    node.af_mhost.mhost_sendmsg(node.socket(), b"hello", sa, node.now, control)


def too_many_memberships(node):
    sk = node.socket()
    sk.structures.extend([((IPPROTO_IP, IP_ADD_MEMBERSHIP), bytes(8))] * 64)
    node.af_mhost.mhost_setsockopt(sk, IPPROTO_IP, IP_ADD_MEMBERSHIP, bytes(8))


def bind_twice(node):
    sk = node.socket("*")
    node.bind(sk, "*")


def bind_without_the_privilege(node):
    prot = node.stack.udp.udpmhost_prot
    af_mhost = AfMhost(node.table, prot, lambda client, port: 1024 * (client.uid != 0))
    client = Client(1, 1000)
    sk = af_mhost.mhost_create(client, AF_MHOST, 2, 0, print, print)
    af_mhost.mhost_bind(sk, SockaddrMhost(AF_MHOST, 0))  # any port is no port of those
    af_mhost.mhost_release(sk)
    sk = af_mhost.mhost_create(client, AF_MHOST, 2, 0, print, print)
    af_mhost.mhost_bind(sk, SockaddrMhost(AF_MHOST, 53))


def bind_to_another_host(node):
    node.bind(node.socket(), "robot")


def send_after_shutdown(node):
    sk = node.socket()
    node.connect(sk, "robot", 7)
    node.af_mhost.mhost_shutdown(sk, 1)
    node.sendto(sk, b"hello")


def too_many_sockets(node):
    node.client.socks = dict.fromkeys(range(16384))
    node.socket()


def tun_is_down(node):
    node.tun.up = False
    node.sendto(node.socket(), b"hello", "10.77.0.2", 7)


def mtu_has_shrunk(node):
    """The MTU that udp_mhost asks for is checked by itself; here the device's own."""
    (sent,) = send_one(node)
    node.core.dev_queue_xmit(NetDevice("small", mtu=len(sent) - 1), sent)


def send_one(node):
    node.sendto(node.socket(), b"hello", "10.77.0.2", 7)
    return node.tun.tx_queue


def may_not_be_split(name, daddr):
    """What IP_PMTUDISC_DO forbids."""

    def send(node):
        proto, skb = node.table.proto_named(name), SkBuff.alloc(bytes(1500))
        skb.pmtudisc = IP_PMTUDISC_DO
        proto.sendmsg(skb, proto.addresses()[0], proto.pton(daddr))

    return send


def handler_is_gone(node):
    node.stack.l3_unregister("inet")
    node.stack.l3_unregister("testproto")
    node.stack.l3_unregister("otherproto")
    node.stack.l3_unregister("inet6")
    node.sendto(node.socket(), b"hello", "robot", 7)


def bound_elsewhere(node):
    sk = node.socket("testproto:1")
    node.sendto(sk, b"hello", "10.77.0.2", 7)


def bound_where_robot_is_not(node):
    node.table.insert_sockaddr_id("cat", [node.locator("10.77.0.9")])
    sk = node.socket("testproto:1")
    node.sendto(sk, b"hello", "cat", 7)


def all_ephemeral_ports(node):
    table, sk = UdpTable(Random(1)), node.socket()
    for port in (*EPHEMERAL, 0):
        table.udp_table_insert(sk, 0, b"", port)


def port_is_taken(node):
    node.socket("*", 4000)
    node.socket("*", 4000)


CASES = {
    "af_mhost.mhost_create EAFNOSUPPORT": lambda node: create(node, family=AF_INET),
    "af_mhost.mhost_create ESOCKTNOSUPPORT": lambda node: create(node, type_=1),
    "af_mhost.mhost_create EPROTONOSUPPORT": lambda node: create(node, proto=6),
    "af_mhost.mhost_create EMFILE": too_many_sockets,
    "af_mhost.mhost_bind EINVAL": bind_twice,
    "af_mhost.mhost_bind EACCES": bind_without_the_privilege,
    "af_mhost._places EAFNOSUPPORT": lambda node: node.af_mhost.mhost_bind(
        node.socket(), SockaddrMhost(99)
    ),
    "af_mhost._places EADDRNOTAVAIL": lambda node: node.socket("10.77.0.9"),
    "af_mhost._places EINVAL": lambda node: node.af_mhost.mhost_bind(
        node.socket(), SockaddrMhost(AF_INET, 0, b"\x0a\x4d")
    ),
    "af_mhost._host_places EADDRNOTAVAIL": bind_to_another_host,
    "af_mhost.mhost_sendmsg EPIPE": send_after_shutdown,
    "af_mhost.mhost_sendmsg EDESTADDRREQ": lambda node: node.sendto(node.socket(), b"hello"),
    "af_mhost.mhost_sendmsg EMSGSIZE": lambda node: node.sendto(
        node.socket(), bytes(65508), "robot", 7
    ),
    "af_mhost.mhost_sendmsg EINVAL": lambda node: node.sendto(node.socket(), b"", "robot", 0),
    "af_mhost.mhost_getname ENOTCONN": lambda node: node.af_mhost.mhost_getname(
        node.socket(), peer=True
    ),
    "af_mhost.mhost_shutdown ENOTCONN": lambda node: node.af_mhost.mhost_shutdown(
        node.socket(), 2
    ),
    "af_mhost._path_mtu ENOTCONN": lambda node: node.af_mhost.mhost_getsockopt(
        node.socket(), IPPROTO_IP, IP_MTU
    ),
    "sockopt._no_option ENOPROTOOPT": lambda node: node.af_mhost.mhost_getsockopt(
        node.socket(), 1, 9999
    ),
    "sockopt.get EOPNOTSUPP": lambda node: node.af_mhost.mhost_getsockopt(
        node.socket(), 200, 1
    ),
    "af_mhost.mhost_create EINVAL": lambda node: create(node, proto=-1),
    "sockopt._set_int EINVAL": lambda node: node.af_mhost.mhost_setsockopt(
        node.socket("*"), IPPROTO_IPV6, IPV6_V6ONLY, 1
    ),
    "sockopt._set_structure ENODEV": lambda node: node.af_mhost.mhost_setsockopt(
        node.socket(), IPPROTO_IP, IP_ADD_MEMBERSHIP, bytes(8)
    ),
    "sockopt._set_structure ENOBUFS": too_many_memberships,
    "sockopt._bind_to_device ENODEV": lambda node: node.af_mhost.mhost_setsockopt(
        node.socket(), SOL_SOCKET, SO_BINDTODEVICE, b"none0"
    ),
    "options.option_value EINVAL": lambda node: node.af_mhost.mhost_setsockopt(
        node.socket(), IPPROTO_IP, IP_TTL, 256
    ),
    "options.int_of EINVAL": lambda node: node.af_mhost.mhost_setsockopt(
        node.socket(), SOL_SOCKET, SO_REUSEADDR, b"1"
    ),
    "ip_cmsg.ip_cmsg_send EINVAL": lambda node: send_control(node, b"1"),
    "ip_cmsg._bad EINVAL": lambda node: send_control(
        node, pack_cmsgs([(IPPROTO_IP, IP_TTL, bytes(4))])
    ),
    "udp_mhost._said_source EINVAL": lambda node: send_control(
        node, pack_cmsgs([(IPPROTO_IP, IP_PKTINFO, bytes(4) + b"\x0a\x4d\0\x09" + bytes(4))])
    ),
    "udp_mhost._said_source ENODEV": lambda node: send_control(
        node, pack_cmsgs([(IPPROTO_IP, IP_PKTINFO, b"\1\0\0\0" + bytes(8))])
    ),
    "dev.register_netdevice EEXIST": lambda node: node.core.register_netdevice(node.tun),
    "dev.dev_add_pack EEXIST": lambda node: node.core.dev_add_pack(PacketType(0x88B5, print)),
    "dev.dev_queue_xmit ENETDOWN": tun_is_down,
    "dev.dev_queue_xmit EMSGSIZE": mtu_has_shrunk,
    "inet.inet_sendmsg EMSGSIZE": may_not_be_split("inet", "10.77.0.2"),
    "inet6.inet6_sendmsg EMSGSIZE": may_not_be_split("inet6", "fd77::2"),
    "init.l3_set ENOENT": lambda node: node.stack.l3_set("ipx", True),
    "mhost_table._explicit EAFNOSUPPORT": lambda node: send_to(
        node, SockaddrMhost(AF_UNSPEC, 7, bytes(4))
    ),
    "mhost_table._explicit EINVAL": lambda node: send_to(
        node, SockaddrMhost(AF_INET, 7, bytes(3))
    ),
    "mhost_table._explicit ENETUNREACH": lambda node: node.sendto(
        node.socket(), b"", "198.51.100.1", 7
    ),
    "mhost_table._host EINVAL": lambda node: node.table.mhost_hold("no name"),
    "mhost_table.insert_sockaddr_id EINVAL": lambda node: node.table.insert_sockaddr_id(
        "cat", [Locator(1, b"")]
    ),
    "mhost_table._unreachable EHOSTUNREACH": handler_is_gone,
    "mhost_table.mhost_host EHOSTUNREACH": lambda node: send_to(
        node, SockaddrMhost(AF_MHOST, 7, b"", 99)
    ),
    "mhost_table.mhost_pton EAFNOSUPPORT": lambda node: node.table.mhost_pton("ipx:1"),
    "mhost_table.mhost_pton EINVAL": lambda node: node.table.mhost_pton("testproto:70000"),
    "mhost_table.mhost_register_proto EEXIST": lambda node: node.stack.l3_set("inet", True),
    "mhost_table.mhost_translate_sa ENETUNREACH": bound_elsewhere,
    "mhost_table.proto_number ENOENT": lambda node: node.stack.l3_unregister("ipx"),
    "mhost_table.remove_sockaddr_id ENOENT": lambda node: node.table.remove_sockaddr_id("cat"),
    "udp_mhost.udpmhost_sendmsg EMSGSIZE": lambda node: node.sendto(
        node.socket(), bytes(1485), "testproto:2", 7
    ),
    "udp_table._pick EADDRINUSE": all_ephemeral_ports,
    "udp_table.udp_table_insert EADDRINUSE": port_is_taken,
}


@pytest.mark.parametrize("site", CASES)
def test_the_errno_of_the_kernel_comes_with_a_text(node, site):
    with pytest.raises(MhostError) as raised:
        CASES[site](node)
    function, name = site.partition(".")[2].split()
    assert raised.value.errno == getattr(errno, name)
    assert function in [*(entry.name for entry in raised.traceback), *WRITERS]
    assert len(raised.value.strerror) > 15


def test_every_errno_that_a_source_names_has_a_case():
    assert sites() == set(CASES)


@pytest.mark.parametrize(
    "make",
    [
        bound_where_robot_is_not,
        lambda node: node.table.mhost_translate_sa(
            node.sa("10.77.0.2", 7), 0.0, lambda _proto: False
        ),
    ],
)
def test_what_the_socket_cannot_reach_is_enetunreach(node, make):
    with pytest.raises(MhostError) as raised:
        make(node)
    assert raised.value.errno == errno.ENETUNREACH


def test_one_of_several_locators_that_is_not_bound_is_enoent(node):
    with pytest.raises(MhostError, match="robot has no locator testproto:9") as raised:
        node.table.remove_sockaddr_id("robot", [Locator(1, b"\0\x09")])
    assert raised.value.errno == errno.ENOENT
