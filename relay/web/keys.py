"""``/keys``: API keys. Only an admin comes here; a key's text is shown once, when it is made."""

from __future__ import annotations

from typing import Final

from aiohttp import web

from relay.domain import api_keys, model
from relay.web import audit, endpoints
from relay.web.schemas import keys as schemas


async def create(call: endpoints.Call, *, body: schemas.NewKey) -> web.Response:
    """Make an API key. It is shown in this answer and never again."""
    minted = api_keys.mint(call.services.randomness)
    key = model.Key(
        id=minted.id, name=body.name, role=body.role, enabled=True, created_at=call.services.clock.now()
    )
    await call.services.store.create_key(key, secret_hash=minted.secret_hash)
    audit.note(call, "key.created", key.id, role=key.role)
    return endpoints.answer(
        schemas.KeyWithSecret(**schemas.key_members(key), key=minted.text),
        status=201,
        headers={"Location": f"{_KEYS}/{key.id}"},
    )


async def list_keys(call: endpoints.Call) -> web.Response:
    """List API keys, oldest first."""
    found = await call.services.store.keys()
    return endpoints.answer(schemas.Keys(keys=[_shown(key) for key in found], next_cursor=None))


async def show(call: endpoints.Call, *, key: str) -> web.Response:
    """Show an API key without its secret."""
    found = await call.services.store.key(key)
    if found is None:
        raise endpoints.not_found("API key")
    return endpoints.answer(_shown(found[0]))


async def disable(call: endpoints.Call, *, key: str) -> web.Response:
    """Disable an API key: it stops working at once. What it was promised is still told."""
    return await _enable(call, key, enabled=False)


async def enable(call: endpoints.Call, *, key: str) -> web.Response:
    """Enable an API key again."""
    return await _enable(call, key, enabled=True)


async def delete(call: endpoints.Call, *, key: str) -> web.Response:
    """Delete an API key. What it was promised is still told."""
    deleted = await call.services.store.delete_key(key)
    call.authenticator.forget(key)
    if not deleted:
        raise endpoints.not_found("API key")
    audit.note(call, "key.deleted", key)
    return web.Response(status=204)


async def _enable(call: endpoints.Call, key: str, *, enabled: bool) -> web.Response:
    changed = await call.services.store.enable_key(key, enabled=enabled)
    call.authenticator.forget(key)
    if changed is None:
        raise endpoints.not_found("API key")
    audit.note(call, "key.enabled" if enabled else "key.disabled", key)
    return endpoints.answer(_shown(changed))


def _shown(key: model.Key) -> schemas.Key:
    return schemas.Key(**schemas.key_members(key))


_KEYS: Final = f"{endpoints.API}/keys"


def _endpoint(
    method: str,
    path: str,
    handler: endpoints.Handler,
    answers: dict[int, type[schemas.Key | schemas.Keys] | None],
    sends: tuple[str, ...] = (),
) -> endpoints.Endpoint:
    return endpoints.Endpoint(
        sends=sends,
        method=method,
        path=f"{_KEYS}{path}",
        handler=handler,
        answers=answers,
        access=endpoints.Access.ADMIN,
    )


ENDPOINTS: Final = (
    _endpoint("POST", "", create, {201: schemas.KeyWithSecret}, sends=("Location",)),
    _endpoint("GET", "", list_keys, {200: schemas.Keys}),
    _endpoint("GET", "/{key}", show, {200: schemas.Key}),
    _endpoint("DELETE", "/{key}", delete, {204: None}),
    _endpoint("POST", "/{key}/disable", disable, {200: schemas.Key}),
    _endpoint("POST", "/{key}/enable", enable, {200: schemas.Key}),
)
