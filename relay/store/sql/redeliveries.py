"""Redeliveries: many deliveries told again, batch by batch.

A batch is found on a reading connection, and put into force with the position behind it in one
transaction: whoever changed between the two is looked at there again. What may be done with a
redelivery is ``domain/redelivery.py``'s business.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from relay.domain import model
from relay.domain import redelivery as rules
from relay.store import base
from relay.store import redeliveries as stored
from relay.store.sql import batches, database, outbox, rows
from relay.store.sql.part import Part
from relay.store.sql.queries import QUERIES

CHUNK: Final = 2000
"""Deliveries that one statement looks at: a few milliseconds on a reading connection."""

LOOK_MAX: Final = 10_000
"""Deliveries that are looked at for one batch."""

_ENDED: Final = frozenset({model.DeliveryState.DELIVERED, model.DeliveryState.SUPERSEDED})
"""States that most deliveries end in; the others have an index of their own."""


class Redeliveries(Part):
    """``stored.Redeliveries`` on a ``Database``."""

    async def selected(
        self, selection: rules.Selection, *, before: float, sample: int
    ) -> tuple[int, list[model.Delivery]]:
        """See ``stored.Redeliveries.selected``."""
        scan = _scan(selection, before=before)
        count, first, position = 0, list[str](), scan.start
        while True:
            found = await self._look(scan, after=position, limit=CHUNK)
            count += len(found.passing)
            first += [row_id for _, row_id in found.passing[: sample - len(first)]]
            if not found.more:
                break
            position = found.last
        if not first:
            return count, []
        wanted = batches.rows({"id": each} for each in first)
        listed = [*map(rows.delivery, await self._database.read(QUERIES["select_deliveries"], wanted))]
        listed.sort(key=lambda delivery: (delivery.created_at, delivery.id))
        return count, listed

    async def add_redelivery(self, made: rules.Redelivery) -> None:
        """See ``stored.Redeliveries.add_redelivery``."""
        fixed = {
            "selection": rows.document(_selection_document(made.selection)),
            "created_by": made.created_by,
            "created_at": made.created_at,
        }
        await self._write(QUERIES["insert_redelivery"], _standing(made) | fixed)

    async def redelivery(self, redelivery_id: str) -> rules.Redelivery | None:
        """See ``stored.Redeliveries.redelivery``."""
        found = await self._database.read(QUERIES["select_redelivery"], {"id": redelivery_id})
        return _redelivery(found[0]) if found else None

    async def redeliveries(
        self, state: rules.State | None, *, before: base.Position | None, limit: int
    ) -> base.Page[rules.Redelivery]:
        """See ``stored.Redeliveries.redeliveries``."""
        before_at, before_id = before or (math.inf, "")
        parameters = {"state": state, "before_at": before_at, "before_id": before_id, "limit": limit + 1}
        statement = QUERIES["list_redeliveries"] if state is None else QUERIES["list_redeliveries_in_state"]
        found = [_redelivery(row) for row in await self._database.read(statement, parameters)]
        last = found[limit - 1] if len(found) > limit else None
        return base.Page(rows=found[:limit], next=None if last is None else (last.created_at, last.id))

    async def running_redeliveries(self) -> list[rules.Redelivery]:
        """See ``stored.Redeliveries.running_redeliveries``."""
        found = await self._database.read(QUERIES["list_running_redeliveries"], {})
        return [_redelivery(row) for row in found]

    async def change_redelivery(
        self, redelivery_id: str, action: rules.Action, *, rate: float | None, now: float
    ) -> rules.Redelivery | None:
        """See ``stored.Redeliveries.change_redelivery``."""

        async def work(transaction: database.Transaction) -> rules.Redelivery | None:
            found = await transaction.fetch(QUERIES["select_redelivery"], {"id": redelivery_id})
            if not found:
                return None
            changed = rules.after(_redelivery(found[0]), action, rate=rate, now=now)
            await transaction.fetch(QUERIES["update_redelivery"], _standing(changed))
            return changed

        return await self._database.transact(work)

    async def advance_redelivery(
        self,
        running: rules.Redelivery,
        turn: rules.Turn,
        *,
        known: Collection[str],
        now: float,
    ) -> stored.Advanced | None:
        """See ``stored.Redeliveries.advance_redelivery``."""
        scan = _scan(running.selection, before=running.created_at)
        batch = await self._find(scan, after=running.position or scan.start, limit=turn.limit)
        due = {each: turn.start + place * turn.pause for place, each in enumerate(batch.ids)}

        async def work(transaction: database.Transaction) -> stored.Advanced | None:
            [*found] = await transaction.fetch(QUERIES["select_redelivery"], {"id": running.id})
            current = _redelivery(found[0]) if found else None
            if (
                current is None
                or current.state is not rules.State.RUNNING
                or current.position != running.position
            ):
                return None
            moved: Sequence[database.Row] = ()
            if due:
                moved = await outbox.redeliver(transaction, due, state=running.selection.state, known=known)
            changed = rules.advanced(
                current,
                moved=len(moved),
                skipped=len(due) - len(moved),
                position=current.position if batch.position == scan.start else batch.position,
                paced_until=max((due[row[0]] + turn.pause for row in moved), default=turn.start),
                ended=batch.ended,
                now=now,
            )
            await transaction.fetch(QUERIES["update_redelivery"], _standing(changed))
            return stored.Advanced(redelivery=changed, moved=len(moved), due=_earliest(moved))

        return await self._database.transact(work)

    async def count_redeliveries(self) -> Mapping[rules.State, int]:
        """See ``stored.Redeliveries.count_redeliveries``."""
        counted = await self._database.read(QUERIES["count_redeliveries"], {})
        return {rules.State(row[0]): row[1] for row in counted}

    async def purge_redeliveries(self, *, previews_before: float, ended_before: float, limit: int) -> int:
        """See ``stored.Redeliveries.purge_redeliveries``."""
        previews = {"before": previews_before, "limit": limit}
        gone = len(await self._write(QUERIES["purge_previews"], previews))
        ended = {"before": ended_before, "limit": limit}
        return gone + len(await self._write(QUERIES["purge_ended_redeliveries"], ended))

    async def _find(self, scan: _Scan, *, after: base.Position, limit: int) -> _Batch:
        """The next ``limit`` deliveries behind ``after`` that are selected, or those that a bounded look
        finds of them."""
        ids: list[str] = []
        position, looked_at = after, 0
        while looked_at < LOOK_MAX:
            size = limit + 1 if scan.matches is None else CHUNK
            found = await self._look(scan, after=position, limit=size)
            looked_at += found.looked_at
            room = limit - len(ids)
            ids += [row_id for _, row_id in found.passing[:room]]
            if len(found.passing) > room:
                # The rest is for the next batch, which begins behind the last one taken.
                last = found.passing[room - 1] if room else position
                return _Batch(ids=ids, position=last, ended=False)
            position = found.last
            if not found.more:
                return _Batch(ids=ids, position=position, ended=True)
        return _Batch(ids=ids, position=position, ended=False)

    async def _look(self, scan: _Scan, *, after: base.Position, limit: int) -> _Found:
        """Up to ``limit`` deliveries behind ``after``, and those of them that are selected."""
        parameters = {
            **scan.filters,
            "after_at": after[0],
            "after_id": after[1],
            "until": scan.until,
            "limit": limit,
        }
        walked = [(row[0], row[1]) for row in await self._database.read(scan.positions, parameters)]
        passing = walked
        if scan.matches is not None and walked:
            put = {**scan.filters, **batches.rows({"id": row_id} for _, row_id in walked)}
            matching = {row[0] for row in await self._database.read(scan.matches, put)}
            passing = [row for row in walked if row[1] in matching]
        return _Found(
            passing=passing,
            last=walked[-1] if walked else after,
            more=len(walked) == limit,
            looked_at=len(walked),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Scan:
    """A way through the deliveries, oldest first: a statement by an index, and what it does not serve."""

    positions: str
    matches: str | None
    filters: Mapping[str, object]
    start: base.Position
    until: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """``last`` is where to look on; ``more`` says whether there may be any."""

    passing: list[base.Position]
    last: base.Position
    more: bool
    looked_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Batch:
    """``position`` is of the last delivery looked at, ``ended`` says that none is left."""

    ids: list[str]
    position: base.Position
    ended: bool


def _scan(selection: rules.Selection, *, before: float) -> _Scan:
    statement, served = _index(selection)
    filters = rows.delivery_filters(
        base.DeliveryFilter(
            state=selection.state,
            destination=selection.destination,
            task=selection.task,
            type=selection.type,
            reason=selection.reason,
        )
    )
    unserved = any(filters[name] is not None for name in filters.keys() - {served})
    after, until = selection.created_after, selection.created_before
    return _Scan(
        positions=statement,
        matches=QUERIES["match_deliveries"] if unserved else None,
        filters=filters,
        start=(-math.inf if after is None else after, ""),
        until=before if until is None else min(before, until),
    )


def _index(selection: rules.Selection) -> tuple[str, str | None]:
    """The statement that walks the index with the fewest rows that pass, and the filter it serves."""
    if selection.task is not None:
        return QUERIES["scan_deliveries_of_task"], "task"
    if selection.state not in _ENDED:
        return QUERIES["scan_open_deliveries"], "state"
    if selection.destination is not None:
        return QUERIES["scan_deliveries_of_destination"], "destination"
    return QUERIES["scan_deliveries"], None


def _earliest(moved: Sequence[database.Row]) -> dict[str, float]:
    due: dict[str, float] = {}
    for _, destination, at in moved:
        if at is not None:
            due[destination] = min(due.get(destination, math.inf), at)
    return due


def _standing(one: rules.Redelivery) -> dict[str, object]:
    """What changes of a redelivery, and its id."""
    at, row_id = one.position or (None, None)
    return {
        "id": one.id,
        "state": one.state,
        "rate": one.rate,
        "count": one.count,
        "done": one.done,
        "skipped": one.skipped,
        "position_at": at,
        "position_id": row_id,
        "paced_until": one.paced_until,
        "changed_at": one.changed_at,
        "finished_at": one.finished_at,
    }


def _redelivery(row: database.Row) -> rules.Redelivery:
    return rules.Redelivery(
        id=row[0],
        state=rules.State(row[1]),
        selection=_selection(rows.parsed(row[2])),
        rate=row[3],
        count=row[4],
        done=row[5],
        skipped=row[6],
        position=None if row[7] is None else (row[7], row[8]),
        paced_until=row[9],
        created_by=row[10],
        created_at=row[11],
        changed_at=row[12],
        finished_at=row[13],
    )


def _selection_document(selection: rules.Selection) -> dict[str, object]:
    return {
        "state": selection.state,
        "destination": selection.destination,
        "reason": selection.reason,
        "type": selection.type,
        "task": selection.task,
        "reference": selection.reference,
        "created_after": selection.created_after,
        "created_before": selection.created_before,
    }


def _selection(found: Mapping[str, Any]) -> rules.Selection:
    return rules.Selection(**{**found, "state": model.DeliveryState(found["state"])})
