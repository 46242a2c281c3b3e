"""``remote-runtime startup-script``."""

from __future__ import annotations

from remote_runtime.cli.invocation import Invocation
from remote_runtime.cli.options import option, output_options, verb
from remote_runtime.cli.values import TEXT


@verb("startup-script", short_help="Write a script that prepares a VM at its boot.")
@option(
    "--user",
    type=TEXT,
    per_call=True,
    metavar="NAME",
    help="For whom a server runs from the boot on, if that user exists. Without it: for whom the VM's metadata says "
    "(remote-runtime-user), else for each user from the first login on.",
)
@option("--cloud-init", is_flag=True, per_call=True, help="As user data for cloud-init, which runs it at every boot.")
@output_options
def command(call: Invocation, user: str | None, cloud_init: bool) -> None:
    """Write a startup script to standard output that prepares a VM for `remote-runtime connect`.

    It holds all that it needs of remote-runtime. It is for Debian, Ubuntu and Deep Learning VM images, runs as root at
    every boot, and does what is missing. Pass it to gcloud, Terraform or cloud-init:

    \b
      remote-runtime startup-script > startup-script.sh
      gcloud compute instances create NAME \\
          --no-service-account --no-scopes \\
          --metadata enable-guest-attributes=TRUE \\
          --metadata-from-file startup-script=startup-script.sh
    """
    from remote_runtime import cloud_init as user_data
    from remote_runtime import startup_script

    text = startup_script.render(user=user)
    if cloud_init:
        text = user_data.render(text)
    call.reporting = True
    call.document({"script": text, "bytes": len(text.encode())}, text.splitlines())
