"""Putting deliveries into the outbox, for the first time or again, and what is left when that is called off:
inside somebody's transaction."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from relay.domain import model
from relay.store.sql import batches, database, rows
from relay.store.sql.queries import QUERIES

_WITHDRAWN: Final = frozenset({model.DeliveryState.DEAD, model.DeliveryState.SUPERSEDED})


async def insert(
    transaction: database.Transaction, deliveries: Sequence[model.NewDelivery]
) -> frozenset[str]:
    """Add deliveries with their bodies unless their id is stored; the ids that were new."""
    if not deliveries:
        return frozenset()
    bodies = {delivery.notification.id: delivery.notification for delivery in deliveries}
    await transaction.fetch(
        QUERIES["insert_notifications"], batches.rows(map(rows.notification_row, bodies.values()))
    )
    added = await transaction.fetch(
        QUERIES["insert_deliveries"], batches.rows(map(rows.delivery_row, deliveries))
    )
    return frozenset(row[0] for row in added)


async def redeliver(
    transaction: database.Transaction,
    due: Mapping[str, float],
    *,
    state: model.DeliveryState | None = None,
    known: Collection[str] | None = None,
) -> Sequence[database.Row]:
    """Owe these deliveries again from their due times on, each with a fresh budget.

    Answers (id, destination, due time) of those that are owed again; the time is ``None`` for what is
    held, because its destination is paused, disabled, or not in ``known`` (``None``: all are). Those
    that are being sent are left alone; with ``state`` all that are not in it, too, and those that are
    held for their destination already.
    """
    parameters = {
        **batches.rows({"id": delivery_id, "due": at} for delivery_id, at in due.items()),
        "known": None if known is None else batches.rows({"name": name} for name in sorted(known))["rows"],
        "state": state,
    }
    return await transaction.fetch(QUERIES["redeliver"], parameters)


async def restore(transaction: database.Transaction, withdrawn: Iterable[database.Row]) -> frozenset[str]:
    """Nobody wants these sent any more: those that arrived before are delivered, as they were; their ids.

    ``withdrawn`` are rows that begin with (id, state, attempts made). Those that are not dead or superseded
    are left alone; for those that were never attempted no statement is run.
    """
    tried = [{"id": row[0]} for row in withdrawn if row[1] in _WITHDRAWN and row[2] > 0]
    if not tried:
        return frozenset()
    restored = await transaction.fetch(QUERIES["restore_delivered"], batches.rows(tried))
    return frozenset(row[0] for row in restored)
