"""Who gets in: keys known, unknown, disabled, made beside the daemon; roles; last uses."""

from __future__ import annotations

import os
from typing import Any

import pytest

from relay.domain import api_keys, model
from relay.web import auth, problems
from tests.web.conftest import ADMIN_KEY

PATHS = [
    ("GET", "/tasks"),
    ("PUT", "/tasks/x"),
    ("GET", "/destinations"),
    ("GET", "/deliveries"),
    ("GET", "/keys"),
]


@pytest.mark.parametrize(("method", "path"), PATHS)
@pytest.mark.parametrize(
    "header",
    [None, "", "Bearer", "Bearer ", "Basic eDp5", "Bearer wrong", "Bearer rk_" + "a" * 24 + "_" + "b" * 43],
)
async def test_strangers_are_asked_for_a_key(api: Any, method: str, path: str, header: str | None) -> None:
    headers = {} if header is None else {"Authorization": header}
    reply = await api.call(method, path, key=None, headers=headers)
    assert reply.status == 401
    assert reply.headers["www-authenticate"].startswith("Bearer")
    assert reply.headers["content-type"].startswith("application/problem+json")


async def test_the_scheme_is_read_in_any_case(api: Any) -> None:
    reply = await api.call("GET", "/tasks", headers={"Authorization": f"bearer  {ADMIN_KEY}"})
    assert reply.status == 200


async def test_a_right_id_with_a_wrong_secret_is_a_stranger(api: Any) -> None:
    key, _ = await api.client_key()
    assert (await api.call("GET", "/tasks", key=key)).status == 200
    forged = key[:-1] + ("a" if key[-1] != "a" else "b")
    assert (await api.call("GET", "/tasks", key=forged)).status == 401


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/keys"),
        ("POST", "/keys"),
        ("DELETE", "/keys/key_x"),
        ("POST", "/keys/key_x/disable"),
        ("POST", "/destinations/pipeline/test"),
    ],
)
async def test_what_is_an_admins_is_refused_to_clients(api: Any, method: str, path: str) -> None:
    key, _ = await api.client_key()
    reply = await api.call(method, path, key=key)
    assert reply.status == 403
    assert "admin" in reply.body["detail"]


class ManualTime:
    """Seconds that move when told to."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


async def stored_key(store: Any, *, enabled: bool = True) -> api_keys.Minted:
    minted = api_keys.mint(os.urandom)
    key = model.Key(id=minted.id, name="k", role=model.Role.CLIENT, enabled=enabled, created_at=1.0)
    await store.create_key(key, secret_hash=minted.secret_hash)
    return minted


async def test_a_key_made_or_changed_beside_the_daemon_is_seen_within_seconds(api: Any) -> None:
    store, time = api.running.services.store, ManualTime()
    keeper = auth.Authenticator(store, admin_key=None, now=time, monotonic=time)
    minted = await stored_key(store)
    header = f"Bearer {minted.text}"
    assert (await keeper.caller(header)).key_id == minted.id
    await store.enable_key(minted.id, enabled=False)
    time.seconds += auth.CACHE_SECONDS
    with pytest.raises(problems.Problem):
        await keeper.caller(header)
    await store.enable_key(minted.id, enabled=True)
    assert (await keeper.caller(header)).role is model.Role.CLIENT


async def test_a_disabled_key_stops_at_once_through_the_api(api: Any) -> None:
    key, key_id = await api.client_key()
    assert (await api.call("GET", "/tasks", key=key)).status == 200
    await api.call("POST", f"/keys/{key_id}/disable")
    assert (await api.call("GET", "/tasks", key=key)).status == 401
    await api.call("POST", f"/keys/{key_id}/enable")
    assert (await api.call("GET", "/tasks", key=key)).status == 200
    await api.call("DELETE", f"/keys/{key_id}")
    assert (await api.call("GET", "/tasks", key=key)).status == 401


async def test_last_uses_are_written_when_flushed(api: Any) -> None:
    store, time = api.running.services.store, ManualTime()
    keeper = auth.Authenticator(store, admin_key="x" * 20, now=time, monotonic=time)
    minted = await stored_key(store)
    await keeper.caller(f"Bearer {minted.text}")
    await keeper.caller(f"Bearer {'x' * 20}")
    assert (await store.key(minted.id))[0].last_used_at is None
    await keeper.flush()
    assert (await store.key(minted.id))[0].last_used_at == 1000.0
    await keeper.flush()


async def test_the_cache_is_bounded(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(auth, "CACHE_MAX", 2)
    store, time = api.running.services.store, ManualTime()
    keeper = auth.Authenticator(store, admin_key=None, now=time, monotonic=time)
    for _ in range(5):
        minted = await stored_key(store)
        assert (await keeper.caller(f"Bearer {minted.text}")).key_id == minted.id
        assert len(keeper._cache) <= 2
