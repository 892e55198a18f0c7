"""A fake upstream and an adapter opened on it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from relay.domain import model
from relay.upstreams import mindvideo
from tests.fakes import upstream

KEY = "mv_test_0123456789"


@dataclass
class Clock:
    """Seconds that move when told to."""

    now: float = 1_750_000_000.0

    def __call__(self) -> float:
        return self.now


class Looks:
    """Polls of one task that carry cursor and validator on, as the poller does."""

    def __init__(self, adapter: mindvideo.MindVideo, task_id: str) -> None:
        self.adapter = adapter
        self.task_id = task_id
        self.cursor: str | None = None
        self.validator: str | None = None

    async def __call__(self) -> model.Page:
        page = await self.adapter.poll(self.task_id, cursor=self.cursor, validator=self.validator)
        self.cursor, self.validator = page.cursor, page.validator
        return page

    def restart(self) -> None:
        """Forget what lives in memory only."""
        self.validator = None


@pytest.fixture
async def fake() -> AsyncIterator[upstream.FakeUpstream]:
    async with upstream.running() as running:
        yield running


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def make(fake: upstream.FakeUpstream, clock: Clock) -> AsyncIterator[Callable[..., Any]]:
    """Makes adapters that are opened and closed by the fixture."""
    made: list[mindvideo.MindVideo] = []

    async def build(**options: Any) -> mindvideo.MindVideo:
        options = {
            "name": "mindvideo",
            "base_url": fake.url,
            "api_key": KEY,
            "timeout": 10.0,
            "stream_quiet": 0.2,
            "stream_window": 5.0,
            "now": clock,
            "monotonic": clock,
        } | options
        adapter = mindvideo.MindVideo(**options)
        await adapter.open()
        made.append(adapter)
        return adapter

    yield build
    for adapter in made:
        await adapter.aclose()


@pytest.fixture
async def adapter(make: Callable[..., Any]) -> mindvideo.MindVideo:
    return await make()


@pytest.fixture
def look(adapter: mindvideo.MindVideo) -> Looks:
    return Looks(adapter, "t1")
