"""A laboratory network: two machines on one, and a line between them that is as bad as one likes.

::

    with Netlab(rtt_ms=40, mbit=100) as lab:
        lab.far.popen(["sshd", "-D", ...])                  # listens in the far namespace
        with lab.near.in_namespace():                       # this thread, until the block ends
            client = socket.create_connection((lab.far.address, 22))
        lab.black_hole(seconds=5)

``lab.near`` and ``lab.far`` are network namespaces: whatever was made in one (a process by ``popen`` and ``run``, a
socket or a thread in an ``in_namespace()`` block) stays in it.  A TUN device in each is one end of the line, a process
of ours that holds every packet back for half the round trip, lets it wait for its turn at the given bandwidth, and
drops it where it should.  No part of the kernel is needed for that besides TUN.

What can go wrong on demand: ``set(rtt_ms=, mbit=, queue_bytes=, loss=)``, ``black_hole(seconds)`` and ``lift()``,
``reset_connections(port)``, ``move_near(address)`` and ``move_far(address)``, ``far.frozen()``.  ``statistics()`` tells
what was carried and dropped, and whether this machine was quick enough for the figures to mean something.

Rules of the game:

* It needs root, iproute2 and ``/dev/net/tun``; ``unavailable()`` gives the reason where something is missing.
* The addresses are 10.77.0.1 (near) and 10.77.0.2 (far) in namespaces of their own, so any number of laboratories can
  run at a time; nothing of this machine's own network is touched, and nothing gets out.
* Everything goes away with the block: processes in the namespaces are killed, also those that detached themselves.
  After a ``kill -9`` of the user the line does it; had that died too, the next laboratory does.
* From 200 Mbit/s on and without loss the line carries TCP in bundles of up to 64 KiB, as network cards do, which are
  counted as the packets that they stand for.  ``python -m benchmarks.netlab.capacity`` tells what it carries here.

``servers.py`` has a byte server (echo, source, sink with checksum) and its client.
"""

from benchmarks.netlab.lab import Netlab, Statistics, unavailable
from benchmarks.netlab.namespace import Namespace, NetlabError
from benchmarks.netlab.shaping import Counters, Wire

__all__ = ["Counters", "Namespace", "Netlab", "NetlabError", "Statistics", "Wire", "unavailable"]
