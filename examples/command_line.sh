#!/bin/sh
# The command line, from nothing to a URL and back.
#
#     examples/command_line.sh                          a sandbox on this computer
#     examples/command_line.sh ada@gpu.example.com      a machine of yours
#
# What names a machine, and how it is reached, can be said (see "Machine" in `remote-runtime status --help`); options
# that are connect's alone, such as --port, can not, as all of these commands get them.
set -eu

[ $# -gt 0 ] || set -- --sandbox --instance example

scratch=$(mktemp -d)
mkfifo "$scratch/url"

# Connects, prints the URL when it answers, and keeps it working until it is ended (in a terminal: by Ctrl-C).
remote-runtime connect "$@" >"$scratch/url" &
connection=$!
trap 'kill "$connection" 2>/dev/null || :; rm -r "$scratch"' EXIT

read -r url <"$scratch/url" # waits; fails if connect did, which has said why
echo "The URL for Colab, VS Code or a browser: $url"

echo "What is connected:"
remote-runtime list

echo "How it is:"
remote-runtime status "$@"

# The connection alone: Jupyter and its kernels go on, and the next connect finds them at the same URL.
kill "$connection"
wait "$connection"

# Jupyter itself.  `remote-runtime delete` would remove the machine, too.
remote-runtime stop "$@"
