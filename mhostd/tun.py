"""The TUN device: a descriptor to read frames from and write frames to.

Opened through pytun without IFF_NO_PI, so each frame has `struct tun_pi` in front, and
where the fast lane reads it (mhostd/fast.py) `struct virtio_net_hdr` behind that:

    octet  0       2       4              14
           +-------+-------+--------------+------
           | flags | proto | virtio_net   | packet   (linux/if_tun.h, linux/virtio_net.h)
           +-------+-------+--------------+------
"""

from __future__ import annotations

import errno
import fcntl
import ipaddress
import logging
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
_VNET = bytes(10)  # struct virtio_net_hdr of a packet that is complete
_IFA_F_NODAD = 0x02

# linux/if_tun.h
_TUNSETOFFLOAD = 0x400454D0
_TUN_F_CSUM, _TUN_F_USO4, _TUN_F_USO6 = 0x01, 0x20, 0x40

log = logging.getLogger(__name__)


class TunDevice(NetDevice):
    """A NetDevice that owns a TUN interface.

    Attributes:
        vnet: frames have a struct virtio_net_hdr, and on_readable() cannot read them.
        uso: super-packets of UDP may be written, and come (UDP segmentation offload).
    """

    kind = "tun"

    def __init__(
        self,
        core: NetCore,
        name: str,
        mtu: int,
        deleted: Callable[[], None] = lambda: None,
        *,
        vnet: bool = False,
        ioctl: Callable[[int, int, int], object] = fcntl.ioctl,
    ) -> None:
        """Open the interface; it goes away when it is closed.

        Args:
            core: where frames go.
            name: of the interface.
            mtu: octets of packet.
            deleted: called when somebody else has deleted it.
            vnet: ask for offloads; whoever reads frames must know them.
            ioctl: fcntl.ioctl, or what a kernel without offloads would say.

        Raises:
            MhostError: EBUSY if another process has it, EPERM without CAP_NET_ADMIN,
                ENOENT without /dev/net/tun.
        """
        super().__init__(name, mtu)
        self._core = core
        self._deleted = deleted
        try:
            flags = pytun.IFF_TUN | (pytun.IFF_VNET_HDR if vnet else 0)
            self._tun = pytun.TunTapDevice(name=name, flags=flags)
        except (OSError, pytun.Error) as err:
            raise _cannot_open(name, err) from None
        os.set_inheritable(self._tun.fileno(), False)
        os.set_blocking(self._tun.fileno(), False)
        self.vnet = vnet
        self.uso = vnet and self._offload(ioctl)
        self._prefix = len(_VNET) if vnet else 0

    def _offload(self, ioctl: Callable[[int, int, int], object]) -> bool:
        """Ask for checksum and UDP segmentation offload; whether the kernel has the latter."""
        wanted = _TUN_F_CSUM | _TUN_F_USO4 | _TUN_F_USO6
        try:
            ioctl(self._tun.fileno(), _TUNSETOFFLOAD, wanted)
        except OSError as err:
            log.warning(
                "device %s: no UDP segmentation offload (%s), as before Linux 6.2; datagrams "
                "go one by one", self.name, err.strerror,
            )  # fmt: skip
            return False
        return True

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
            if self._prefix:
                skb.push(self._prefix)[:] = _VNET
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
