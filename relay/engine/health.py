"""Readiness is progress, not presence: loops tick, the database answers, nothing due is left lying."""

from __future__ import annotations

from typing import Final

from relay.domain import errors
from relay.engine import clock as clocks
from relay.engine import dispatcher, supervisor
from relay.store import base as store_base

STUCK_AFTER: Final = 120.0
"""Seconds without a finished pass after which a loop counts as stuck (they idle for 15 at most)."""

OVERDUE_AFTER: Final = 60.0
"""Seconds that a delivery may be due while a seat is free for it."""

CHECK_EVERY: Final = 5.0
"""Seconds for which an answer of the database is reused: probes must not become load."""


class Health:
    """Answers probes and feeds the watchdog."""

    def __init__(
        self,
        *,
        store: store_base.Store,
        supervisor: supervisor.Supervisor,
        dispatcher: dispatcher.Dispatcher,
        clock: clocks.Clock,
    ) -> None:
        self._store = store
        self._supervisor = supervisor
        self._dispatcher = dispatcher
        self._clock = clock
        self._checked_at = float("-inf")
        self._store_reasons: list[str] = []
        self.draining = False

    async def check(self) -> list[str]:
        """Why relay is not ready; empty when it is."""
        reasons = ["draining"] if self.draining else []
        reasons += [f"loop {name} makes no progress" for name in self._supervisor.stuck(STUCK_AFTER)]
        now = self._clock.monotonic()
        if now - self._checked_at >= CHECK_EVERY:
            self._checked_at = now
            self._store_reasons = await self._check_store()
        return reasons + self._store_reasons

    async def _check_store(self) -> list[str]:
        try:
            await self._store.check()
            due = await self._store.due()
        except errors.StoreError as exc:
            return [str(exc)]
        now = self._clock.now()
        late = [
            (now - at, name)
            for name, at in due.items()
            if now - at > OVERDUE_AFTER and not self._dispatcher.keeps_back(name)
        ]
        return [f"deliveries to {name} are {age:.0f} s overdue" for age, name in sorted(late, reverse=True)]

    def alive(self) -> bool:
        """Whether every loop makes progress, or would: what the watchdog is fed by.

        A daemon that cannot write its database is not ready but alive: a restart would mend nothing
        and forget the outcomes that wait to be recorded.
        """
        return not self._supervisor.hung(STUCK_AFTER)
