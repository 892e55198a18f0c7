"""A reader of server-sent events for tests, as strict as a browser is about their form."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import aiohttp


@dataclass
class Stream:
    """An open stream. ``last_id`` is what a browser would come back with."""

    response: aiohttp.ClientResponse
    last_id: str = ""
    comments: int = 0
    _lines: list[str] = field(default_factory=list)

    async def next(self, *, timeout: float = 10.0) -> tuple[str, Any] | None:
        """The next event's name and decoded data; ``None`` when the stream ended."""
        data: list[str] = []
        name = "message"
        async with asyncio.timeout(timeout):
            while raw := await self.response.content.readline():
                line = raw.decode("utf-8").rstrip("\n")
                if line.startswith(":"):
                    self.comments += 1
                elif line:
                    member, _, value = line.partition(": ")
                    assert member in ("id", "event", "data", "retry"), line
                    if member == "id":
                        self.last_id = value
                    elif member == "event":
                        name = value
                    elif member == "data":
                        data.append(value)
                elif data:
                    return name, json.loads("\n".join(data))
        return None

    async def take(self, count: int) -> list[Any]:
        """The data of so many events."""
        found = []
        for _ in range(count):
            event = await self.next()
            assert event is not None, "the stream ended early"
            found.append(event[1])
        return found

    async def rest(self) -> list[Any]:
        """The data of all events until the stream ends."""
        found = []
        while (event := await self.next()) is not None:
            found.append(event[1])
        return found


@contextlib.asynccontextmanager
async def opened(
    session: aiohttp.ClientSession, url: str, *, key: str, last_id: str | None = None
) -> AsyncIterator[Stream]:
    """Open a stream as a browser would."""
    headers = {"Authorization": f"Bearer {key}", "Accept": "text/event-stream"}
    if last_id is not None:
        headers["Last-Event-ID"] = last_id
    async with session.get(url, headers=headers) as response:
        yield Stream(response)
