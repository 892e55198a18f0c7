"""Tells many deliveries again: a loop that makes them due batch by batch, and what people ask of it.

Each batch is one transaction with the position behind it, so a daemon that is killed goes on where it
was. What is due is the dispatcher's business: fairness, pace and holds are those of every delivery.
What may be done when is ``domain/redelivery.py``'s.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

import structlog

from relay import metrics
from relay.domain import ids, model
from relay.domain import redelivery as rules
from relay.engine import clock as clocks
from relay.engine import dispatcher as dispatchers
from relay.store import redeliveries as store_redeliveries

log = structlog.get_logger(__name__)

SAMPLE: Final = 10
"""Deliveries that a preview shows."""

DAY: Final = 86400.0

PREVIEWS_KEPT: Final = DAY
"""Seconds after which a preview that nobody ran is deleted."""

PURGE_BATCH: Final = 500
"""Rows of each kind deleted in one transaction."""


class Redeliveries:
    """A supervised loop over all redeliveries that are running."""

    name = "redelivery"

    def __init__(
        self,
        *,
        store: store_redeliveries.Redeliveries,
        dispatcher: dispatchers.Dispatcher,
        kept_days: float,
        clock: clocks.Clock,
        randomness: Callable[[int], bytes],
    ) -> None:
        """``kept_days`` is how long those that ended are kept."""
        self.wake = asyncio.Event()
        self._store = store
        self._dispatcher = dispatcher
        self._kept_days = kept_days
        self._clock = clock
        self._randomness = randomness
        self._changed = True

    # -- asked for by people --------------------------------------------------------------------

    async def preview(
        self, selection: rules.Selection, *, rate: float, created_by: str
    ) -> tuple[rules.Redelivery, list[model.Delivery]]:
        """Make one that sends nothing yet; with it the first deliveries that it would send."""
        now = self._clock.now()
        count, sample = await self._store.selected(selection, before=now, sample=SAMPLE)
        made = rules.Redelivery(
            id=ids.make("rdl", self._randomness(ids.RANDOM_BYTES)),
            selection=selection,
            rate=rate,
            count=count,
            created_by=created_by,
            created_at=now,
            changed_at=now,
        )
        await self._store.add_redelivery(made)
        self._notice()
        return made, sample

    async def change(
        self, redelivery_id: str, action: rules.Action, *, rate: float | None = None
    ) -> rules.Redelivery | None:
        """Run, pause or cancel it; as it is then, ``None`` if unknown. Raises ``errors.WrongState``.

        What was made due before a pause is still sent.
        """
        changed = await self._store.change_redelivery(redelivery_id, action, rate=rate, now=self._clock.now())
        self._notice()
        return changed

    def _notice(self) -> None:
        """Something changed: the loop has to look, and to measure."""
        self._changed = True
        self.wake.set()

    # -- the loop -------------------------------------------------------------------------------

    async def tick(self) -> float | None:
        """One batch of each that is running and whose last batch is due out."""
        if self._changed:
            self._changed = False
            await self.measure()
        delays = []
        for running in await self._store.running_redeliveries():
            delay = rules.wait(running, now=self._clock.now())
            if delay == 0.0:
                delay = await self._advance(running)
            delays.append(delay)
        return min(delays, default=None)

    async def _advance(self, running: rules.Redelivery) -> float:
        """Make the next batch due; seconds until the one after it."""
        now = self._clock.now()
        advanced = await self._store.advance_redelivery(
            running, rules.turn(running, now=now), known=self._dispatcher.destinations.keys(), now=now
        )
        if advanced is None:  # somebody paused or cancelled it meanwhile
            return 0.0
        metrics.REDELIVERED.inc(advanced.moved)
        for destination, due in advanced.due.items():
            self._dispatcher.owed(destination, due)
        stands = advanced.redelivery
        if stands.state.ended:
            log.info("redelivery done", redelivery=stands.id, done=stands.done, skipped=stands.skipped)
            self._notice()
        return rules.wait(stands, now=self._clock.now())

    # -- now and then ---------------------------------------------------------------------------

    async def tidy(self) -> None:
        """Delete what nobody asks for any more, and bring the gauge up to date. A chore of the janitor."""
        now = self._clock.now()
        gone = await self._store.purge_redeliveries(
            previews_before=now - PREVIEWS_KEPT, ended_before=now - self._kept_days * DAY, limit=PURGE_BATCH
        )
        if gone:
            log.info("retention", redeliveries=gone)
        await self.measure()

    async def measure(self) -> None:
        """Bring the gauge up to date."""
        counted = await self._store.count_redeliveries()
        for state in rules.State:
            metrics.REDELIVERIES.labels(state.value).set(counted.get(state, 0))
