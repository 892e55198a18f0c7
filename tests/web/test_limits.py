"""How many requests a key may make, and the lines that say who did what."""

from __future__ import annotations

from typing import Any

import structlog.testing

from tests.fakes import sandbox


async def test_a_key_that_asks_too_often_is_told_to_wait(start: Any) -> None:
    server = {"port": 0, "requests_per_second_per_key": 0.5}
    async with sandbox.running_sandbox() as upstream, start(upstream.url, server=server) as api:
        first = await api.call("GET", "/tasks")
        assert first.status == 200
        assert first.headers["ratelimit-policy"] == '"key";q=1;w=2'
        assert first.headers["ratelimit"] == '"key";r=0;t=2'
        second = await api.call("GET", "/tasks")
        assert second.status == 429
        assert second.headers["content-type"].startswith("application/problem+json")
        assert 1 <= int(second.headers["retry-after"]) <= 2
        assert second.headers["ratelimit"].startswith('"key";r=0;')
        stranger = await api.call("GET", "/tasks", key="nobody")
        assert stranger.status == 401
        assert "ratelimit" not in stranger.headers
        assert (await api.call("GET", "/livez")).status == 200


async def test_each_key_has_its_own_budget(start: Any) -> None:
    server = {"port": 0, "requests_per_second_per_key": 1}
    async with sandbox.running_sandbox() as upstream, start(upstream.url, server=server) as api:
        key, _ = await api.client_key()
        assert [(await api.call("GET", "/tasks", key=key)).status for _ in range(3)] == [200, 200, 429]
        assert (await api.call("GET", "/tasks")).status == 200


async def test_changes_of_keys_and_tests_leave_a_line_each(api: Any) -> None:
    with structlog.testing.capture_logs() as lines:
        made = await api.call("POST", "/keys", json={"name": "backend"}, headers={"X-Request-Id": "abc"})
        for action in ("disable", "enable"):
            await api.call("POST", f"/keys/{made.body['id']}/{action}")
        await api.call("DELETE", f"/keys/{made.body['id']}")
        await api.call("DELETE", f"/keys/{made.body['id']}")
        tested = await api.call("POST", "/destinations/pipeline/test")
        await api.call("POST", f"/deliveries/{tested.body['id']}/redeliver")
    audit = [line for line in lines if line["event"].startswith(("key.", "destination.", "delivery.re"))]
    assert [(line["event"], line["target"]) for line in audit] == [
        ("key.created", made.body["id"]),
        ("key.disabled", made.body["id"]),
        ("key.enabled", made.body["id"]),
        ("key.deleted", made.body["id"]),
        ("destination.tested", "pipeline"),
        ("delivery.redelivered", tested.body["id"]),
    ]
    assert {line["key"] for line in audit} == {"key_admin"}
    assert audit[0]["request_id"] == "abc"
    assert made.body["key"] not in str(lines)
