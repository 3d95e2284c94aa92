"""Let Linux write the frames of linux.txt; README.md says how to run this."""

import os
import select
import socket
import struct
import subprocess

import pytun

SO_NO_CHECK = 11  # asm-generic/socket.h
IP_MTU_DISCOVER = 10  # linux/in.h
IPV6_DSTOPTS = 59  # linux/in6.h
NLMSG_DONE = b"\x03\x00"
HERE4, HERE6 = "10.77.0.101", "fd77::101"  # the kernel's addresses
OURS4, OURS6 = "10.77.0.1", "fd77::1"  # nobody's: what goes there comes out of the TUN
FROM_US_4 = "4500002100004000401125cd0a4d00010a4d00650fa00009000d975968656c6c6f"
FROM_US_6 = (
    "60000000000d1140fd770000000000000000000000000001fd770000000000000000000000000101"
    "0fa00009000db06768656c6c6f"
)


def run(command):
    subprocess.run(command.split(), check=True)


def frames(tun):
    """All that the kernel writes within a moment, as (EtherType, packet)."""
    found = []
    while select.select([tun], [], [], 0.2)[0]:
        frame = os.read(tun.fileno(), 65536)
        found.append((frame[2:4], frame[4:]))
    return found


def show(name, tun):
    ethertype, packet = frames(tun)[-1]
    print(name, ethertype.hex(), packet.hex())


def links(netlink, name):
    while select.select([netlink], [], [], 0.2)[0]:
        message = netlink.recv(1 << 16)
        if message[4:6] != NLMSG_DONE:
            print(name, "link", message.hex())


EVENTS = 0x10 | 0x40 | 0x100 | 0x400  # RTMGRP_ of IPv4 and IPv6: IFADDR and ROUTE


def events(netlink, name, command):
    """All that the kernel tells of one command, in one line."""
    run(command)
    messages = b""
    while select.select([netlink], [], [], 0.2)[0]:
        messages += netlink.recv(1 << 16)
    print(name, "link", messages.hex())


def route_get(netlink, name, family, to):
    address = socket.inet_pton(family, to)
    request = struct.pack("=BBBBBBBBI", family, 8 * len(address), 0, 0, 0, 0, 0, 0, 0)
    request += struct.pack("=HH", 4 + len(address), 1) + address
    netlink.send(struct.pack("=IHHII", 16 + len(request), 26, 1, 1, 0) + request)
    print(name, "link", netlink.recv(1 << 16).hex())


def addresses_and_routes():
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    netlink.bind((0, EVENTS))
    events(netlink, "address4_added", "ip addr add 198.51.100.1/24 dev mhost0")
    events(netlink, "address4_deleted", "ip addr del 198.51.100.1/24 dev mhost0")
    peer = "198.51.100.3 peer 198.51.100.4/32 dev mhost0"
    events(netlink, "peer4_added", f"ip addr add {peer}")
    events(netlink, "peer4_deleted", f"ip addr del {peer}")
    events(netlink, "address6_added", "ip -6 addr add 2001:db8::7/64 dev mhost0 nodad")
    events(netlink, "address6_deleted", "ip -6 addr del 2001:db8::7/64 dev mhost0")
    events(netlink, "route4_added", "ip route add 203.0.113.0/24 dev mhost0")
    events(netlink, "route4_deleted", "ip route del 203.0.113.0/24 dev mhost0")
    events(netlink, "route6_added", "ip -6 route add 2001:db8:1::/48 dev mhost0")
    events(netlink, "route6_deleted", "ip -6 route del 2001:db8:1::/48 dev mhost0")
    events(netlink, "refuse4_added", "ip route add unreachable 192.0.2.2/32")
    events(netlink, "refuse4_deleted", "ip route del unreachable 192.0.2.2/32")
    events(netlink, "default4_added", "ip route add default dev mhost0")
    events(netlink, "default4_deleted", "ip route del default dev mhost0")
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    route_get(netlink, "route4_get", socket.AF_INET, OURS4)
    route_get(netlink, "route6_get", socket.AF_INET6, OURS6)
    route_get(netlink, "route4_none", socket.AF_INET, "192.0.2.1")
    netlink.send(struct.pack("=IHHII", 24, 22, 0x301, 1, 0) + bytes(8))
    print("addresses", "link", netlink.recv(1 << 16).hex())


def ping(tun, name, family, number, to, request):
    with socket.socket(family, socket.SOCK_RAW, number) as s:
        s.sendto(request + struct.pack("!HH", 7, 1) + b"echo me!", (to, 0))
    show(name, tun)


def main():
    netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
    tun = pytun.TunTapDevice(name="mhost0", flags=pytun.IFF_TUN)
    run("ip link set lo up")
    run(f"ip addr add {HERE4}/24 dev mhost0")
    run("ip link set mhost0 mtu 1500 up")
    run(f"ip -6 addr add {HERE6}/64 dev mhost0 nodad")
    show("router_solicitation", tun)

    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.bind((HERE4, 5101))
    s.sendto(b"hello", (OURS4, 4000))
    show("udp4", tun)
    s.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 1)
    s.sendto(b"hello", (OURS4, 4000))
    show("udp4_no_check", tun)
    s.setsockopt(socket.SOL_SOCKET, SO_NO_CHECK, 0)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes((0x94, 4, 0, 0)))
    s.sendto(b"hello", (OURS4, 4000))
    show("udp4_router_alert", tun)
    s.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, b"")
    s.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, 0)
    s.sendto(b"x" * 1480, (OURS4, 4000))
    show("udp4_fragment", tun)

    s = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    s.bind((HERE6, 5101))
    s.sendto(b"hello", (OURS6, 4000))
    show("udp6", tun)
    s.sendto(b"x" * 1460, (OURS6, 4000))
    show("udp6_fragment", tun)
    s.setsockopt(socket.IPPROTO_IPV6, IPV6_DSTOPTS, bytes((0, 0, 1, 4, 0, 0, 0, 0)))
    s.sendto(b"hello", (OURS6, 4000))
    show("udp6_destination_options", tun)

    # Over a raw socket the ICMP checksum is the sender's: ~(0800 + 7 + 1 + "echo me!")
    ping(tun, "echo4", socket.AF_INET, 1, OURS4, bytes.fromhex("0800a496"))
    ping(tun, "echo6", socket.AF_INET6, 58, OURS6, bytes.fromhex("80000000"))
    for name, family, to in (("tcp4", socket.AF_INET, OURS4), ("tcp6", socket.AF_INET6, OURS6)):
        with socket.socket(family) as s:
            s.setblocking(False)
            s.connect_ex((to, 80))
            show(name, tun)
    os.write(tun.fileno(), bytes.fromhex("00000800" + FROM_US_4))
    show("port_unreachable4", tun)
    os.write(tun.fileno(), bytes.fromhex("000086dd" + FROM_US_6))
    show("port_unreachable6", tun)

    addresses_and_routes()

    netlink.bind((0, 1))
    netlink.send(struct.pack("=IHHII", 32, 18, 0x301, 1, 0) + bytes(16))
    links(netlink, "dump")
    run("ip link set mhost0 down")
    links(netlink, "down")
    tun.close()
    links(netlink, "gone")


if __name__ == "__main__":
    main()
