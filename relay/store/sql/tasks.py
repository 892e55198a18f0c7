"""Tasks, registrations and events for readers; ``record`` is in ``recording.py``."""

from __future__ import annotations

import math
from collections.abc import Sequence

from relay.domain import errors, model
from relay.store import base
from relay.store.sql import batches, recording, rows
from relay.store.sql.part import Part
from relay.store.sql.queries import QUERIES


class Tasks(Part):
    """``base.Tasks`` on a ``Database``."""

    async def record(
        self, writes: Sequence[base.TaskWrite]
    ) -> list[base.Recorded | errors.StoreRejected | None]:
        """See ``base.Tasks.record``."""
        firsts: dict[tuple[str, str], int] = {}
        for index, write in enumerate(writes):
            firsts.setdefault((write.task.upstream, write.task.task_id), index)
        answers: list[base.Recorded | errors.StoreRejected | None] = [None] * len(writes)
        if firsts:
            tried = [writes[index] for index in firsts.values()]
            stored = await batches.isolated(self._database, tried, recording.store)
            for index, answer in zip(firsts.values(), stored, strict=True):
                answers[index] = answer
        return answers

    async def watches(self, references: Sequence[tuple[str, str]]) -> list[model.Watch | None]:
        """See ``base.Tasks.watches``."""
        if not references:
            return []
        named = ({"upstream": upstream, "task_id": task_id} for upstream, task_id in set(references))
        found = rows.watches(await self._database.read(QUERIES["select_watches"], batches.rows(named)))
        known = {(watch.task.upstream, watch.task.task_id): watch for watch in found.values()}
        return [known.get(reference) for reference in references]

    async def running(self, *, after: str | None, limit: int) -> list[model.Watch]:
        """See ``base.Tasks.running``."""
        parameters = {"after": after or "", "limit": limit}
        return [*rows.watches(await self._database.read(QUERIES["select_running"], parameters)).values()]

    async def task(self, upstream: str, task_id: str) -> base.TaskView | None:
        """See ``base.Tasks.task``."""
        parameters = {"upstream": upstream, "task_id": task_id}
        found = rows.views(await self._database.read(QUERIES["select_task"], parameters))
        return found[0] if found else None

    async def tasks(
        self, where: base.TaskFilter, *, before: tuple[float, str] | None, limit: int
    ) -> list[base.TaskView]:
        """See ``base.Tasks.tasks``."""
        before_at, before_id = before or (math.inf, "")
        parameters = {
            "key_id": where.key_id,
            "upstream": where.upstream,
            "status": where.status,
            "verdict": where.verdict,
            "before_at": before_at,
            "before_id": before_id,
            "limit": limit,
        }
        statement = QUERIES["list_tasks"] if where.key_id is None else QUERIES["list_tasks_of_key"]
        return rows.views(await self._database.read(statement, parameters))

    async def events(self, task: str, *, after: int, limit: int) -> list[base.StoredEvent]:
        """See ``base.Tasks.events``."""
        parameters = {"task": task, "after": after, "limit": limit}
        return [rows.event(row) for row in await self._database.read(QUERIES["list_events"], parameters)]
