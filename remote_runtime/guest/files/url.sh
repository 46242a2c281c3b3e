#!/bin/sh
# Print the URL of the calling user's Jupyter server, which is started if it does not run.
exec /opt/remote-runtime/run url
