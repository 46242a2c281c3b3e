#!/bin/sh
# Remove all that the startup script of remote-runtime has made on this machine, and every user's server with it.
exec /opt/remote-runtime/run remove
