"""The outbox: claims, outcomes, leases and what readers see of them.

A lease is a row in state ``sending`` with an instant and a fence. The fence grows with each claim,
so an outcome under an old one is recognised. A success is recorded under any fence: the peer has it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final

from relay.domain import model, reasons
from relay.store import base
from relay.store.sql import batches, database, outbox, rows, walking
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
        wanted: dict[str, base.ClaimRequest] = {}
        for request in requests:
            known = wanted.setdefault(request.destination, request)
            if known is not request:
                limit, fresh = known.limit + request.limit, known.fresh + request.fresh
                wanted[request.destination] = dataclasses.replace(known, limit=limit, fresh=fresh)
        if not wanted:
            return []
        return await self._database.transact(
            lambda transaction: _claim(transaction, wanted.values(), now=now, leased_until=leased_until)
        )

    async def release(self, leases: Sequence[tuple[str, int]], *, now: float) -> None:
        """See ``base.Deliveries.release``."""
        if leases:
            given = batches.rows({"id": delivery_id, "fence": fence} for delivery_id, fence in leases)
            await self._take_back(QUERIES["release_leases"], {**given, **_taken_back(now)})

    async def give_up(self, leases: Sequence[tuple[str, int]], *, reason: str) -> None:
        """See ``base.Deliveries.give_up``."""
        if leases:
            given = batches.rows({"id": delivery_id, "fence": fence} for delivery_id, fence in leases)

            async def work(transaction: database.Transaction) -> None:
                ended = await transaction.fetch(QUERIES["give_up_leases"], {**given, "reason": reason})
                # Those that were tried again, in vain, are dead.
                await outbox.restore(transaction, [row for row in ended if row[2] == row[3]])

            await self._database.transact(work)

    async def void_leases(self, *, now: float) -> int:
        """See ``base.Deliveries.void_leases``."""
        return await self._take_back(QUERIES["void_leases"], _taken_back(now))

    async def expire_leases(self, *, now: float, sparing: Collection[str] = ()) -> int:
        """See ``base.Deliveries.expire_leases``."""
        spared = batches.rows({"id": delivery_id} for delivery_id in sparing)
        return await self._take_back(QUERIES["expire_leases"], {**spared, **_taken_back(now)})

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

    async def _take_back(self, statement: str, parameters: database.Parameters) -> int:
        """Take leases back, which withdraws what was overtaken; how many."""

        async def work(transaction: database.Transaction) -> int:
            taken = await transaction.fetch(statement, parameters)
            await outbox.restore(transaction, taken)
            return len(taken)

        return await self._database.transact(work)


def _taken_back(now: float) -> dict[str, object]:
    """When a lease that is taken back is due again, and what is not owed again at all."""
    return {"now": now, "overtaken": reasons.Reason.NEWER_TOLD}


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
    transaction: database.Transaction,
    requests: Iterable[base.ClaimRequest],
    *,
    now: float,
    leased_until: float,
) -> list[model.Claim]:
    claims: list[model.Claim] = []
    for request in requests:
        parameters = {"destination": request.destination, "now": now}
        found: dict[str, model.Claim] = {}
        if request.fresh:
            limited = {**parameters, "limit": request.fresh}
            for row in await transaction.fetch(QUERIES["select_due_fresh"], limited):
                found[row[0]] = rows.claim(row)
        if request.limit:
            # Those that were found already may be among the oldest.
            limit = request.limit + len(found)
            for row in await transaction.fetch(QUERIES["select_due"], {**parameters, "limit": limit}):
                if row[0] not in found and len(found) < limit:
                    found[row[0]] = rows.claim(row)
        claims += found.values()
    if claims:
        claimed = batches.rows({"id": claim.delivery_id, "fence": claim.fence} for claim in claims)
        await transaction.fetch(QUERIES["claim_deliveries"], {**claimed, "leased_until": leased_until})
    return claims
