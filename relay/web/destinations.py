"""``/destinations``: who can be told, and telling one of them a test.

What is shown of a destination holds no secret: of its URL only scheme and host.
"""

from __future__ import annotations

from typing import Final

from aiohttp import web

from relay.domain import model
from relay.engine import definitions
from relay.web import audit, deliveries, endpoints, problems, reading, schemas

TEST_PATIENCE: Final = 2.0
"""Seconds beyond the sender's own limit that a test waits: for a seat and for the record."""


async def list_destinations(call: endpoints.Call) -> web.Response:
    """List destinations by name."""
    known = [_shown(entry) for entry in call.services.destinations.all() if _visible(entry)]
    return endpoints.answer(schemas.Destinations(destinations=known, next_cursor=None))


async def show(call: endpoints.Call, *, name: str) -> web.Response:
    """Show a destination."""
    return endpoints.answer(_shown(_entry(call.services, name)))


async def test(call: endpoints.Call, *, name: str) -> web.Response:
    """Send a test to a destination and tell how it went.

    Waits for the first attempt; one that takes too long is answered as it stands.
    """
    entry = _entry(call.services, name)
    dispatcher, store = call.services.dispatcher, call.services.store
    audit.note(call, "destination.tested", name)
    delivery_id = await dispatcher.test(name, wait=entry.sender.time_limit + TEST_PATIENCE)
    delivery = await store.delivery(delivery_id)
    if delivery is None:
        raise endpoints.not_found("delivery")
    return endpoints.answer(await deliveries.with_attempts(call.services, delivery))


def _visible(entry: definitions.Known) -> bool:
    """Inline ones are their callers' own."""
    return entry.source is not model.Source.INLINE


def _entry(services: endpoints.Services, name: str) -> definitions.Known:
    """Raises ``problems.Problem`` 404, naming the nearest."""
    known = {entry.name: entry for entry in services.destinations.all() if _visible(entry)}
    entry = known.get(name)
    if entry is None:
        meant = reading.nearest(name, known)
        hint = f"did you mean {meant!r}?" if meant else "GET /api/v1/destinations lists them."
        raise problems.Problem(404, f"There is no such destination; {hint}")
    return entry


def _shown(entry: definitions.Known) -> schemas.Destination:
    heard = model.HEARD_BY_DEFAULT if entry.options.statuses is None else entry.options.statuses
    return schemas.Destination(
        name=entry.name,
        format=entry.sender.format,
        address=entry.sender.address,
        statuses=[change for change in schemas.CHANGES if change in heard],
        prompt=entry.options.prompt,
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
        answers={200: schemas.DeliveryWithAttempts},
        access=endpoints.Access.ADMIN,
    ),
)
