"""Opening a socket: where, for whom, and for which version."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import websocket

from tests.jupyter.conformance import (
    PING,
    PONG,
    closing,
    deviates,
    is_legal,
    param,
    read_frame,
    refused,
    same,
    unasked,
)
from tests.jupyter.conftest import COLAB, Dial, Jupyter, OpenPage, StartJupyter, auth_query, running_jupyter
from tests.jupyter.interpreters import NOTEBOOK_6, Environments
from tests.jupyter.kernels import run_cell
from tests.tools import need

HTTP = "http_over_websocket"
DIAGNOSE = "http_over_websocket/diagnose"
PROXIED = "http_over_websocket/proxied_ws/probe/talk"
SOCKETS = (HTTP, DIAGNOSE, PROXIED)
FOREIGN = ("https://evil.example", "null", COLAB + ".evil.example", COLAB + "/", "http://colab.research.google.com")


@deviates("prints it where it stays in a buffer")
def test_the_line_that_people_wait_for_is_printed(jupyter: Jupyter) -> None:
    assert "jupyter_http_over_ws extension initialized. Listening on /http_over_websocket\n" in jupyter.logged()


# -- where


@same
@pytest.mark.parametrize("path", SOCKETS)
def test_a_plain_get_is_told_that_this_is_a_websocket(jupyter: Jupyter, path: str) -> None:
    answer = jupyter.request("GET", path, token=False)
    assert (answer.status, answer.body) == (400, b'Can "Upgrade" only to "WebSocket".')


@same
def test_nothing_is_proxied_without_a_path(jupyter: Jupyter, dial: Dial) -> None:
    assert refused(lambda: dial(jupyter, f"http_over_websocket/proxied_ws?token={jupyter.token}")) == 404
    upgrade = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    answer = jupyter.request("GET", "http_over_websocket/proxied_ws/", headers=upgrade)
    assert answer.status in (302, 404)  # the server takes a slash off and sends the client to the path without


@pytest.fixture(scope="module")
def based(tmp_path_factory: pytest.TempPathFactory, extension: Path) -> Iterator[Jupyter]:
    """A server below a base URL with a character that means something in a pattern."""
    with running_jupyter(tmp_path_factory.mktemp("based"), extension, base_url="/user/a.b/") as running:
        yield running


@same
def test_everything_is_below_the_base_url(based: Jupyter, open_page: OpenPage, dial: Dial) -> None:
    # The paths in messages are from the root of the server: it is the page that puts the base URL in front.
    assert open_page(based).ask("GET", based.path("api/contents"))[0] == 200
    assert open_page(based).ask("GET", "api/contents")[0] == 404
    dial(based, DIAGNOSE)
    kernel = based.request("POST", "api/kernels", body=b"{}").json()["id"]
    connection = dial(based, f"http_over_websocket/proxied_ws/api/kernels/{kernel}/channels{auth_query(based)}")
    assert run_cell(connection, "print(6 * 7)") == "42\n"


@pytest.mark.parametrize(
    "path",
    [param("/http_over_websocket"), param("/user/aXb/http_over_websocket", why="takes it for a pattern")],
)
def test_nothing_is_served_beside_the_base_url(based: Jupyter, path: str, dial: Dial) -> None:
    assert refused(lambda: dial(replace(based, base_url="/"), path)) == 404


@deviates("connects to itself by the Host header, where nobody listens")
def test_the_port_that_the_page_knows_may_be_another_one(jupyter: Jupyter, open_page: OpenPage, dial: Dial) -> None:
    forwarded = "localhost:1"
    page = open_page(jupyter, auth_query(jupyter, host=forwarded), host=forwarded)
    assert page.ask("POST", "/probe/echo", "x")[0] == 200
    connection = dial(jupyter, PROXIED + auth_query(jupyter, host=forwarded), host=forwarded)
    assert json.loads(connection.recv())["uri"].startswith("/probe/talk?")


@same
@pytest.mark.parametrize("path", SOCKETS)
def test_a_foreign_host_is_refused(jupyter: Jupyter, path: str, dial: Dial) -> None:
    assert refused(lambda: dial(jupyter, f"{path}?token={jupyter.token}", origin=None, host="rebound.example")) == 403


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory, extension: Path) -> Iterator[Jupyter]:
    """A server that speaks https alone, with a certificate of its own making."""
    directory = tmp_path_factory.mktemp("secure")
    key, certificate = directory / "key.pem", directory / "certificate.pem"
    argv = [need("openssl", "openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    argv += ["-nodes", "-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", "/CN=localhost"]
    subprocess.run([*argv, "-addext", "subjectAltName=DNS:localhost"], check=True, capture_output=True)
    tls = ssl.create_default_context(cafile=certificate)
    files = {"certfile": str(certificate), "keyfile": str(key)}
    with running_jupyter(directory / "jupyter", extension, tls=tls, **files) as running:
        yield running


@deviates("raises in its constructor")
def test_all_sockets_work_over_tls(secure: Jupyter, open_page: OpenPage, dial: Dial) -> None:
    page = open_page(secure, origin=f"https://{secure.host}")
    assert page.ask("PUT", "/probe/echo", "x")[0] == 200
    dial(secure, DIAGNOSE)
    connection = dial(secure, PROXIED + auth_query(secure))
    assert json.loads(connection.recv())["uri"].startswith("/probe/talk?")


@deviates("raises in its constructor")
def test_over_tls_a_plain_auth_url_is_another_server_s(secure: Jupyter, open_page: OpenPage) -> None:
    page = open_page(secure, auth_query(replace(secure, tls=None)))
    assert page.frames(page.send("GET", "/api"))[0]["status"] == 500


# -- for whom


@same
@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("origin", [COLAB, None, "http://{host}"])
def test_the_allowed_page_the_own_page_and_a_program_open_sockets(
    jupyter: Jupyter, path: str, origin: str | None, dial: Dial
) -> None:
    own = origin.format(host=jupyter.host) if origin else None
    dial(jupyter, f"{path}?token={jupyter.token}", origin=own)


@same
@pytest.mark.parametrize("path", (HTTP, DIAGNOSE))
def test_opening_needs_no_login(jupyter: Jupyter, path: str, dial: Dial) -> None:
    dial(jupyter, path)


@unasked("in jupyter_server it keeps to no such rule")
def test_a_strict_server_opens_them_all_the_same(start_jupyter: StartJupyter, open_page: OpenPage, dial: Dial) -> None:
    strict = start_jupyter(allow_unauthenticated_access=False)
    dial(strict, DIAGNOSE)
    assert open_page(strict).ask("GET", "/api/contents")[0] == 200
    assert open_page(strict, "").ask("GET", "/api/contents")[0] == 403


@same
@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("origin", FOREIGN)
def test_a_foreign_page_opens_no_socket(jupyter: Jupyter, path: str, origin: str, dial: Dial) -> None:
    assert refused(lambda: dial(jupyter, path, origin=origin)) == 403


@same
@pytest.mark.parametrize("path", SOCKETS)
@pytest.mark.parametrize("origin", FOREIGN)
def test_a_token_does_not_make_up_for_a_foreign_page(jupyter: Jupyter, path: str, origin: str, dial: Dial) -> None:
    assert refused(lambda: dial(jupyter, f"{path}?token={jupyter.token}", origin=origin)) == 403
    header = {"Authorization": f"token {jupyter.token}"}
    assert refused(lambda: dial(jupyter, path, origin=origin, headers=header)) == 403


@unasked("it depends on the server's version how it takes a pattern")
def test_a_pattern_must_match_the_whole_origin(start_jupyter: StartJupyter, dial: Dial) -> None:
    jupyter = start_jupyter(allow_origin="", allow_origin_pat=re.escape("https://a.example"))
    dial(jupyter, HTTP, origin="https://a.example")
    assert refused(lambda: dial(jupyter, HTTP, origin="https://a.example.evil.example")) == 403


@pytest.mark.once
@unasked("believes the server, for which this means all pages")
def test_a_star_allows_no_page(start_jupyter: StartJupyter, dial: Dial) -> None:
    jupyter = start_jupyter(allow_origin="*")
    for path in SOCKETS:
        assert refused(lambda path=path: dial(jupyter, f"{path}?token={jupyter.token}")) == 403  # type: ignore[misc]


@same
@pytest.mark.parametrize("path", SOCKETS)
def test_the_handshake_sets_no_cookie(jupyter: Jupyter, path: str, dial: Dial) -> None:
    header = {"Authorization": f"token {jupyter.token}"}
    connection = dial(jupyter, f"{path}?token={jupyter.token}", headers=header)
    assert "set-cookie" not in connection.getheaders()


# -- for which version


@pytest.mark.parametrize(
    "version", [param("0.0.7"), param("0.0.1a3"), param("0.0"), param("0.0.8", why="is 0.0.8 and says 0.0.7")]
)
def test_a_page_that_wants_what_there_is_is_served(jupyter: Jupyter, open_page: OpenPage, version: str) -> None:
    query = auth_query(jupyter).replace("min_version=0.0.7", f"min_version={version}")
    assert open_page(jupyter, query).ask("GET", "/api")[0] == 200


REFUSED = [
    ("9.0", "Requested version (9.0) > Current version (0.0.7). Please upgrade this package."),
    ("0.0.9", "Requested version (0.0.9) > Current version (0.0.7). Please upgrade this package."),
    ("1.2.0", "Requested version (1.2) > Current version (0.0.7). Please upgrade this package."),
    ("abc", 'Invalid "min_version" provided: abc'),
]


@same
@pytest.mark.parametrize(("version", "reason"), REFUSED)
def test_a_page_that_wants_more_is_told_why(jupyter: Jupyter, version: str, reason: str, dial: Dial) -> None:
    connection = dial(jupyter, f"{HTTP}?min_version={version}")
    assert closing(connection)[1] == reason
    if reason.startswith("Requested"):
        assert f"Rejecting connection: {reason}" in jupyter.logged()


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        *(param(*case, why="closes with 400") for case in REFUSED),
        param("", 'Invalid "min_version" provided: ', why="raises"),
        param("%ff", 'Invalid "min_version" provided: \ufffd', why="raises"),
        param("a%0d%0ab", 'Invalid "min_version" provided: a??b', why="closes with 400"),
        param("v" * 300, 'Invalid "min_version" provided: ' + "v" * 91, why="raises"),
    ],
)
def test_a_refusal_has_a_legal_close_code(jupyter: Jupyter, version: str, reason: str, dial: Dial) -> None:
    connection = dial(jupyter, f"{HTTP}?min_version={version}")
    code, told = closing(connection)
    assert (code, told) == (4400, reason) and is_legal(code)


@deviates("makes the directory all the same")
def test_nothing_runs_after_a_refusal(jupyter: Jupyter, open_page: OpenPage) -> None:
    query = auth_query(jupyter).replace("min_version=0.0.7", "min_version=9.0")
    page = open_page(jupyter, query)
    page.send("PUT", "/api/contents/refused", json.dumps({"type": "directory"}))
    closing(page.socket)
    other = open_page(jupyter)
    for _ in range(10):  # whatever the refused socket may have started had its time
        assert other.ask("GET", "/api/contents/refused")[0] == 404


# -- signs of life


@same
def test_a_ping_is_answered(jupyter: Jupyter, dial: Dial) -> None:
    connection = dial(jupyter, HTTP)
    connection.ping("hello")
    assert read_frame(connection) == (PONG, b"hello")


@unasked("sends none")
def test_a_page_that_gives_no_sign_of_life_is_closed_in_the_end(start_jupyter: StartJupyter, dial: Dial) -> None:
    jupyter = start_jupyter(tornado_settings={"ws_ping_interval": 200, "ws_ping_timeout": 1000})
    lively, dead = dial(jupyter, HTTP), dial(jupyter, DIAGNOSE)
    start = time.monotonic()
    while time.monotonic() < start + 3:
        assert read_frame(lively) == (PING, b"")
        lively.pong("")
    code, _ = closing(dead)
    assert code == 0 or is_legal(code)


@unasked("sends none")
def test_a_page_that_sends_slowly_lives(start_jupyter: StartJupyter, dial: Dial) -> None:
    jupyter = start_jupyter(tornado_settings={"ws_ping_interval": 200, "ws_ping_timeout": 800})
    connection = dial(jupyter, HTTP + auth_query(jupyter))
    message = json.dumps({"message_id": 1, "method": "POST", "path": "/probe/echo", "body": "x" * 200_000})
    frame = websocket.ABNF.create_frame(message, websocket.ABNF.OPCODE_TEXT).format()
    piece = len(frame) // 14
    for start in range(0, len(frame), piece):  # amid a frame no pong can be sent
        connection.sock.sendall(frame[start : start + piece])
        time.sleep(0.1)
    while (answer := read_frame(connection))[0] == PING:
        pass
    assert json.loads(answer[1])["status"] == 200


# -- servers that are too old


@pytest.mark.once
@pytest.mark.egress
@unasked("it is made for these")
def test_notebook_6_is_told_what_is_needed(tmp_path: Path, extension: Path, environments: Environments) -> None:
    python = environments(NOTEBOOK_6)
    config = tmp_path / "jupyter_notebook_config.json"
    config.write_text(json.dumps({"NotebookApp": {"nbserver_extensions": {"jupyter_http_over_ws": True}}}))
    code = (
        f"import sys; sys.path.insert(0, {str(extension)!r})\n"
        "import jupyter_http_over_ws as extension\n"
        "assert extension._jupyter_server_extension_paths() == [{'module': 'jupyter_http_over_ws'}]\n"
        "from notebook.notebookapp import NotebookApp\n"
        "app = NotebookApp()\n"
        "app.initialize(['--no-browser', '--allow-root', '--port=0', '--ip=127.0.0.1'])\n"
        "assert not any('http_over' in str(rule.matcher.__dict__) for rule in app.web_app.wildcard_router.rules)\n"
    )
    environ = {"HOME": str(tmp_path), "JUPYTER_CONFIG_PATH": str(tmp_path), "PATH": "/usr/bin:/bin"}
    ran = subprocess.run([python, "-c", code], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    told = [line for line in ran.stderr.splitlines() if "jupyter_http_over_ws" in line]
    assert len(told) == 1
    assert "jupyter_http_over_ws does nothing in NotebookApp: it needs jupyter_server 2 or newer" in told[0]
    assert "Traceback" not in ran.stderr
