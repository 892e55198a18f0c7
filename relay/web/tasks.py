"""``/tasks``: submitting, registering, reading and letting go of tasks.

Parse, call the intake or the store, render. A caller sees a task when its key has a registration on
it, and then its own registration only; an admin sees all. Never asks an upstream for a reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from aiohttp import web

from relay.domain import errors, ids, model
from relay.engine import intake as intakes
from relay.engine import submissions
from relay.store import base as store_base
from relay.web import auth, cursors, endpoints, problems, reading, schemas

NOTIFY_HEADER: Final = "Relay-Notify"
"""Names destinations for bodies that must stay as the relayed API documents them."""

EVENTS_MAX: Final = 200
"""Events in one page."""

_FIRST_VERSION: Final = 1
"""The version of a task that was stored once: nothing can have been seen of it yet."""


async def submit(call: endpoints.Call, *, body: schemas.NewTask) -> web.Response:
    """Submit a task upstream and watch it.

    The ``Idempotency-Key`` makes it safe to ask again: the same payload gets the first answer.
    """
    key = reading.idempotency_key(call.request)
    foreign = body.foreign()
    faults = reading.misspellings(foreign, schemas.OURS)
    if faults:
        raise problems.invalid(faults)
    named = tuple(body.notify or ())
    also = reading.names_in_header(call.request, NOTIFY_HEADER)
    upstream = _upstream(call.services, body.upstream)
    try:
        submitted = await call.services.submissions.submit(
            call.caller.key_id,
            submissions.Submitting(
                upstream=upstream,
                model=body.model,
                input=body.input,
                extra=foreign,
                notify=(*named, *also),
                statuses=body.changes(),
                metadata=body.metadata,
                client_key=key,
            ),
        )
    except errors.RequestRefused as refused:
        raise _placed(refused, named=len(named)) from None
    headers = _location(call.services, upstream, submitted.answer.get("task_id"))
    if submitted.replayed:
        headers["Idempotent-Replayed"] = "true"
    return endpoints.answer_json(submitted.answer, status=200 if submitted.replayed else 201, headers=headers)


async def register(call: endpoints.Call, *, task: str, body: schemas.Wishes) -> web.Response:
    """Register a task that exists upstream, or add to what this key registered.

    Destinations are added, never taken away. The upstream is not asked.
    """
    upstream, task_id = named_task(call.services, task)
    wanted = intakes.Wanted(
        upstream=upstream,
        task_id=task_id,
        notify=tuple(body.notify or ()),
        statuses=body.changes(),
        metadata=body.metadata,
    )
    [registered] = await call.services.intake.register(call.caller.key_id, [wanted])
    watch = registered.watch
    seen = 0
    if watch.task.version > _FIRST_VERSION:
        view = await call.services.store.task(upstream, task_id)
        seen = view.events_seen if view is not None else 0
    shown = schemas.Task(**_members(call, watch.task, watch.registrations, events_seen=seen))
    return endpoints.answer(shown, status=201 if registered.created else 200)


async def list_tasks(call: endpoints.Call, *, query: schemas.TasksQuery) -> web.Response:
    """List tasks, newest first."""
    where = store_base.TaskFilter(
        key_id=call.caller.scope(), upstream=query.upstream, status=query.status, verdict=query.verdict
    )
    before = cursors.row(query.cursor, prefix="tsk")
    found = await call.services.store.tasks(where, before=before, limit=query.limit + 1)
    page = found[: query.limit]
    last = page[-1].task if len(found) > query.limit else None
    return endpoints.answer(
        schemas.Tasks(
            tasks=[schemas.Task(**_of_view(call, view)) for view in page],
            next_cursor=cursors.of_row(last.created_at, last.id) if last else None,
        )
    )


async def show(call: endpoints.Call, *, task: str) -> web.Response:
    """Show a task: the relayed API's body, and what relay knows of it."""
    return endpoints.answer(schemas.Task(**_of_view(call, await visible_task(call, task))))


async def events(call: endpoints.Call, *, task: str, query: schemas.EventsQuery) -> web.Response:
    """Show a task with its events after a cursor."""
    view = await visible_task(call, task)
    after = cursors.event(query.cursor, task=view.task.id)
    found = await call.services.store.events(view.task.id, after=after, limit=EVENTS_MAX)
    return endpoints.answer(
        schemas.TaskEvents(
            **_of_view(call, view),
            events=[schemas.event(each) for each in found],
            next_cursor=cursors.of_event(view.task.id, found[-1].seq if found else after),
        )
    )


async def unregister(call: endpoints.Call, *, task: str) -> web.Response:
    """Drop this key's registration. Never cancels the task upstream."""
    upstream, task_id = named_task(call.services, task)
    if not await call.services.intake.unregister(call.caller.key_id, upstream=upstream, task_id=task_id):
        raise problems.Problem(404, "This key has no registration on such a task.")
    return web.Response(status=204)


