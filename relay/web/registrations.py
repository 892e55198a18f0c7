"""``POST /registrations``: many tasks at once, a result for each.

A body of the wrong shape is refused whole, as everywhere. What cannot be done for one task (a
destination that is not configured, an id that is none) is that task's result, and the others are
registered.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from relay.domain import errors
from relay.engine import intake as intakes
from relay.web import endpoints, notify, problems, tasks
from relay.web.schemas import registrations as schemas


async def register_many(call: endpoints.Call, *, body: schemas.NewRegistrations) -> web.Response:
    """Register up to 1,000 tasks that exist upstream.

    The answer has a result for each, in order. Those that can be registered are, whatever becomes of
    the others; an `error` is the problem that registering the task alone would have answered. Naming
    a task twice registers it once, with all that was asked for.
    """
    results: list[schemas.RegistrationResult | None] = [None] * len(body.tasks)
    wanted: dict[int, intakes.Wanted] = {}
    for index, one in enumerate(body.tasks):
        try:
            wanted[index] = await _wanted(call, one)
        except (problems.Problem, errors.RequestRefused) as exc:
            results[index] = _refused(call, one, exc)
    registered = await call.services.intake.register_each(call.caller.key_id, list(wanted.values()))
    for index, done in zip(wanted, registered, strict=True):
        one = body.tasks[index]
        if isinstance(done, intakes.Registered):
            results[index] = _registered(one, done)
        else:
            results[index] = _refused(call, one, _UNSTORABLE)
    return endpoints.answer(schemas.Registrations(registrations=[each for each in results if each]))


_UNSTORABLE: Final = problems.Problem(422, "The database refuses a value of this registration.")


async def _wanted(call: endpoints.Call, one: schemas.NewRegistration) -> intakes.Wanted:
    """Raises ``problems.Problem`` and ``errors.RequestRefused`` for what is wrong with this one."""
    upstream, task_id = tasks.named_task(call.services, one.task)
    if schemas.over_metadata_max(one.metadata):
        raise problems.invalid([problems.Fault(schemas.METADATA_TOO_LARGE, "/metadata")])
    names = await notify.names(call, one.notify)
    call.services.intake.check(upstream, names, key_id=call.caller.key_id)
    return intakes.Wanted(
        upstream=upstream,
        task_id=task_id,
        notify=names,
        statuses=one.changes(),
        metadata=one.metadata,
    )


def _registered(one: schemas.NewRegistration, done: intakes.Registered) -> schemas.RegistrationResult:
    task = done.watch.task
    return schemas.RegistrationResult(
        task=one.task,
        result="created" if done.created else "updated",
        id=task.id,
        status=task.status,
        verdict=task.verdict,
    )


def _refused(
    call: endpoints.Call, one: schemas.NewRegistration, exc: Exception
) -> schemas.RegistrationResult:
    members = problems.members(problems.from_error(exc), call.request[problems.REQUEST_ID])
    return schemas.RegistrationResult(
        task=one.task, result="refused", error=schemas.Refusal.model_validate(members)
    )


ENDPOINTS: Final = (
    endpoints.Endpoint(
        method="POST",
        path=f"{endpoints.API}/registrations",
        handler=register_many,
        answers={200: schemas.Registrations},
    ),
)
