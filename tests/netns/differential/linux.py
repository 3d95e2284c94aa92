"""The Linux kernel behind a TUN of this process, and its sockets."""

import fcntl
import os
import select
import socket
import struct
import time

from differential.frames import US4, US6
from differential.outcome import seen
from differential.wire import DEADLINE_S, Wire, in_namespace, is_chatter

TUNSETIFF, IFF_TUN = 0x400454CA, 1
SYSCTLS = {
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv4.conf.all.accept_source_route": 0,
    "net.ipv4.conf.default.accept_source_route": 0,
    "net.ipv4.conf.all.route_localnet": 0,
    "net.ipv4.ip_forward": 0,
    "net.ipv4.ip_no_pmtu_disc": 0,
    "net.ipv4.icmp_ratemask": 0,  # nothing is limited; the limits have their own tests
    "net.ipv4.icmp_echo_ignore_all": 0,
    "net.ipv4.icmp_echo_ignore_broadcasts": 1,
    "net.ipv4.icmp_ignore_bogus_error_responses": 1,
    "net.ipv4.icmp_errors_use_inbound_ifaddr": 0,
    "net.ipv4.ip_default_ttl": 64,
    "net.ipv4.ipfrag_max_dist": 64,
    "net.ipv6.conf.all.accept_source_route": 0,
    "net.ipv6.conf.default.accept_source_route": 0,
    "net.ipv6.conf.all.forwarding": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv6.conf.default.router_solicitations": 0,
    "net.ipv6.conf.default.addr_gen_mode": 1,
    "net.ipv6.conf.default.hop_limit": 64,
    "net.ipv6.icmp.ratelimit": 0,
    "net.ipv6.icmp.echo_ignore_all": 0,
    "net.ipv6.auto_flowlabels": 0,
    "net.ipv6.flowlabel_reflect": 0,
    "net.ipv6.max_hbh_opts_number": 8,
    "net.ipv6.max_dst_opts_number": 8,
}


class KernelSide(Wire):
    """The Linux kernel, behind a TUN of this process."""

    def __init__(self, host):
        super().__init__()
        for name, value in SYSCTLS.items():
            host.sysctl(name, value)
        self._host = host
        self._thread = in_namespace(host.netns)
        self._fd = self._thread.submit(self._open).result()
        for command in (
            "link set k0 up mtu 1500",
            f"addr add {US4}/16 dev k0",
            f"-6 addr add {US6}/64 dev k0 nodad",
            "route add default dev k0",
            "-6 route add default dev k0",
        ):
            host.ip(command)

    def _open(self):
        fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"k0", IFF_TUN))
        return fd

    def close(self):
        os.close(self._fd)
        self._thread.shutdown()

    def write(self, frame, version):
        os.write(self._fd, struct.pack("!HH", 0, 0x0800 if version == 4 else 0x86DD) + frame)

    def read(self, deadline):
        assert select.select([self._fd], [], [], deadline - time.monotonic())[0], "no answer"
        return os.read(self._fd, 65_536)[4:]

    def socket(self, version, port):
        sock = socket.socket(
            socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM
        )
        if version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind(("", port))
        return sock

    def run(self, kind, peer):
        """What the kernel makes of a kind of frames."""
        return self._thread.submit(self.outcome, kind, peer).result()

    def send(self, *how):
        """What the kernel writes for a datagram of an application, or its errno."""
        return self._thread.submit(self.sent, *how).result()

    def sysctl(self, name, value):
        self._host.sysctl(name, value)

    def after_a_while(self, version, frames, count):
        """The packets that the kernel sends when it has waited for more fragments."""
        came, deadline = self.exchange(version, frames), time.monotonic() + DEADLINE_S
        while len(came) < count:
            came += [f for f in [self.read(deadline)] if not is_chatter(f)]
        return [seen(frame) for frame in came]
