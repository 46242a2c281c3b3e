"""What the delay line knows of packets: which TCP connection one belongs to, and how to reset that connection.

A *frame* is what a TUN device with ``IFF_VNET_HDR`` gives and takes: ten bytes of ``struct virtio_net_hdr``, then an
IPv4 packet.  The kernel hands over whole TCP super-segments when offload is on; the header then says how large the
segments are that they stand for.  Pure functions, no IO.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

PREFIX = 10
"""Bytes of ``struct virtio_net_hdr`` before each packet."""

HEADERS = PREFIX + 40
"""As much of a frame as the functions here look at."""

_IP = PREFIX
_TCP = PREFIX + 20  # packets with IP options are not looked into
_GSO_SIZE = slice(4, 6)
_PLAIN_IPV4 = 0x45
_PROTOCOL_TCP = 6
_FIN, _SYN, _RST, _ACK = 1, 2, 4, 16
_SEQUENCE = 1 << 32


def is_tcp(frame: bytes) -> bool:
    """Whether it is TCP over IPv4 without IP options, and its headers are whole."""
    return len(frame) >= HEADERS and frame[_IP] == _PLAIN_IPV4 and frame[_IP + 9] == _PROTOCOL_TCP


def connection(frame: bytes) -> bytes:
    """The connection of a TCP frame as its sender sees it: both addresses, both ports."""
    return frame[_IP + 12 : _TCP + 4]


def other_way(key: bytes) -> bytes:
    """The same connection as the other end sees it."""
    return key[4:8] + key[0:4] + key[10:12] + key[8:10]


def has_port(key: bytes, port: int) -> bool:
    """Whether one of the two ends of the connection ``key`` is at ``port``."""
    return port in struct.unpack_from("!HH", key, 8)


def opens(frame: bytes) -> bool:
    """Whether a TCP frame asks for a new connection."""
    return frame[_TCP + 13] & (_SYN | _ACK) == _SYN


def resets(frame: bytes) -> bool:
    """Whether a TCP frame is a reset."""
    return bool(frame[_TCP + 13] & _RST)


def says_something(frame: bytes) -> bool:
    """Whether a packet is more than an acknowledgement: it has content, or opens or ends a TCP connection."""
    if not is_tcp(frame):
        return True
    return bool(_length(frame) or frame[_TCP + 13] & (_SYN | _FIN | _RST))


def segments(frame: bytes) -> int:
    """How many packets on a wire the frame stands for."""
    size = int.from_bytes(frame[_GSO_SIZE], "little")
    if not size or len(frame) < HEADERS:
        return 1
    content = len(frame) - _TCP - _header_length(frame)
    return max(1, -(-content // size))


def reset_of_sender(frame: bytes) -> bytes:
    """The answer to a TCP frame from an end that knows nothing of the connection: its sender must accept it.

    A reset counts when its sequence number is the very next that the receiver expects, and that is what the frame
    itself acknowledges.
    """
    return _reset(other_way(connection(frame)), _acknowledged(frame))


def resets_of_both(seen: Mapping[bytes, bytes], seen_back: Mapping[bytes, bytes], key: bytes) -> tuple[bytes, bytes]:
    """Resets for the receiver and for the sender of the connection ``key``, as if the other end had sent each.

    ``seen`` has the last frame of each connection, ``seen_back`` those of the other direction.  What an end expects
    next is what the other one sent last or what it acknowledged itself last: the later of both, since the last frame
    may have been a repetition or a keepalive.
    """
    forth, back = seen[key], seen_back[other_way(key)]
    to_receiver = _later(_end(forth), _acknowledged(back))
    to_sender = _later(_end(back), _acknowledged(forth))
    return _reset(key, to_receiver), _reset(other_way(key), to_sender)


def checksum(data: bytes) -> int:
    """The Internet checksum: the complement of the sum of 16-bit words in ones' complement."""
    total = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2)))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _reset(key: bytes, sequence: int) -> bytes:
    """A whole frame with a reset for the receiver of ``key``."""
    addresses, ports = key[:8], key[8:]
    tcp = ports + struct.pack("!IIBBHHH", sequence, 0, 5 << 4, _RST, 0, 0, 0)
    pseudo_header = addresses + struct.pack("!xBH", _PROTOCOL_TCP, len(tcp))
    tcp = tcp[:16] + struct.pack("!H", checksum(pseudo_header + tcp)) + tcp[18:]
    ip = struct.pack("!BBHHHBBH", _PLAIN_IPV4, 0, 20 + len(tcp), 0, 0, 64, _PROTOCOL_TCP, 0) + addresses
    ip = ip[:10] + struct.pack("!H", checksum(ip)) + ip[12:]
    return bytes(PREFIX) + ip + tcp


def _header_length(frame: bytes) -> int:
    return (frame[_TCP + 12] >> 4) * 4


def _length(frame: bytes) -> int:
    """Bytes of content, by the packet's own header: ``frame`` may be cut after its headers."""
    return int(struct.unpack_from("!H", frame, _IP + 2)[0]) - 20 - _header_length(frame)


def _end(frame: bytes) -> int:
    """The sequence number after the frame."""
    sequence: int = struct.unpack_from("!I", frame, _TCP + 4)[0]
    flags = frame[_TCP + 13]
    return (sequence + _length(frame) + bool(flags & _SYN) + bool(flags & _FIN)) % _SEQUENCE


def _acknowledged(frame: bytes) -> int:
    return int(struct.unpack_from("!I", frame, _TCP + 8)[0])


def _later(one: int, other: int) -> int:
    """The later of two sequence numbers, which wrap."""
    return one if (one - other) % _SEQUENCE < _SEQUENCE // 2 else other
