"""SSH keys: making them, and saying which is which."""

from __future__ import annotations

import base64
import hashlib

from remote_runtime.errors import AuthenticationFailed


def generate(comment: str) -> tuple[bytes, str]:
    """A new ed25519 key: the private part as an unencrypted OpenSSH file, the public part as one line."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private, f"{public.decode()} {comment}"


def parse_public(line: str) -> tuple[str, bytes]:
    """Type and blob of a public key line (``"ssh-ed25519 AAAA... comment"``).

    Raises :class:`AuthenticationFailed` with code ``key_unreadable`` if it is not one.
    """
    try:
        kind, encoded = line.split()[:2]
        return kind, base64.b64decode(encoded, validate=True)
    except ValueError as error:
        raise AuthenticationFailed("This is not a public key line", code="key_unreadable") from error


def fingerprint(blob: bytes) -> str:
    """The fingerprint of a public key blob as OpenSSH writes it: ``SHA256:`` and unpadded base64."""
    return "SHA256:" + base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")


def certificate_end(content: bytes) -> float | None:
    """The moment (seconds since 1970) after which an SSH certificate is of no use; None if it is no such file."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization

    try:
        found = serialization.load_ssh_public_identity(content)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return float(found.valid_before) if isinstance(found, serialization.SSHCertificate) else None
