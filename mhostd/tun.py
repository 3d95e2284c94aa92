"""The TUN device: a descriptor to read frames from and write frames to.

Opened through pytun without IFF_NO_PI, so each frame has `struct tun_pi` in front:

    octet  0       2       4
           +-------+-------+------
           | flags | proto | packet      (linux/if_tun.h)
           +-------+-------+------
"""

from __future__ import annotations

import errno
import ipaddress
import os
import struct
from collections.abc import Callable
from typing import Any

import pytun

from mhostd.config import Tun, tun_address
from mhostd.dev import NetCore, NetDevice
from mhostd.errors import MhostError
from mhostd.skb import SkBuff

RX_BATCH = 64  # frames per wake, so that neither side can starve the other

_TUN_PI = struct.Struct("!HH")
_IFA_F_NODAD = 0x02


class TunDevice(NetDevice):
    """A NetDevice that owns a TUN interface."""

    kind = "tun"

    def __init__(
        self, core: NetCore, name: str, mtu: int, deleted: Callable[[], None] = lambda: None
    ) -> None:
        """Open the interface; it goes away when it is closed.

        Args:
            core: where frames go.
            name: of the interface.
            mtu: octets of packet.
            deleted: called when somebody else has deleted it.

        Raises:
            MhostError: EBUSY if another process has it, EPERM without CAP_NET_ADMIN,
                ENOENT without /dev/net/tun.
        """
        super().__init__(name, mtu)
        self._core = core
        self._deleted = deleted
        try:
            self._tun = pytun.TunTapDevice(name=name, flags=pytun.IFF_TUN)
        except (OSError, pytun.Error) as err:
            raise _cannot_open(name, err) from None
        os.set_inheritable(self._tun.fileno(), False)
        os.set_blocking(self._tun.fileno(), False)

    def configure(self, tun: Tun) -> None:
        """Give the kernel's end its addresses, MTU and routes, and bring it up.

        Uses pyroute2's synchronous API: call it before the event loop runs.
        """
        import pyroute2

        try:
            self._configure(tun, pyroute2.IPRoute())
        except pyroute2.NetlinkError as err:
            number = int(err.code)
            text = f"device {self.name}: addresses and routes: {os.strerror(number)}"
            raise MhostError(number, text) from None

    def _configure(self, tun: Tun, route: Any) -> None:
        with route as ip:
            index = ip.link_lookup(ifname=self.name)[0]
            ip.link("set", index=index, mtu=tun.mtu, state="up")
            for inet, version in ((tun.inet, 4), (tun.inet6, 6)):
                if inet is None:
                    continue
                read = tun_address(inet, version)
                flags = {"flags": _IFA_F_NODAD} if version == 6 else {}
                ip.addr(
                    "replace",
                    index=index,
                    address=read.host_address,
                    prefixlen=read.prefixlen,
                    **flags,
                )
            for route in tun.routes:
                ip.route("replace", dst=str(ipaddress.ip_network(route)), oif=index)

    def kernel_addresses(self, tun: Tun) -> dict[bytes, tuple[str, str]]:
        """Return (address with prefix length, device) of the kernel's end by its octets."""
        found = {}
        for inet, version in ((tun.inet, 4), (tun.inet6, 6)):
            if inet is not None:
                read = tun_address(inet, version)
                octets = ipaddress.ip_address(read.host_address).packed
                found[octets] = (f"{read.host_address}/{read.prefixlen}", self.name)
        return found

    def fileno(self) -> int:
        """For the poller."""
        return self._tun.fileno()

    def on_readable(self) -> None:
        """Take up to RX_BATCH frames off the device."""
        fd, size = self._tun.fileno(), _TUN_PI.size + self.mtu
        for _ in range(RX_BATCH):
            try:
                frame = os.read(fd, size)
            except BlockingIOError:
                return
            except OSError as err:
                if err.errno == errno.EBADFD:  # ip link del
                    self._deleted()
                    return
                if err.errno in (errno.EIO, errno.ENETDOWN):  # ip link set down
                    return
                raise
            _flags, protocol = _TUN_PI.unpack_from(frame)
            skb = SkBuff(bytearray(frame), _TUN_PI.size)
            skb.protocol = protocol
            self._core.netif_receive_skb(self, skb)

    def flush(self) -> None:
        """Write everything queued by dev_queue_xmit."""
        queue, self.tx_queue = self.tx_queue, []
        fd = self._tun.fileno()
        for skb in queue:
            octets = len(skb)
            _TUN_PI.pack_into(skb.push(_TUN_PI.size), 0, 0, skb.protocol)
            try:
                os.write(fd, skb.data)
            except OSError as err:
                self._core.tx_done(self, octets, err.errno or errno.EIO)
            else:
                self._core.tx_done(self, octets)

    def close(self) -> None:
        """Give the interface back; addresses and routes go with it."""
        self._tun.close()


def _cannot_open(name: str, err: Exception) -> MhostError:
    number = getattr(err, "errno", None) or (err.args[0] if err.args else errno.EIO)
    number = number if isinstance(number, int) else errno.EIO
    ways_out = {
        errno.EBUSY: "another process has it open; stop that one or set tun.name",
        errno.EPERM: "CAP_NET_ADMIN is needed; run as root or by the systemd unit",
        errno.ENOENT: "there is no /dev/net/tun; load the kernel module tun",
    }
    text = ways_out.get(number, os.strerror(number))
    return MhostError(number, f"device {name}: {text}")
