"""Probes, metrics and the index need no key."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.mark.parametrize(("path", "status"), [("/livez", "ok"), ("/readyz", "ready")])
async def test_probes(api: Any, path: str, status: str) -> None:
    reply = await api.call("GET", path, key=None)
    assert (reply.status, reply.body) == (200, {"status": status})
    assert (await api.call("HEAD", path, key=None)).status == 200


async def test_not_ready_says_why(api: Any) -> None:
    api.running.services.health.draining = True
    reply = await api.call("GET", "/readyz", key=None)
    assert reply.status == 503
    assert reply.body["errors"] == [{"detail": "draining"}]


async def test_metrics(api: Any) -> None:
    reply = await api.call("GET", "/metrics", key=None)
    assert reply.status == 200
    assert "relay_tasks_watched" in reply.body
    assert "x-request-id" in reply.headers


async def test_the_index_names_the_api(api: Any) -> None:
    assert (await api.call("GET", "/", key=None)).body == {"name": "relay", "api": "/api/v1"}
