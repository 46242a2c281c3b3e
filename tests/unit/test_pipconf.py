"""pip's configuration as we read it, held against what pip itself makes of the same files."""

from __future__ import annotations

import configparser
import io
import os
import re
import subprocess
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.guest import pipconf

CLOSED = "http://127.0.0.1:9"  # discard: nobody listens there


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def environment(home: Path, **more: str) -> dict[str, str]:
    return {"HOME": str(home), "PATH": os.environ["PATH"], **more}


def asked_by_pip(environ: dict[str, str], tmp_path: Path) -> tuple[list[str], list[str]]:
    """The indexes and links in which pip says that it looks."""
    argv = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--retries",
        "0",
        "-d",
        str(tmp_path / "d"),
        "rr-absent",
    ]
    spoken = subprocess.run(argv, env=environ, capture_output=True, text=True, cwd=tmp_path).stdout
    found = {kind: line.split(", ") for kind, line in re.findall(r"^Looking in (\w+): (.*)$", spoken, re.MULTILINE)}
    return found.get("indexes", []), found.get("links", [])


USER, LEGACY = ".config/pip/pip.conf", ".pip/pip.conf"
CASES = {
    "several extra indexes": ({USER: "[global]\nindex-url = @a\nextra-index-url =\n  @b\n  @c\n"}, {}),
    "the newer user's file": ({LEGACY: "[global]\nindex_url=@old", USER: "[global]\nINDEX-URL=@new"}, {}),
    "the command's section": (
        {USER: "[download]\nindex-url=@x\n[install]\nindex-url=@x\n[global]\nindex-url=@y"},
        {},
    ),
    "variables": (
        {USER: "[global]\nextra-index-url=@file\nfind-links=/lost"},
        {"PIP_EXTRA_INDEX_URL": "@e @f", "PIP_INDEX_URL": "@i"},
    ),
    "a file of one's own": (
        {"own.conf": "[global]\nindex-url=@own", USER: "[global]\nindex-url=@user\nextra-index-url=@user"},
        {"PIP_CONFIG_FILE": "~/own.conf"},
    ),
    "no files at all": ({USER: "[global]\nindex-url=@1"}, {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "@2"}),
    "XDG_CONFIG_HOME": (
        {LEGACY: "[global]\nindex-url=@1", "x/pip/pip.conf": "[global]\nindex-url=@2"},
        {"XDG_CONFIG_HOME": "~/x"},
    ),
    "XDG_CONFIG_DIRS": (
        {"shared/pip/pip.conf": "[global]\nindex-url=@shared\nfind-links = @l"},
        {"XDG_CONFIG_DIRS": "~/shared"},
    ),
    "an empty value": ({USER: "[global]\nindex-url = @1\n[install]\nindex-url =\n[download]\nindex-url =\n"}, {}),
}
"""Files below the home directory, and variables; ``@`` stands for the index, ``~`` for the home."""


@pytest.mark.parametrize("case", CASES)
def test_pip_looks_in_the_same_places(tmp_path: Path, case: str) -> None:
    files, variables = CASES[case]
    for name, text in files.items():
        write(tmp_path / name, text.replace("@", f"{CLOSED}/"))
    filled = {name: text.replace("@", f"{CLOSED}/").replace("~", str(tmp_path)) for name, text in variables.items()}
    environ = environment(tmp_path, **filled)
    config = pipconf.read(environ=environ)
    indexes, links = asked_by_pip(environ, tmp_path)
    assert indexes, "pip said nothing"
    assert list(config.indexes) == indexes
    assert list(config.find_links) == links


@pytest.mark.parametrize("variables", [{}, {"XDG_CONFIG_HOME": "/x/y"}, {"XDG_CONFIG_DIRS": "/a:/b"}])
def test_pip_reads_the_same_files(tmp_path: Path, variables: dict[str, str]) -> None:
    environ = environment(tmp_path, **variables)
    argv = [sys.executable, "-m", "pip", "config", "list", "-v"]
    spoken = subprocess.run(argv, env=environ, capture_output=True, text=True, check=True).stdout
    ours = pipconf.locations(
        environ,
        prefix=sys.prefix,
        platform=sys.platform,
        home=str(tmp_path),
        own_file_exists=False,
        mac_data_exists=False,
    )
    assert sorted(ours) == sorted(re.findall(r"will try loading '(.*)'", spoken))


