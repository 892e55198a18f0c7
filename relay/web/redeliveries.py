"""``/redeliveries``: telling many deliveries again. Only an admin comes here.

One is made as a preview that sends nothing; ``run`` starts it. What may be done in which state is
``domain/redelivery.py``'s business.
"""

from __future__ import annotations

from typing import Annotated, Final

import pydantic
from aiohttp import web
from pydantic import Field

from relay.domain import model
from relay.domain import redelivery as rules
from relay.engine import outbox
from relay.web import audit, cursors, endpoints, problems, reading, tasks
from relay.web.schemas import common as common_schemas
from relay.web.schemas import deliveries as delivery_schemas
from relay.web.schemas import redeliveries as schemas

_TYPES: Final = (*(change.type for change in model.Change), outbox.TEST_TYPE)
"""Types of deliveries, but for the notices to the operator."""

_NARROWING: Final = ("destination", "task", "reason", "type", "created_after", "created_before")


class RedeliveriesQuery(common_schemas.PageQuery):
    """Which redeliveries to list."""

    state: Annotated[rules.State | None, Field(description="Only redeliveries in this state.")] = None


async def create(call: endpoints.Call, *, body: schemas.NewRedelivery) -> web.Response:
    """Prepare to tell many deliveries again: how many are selected, and the first of them.

    Nothing is sent before it is run. Only deliveries that exist by now are told again. A preview that
    nobody runs is deleted after a day.
    """
    selection = await _selection(call, body)
    made, sample = await call.services.redeliveries.preview(
        selection, rate=body.rate, created_by=call.caller.key_id
    )
    audit.note(call, "redelivery.created", made.id, count=str(made.count))
    return endpoints.answer(
        schemas.RedeliveryPreview(
            **schemas.redelivery_members(made),
            sample=[delivery_schemas.Delivery(**delivery_schemas.delivery_members(each)) for each in sample],
        ),
        status=201,
        headers={"Location": f"{_REDELIVERIES}/{made.id}"},
    )


async def list_redeliveries(call: endpoints.Call, *, query: RedeliveriesQuery) -> web.Response:
    """List redeliveries, newest first."""
    filters = cursors.digest({"state": query.state})
    before = cursors.row(query.cursor, prefix="rdl", filters=filters)
    page = await call.services.store.redeliveries(query.state, before=before, limit=query.limit)
    return endpoints.answer(
        schemas.Redeliveries(
            redeliveries=[_shown(each) for each in page.rows],
            next_cursor=None if page.next is None else cursors.of_row(*page.next, filters=filters),
        )
    )


async def show(call: endpoints.Call, *, redelivery: str) -> web.Response:
    """Show a redelivery and how far it is."""
    found = await call.services.store.redelivery(redelivery)
    if found is None:
        raise endpoints.not_found("redelivery")
    return endpoints.answer(_shown(found))


async def run(call: endpoints.Call, *, redelivery: str, body: schemas.RunRedelivery) -> web.Response:
    """Run a preview, go on with one that is paused, or change the rate of one that runs.

    Each delivery becomes due with a fresh schedule and its same id. It survives a restart.
    """
    return await _change(call, redelivery, rules.Action.RUN, rate=body.rate)


async def pause(call: endpoints.Call, *, redelivery: str) -> web.Response:
    """Pause a redelivery; ``run`` goes on where it was. What is due already is still sent."""
    return await _change(call, redelivery, rules.Action.PAUSE)


async def cancel(call: endpoints.Call, *, redelivery: str) -> web.Response:
    """End a redelivery where it is. What is due already is still sent."""
    return await _change(call, redelivery, rules.Action.CANCEL)


async def _change(
    call: endpoints.Call, redelivery: str, action: rules.Action, *, rate: float | None = None
) -> web.Response:
    changed = await call.services.redeliveries.change(redelivery, action, rate=rate)
    if changed is None:
        raise endpoints.not_found("redelivery")
    audit.note(call, f"redelivery.{_DONE[action]}", redelivery)
    return endpoints.answer(_shown(changed))


