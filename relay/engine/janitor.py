"""Keeps the database bounded and the gauges true. Small batches, so nobody waits behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from relay import metrics
from relay.engine import clock as clocks
from relay.store import base as store_base

log = structlog.get_logger(__name__)

INTERVAL: Final = 60.0
"""Seconds between two rounds."""

BATCH: Final = 500
"""Rows of each kind deleted in one transaction."""

DAY: Final = 86400.0

KEYS_KEPT_DAYS: Final = 30.0
"""Days for which an ``Idempotency-Key`` is remembered, whatever becomes of its task."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """``[retention]``, days."""

    tasks: float
    events: float
    attempts: float


class Janitor:
    """A supervised loop."""

    name = "janitor"

    def __init__(
        self,
        *,
        store: store_base.Store,
        days: Days,
        clock: clocks.Clock,
        chores: list[Callable[[], Awaitable[None]]],
    ) -> None:
        self.wake = asyncio.Event()
        self._store = store
        self._days = days
        self._clock = clock
        self._chores = chores

    async def tick(self) -> float | None:
        """One round: what others asked to be done now and then, leases, retention, gauges."""
        for chore in self._chores:
            await chore()
        now = self._clock.now()
        await self._store.expire_leases(now=now)
        retention = store_base.Retention(
            tasks_before=now - self._days.tasks * DAY,
            events_before=now - self._days.events * DAY,
            attempts_before=now - self._days.attempts * DAY,
            submissions_before=now - KEYS_KEPT_DAYS * DAY,
        )
        gone = await self._store.purge(retention, limit=BATCH)
        if gone:
            log.info("retention", rows=gone)
        await self._measure(now)
        return 1.0 if gone >= BATCH else INTERVAL

    async def _measure(self, now: float) -> None:
        metrics.DELIVERIES.clear()
        for (destination, state), count in (await self._store.count_deliveries()).items():
            metrics.DELIVERIES.labels(destination, state.value).set(count)
        due = [at for at in (await self._store.due()).values() if at <= now]
        metrics.OLDEST_DUE_SECONDS.set(now - min(due) if due else 0.0)
