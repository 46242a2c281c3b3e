"""Paramiko's packetizer on a :class:`Wire`: it never blocks a sender, and reads AES-GCM packets in place.

It also lets somebody else have packets before paramiko sees them: the channels of our own streams.  Paramiko does not
document what this file relies on: it is imported only where :func:`remote_runtime.ssh.private.usable` says so.
"""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable
from typing import Any

import paramiko
from cryptography.exceptions import InvalidTag
from paramiko.packet import NeedRekeyException, Packetizer

from remote_runtime.ssh.wire import Wire

LENGTH_BYTES, TAG_BYTES, BLOCK_BYTES = 4, 16, 16
LARGEST_PACKET_BYTES = 1 << 20
"""A length beyond this is garbage; OpenSSH's own limit is 256 KiB."""

Take = Callable[[memoryview], bool]
"""Offered each payload; True keeps it from paramiko.  The memory is the receiver's to keep."""


class LeanPacketizer(Packetizer):
    """Sends without waiting, and reads packets of an AEAD cipher without a copy in between.

    With any other cipher, and before there is one, the bytes go paramiko's own way over the same wire.
    """

    def __init__(self, wire: Wire) -> None:
        super().__init__(wire)  # type: ignore[arg-type]  # it has what is used of a socket
        self._wire = wire
        self._sealing: _Sealed | None = None
        self._opening: _Sealed | None = None
        self._seen = 0
        self._traffic = 0
        self._rekey_told = False
        self._lock = threading.RLock()
        self.offer: Take = lambda _: False
        self.on_sent: Callable[[bytes], None] = lambda _: None

    # -- what the transport tells --------------------------------------------------------------------------------------

    def set_outbound_cipher(self, block_engine: Any, *arguments: Any, **options: Any) -> None:
        """See paramiko's."""
        with self._lock:
            super().set_outbound_cipher(block_engine, *arguments, **options)
            self._sealing = _Sealed(block_engine, options["iv_out"]) if options.get("aead") else None
            self._traffic = 0

    def set_inbound_cipher(self, block_engine: Any, *arguments: Any, **options: Any) -> None:
        """See paramiko's."""
        super().set_inbound_cipher(block_engine, *arguments, **options)
        self._opening = _Sealed(block_engine, options["iv_in"]) if options.get("aead") else None
        self._traffic = 0
        self._rekey_told = False

    def reset_seqno_in(self) -> None:
        """See paramiko's."""
        super().reset_seqno_in()
        self._seen = 0

    # -- sending -------------------------------------------------------------------------------------------------------

    def send_message(self, data: Any) -> None:
        """Send a message, by whichever thread."""
        self.send(data.asbytes())

    def send(self, *parts: bytes | memoryview) -> None:
        """Send the payload that these parts make.  Raises EOFError if the connection is closed."""
        with self._lock:
            if self._sealing is None:
                payload = b"".join(parts)
                self.on_sent(payload)
                super().send_message(paramiko.Message(payload))
                return
            self.on_sent(bytes(parts[0]))
            packet = self._sealing.seal(parts)
            try:
                self._wire.send(packet)
            except OSError as error:
                raise EOFError from error
            self._count(len(packet))

    # -- reading -------------------------------------------------------------------------------------------------------

    def read_message(self) -> tuple[int, paramiko.Message]:
        """The next message that is paramiko's."""
        while True:
            if self._opening is None:
                kind, message = super().read_message()
                self._seen = (message.seqno + 1) & 0xFFFFFFFF
                if not self.offer(memoryview(bytes([kind]) + message.asbytes())):
                    return kind, message
                continue
            payload = self._read_packet(self._opening)
            seen, self._seen = self._seen, (self._seen + 1) & 0xFFFFFFFF
            if not self.offer(payload):
                message = paramiko.Message(bytes(payload[1:]))
                message.seqno = seen
                return payload[0], message

    def _read_packet(self, opening: _Sealed) -> memoryview:
        header = self._peek(LENGTH_BYTES, between_packets=True)
        (length,) = struct.unpack(">I", header)
        if not BLOCK_BYTES <= length <= LARGEST_PACKET_BYTES:
            raise paramiko.SSHException("Invalid packet length")
        whole = LENGTH_BYTES + length + TAG_BYTES
        self._peek(whole)
        plain = memoryview(opening.open(self._wire.take(whole)))
        self._count(whole)
        return plain[1 : length - plain[0]]

    def _peek(self, size: int, *, between_packets: bool = False) -> memoryview:
        while True:
            if between_packets and self.need_rekey() and not self._rekey_told:
                self._rekey_told = True  # once: the transport starts it now, and it takes some packets
                raise NeedRekeyException
            view = self._wire.peek(size)
            if view is not None:
                return view
            if self.handshake_timed_out():
                raise EOFError
            self._wire.fill(size)

    def _count(self, size: int) -> None:
        self._traffic += size
        if self._traffic >= self.REKEY_BYTES and not self.need_rekey():
            self._traffic = 0
            self._trigger_rekey()  # type: ignore[attr-defined]


class _Sealed:
    """One direction of an AES-GCM cipher (RFC 5647): its engine, and the nonce that counts packets."""

    def __init__(self, engine: Any, nonce: bytes) -> None:
        self._engine = engine
        self._fixed = nonce[:4]
        self._count = int.from_bytes(nonce[4:], "big")

    def seal(self, parts: tuple[bytes | memoryview, ...]) -> bytes:
        """The packet with this payload."""
        size = sum(map(len, parts))
        padding = 3 + BLOCK_BYTES - (size + 4) % BLOCK_BYTES
        length = struct.pack(">I", 1 + size + padding)
        plain = b"".join((bytes((padding,)), *parts, os.urandom(padding)))
        return length + bytes(self._engine.encrypt(self._nonce(), plain, length))

    def open(self, packet: memoryview) -> bytes:
        """What is in a packet, with its padding; raises SSHException if it was tampered with."""
        try:
            return bytes(self._engine.decrypt(self._nonce(), packet[LENGTH_BYTES:], packet[:LENGTH_BYTES]))
        except InvalidTag as error:
            raise paramiko.SSHException("Mismatched MAC") from error

    def _nonce(self) -> bytes:
        nonce = self._fixed + self._count.to_bytes(8, "big")
        self._count = (self._count + 1) & 0xFFFFFFFFFFFFFFFF
        return nonce
