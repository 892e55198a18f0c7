"""``/destinations``: who can be told, making and changing them, and telling one of them a test.

What is shown of a destination holds no secret: of its URL only scheme and host, of its headers only
the names. A secret that relay made itself is answered once. A client sees what the operator offers
and the inline destinations of its own; an admin sees all.
"""

from __future__ import annotations

from typing import Any, Final

from aiohttp import web

from relay.domain import model
from relay.engine import definitions
from relay.store import destinations as stored
from relay.web import audit, deliveries, endpoints, problems, reading
from relay.web.schemas import common
from relay.web.schemas import deliveries as delivery_schemas
from relay.web.schemas import destinations as schemas

TEST_PATIENCE: Final = 2.0
"""Seconds beyond the sender's own limit that a test waits: for a seat and for the record."""


async def list_destinations(call: endpoints.Call) -> web.Response:
    """List destinations by name."""
    shown = [_shown(call, each) for each in call.services.destinations.all() if _sees(call, each)]
    return endpoints.answer(schemas.Destinations(destinations=shown, next_cursor=None))


async def create(call: endpoints.Call, *, body: schemas.NewDestination) -> web.Response:
    """Add a destination.

    Its URL and secrets are encrypted where they are kept, and never shown again.
    """
    made = await call.services.destinations.create(body.name, _definition(body))
    audit.note(call, "destination.created", body.name)
    members = _members(call, made.known) | ({} if made.secret is None else {"secret": made.secret})
    return endpoints.answer(
        schemas.DestinationWithSecret(**members),
        status=201,
        headers={"Location": f"{_DESTINATIONS}/{body.name}"},
    )


async def show(call: endpoints.Call, *, name: str) -> web.Response:
    """Show a destination."""
    return endpoints.answer(_shown(call, _visible(call, name)))


async def change(call: endpoints.Call, *, name: str, body: schemas.ChangedDestination) -> web.Response:
    """Change a destination: what the body does not name stays as it is.

    Sends that are under way end as they began.
    """
    _visible(call, name)
    known = await call.services.destinations.change(name, _definition(body))
    audit.note(call, "destination.changed", name, members=",".join(sorted(body.model_fields_set)))
    return endpoints.answer(_shown(call, known))


async def delete(call: endpoints.Call, *, name: str) -> web.Response:
    """Delete a destination. What it is owed is held until there is one of that name again."""
    _visible(call, name)
    await call.services.destinations.delete(name)
    audit.note(call, "destination.deleted", name)
    return web.Response(status=204)


async def pause(call: endpoints.Call, *, name: str) -> web.Response:
    """Send it nothing until it is resumed: what it is owed is held, never dropped."""
    _visible(call, name)
    known = await call.services.destinations.pause(name)
    audit.note(call, "destination.paused", name)
    return endpoints.answer(_shown(call, known))


async def resume(call: endpoints.Call, *, name: str, body: schemas.Resumption) -> web.Response:
    """Send again, whether it was paused or disabled.

    Of what was held all is sent, or the newest of each task, or none; at a limited rate, with a fresh
    budget of attempts.
    """
    _visible(call, name)
    known, resumed = await call.services.destinations.resume(name, stored.Which(body.which))
    audit.note(call, "destination.resumed", name, which=body.which)
    return endpoints.answer(schemas.Resumed(**_members(call, known), **resumed._asdict()))


async def rotate_secret(call: endpoints.Call, *, name: str, body: schemas.Rotation) -> web.Response:
    """Sign with a new secret; the old one signs too for `overlap` seconds."""
    _visible(call, name)
    rotated = await call.services.destinations.rotate_secret(name, secret=body.secret, overlap=body.overlap)
    audit.note(call, "destination.secret_rotated", name)
    return endpoints.answer(schemas.Secret(secret=rotated.secret, old_until=rotated.old_until))


async def public_key(call: endpoints.Call, *, name: str) -> web.Response:
    """Show the key that `v1a` signatures are verified with."""
    known = _visible(call, name)
    if known.public_key is None:
        raise problems.Problem(404, "This destination has no signing key: nothing is signed v1a for it.")
    return endpoints.answer(schemas.PublicKey(public_key=known.public_key))


async def test(call: endpoints.Call, *, name: str) -> web.Response:
    """Send a test to a destination and tell how it went.

    Waits for the first attempt; one that takes too long is answered as it stands. A test that arrives
    enables a destination that was disabled.
    """
    known = _visible(call, name)
    if known.problem is not None:
        raise problems.Problem(409, f"Nothing can be sent to it: {known.problem}")
    dispatcher, store = call.services.dispatcher, call.services.store
    audit.note(call, "destination.tested", name)
    delivery_id = await dispatcher.test(name, wait=known.sender.time_limit + TEST_PATIENCE)
    delivery = await store.delivery(delivery_id)
    if delivery is None:
        raise endpoints.not_found("delivery")
    return endpoints.answer(await deliveries.with_attempts(call.services, delivery))


