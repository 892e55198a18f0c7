"""``/tasks``: submitting, registering, reading and letting go of tasks.

Parse, call the intake or the store, render. A caller sees a task when its key has a registration on
it, and then its own registration only; an admin sees all. Never asks an upstream for a reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from aiohttp import web

from relay.domain import errors, ids, model
from relay.engine import intake as intakes
from relay.engine import submissions
from relay.store import base as store_base
from relay.web import (
    auth,
    conditional,
    cursors,
    endpoints,
    filters,
    notify,
    problems,
    reading,
    streams,
    waiting,
)
from relay.web.schemas import events as event_schemas
from relay.web.schemas import registrations as registration_schemas
from relay.web.schemas import tasks as schemas

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
    _check_input(call.services, body)
    named = await notify.names(call, body.notify)
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


async def register(call: endpoints.Call, *, task: str, body: registration_schemas.Wishes) -> web.Response:
    """Register a task that exists upstream, or add to what this key registered.

    Destinations are added, never taken away. The upstream is not asked.
    """
    upstream, task_id = named_task(call.services, task)
    wanted = intakes.Wanted(
        upstream=upstream,
        task_id=task_id,
        notify=await notify.names(call, body.notify),
        statuses=body.changes(),
        metadata=body.metadata,
    )
    registered = await call.services.intake.register_one(call.caller.key_id, wanted)
    watch = registered.watch
    seen = 0
    if watch.task.version > _FIRST_VERSION:
        view = await call.services.store.task(upstream, task_id)
        seen = view.events_seen if view is not None else 0
    shown = _members(call, watch.task, watch.registrations, events_seen=seen)
    return endpoints.answer_json(shown, status=201 if registered.created else 200)


async def list_tasks(call: endpoints.Call, *, query: filters.TasksQuery) -> web.Response:
    """List tasks, newest first.

    A page that is filtered may be short, even empty, and still have a ``next_cursor``: the list goes
    on there.
    """
    if query.upstream is not None:
        _upstream(call.services, query.upstream, parameter="upstream")
    before = filters.position(query, prefix="tsk")
    where = query.where(call.caller.scope())
    page = await call.services.store.tasks(where, before=before, limit=query.limit)
    return conditional.answer(
        call,
        lambda: {
            "tasks": [_of_view(call, view) for view in page.rows],
            "next_cursor": filters.next_cursor(query, page),
        },
        state=(page.next, *map(conditional.of_view, page.rows)),
    )


async def show(call: endpoints.Call, *, task: str) -> web.Response:
    """Show a task: the relayed API's body, and what relay knows of it.

    With ``Prefer: wait=N`` the answer is held until the task has ended, for N seconds at most.
    """
    view = await visible_task(call, task)
    seconds = waiting.asked(call.request)
    if seconds is not None and not view.task.verdict.final:
        streams.require_room(call)
        reading_along = call.services.feed.reading(key_id=call.caller.scope(), task=view.task.id)
        with reading_along as reader:
            # It may have ended while nobody read along.
            view = await visible_task(call, task)
            if not view.task.verdict.final:
                await reader.wait_for_end(seconds)
                view = await visible_task(call, task)
    return conditional.answer(
        call,
        lambda: _of_view(call, view),
        state=conditional.of_view(view),
        headers={} if seconds is None else {waiting.SENDS: f"wait={seconds}"},
    )


async def events(call: endpoints.Call, *, task: str, query: event_schemas.EventsQuery) -> web.StreamResponse:
    """Show a task with its events after a cursor, or stream them.

    With ``Accept: text/event-stream`` they come as server-sent events, as they happen, from the first
    or from behind ``Last-Event-ID``. The stream ends once the task has ended and everything was sent;
    who then comes back for more is answered 204.
    """
    view = await visible_task(call, task)
    if streams.preferred(call.request):
        return await streams.of_task(call, view, query)
    after = cursors.event(query.cursor, task=view.task.id)
    found = await call.services.store.events(view.task.id, after=after, limit=EVENTS_MAX)
    last = found[-1].seq if found else after
    return conditional.answer(
        call,
        lambda: {
            **_of_view(call, view),
            "events": [event_schemas.event(each) for each in found],
            "next_cursor": cursors.of_event(view.task.id, last),
        },
        state=(*conditional.of_view(view), after, last, len(found)),
        headers={"Vary": "Accept"},
    )


async def unregister(call: endpoints.Call, *, task: str) -> web.Response:
    """Drop this key's registration. Never cancels the task upstream."""
    upstream, task_id = named_task(call.services, task)
    if not await call.services.intake.unregister(call.caller.key_id, upstream=upstream, task_id=task_id):
        raise problems.Problem(404, "This key has no registration on such a task.")
    return web.Response(status=204)


