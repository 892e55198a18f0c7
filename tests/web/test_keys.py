"""API keys over HTTP: shown once, listed without secrets, disabled, enabled, deleted."""

from __future__ import annotations

from typing import Any

import pytest


async def test_a_key_is_shown_once(api: Any) -> None:
    made = await api.call("POST", "/keys", json={"name": "backend"})
    assert made.status == 201
    assert set(made.body) == {"id", "name", "role", "enabled", "created_at", "last_used_at", "key"}
    assert made.body["role"] == "client"
    assert made.body["enabled"] is True
    assert made.body["key"].startswith("rk_")
    listed = await api.call("GET", "/keys")
    assert [key["id"] for key in listed.body["keys"]] == [made.body["id"]]
    assert listed.body["next_cursor"] is None
    shown = await api.call("GET", made.headers["location"].removeprefix("/api/v1"))
    assert shown.body == {name: value for name, value in made.body.items() if name != "key"}
    secret = made.body["key"].rsplit("_", 1)[1]
    assert secret not in str(listed.body) + str(shown.body)


async def test_an_admin_key_is_an_admin(api: Any) -> None:
    key, _ = await api.client_key(role="admin")
    assert (await api.call("GET", "/keys", key=key)).status == 200


async def test_disable_enable_delete(api: Any) -> None:
    _, key_id = await api.client_key()
    assert (await api.call("POST", f"/keys/{key_id}/disable")).body["enabled"] is False
    assert (await api.call("POST", f"/keys/{key_id}/enable")).body["enabled"] is True
    assert (await api.call("DELETE", f"/keys/{key_id}")).status == 204
    assert (await api.call("DELETE", f"/keys/{key_id}")).status == 404


@pytest.mark.parametrize("key", ["key_admin", "key_nope", "x%00y"])
async def test_unknown_keys(api: Any, key: str) -> None:
    assert (await api.call("GET", f"/keys/{key}")).status == 404
    assert (await api.call("POST", f"/keys/{key}/disable")).status == 404


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "/name: is required"),
        ({"name": ""}, "/name: must not be empty"),
        ({"name": 1}, "/name: must be a string"),
        ({"name": "a\nb"}, "/name: must not have control characters"),
        ({"name": "x" * 101}, "/name: must not have more than 100 characters"),
        ({"name": "a", "role": "root"}, "/role: must be one of 'admin' or 'client'"),
        ({"name": "a", "rol": "admin"}, "/rol: is not known here; did you mean 'role'?"),
    ],
)
async def test_bad_keys_are_refused(api: Any, body: Any, detail: str) -> None:
    reply = await api.call("POST", "/keys", json=body)
    assert reply.status == 422
    assert reply.body["detail"] == detail
    assert [error["pointer"] for error in reply.body["errors"]] == [detail.partition(":")[0]]
