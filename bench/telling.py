"""Ends of tasks at a chosen rate, and how long each takes from its commit to its receiver.

A task that ended is stored as a submission's or a poll's is: with whom to tell, in one transaction. Its
instant is taken when the commit is known, on a clock that the receivers' process shares.
"""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time
from collections.abc import Iterator, Sequence
from typing import Final

from bench import peers, product
from relay.domain import ids, model
from relay.engine import intake

UPSTREAM: Final = product.UPSTREAMS[0]
OUTPUT: Final = {"videos": [{"url": "https://example.com/output/task.mp4"}]}


class Teller:
    """Ends tasks that tell ``destinations`` in turn, and remembers when each was committed."""

    def __init__(self, process: product.Running, destinations: Sequence[str], *, title: str) -> None:
        self._intake = process.services.intake
        self._destinations = destinations
        self._title = title
        self._made = 0
        self.committed: dict[str, float] = {}

    async def end_one(self) -> None:
        """Store a task that ended, with one delivery."""
        number, self._made = self._made, self._made + 1
        name = f"{self._title}_{number}"
        destination = self._destinations[number % len(self._destinations)]
        new = self._intake.new_task(UPSTREAM, name)
        task = dataclasses.replace(
            new,
            status=model.Status.SUCCEEDED,
            verdict=model.Verdict.ENDED,
            output=OUTPUT,
            submitted_at=new.created_at,
            finished_at=new.created_at,
        )
        wanted = intake.Wanted(
            upstream=UPSTREAM, task_id=name, notify=(destination,), metadata=product.METADATA
        )
        changes = [model.Change.SUCCEEDED]
        if await self._intake.join("key_bench", wanted, None, task=task, changes=changes) is None:
            raise RuntimeError(f"{name} was there before")
        delivery_id = ids.delivery_id(UPSTREAM, name, model.Change.SUCCEEDED.value, destination)
        self.committed[delivery_id] = time.monotonic()

    async def at(self, rate: float, *, seconds: float) -> None:
        """End ``rate`` tasks per second, whatever becomes of those before, and wait for their commits."""
        async with asyncio.TaskGroup() as group:
            for due in _instants(rate, seconds):
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                group.create_task(self.end_one())

    def lags(self, arrived: dict[str, float]) -> list[float]:
        """Seconds from commit to receiver, shortest first. Raises ``RuntimeError`` if any did not arrive."""
        missing = self.committed.keys() - arrived.keys()
        if missing:
            raise RuntimeError(f"{len(missing)} of {len(self.committed)} deliveries did not arrive")
        # The send may begin before whoever asked for the commit has run: not earlier than at once.
        return sorted(max(0.0, arrived[one] - at) for one, at in self.committed.items())


async def arrived(receiver: peers.Peer, told: Teller, *, timeout: float) -> dict[str, float]:
    """The receiver's arrivals, once everything that was committed is there."""
    async with asyncio.timeout(timeout):
        found = await receiver.arrivals()
        while not told.committed.keys() <= found.keys():
            await asyncio.sleep(0.2)
            found = await receiver.arrivals()
    return found


async def settled(process: product.Running, *, timeout: float) -> None:
    """Return once everything that is owed is recorded as delivered."""
    async with asyncio.timeout(timeout):
        left = await process.services.store.count_deliveries()
        while left:
            await asyncio.sleep(product.LOOK_EVERY)
            left = await process.services.store.count_deliveries()


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value that ``share`` of them do not exceed."""
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def _instants(rate: float, seconds: float) -> Iterator[float]:
    began = time.monotonic()
    for number in range(round(rate * seconds)):
        yield began + number / rate
