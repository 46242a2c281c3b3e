"""What the Jupyter server is told: the texts, and that the configuration does what it says when it is run."""

from __future__ import annotations

import ast
import json
import os
from pathlib import Path

from remote_runtime.guest import config, plan


def test_the_settings_that_the_connection_depends_on() -> None:
    options = plan.merge_options({"allow_origin": "https://lab.example"}, {})
    server = config.traits(options, port=9000, root_dir="/w", base_url="/", lab=True, root=False)["ServerApp"]
    assert server["ip"] == "127.0.0.1"
    assert (server["port"], server["port_retries"]) == (9000, 0)
    assert (server["allow_origin"], server["allow_origin_pat"]) == ("https://lab.example", "")
    assert server["allow_credentials"] is True
    assert server["open_browser"] is False
    assert server["default_url"] == "/lab"
    assert server["allow_root"] is False
    assert server["disable_check_xsrf"] is False


def test_no_lab_no_lab_url() -> None:
    options = plan.merge_options({}, {})
    settings = config.traits(options, port=1, root_dir="/", base_url="/", lab=False, root=True)
    assert "default_url" not in settings["ServerApp"]
    assert settings["ServerApp"]["allow_root"] is True


def test_the_file_is_python_that_holds_any_text_and_no_token(tmp_path: Path) -> None:
    awkward = "/home/j\"'\\\n\u20ac{}%s"
    text = config.render(
        {"ServerApp": {"root_dir": awkward}}, extension="/e", token_file="/t", home=awkward, restore={"A": None}
    )
    statements = ast.parse(text).body
    assigned = next(node for node in statements if isinstance(node, ast.Assign))
    values = ast.literal_eval(assigned.value)
    assert values["traits"]["ServerApp"]["root_dir"] == awkward
    assert values["home"] == awkward
    assert values["environment"] == {"A": None}


def test_the_environment_of_the_server() -> None:
    environ = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/h",
        "JUPYTER_TOKEN": "x",
        "JUPYTER_TOKEN_FILE": "/x",
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_SERVER_ROOT": "/x",
        "JPY_PARENT_PID": "1",
        "JUPYTER_CONFIG_PATH": "/mine",
        "PYTHONPATH": "/p",
    }
    given = config.environment(environ, config="/c", data=None, bin_dir="/venv/bin")
    assert given == {
        "PATH": "/venv/bin:/usr/bin:/bin",
        "HOME": "/h",
        "JUPYTER_CONFIG_PATH": "/c:/mine",
        "PYTHONPATH": "/p",
    }


def test_the_environment_with_a_kernel_of_its_own() -> None:
    given = config.environment({"PATH": "/venv/bin:/bin"}, config="/c", data="/d", bin_dir="/venv/bin")
    assert given == {"PATH": "/venv/bin:/bin", "JUPYTER_CONFIG_PATH": "/c", "JUPYTER_PATH": "/d"}


def test_a_borrowed_environment_gets_no_compiled_modules() -> None:
    assert config.command("/p", ["--x"], borrowed=True) == ["/p", "-B", "-m", "jupyter_server", "--x"]
    assert config.command("/p", [], borrowed=False) == ["/p", "-m", "jupyter_server"]


def test_the_kernelspec() -> None:
    spec = json.loads(config.kernelspec("/opt/x/bin/python", "3.10.1"))
    assert spec["argv"] == ["/opt/x/bin/python", "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    assert spec["display_name"] == "Python 3.10.1 (/opt/x/bin/python)"
    assert spec["env"]["PATH"] == "/opt/x/bin" + os.pathsep + "${PATH}"
