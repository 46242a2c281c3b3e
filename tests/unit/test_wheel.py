"""The wheel: made without tools, read by those that others wrote."""

from __future__ import annotations

import io
import json
import stat
import subprocess
import sys
import zipfile
from email.parser import Parser
from importlib.metadata import Distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from packaging.version import Version

from remote_runtime.guest.wheel import build_wheel, extension_files, unpack

FILES = {"__init__.py": b"VALUE = 1\n", "other.py": "# ü\n".encode()}
ENABLES = {"ServerApp": {"jpserver_extensions": {"jupyter_http_over_ws": True}}}


def test_the_name_says_what_it_is() -> None:
    name, _ = build_wheel(FILES)
    project, version, _, tags = parse_wheel_filename(name)
    assert project == "jupyter-http-over-ws"
    assert version > Version("0.0.8") and version < Version("0.0.9")
    assert str(version).startswith("0.0.8+remote.runtime.")
    assert [str(tag) for tag in tags] == ["py3-none-any"]


def test_the_same_files_give_the_same_wheel_and_others_another() -> None:
    assert build_wheel(FILES) == build_wheel(dict(reversed(FILES.items())))
    changed = build_wheel({**FILES, "other.py": b""})
    renamed = build_wheel({"__init__.py": b"VALUE = 1\n", "othe.py": b"r" + FILES["other.py"]})
    assert len({build_wheel(FILES)[0], changed[0], renamed[0]}) == 3


def test_the_metadata_can_be_read() -> None:
    name, content = build_wheel(FILES)
    stem = name.removesuffix("-py3-none-any.whl")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        metadata = Parser().parsestr(archive.read(f"{stem}.dist-info/METADATA").decode())
        enables = archive.read(f"{stem}.data/data/etc/jupyter/jupyter_server_config.d/jupyter_http_over_ws.json")
        assert archive.namelist()[-1] == f"{stem}.dist-info/RECORD"
    assert f"{metadata['Name']}-{metadata['Version']}" == stem
    assert [Requirement(line).name for line in metadata.get_all("Requires-Dist", [])] == ["jupyter_server", "tornado"]
    assert json.loads(enables) == ENABLES


def test_uv_installs_it_and_removes_all_of_it(tmp_path: Path) -> None:
    name, content = build_wheel(FILES)
    (tmp_path / name).write_bytes(content)
    venv = tmp_path / "venv"
    python = str(venv / "bin/python")

    def uv(*arguments: str) -> None:
        # The interpreter is always named: uv run as a module would otherwise take the one that runs this test.
        command = [sys.executable, "-m", "uv", "--offline", "--quiet", "--cache-dir", str(tmp_path / "cache")]
        subprocess.run([*command, *arguments], check=True)

    uv("venv", "--python", sys.executable, str(venv))
    before = {path for path in venv.rglob("*") if path.is_file()}
    uv("pip", "install", "--python", python, "--no-deps", str(tmp_path / name))
    enabling = venv / "etc/jupyter/jupyter_server_config.d/jupyter_http_over_ws.json"
    assert json.loads(enabling.read_text()) == ENABLES
    code = "import jupyter_http_over_ws; print(jupyter_http_over_ws.__file__)"
    ran = subprocess.run([python, "-B", "-c", code], check=True, capture_output=True, text=True, cwd=tmp_path)
    assert ran.stdout.startswith(str(venv))
    uv("pip", "uninstall", "--python", python, "jupyter_http_over_ws")
    left = {path for path in venv.rglob("*") if path.is_file()} - before
    assert not [path for path in left if "http_over_ws" in path.name or "http_over_ws" in path.parent.name]


def parts(source: Path) -> list[Path]:
    """What the extension consists of: its modules and the files of its page."""
    return [*source.glob("*.py"), *(source / "static").iterdir()]


def test_the_extension_is_whole_and_light(tmp_path: Path) -> None:
    files = extension_files()
    source = Path(sys.modules["remote_runtime.guest.wheel"].__file__ or "").parent / "jupyter_http_over_ws"
    assert files == {str(path.relative_to(source)): path.read_bytes() for path in parts(source)}
    unpack(build_wheel(files)[1], str(tmp_path / "ext"))
    code = (
        "import sys, jupyter_http_over_ws as j; print(j._jupyter_server_extension_points());"
        "sys.exit('tornado' in sys.modules or 'jupyter_server' in sys.modules)"
    )
    ran = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path / "ext", check=True, capture_output=True, text=True
    )
    assert ran.stdout == "[{'module': 'jupyter_http_over_ws'}]\n"


