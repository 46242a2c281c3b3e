"""The proof that a server holds its token, without showing it: HMAC-SHA256(token, nonce).  Pure.

Whoever is about to send a token to a port asks for this first: another user's program that took the port can't answer.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import Optional

_NONCE = re.compile(r"(?:[0-9A-Fa-f]{2}){16,64}")


def answer(token: str, nonce: str) -> Optional[str]:
    """The proof for ``nonce`` in hexadecimal, or None if the nonce is not 16 to 64 bytes in hexadecimal.

    The message that is authenticated is the nonce's text as it was sent.
    """
    if not _NONCE.fullmatch(nonce):
        return None
    return hmac.new(token.encode("utf-8"), nonce.encode("ascii"), hashlib.sha256).hexdigest()
