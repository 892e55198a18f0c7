"""What people want of a destination's health: paused, resumed, a clean record at a new address.

An attempt may change the health at any moment, so each wish is stored with the version that it was made
from, and made again from what it lost to. Called by ``destinations.py``, in turn with its other changes.
"""

from __future__ import annotations

import dataclasses

import structlog

from relay import metrics
from relay.domain import errors, health, model, reasons
from relay.engine import clock as clocks
from relay.engine import dispatcher, roster
from relay.store import base as store_base
from relay.store import destinations as stored

log = structlog.get_logger(__name__)


class Wishes:
    """Keeps the roster's health and the store's of one mind."""

    def __init__(
        self,
        *,
        store: store_base.Store,
        known: roster.Roster,
        dispatcher: dispatcher.Dispatcher,
        clock: clocks.Clock,
        resume_rate: float,
    ) -> None:
        """``resume_rate`` is in deliveries per second."""
        self._store = store
        self._roster = known
        self._dispatcher = dispatcher
        self._clock = clock
        self._resume_rate = resume_rate

    async def pause(self, name: str) -> None:
        """Hold everything for it; what is in flight ends. ``KeyError``, ``errors.StoreError``."""
        known = self._roster[name]
        while True:
            before = self._roster.health(known.name)
            after = health.paused(before, now=self._clock.now())
            if after is before:
                return
            try:
                await self._store.pause(after)
            except errors.StoreRejected as exc:
                await self._catch_up(after, exc)
                continue
            # An attempt may have changed it meanwhile: then once more, with what that found.
            if self._roster.health(name) is before:
                self._roster.set_health(after)

    async def resume(self, name: str, which: stored.Which) -> stored.Resumed:
        """Tell it again, paused or disabled. Raises ``KeyError`` and ``errors.StoreError``."""
        before = self._roster.health(self._roster[name].name)
        # Record first, so that nothing more is stored as held while what is held is released.
        after = self._roster.set_health(health.resumed(before))
        now, rate = self._clock.now(), self._resume_rate
        try:
            try:
                resumed = await self._store.resume(after, which=which, now=now, rate=rate)
            except errors.StoreRejected as exc:
                await self._catch_up(after, exc)
                after = self._roster.set_health(health.resumed(self._roster.health(name)))
                resumed = await self._store.resume(after, which=which, now=now, rate=rate)
        except errors.StoreError:
            if self._roster.health(name) is after:
                self._roster.set_health(before)
            raise
        metrics.DEAD.labels(self._dispatcher.label(name), reasons.Reason.NOT_RESUMED).inc(resumed.dropped)
        self._dispatcher.owed(name, now)
        return resumed

    async def forget_failures(self, name: str) -> None:
        """It has another address: what the former one did is not counted against it.

        Whether it is paused or disabled stays as it is. Should the database not take it, it is known here
        until the next start.
        """
        before = self._roster.health(name)
        if before.failing_since is None:
            return
        after = self._roster.set_health(health.delivered(before))
        try:
            if after.hold_reason is None:
                now, rate = self._clock.now(), self._resume_rate
                await self._store.resume(after, which=stored.Which.ALL, now=now, rate=rate)
            else:
                await self._store.pause(after)
        except errors.StoreError as exc:
            log.warning("failures at the former address not forgotten yet", destination=name, error=str(exc))

    async def _catch_up(self, after: model.Health, refusal: errors.StoreRejected) -> None:
        """An attempt at a former destination of that name may have left a newer health behind."""
        kept = {one.destination: one for one in await self._store.healths()}
        newer = kept.get(after.destination)
        if newer is None or newer.version < after.version:
            raise refusal
        current = self._roster.health(after.destination)
        self._roster.set_health(dataclasses.replace(current, version=newer.version))
