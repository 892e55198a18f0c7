"""Opaque positions in lists: base64url text that says after which row to go on.

A cursor is not secret and not signed; one that was not made here is refused, never guessed at.
"""

from __future__ import annotations

import base64
import binascii
import math
import re

from relay.web import problems

_ID = re.compile(r"[a-z]{3}_[a-z2-7]{1,64}")


def of_row(created_at: float, row_id: str) -> str:
    """Behind the row with that ``created_at`` (epoch seconds) and id."""
    return _encode(f"{created_at!r},{row_id}")


def row(text: str | None, *, prefix: str) -> tuple[float, str] | None:
    """Take such a cursor apart; ``None`` stays ``None``.

    ``prefix`` is that of the ids listed, so that a cursor of another list is refused. Raises
    ``problems.Problem`` 422.
    """
    if text is None:
        return None
    at, row_id = _decode(text)
    try:
        created_at = float(at)
    except ValueError:
        raise _bad() from None
    if not math.isfinite(created_at) or not row_id.startswith(f"{prefix}_"):
        raise _bad()
    return created_at, row_id


def of_event(task: str, seq: int) -> str:
    """Behind the event ``seq`` of relay's task ``task``; 0 is before the first."""
    return _encode(f"{seq},{task}")


def event(text: str | None, *, task: str) -> int:
    """The ``seq`` of such a cursor of ``task``; 0 for ``None``. Raises ``problems.Problem`` 422."""
    if text is None:
        return 0
    seq, owner = _decode(text)
    if owner != task or not re.fullmatch(r"[0-9]{1,18}", seq):
        raise _bad()
    return int(seq)


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def _decode(text: str) -> tuple[str, str]:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise _bad() from None
    position, _, row_id = raw.partition(",")
    if not _ID.fullmatch(row_id):
        raise _bad()
    return position, row_id


def _bad() -> problems.Problem:
    return problems.invalid(
        [problems.Fault("is not a cursor of this list; leave it out to start again", parameter="cursor")]
    )
