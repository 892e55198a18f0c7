"""Where reading goes on: cursors (stored) and validators (in memory). Pure, no I/O.

A cursor is opaque to everyone else. It says how much of the last answer was taken (a count and a
hash over it) and, by the most trusted means there is, where the upstream should go on:

- ``c`` the upstream's ``next_cursor``, sent back as ``?cursor=``
- ``i`` the last event's own id, looked for in the list (no upstream says that it takes one back)
- ``s`` the SSE id, sent back as ``Last-Event-ID``
- ``n`` nothing: the count and hash alone

Whatever is sent, the upstream may ignore it and answer from the start again. So an answer that
begins with exactly what was taken before is skipped that far, and any other is new from its
first event on. Reading an event twice is harmless (stores know it by its key); skipping one is
not, so every doubt, a foreign cursor included, means: from the start.

A validator belongs to the cursor that its page gave and is worth nothing with another: a page
whose cursor was not stored is read again in full.
"""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from relay.upstreams import events

NEXT_CURSOR: Final = "c"
OWN_ID: Final = "i"
SSE_ID: Final = "s"
INDEX: Final = "n"

_CURSORS_MAX: Final = 4_096
"""Cursors and validators kept taken apart: a poll without news asks with those it had."""

_CURSOR: Final = re.compile(
    r"([cisn])([0-9]{1,9})\.([0-9a-f]{32})\.([0-9a-f]{24}|)\.([^\x00-\x1f\x7f]{0,512})"
)
# Cursors and ids of an upstream over 512 characters are not trusted with a URL or header.
_TOKEN: Final = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,512}")
_HEADER_TOKEN: Final = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,510}[\x21-\x7e])?")
_ETAG: Final = re.compile(r"(W/)?\"[\x21\x23-\x7e]{0,256}\"")


@dataclass(frozen=True, slots=True)
class Cursor:
    """A cursor taken apart. ``last`` is the fingerprint of the last event taken."""

    tag: str
    count: int
    digest: str
    last: str
    token: str

    def __str__(self) -> str:
        return f"{self.tag}{self.count}.{self.digest}.{self.last}.{self.token}"

    @property
    def query(self) -> str | None:
        """What to send as ``?cursor=``, or ``None``."""
        return self.token if self.tag == NEXT_CURSOR else None

    @property
    def last_event_id(self) -> str | None:
        """What to send as ``Last-Event-ID``, or ``None``."""
        return self.token if self.tag == SSE_ID else None


def sent(cursor: Cursor | None) -> tuple[str | None, str | None] | None:
    """What an upstream sees of a cursor, ``None`` for nothing: equal means the same question."""
    if cursor is None or cursor.tag not in (NEXT_CURSOR, SSE_ID):
        return None
    return cursor.query, cursor.last_event_id


@functools.lru_cache(maxsize=_CURSORS_MAX)
def parse(text: str | None) -> Cursor | None:
    """The cursor, or ``None`` (from the start) where there is none or it is not one of ours."""
    if text is None or (match := _CURSOR.fullmatch(text)) is None:
        return None
    tag, count, digest, last, token = match.groups()
    if tag == SSE_ID and _HEADER_TOKEN.fullmatch(token) is None:
        return None
    if tag == NEXT_CURSOR and _TOKEN.fullmatch(token) is None:
        return None
    return Cursor(tag, int(count), digest, last, token)


def resume(cursor: Cursor | None, found: Sequence[events.Entry]) -> int:
    """The index of the first event in ``found`` that was not taken yet."""
    if cursor is None:
        return 0
    if cursor.count <= len(found) and _digest(found[: cursor.count]) == cursor.digest:
        return cursor.count
    if cursor.tag != OWN_ID:
        return 0
    for index in range(min(len(found), cursor.count - 1) - 1, -1, -1):
        entry = found[index]
        if entry.event.id == cursor.token and entry.fingerprint == cursor.last:
            # The upstream keeps a window and dropped its oldest. A cursor never passes an end, so
            # an end before it was written there since: then nothing here can be relied on.
            ended = any(_ends(skipped) for skipped in found[: index + 1])
            return 0 if ended else index + 1
    return 0


def advance(
    before: Cursor | None, listing: events.Listing, found: Sequence[events.Entry], taken: int
) -> Cursor:
    """The cursor after the first ``taken`` of ``found`` (at least one), by the most trusted means."""
    last = found[taken - 1]
    tag, token = INDEX, ""
    whole = taken == len(found) and listing.complete
    if not whole and before is not None and sent(before) is not None:
        tag, token = before.tag, before.token  # the same question again, taken further
    elif whole and listing.next_cursor is not None and _TOKEN.fullmatch(listing.next_cursor):
        tag, token = NEXT_CURSOR, listing.next_cursor
    elif listing.resume_id is not None and whole and _HEADER_TOKEN.fullmatch(listing.resume_id) is not None:
        tag, token = SSE_ID, listing.resume_id
    elif listing.resume_id is None and last.event.id is not None and _TOKEN.fullmatch(last.event.id):
        tag, token = OWN_ID, last.event.id
    return Cursor(tag, taken, _digest(found[:taken]), last.fingerprint, token)


def _digest(found: Sequence[events.Entry]) -> str:
    digest = hashlib.sha256()
    for entry in found:
        digest.update(entry.fingerprint.encode("ascii"))
    return digest.hexdigest()[:32]


def _ends(entry: events.Entry) -> bool:
    status = entry.event.snapshot.status
    return status is not None and status.terminal


class Validator(NamedTuple):
    """What the last answer of one route looked like, for the question with one cursor.

    ``route`` tells the events endpoint from the task endpoint. ``digest`` is of the body's bytes,
    ``meaning`` of the task body in it (``""``: none), ``etag`` to be sent back verbatim (``""``:
    none).
    """

    cursor: str | None
    route: str
    digest: str
    meaning: str = ""
    etag: str = ""

    def __str__(self) -> str:
        return "\n".join((self.cursor or "", self.route, self.digest, self.meaning, self.etag))


@functools.lru_cache(maxsize=_CURSORS_MAX)
def parse_validator(text: str | None, *, cursor: str | None, route: str) -> Validator | None:
    """The validator if it belongs to this cursor and route, else ``None``."""
    if text is None:
        return None
    parts = text.split("\n")
    if len(parts) != 5 or parts[0] != (cursor or "") or parts[1] != route:
        return None
    return Validator(cursor, route, parts[2], parts[3], parts[4])


def etag(header: str | None) -> str:
    """An ``ETag`` header fit to be sent back, else ``""``."""
    return header if header is not None and _ETAG.fullmatch(header) else ""
