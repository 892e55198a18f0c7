"""``/deliveries``: what was told to whom, and telling it again.

A caller sees the deliveries of the tasks it sees; those without a task (tests, operator notices) are
an admin's.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from relay.domain import model
from relay.store import base as store_base
from relay.web import cursors, endpoints, schemas, tasks


async def list_deliveries(call: endpoints.Call, *, query: schemas.DeliveriesQuery) -> web.Response:
    """List deliveries, newest first."""
    before = cursors.row(query.cursor, prefix="msg")
    where = store_base.DeliveryFilter(
        key_id=call.caller.scope(),
        state=query.state,
        destination=query.destination,
        task=(await tasks.visible_task(call, query.task)).task.id if query.task is not None else None,
    )
    found = await call.services.store.deliveries(where, before=before, limit=query.limit + 1)
    page = found[: query.limit]
    last = page[-1] if len(found) > query.limit else None
    return endpoints.answer(
        schemas.Deliveries(
            deliveries=[schemas.Delivery(**schemas.delivery_members(each)) for each in page],
            next_cursor=cursors.of_row(last.created_at, last.id) if last else None,
        )
    )


async def show(call: endpoints.Call, *, delivery: str) -> web.Response:
    """Show a delivery with every attempt."""
    return endpoints.answer(await with_attempts(call.services, await _visible(call, delivery)))


async def redeliver(call: endpoints.Call, *, delivery: str) -> web.Response:
    """Send it again with a fresh schedule, whatever became of it.

    One that is being sent right now is left to finish and answered as it is.
    """
    await _visible(call, delivery)
    again = await call.services.dispatcher.redeliver(delivery)
    if again is None:
        raise endpoints.not_found("delivery")
    return endpoints.answer(schemas.Delivery(**schemas.delivery_members(again)), status=202)


async def with_attempts(
    services: endpoints.Services, delivery: model.Delivery
) -> schemas.DeliveryWithAttempts:
    """The delivery as it is shown alone."""
    made = await services.store.attempts(delivery.id)
    return schemas.DeliveryWithAttempts(
        **schemas.delivery_members(delivery), attempts=[schemas.attempt(each) for each in made]
    )


async def _visible(call: endpoints.Call, delivery_id: str) -> model.Delivery:
    """Raises ``problems.Problem`` 404 where this caller sees none."""
    found = await call.services.store.delivery(delivery_id)
    if found is None:
        raise endpoints.not_found("delivery")
    if call.caller.is_admin:
        return found
    if found.upstream is None or found.task_id is None:
        raise endpoints.not_found("delivery")
    view = await call.services.store.task(found.upstream, found.task_id)
    if view is None or not tasks.sees(call.caller, view):
        raise endpoints.not_found("delivery")
    return found


_DELIVERIES: Final = f"{endpoints.API}/deliveries"

ENDPOINTS: Final = (
    endpoints.Endpoint(
        method="GET", path=_DELIVERIES, handler=list_deliveries, answers={200: schemas.Deliveries}
    ),
    endpoints.Endpoint(
        method="GET",
        path=f"{_DELIVERIES}/{{delivery}}",
        handler=show,
        answers={200: schemas.DeliveryWithAttempts},
    ),
    endpoints.Endpoint(
        method="POST",
        path=f"{_DELIVERIES}/{{delivery}}/redeliver",
        handler=redeliver,
        answers={202: schemas.Delivery},
    ),
)
