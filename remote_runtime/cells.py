"""What a kernel says while it runs one piece of code, and what that amounts to.  Pure.

Messages are those of Jupyter's messaging protocol, outputs have the shape that notebooks (nbformat 4) give them.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from typing import Any

from remote_runtime.errors import CellError
from remote_runtime.text import printable

Message = dict[str, Any]
Output = dict[str, Any]


@dataclass(frozen=True)
class CellResult:
    """What a piece of code gave.

    ``outputs`` can be put into a notebook's cell as they are, and so can ``execution_count``.  ``error`` is the
    exception that the code raised, if it did.  ``complete`` is False if the connection was cut while it ran: then how
    it ended is known, but some of its outputs may be missing.
    """

    outputs: list[Output] = field(default_factory=list)
    execution_count: int | None = None
    error: CellError | None = None
    complete: bool = True

    @property
    def text(self) -> str:
        """What a person would read: printed text, and the plain text of results and of what was displayed."""
        return "".join(map(_text, self.outputs))

    @property
    def data(self) -> dict[str, Any]:
        """The value of its last expression in all forms that the kernel offers, by MIME type; empty if it has none."""
        results = [output for output in self.outputs if output["output_type"] == "execute_result"]
        return results[-1]["data"] if results else {}


def _text(output: Output) -> str:
    if output["output_type"] == "stream":
        return str(output["text"])
    plain = output.get("data", {}).get("text/plain")
    return f"{plain}\n" if plain is not None else ""


class Cell:
    """Follows the request ``request_id``, message by message, until it is :attr:`done`.

    ``probe`` is the id of a question that was asked after a cut: the kernel answers in order, so its answer without
    ours before it says that ours was lost.
    """

    def __init__(self, request_id: str) -> None:
        self._request = request_id
        self.probe = ""
        self.outputs: list[Output] = []
        self._displays: dict[str, list[Output]] = {}
        self._clear_next = False
        self._reply: dict[str, Any] | None = None
        self._idle = False
        self._probed = False

    @property
    def done(self) -> bool:
        """Whether the kernel has answered and all outputs have come."""
        return self._reply is not None and self._idle

    @property
    def lost(self) -> bool:
        """Whether the answer was lost in a cut."""
        return self._reply is None and self._probed

    def take(self, message: Message) -> Output | None:
        """The next message; the output that it brings, if it does."""
        kind, content = message["header"]["msg_type"], message["content"]
        parent = message.get("parent_header", {}).get("msg_id")
        idle = kind == "status" and content["execution_state"] == "idle"
        if parent == self._request:
            if kind == "execute_reply":
                self._reply = content
            self._idle = self._idle or idle
            return self._output(kind, content)
        if parent and parent == self.probe:
            self._probed = self._probed or kind == "kernel_info_reply"
            self._idle = self._idle or idle  # what was still to come of ours has come before it, or never will
        return None

    def result(self) -> CellResult:
        """What it amounts to, once it is done."""
        reply = self._reply or {}
        error = None
        if reply.get("status") != "ok":
            error = _failure(reply)
        result = CellResult(self.outputs, reply.get("execution_count"), error, complete=not self.probe)
        if error:
            error.result = result
        return result

    def _output(self, kind: str, content: dict[str, Any]) -> Output | None:
        if kind == "clear_output":
            self._clear_next = bool(content.get("wait"))
            if not self._clear_next:
                self.outputs.clear()
            return None
        if kind == "update_display_data":
            for shown in self._displays.get(content.get("transient", {}).get("display_id", ""), ()):
                shown.update(data=content["data"], metadata=content["metadata"])
            return None
        output = as_output(kind, content)
        if output:
            if self._clear_next:
                self.outputs.clear()
                self._clear_next = False
            self._append(output, content.get("transient", {}).get("display_id"))
        return output

    def _append(self, output: Output, display_id: str | None) -> None:
        last = self.outputs[-1] if self.outputs else {}
        if output["output_type"] == "stream" and last.get("name") == output["name"]:
            last["text"] += output["text"]
            return
        kept = copy.copy(output)  # the one that is told of stays as it came
        self.outputs.append(kept)
        if display_id:
            self._displays.setdefault(display_id, []).append(kept)


def _failure(reply: dict[str, Any]) -> CellError:
    ename, evalue = printable(str(reply.get("ename", "Aborted"))), printable(str(reply.get("evalue", "")))
    lines = tuple(str(line) for line in reply.get("traceback", ()))
    message = f"The code raised {ename}: {evalue}" if evalue else f"The code raised {ename}"
    return CellError(message, ename=ename, evalue=evalue, traceback=lines)


def as_output(kind: str, content: dict[str, Any]) -> Output | None:
    """The output that a message is, as a notebook has it; None for a message that is none."""
    if kind == "stream":
        return {"output_type": kind, "name": content["name"], "text": content["text"]}
    if kind == "error":
        return {"output_type": kind, **{name: content[name] for name in ("ename", "evalue", "traceback")}}
    if kind not in ("execute_result", "display_data"):
        return None
    output = {"output_type": kind, "data": content["data"], "metadata": content["metadata"]}
    if kind == "execute_result":
        output["execution_count"] = content["execution_count"]
    return output


def death(message: Message) -> str:
    """``restarting`` or ``dead`` if the message says that the kernel's process has ended by itself, else nothing."""
    if message["header"]["msg_type"] != "status":
        return ""
    state = message["content"]["execution_state"]
    return str(state) if state in ("restarting", "dead") else ""