_DONE: Final = {
    rules.Action.RUN: "run",
    rules.Action.PAUSE: "paused",
    rules.Action.CANCEL: "cancelled",
}


async def _selection(call: endpoints.Call, body: schemas.NewRedelivery) -> rules.Selection:
    """What ``body`` asks for. Raises ``problems.Problem`` 422 with a pointer for each fault."""
    faults = [*_contradictions(body), *_unknown_names(call, body)]
    task = None
    if body.task is not None:
        try:
            task = (await tasks.visible_task(call, body.task)).task
        except problems.Problem as refused:
            faults.append(problems.Fault(refused.detail, "/task"))
    if faults:
        raise problems.invalid(faults)
    return rules.Selection(
        state=model.DeliveryState(body.state),
        destination=body.destination,
        reason=body.reason,
        type=body.type,
        task=None if task is None else task.id,
        reference=None if task is None else f"{task.upstream}:{task.task_id}",
        created_after=body.created_after,
        created_before=body.created_before,
    )


def _contradictions(body: schemas.NewRedelivery) -> list[problems.Fault]:
    given = [name for name in _NARROWING if getattr(body, name) is not None]
    faults = []
    if not given and not body.all:
        faults.append(problems.Fault(f'give at least one of {", ".join(_NARROWING)}, or {{"all": true}}', ""))
    if given and body.all:
        faults.append(problems.Fault(f"does not go with {', '.join(given)}", "/all"))
    after, before = body.created_after, body.created_before
    if after is not None and before is not None and before <= after:
        faults.append(problems.Fault("must be later than created_after", "/created_before"))
    return faults


def _unknown_names(call: endpoints.Call, body: schemas.NewRedelivery) -> list[problems.Fault]:
    faults = []
    known = call.services.dispatcher.destinations
    if body.destination is not None and body.destination not in known:
        faults.append(_unknown("destination", body.destination, sorted(known)))
    if body.type is not None and body.type not in _TYPES and not body.type.startswith(outbox.OPERATOR_TYPE):
        faults.append(_unknown("type", body.type, _TYPES))
    return faults


def _unknown(what: str, given: str, known: tuple[str, ...] | list[str]) -> problems.Fault:
    meant = reading.nearest(given, known)
    hint = f"; did you mean {meant!r}?" if meant else f": {', '.join(known)}"
    return problems.Fault(f"is no {what} that there is{hint}", f"/{what}")


def _shown(redelivery: rules.Redelivery) -> schemas.Redelivery:
    return schemas.Redelivery(**schemas.redelivery_members(redelivery))


_REDELIVERIES: Final = f"{endpoints.API}/redeliveries"


def _endpoint(
    method: str,
    path: str,
    handler: endpoints.Handler,
    answers: dict[int, type[pydantic.BaseModel] | None],
    *,
    sends: tuple[str, ...] = (),
    refusals: tuple[int, ...] = (),
) -> endpoints.Endpoint:
    return endpoints.Endpoint(
        method=method,
        path=f"{_REDELIVERIES}{path}",
        handler=handler,
        answers=answers,
        access=endpoints.Access.ADMIN,
        sends=sends,
        refusals=refusals,
    )


ENDPOINTS: Final = (
    _endpoint("POST", "", create, {201: schemas.RedeliveryPreview}, sends=("Location",)),
    _endpoint("GET", "", list_redeliveries, {200: schemas.Redeliveries}),
    _endpoint("GET", "/{redelivery}", show, {200: schemas.Redelivery}),
    _endpoint("POST", "/{redelivery}/run", run, {200: schemas.Redelivery}, refusals=(409,)),
    _endpoint("POST", "/{redelivery}/pause", pause, {200: schemas.Redelivery}, refusals=(409,)),
    _endpoint("POST", "/{redelivery}/cancel", cancel, {200: schemas.Redelivery}, refusals=(409,)),
)