def named_task(services: endpoints.Services, reference: str) -> tuple[str, str]:
    """The (upstream, task id) that ``{task}`` names. Raises ``problems.Problem`` 422."""
    upstream, task_id = ids.split_reference(reference, frozenset(services.settings.upstreams))
    if not ids.is_task_id(task_id):
        raise problems.Problem(
            422, "A task id is 1 to 200 characters of A-Z a-z 0-9 . _ : ~ - and neither '.' nor '..'."
        )
    return upstream or _upstream(services, None), task_id


async def visible_task(call: endpoints.Call, reference: str) -> store_base.TaskView:
    """The task that ``{task}`` names. Raises ``problems.Problem`` 404 where this caller sees none."""
    upstream, task_id = named_task(call.services, reference)
    view = await call.services.store.task(upstream, task_id)
    if view is None or not sees(call.caller, view):
        raise endpoints.not_found("task")
    return view


def sees(caller: auth.Caller, view: store_base.TaskView) -> bool:
    """Whether ``caller`` may read that task."""
    return caller.is_admin or any(r.key_id == caller.key_id for r in view.registrations)


def _upstream(services: endpoints.Services, name: str | None) -> str:
    """The upstream meant by ``name``, or by leaving it out."""
    known = services.settings.upstreams
    if name is not None:
        if name in known:
            return name
        meant = reading.nearest(name, known)
        hint = f"did you mean {meant!r}?" if meant else f"there is {', '.join(sorted(known)) or 'none'}"
        raise problems.invalid([problems.Fault(f"is no configured upstream; {hint}", "/upstream")])
    default = services.settings.upstream_by_default()
    if default is not None:
        return default
    if not known:
        raise problems.Problem(422, "No upstream is configured; add [upstreams.NAME] to the configuration.")
    raise problems.Problem(
        422,
        "Which upstream is not decided: name one (upstream:id in a path, the member upstream in a create), "
        f"or set default_upstream; there is {', '.join(sorted(known))}.",
    )


def _location(services: endpoints.Services, upstream: str, task_id: object) -> dict[str, str]:
    """Where the created task is read; nothing when the upstream's answer names it in its own way."""
    if not isinstance(task_id, str) or not ids.is_task_id(task_id):
        return {}
    reference = task_id if services.settings.upstream_by_default() == upstream else f"{upstream}:{task_id}"
    return {"Location": f"{endpoints.API}/tasks/{reference}"}


def _placed(refused: errors.RequestRefused, *, named: int) -> Exception:
    """``refused``, or a problem that says it of the header where the name came from there.

    ``named`` is how many destinations the body itself named.
    """
    head, _, index = refused.pointer.rpartition("/")
    if head == "/notify" and index.isdigit() and int(index) >= named:
        return problems.invalid([problems.Fault(str(refused), parameter=NOTIFY_HEADER)])
    return refused


def _of_view(call: endpoints.Call, view: store_base.TaskView) -> dict[str, Any]:
    return _members(call, view.task, view.registrations, events_seen=view.events_seen)


def _members(
    call: endpoints.Call,
    task: model.Task,
    registrations: Sequence[model.Registration],
    *,
    events_seen: int,
) -> dict[str, Any]:
    caller = call.caller
    shown = [r for r in registrations if caller.is_admin or r.key_id == caller.key_id]
    polled = call.services.pollers.polled(task.upstream, task.id)
    return schemas.task_members(
        task,
        shown,
        events_seen=events_seen,
        last_polled_at=polled.last_polled_at if polled else None,
        next_poll_at=polled.next_poll_at if polled else None,
    )


_TASKS: Final = f"{endpoints.API}/tasks"

ENDPOINTS: Final = (
    endpoints.Endpoint(
        method="POST",
        path=_TASKS,
        handler=submit,
        answers={201: schemas.Created, 200: schemas.Created},
    ),
    endpoints.Endpoint(method="GET", path=_TASKS, handler=list_tasks, answers={200: schemas.Tasks}),
    endpoints.Endpoint(
        method="PUT",
        path=f"{_TASKS}/{{task}}",
        handler=register,
        answers={201: schemas.Task, 200: schemas.Task},
    ),
    endpoints.Endpoint(method="GET", path=f"{_TASKS}/{{task}}", handler=show, answers={200: schemas.Task}),
    endpoints.Endpoint(method="DELETE", path=f"{_TASKS}/{{task}}", handler=unregister, answers={204: None}),
    endpoints.Endpoint(
        method="GET", path=f"{_TASKS}/{{task}}/events", handler=events, answers={200: schemas.TaskEvents}
    ),
)
