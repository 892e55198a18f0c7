"""Keeping the database: probing, purging, backing up, closing."""

from __future__ import annotations

from collections.abc import Sequence

from relay.domain import errors
from relay.store import base
from relay.store.sql import batches, database
from relay.store.sql.part import Part
from relay.store.sql.queries import QUERIES


class Maintenance(Part):
    """The rest of ``base.Store`` on a ``Database``."""

    async def check(self) -> None:
        """See ``base.Store.check``. Costs one synchronous write: meant for every few seconds at most."""
        await self._write(QUERIES["probe_write"], {})
        if not await self._database.read(QUERIES["probe_read"], {}):
            raise errors.StoreUnavailable("the database lost its probe row; restore a backup")

    async def purge(self, retention: base.Retention, *, limit: int) -> int:
        """See ``base.Store.purge``. A transaction per kind, so that writers wait for one at most."""
        gone = await self._purge_tasks(QUERIES["select_purgeable_finished"], retention, limit=limit)
        gone += await self._purge_tasks(QUERIES["select_purgeable_unwatched"], retention, limit=limit)
        gone += await self._purge_notices(retention, limit=limit)
        for statement, before in (
            (QUERIES["purge_events"], retention.events_before),
            (QUERIES["purge_attempts"], retention.attempts_before),
            (QUERIES["purge_submissions"], retention.submissions_before),
        ):
            gone += len(await self._write(statement, {"before": before, "limit": limit}))
        return gone

    async def backup(self, path: str) -> None:
        """See ``base.Store.backup``."""
        await self._database.backup(path)

    async def aclose(self) -> None:
        """See ``base.Store.aclose``."""
        await self._database.aclose()

    async def _purge_tasks(self, candidates: str, retention: base.Retention, *, limit: int) -> int:
        parameters = {"before": retention.tasks_before, "limit": limit}

        async def work(transaction: database.Transaction) -> int:
            found = await transaction.fetch(candidates, parameters)
            if found:
                tasks = batches.rows({"id": row[0]} for row in found)
                sent = await transaction.fetch(QUERIES["delete_deliveries_of_tasks"], tasks)
                await _delete_notifications(transaction, sent)
                await transaction.fetch(QUERIES["delete_tasks"], tasks)
            return len(found)

        return await self._database.transact(work)

    async def _purge_notices(self, retention: base.Retention, *, limit: int) -> int:
        parameters = {"before": retention.tasks_before, "limit": limit}

        async def work(transaction: database.Transaction) -> int:
            sent = await transaction.fetch(QUERIES["purge_notices"], parameters)
            await _delete_notifications(transaction, sent)
            return len(sent)

        return await self._database.transact(work)


async def _delete_notifications(transaction: database.Transaction, sent: Sequence[database.Row]) -> None:
    if sent:
        bodies = batches.rows({"id": notification} for notification in {row[0] for row in sent})
        await transaction.fetch(QUERIES["delete_orphaned_notifications"], bodies)
