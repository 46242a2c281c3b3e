"""The startup script as a text; what it does is tested in tests/provisioning."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json

import pytest

from remote_runtime import payload, startup_script
from remote_runtime.cli.app import run
from remote_runtime.errors import UsageError


def test_it_is_a_metadata_value_with_room_to_spare() -> None:
    text = startup_script.render(user="ada")
    assert len(text.encode()) < startup_script.LIMIT - 20_000
    assert text.isascii()
    assert text == startup_script.render(user="ada")


def test_it_brings_the_guest_program() -> None:
    _, _, rest = startup_script.render().partition("<<'END'")
    packed = rest.partition("\n")[2].partition("\nEND\n")[0]
    content = gzip.decompress(base64.b64decode(packed))
    assert content == payload.program().content
    assert f"\nsha256={hashlib.sha256(content).hexdigest()}\n" in startup_script.render()


def test_it_is_known_again() -> None:
    assert startup_script.is_ours(startup_script.render())
    assert startup_script.is_ours("\n  " + startup_script.render())  # as the metadata server may hand it on
    assert not startup_script.is_ours("#!/bin/sh\necho " + startup_script.MARKER)
    assert not startup_script.is_ours("")


@pytest.mark.parametrize("user", ["", "a b", "$(reboot)", "-x", "a\nb", "ä"])
def test_a_strange_user_is_refused(user: str) -> None:
    with pytest.raises(UsageError) as caught:
        startup_script.render(user=user)
    assert caught.value.code == "user_invalid"


@pytest.mark.parametrize("user", ["ada", "ada_example_com", "sa_1234", "x.y-z"])
def test_a_user_is_named_in_it(user: str) -> None:
    assert f"\nuser={user}\n" in startup_script.render(user=user)


@pytest.mark.usefixtures("settings")
def test_the_command_writes_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["startup-script", "--user", "ada"]) == 0
    assert capsys.readouterr() == (startup_script.render(user="ada"), "")
    assert run(["startup-script", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["script"] == startup_script.render()
    assert said["bytes"] == len(said["script"])
    assert run(["startup-script", "--user", "$x"]) == 2
