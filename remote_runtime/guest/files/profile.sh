# shellcheck shell=sh
# Made by the startup script of remote-runtime; sudo /opt/remote-runtime/uninstall removes it.
#
# At the interactive login of an ordinary user: start his Jupyter server in the background, if none runs and he has not
# stopped it on purpose, and say how to get its URL.  Nothing here can delay a login or make it fail.
case $- in
*i*)
    if [ -n "${SSH_CONNECTION:-}" ] && [ -t 1 ] && [ -z "${JUPYTER_SERVER_URL:-}${TMUX:-}${STY:-}" ] &&
        [ "$(id -u 2>/dev/null || echo 0)" -ge 1000 ] && [ -x /opt/remote-runtime/run ]; then
        # It shall outlive even a login that ends at once.
        (trap '' HUP && setsid /opt/remote-runtime/run start </dev/null >/dev/null 2>&1 &) 2>/dev/null
        echo 'This machine has Jupyter for you: remote-runtime-url prints its URL.'
    fi
    ;;
esac
