"""Tasks, registrations and events for readers; ``recording.py`` writes them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from relay.domain import model
from relay.store import base
from relay.store.sql import batches, rows, walking
from relay.store.sql.part import Part
from relay.store.sql.queries import QUERIES


class Tasks(Part):
    """``base.Tasks`` on a ``Database``."""

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
        self, where: base.TaskFilter, *, before: base.Position | None, limit: int
    ) -> base.Page[base.TaskView]:
        """See ``base.Tasks.tasks``."""
        found = await walking.walk(self._database, _walk(where), before=before, limit=limit)
        if not found.ids:
            return base.Page([], found.next)
        wanted = batches.rows({"id": each} for each in found.ids)
        views = rows.views(await self._database.read(QUERIES["select_views"], wanted))
        views.sort(key=lambda view: (view.task.created_at, view.task.id), reverse=True)
        return base.Page(views, found.next)

    async def events(self, task: str, *, after: int, limit: int) -> list[base.StoredEvent]:
        """See ``base.Tasks.events``."""
        parameters = {"task": task, "after": after, "limit": limit}
        return [rows.event(row) for row in await self._database.read(QUERIES["list_events"], parameters)]

    async def last_event(self) -> int:
        """See ``base.Tasks.last_event``."""
        [[last]] = await self._database.read(QUERIES["select_last_event"], {})
        return last or 0

    async def changes(
        self, *, after: int, upto: int, limit: int, key_id: str | None = None, task: str | None = None
    ) -> list[base.Change]:
        """See ``base.Tasks.changes``."""
        parameters = {"after": after, "upto": upto, "limit": limit, "key_id": key_id, "task": task}
        statement = QUERIES["list_changes"] if task is None else QUERIES["list_changes_of_task"]
        return [rows.change(row) for row in await self._database.read(statement, parameters)]

    async def watchers(self, tasks: Collection[str]) -> dict[str, frozenset[str]]:
        """See ``base.Tasks.watchers``."""
        wanted = batches.rows({"id": each} for each in tasks)
        keys: dict[str, set[str]] = {}
        for task, key_id in await self._database.read(QUERIES["list_watchers"], wanted):
            keys.setdefault(task, set()).add(key_id)
        return {task: frozenset(found) for task, found in keys.items()}


def _walk(where: base.TaskFilter) -> walking.Walk:
    statement, served = _index(where)
    filters = rows.task_filters(where)
    unserved = filters.keys() - {"key_id", served}
    return walking.Walk(
        positions=statement,
        matches=QUERIES["match_tasks"] if any(filters[name] is not None for name in unserved) else None,
        filters=filters,
        created_after=where.created_after,
        created_before=where.created_before,
    )


def _index(where: base.TaskFilter) -> tuple[str, str | None]:
    """The statement that walks the index with the fewest rows that pass, and the filter it serves."""
    if where.key_id is not None:
        return QUERIES["page_tasks_of_key"], None
    if where.status is not None and where.status is not model.Status.SUCCEEDED:
        return QUERIES["page_tasks_in_status"], "status"
    if where.verdict is not None and where.verdict is not model.Verdict.ENDED:
        return QUERIES["page_tasks_of_verdict"], "verdict"
    if where.model is not None:
        return QUERIES["page_tasks_of_model"], "model"
    if where.upstream is not None:
        return QUERIES["page_tasks_of_upstream"], "upstream"
    if where.status is not None:  # what most tasks are in
        return QUERIES["page_tasks_in_status"], "status"
    if where.verdict is not None:
        return QUERIES["page_tasks_of_verdict"], "verdict"
    return QUERIES["page_tasks"], None
