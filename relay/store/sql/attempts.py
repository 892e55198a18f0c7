"""How attempts ended, inside somebody's transaction. What a lease and its fence are: ``deliveries.py``."""

from __future__ import annotations

from collections.abc import Sequence

from relay.domain import model, reasons
from relay.store import base
from relay.store.sql import batches, database, destinations, outbox, rows
from relay.store.sql.queries import QUERIES


async def store(
    transaction: database.Transaction, attempts: Sequence[base.AttemptWrite]
) -> list[base.Settled | None]:
    """Apply outcomes and keep those that applied.

    One statement touches a row once, so two outcomes of one delivery (a success under a lost lease
    and the new lease's own) go in two rounds, in their order.
    """
    answers: list[base.Settled | None] = [None] * len(attempts)
    left = list(range(len(attempts)))
    while left:
        first: dict[str, int] = {}
        for index in left:
            first.setdefault(attempts[index].delivery_id, index)
        outcomes = {
            **batches.rows(rows.outcome_row(attempts[index]) for index in first.values()),
            "overtaken": reasons.Reason.NEWER_TOLD,
        }
        settled = await transaction.fetch(QUERIES["settle_deliveries"], outcomes)
        # What was overtaken. What is dead was tried in vain: that is what became of the order to send it.
        overtaken = [row for row in settled if row[1] == model.DeliveryState.SUPERSEDED]
        restored = await outbox.restore(transaction, overtaken)
        for delivery_id, state, number in settled:
            became = model.DeliveryState.DELIVERED if delivery_id in restored else model.DeliveryState(state)
            answers[first[delivery_id]] = base.Settled(number, became)
        left = [index for index in left if index not in set(first.values())]
    kept = [
        rows.attempt_row(attempt, number=answer.number)
        for attempt, answer in zip(attempts, answers, strict=True)
        if answer is not None
    ]
    if kept:
        await transaction.fetch(QUERIES["insert_attempts"], batches.rows(kept))
    # Also of those that lost their lease: what the peer said of itself is true all the same.
    await destinations.follow(
        transaction, [attempt for attempt in attempts if attempt.health is not None or attempt.notices]
    )
    return answers
