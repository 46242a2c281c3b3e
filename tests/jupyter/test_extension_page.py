"""The page for people: who may see it, what it may do, and what it is told."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Any

import pytest

from remote_runtime.guest.jupyter_http_over_ws.access import Origins
from remote_runtime.guest.jupyter_http_over_ws.page import server_values
from tests.jupyter.conftest import COLAB, Answer, Jupyter, StartJupyter

ASSETS = sorted(entry.name for entry in files("remote_runtime.guest.jupyter_http_over_ws").joinpath("static").iterdir())
REST = sorted(set(ASSETS) - {"page.html"})


def policy(answer: Answer) -> dict[str, str]:
    [header] = answer.headers.get_all("Content-Security-Policy", [])
    return dict((*directive.strip().split(" ", 1), "")[:2] for directive in header.split(";"))


def test_the_page_needs_the_token(jupyter: Jupyter) -> None:
    for query in ("", "?token=wrong"):
        answer = jupyter.request("GET", f"remote-runtime{query}", token=False)
        assert answer.status == 302
        assert answer.headers["Location"].startswith("/login?next=%2Fremote-runtime")
    answer = jupyter.request("GET", f"remote-runtime?token={jupyter.token}", token=False)
    assert answer.status == 200
    assert answer.body == content("page.html")
    cookies = " ".join(answer.headers.get_all("Set-Cookie", []))
    assert "username-" in cookies and "_xsrf=" in cookies  # with these the page's own requests are let in


def content(name: str) -> bytes:
    return files("remote_runtime.guest.jupyter_http_over_ws").joinpath("static", name).read_bytes()


def test_what_it_shows_needs_the_token_too(jupyter: Jupyter) -> None:
    for headers in ({}, {"Origin": COLAB}):
        answer = jupyter.request("GET", "remote-runtime/status", token=False, headers=headers)
        assert answer.status == 403
        assert b"root_dir" not in answer.body


@pytest.mark.parametrize("name", REST)
def test_its_parts_are_sent_as_they_are(jupyter: Jupyter, name: str) -> None:
    answer = jupyter.request("GET", f"remote-runtime/{name}", token=False)
    assert (answer.status, answer.body) == (200, content(name))
    assert answer.headers["Content-Type"] == {"css": "text/css", "js": "text/javascript"}[name.split(".")[1]] + (
        "; charset=utf-8"
    )


@pytest.mark.parametrize("path", ["page.html", "page.py", "../server.py", "%2e%2e/page.py", "none.js", "page.css/"])
def test_nothing_else_is(jupyter: Jupyter, path: str) -> None:
    assert jupyter.request("GET", f"remote-runtime/{path}").status in (301, 302, 404)


@pytest.mark.parametrize("path", ["remote-runtime", *(f"remote-runtime/{name}" for name in REST)])
def test_the_policy_lets_nothing_in_but_its_own_files(jupyter: Jupyter, path: str) -> None:
    answer = jupyter.request("GET", path)
    assert answer.status == 200
    assert policy(answer) == {
        "default-src": "'none'",
        "script-src": "'self'",
        "style-src": "'self'",
        "connect-src": "'self'",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
    }
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.once
def test_settings_dont_loosen_the_policy(start_jupyter: StartJupyter) -> None:
    loose = {"headers": {"Content-Security-Policy": "frame-ancestors *", "Referrer-Policy": "unsafe-url"}}
    answer = start_jupyter(tornado_settings=loose).request("GET", "remote-runtime")
    assert policy(answer)["frame-ancestors"] == "'none'"
    assert answer.headers.get_all("Referrer-Policy") == ["no-referrer"]


def test_the_document_has_no_script_or_style_in_it_and_names_no_other_place() -> None:
    document = content("page.html").decode()
    assert re.findall(r"<script\b[^>]*>(.*?)</script>", document, re.DOTALL) == [""]
    assert not re.search(r"<style\b|\sstyle=|\son\w+=|javascript:", document)
    assert sorted(re.findall(r'\s(?:src|href)="([^"]*)"', document)) == [
        "remote-runtime/page.css",
        "remote-runtime/page.js",
    ]
    for name in ASSETS:
        text = content(name).decode()
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function", text)
        assert not re.search(r"(?:url\(|@import|from\s+[\"']https?:|fetch\([\"']https?:)", text)


def test_what_it_is_told(jupyter: Jupyter) -> None:
    told: dict[str, Any] = jupyter.request("GET", "remote-runtime/status").json()
    server, machine = told["server"], told["machine"]
    assert server["extension"].startswith("0.0.8+remote.runtime.")
    assert server["root_dir"] == str(jupyter.root_dir)
    assert server["pid"] == jupyter.process.pid
    assert (server["allowed_origin"], server["allowed_pattern"]) == (COLAB, "")
    assert re.match(r"\d+\.\d+", server["jupyter_server"]) and re.match(r"3\.\d+", server["python"])
    assert machine["processors"] >= 1 and machine["uptime"] > 0 and machine["load"] >= 0
    assert 0 < machine["memory"]["available"] <= machine["memory"]["total"]
    assert 0 < machine["disk"]["available"] < machine["disk"]["total"]
    assert isinstance(machine["gpus"], list)
    assert told["kernels"] == {}
    assert jupyter.token not in str(told)


@pytest.mark.parametrize(
    ("origins", "origin", "pattern"),
    [
        (Origins(), "", ""),
        (Origins("*"), "", ""),
        (Origins("", re.compile(r"https://.*\.example")), "", r"https://.*\.example"),
        (Origins(COLAB, re.compile("x")), COLAB, ""),
    ],
)
def test_it_is_told_which_pages_are_let_in(origins: Origins, origin: str, pattern: str) -> None:
    told = server_values({}, origins)
    assert (told["allowed_origin"], told["allowed_pattern"], told["root_dir"]) == (origin, pattern, "")


def test_it_is_below_the_base_url(start_jupyter: StartJupyter) -> None:
    jupyter = start_jupyter(base_url="/a.b/", allow_unauthenticated_access=False)
    for path in ("remote-runtime", "remote-runtime/status", "api/colab/resources", "api/colab/build-info"):
        assert jupyter.request("GET", path).status == 200
    assert jupyter.request("GET", "remote-runtime/page.js", token=False).status == 200
    assert jupyter.request("GET", "remote-runtime/", token=False).headers["Location"] == "/a.b/remote-runtime"
    warned = [line for line in jupyter.logged().splitlines() if " registered for " in line]
    assert not [line for line in warned if "remote-runtime" in line or "colab" in line]
