"""Messages that a page may send, for tests that make them up; and what must come of any of them."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from hypothesis import strategies as st

from remote_runtime.guest.jupyter_http_over_ws import codec

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=12), inner, max_size=3),
    max_leaves=8,
)
REQUESTS = st.fixed_dictionaries(
    {},
    optional={
        "message_id": JSON,
        "method": JSON | st.sampled_from(["GET", "put", "DELETE"]),
        "path": JSON | st.text() | st.text().map(lambda text: "/probe/echo/" + text),
        "body": JSON,
        "body_base64": JSON | st.binary(max_size=20).map(lambda data: base64.b64encode(data).decode()),
    },
)


def check(message: str | bytes) -> None:
    """Whatever comes of ``message`` can be answered, and the answer is what a browser can read."""
    outcome = codec.decode(message)
    if isinstance(outcome, codec.Refusal):
        frame = strict_json(outcome.frame)
        assert frame["status"] == 400 and frame["done"] is True
    else:
        strict_json(outcome.message_id)
        assert re.fullmatch(r"/[\x21-\x7e]*", outcome.path) and "#" not in outcome.path
        assert re.fullmatch(r"[\x21-\x7e]+", outcome.method)
        frame = strict_json(codec.next_frame(outcome.message_id, outcome.body, done=True))
        assert base64.b64decode(frame["data"]) == outcome.body


def strict_json(text: str | bytes) -> Any:
    """The value of ``text``, which must be JSON as browsers understand it."""

    def refuse(name: str) -> None:
        raise AssertionError(f"{name} is not JSON")

    return json.loads(text, parse_constant=refuse)