def _visible(call: endpoints.Call, name: str) -> definitions.Known:
    """Raises ``problems.Problem`` 404, naming the nearest, where this caller sees none."""
    seen = {each.name: each for each in call.services.destinations.all() if _sees(call, each)}
    found = seen.get(name)
    if found is None:
        meant = reading.nearest(name, seen)
        hint = f"did you mean {meant!r}?" if meant else "GET /api/v1/destinations lists them."
        raise problems.Problem(404, f"There is no such destination; {hint}")
    return found


def _sees(call: endpoints.Call, known: definitions.Known) -> bool:
    return known.owner is None or call.caller.is_admin or known.owner == call.caller.key_id


def _definition(body: schemas.DestinationOptions) -> dict[str, Any]:
    """What the body names, as the registry takes it."""
    return {name: getattr(body, name) for name in body.model_fields_set if name != "name"}


def _shown(call: endpoints.Call, known: definitions.Known) -> schemas.Destination:
    return schemas.Destination(**_members(call, known))


def _members(call: endpoints.Call, known: definitions.Known) -> dict[str, Any]:
    options, health = known.options, known.health
    heard = model.HEARD_BY_DEFAULT if options.statuses is None else options.statuses
    # What is over is taken away now and then only, but signs nothing from its instant on.
    overlaps = known.old_until is not None and known.old_until > call.services.clock.now()
    state = {None: "active", model.HoldReason.PAUSED: "paused"}.get(health.hold_reason, "disabled")
    return {
        "name": known.name,
        "source": known.source,
        "owner": known.owner,
        "format": known.sender.format,
        "service": known.service,
        "address": known.sender.address,
        "statuses": [change for change in common.CHANGES if change in heard],
        "prompt": options.prompt,
        "schedule": list(options.schedule),
        "timeout": known.timeout,
        "concurrency": known.sender.concurrency,
        "rate": options.rate,
        "age_max": options.age_max,
        "retry_after_max": options.retry_after_max,
        "headers": sorted(known.headers),
        "signatures": list(known.signatures),
        "old_until": known.old_until if overlaps else None,
        "state": state,
        "paused_at": health.paused_at,
        "disabled_at": health.disabled_at,
        "disabled_reason": health.disabled_reason,
        "failing_since": health.failing_since,
        "problem": known.problem,
    }


_DESTINATIONS: Final = f"{endpoints.API}/destinations"
_ONE: Final = f"{_DESTINATIONS}/{{name}}"
_ADMIN: Final = endpoints.Access.ADMIN

ENDPOINTS: Final = (
    endpoints.Endpoint(
        method="GET", path=_DESTINATIONS, handler=list_destinations, answers={200: schemas.Destinations}
    ),
    endpoints.Endpoint(
        method="POST",
        path=_DESTINATIONS,
        handler=create,
        answers={201: schemas.DestinationWithSecret},
        access=_ADMIN,
        sends=("Location",),
        refusals=(409,),
    ),
    endpoints.Endpoint(method="GET", path=_ONE, handler=show, answers={200: schemas.Destination}),
    endpoints.Endpoint(
        method="PATCH",
        path=_ONE,
        handler=change,
        answers={200: schemas.Destination},
        access=_ADMIN,
        refusals=(409,),
    ),
    endpoints.Endpoint(
        method="DELETE", path=_ONE, handler=delete, answers={204: None}, access=_ADMIN, refusals=(409,)
    ),
    endpoints.Endpoint(
        method="POST",
        path=f"{_ONE}/test",
        handler=test,
        answers={200: delivery_schemas.DeliveryWithAttempts},
        access=_ADMIN,
        refusals=(409,),
    ),
    endpoints.Endpoint(
        method="POST", path=f"{_ONE}/pause", handler=pause, answers={200: schemas.Destination}, access=_ADMIN
    ),
    endpoints.Endpoint(
        method="POST", path=f"{_ONE}/resume", handler=resume, answers={200: schemas.Resumed}, access=_ADMIN
    ),
    endpoints.Endpoint(
        method="POST",
        path=f"{_ONE}/rotate-secret",
        handler=rotate_secret,
        answers={200: schemas.Secret},
        access=_ADMIN,
        refusals=(409,),
    ),
    endpoints.Endpoint(
        method="GET", path=f"{_ONE}/public-key", handler=public_key, answers={200: schemas.PublicKey}
    ),
)
