"""Opaque positions in lists: base64url text that says after which row to go on.

A cursor is not secret and not signed; one that was not made here is refused, never guessed at.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import math
import re
from collections.abc import Mapping
from typing import Final

from relay.web import problems

_ID: Final = re.compile(r"[a-z]{3}_[a-z2-7]{1,64}")
_SEQ: Final = re.compile(r"[0-9]{1,18}")
_ANY_TASK: Final = "tsk_any"
_DIGEST_LENGTH: Final = 12


def digest(filters: Mapping[str, object]) -> str:
    """What stands for ``filters`` in a cursor; those that are ``None`` or empty are as if left out."""
    given = sorted((name, str(value)) for name, value in filters.items() if value not in (None, {}))
    return hashlib.sha256(repr(given).encode()).hexdigest()[:_DIGEST_LENGTH] if given else ""


def of_row(created_at: float, row_id: str, *, filters: str = "") -> str:
    """Behind the row with that ``created_at`` (epoch seconds) and id, in the list of these filters."""
    return _encode(f"{created_at!r},{row_id},{filters}")


def row(text: str | None, *, prefix: str, filters: str = "") -> tuple[float, str] | None:
    """Take such a cursor apart; ``None`` stays ``None``.

    ``prefix`` is that of the ids listed and ``filters`` their digest, so that a cursor of another
    list is refused. Raises ``problems.Problem`` 422.
    """
    if text is None:
        return None
    at, rest = _decode(text)
    row_id, _, made_for = rest.partition(",")
    if not _ID.fullmatch(row_id) or not row_id.startswith(f"{prefix}_"):
        raise _bad()
    try:
        created_at = float(at)
    except ValueError:
        raise _bad() from None
    if not math.isfinite(created_at):
        raise _bad()
    if made_for != filters:
        raise problems.invalid(
            [problems.Fault("was made with other filters; leave it out to start again", parameter="cursor")]
        )
    return created_at, row_id


def of_event(task: str, seq: int) -> str:
    """Behind the event ``seq`` of relay's task ``task``; 0 is before the first."""
    return _encode(f"{seq},{task}")


def event(text: str | None, *, task: str) -> int:
    """The ``seq`` of such a cursor of ``task``; 0 for ``None``. Raises ``problems.Problem`` 422."""
    if text is None:
        return 0
    seq, owner = _decode(text)
    if owner != task or not _SEQ.fullmatch(seq):
        raise _bad()
    return int(seq)


def of_any_event(seq: int) -> str:
    """Behind the event ``seq`` of whichever task."""
    return of_event(_ANY_TASK, seq)


def any_event(text: str) -> int:
    """The ``seq`` of a cursor of any task. Raises ``problems.Problem`` 422."""
    seq, owner = _decode(text)
    if not _ID.fullmatch(owner) or not _SEQ.fullmatch(seq):
        raise _bad()
    return int(seq)


def _encode(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode("ascii")).decode("ascii").rstrip("=")


def _decode(text: str) -> tuple[str, str]:
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise _bad() from None
    position, _, rest = raw.partition(",")
    return position, rest


def _bad() -> problems.Problem:
    return problems.invalid(
        [problems.Fault("is not a cursor of this list; leave it out to start again", parameter="cursor")]
    )
