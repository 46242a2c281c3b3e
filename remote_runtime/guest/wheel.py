"""The extension as a wheel, made from its own source with nothing but zipfile, and unpacked again without pip.

The wheel has the name of the original, `jupyter_http_over_ws`, and a version that pip takes for a newer build of it, so
installing ours replaces the original, and ``pip uninstall`` removes it.  The same files give the same wheel, byte for
byte, wherever it is made.
"""

from __future__ import annotations

import base64
import hashlib
import io
import os
import pkgutil
import shutil
import tempfile
import zipfile
from typing import Dict, Iterator, Mapping, Tuple

NAME = "jupyter_http_over_ws"
PAGE_FILES = tuple(
    f"static/{name}" for name in ("elements.js", "page.css", "page.html", "page.js", "selftest.js", "server.js")
)
"""What is no module; pkgutil can't tell their names."""

_ENABLE = f'{{\n  "ServerApp": {{\n    "jpserver_extensions": {{\n      "{NAME}": true\n    }}\n  }}\n}}\n'
_ENABLE_PATH = f"etc/jupyter/jupyter_server_config.d/{NAME}.json"
_METADATA = f"""\
Metadata-Version: 2.1
Name: {NAME}
Version: {{version}}
Summary: HTTP over one WebSocket for Jupyter servers, so that a web page such as Colab's can use them
License: Apache-2.0
Classifier: Framework :: Jupyter
Classifier: License :: OSI Approved :: Apache Software License
Requires-Python: >=3.8
Requires-Dist: jupyter_server>=2
Requires-Dist: tornado>=6.4

Made by remote-runtime. It replaces the package of the same name, whose wire it speaks.
"""
_WHEEL = "Wheel-Version: 1.0\nGenerator: remote-runtime\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
_OLDEST = (1980, 1, 1, 0, 0, 0)
_REGULAR_FILE = 0o100644 << 16


def extension_files() -> Dict[str, bytes]:
    """The modules of the extension and the files of its page, by name; works from a directory and inside a zipapp."""
    from . import jupyter_http_over_ws as package

    modules = ["__init__", *(module.name for module in pkgutil.iter_modules(package.__path__))]
    names = sorted([*(f"{module}.py" for module in modules), *PAGE_FILES])
    found = {name: pkgutil.get_data(package.__name__, name) for name in names}
    return {name: content for name, content in found.items() if content is not None}


def build_wheel(files: Mapping[str, bytes]) -> Tuple[str, bytes]:
    """The file name and the content of the wheel whose package consists of ``files`` (names relative to it)."""
    digest = hashlib.sha256()
    for name, content in sorted(files.items()):
        digest.update(b"%d %d " % (len(name.encode()), len(content)) + name.encode() + content)
    for text in (_ENABLE, _METADATA, _WHEEL):
        digest.update(text.encode())
    version = f"0.0.8+remote.runtime.{digest.hexdigest()[:8]}"
    stem = f"{NAME}-{version}"
    entries = {f"{NAME}/{name}": content for name, content in files.items()}
    entries[f"{stem}.data/data/{_ENABLE_PATH}"] = _ENABLE.encode()
    entries[f"{stem}.dist-info/METADATA"] = _METADATA.format(version=version).encode()
    entries[f"{stem}.dist-info/WHEEL"] = _WHEEL.encode()
    entries[f"{stem}.dist-info/top_level.txt"] = f"{NAME}\n".encode()
    return f"{stem}-py3-none-any.whl", _zipped(entries, f"{stem}.dist-info/RECORD")


def unpack(wheel: bytes, directory: str) -> None:
    """Make ``directory`` hold what ``wheel`` installs: the package, its dist-info, and ``etc/`` with its configuration.

    The directory appears whole or not at all; one that is whole already is left alone, a damaged one is replaced.
    Its parent must exist.  Files are readable by their owner alone.  Raises :class:`ValueError` for a wheel that is
    none of ours or damaged, and :class:`OSError`.
    """
    files = dict(_installed(wheel))
    if _holds(directory, files):
        return
    parent, name = os.path.split(os.path.abspath(directory))
    beside = tempfile.mkdtemp(prefix=f".{name}-", dir=parent)
    try:
        fresh = os.path.join(beside, "new")
        os.mkdir(fresh, 0o700)
        for path, content in files.items():
            _write(os.path.join(fresh, *path.split("/")), content)
        if os.path.lexists(directory):
            os.rename(directory, os.path.join(beside, "old"))
        os.rename(fresh, directory)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _zipped(entries: Mapping[str, bytes], record: str) -> bytes:
    target = io.BytesIO()
    # Stored, not deflated: another zlib would compress the same content to other bytes.
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, content in [*sorted(entries.items()), (record, _record(entries, record).encode())]:
            info = zipfile.ZipInfo(name, _OLDEST)
            info.create_system = 3
            info.external_attr = _REGULAR_FILE
            archive.writestr(info, content)
    return target.getvalue()


def _record(entries: Mapping[str, bytes], record: str) -> str:
    lines = [f"{name},{_hash(content)},{len(content)}" for name, content in sorted(entries.items())]
    return "\n".join([*lines, f"{record},,"]) + "\n"


def _hash(content: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def _installed(wheel: bytes) -> Iterator[Tuple[str, bytes]]:
    """What ``wheel`` puts into a directory, by path below it, with a RECORD of just that."""
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            packed = {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, EOFError) as error:
        raise ValueError("the wheel is damaged") from error
    records = [name for name in packed if name.endswith(".dist-info/RECORD")]
    if len(records) != 1:
        raise ValueError("the wheel has no RECORD")
    dist_info, record = records[0].rpartition("/")[0], packed.pop(records[0])
    if record.decode() != _record(packed, records[0]):
        raise ValueError("the wheel is damaged")
    data = dist_info[: -len(".dist-info")] + ".data/data/"
    placed = {name[len(data) :] if name.startswith(data) else name: content for name, content in packed.items()}
    placed[f"{dist_info}/INSTALLER"] = b"remote-runtime\n"
    for name in placed:
        if any(part in ("", ".", "..") for part in name.split("/")) or "\\" in name or ":" in name:
            raise ValueError(f"the wheel has a file of a strange name: {name!r}")
    yield from placed.items()
    yield records[0], _record(placed, records[0]).encode()


def _holds(directory: str, files: Mapping[str, bytes]) -> bool:
    for path, content in files.items():
        try:
            with open(os.path.join(directory, *path.split("/")), "rb") as file:
                if file.read() != content:
                    return False
        except OSError:
            return False
    return True


def _write(path: str, content: bytes) -> None:
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
