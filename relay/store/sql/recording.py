"""One fact about a task, stored whole: what ``writing.py`` runs in its transaction.

The compare-and-set decides who wins; every later statement gets the winners only. A statement
with nothing to do is not run.
"""

from __future__ import annotations

from collections.abc import Sequence

from relay.domain import reasons
from relay.store import base
from relay.store.sql import batches, database, outbox, rows
from relay.store.sql.queries import QUERIES


async def store(
    transaction: database.Transaction, writes: Sequence[base.TaskWrite]
) -> list[base.Recorded | None]:
    """Store the writes that win. No two of them may be about one task."""
    won = await _compare_and_set(transaction, writes)
    winners = [write for write in writes if write.task.id in won]
    added: frozenset[str] = frozenset()
    if winners:
        await _store_events(transaction, winners)
        await _store_registrations(transaction, winners)
        deliveries = [delivery for write in winners for delivery in write.deliveries]
        added = await outbox.insert(transaction, deliveries)
        await _supersede(transaction, winners)
        await _resolve_submissions(transaction, winners)
    return [_recorded(write, added) if write.task.id in won else None for write in writes]


def _recorded(write: base.TaskWrite, added: frozenset[str]) -> base.Recorded:
    return base.Recorded(deliveries=added.intersection(delivery.id for delivery in write.deliveries))


async def _compare_and_set(
    transaction: database.Transaction, writes: Sequence[base.TaskWrite]
) -> frozenset[str]:
    """Write the tasks; relay's ids of those that won."""
    new: list[dict[str, object]] = []
    changed: list[dict[str, object]] = []
    for write in writes:
        expected = write.expected_version
        assert expected is None or write.task.version > expected, "a write must raise the version"
        row = rows.task_row(write.task, expected_version=expected)
        (new if expected is None else changed).append(row)
    won: list[database.Row] = []
    if new:
        won += await transaction.fetch(QUERIES["insert_tasks"], batches.rows(new))
    if changed:
        won += await transaction.fetch(QUERIES["update_tasks"], batches.rows(changed))
    return frozenset(row[0] for row in won)


async def _store_events(transaction: database.Transaction, winners: Sequence[base.TaskWrite]) -> None:
    events = [
        rows.event_row(write.task.id, event, recorded_at=write.recorded_at)
        for write in winners
        for event in write.events
    ]
    if events:
        await transaction.fetch(QUERIES["insert_events"], batches.rows(events))


async def _store_registrations(transaction: database.Transaction, winners: Sequence[base.TaskWrite]) -> None:
    dropped = [
        {"task": write.task.id, "key_id": write.unregister}
        for write in winners
        if write.unregister is not None
    ]
    if dropped:
        await transaction.fetch(QUERIES["delete_registrations"], batches.rows(dropped))
    kept = [
        rows.registration_row(write.task.id, write.register)
        for write in winners
        if write.register is not None
    ]
    if kept:
        await transaction.fetch(QUERIES["upsert_registrations"], batches.rows(kept))


async def _supersede(transaction: database.Transaction, winners: Sequence[base.TaskWrite]) -> None:
    ended = [{"id": write.task.id} for write in winners if write.supersede]
    if ended:
        parameters = {**batches.rows(ended), "overtaken": reasons.Reason.NEWER_TOLD}
        await outbox.restore(
            transaction, await transaction.fetch(QUERIES["supersede_deliveries"], parameters)
        )


async def _resolve_submissions(transaction: database.Transaction, winners: Sequence[base.TaskWrite]) -> None:
    resolved = [
        {
            "id": write.resolve.submission,
            "answer": rows.exact(write.resolve.answer),
            "request": rows.exact(write.resolve.request),
        }
        for write in winners
        if write.resolve is not None
    ]
    if resolved:
        await transaction.fetch(QUERIES["resolve_submissions"], batches.rows(resolved))