def test_the_extension_is_found_inside_a_zipapp(tmp_path: Path) -> None:
    program = tmp_path / "guest.pyz"
    source = Path(sys.modules["remote_runtime.guest.wheel"].__file__ or "").parent
    with zipfile.ZipFile(program, "w") as archive:
        archive.writestr("remote_runtime_guest/__init__.py", "")
        for path in [source / "wheel.py", *parts(source / "jupyter_http_over_ws")]:
            archive.write(path, f"remote_runtime_guest/{path.relative_to(source)}")
    code = "from remote_runtime_guest.wheel import *; print(build_wheel(extension_files())[0])"
    ran = subprocess.run(
        [sys.executable, "-I", "-c", f"import sys; sys.path.insert(0, {str(program)!r}); {code}"],
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout.strip() == build_wheel(extension_files())[0]


def test_what_is_unpacked_is_an_installation(tmp_path: Path) -> None:
    name, content = build_wheel(FILES)
    directory = tmp_path / "ext"
    unpack(content, str(directory))
    assert (directory / "jupyter_http_over_ws/other.py").read_bytes() == FILES["other.py"]
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    (dist_info,) = directory.glob("*.dist-info")
    installed = Distribution.at(dist_info)
    assert f"{installed.metadata['Name']}-{installed.version}" == name.removesuffix("-py3-none-any.whl")
    listed = {str(file) for file in installed.files or ()}
    present = {str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file()}
    assert listed == present
    assert all(stat.S_IMODE((directory / file).stat().st_mode) == 0o600 for file in present)
    assert [path.name for path in tmp_path.iterdir()] == ["ext"]


def test_a_whole_directory_is_left_alone_and_a_damaged_one_replaced(tmp_path: Path) -> None:
    content = build_wheel(FILES)[1]
    directory = tmp_path / "ext"
    unpack(content, str(directory))
    identity = directory.stat().st_ino
    (directory / "__pycache__").mkdir()
    unpack(content, str(directory))
    assert directory.stat().st_ino == identity
    (directory / "jupyter_http_over_ws/other.py").write_bytes(b"")
    (directory / "jupyter_http_over_ws/evil.py").write_bytes(b"")
    unpack(content, str(directory))
    assert (directory / "jupyter_http_over_ws/other.py").read_bytes() == FILES["other.py"]
    assert not (directory / "jupyter_http_over_ws/evil.py").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["ext"]


def test_a_link_in_the_way_is_replaced_not_followed(tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (tmp_path / "ext").symlink_to(elsewhere)
    unpack(build_wheel(FILES)[1], str(tmp_path / "ext"))
    assert not (tmp_path / "ext").is_symlink()
    assert not list(elsewhere.iterdir())


@pytest.mark.parametrize(
    "name", ["../evil.py", "/evil.py", "a/../../evil.py", "a\\..\\evil.py", "c:evil.py", "a//b.py"]
)
def test_a_file_of_a_strange_name_is_refused(tmp_path: Path, name: str) -> None:
    content = build_wheel({name: b""})[1]
    with pytest.raises(ValueError, match="strange name"):
        unpack(content, str(tmp_path / "ext"))
    assert not list(tmp_path.iterdir())


def test_a_damaged_wheel_is_refused(tmp_path: Path) -> None:
    content = build_wheel(FILES)[1]
    for damaged in (b"", content[:100], content.replace(b"VALUE = 1", b"VALUE = 2")):
        with pytest.raises(ValueError, match="damaged"):
            unpack(damaged, str(tmp_path / "ext"))
    nothing = io.BytesIO()
    with zipfile.ZipFile(nothing, "w"):
        pass
    with pytest.raises(ValueError, match="no RECORD"):
        unpack(nothing.getvalue(), str(tmp_path / "ext"))
    assert not list(tmp_path.iterdir())
