"""What every verb is given besides its request."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Mapping

    from .clock import Deadline
    from .paths import State
    from .wire import Wire


class Context:
    """``program`` is the path of the guest program's own file, ``users_umask`` the one that the login had."""

    def __init__(
        self,
        *,
        state: State,
        wire: Wire,
        deadline: Deadline,
        program: str,
        environ: Mapping[str, str],
        users_umask: int,
    ) -> None:
        self.state = state
        self.wire = wire
        self.deadline = deadline
        self.program = program
        self.environ = environ
        self.users_umask = users_umask
