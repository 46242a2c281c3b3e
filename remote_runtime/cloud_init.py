"""The startup script as user data for cloud-init, which Ubuntu's images and other clouds run at a boot.  Pure."""

from __future__ import annotations

PLACE = "/var/lib/cloud/scripts/per-boot/remote-runtime"
"""What is here is run as root at every boot; a script that is user data itself would run at the first one only."""

_HEAD = f"""\
#cloud-config
# Puts Jupyter on the machine, as `remote-runtime startup-script` does: this is that script, run at every boot.
write_files:
  - path: {PLACE}
    owner: root:root
    permissions: "0700"
    content: |
"""
_INDENT = " " * 6


def render(script: str) -> str:
    """The user data that has ``script`` (printable text, its last line ended) run at every boot."""
    return _HEAD + "".join(_INDENT + line if line.strip() else line for line in script.splitlines(keepends=True))
