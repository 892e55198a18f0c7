"""``/deliveries``: what was told to whom, and telling it again.

A caller sees the deliveries of the tasks it sees; those without a task (tests, operator notices) are
an admin's.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from relay.domain import model
from relay.web import audit, endpoints, filters, tasks
from relay.web.schemas import deliveries as schemas


async def list_deliveries(call: endpoints.Call, *, query: filters.DeliveriesQuery) -> web.Response:
    """List deliveries, newest first.

    A page that is filtered may be short, even empty, and still have a ``next_cursor``: the list goes
    on there.
    """
    before = filters.position(query, prefix="msg")
    task = (await tasks.visible_task(call, query.task)).task.id if query.task is not None else None
    where = query.where(call.caller.scope(), task=task)
    page = await call.services.store.deliveries(where, before=before, limit=query.limit)
    return endpoints.answer(
        schemas.Deliveries(
            deliveries=[schemas.Delivery(**schemas.delivery_members(each)) for each in page.rows],
            next_cursor=filters.next_cursor(query, page),
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
    audit.note(call, "delivery.redelivered", delivery, destination=again.destination)
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
        method="GET",
        path=_DELIVERIES,
        handler=list_deliveries,
        answers={200: schemas.Deliveries},
        refusals=(404,),
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
