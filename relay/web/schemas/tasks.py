"""Creates and tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pydantic import ConfigDict

from relay.domain import model as domain
from relay.web.schemas import common
from relay.web.schemas import events as event_schemas
from relay.web.schemas import registrations as registration_schemas

OURS: Final = ("notify", "statuses", "metadata", "upstream")
"""Members of a create that are relay's own; all others but ``model`` and ``input`` go on to the upstream."""


class NewTask(registration_schemas.Wishes):
    """A create, as the relayed API takes it, plus what relay is to do about it.

    Members that are not named here are passed on to the upstream.
    """

    model_config = ConfigDict(strict=True, extra="allow", hide_input_in_errors=True)

    model: common.Word
    input: dict[str, object]
    upstream: common.Word | None = None

    def foreign(self) -> dict[str, object]:
        """The members to pass on."""
        return dict(self.model_extra or {})


class Created(common.Out):
    """The relayed API's answer to a create."""

    model_config = ConfigDict(extra="allow")

    request_id: str | None
    task_id: str
    status: domain.Status
    cost_estimate: float | None


class Relay(common.Out):
    """What relay itself knows of a task."""

    id: str
    upstream: str
    model: str | None
    verdict: domain.Verdict
    registrations: list[registration_schemas.Registration]
    created_at: common.Instant
    finished_at: common.Instant | None
    last_polled_at: common.Instant | None
    next_poll_at: common.Instant | None
    events_seen: int


class Task(common.Out):
    """The relayed API's own task body, plus ``relay``. ``error`` is there only when there is one."""

    request_id: str | None
    task_id: str
    status: domain.Status
    cost_estimate: common.Money | None
    cost_actual: common.Money | None
    output: Any
    error: Any = None
    relay: Relay


class Tasks(common.Out):
    """A page of tasks, newest first."""

    tasks: list[Task]
    next_cursor: str | None


class TaskEvents(Task):
    """A task with its events after the cursor. ``next_cursor`` is for asking again, at any time."""

    events: list[event_schemas.Event]
    next_cursor: str


def task_members(
    task: domain.Task,
    registrations: Sequence[domain.Registration],
    *,
    events_seen: int,
    last_polled_at: float | None,
    next_poll_at: float | None,
) -> dict[str, object]:
    """``Task`` as it is written, without ``error`` where there is none.

    Not by way of the model: its members are known to be right, and to have them checked and written by
    it cost more than all else that is done for an answer.
    """
    members: dict[str, object] = {
        "request_id": task.request_id,
        "task_id": task.task_id,
        "status": task.status.value,
        "cost_estimate": common.money(task.cost_estimate),
        "cost_actual": common.money(task.cost_actual),
        "output": task.output,
        "relay": {
            "id": task.id,
            "upstream": task.upstream,
            "model": task.model,
            "verdict": task.verdict.value,
            "registrations": [registration_schemas.members(each) for each in registrations],
            "created_at": common.instant(task.created_at),
            "finished_at": common.instant_or_none(task.finished_at),
            "last_polled_at": common.instant_or_none(last_polled_at),
            "next_poll_at": common.instant_or_none(next_poll_at),
            "events_seen": events_seen,
        },
    }
    if task.error is not None:
        members["error"] = task.error
    return members