def named_task(services: endpoints.Services, reference: str) -> tuple[str, str]:
    """The (upstream, task id) that ``{task}`` names. Raises ``problems.Problem`` 422."""
    upstream, task_id = ids.split_reference(reference, services.pollers.names)
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


def _check_input(services: endpoints.Services, body: schemas.NewTask) -> None:
    """Raises ``problems.Problem`` 422 with all that is wrong, before anything is sent and charged.

    A model that is not known here is the upstream's to judge.
    """
    model = services.catalogue.find(body.model)
    if model is None:
        return
    if model.retired:
        raise problems.invalid([problems.Fault("is retired and takes no new tasks", "/model")])
    faults = model.faults(body.input)
    if faults:
        raise problems.invalid([problems.Fault(fault.detail, fault.pointer) for fault in faults])


def _upstream(services: endpoints.Services, name: str | None, *, parameter: str | None = None) -> str:
    """The upstream meant by ``name``, or by leaving it out. ``parameter`` says where in a query it stood."""
    known = services.settings.upstreams
    if name is not None:
        if name in known:
            return name
        meant = reading.nearest(name, known)
        hint = f"did you mean {meant!r}?" if meant else f"there is {', '.join(sorted(known)) or 'none'}"
        pointer = "/upstream" if parameter is None else None
        raise problems.invalid([problems.Fault(f"is no configured upstream; {hint}", pointer, parameter)])
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


def _of_view(call: endpoints.Call, view: store_base.TaskView) -> dict[str, object]:
    return _members(call, view.task, view.registrations, events_seen=view.events_seen)


def _members(
    call: endpoints.Call,
    task: model.Task,
    registrations: Sequence[model.Registration],
    *,
    events_seen: int,
) -> dict[str, object]:
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
        reads=("Idempotency-Key", NOTIFY_HEADER),
        sends=("Location", "Idempotent-Replayed"),
        refusals=("4XX", 409, 502, 504),
    ),
    endpoints.Endpoint(
        method="GET",
        path=_TASKS,
        handler=list_tasks,
        answers={200: schemas.Tasks, 304: None},
        reads=(conditional.READS,),
        sends=(conditional.SENDS,),
    ),
    endpoints.Endpoint(
        method="PUT",
        path=f"{_TASKS}/{{task}}",
        handler=register,
        answers={201: schemas.Task, 200: schemas.Task},
    ),
    endpoints.Endpoint(
        method="GET",
        path=f"{_TASKS}/{{task}}",
        handler=show,
        answers={200: schemas.Task, 304: None},
        reads=(conditional.READS, waiting.READS),
        sends=(conditional.SENDS, waiting.SENDS),
    ),
    endpoints.Endpoint(method="DELETE", path=f"{_TASKS}/{{task}}", handler=unregister, answers={204: None}),
    endpoints.Endpoint(
        method="GET",
        path=f"{_TASKS}/{{task}}/events",
        handler=events,
        answers={200: schemas.TaskEvents, 204: None, 304: None},
        media=("application/json", streams.CONTENT_TYPE),
        reads=(conditional.READS, streams.RESUME_HEADER),
        sends=(conditional.SENDS,),
    ),
)
