#!/bin/sh
# A VM that is ready before anybody connects, made by gcloud alone.  It costs money.
#
#     examples/startup_script.sh trainer us-central1-a ada
#
# with its name, its zone, and the account on it.  `remote-runtime create --prepare` does the same in one command.
set -eu

name=$1 zone=$2 user=$3

scratch=$(mktemp -d)
trap 'rm -r "$scratch"' EXIT

remote-runtime startup-script >"$scratch/startup-script.sh"

gcloud compute instances create "$name" --zone "$zone" \
    --machine-type e2-standard-4 --image-project debian-cloud --image-family debian-12 \
    --no-service-account --no-scopes \
    --metadata-from-file startup-script="$scratch/startup-script.sh" \
    --metadata enable-guest-attributes=TRUE,remote-runtime-user="$user"

cat <<WORDS
It gets ready by itself.  To use it, with remote-runtime on your computer:

    remote-runtime connect --zone $zone --user $user $name

or without, and then paste the URL that \`remote-runtime-url\` prints on the VM:

    gcloud compute ssh --zone $zone $user@$name -- -L 8888:127.0.0.1:8888
WORDS
