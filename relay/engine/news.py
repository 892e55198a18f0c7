"""What one look means for the record. Pure; the poller's arithmetic on folds and events."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from relay.domain import lifecycle, model


def combined(first: lifecycle.Fold, second: lifecycle.Fold) -> lifecycle.Fold:
    """Two folds of one look as one."""
    return dataclasses.replace(second, changes=(*first.changes, *second.changes))


def ended(task: model.Task, end: model.Snapshot, *, now: float) -> lifecycle.Fold:
    """``task``, ended as ``end`` says, unless it has ended already."""
    if task.verdict.final or end.status is None:
        return lifecycle.Fold(task=task)
    return lifecycle.Fold(task=lifecycle.finish(task, end, now=now), changes=(model.Change(end.status),))


def events_of(
    page: model.Page, changes: Sequence[model.Change], task_id: str, *, now: float
) -> list[model.Event]:
    """The upstream's events, and one of relay's own for each change that none of them carries."""
    carried = {event.snapshot.status for event in page.events}
    own = [
        model.Event(
            key=f"relay:{change.value}",
            type=change.type,
            timestamp=now,
            data={"task_id": task_id, "status": change.value},
            snapshot=model.Snapshot(status=_status(change)),
        )
        for change in changes
        if _status(change) is None or _status(change) not in carried
    ]
    return [*page.events, *own]


def _status(change: model.Change) -> model.Status | None:
    return None if change in (model.Change.STALLED, model.Change.LOST) else model.Status(change.value)
