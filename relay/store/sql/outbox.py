"""Putting deliveries into the outbox, inside somebody's transaction."""

from __future__ import annotations

from collections.abc import Sequence

from relay.domain import model
from relay.store.sql import batches, database, rows
from relay.store.sql.queries import QUERIES


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
