"""Tests that people send to a destination: the real path, and at once.

A test waits for no backlog, pace or pause, only for one of the seats that are shared because something
is scarce. One that arrives at a disabled destination enables it again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable

import structlog

from relay.domain import errors, health, ids, model
from relay.engine import clock as clocks
from relay.engine import lanes, outbox, seats
from relay.store import base as store_base
from relay.store import destinations as stored

log = structlog.get_logger(__name__)


class Trials:
    """Tests under way. ``start`` sends what was stored leased, ``owed`` announces what is pending."""

    def __init__(
        self,
        *,
        store: store_base.Store,
        box: outbox.Outbox,
        known: lanes.Lanes,
        clock: clocks.Clock,
        randomness: Callable[[int], bytes],
        resume_rate: float,
        start: Callable[[seats.Seat, model.NewDelivery], None],
        owed: Callable[[str, float], None],
    ) -> None:
        self._store = store
        self._outbox = box
        self._lanes = known
        self._clock = clock
        self._randomness = randomness
        self._resume_rate = resume_rate
        self._start = start
        self._owed = owed
        self._attempted: dict[str, asyncio.Event] = {}
        self._waiting: deque[tuple[seats.Lane, asyncio.Future[seats.Seat]]] = deque()
        self._draining = False

    @property
    def waiting(self) -> bool:
        """Whether a test waits for a seat."""
        return bool(self._waiting)

    def drain(self) -> None:
        """Start nothing more."""
        self._draining = True

    async def test(self, name: str, *, wait: float) -> str:
        """Send a test; the delivery's id. Waits up to ``wait`` seconds for its first attempt.

        One that finds no seat in that time is owed like anything else, or held where its destination
        is. ``KeyError`` for an unknown name.
        """
        lane = self._lanes[name]
        delivery_id = ids.make("msg", self._randomness(ids.RANDOM_BYTES))
        delivery = self._outbox.test(name, delivery_id, now=self._clock.now())
        attempted = self._attempted[delivery_id] = asyncio.Event()
        seat: seats.Seat | None = None
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    if not self._draining:
                        seat = await self._seat(lane)
                        await self._send(delivery, seat)
                        await attempted.wait()
            if seat is None:
                await self._store.add_deliveries([self._lanes.addressed(delivery)])
                self._owed(name, delivery.created_at)
        finally:
            del self._attempted[delivery_id]
        return delivery_id

    async def _send(self, delivery: model.NewDelivery, seat: seats.Seat) -> None:
        leased = lanes.leased(delivery, seat.lane, now=self._clock.now())
        try:
            await self._store.add_deliveries([leased])
        except BaseException:
            seat.give_back()
            raise
        self._start(seat, leased)

    async def _seat(self, lane: seats.Lane) -> seats.Seat:
        """A seat, as soon as there is one: of those that are shared, whatever the lane's own limits are."""
        if not self._waiting and lane.seats.free(hanging=lane.hanging) > 0:
            return lane.sit()
        coming: asyncio.Future[seats.Seat] = asyncio.get_running_loop().create_future()
        self._waiting.append((lane, coming))
        try:
            return await coming
        except asyncio.CancelledError:
            if coming.done() and not coming.cancelled():
                coming.result().give_back()
            raise

    def seat(self) -> None:
        """Give the seats that are free to tests that wait."""
        for _ in range(len(self._waiting)):
            lane, coming = self._waiting.popleft()
            if coming.done():
                continue
            if lane.seats.free(hanging=lane.hanging) > 0:
                coming.set_result(lane.sit())
            else:
                self._waiting.append((lane, coming))

    def attempted(self, delivery_id: str) -> None:
        """Its first attempt is recorded, or was given up."""
        if (waiter := self._attempted.get(delivery_id)) is not None:
            waiter.set()

    async def arrived(self, lane: seats.Lane) -> None:
        """A test arrived: a destination that was disabled is enabled, and what was held for that is sent.

        A pause is somebody's wish and stays.
        """
        before = lane.health
        if before.disabled_at is None or self._lanes.get(lane.name) is not lane:
            return
        after = health.enabled(before)
        # First here, so that nothing more is stored as held while what is held is released.
        self._lanes.set_health(lane, after)
        now = self._clock.now()
        try:
            if after.hold_reason is None:
                rate = self._resume_rate
                await self._store.resume(after, which=stored.Which.ALL, now=now, rate=rate)
            else:
                await self._store.pause(after)
        except errors.StoreError as exc:
            if lane.health is after:
                self._lanes.set_health(lane, before)
            log.error("destination not enabled", destination=lane.name, error=str(exc))
            return
        log.info("destination enabled", destination=lane.name, paused=after.paused_at is not None)
        self._owed(lane.name, now)
