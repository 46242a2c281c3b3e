"""The allowed page can read every answer, no other one can."""

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
    ("POST", "/api/contents", False, 403),
    ("BREW", "/api/status", True, 405),
    ("GET", "/probe/fail", True, 500),
    ("GET", "/static/favicon.ico", False, 200),
]
OURS = [
    ("GET", "/api/colab/build-info", True, 200),
    ("GET", "/api/colab/resources", False, 403),
    ("GET", "/http_over_websocket", False, 400),
    ("GET", "/remote-runtime", False, 302),
    ("GET", "/remote-runtime/status", False, 403),
]


def ask(jupyter: Jupyter, method: str, path: str, origin: str, *, token: bool = True, **headers: str) -> Answer:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return jupyter.request(method, path, token=token, headers={"Origin": origin, **named})


def granted(answer: Answer) -> list[str]:
    return [name for name in (ALLOW_ORIGIN, ALLOW_CREDENTIALS) if name in answer.headers]


def varies(answer: Answer) -> bool:
    return "origin" in ",".join(answer.headers.get_all("Vary", [])).lower()


@pytest.mark.parametrize(("method", "path", "token", "status"), PAGES + OURS)
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
@pytest.mark.parametrize(("method", "path", "token", "status"), PAGES)
def test_another_page_reads_nothing(
    jupyter: Jupyter, bare: Jupyter, method: str, path: str, token: bool, status: int, origin: str
) -> None:
    answer = ask(jupyter, method, path, origin, token=token)
    assert answer.status == ask(bare, method, path, origin, token=token).status
    assert not granted(answer)
    assert varies(answer)


def test_a_wrong_password_reads_as_401(jupyter: Jupyter) -> None:
    cookies = ask(jupyter, "GET", "/login", COLAB, token=False).headers.get_all("Set-Cookie", [])
    xsrf = next(cookie for cookie in cookies if cookie.startswith("_xsrf=")).partition(";")[0]
    form = f"password=wrong&{xsrf}".encode()
    headers = {"Origin": COLAB, "Cookie": xsrf, "Content-Type": "application/x-www-form-urlencoded"}
    answer = jupyter.request("POST", "/login", token=False, headers=headers, body=form)
    assert answer.status == 401
    assert (answer.headers[ALLOW_ORIGIN], answer.headers[ALLOW_CREDENTIALS]) == (COLAB, "true")


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


@pytest.mark.parametrize("asked", ["x-anything", "authorization"])
@pytest.mark.parametrize("origin", FOREIGN)
@pytest.mark.parametrize("path", ["/api/sessions", "/no/such/path"])
def test_a_preflight_of_another_page_grants_nothing(
    jupyter: Jupyter, bare: Jupyter, path: str, origin: str, asked: str
) -> None:
    headers = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Headers": asked}
    answer, without = (ask(server, "OPTIONS", path, origin, token=False, **headers) for server in (jupyter, bare))
    assert answer.status == without.status
    assert not granted(answer)


def test_the_allowed_page_may_reach_into_the_private_network(jupyter: Jupyter) -> None:
    headers = {"Access_Control_Request_Method": "GET", "Access_Control_Request_Private_Network": "true"}
    answer = ask(jupyter, "OPTIONS", "/api/status", COLAB, token=False, **headers)
    assert answer.headers["Access-Control-Allow-Private-Network"] == "true"
    other = ask(jupyter, "OPTIONS", "/api/status", "https://evil.example", token=False, **headers)
    assert "Access-Control-Allow-Private-Network" not in other.headers
    unasked = ask(jupyter, "OPTIONS", "/api/status", COLAB, token=False, Access_Control_Request_Method="GET")
    assert "Access-Control-Allow-Private-Network" not in unasked.headers


def test_a_preflight_at_a_foreign_name_is_refused(jupyter: Jupyter) -> None:
    assert ask(jupyter, "OPTIONS", "/api", COLAB, token=False, Host="rebound.example").status == 403


@pytest.mark.once
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
    jupyter = start_jupyter(allow_origin="", allow_origin_pat=r"(?i)https://[a-z]+\.example|null|https://b\.example")
    for path in ("/api/status", "/no/such/page"):
        for origin in ("https://a.example", "https://b.example", "https://B.Example"):
            allowed = ask(jupyter, "GET", path, origin, token=False)
            assert (allowed.headers[ALLOW_ORIGIN], allowed.headers[ALLOW_CREDENTIALS]) == (origin, "true")
        for origin in ("https://a.example.evil", "https://a.example/", "null", "*"):
            refused = ask(jupyter, "GET", path, origin, token=False)
            assert not granted(refused) and varies(refused)


def test_a_cached_answer_without_a_body_varies_too(jupyter: Jupyter) -> None:
    (jupyter.root_dir / "a.txt").write_text("text")
    tag = ask(jupyter, "GET", "/api/contents/a.txt", COLAB).headers["Etag"]
    answer = ask(jupyter, "GET", "/api/contents/a.txt", COLAB, If_None_Match=tag)
    assert answer.status == 304
    assert answer.headers[ALLOW_ORIGIN] == COLAB and varies(answer)
