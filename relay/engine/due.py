"""What memory knows of when something is owed, kept of one mind with the store.

Due times are announced as they are stored, and read anew now and then, after a claim, and when the
clock was set. What was stored under a pause or a resumption that happened meanwhile is a stray: here
it is held, or released. Claiming and sending are ``dispatcher.py``'s.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog

from relay.engine import clock as clocks
from relay.engine import lanes
from relay.store import base as store_base

log = structlog.get_logger(__name__)

RECHECK: Final = 30.0
"""Seconds after which due times are read from the store again, whatever memory says."""

CLOCK_STEP: Final = 2.0
"""Seconds by which the clock must have been set between two looks at it to be taken note of."""


class Due:
    """The due times of all lanes, and what strayed."""

    def __init__(
        self,
        *,
        store: store_base.Store,
        known: lanes.Lanes,
        clock: clocks.Clock,
        resume_rate: float,
        wake: asyncio.Event,
    ) -> None:
        """``resume_rate`` is in deliveries per second; ``wake`` is set when there is something to do."""
        self._store = store
        self._lanes = known
        self._clock = clock
        self._resume_rate = resume_rate
        self._wake = wake
        self._checked_at = float("-inf")
        self._ahead = clock.now() - clock.monotonic()
        self._owed_meanwhile: dict[str, float] | None = None
        self._strays: set[str] = set()

    def owed(self, destination: str, due: float) -> None:
        """Something for ``destination`` is pending from ``due`` on (epoch seconds)."""
        lane = self._lanes.get(destination)
        if lane is None:
            return
        self._lanes.owe(lane, due)
        if self._owed_meanwhile is not None:
            self._owed_meanwhile[destination] = lanes.earliest(self._owed_meanwhile.get(destination), due)
        if lane.held is not None:
            self._checked_at = float("-inf")  # it slipped in: hold it soon
        self._wake.set()

    def held(self, destination: str) -> None:
        """Something for ``destination`` is stored as held: if that takes everything by now, it is a stray."""
        if self._lanes.held(destination) is None:
            self._strays.add(destination)
            self._wake.set()

    async def follow(self) -> None:
        """Follow the clock, see to strays, and read what is due if that was long ago."""
        await self._follow_clock()
        await self._release_strays()
        if self._clock.monotonic() - self._checked_at >= RECHECK:
            await self.read()
            await self._hold_strays()

    async def _follow_clock(self) -> None:
        """A clock that was set back must not make what is due wait until it has caught up.

        One that went ahead was set, or the machine slept, which stops the monotonic clock alone: what
        fell due meanwhile is late if it slept, and early at worst if not.
        """
        ahead = self._clock.now() - self._clock.monotonic()
        step = ahead - self._ahead
        if step < -CLOCK_STEP:
            moved = await self._store.shift_due(seconds=-step)
            log.warning("the clock was set back", seconds=round(-step, 1), deliveries=moved)
            self._checked_at = float("-inf")
        elif step > CLOCK_STEP:
            log.warning(
                "the clock jumped ahead", seconds=round(step, 1), effect="what is due by it is sent now"
            )
        self._ahead = ahead

    async def read(self) -> None:
        """Read due times from the store, keeping those that were announced while it answered."""
        meanwhile: dict[str, float] = {}
        self._owed_meanwhile = meanwhile
        try:
            due = await self._store.due()
        finally:
            self._owed_meanwhile = None
        self._checked_at = self._clock.monotonic()
        for name, at in meanwhile.items():
            due[name] = lanes.earliest(due.get(name), at)
        self._lanes.know_due(due)

    async def _hold_strays(self) -> None:
        """What was on its way into the outbox while its destination was paused is held now."""
        for name, reason in self._lanes.held_and_owing():
            if self._lanes.held(name) is not reason:
                continue  # resumed while the store was asked about another
            if held := await self._store.hold(name, reason):
                log.info("held", destination=name, reason=reason.value, deliveries=held)

    async def _release_strays(self) -> None:
        """What was on its way into the outbox as held while its destination was resumed is owed after all."""
        while self._strays:
            name = next(iter(self._strays))
            if self._lanes.held(name) is None:
                now = self._clock.now()
                if released := await self._store.release_strays(name, now=now, rate=self._resume_rate):
                    log.info("released", destination=name, deliveries=released)
                    self.owed(name, now)
            self._strays.discard(name)
