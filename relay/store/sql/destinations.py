"""Destinations made by API, and what relay remembers of every destination.

Knows no secret: what it keeps of them was encrypted above. ``follow`` is what an attempt did to its
destination, inside the transaction that records the attempt.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from relay.domain import errors, model, reasons
from relay.store import base
from relay.store import destinations as stored
from relay.store.sql import batches, database, outbox, rows
from relay.store.sql.part import Part
from relay.store.sql.queries import QUERIES


class Destinations(Part):
    """``stored.Destinations`` on a ``Database``."""

    async def save_destination(self, destination: stored.StoredDestination) -> None:
        """See ``stored.Destinations.save_destination``."""
        parameters = _parameters(destination)

        async def work(transaction: database.Transaction) -> None:
            if not await transaction.fetch(QUERIES["find_destination"], {"name": destination.name}):
                # The configuration may have had one of that name, paused or disabled, with something held.
                await transaction.fetch(QUERIES["delete_health"], batches.rows([{"name": destination.name}]))
                held = {"destination": destination.name, "reason": model.HoldReason.DESTINATION_MISSING}
                await transaction.fetch(QUERIES["hold_otherwise"], held)
            await transaction.fetch(QUERIES["upsert_destination"], parameters)

        await self._database.transact(work)

    async def destinations(self) -> list[stored.StoredDestination]:
        """See ``stored.Destinations.destinations``."""
        return [_destination(row) for row in await self._database.read(QUERIES["list_destinations"], {})]

    async def delete_destination(self, name: str) -> bool:
        """See ``stored.Destinations.delete_destination``."""

        async def work(transaction: database.Transaction) -> bool:
            gone = await transaction.fetch(QUERIES["delete_destination"], {"name": name})
            if gone:
                await transaction.fetch(QUERIES["delete_health"], batches.rows([{"name": name}]))
                parameters = {"destination": name, "reason": model.HoldReason.DESTINATION_MISSING}
                await transaction.fetch(QUERIES["hold_pending"], parameters)
                await transaction.fetch(QUERIES["hold_otherwise"], parameters)
            return bool(gone)

        return await self._database.transact(work)

    async def touch_destinations(self, names: Collection[str], *, now: float) -> None:
        """See ``stored.Destinations.touch_destinations``."""
        if names:
            named = batches.rows({"name": name} for name in names)
            await self._write(QUERIES["touch_destinations"], {**named, "now": now})

    async def purge_inline(self, before: float, *, limit: int) -> list[str]:
        """See ``stored.Destinations.purge_inline``."""

        async def work(transaction: database.Transaction) -> list[str]:
            gone = await transaction.fetch(QUERIES["purge_inline"], {"before": before, "limit": limit})
            if gone:
                named = batches.rows({"name": row[0]} for row in gone)
                await transaction.fetch(QUERIES["delete_health"], named)
            return [row[0] for row in gone]

        return await self._database.transact(work)

    async def healths(self) -> list[model.Health]:
        """See ``stored.Destinations.healths``."""
        return [_health(row) for row in await self._database.read(QUERIES["list_healths"], {})]

    async def pause(self, health: model.Health) -> int:
        """See ``stored.Destinations.pause``."""
        assert health.hold_reason is not None, "who is paused has a reason to be held"
        parameters = {"destination": health.destination, "reason": health.hold_reason}

        async def work(transaction: database.Transaction) -> int:
            await _replace(transaction, health)
            return len(await transaction.fetch(QUERIES["hold_pending"], parameters))

        return await self._database.transact(work)

    async def resume(
        self, health: model.Health, *, which: stored.Which, now: float, rate: float
    ) -> stored.Resumed:
        """See ``stored.Destinations.resume``."""
        named = {"destination": health.destination}

        async def work(transaction: database.Transaction) -> stored.Resumed:
            await _replace(transaction, health)
            if which is stored.Which.NONE:
                parameters = {**named, "dropped": reasons.Reason.NOT_RESUMED}
                dropped = await transaction.fetch(QUERIES["drop_held"], parameters)
                restored = len(await outbox.restore(transaction, dropped))
                return stored.Resumed(dropped=len(dropped) - restored, restored=restored)
            superseded: Sequence[database.Row] = ()
            restored = 0
            if which is stored.Which.NEWEST:
                parameters = {**named, "superseded": reasons.Reason.NEWER_TOLD}
                superseded = await transaction.fetch(QUERIES["supersede_held"], parameters)
                restored = len(await outbox.restore(transaction, superseded))
            spaced = {**named, "now": now, "pause": 1.0 / rate}
            released = await transaction.fetch(QUERIES["release_held"], spaced)
            return stored.Resumed(
                released=len(released), superseded=len(superseded) - restored, restored=restored
            )

        return await self._database.transact(work)

    async def release_missing(self, destination: str, *, now: float, rate: float) -> int:
        """See ``stored.Destinations.release_missing``."""
        # Every URL that a caller names for the first time asks: what others are owed is not looked through.
        if not await self._database.read(QUERIES["select_addressed"], {"destination": destination}):
            return 0
        parameters = {
            **batches.rows([{"name": destination}]),
            "reason": model.HoldReason.DESTINATION_MISSING,
            "now": now,
            "pause": 1.0 / rate,
        }
        return len(await self._write(QUERIES["unhold_deliveries"], parameters))

    async def release_strays(self, destination: str, *, now: float, rate: float) -> int:
        """See ``stored.Destinations.release_strays``."""
        parameters = {"destination": destination, "now": now, "pause": 1.0 / rate}
        return len(await self._write(QUERIES["release_strays"], parameters))

    async def hold(self, destination: str, reason: model.HoldReason) -> int:
        """See ``stored.Destinations.hold``."""
        parameters = {"destination": destination, "reason": reason}
        return len(await self._write(QUERIES["hold_pending"], parameters))

    async def canary(self) -> str | None:
        """See ``stored.Destinations.canary``."""
        found = await self._database.read(QUERIES["select_canary"], {})
        return found[0][0] if found else None

    async def reseal(self, *, canary: str, sealed: Mapping[str, str]) -> None:
        """See ``stored.Destinations.reseal``."""

        async def work(transaction: database.Transaction) -> None:
            await transaction.fetch(QUERIES["upsert_canary"], {"canary": canary})
            if sealed:
                anew = batches.rows({"name": name, "sealed": token} for name, token in sealed.items())
                await transaction.fetch(QUERIES["reseal_destinations"], anew)

        await self._database.transact(work)


async def follow(transaction: database.Transaction, attempts: Sequence[base.AttemptWrite]) -> None:
    """Store what recorded attempts did to their destinations. Nothing to do costs no statement."""
    newest: dict[str, model.Health] = {}
    holds: set[str] = set()
    for attempt in attempts:
        health = attempt.health
        if health is None:
            continue
        if health.destination not in newest or newest[health.destination].version < health.version:
            newest[health.destination] = health
        if attempt.hold is not None:
            holds.add(health.destination)
    if newest:
        written = {
            row[0]
            for row in await transaction.fetch(QUERIES["upsert_healths"], _health_rows(newest.values()))
        }
        for name in written & holds:
            # One of the same batch that came later may have enabled it.
            if (reason := newest[name].hold_reason) is not None:
                parameters = {"destination": name, "reason": reason}
                await transaction.fetch(QUERIES["hold_pending"], parameters)
    await outbox.insert(transaction, [notice for attempt in attempts for notice in attempt.notices])


async def _replace(transaction: database.Transaction, health: model.Health) -> None:
    if not await transaction.fetch(QUERIES["upsert_healths"], _health_rows([health])):
        raise errors.StoreRejected(f"{health.destination} changed meanwhile; look at it again")


def _health_rows(healths: Collection[model.Health]) -> dict[str, object]:
    return batches.rows(
        {
            "destination": health.destination,
            "version": health.version,
            "paused_at": health.paused_at,
            "disabled_at": health.disabled_at,
            "disabled_reason": health.disabled_reason,
            "failing_since": health.failing_since,
            "failing": rows.document(health.failing),
            "warned": health.warned,
            "warned_at": health.warned_at,
        }
        for health in healths
    )


def _health(row: database.Row) -> model.Health:
    return model.Health(
        destination=row[0],
        version=row[1],
        paused_at=row[2],
        disabled_at=row[3],
        disabled_reason=row[4],
        failing_since=row[5],
        failing=tuple(rows.parsed(row[6])),
        warned=row[7],
        warned_at=row[8],
    )


def _parameters(destination: stored.StoredDestination) -> dict[str, object]:
    return {
        "name": destination.name,
        "source": destination.source,
        "owner": destination.owner,
        "options": rows.document(_options_document(destination.options)),
        "sealed": destination.sealed,
        "created_at": destination.created_at,
        "changed_at": destination.changed_at,
        "used_at": destination.used_at,
    }


def _destination(row: database.Row) -> stored.StoredDestination:
    return stored.StoredDestination(
        name=row[0],
        source=model.Source(row[1]),
        owner=row[2],
        options=_options(rows.parsed(row[3])),
        sealed=row[4],
        created_at=row[5],
        changed_at=row[6],
        used_at=row[7],
    )


def _options_document(options: model.DestinationOptions) -> dict[str, object]:
    return {
        "statuses": None if options.statuses is None else sorted(options.statuses),
        "prompt": options.prompt,
        "schedule": options.schedule,
        "timeout": options.timeout,
        "concurrency": options.concurrency,
        "rate": options.rate,
        "age_max": options.age_max,
        "retry_after_max": options.retry_after_max,
    }


def _options(found: Mapping[str, object]) -> model.DestinationOptions:
    """Members that an older version did not write have their defaults."""
    values = dict(found)
    statuses, schedule = values.get("statuses"), values.get("schedule")
    if isinstance(statuses, list):
        values["statuses"] = frozenset(map(model.Change, statuses))
    if isinstance(schedule, list):
        values["schedule"] = tuple(schedule)
    return model.DestinationOptions(**values)  # type: ignore[arg-type]
