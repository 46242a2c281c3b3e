"""What is read from key files of a user's own."""

from __future__ import annotations

import subprocess
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from remote_runtime import keys
from tests.tools import need


def certificate(directory: Path, validity: str) -> bytes:
    """A certificate that is valid so long, in ssh-keygen's words."""
    program = need("ssh-keygen", "openssh-client")
    for name in ("authority", "key"):
        argv = [program, "-q", "-t", "ed25519", "-N", "", "-f", directory / name]
        subprocess.run(argv, check=True)
    argv = [
        program,
        "-q",
        "-s",
        directory / "authority",
        "-I",
        "id",
        "-n",
        "ada",
        "-V",
        validity,
        directory / "key.pub",
    ]
    subprocess.run(argv, check=True)
    return (directory / "key-cert.pub").read_bytes()


def test_the_end_of_a_certificate(tmp_path: Path) -> None:
    assert keys.certificate_end(certificate(tmp_path, "19700101000000Z:20200201000000Z")) == 1580515200


def test_a_certificate_without_an_end(tmp_path: Path) -> None:
    end = keys.certificate_end(certificate(tmp_path, "always:forever"))
    assert end is not None
    assert end > 1e18


def test_a_plain_public_key_has_none() -> None:
    assert keys.certificate_end(keys.generate("me")[1].encode()) is None


@given(st.binary(max_size=200) | st.binary(max_size=200).map(lambda data: b"ssh-ed25519-cert-v01@openssh.com " + data))
def test_what_is_no_certificate_has_none(content: bytes) -> None:
    assert keys.certificate_end(content) is None


def test_a_certificate_cut_anywhere_has_none(tmp_path: Path) -> None:
    content = certificate(tmp_path, "always:forever").rsplit(b" ", 1)[0]
    for length in range(0, len(content) - 4, 7):
        assert keys.certificate_end(content[:length]) is None
