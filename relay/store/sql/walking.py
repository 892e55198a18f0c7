"""Pages of lists: positions by index first, then the filters that no index serves, then the rows.

A page is found by walking one index in the order of the list. Filters beside the index's own are
put to ``CHUNK`` rows at a time, and one page looks at ``WALK_MAX`` rows at most: a filter that
nearly nothing passes gives short pages with a position to go on from, never a slow statement.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from relay.store import base
from relay.store.sql import batches, database

CHUNK: Final = 500
"""Rows that the other filters are put to in one statement: about a millisecond on a reading connection."""

WALK_MAX: Final = 10_000
"""Rows that one page looks at. Measured over HTTP (`bench lists`): 25 ms for a search of text that none of
them holds, 45 ms for a member of metadata that none has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Walk:
    """A list to walk: its statements and their parameters.

    ``positions`` gives (``created_at``, ``id``) before a position, newest first, by an index.
    ``matches`` gives those of some ids that pass the filters; ``None`` where all of them do.
    """

    positions: str
    matches: str | None
    filters: Mapping[str, object]
    created_after: float | None
    created_before: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """The ids of a page in order, and where the next one begins; ``None`` when there is none."""

    ids: list[str]
    next: base.Position | None


async def walk(target: database.Database, plan: Walk, *, before: base.Position | None, limit: int) -> Found:
    """The next ``limit`` rows before ``before`` (``None``: from the newest on) that pass."""
    found: list[base.Position] = []
    walked, position = 0, _start(before, plan.created_before)
    size = limit + 1 if plan.matches is None else CHUNK
    while True:
        rows = await _positions(target, plan, before=position, limit=size)
        passing = await _passing(target, plan, [row_id for _, row_id in rows])
        passed = [row for row in rows if row[1] in passing]
        room = limit - len(found)
        found += passed[:room]
        if len(passed) > room:
            return _found(found, next_=found[-1])
        if len(rows) < size:
            return _found(found, next_=None)
        if len(found) == limit:
            return _found(found, next_=found[-1])
        position = rows[-1]
        walked += len(rows)
        if walked >= WALK_MAX:
            return _found(found, next_=position)


def _start(before: base.Position | None, created_before: float | None) -> base.Position:
    limits = [] if before is None else [before]
    if created_before is not None:
        limits.append((created_before, ""))  # before the first id of that instant
    return min(limits, default=(math.inf, ""))


async def _positions(
    target: database.Database, plan: Walk, *, before: base.Position, limit: int
) -> list[base.Position]:
    parameters = {
        **plan.filters,
        "before_at": before[0],
        "before_id": before[1],
        "since": -math.inf if plan.created_after is None else plan.created_after,
        "limit": limit,
    }
    return [(row[0], row[1]) for row in await target.read(plan.positions, parameters)]


async def _passing(target: database.Database, plan: Walk, ids: Sequence[str]) -> Collection[str]:
    if plan.matches is None or not ids:
        return set(ids)
    parameters = {**plan.filters, **batches.rows({"id": each} for each in ids)}
    return {row[0] for row in await target.read(plan.matches, parameters)}


def _found(found: Sequence[base.Position], *, next_: base.Position | None) -> Found:
    return Found(ids=[row_id for _, row_id in found], next=next_)
