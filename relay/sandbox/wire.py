"""How a task and its events look on the wire. Pure: the same task and moment give the same bytes.

The task body is the documented one. The shape of events is not documented; ``docs/sandbox.md``
states the choice. An event's id is also the cursor and SSE's ``Last-Event-ID`` behind which more
is asked for.
"""

from __future__ import annotations

import datetime
from typing import Final

import pydantic_core

from relay.domain import model as domain
from relay.sandbox import injection, rules, tasks

FAILURE: Final = {"code": "generation_failed", "message": "The sandbox was asked to fail."}
"""The ``error`` of a failed task."""

MODERATED: Final = {
    "code": "content_moderated",
    "message": "The sandbox was asked to take the content for a breach of a policy.",
}
"""The ``error`` of a task with ``[moderated]``."""

_SUFFIXES: Final = {"videos": "mp4", "images": "png"}


def created(task: tasks.Task) -> dict[str, object]:
    """The answer to a create: exactly the four documented members."""
    return {
        "request_id": task.request_id,
        "task_id": task.id,
        "status": task.plan.steps[0].status.value,
        "cost_estimate": float(task.model.cost_estimate),
    }


def body(task: tasks.Task, moment: rules.Moment, *, origin: str) -> dict[str, object]:
    """The task body at ``moment``; output links start with ``origin``.

    ``output`` and ``cost_actual`` are ``None`` before the end; ``error`` is there on failed only.
    """
    status = task.plan.steps[moment.reached - 1].status
    cost = rules.cost_actual(status, task.model.cost_estimate)
    shown = created(task) | {
        "status": status.value,
        "cost_actual": None if cost is None else float(cost),
        "output": None,
    }
    if moment.has_output:
        urls = (f"{origin}/outputs/{task.id}/{name}" for name in output_names(task))
        shown["output"] = {task.model.output_kind: [{"url": url} for url in urls]}
    elif status is domain.Status.FAILED:
        shown["error"] = MODERATED if injection.Word.MODERATED in task.words else FAILURE
    return shown


def output_names(task: tasks.Task) -> list[str]:
    """The file names of the task's outputs, ``0.mp4`` and so on."""
    suffix = _SUFFIXES[task.model.output_kind]
    return [f"{number}.{suffix}" for number in range(task.outputs)]


def listed(task: tasks.Task, reached: int) -> list[int]:
    """The steps whose events are listed once ``reached`` steps were taken, in the order listed.

    Out of order means that the step before the end is listed behind it, and not before.
    """
    late = len(task.plan.steps) - 2
    in_order = injection.Word.OUT_OF_ORDER not in task.words or not task.plan.ended(len(task.plan.steps))
    if in_order or reached <= late:
        return list(range(reached))
    return [*range(late), *range(late + 1, reached), *([late] if task.plan.ended(reached) else [])]


def event(task: tasks.Task, *, index: int, origin: str) -> dict[str, object]:
    """The event of step ``index``; its ``data`` is the task body at that moment."""
    step = task.plan.steps[index]
    has_output = step.status.terminal and task.plan.output_at <= step.at
    moment = rules.Moment(index + 1, has_output)
    return {
        "id": event_id(task, index),
        "type": f"task.{step.status.value}",
        "status": step.status.value,
        "timestamp": _timestamp(step.at),
        "data": body(task, moment, origin=origin),
    }


def events(task: tasks.Task, *, after: int, reached: int, origin: str) -> list[dict[str, object]]:
    """The events listed after the first ``after``, once ``reached`` steps were taken."""
    times = 2 if injection.Word.DUPLICATE_EVENTS in task.words else 1
    return [
        event(task, index=index, origin=origin)
        for index in listed(task, reached)[after:]
        for _ in range(times)
    ]


def event_id(task: tasks.Task, index: int) -> str:
    """The id of the event of step ``index``. With reused ids the end has that of the beginning."""
    if injection.Word.REUSED_IDS in task.words and task.plan.ended(index + 1):
        index = 0
    return f"evt_{task.id.removeprefix('task_')}_{index + 1}"


def position(task: tasks.Task, cursor: str, *, reached: int) -> int | None:
    """How many listed events ``cursor`` is behind; ``None`` where it is no event seen of this task."""
    found = (place for place, index in enumerate(listed(task, reached), 1) if event_id(task, index) == cursor)
    return next(found, None)


def page(task: tasks.Task, moment: rules.Moment, *, after: int, origin: str) -> bytes:
    """The events as one JSON page: the task body, ``events`` and ``next_cursor``."""
    return pydantic_core.to_json(
        body(task, moment, origin=origin)
        | {
            "events": events(task, after=after, reached=moment.reached, origin=origin),
            "next_cursor": event_id(task, listed(task, moment.reached)[-1]),
        }
    )


def ndjson(task: tasks.Task, moment: rules.Moment, *, after: int, origin: str) -> bytes:
    """The events as one JSON object per line."""
    lines = events(task, after=after, reached=moment.reached, origin=origin)
    return b"".join(pydantic_core.to_json(line) + b"\n" for line in lines)


def sse(task: tasks.Task, moment: rules.Moment, *, after: int, origin: str) -> bytes:
    """The events as server-sent events; the data is one line because JSON escapes newlines."""
    return b"".join(
        f"id: {shown['id']}\nevent: {shown['type']}\ndata: ".encode() + pydantic_core.to_json(shown) + b"\n\n"
        for shown in events(task, after=after, reached=moment.reached, origin=origin)
    )


def validator(task: tasks.Task, moment: rules.Moment, *, after: int) -> str:
    """The ETag of a page, which changes exactly when the page does."""
    return f'"{task.id.removeprefix("task_")}-{after}-{moment.reached}{"o" * moment.has_output}"'


def matches(if_none_match: str | None, etag: str) -> bool:
    """Whether ``If-None-Match`` holds ``etag`` (weak comparison, RFC 9110)."""
    if if_none_match is None:
        return False
    offered = [tag.strip().removeprefix("W/") for tag in if_none_match.split(",")]
    return etag in offered or offered == ["*"]


def _timestamp(at: float) -> str:
    moment = datetime.datetime.fromtimestamp(at, tz=datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
