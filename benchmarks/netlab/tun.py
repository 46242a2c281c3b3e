"""TUN devices by ioctl: network interfaces whose packets a process reads and writes."""

from __future__ import annotations

import fcntl
import os
import struct

_TUNSETIFF = 0x400454CA
_TUNSETOFFLOAD = 0x400454D0
_IFF_TUN, _IFF_NO_PI, _IFF_VNET_HDR = 0x0001, 0x1000, 0x4000
_CHECKSUM, _TSO4 = 0x01, 0x02


def open_device(name: str) -> int:
    """Make the device ``name`` in the calling thread's network namespace; it lives as long as the descriptor.

    Each packet has a ``struct virtio_net_hdr`` before it, see :func:`offload`.
    """
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = _IFF_TUN | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except BaseException:
        os.close(device)
        raise
    return device


def offload(device: int, on: bool) -> None:
    """Whether the kernel may hand over TCP super-segments, and packets whose checksum is still to be made."""
    fcntl.ioctl(device, _TUNSETOFFLOAD, _CHECKSUM | _TSO4 if on else 0)
