"""Keys are exchanged while commands end and streams are busy: nobody waits for himself, and nothing is lost."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from remote_runtime._threads import Deadline
from remote_runtime.ssh import Connection
from remote_runtime.ssh.messages import CLOSE, DATA, EOF
from remote_runtime.ssh.transport import Kind
from tests.netlab import eventually
from tests.openssh import Sshd, StartSshd
from tests.ssh.peers import echo, serving
from tests.ssh.test_connection import log_in, output
from tests.ssh.test_forward import forward_to
from tests.ssh.test_lean import MEGABYTE, talk

KILOBYTE = 1 << 10
OUTPUT_BYTES = 60_000
COMMANDS = 60
PROMPT_SECONDS = 10
"""Nothing here lasts so long, but for a thread that waits for itself: that would be 30 s."""

both = pytest.mark.parametrize("transport", ["lean", "stock"])


def count_exchanges(connection: Connection) -> list[int]:
    """A list that grows by one with each exchange of keys."""
    exchanges: list[int] = []
    transport = connection._transport
    activate = transport._activate_outbound  # type: ignore[attr-defined]
    transport._activate_outbound = lambda: (exchanges.append(1), activate())  # type: ignore[attr-defined]
    return exchanges


@both
def test_commands_may_end_while_keys_are_exchanged(sshd: Sshd, transport: Kind) -> None:
    with log_in(sshd.endpoint(), transport=transport) as connection:
        connection._transport.clear_to_send_timeout = PROMPT_SECONDS  # so that a failure does not last
        exchanges = count_exchanges(connection)
        connection._transport.packetizer.REKEY_BYTES = 64 * KILOBYTE
        for _ in range(COMMANDS):
            lines, status = output(connection, f"head -c {OUTPUT_BYTES} /dev/zero")
            assert (sum(map(len, lines)), status) == (OUTPUT_BYTES, 0)
            assert connection.probe().wait(PROMPT_SECONDS)
        assert len(exchanges) >= COMMANDS // 2, "there were too few exchanges of keys to prove anything"
        assert eventually(lambda: sshd.log.count("Close session") == COMMANDS)


@both
def test_what_is_held_goes_out_in_order_when_the_exchange_is_over(sshd: Sshd, transport: Kind) -> None:
    with log_in(sshd.endpoint(), transport=transport) as connection, ExitStack() as opened:
        ours = connection._transport
        lasting = opened.enter_context(connection.execute("cat", Deadline(20)))
        ending = opened.enter_context(connection.execute("sleep 0.3", Deadline(20)))
        sent: list[int] = []
        send = ours.packetizer.send_message
        ours.packetizer.send_message = lambda message: (sent.append(message.asbytes()[0]), send(message))
        with ours.clear_to_send_lock:
            ours.clear_to_send.clear()  # as if keys were exchanged
        assert ending.wait() == 0
        waiting = ThreadPoolExecutor(1)
        opened.callback(waiting.shutdown)
        written = waiting.submit(lasting.write, b"after it\n")
        assert eventually(lambda: len(ours._held) == 2)
        assert not sent
        with ours.clear_to_send_lock:
            ours.clear_to_send.set()
        written.result(PROMPT_SECONDS)
        assert sent == [EOF, CLOSE, DATA]
        assert next(lasting.lines()) == b"after it"


@both
def test_streams_go_on_through_exchanges_that_we_begin(sshd: Sshd, transport: Kind) -> None:
    with log_in(sshd.endpoint(), transport=transport) as connection:
        exchanges = count_exchanges(connection)
        connection._transport.packetizer.REKEY_BYTES = MEGABYTE
        with serving(echo) as port, forward_to(connection, port) as forward, ThreadPoolExecutor(2) as clients:
            list(clients.map(lambda _: talk(forward.port, 5), range(2)))
        assert len(exchanges) >= 5, "there were too few exchanges of keys to prove anything"


@both
def test_streams_go_on_through_exchanges_that_the_server_begins(start_sshd: StartSshd, transport: Kind) -> None:
    server = start_sshd(RekeyLimit="1M none")
    with log_in(server.endpoint(), transport=transport) as connection:
        exchanges = count_exchanges(connection)
        with serving(echo) as port, forward_to(connection, port) as forward, ThreadPoolExecutor(2) as clients:
            list(clients.map(lambda _: talk(forward.port, 5), range(2)))
        assert len(exchanges) >= 5, "there were too few exchanges of keys to prove anything"
