"""A machine for one job: made, used, and deleted again.

Needs ``pip install 'remote-runtime[kernels]'``::

    python examples/automation.py                                in a sandbox on this computer
    python examples/automation.py --zone us-central1-a --gpu l4  on a VM of Google Compute Engine, which costs money

It sends a file there, runs code on it in a kernel, shows the output as it comes, and fetches the result.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import tempfile
from pathlib import Path

from remote_runtime import CellError, GceSpec, Gpu, RemoteRuntimeError, Runtime, ServerOptions, connect

CODE = """\
import json, pathlib, platform

numbers = json.loads(pathlib.Path("job/numbers.json").read_text())
print("adding", len(numbers), "numbers on", platform.node())
pathlib.Path("job/result.json").write_text(json.dumps({"sum": sum(numbers)}))
"""


def main() -> int:
    """Do the job; the result is the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("name", nargs="?", default="example-job", help="what the machine shall be called")
    parser.add_argument("--zone", help="make a VM there (else: a sandbox)")
    parser.add_argument("--gpu", type=Gpu.parse, help="with such a GPU, as l4 or t4:2")
    parser.add_argument("--user", help="the account on the VM (else: your name here)")
    parser.add_argument("--python", help="the Python on the machine that runs the code (else: the first with Jupyter)")
    asked = parser.parse_args()
    if asked.gpu and not asked.zone:
        parser.error("a sandbox has no GPU of its own: say in which --zone to make a VM with it")
    # So that the machine is deleted too when this program is asked to end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        with connect(
            asked.name,
            provider="gce" if asked.zone else "sandbox",
            zone=asked.zone,
            create=GceSpec(asked.name, gpu=asked.gpu),
            ephemeral=True,
            user=asked.user,
            local_port="auto",
            server=ServerOptions(python=asked.python, ui="none"),
        ) as runtime:
            print(job(runtime))
    except CellError as error:
        print("\n".join(error.traceback), file=sys.stderr)
        return 1
    except RemoteRuntimeError as error:
        print(f"{error.message}\n{error.hint}", file=sys.stderr)
        return 1
    return 0


def job(runtime: Runtime) -> object:
    """What is to be done on the machine."""
    with tempfile.TemporaryDirectory() as scratch:
        numbers = Path(scratch, "numbers.json")
        numbers.write_text(json.dumps(list(range(1, 101))))
        runtime.put(numbers, "job/")
        runtime.execute(CODE, timeout=600, on_output=lambda output: print(output.get("text", ""), end="", flush=True))
        result = runtime.get("job/result.json", scratch)
        return json.loads(result.read_text())


if __name__ == "__main__":
    sys.exit(main())
