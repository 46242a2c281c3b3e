"""uv and pip themselves: where they come from, and how they are told what pip's configuration says."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile

from . import pins
from .diagnosis import Failure
from .fetch import FetchError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping, Sequence

    from .index import Index
    from .pipconf import PipConfig

# Variables that would lead an installer, or the Python that it looks at, elsewhere.
MISLEADING = ("UV_", "PYTHON", "VIRTUAL_ENV", "CONDA_PREFIX", "PIP_TARGET", "PIP_PREFIX", "PIP_USER", "PIP_REQUIRE")


def uv_wheel(target: Mapping[str, str]) -> tuple[str, str] | None:
    """File name and sha256 of the pinned uv for the machine described by ``target``; None if there is none."""
    return pins.UV_WHEELS.get((target["system"], target["machine"], target["libc"]))


def pip_wheel(target: Mapping[str, str]) -> tuple[str, str]:
    """File name and sha256 of the pinned pip for the Python described by ``target``."""
    version = tuple(int(part) for part in target["python"].split(".")[:2])
    for oldest, name, sha256 in pins.PIP_WHEELS:
        if version >= oldest:
            return name, sha256
    raise Failure("failed", "no pip is known for Python {}".format(target["python"]))


def fetched(project: str, wheel: tuple[str, str], index: Index, directory: str) -> str:
    """The path of ``wheel`` (name and sha256) below ``directory``, fetched from the index unless it is there."""
    name, sha256 = wheel
    path = os.path.join(directory, name)
    if os.path.exists(path):
        return path
    beside = "{}.{}".format(path, os.urandom(4).hex())
    try:
        links = [link for link in index.find(project, (sha256,)) if link.filename == name]
        if not links:
            raise Failure("missing", "the index has no {}".format(name))
        index.download(links[0], (sha256,), beside)
    except FetchError as error:
        raise Failure(error.kind, str(error)) from error
    os.replace(beside, path)
    return path


def unpacked_uv(wheel: str, directory: str) -> str:
    """The program in uv's wheel, unpacked to ``directory``."""
    program = os.path.join(directory, "uv")
    beside = "{}.{}".format(program, os.urandom(4).hex())
    with zipfile.ZipFile(wheel) as archive:
        member = next((name for name in archive.namelist() if name.endswith(".data/scripts/uv")), None)
        if member is None:
            raise Failure("failed", "there is no program in {}".format(os.path.basename(wheel)))
        with archive.open(member) as source, open(beside, "xb") as out:
            shutil.copyfileobj(source, out, 1 << 20)
    os.chmod(beside, stat.S_IRWXU)
    os.replace(beside, program)
    return program


def base_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without what would lead an installer astray."""
    kept = {name: value for name, value in environ.items() if not name.startswith(MISLEADING)}
    return {**kept, "LC_ALL": "C", "NO_COLOR": "1"}


def uv_environment(environ: Mapping[str, str], config: PipConfig, cache: str) -> dict[str, str]:
    """What makes uv go where pip's configuration leads.

    It is said in variables and not in arguments since an index URL may hold a password, and everybody can read those.
    """
    said = {
        "UV_NO_CONFIG": "1",
        "UV_NO_PROGRESS": "1",
        "UV_PYTHON_DOWNLOADS": "never",
        "UV_CACHE_DIR": cache,
        "UV_HTTP_TIMEOUT": str(int(config.timeout)),
        "UV_DEFAULT_INDEX": config.indexes[0] if config.indexes else "",
        "UV_INDEX": " ".join(config.indexes[1:]),
        "UV_FIND_LINKS": ",".join(config.find_links),
        "UV_INSECURE_HOST": " ".join(config.trusted_hosts),
        "SSL_CERT_DIR" if os.path.isdir(config.cert) else "SSL_CERT_FILE": config.cert,
    }
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        said[name] = config.proxy
    return {**base_environment(environ), **{name: value for name, value in said.items() if value}}


def uv_install(
    uv: str, python: str, requirements: Sequence[str], *, offline: str = "", no_index: bool = False
) -> list[str]:
    """The command that installs ``requirements`` (files) for ``python``, from the directory ``offline`` if given."""
    argv = [uv, "pip", "install", "--python", python, "--system-certs", "--index-strategy", "unsafe-best-match"]
    argv += ["--no-deps", "--require-hashes", "--only-binary", ":all:"]
    argv += ["--offline", "--no-index", "--find-links", offline] if offline else ["--no-index"] if no_index else []
    return argv + [word for path in requirements for word in ("-r", path)]


def pip_install(pip: Sequence[str], requirements: Sequence[str], *, cache: str, offline: str = "") -> list[str]:
    """The same by pip, which reads its own configuration; ``pip`` is how it is started."""
    argv = [*pip, "install", "--no-input", "--no-user", "--disable-pip-version-check", "--progress-bar", "off"]
    argv += ["--no-deps", "--require-hashes", "--only-binary", ":all:", "--cache-dir", cache]
    argv += ["--no-index", "--find-links", offline] if offline else []
    return argv + [word for path in requirements for word in ("-r", path)]
