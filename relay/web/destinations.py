"""``/destinations``: who can be told, and telling one of them a test.

What is shown of a destination holds no secret: of its URL only scheme and host.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from relay.domain import model
from relay.senders import base as senders_base
from relay.web import audit, deliveries, endpoints, problems, reading
from relay.web.schemas import common as common_schemas
from relay.web.schemas import deliveries as delivery_schemas
from relay.web.schemas import destinations as schemas

TEST_PATIENCE: Final = 2.0
"""Seconds beyond the sender's own limit that a test waits: for a seat and for the record."""


async def list_destinations(call: endpoints.Call) -> web.Response:
    """List destinations by name."""
    senders = call.services.dispatcher.destinations
    return endpoints.answer(
        schemas.Destinations(
            destinations=[_shown(call.services, senders[name]) for name in sorted(senders)], next_cursor=None
        )
    )


async def show(call: endpoints.Call, *, name: str) -> web.Response:
    """Show a destination."""
    return endpoints.answer(_shown(call.services, _sender(call.services, name)))


async def test(call: endpoints.Call, *, name: str) -> web.Response:
    """Send a test to a destination and tell how it went.

    Waits for the first attempt; one that takes too long is answered as it stands.
    """
    sender = _sender(call.services, name)
    dispatcher, store = call.services.dispatcher, call.services.store
    audit.note(call, "destination.tested", name)
    delivery_id = await dispatcher.test(name, wait=sender.time_limit + TEST_PATIENCE)
    delivery = await store.delivery(delivery_id)
    if delivery is None:
        raise endpoints.not_found("delivery")
    return endpoints.answer(await deliveries.with_attempts(call.services, delivery))


def _sender(services: endpoints.Services, name: str) -> senders_base.Sender:
    """Raises ``problems.Problem`` 404, naming the nearest."""
    senders = services.dispatcher.destinations
    sender = senders.get(name)
    if sender is None:
        meant = reading.nearest(name, senders)
        hint = f"did you mean {meant!r}?" if meant else "GET /api/v1/destinations lists them."
        raise problems.Problem(404, f"There is no such destination; {hint}")
    return sender


def _shown(services: endpoints.Services, sender: senders_base.Sender) -> schemas.Destination:
    known = services.table.destinations.get(sender.name)
    heard = known.statuses if known is not None and known.statuses is not None else model.HEARD_BY_DEFAULT
    return schemas.Destination(
        name=sender.name,
        format=sender.format,
        address=sender.address,
        statuses=[change for change in common_schemas.CHANGES if change in heard],
        prompt=known.prompt if known is not None else True,
        source="configuration",
    )


_DESTINATIONS: Final = f"{endpoints.API}/destinations"

ENDPOINTS: Final = (
    endpoints.Endpoint(
        method="GET", path=_DESTINATIONS, handler=list_destinations, answers={200: schemas.Destinations}
    ),
    endpoints.Endpoint(
        method="GET", path=f"{_DESTINATIONS}/{{name}}", handler=show, answers={200: schemas.Destination}
    ),
    endpoints.Endpoint(
        method="POST",
        path=f"{_DESTINATIONS}/{{name}}/test",
        handler=test,
        answers={200: delivery_schemas.DeliveryWithAttempts},
        access=endpoints.Access.ADMIN,
    ),
)
