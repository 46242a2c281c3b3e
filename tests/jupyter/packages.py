"""A package index of the test's own, on loopback, and the wheels that it serves."""

from __future__ import annotations

import base64
import datetime
import ensurepip
import hashlib
import json
import re
import ssl
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from remote_runtime.guest.processes import any_port


@cache
def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def make_wheel(directory: Path, name: str = "rr_probe", version: str = "1.0", body: str = "") -> Path:
    """A wheel with one module and one script."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": body or "def main():\n    print('probe runs')\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\nrr-probe = {name}:main\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
    path = directory / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for member, content in files.items():
            wheel.writestr(member, content)
    return path


def make_uv_wheel(directory: Path) -> Path:
    """The uv that the tests have, packed as its own wheel is."""
    uv = pytest.importorskip("uv")
    path = directory / "uv-0.0.1-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.write(uv.find_uv_bin(), "uv-0.0.1.data/scripts/uv")
    return path


def bundled_pip() -> Path:
    """The pip wheel that Python brings."""
    places = (Path(ensurepip.__file__).parent / "_bundled", Path("/usr/share/python-wheels"))
    for path in (path for place in places for path in sorted(place.glob("pip-*.whl"))):
        return path
    pytest.skip("this Python brings no pip")


def make_authority(directory: Path) -> tuple[Path, ssl.SSLContext]:
    """The certificate of an authority that nobody knows, and the context of a server that it vouches for."""
    now = datetime.datetime.now(datetime.timezone.utc)
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    names = [x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]) for name in ("Test CA", "localhost")]
    paths = []
    for key, name in zip(keys, names, strict=True):
        is_authority = name == names[0]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(names[0])
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(keys[0].public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(keys[0], hashes.SHA256())
        )
        paths.append(directory / f"certificate-{len(paths)}.pem")
        paths[-1].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    private = directory / "key.pem"
    kind = serialization.PrivateFormat.PKCS8
    private.write_bytes(keys[1].private_bytes(serialization.Encoding.PEM, kind, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(paths[1], private)
    return paths[0], context


@dataclass
class LocalIndex:
    """What the server serves, and how it behaves; ``asked`` are the paths that it was asked for.

    ``answers`` maps the beginning of a path to a status to answer with, 0 meaning silence until the server ends;
    ``account`` is the ``user:password`` that it wants; ``tampered`` maps the name of a file to what is served instead.
    """

    url: str
    wheels: dict[str, Path] = field(default_factory=dict)
    answers: dict[str, int] = field(default_factory=dict)
    account: str = ""
    tampered: dict[str, Path] = field(default_factory=dict)
    pages_in_html: bool = False
    asked: list[str] = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def add(self, *paths: Path) -> None:
        self.wheels.update({path.name: path for path in paths})

    def page(self, project: str) -> tuple[str, bytes] | None:
        paths = [path for name, path in self.wheels.items() if _project(name) == project]
        if not paths:
            return None
        if self.pages_in_html:
            links = (f'<a href="../../files/{path.name}#sha256={sha256(path)}">{path.name}</a>' for path in paths)
            return "text/html", "<!DOCTYPE html><html><body>{}</body></html>".format("".join(links)).encode()
        files = [
            {"filename": path.name, "url": f"../../files/{path.name}", "hashes": {"sha256": sha256(path)}}
            for path in paths
        ]
        page = {"meta": {"api-version": "1.0"}, "name": project, "files": files}
        return "application/vnd.pypi.simple.v1+json", json.dumps(page).encode()


def _project(wheel: str) -> str:
    """The name by which an index knows the project that a wheel is of."""
    return re.sub(r"[-_.]+", "-", wheel.split("-")[0]).lower()


def nowhere() -> str:
    """The URL of an index where nobody listens."""
    return f"http://127.0.0.1:{any_port()}/simple"


@contextmanager
def serving(tls: ssl.SSLContext | None = None) -> Iterator[LocalIndex]:
    """A server for the time of the block."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.0"

        def do_GET(self) -> None:
            self.path = urlsplit(self.path).path  # a proxy is asked for a whole URL
            index.asked.append(self.path)
            status = next((value for start, value in index.answers.items() if self.path.startswith(start)), 200)
            if status == 0:
                index.ended.wait(60)
                return
            wanted = "Basic " + base64.b64encode(index.account.encode()).decode()
            if index.account and self.headers.get("Authorization") != wanted:
                status = 401
            content = self._content() if status == 200 else None
            self.send_response(status if content or status != 200 else 404)
            self.send_header("Content-Type", content[0] if content else "text/plain")
            self.send_header("Content-Length", str(len(content[1]) if content else 0))
            self.end_headers()
            if content:
                self.wfile.write(content[1])

        do_HEAD = do_GET

        def _content(self) -> tuple[str, bytes] | None:
            kind, _, name = self.path.strip("/").partition("/")
            if kind == "simple":
                return index.page(name)
            path = index.tampered.get(name) or index.wheels.get(name)
            return ("application/octet-stream", path.read_bytes()) if path else None

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False
        block_on_close = True
        request_queue_size = 128  # installers come with many connections at once

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # a client that hangs up, or does not trust the certificate, is what some tests are about

    server = Server(("127.0.0.1", 0), Handler)
    if tls:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "https" if tls else "http"
    index = LocalIndex(f"{scheme}://localhost:{server.server_port}/simple")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    try:
        yield index
    finally:
        index.ended.set()
        server.shutdown()
        thread.join()
        server.server_close()
