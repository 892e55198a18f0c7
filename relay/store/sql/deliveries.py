"""The outbox: claims, outcomes, leases and what readers see of them.

A lease is a row in state ``sending`` with an instant and a fence. The fence grows with each claim,
so an outcome under an old one is recognised. A success is recorded under any fence: the peer has it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Final

from relay.domain import errors, model
from relay.store import base
from relay.store.sql import batches, database, destinations, outbox, rows, walking
from relay.store.sql.part import Part
from relay.store.sql.queries import QUERIES

_ENDED: Final = frozenset({model.DeliveryState.DELIVERED, model.DeliveryState.SUPERSEDED})
"""States that most rows end in; the others have an index of their own."""


class Deliveries(Part):
    """``base.Deliveries`` on a ``Database``."""

    async def add_deliveries(self, deliveries: Sequence[model.NewDelivery]) -> list[bool]:
        """See ``base.Deliveries.add_deliveries``."""
        if not deliveries:
            return []
        added = await self._database.transact(lambda transaction: outbox.insert(transaction, deliveries))
        return [delivery.id in added for delivery in deliveries]

    async def claim(
        self, requests: Sequence[base.ClaimRequest], *, now: float, leased_until: float
    ) -> list[model.Claim]:
        """See ``base.Deliveries.claim``."""
        limits: dict[str, int] = {}
        for request in requests:
            limits[request.destination] = limits.get(request.destination, 0) + request.limit
        if not limits:
            return []
        return await self._database.transact(
            lambda transaction: _claim(transaction, limits, now=now, leased_until=leased_until)
        )

    async def record_attempts(
        self, attempts: Sequence[base.AttemptWrite]
    ) -> list[int | errors.StoreRejected | None]:
        """See ``base.Deliveries.record_attempts``."""
        if not attempts:
            return []
        return await batches.isolated(self._database, attempts, _record_attempts)

    async def release(self, leases: Sequence[tuple[str, int]], *, now: float) -> None:
        """See ``base.Deliveries.release``."""
        if leases:
            given = batches.rows({"id": delivery_id, "fence": fence} for delivery_id, fence in leases)
            await self._write(QUERIES["release_leases"], {**given, "now": now})

    async def void_leases(self, *, now: float) -> int:
        """See ``base.Deliveries.void_leases``."""
        return len(await self._write(QUERIES["void_leases"], {"now": now}))

    async def expire_leases(self, *, now: float) -> int:
        """See ``base.Deliveries.expire_leases``."""
        return len(await self._write(QUERIES["expire_leases"], {"now": now}))

    async def shift_due(self, *, seconds: float) -> int:
        """See ``base.Deliveries.shift_due``."""
        return len(await self._write(QUERIES["shift_due"], {"seconds": seconds}))

    async def due(self) -> dict[str, float]:
        """See ``base.Deliveries.due``."""
        return {row[0]: row[1] for row in await self._database.read(QUERIES["select_due_destinations"], {})}

    async def hold_unconfigured(
        self, configured: Collection[str], *, now: float, rate: float | None = None
    ) -> tuple[int, int]:
        """See ``base.Deliveries.hold_unconfigured``."""
        parameters = {
            **batches.rows({"name": name} for name in sorted(configured)),
            "reason": model.HoldReason.DESTINATION_MISSING,
            "now": now,
            "pause": 0.0 if rate is None else 1.0 / rate,
        }

        async def work(transaction: database.Transaction) -> tuple[int, int]:
            held = await transaction.fetch(QUERIES["hold_deliveries"], parameters)
            released = await transaction.fetch(QUERIES["unhold_deliveries"], parameters)
            return len(held), len(released)

        return await self._database.transact(work)

    async def redeliver(self, delivery_id: str, *, now: float) -> model.Delivery | None:
        """See ``base.Deliveries.redeliver``."""

        async def work(transaction: database.Transaction) -> Sequence[database.Row]:
            await outbox.redeliver(transaction, {delivery_id: now})
            return await transaction.fetch(QUERIES["select_delivery"], {"id": delivery_id})

        found = await self._database.transact(work)
        return rows.delivery(found[0]) if found else None

    async def delivery(self, delivery_id: str) -> model.Delivery | None:
        """See ``base.Deliveries.delivery``."""
        found = await self._database.read(QUERIES["select_delivery"], {"id": delivery_id})
        return rows.delivery(found[0]) if found else None

    async def attempts(self, delivery_id: str) -> list[model.Attempt]:
        """See ``base.Deliveries.attempts``."""
        found = await self._database.read(QUERIES["list_attempts"], {"id": delivery_id})
        return [rows.attempt(row) for row in found]

    async def deliveries(
        self, where: base.DeliveryFilter, *, before: base.Position | None, limit: int
    ) -> base.Page[model.Delivery]:
        """See ``base.Deliveries.deliveries``."""
        found = await walking.walk(self._database, _walk(where), before=before, limit=limit)
        if not found.ids:
            return base.Page([], found.next)
        wanted = batches.rows({"id": each} for each in found.ids)
        listed = [*map(rows.delivery, await self._database.read(QUERIES["select_deliveries"], wanted))]
        listed.sort(key=lambda delivery: (delivery.created_at, delivery.id), reverse=True)
        return base.Page(listed, found.next)

    async def count_deliveries(self) -> Mapping[tuple[str, model.DeliveryState], int]:
        """See ``base.Deliveries.count_deliveries``."""
        counted = await self._database.read(QUERIES["count_open_deliveries"], {})
        return {(row[0], model.DeliveryState(row[1])): row[2] for row in counted}


def _walk(where: base.DeliveryFilter) -> walking.Walk:
    statement, served = _index(where)
    filters = rows.delivery_filters(where)
    unserved = filters.keys() - {served}
    return walking.Walk(
        positions=statement,
        matches=QUERIES["match_deliveries"] if any(filters[name] is not None for name in unserved) else None,
        filters=filters,
        created_after=where.created_after,
        created_before=where.created_before,
    )


def _index(where: base.DeliveryFilter) -> tuple[str, str | None]:
    """The statement that walks the index with the fewest rows that pass, and the filter it serves."""
    if where.task is not None:
        return QUERIES["page_deliveries_of_task"], "task"
    if where.state is not None and where.state not in _ENDED:
        return QUERIES["page_open_deliveries"], "state"
    if where.destination is not None:
        return QUERIES["page_deliveries_of_destination"], "destination"
    return QUERIES["page_deliveries"], None


async def _claim(
    transaction: database.Transaction, limits: Mapping[str, int], *, now: float, leased_until: float
) -> list[model.Claim]:
    claims: list[model.Claim] = []
    for destination, limit in limits.items():
        parameters = {"destination": destination, "now": now, "limit": limit}
        claims += map(rows.claim, await transaction.fetch(QUERIES["select_due"], parameters))
    if claims:
        claimed = batches.rows({"id": claim.delivery_id, "fence": claim.fence} for claim in claims)
        await transaction.fetch(QUERIES["claim_deliveries"], {**claimed, "leased_until": leased_until})
    return claims


async def _record_attempts(
    transaction: database.Transaction, attempts: Sequence[base.AttemptWrite]
) -> list[int | None]:
    """Apply outcomes and keep those that applied.

    One statement touches a row once, so two outcomes of one delivery (a success under a lost lease
    and the new lease's own) go in two rounds, in their order.
    """
    numbers: list[int | None] = [None] * len(attempts)
    left = list(range(len(attempts)))
    while left:
        first: dict[str, int] = {}
        for index in left:
            first.setdefault(attempts[index].delivery_id, index)
        outcomes = batches.rows(rows.outcome_row(attempts[index]) for index in first.values())
        for delivery_id, number in await transaction.fetch(QUERIES["settle_deliveries"], outcomes):
            numbers[first[delivery_id]] = number
        left = [index for index in left if index not in set(first.values())]
    kept = [
        rows.attempt_row(attempt, number=number)
        for attempt, number in zip(attempts, numbers, strict=True)
        if number is not None
    ]
    if kept:
        await transaction.fetch(QUERIES["insert_attempts"], batches.rows(kept))
    await destinations.follow(
        transaction,
        [
            attempt
            for attempt, number in zip(attempts, numbers, strict=True)
            if number is not None and (attempt.health is not None or attempt.notices)
        ],
    )
    return numbers
