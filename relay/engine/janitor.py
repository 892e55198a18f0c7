"""Keeps the database bounded and the gauges true. Small batches, so nobody waits behind it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

import structlog

from relay import metrics
from relay.domain import model
from relay.engine import clock as clocks
from relay.engine import dispatcher
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
        dispatcher: dispatcher.Dispatcher,
        clock: clocks.Clock,
        chores: list[Callable[[], Awaitable[None]]],
    ) -> None:
        self.wake = asyncio.Event()
        self._store = store
        self._days = days
        self._dispatcher = dispatcher
        self._clock = clock
        self._chores = chores

    async def tick(self) -> float | None:
        """One round: what others asked to be done now and then, leases, retention, gauges."""
        for chore in self._chores:
            await chore()
        now = self._clock.now()
        await self._store.expire_leases(now=now, sparing=self._dispatcher.sending)
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
        counts: dict[tuple[str, str], int] = {}
        for (destination, state), count in (await self._store.count_deliveries()).items():
            key = (self._dispatcher.label(destination), state.value)
            counts[key] = counts.get(key, 0) + count
            if state is model.DeliveryState.HELD:
                self._dispatcher.held(destination)
        metrics.DELIVERIES.clear()
        for labels, count in counts.items():
            metrics.DELIVERIES.labels(*labels).set(count)
        due = await self._store.due()
        late = [at for name, at in due.items() if at <= now and not self._dispatcher.keeps_back(name)]
        metrics.OLDEST_DUE_SECONDS.set(now - min(late) if late else 0.0)
        self._dispatcher.measure()
