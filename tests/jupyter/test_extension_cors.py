"""The allowed page can read every answer; for all others nothing changes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.jupyter.conftest import COLAB, Answer, Jupyter, StartJupyter, running_jupyter

ALLOW_ORIGIN = "Access-Control-Allow-Origin"
ALLOW_CREDENTIALS = "Access-Control-Allow-Credentials"
FOREIGN = [
    "https://evil.example",
    "null",
    "*",
    COLAB + "/",
    COLAB + ".evil.example",
    "http://colab.research.google.com",
]

PAGES = [
    ("GET", "/api/status", True, 200),
    ("GET", "/api/status", False, 403),
    ("GET", "/api/contents/no-such-file", True, 404),
    ("GET", "/no/such/page", True, 404),
    ("GET", "/api/colab/build-info", True, 404),
    ("POST", "/api/contents", False, 403),
    ("BREW", "/api/status", True, 405),
    ("GET", "/probe/fail", True, 500),
    ("GET", "/static/favicon.ico", False, 200),
    ("GET", "/http_over_websocket", False, 400),
]


def ask(jupyter: Jupyter, method: str, path: str, origin: str, *, token: bool = True, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return jupyter.request(method, path, token=token, headers={"Origin": origin, **named})


def varies(answer: Answer) -> bool:
    return "origin" in ",".join(answer.headers.get_all("Vary", [])).lower()


@pytest.mark.parametrize(("method", "path", "token", "status"), PAGES)
def test_the_allowed_page_reads_every_answer(
    jupyter: Jupyter, method: str, path: str, token: bool, status: int
) -> None:
    answer = ask(jupyter, method, path, COLAB, token=token)
    assert answer.status == status
    assert answer.headers.get_all(ALLOW_ORIGIN) == [COLAB]
    assert answer.headers.get_all(ALLOW_CREDENTIALS) == ["true"]
    assert varies(answer)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """The same server without the extension."""
    with running_jupyter(tmp_path_factory.mktemp("bare"), None) as running:
        yield running


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize(("method", "path", "token", "status"), PAGES[:-1])
def test_for_other_pages_nothing_changes(
    jupyter: Jupyter, bare: Jupyter, method: str, path: str, token: bool, status: int, origin: str
) -> None:
    answer = ask(jupyter, method, path, origin, token=token)
    without = ask(bare, method, path, origin, token=token)
    assert answer.status == without.status
    for name in (ALLOW_ORIGIN, ALLOW_CREDENTIALS, "Access-Control-Allow-Headers", "Access-Control-Allow-Methods"):
        assert answer.headers.get_all(name) == without.headers.get_all(name)
    assert answer.headers.get(ALLOW_ORIGIN) in (None, COLAB)
    assert varies(answer)


@pytest.mark.parametrize(
    "path", ["/api/sessions", "/api/colab/build-info", "/no/such/path", "/", "/files/a.txt", "/http_over_websocket"]
)
def test_the_allowed_page_may_ask_with_any_header_at_any_path(jupyter: Jupyter, path: str) -> None:
    wanted = "authorization,content-type,x-anything"
    answer = ask(
        jupyter,
        "OPTIONS",
        path,
        COLAB,
        token=False,
        Access_Control_Request_Method="DELETE",
        Access_Control_Request_Headers=wanted,
    )
    assert (answer.status, answer.body) == (204, b"")
    assert answer.headers.get_all(ALLOW_ORIGIN) == [COLAB]
    assert answer.headers.get_all(ALLOW_CREDENTIALS) == ["true"]
    assert answer.headers.get_all("Access-Control-Allow-Headers") == [wanted]
    assert "DELETE" in answer.headers["Access-Control-Allow-Methods"]
    assert varies(answer)


def test_only_names_of_headers_are_echoed(jupyter: Jupyter) -> None:
    answer = ask(jupyter, "OPTIONS", "/api", COLAB, token=False, Access_Control_Request_Headers='"; <x>')
    assert answer.status == 204
    assert "<x>" not in str(answer.headers)


@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("path", ["/api/sessions", "/no/such/path"])
def test_a_preflight_of_another_page_is_the_servers_matter(
    jupyter: Jupyter, bare: Jupyter, path: str, origin: str
) -> None:
    answer, without = (
        ask(server, "OPTIONS", path, origin, token=False, Access_Control_Request_Method="GET")
        for server in (jupyter, bare)
    )
    assert answer.status == without.status
    assert answer.headers.get_all(ALLOW_ORIGIN) == without.headers.get_all(ALLOW_ORIGIN)


def test_a_preflight_at_a_foreign_name_is_refused(jupyter: Jupyter) -> None:
    assert ask(jupyter, "OPTIONS", "/api", COLAB, token=False, Host="rebound.example").status == 403


@pytest.mark.parametrize(
    "traits", [{"allow_origin": ""}, {"allow_origin": "*"}], ids=["no page is allowed", "all pages are"]
)
def test_the_hook_does_nothing_unless_a_page_is_named(start_jupyter: StartJupyter, traits: Mapping[str, str]) -> None:
    jupyter = start_jupyter(**traits)
    answer = ask(jupyter, "GET", "/api/status", COLAB, token=False)
    assert answer.status in (403, 404)  # which one is the server's matter
    assert ALLOW_ORIGIN not in answer.headers
    assert ask(jupyter, "OPTIONS", "/no/such/path", COLAB, token=False).status == 404


def test_a_pattern_allows_what_it_matches_whole(start_jupyter: StartJupyter) -> None:
    jupyter = start_jupyter(allow_origin="", allow_origin_pat=r"https://[a-z]+\.example")
    allowed = ask(jupyter, "GET", "/api/status", "https://a.example", token=False)
    assert (allowed.status, allowed.headers[ALLOW_ORIGIN]) == (403, "https://a.example")
    longer = ask(jupyter, "GET", "/no/such/page", "https://a.example.evil", token=False)
    assert ALLOW_ORIGIN not in longer.headers


def test_a_cached_answer_without_a_body_varies_too(jupyter: Jupyter) -> None:
    (jupyter.root_dir / "a.txt").write_text("text")
    tag = ask(jupyter, "GET", "/api/contents/a.txt", COLAB).headers["Etag"]
    answer = ask(jupyter, "GET", "/api/contents/a.txt", COLAB, If_None_Match=tag)
    assert answer.status == 304
    assert answer.headers[ALLOW_ORIGIN] == COLAB and varies(answer)
