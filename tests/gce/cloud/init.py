"""The first process of a VM: gives the metadata server its socket, reaps orphans, ends when the cloud does.

Runs by itself in the VM's namespaces: ``init.py HOSTNAME ADDRESS``, with a Unix socket as standard input.
"""

import os
import signal
import socket
import sys


def reap(*_: object) -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass
    except ChildProcessError:
        pass


hostname, address = sys.argv[1:]
signal.signal(signal.SIGCHLD, reap)
socket.sethostname(hostname)
with socket.socket(fileno=0) as control:
    with socket.create_server((address, 80), backlog=32) as listener:
        socket.send_fds(control, [b"ready"], [listener.fileno()])
    control.recv(1)
