"""The real daemon on loopback, over a sandbox that moves when told to and a receiver that records."""

from __future__ import annotations

import asyncio
import base64
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from relay import daemon, settings
from tests.fakes import receivers, sandbox

ADMIN_KEY = "the admin key of these tests"
WEBHOOK_SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()


@dataclass(frozen=True)
class Reply:
    """An answer, read whole. ``body`` is decoded JSON, ``None`` where there is none."""

    status: int
    headers: dict[str, str]
    body: Any


@dataclass
class Api:
    """A daemon and a client of its API."""

    running: daemon.Running
    session: aiohttp.ClientSession
    receiver: receivers.Receiver
    upstream: Any = None

    async def call(
        self,
        method: str,
        path: str,
        *,
        json: Any = None,
        raw: bytes | None = None,
        key: str | None = ADMIN_KEY,
        headers: dict[str, str] | None = None,
    ) -> Reply:
        """One request; ``path`` without ``/api/v1`` unless it is an operator's."""
        operators = path == "/" or path.startswith(
            ("/livez", "/readyz", "/metrics", "/openapi.json", "/docs")
        )
        url = self.running.url + ("" if operators else "/api/v1") + path
        sent = dict(headers or {})
        if key is not None:
            sent.setdefault("Authorization", f"Bearer {key}")
        if raw is not None:
            sent.setdefault("Content-Type", "application/json")
        async with self.session.request(method, url, json=json, data=raw, headers=sent) as response:
            is_json = response.content_type.endswith("json")
            body = await response.json(content_type=None) if is_json else await response.text() or None
            return Reply(response.status, {k.lower(): v for k, v in response.headers.items()}, body)

    async def until(
        self, path: str, fact: Callable[[Any], bool], *, key: str | None = ADMIN_KEY, timeout: float = 15.0
    ) -> Any:
        """The body at ``path``, as soon as it shows ``fact``."""
        async with asyncio.timeout(timeout):
            while True:
                reply = await self.call("GET", path, key=key)
                if reply.status == 200 and fact(reply.body):
                    return reply.body
                await asyncio.sleep(0.02)

    async def client_key(self, name: str = "backend", role: str = "client") -> tuple[str, str]:
        """A new API key: (its text, its id)."""
        reply = await self.call("POST", "/keys", json={"name": name, "role": role})
        assert reply.status == 201, reply.body
        return reply.body["key"], reply.body["id"]


Start = Callable[..., contextlib.AbstractAsyncContextManager[Api]]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Start a daemon whose upstream is at ``base_url``; more settings by section."""

    @contextlib.asynccontextmanager
    async def started(base_url: str, **more: Any) -> AsyncIterator[Api]:
        async with contextlib.AsyncExitStack() as stack:
            receiver = await stack.enter_async_context(receivers.serve())
            session = await stack.enter_async_context(aiohttp.ClientSession())
            upstream = {
                "base_url": base_url,
                "api_key": "mv_test_sandbox",
                "poll_interval_min": 0.05,
                "requests_per_second": 200,
            }
            upstream |= more.pop("upstream", {})
            values = {
                "server": {
                    "port": 0,
                    "body_max_bytes": 65536,
                    "drain_timeout": 1.0,
                    "requests_per_second_per_key": 10_000,
                },
                "store": {"url": f"sqlite:///{tmp_path / 'relay.db'}"},
                "upstreams": {"mindvideo": upstream},
                "destinations": {
                    "pipeline": {"url": f"{receiver.url}/hook", "secret": WEBHOOK_SECRET},
                    "archive": {
                        "url": f"{receiver.url}/archive",
                        "secret": WEBHOOK_SECRET,
                        "statuses": ["failed", "succeeded"],
                        "prompt": False,
                    },
                },
                "network": {"allow_private": ["127.0.0.0/8"]},
                "security": {"admin_key": ADMIN_KEY},
            }
            loaded = settings.load(environ={}, overrides=values | more)
            running = await stack.enter_async_context(daemon.running(loaded))
            yield Api(running, session, receiver)

    return started


@pytest.fixture
async def api(start: Start) -> AsyncIterator[Api]:
    """A daemon over a stepped sandbox, which is ``api.upstream``."""
    async with sandbox.running_sandbox(stepped=True) as upstream, start(upstream.url) as api:
        api.upstream = upstream
        yield api
