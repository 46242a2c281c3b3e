#!/bin/sh
# What to paste where: connects, tells, and stays until Ctrl-C.
#
#     examples/front_ends.sh                            a sandbox on this computer
#     examples/front_ends.sh --zone us-central1-a trainer
set -eu

[ $# -gt 0 ] || set -- --sandbox --instance example

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT
trap : INT # which ends connect, and then this
mkfifo "$scratch/url"

# Beside connect, whose status is then this script's: in a pipe it would be lost.
{
    read -r url && cat <<WORDS
Colab        the menu beside "Connect", "Connect to a local runtime", and paste
                 $url
             Then the browser asks whether the page may reach this computer: Allow.

VS Code      open a notebook, "Select Kernel", "Existing Jupyter Server...", and paste
                 $url

JupyterLab   open in a browser
                 $url

All of them  see the same kernels.  Whoever has this URL can run code on the machine: do not share it.
WORDS
} <"$scratch/url" &

remote-runtime connect "$@" >"$scratch/url"
