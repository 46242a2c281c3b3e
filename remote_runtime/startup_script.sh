#!/bin/sh
# remote-runtime startup-script @VERSION@
#
# Prepares this machine for `remote-runtime connect`: a Jupyter server, and what it needs, for every user.  Runs as root
# at every boot; what is there already is not done again.  What it does is in /var/log/remote-runtime.log.
# To remove all of it: sudo /opt/remote-runtime/uninstall
set -eu
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
umask 022
cd /

user=@USER@
sha256=@SHA256@
place=/opt/remote-runtime
program=$place/guest/guest-$sha256.pyz
log=/var/log/remote-runtime.log
state=/run/remote-runtime
attributes=http://metadata.google.internal/computeMetadata/v1/instance/guest-attributes/remote-runtime
lock_seconds=900 # for another run of this script, or another user of apt, to end
pulse_seconds=5  # between two signs of life
now=             # the step; empty before this run has the lock
pulse=           # the process that gives signs of life

[ "$(id -u)" -eq 0 ] || {
    echo 'remote-runtime: the startup script has to run as root' >&2
    exit 1
}

# publish KEY VALUE: as a guest attribute, where there is a metadata server.
publish() {
    ! command -v curl >/dev/null 2>&1 ||
        curl -sf -m 2 -X PUT --data "$2" -H 'Metadata-Flavor: Google' "$attributes/$1" || :
}

# tell STATE STEP [REASON]: in the state file, which the program writes from its start on.
tell() {
    printf '{"state": "%s", "step": "%s", "log": ["%s"], "pid": %d, "started": "", "updated": %d}\n' \
        "$1" "$2" "${3:-}" $$ "$(date +%s)" >"$state/preparation.json.new" &&
        mv -f "$state/preparation.json.new" "$state/preparation.json"
}

# step TEXT: the next thing is begun.
step() {
    now=$1
    echo "remote-runtime: $now" >&3 || :
    must tell running "$now"
    publish step "$now"
    publish state running
}

# fail REASON: whatever else fails on the way, the console, the state file and the attributes are tried.
fail() {
    trap - EXIT
    set +e
    still
    echo "remote-runtime: failed: ${now:+$now: }$1" >&3
    if [ -n "$now" ]; then # else another run may be at work, which speaks for itself
        echo "remote-runtime: failed: $now: $1"
        tell failed "$now" "$1"
        publish step "$now: $1"
        publish state failed
    fi
    exit 1
}

# The last lines of what a command said, without the credentials of an index, and without what JSON would take amiss.
last_words() {
    tail -n 3 | sed "s|://[^/@ ]*@|://|g; s|'||g" | tr -cs '[:alnum:] .,:/()_\n-' ' ' | tr '\n' ' ' | sed 's| *$||'
}

# must COMMAND...: which ends this script, by its last words, if it fails.
must() {
    said=$("$@" 2>&1) || fail "$(printf '%s\n' "$said" | last_words)"
}

# A sign of life every few seconds, while what takes long runs: until still, or until this script is no more.
alive() {
    {
        trap 'kill "${!:-}" 2>/dev/null; exit' TERM # the sleep
        while kill -0 $$ 2>/dev/null; do
            tell running "$now" || :
            sleep "$pulse_seconds" &
            wait "$!"
        done
    } 3>&- 9>&- &
    pulse=$!
}

still() {
    [ -n "$pulse" ] || return 0
    kill "$pulse" 2>/dev/null || :
    wait "$pulse" || :
    pulse=
}

# Whatever ends this script unforeseen is told too, up to the moment when the program takes its place.
exec 3>&1
trap 'fail "ended with status $?"' EXIT

# One run at a time.  Nothing that runs share is touched before this.  The lock is for root alone, or any user could hold
# it; an uninstallation holds it too, and removes it.
until [ "$(stat -Lc %d:%i "$state/lock" 2>&1)" = "$(stat -Lc %d:%i "/proc/$$/fd/9" 2>/dev/null)" ]; do
    must mkdir -p "$state"
    chmod 755 "$state"
    (umask 077 && : >>"$state/lock")
    exec 9>>"$state/lock"
    flock -n 9 || {
        echo 'remote-runtime: waiting for another run of this script to end'
        flock -w "$lock_seconds" 9 || fail 'another run of this script is still at work'
    }
done
now=Beginning
must mkdir -p /var/log
if [ -f "$log" ] && [ "$(wc -c <"$log")" -gt 1000000 ]; then
    must mv -f "$log" "$log.1"
fi
open_log() {
    (umask 077 && : >>"$log")
}
must open_log
exec >>"$log" 2>&1
echo "== $(date) boot script, program $sha256"

# Debian's own images have python3; this is for those that lack it.  Others may use apt now: the installation of a GPU
# driver, unattended upgrades.
install_python() {
    step 'Installing python3'
    command -v apt-get >/dev/null 2>&1 || fail 'there is no python3, and no apt-get to install it'
    end=$(($(date +%s) + lock_seconds))
    failures=0
    alive
    until {
        DEBIAN_FRONTEND=noninteractive apt-get -q update &&
            DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends python3
    } >"$state/apt.log" 2>&1 </dev/null 3>&- 9>&-; do
        cat "$state/apt.log"
        if ! grep -Eq 'Could not get lock|Unable to (acquire|lock)|is another process using it' "$state/apt.log"; then
            failures=$((failures + 1))
        fi
        if [ "$failures" -ge 3 ] || [ "$(date +%s)" -ge "$end" ]; then
            fail "$(last_words <"$state/apt.log")"
        fi
        sleep 3
    done
    still
    rm -f "$state/apt.log"
}

step 'Beginning'
command -v python3 >/dev/null 2>&1 || install_python
python3 -I -S -c 'import sys; sys.exit(sys.version_info < (3, 8))' 9>&- || fail "$(python3 --version 2>&1) is too old: 3.8 is needed"

verify() {
    echo "$sha256  $1" | sha256sum -c --status - 2>/dev/null
}

# What this script brings, packed.
payload() {
    base64 -d <<'END'
@PAYLOAD@
END
}

unpack() {
    payload | gzip -dc >"$program.new"
}

if ! verify "$program"; then
    step 'Unpacking the program'
    [ "$(payload | gzip -dc | sha256sum)" = "$sha256  -" ] || fail 'what this script brings is damaged'
    must mkdir -p "$place/guest"
    must chmod 755 "$place" "$place/guest"
    must unpack # where it may fail for another reason: a full disk, say
    must chmod 644 "$program.new"
    must mv -f "$program.new" "$program"
fi
# The lock goes with this process, and with it alone.
exec python3 -I -S -B -c '
import sys
program = sys.argv.pop(1)
sys.path.insert(0, program)
from remote_runtime_guest.local import main
sys.exit(main(sys.argv[1:], program))
' "$program" prepare ${user:+--user "$user"} 1>&3 3>&-
