"""A sandbox on loopback for tests of anything that talks to the MindVideo API.

    async with sandbox.running_sandbox(stepped=True) as upstream:
        task_id = await upstream.submit(prompt="a cat [fail]")
        upstream.finish()
        assert (await upstream.task(task_id))["status"] == "failed"

With ``stepped`` its time moves only by ``advance`` and ``finish``; otherwise by the wall clock,
``speed`` times faster. All other options are those of ``relay.sandbox.app.create_app``.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import aiohttp
from aiohttp import web

from relay.sandbox import app as sandbox_app
from relay.sandbox import server, tasks

MODEL = "minimax-hailuo-2-3"
PROMPT = "A cinematic portrait shot with smooth camera movement and realistic lighting."
SEED_REQUEST: dict[str, Any] = {
    "model": MODEL,
    "input": {"prompt": PROMPT, "resolution": "768p", "duration": 6},
}

START = 1_750_000_000.0
LONGEST = 100_000.0
"""Longer than any task takes at speed 1."""


class SteppedClock:
    """Epoch seconds that move when told to; ``sleep`` wakes when they have moved far enough."""

    def __init__(self, now: float = START) -> None:
        self.now = now
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self.now + seconds, woken))
        await woken

    def advance(self, seconds: float) -> None:
        self.now += seconds
        due = [woken for at, woken in self._sleepers if at <= self.now]
        self._sleepers = [(at, woken) for at, woken in self._sleepers if at > self.now]
        for woken in due:
            if not woken.done():
                woken.set_result(None)


@dataclass
class RunningSandbox:
    """What a test holds. ``requests`` are (method, path with query), in order of arrival."""

    url: str
    key: str
    clock: SteppedClock | None
    session: aiohttp.ClientSession
    book: tasks.Tasks
    requests: list[tuple[str, str]] = field(default_factory=list)

    @property
    def created(self) -> int:
        """How many tasks were made, answered or not."""
        return self.book.created

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key}"}

    async def submit(
        self,
        *,
        prompt: str = PROMPT,
        model: str = MODEL,
        idempotency_key: str | None = None,
        **task_input: Any,
    ) -> str:
        """Create a task as the upstream's other users would; its id."""
        headers = self.headers | ({"Idempotency-Key": idempotency_key} if idempotency_key else {})
        body = {"model": model, "input": {"prompt": prompt, **task_input}}
        async with self.session.post(f"{self.url}/api/v1/tasks", json=body, headers=headers) as reply:
            assert reply.status in (200, 201), await reply.text()
            created: dict[str, str] = await reply.json()
            return created["task_id"]

    async def task(self, task_id: str) -> dict[str, Any]:
        """The task body."""
        async with self.session.get(f"{self.url}/api/v1/tasks/{task_id}", headers=self.headers) as reply:
            assert reply.status == 200, await reply.text()
            body: dict[str, Any] = await reply.json()
            return body

    def advance(self, seconds: float) -> None:
        """Move the sandbox's time on. Only with ``stepped``."""
        assert self.clock is not None
        self.clock.advance(seconds)

    def finish(self) -> None:
        """Let every task end. Only with ``stepped``."""
        self.advance(LONGEST)


@contextlib.asynccontextmanager
async def running_sandbox(
    *, key: str = sandbox_app.DEFAULT_KEY, stepped: bool = False, **options: Any
) -> AsyncIterator[RunningSandbox]:
    """Serve a sandbox on a free port of 127.0.0.1 until the block ends."""
    clock = SteppedClock() if stepped else None
    if clock is not None:
        options |= {"clock": clock, "sleep": clock.sleep}
    options.setdefault("keys", (key,))
    app = sandbox_app.create_app(**options)
    requests: list[tuple[str, str]] = []

    @web.middleware
    async def note(
        request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        requests.append((request.method, request.path_qs))
        return await handler(request)

    app.middlewares.insert(0, note)
    runner, url = await server.serve(app)
    try:
        async with aiohttp.ClientSession(trust_env=False) as session:
            yield RunningSandbox(
                url=url,
                key=key,
                clock=clock,
                session=session,
                book=app[sandbox_app.BOOK],
                requests=requests,
            )
    finally:
        await runner.cleanup()
