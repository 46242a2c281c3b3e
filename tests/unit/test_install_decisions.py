"""What is decided on the way to an installed Jupyter, without installing anything."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remote_runtime.guest import pins
from remote_runtime.guest.diagnosis import CODES, FINAL, HINTS, Failure, explain, kind_of, last_words, next_way
from remote_runtime.guest.fetch import FetchError
from remote_runtime.guest.index import Link, links_of_page
from remote_runtime.guest.installers import base_environment, pip_wheel, uv_environment, uv_wheel
from remote_runtime.guest.pipconf import PipConfig

URL = "https://mirror/simple/uv/"
HASH = "ab" * 32


def test_a_json_page() -> None:
    files = [
        {"filename": "a-1-py3-none-any.whl", "url": "../../f/a-1-py3-none-any.whl", "hashes": {"sha256": HASH.upper()}},
        {"filename": "a-2.tar.gz", "url": "https://files/a-2.tar.gz", "hashes": {}},
    ]
    page = json.dumps({"files": files}).encode()
    assert links_of_page(page, "application/vnd.pypi.simple.v1+json", URL) == [
        Link("a-1-py3-none-any.whl", "https://mirror/f/a-1-py3-none-any.whl", HASH),
        Link("a-2.tar.gz", "https://files/a-2.tar.gz", ""),
    ]


def test_an_html_page() -> None:
    page = f"""<!DOCTYPE html><html><head><base href="/root/"></head><body>
      <a href="a-1%2Bcpu-py3-none-any.whl#sha256={HASH}" data-requires-python="&gt;=3.8">a</a>
      <A HREF='https://files/a-2.whl#md5=0'>b</A><a name="no link">c</a><a href="/up/">up</a></body>"""
    assert links_of_page(page.encode(), "text/html", URL) == [
        Link("a-1+cpu-py3-none-any.whl", "https://mirror/root/a-1%2Bcpu-py3-none-any.whl", HASH),
        Link("a-2.whl", "https://files/a-2.whl", ""),
    ]


@given(st.binary(), st.sampled_from(["text/html", "application/json"]))
def test_any_page_is_read_or_refused(body: bytes, kind: str) -> None:
    try:
        links = links_of_page(body, kind, URL)
    except FetchError as error:
        assert error.kind == "refused"
    else:
        assert all(link.filename for link in links)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["files", "filename", "url", "hashes"]), inner),
)


@given(ANY_JSON)
def test_any_json_is_read_or_refused(value: object) -> None:
    try:
        links_of_page(json.dumps(value).encode(), "application/json", URL)
    except FetchError as error:
        assert error.kind == "refused"


def test_every_failure_has_a_code_and_a_hint() -> None:
    assert set(CODES) == set(HINTS)
    assert set(FINAL) <= set(CODES)


@given(st.sampled_from(["uv", "pip", "sent"]), st.sampled_from(sorted(CODES)))
def test_the_ways_end(way: str, kind: str) -> None:
    seen = [way]
    following = next_way(way, kind)
    while following:
        assert following not in seen
        seen.append(following)
        following = next_way(following, kind)
    assert kind not in FINAL or seen == [way]
    assert kind != "unreachable" or "pip" not in seen[1:]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("error: Hash mismatch for `a==1`", "hash"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.", "hash"),
        ("  cause: failed to write: No space left on device (os error 28)", "disk"),
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk"),
        ("  cause: invalid peer certificate: UnknownIssuer", "certificate"),
        ("SSLError(SSLCertVerificationError(1, '[SSL: CERTIFICATE_VERIFY_FAILED] ...", "certificate"),
        ("  cause: HTTP status client error (403 Forbidden) for url (https://mirror/a.whl)", "refused"),
        ("ERROR: HTTP error 503: 503 Server Error: Unavailable for url: https://mirror", "refused"),
        ("  cause: error sending request for url (https://mirror/)\n  cause: dns error", "unreachable"),
        ("NewConnectionError('<...>: Failed to establish a new connection: [Errno 101]", "unreachable"),
        ("ERROR: No matching distribution found for a==1", "missing"),
        ("Segmentation fault", "failed"),
        ("", "failed"),
    ],
)
def test_what_installers_say_is_understood(text: str, kind: str) -> None:
    assert kind_of(text.splitlines()) == kind


def test_the_last_words() -> None:
    assert last_words(["error: Failed to download `a`", "  cause: archive", "  cause: trailing"]) == (
        "error: Failed to download `a`: trailing"
    )
    assert last_words(["Collecting a", "ERROR: no a", "ERROR: no more"]) == "ERROR: no more"
    assert last_words(["Killed"]) == "Killed"
    assert last_words([]) == "it said nothing"


def test_the_error_names_all_that_was_tried_and_the_telling_reason() -> None:
    failures = [
        ("uv", Failure("failed", "no uv")),
        ("pip", Failure("certificate", "bad")),
        ("sent", Failure("unreachable", "none")),
    ]
    code, message, hint = explain(failures)
    assert code == "install_certificate"
    assert hint == HINTS["certificate"]
    assert [message.index(word) for word in ("no uv", "bad", "none")] == sorted(
        message.index(word) for word in ("no uv", "bad", "none")
    )
    assert explain([("uv", Failure("refused", "403")), ("pip", Failure("hash", "x"))])[0] == "install_hash_mismatch"


def test_pins_name_wheels_of_the_pinned_version() -> None:
    for (system, machine, _), (name, sha256) in pins.UV_WHEELS.items():
        assert name.startswith(f"uv-{pins.UV_VERSION}-py3-none-")
        assert machine in name
        assert ("macosx" in name) == (system == "Darwin")
        assert len(sha256) == 64
    assert [oldest for oldest, _, _ in pins.PIP_WHEELS] == sorted(
        (oldest for oldest, _, _ in pins.PIP_WHEELS), reverse=True
    )
    assert pip_wheel({"python": "3.8.1"}) == pins.PIP_WHEELS[-1][1:]
    assert pip_wheel({"python": "3.99.0"}) == pins.PIP_WHEELS[0][1:]
    with pytest.raises(Failure):
        pip_wheel({"python": "3.7.9"})
    assert uv_wheel({"system": "Linux", "machine": "riscv64", "libc": "glibc"}) is None


def test_what_uv_is_told() -> None:
    config = PipConfig(
        indexes=("https://a/simple", "https://b/simple"),
        find_links=("/w", "https://c/"),
        cert="/ca.pem",
        trusted_hosts=("a", "b:1"),
        proxy="http://p:1",
        timeout=20.5,
    )
    said = uv_environment({"UV_INDEX_URL": "x", "PYTHONHOME": "x", "PATH": "/bin"}, config, "/cache")
    assert said["PATH"] == "/bin"
    assert "UV_INDEX_URL" not in said
    assert "PYTHONHOME" not in said
    assert (said["UV_DEFAULT_INDEX"], said["UV_INDEX"]) == ("https://a/simple", "https://b/simple")
    assert (said["UV_FIND_LINKS"], said["UV_INSECURE_HOST"]) == ("/w,https://c/", "a b:1")
    assert (said["SSL_CERT_FILE"], said["https_proxy"], said["UV_HTTP_TIMEOUT"]) == ("/ca.pem", "http://p:1", "20")


def test_an_environment_keeps_what_it_was_given_otherwise() -> None:
    given_ = {"SSL_CERT_FILE": "/mine.pem", "PIP_INDEX_URL": "u", "PIP_TARGET": "t", "VIRTUAL_ENV": "v"}
    assert base_environment(given_) == {
        "SSL_CERT_FILE": "/mine.pem",
        "PIP_INDEX_URL": "u",
        "LC_ALL": "C",
        "NO_COLOR": "1",
    }
    assert uv_environment(given_, PipConfig(), "/c")["SSL_CERT_FILE"] == "/mine.pem"
