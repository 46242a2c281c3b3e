"""What a kernel says amounts to the right result, whatever order it comes in, and also when some of it is lost."""

from __future__ import annotations

from typing import Any

from remote_runtime.cells import Cell, CellResult, Message, as_output, death


def message(kind: str, parent: str = "mine", **content: Any) -> Message:
    return {"header": {"msg_type": kind}, "parent_header": {"msg_id": parent} if parent else {}, "content": content}


REPLY = message("execute_reply", status="ok", execution_count=3)
IDLE = message("status", execution_state="idle")


def follow(*messages: Message, probe: str = "") -> Cell:
    cell = Cell("mine")
    cell.probe = probe
    for each in messages:
        cell.take(each)
    return cell


def printed(text: str, name: str = "stdout", parent: str = "mine") -> Message:
    return message("stream", parent, name=name, text=text)


def test_it_is_done_when_both_have_come_in_either_order() -> None:
    assert not follow(REPLY).done
    assert not follow(IDLE).done
    assert follow(REPLY, IDLE).done
    assert follow(IDLE, REPLY).done
    assert not follow(message("execute_reply", "another's", status="ok"), IDLE).done


def test_what_others_do_in_the_kernel_is_not_ours() -> None:
    cell = follow(printed("theirs", parent="another's"), printed("ours"), printed("nobody's", parent=""), REPLY, IDLE)
    assert cell.result().text == "ours"


def test_pieces_of_one_stream_are_one_output() -> None:
    cell = follow(printed("a"), printed("b"), printed("!", "stderr"), printed("c"), REPLY, IDLE)
    assert [output["text"] for output in cell.result().outputs] == ["ab", "!", "c"]
    assert cell.result().execution_count == 3


def test_the_output_that_is_told_of_is_the_piece() -> None:
    cell = Cell("mine")
    first, second = cell.take(printed("a")), cell.take(printed("b"))
    assert first and second
    assert (first["text"], second["text"]) == ("a", "b")


def test_outputs_are_cleared_at_once_or_when_the_next_comes() -> None:
    clear, wait = message("clear_output", wait=False), message("clear_output", wait=True)
    assert follow(printed("a"), clear).outputs == []
    assert [output["text"] for output in follow(printed("a"), wait).outputs] == ["a"]
    assert [output["text"] for output in follow(printed("a"), wait, printed("b")).outputs] == ["b"]


def test_a_display_is_updated_where_it_is() -> None:
    def shown(kind: str, text: str) -> Message:
        return message(kind, data={"text/plain": text}, metadata={}, transient={"display_id": "d"})

    cell = follow(shown("display_data", "old"), printed("x"), shown("update_display_data", "new"))
    assert [output.get("data") for output in cell.outputs] == [{"text/plain": "new"}, None]


def test_an_answer_that_was_lost_in_a_cut_is_known_by_the_probe() -> None:
    probed = message("kernel_info_reply", "question", status="ok")
    assert follow(probed, probe="question").lost
    assert not follow(REPLY, probed, probe="question").lost
    assert not follow(probed, probe="another question").lost


def test_after_a_cut_the_end_of_the_probe_is_enough() -> None:
    """Our own `idle` may be among what was lost."""
    cell = follow(REPLY, message("status", "question", execution_state="idle"), probe="question")
    assert cell.done
    assert not cell.result().complete
    assert follow(REPLY, IDLE).result().complete


def test_a_failure_has_all_that_the_kernel_tells() -> None:
    reply = message("execute_reply", status="error", ename="E", evalue="why\x1b[31m", traceback=["a", "b"])
    error = follow(reply, IDLE).result().error
    assert error
    assert (error.ename, error.traceback) == ("E", ("a", "b"))
    assert "\x1b" not in error.message
    aborted = follow(message("execute_reply", status="aborted"), IDLE).result().error
    assert aborted
    assert aborted.message == "The code raised Aborted"


def test_what_a_person_reads() -> None:
    result = {"output_type": "execute_result", "data": {"text/plain": "1"}, "metadata": {}, "execution_count": 1}
    picture = {"output_type": "display_data", "data": {"image/png": "..."}, "metadata": {}}
    error = as_output("error", {"ename": "E", "evalue": "", "traceback": []})
    assert error
    assert CellResult([picture, result, error]).text == "1\n"
    assert CellResult([picture]).data == {}


def test_the_death_of_a_kernel() -> None:
    assert death(message("status", "", execution_state="restarting")) == "restarting"
    assert death(message("status", "", execution_state="dead")) == "dead"
    assert death(IDLE) == death(REPLY) == ""
