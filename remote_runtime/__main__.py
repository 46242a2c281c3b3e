"""``python -m remote_runtime``: the same as the command ``remote-runtime``."""

import sys

from remote_runtime.cli import main

if __name__ == "__main__":
    sys.exit(main())