def test_the_other_systems_files() -> None:
    def found(platform: str, *, mac_data_exists: bool = False, **environ: str) -> list[str]:
        return pipconf.locations(
            environ, prefix="/py", platform=platform, home="/h", own_file_exists=False, mac_data_exists=mac_data_exists
        )

    shared = "/Library/Application Support/pip/pip.conf"
    assert found("darwin") == [shared, "/h/.pip/pip.conf", "/h/.config/pip/pip.conf", "/py/pip.conf"]
    assert found("darwin", mac_data_exists=True)[2] == "/h/Library/Application Support/pip/pip.conf"
    assert found("win32", APPDATA="C:/r", PROGRAMDATA="C:/p") == [
        "C:/p/pip/pip.ini",
        "/h/pip/pip.ini",
        "C:/r/pip/pip.ini",
        "/py/pip.ini",
    ]


def test_all_options() -> None:
    config = pipconf.merge(
        [pipconf.parse("[global]\ncert = ~/ca.pem\nproxy = http://p:3128\ntrusted-host = a b:8443\ntimeout = 40\n")],
        {"HOME": "/home/ada", "PIP_FIND_LINKS": "~/w https://x/y", "PIP_NO_INDEX": "yes", "PIP_PROXY": ""},
    )
    assert config == pipconf.PipConfig(
        indexes=(),
        find_links=("/home/ada/w", "https://x/y"),
        cert="/home/ada/ca.pem",
        trusted_hosts=("a", "b:8443"),
        proxy="http://p:3128",
        timeout=40.0,
    )


def test_nothing_configured() -> None:
    assert pipconf.merge([], {}) == pipconf.PipConfig()
    assert pipconf.merge([], {"PIP_DEFAULT_TIMEOUT": "soon"}).timeout == pipconf.DEFAULT_TIMEOUT
    assert pipconf.merge([], {"PIP_DEFAULT_TIMEOUT": "180"}).timeout == 180.0


def test_a_broken_file_is_named_and_the_rest_counts(tmp_path: Path) -> None:
    broken = write(tmp_path / ".pip" / "pip.conf", "index-url = no section\n")
    write(tmp_path / ".config" / "pip" / "pip.conf", f"\ufeff[global]\nindex-url = {CLOSED}/good\n")
    config = pipconf.read(environ=environment(tmp_path))
    assert config.indexes[0] == f"{CLOSED}/good"
    (problem,) = config.problems
    assert str(broken) in problem


def test_a_trusted_host_may_name_a_port() -> None:
    assert pipconf.is_trusted("https://Mirror/simple", ["mirror"])
    assert pipconf.is_trusted("https://mirror/simple", ["mirror:443"])
    assert pipconf.is_trusted("http://mirror:8080/", ["other", "mirror:8080"])
    assert not pipconf.is_trusted("https://mirror:8443/", ["mirror:443"])
    assert not pipconf.is_trusted("https://mirror.evil/", ["mirror"])


OPTIONS = st.dictionaries(
    st.sampled_from(["index-url", "extra-index-url", "cert", "proxy", "timeout", "no-index", "find-links", "retries"]),
    st.text(st.characters(min_codepoint=33, max_codepoint=0x2000, exclude_categories=["Z", "C"]), max_size=20),
)


@given(st.dictionaries(st.sampled_from(["global", "install", "freeze"]), OPTIONS))
def test_what_configparser_writes_is_read(sections: dict[str, dict[str, str]]) -> None:
    writer = configparser.RawConfigParser()
    writer.read_dict(sections)
    text = io.StringIO()
    writer.write(text)
    assert pipconf.parse(text.getvalue()) == sections


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        sections = pipconf.parse(text)
    except ValueError:
        return
    pipconf.merge([sections], {})


WORDS = st.text(min_size=1, max_size=12)


@given(user=WORDS, password=WORDS, path=st.sampled_from(["", "/simple", "/simple/uv/"]))
def test_credentials_come_out_and_are_not_shown(user: str, password: str, path: str) -> None:
    secret = quote(password, safe="")
    url = f"https://{quote(user, safe='')}:{secret}@mirror.example:8443{path}"
    assert pipconf.credentials(url) == (f"https://mirror.example:8443{path}", user, password)
    assert pipconf.redacted(url) == f"https://mirror.example:8443{path}"
