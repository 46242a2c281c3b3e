"""Run a notebook on a remote machine, and save it with its outputs.

Needs ``pip install 'remote-runtime[kernels]'``::

    python examples/run_notebook.py examples/squares.ipynb done.ipynb --provider ssh ada@gpu.example.com
    python examples/run_notebook.py examples/squares.ipynb done.ipynb             in a sandbox on this computer

The machine, its Jupyter and the notebooks that are open there go on; the kernel that ran this one ends.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from remote_runtime import RemoteRuntimeError, Runtime, ServerOptions, connect


def main() -> int:
    """Run the notebook; the result is the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("notebook", type=Path)
    parser.add_argument("done", type=Path, help="where it is saved with its outputs")
    parser.add_argument("machine", nargs="?", default="sandbox")
    parser.add_argument("--provider", choices=["gce", "ssh", "sandbox"], default="sandbox")
    parser.add_argument("--python", help="the Python on the machine that runs the code (else: the first with Jupyter)")
    asked = parser.parse_args()
    notebook = json.loads(asked.notebook.read_text(encoding="utf-8"))
    options = ServerOptions(python=asked.python)
    try:
        with connect(asked.machine, provider=asked.provider, local_port="auto", server=options) as runtime:
            good = run(runtime, notebook)
    except RemoteRuntimeError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 1
    asked.done.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0 if good else 1


def run(runtime: Runtime, notebook: dict[str, Any]) -> bool:
    """Run its cells in order and keep what they give; stop at one that fails, and say so."""
    for cell in notebook["cells"]:
        if cell["cell_type"] != "code":
            continue
        result = runtime.execute("".join(cell["source"]), check=False)
        cell["outputs"], cell["execution_count"] = result.outputs, result.execution_count
        print(result.text, end="")
        if result.error:
            print(result.error.message, file=sys.stderr)
            return False
    return True


if __name__ == "__main__":
    sys.exit(main())
