"""How a task and its events look on the wire. Pure: the same task and step give the same bytes.

The task body is the documented one. The shape of events is not documented; ``docs/sandbox.md``
states the choice. An event's id is also the cursor and SSE's ``Last-Event-ID`` behind which more
is asked for.
"""

from __future__ import annotations

import datetime
from typing import Final

import pydantic_core

from relay.domain import model as domain
from relay.sandbox import rules, tasks

FAILURE: Final = {"code": "generation_failed", "message": "The sandbox was asked to fail by the prompt."}
"""The ``error`` of a failed task."""

_SUFFIXES: Final = {"videos": "mp4", "images": "png"}


def created(task: tasks.Task) -> dict[str, object]:
    """The answer to a create: exactly the four documented members."""
    return {
        "request_id": task.request_id,
        "task_id": task.id,
        "status": task.plan.steps[0].status.value,
        "cost_estimate": task.model.cost_estimate,
    }


def body(task: tasks.Task, *, reached: int, origin: str) -> dict[str, object]:
    """The task body after ``reached`` steps; output links start with ``origin``.

    ``output`` and ``cost_actual`` are ``None`` before the end; ``error`` is there on failed only.
    """
    status = task.plan.steps[reached - 1].status
    shown: dict[str, object] = {
        "request_id": task.request_id,
        "task_id": task.id,
        "status": status.value,
        "cost_estimate": task.model.cost_estimate,
        "cost_actual": rules.cost_actual(status, task.model.cost_estimate),
        "output": None,
    }
    if status is domain.Status.SUCCEEDED:
        urls = (f"{origin}/outputs/{task.id}/{name}" for name in output_names(task))
        shown["output"] = {task.model.output_kind: [{"url": url} for url in urls]}
    elif status is domain.Status.FAILED:
        shown["error"] = FAILURE
    return shown


def output_names(task: tasks.Task) -> list[str]:
    """The file names of the task's outputs, ``0.mp4`` and so on."""
    suffix = _SUFFIXES[task.model.output_kind]
    return [f"{number}.{suffix}" for number in range(task.outputs)]


def event(task: tasks.Task, *, index: int, origin: str) -> dict[str, object]:
    """The event of step ``index``; its ``data`` is the task body at that moment."""
    step = task.plan.steps[index]
    return {
        "id": event_id(task, index),
        "type": f"task.{step.status.value}",
        "status": step.status.value,
        "timestamp": _timestamp(step.at),
        "data": body(task, reached=index + 1, origin=origin),
    }


def events(task: tasks.Task, *, after: int, reached: int, origin: str) -> list[dict[str, object]]:
    """The events of the steps after the first ``after``, up to ``reached``."""
    return [event(task, index=index, origin=origin) for index in range(after, reached)]


def event_id(task: tasks.Task, index: int) -> str:
    """The id of the event of step ``index``."""
    return f"evt_{task.id.removeprefix('task_')}_{index + 1}"


def position(task: tasks.Task, cursor: str, *, reached: int) -> int | None:
    """How many events ``cursor`` is behind; ``None`` where it is no event seen of this task."""
    return next((index + 1 for index in range(reached) if event_id(task, index) == cursor), None)


def page(task: tasks.Task, *, after: int, reached: int, origin: str) -> bytes:
    """The events as one JSON page: the task body, ``events`` and ``next_cursor``."""
    return pydantic_core.to_json(
        body(task, reached=reached, origin=origin)
        | {
            "events": events(task, after=after, reached=reached, origin=origin),
            "next_cursor": event_id(task, reached - 1),
        }
    )


def ndjson(task: tasks.Task, *, after: int, reached: int, origin: str) -> bytes:
    """The events as one JSON object per line."""
    lines = events(task, after=after, reached=reached, origin=origin)
    return b"".join(pydantic_core.to_json(line) + b"\n" for line in lines)


def sse(task: tasks.Task, *, after: int, reached: int, origin: str) -> bytes:
    """The events as server-sent events; the data is one line because JSON escapes newlines."""
    return b"".join(
        f"id: {shown['id']}\nevent: {shown['type']}\ndata: ".encode() + pydantic_core.to_json(shown) + b"\n\n"
        for shown in events(task, after=after, reached=reached, origin=origin)
    )


def validator(task: tasks.Task, *, after: int, reached: int) -> str:
    """The ETag of a page, which changes exactly when the page does."""
    return f'"{task.id.removeprefix("task_")}-{after}-{reached}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` holds ``etag`` (weak comparison, RFC 9110)."""
    if if_none_match is None:
        return False
    offered = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in offered or offered == ["*"]


def _timestamp(at: float) -> str:
    moment = datetime.datetime.fromtimestamp(at, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
