"""Tells destinations: claim, send, record. Deliver, then record; at least once.

Owns seats and leases. A seat is taken before anything is claimed, so no lease ticks while waiting.
Each destination has its own lane (``lanes.py``, ``seats.py``); what becomes of an attempt is
``attempts.py``'s business. Lanes come and go; what is in flight then ends as it began.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

import structlog

from relay import metrics
from relay.domain import backoff, errors, health, model, reasons
from relay.engine import attempts, batcher, due, lanes, outbox, seats, supervisor, trials
from relay.engine import clock as clocks
from relay.senders import base
from relay.store import base as store_base

log = structlog.get_logger(__name__)

GATHER: Final = 0.005
"""Seconds that a claim waits while seats are short: they come free one after the other, and one claim
for several is cheaper than several."""

RELEASE_TIMEOUT: Final = 1.0
"""Seconds for giving a lease back during a drain; the next start takes back what is left."""


class Dispatcher:
    """A supervised loop over all lanes."""

    name = "dispatcher"

    def __init__(
        self,
        *,
        store: store_base.Store,
        destinations: Iterable[lanes.Definition],
        policy: health.Policy,
        resume_rate: float,
        box: outbox.Outbox,
        supervisor: supervisor.Supervisor,
        recorder: batcher.Batcher[store_base.Write, store_base.Written],
        clock: clocks.Clock,
        rng: random.Random,
        randomness: Callable[[int], bytes],
    ) -> None:
        self.wake = asyncio.Event()
        self._store = store
        self._outbox = box
        self._supervisor = supervisor
        self._clock = clock
        self._draining = False
        self._starved = False
        self._sending: set[str] = set()
        self._lanes = lanes.Lanes()
        self._due = due.Due(
            store=store, known=self._lanes, clock=clock, resume_rate=resume_rate, wake=self.wake
        )
        self._attempts = attempts.Attempts(
            recorder=recorder,
            box=box,
            policy=policy,
            clock=clock,
            rng=rng,
            set_health=self._lanes.set_health,
            held=self._lanes.held,
            addressed=self._lanes.addressed,
        )
        self._trials = trials.Trials(
            store=store,
            box=box,
            known=self._lanes,
            clock=clock,
            randomness=randomness,
            resume_rate=resume_rate,
            start=lambda seat, delivery: self._start(seat, _first_claim(delivery)),
            owed=self.owed,
        )
        for definition in destinations:
            self._lanes.configure(definition, monotonic=clock.monotonic())

    # -- lanes come and go ----------------------------------------------------------------------

    @property
    def destinations(self) -> Mapping[str, base.Sender]:
        """Every destination by name."""
        return {lane.name: lane.sender for lane in self._lanes}

    def configure(
        self,
        sender: base.Sender,
        options: model.DestinationOptions,
        health: model.Health,
        *,
        source: model.Source = model.Source.CONFIGURATION,
    ) -> None:
        """Add the destination of ``sender``, or replace it. What is in flight ends as it began."""
        definition = lanes.Definition(sender=sender, options=options, health=health, source=source)
        lane = self._lanes.configure(definition, monotonic=self._clock.monotonic())
        if lane.held is None:
            self.owed(lane.name, self._clock.now())

    def remove(self, name: str) -> None:
        """Forget a destination: what is owed to it from now on is held as ``destination_missing``."""
        self._lanes.remove(name)

    def health(self, name: str) -> model.Health:
        """What is known of it at this moment. ``KeyError`` for an unknown name."""
        return self._lanes[name].health

    def set_health(self, health: model.Health) -> None:
        """Have it held or not from this moment on. ``KeyError`` for an unknown name.

        The store has to follow: what is pending of one that is held is never claimed.
        """
        lane = self._lanes[health.destination]
        self._lanes.set_health(lane, health)
        if lane.held is None:
            self.owed(lane.name, self._clock.now())

    def label(self, name: str) -> str:
        """What a destination is called in metrics."""
        return self._lanes.label(name)

    def keeps_back(self, name: str) -> bool:
        """Whether what is due for it rightly waits: unknown, held, no seat, its pace, its peer's wish."""
        return self._lanes.keeps_back(name, monotonic=self._clock.monotonic())

    @property
    def sending(self) -> Collection[str]:
        """What is in flight, by id, its recording included: its lease is kept, whatever the clock says."""
        return self._sending

    def measure(self) -> None:
        """Bring the gauges of destinations up to date."""
        self._lanes.measure(self._clock.now())

    # -- fresh deliveries: stored already leased where a seat is free ---------------------------

    def lease(self, delivery: model.NewDelivery) -> tuple[model.NewDelivery, seats.Seat | None]:
        """Take a seat for a delivery that is about to be stored.

        Without a free seat, or behind others that are due, it is stored as pending; as held, where its
        destination takes nothing now or is not known.
        """
        lane = self._lanes.get(delivery.destination)
        if lane is None or lane.held is not None:
            return self._lanes.addressed(delivery), None
        now, monotonic = self._clock.now(), self._clock.monotonic()
        if self._draining or not lane.takes_fresh(now) or lane.rests_until > monotonic:
            return delivery, None
        if lane.budget is not None and lane.budget.take(monotonic) > 0.0:
            return delivery, None
        return lanes.leased(delivery, lane, now=now), lane.sit()

    def stored(
        self, leased: Sequence[tuple[model.NewDelivery, seats.Seat | None]], inserted: frozenset[str]
    ) -> None:
        """The commit is done: send what was new and has a seat, and wake up for the rest."""
        for delivery, seat in leased:
            if delivery.id not in inserted:
                if seat is not None:
                    seat.give_back()
            elif seat is not None:
                self._start(seat, _first_claim(delivery))
            elif delivery.held is not None:
                self.held(delivery.destination)
            else:
                self._owed_fresh(delivery)

    def unstored(self, leased: Sequence[tuple[model.NewDelivery, seats.Seat | None]]) -> None:
        """The commit lost or failed: nothing is owed."""
        for _, seat in leased:
            if seat is not None:
                seat.give_back()

    def owed(self, destination: str, due: float) -> None:
        """Something for ``destination`` is pending from ``due`` on (epoch seconds)."""
        self._due.owed(destination, due)

    def held(self, destination: str) -> None:
        """Something for ``destination`` is stored as held."""
        self._due.held(destination)

    def _owed_fresh(self, delivery: model.NewDelivery) -> None:
        lane = self._lanes.get(delivery.destination)
        if lane is not None and delivery.held is None:
            lane.fresh_waits = True
            self.owed(delivery.destination, delivery.created_at)

    # -- the loop -------------------------------------------------------------------------------

    async def tick(self) -> float | None:
        """Claim what is due for every lane with a free seat, and start sending it."""
        if self._draining:
            return None
        await self._due.follow()
        if self._starved:
            await asyncio.sleep(GATHER)
        self._trials.seat()
        now = self._clock.now()
        taken = self._lanes.take(now=now, monotonic=self._clock.monotonic())
        if taken:
            await self._claim(taken, now=now)
            await self._due.read()
        delay, self._starved = self._lanes.delay(now=self._clock.now(), monotonic=self._clock.monotonic())
        return delay

    async def _claim(self, taken: Mapping[str, list[seats.Seat]], *, now: float) -> None:
        """Lease and start sending. The seats are taken first: fresh deliveries look for some meanwhile."""
        requests = [_request(name, sitting) for name, sitting in taken.items()]
        limit = max(sitting[0].lane.sender.time_limit for sitting in taken.values())
        for request in requests:
            if request.fresh:
                self._lanes[request.destination].fresh_waits = False  # unless said otherwise from here on
        try:
            claims = await self._store.claim(requests, now=now, leased_until=now + limit + lanes.LEASE_MARGIN)
            found: dict[str, int] = {}
            for claim in claims:
                if claim.attempts_made == 0:
                    found[claim.destination] = found.get(claim.destination, 0) + 1
            for request in requests:
                lane = self._lanes.get(request.destination)
                if lane is not None and 0 < request.fresh <= found.get(request.destination, 0):
                    lane.fresh_waits = True
            await self._start_claims(taken, claims, now=now)
        finally:
            for unused in taken.values():
                for seat in unused:
                    seat.give_back()

    async def _start_claims(
        self, taken: Mapping[str, list[seats.Seat]], claims: Sequence[model.Claim], *, now: float
    ) -> None:
        too_old = []
        for claim in claims:
            sitting = taken[claim.destination]
            lane = sitting[0].lane
            if claim.too_old(lane.options.age_max, at=now):
                too_old.append(claim)
                continue
            fresh = claim.attempts_made == 0
            # Seats for fresh ones stand last, and go to those first.
            seat = sitting.pop() if fresh else sitting.pop(0)
            if fresh:
                seat.is_for_fresh()
            if lane.budget is not None:
                lane.budget.spend()
            self._start(seat, claim)
        if too_old:
            await self._give_up_old(too_old)

    async def _give_up_old(self, claims: Sequence[model.Claim]) -> None:
        """Nobody wants to hear of these any more: they end without having been sent."""
        leases = [(claim.delivery_id, claim.fence) for claim in claims]
        await self._store.give_up(leases, reason=reasons.Reason.TOO_OLD)
        for claim in claims:
            metrics.DEAD.labels(self.label(claim.destination), reasons.Reason.TOO_OLD).inc()
            log.warning(
                "given up",
                delivery=claim.delivery_id,
                destination=claim.destination,
                type=claim.type,
                task=claim.task_id,
                upstream=claim.upstream,
                reason=reasons.Reason.TOO_OLD,
            )

    # -- one delivery ---------------------------------------------------------------------------

    def _start(self, seat: seats.Seat, claim: model.Claim) -> None:
        self._sending.add(claim.delivery_id)
        self._supervisor.spawn(self._deliver(seat, claim), name=f"send {claim.delivery_id}", patient=True)

    async def _deliver(self, seat: seats.Seat, claim: model.Claim) -> None:
        lane, sender = seat.lane, seat.lane.sender
        started_at, started = self._clock.now(), self._clock.monotonic()
        try:
            try:
                result = await self._send(sender, claim)
            except asyncio.CancelledError:
                await self._give_back(claim)
                raise
            current = self._lanes.get(lane.name) is lane and lane.sender is sender
            if current:
                lane.hanging = isinstance(result, errors.SendError) and result.hung
                self._rest(lane, claim, result)
            seat.give_back()
            if self._starved or self._trials.waiting:
                self.wake.set()
            duration = self._clock.monotonic() - started
            attempt = self._attempts.judge(
                lane, claim, result, current=current, started_at=started_at, duration=duration
            )
            attempt = await self._attempts.record(lane, claim, attempt)
            if attempt.next_attempt_at is not None:
                self.owed(claim.destination, attempt.next_attempt_at)
            elif attempt.state is model.DeliveryState.HELD:
                self.held(claim.destination)
            for notice in attempt.notices:
                self._owed_fresh(notice)
            if current and _arrived(claim, result):
                await self._trials.arrived(lane)
        finally:
            self._sending.discard(claim.delivery_id)
            seat.give_back()
            if claim.type == outbox.TEST_TYPE:
                self._trials.attempted(claim.delivery_id)

    def _rest(self, lane: seats.Lane, claim: model.Claim, result: attempts.Result) -> None:
        """Leave a destination alone that wants it. A test that arrives shows that it takes messages again."""
        monotonic = self._clock.monotonic()
        resting = lane.rests_until > monotonic + backoff.BREATH
        if isinstance(result, base.Accepted):
            lane.failures = 0
            if resting and claim.type == outbox.TEST_TYPE:
                lane.rests_until = monotonic
                self.wake.set()
            return
        lane.failures += result.decision is errors.Decision.RETRY
        seconds = backoff.rest(result, in_a_row=lane.failures, retry_after_max=lane.options.retry_after_max)
        lane.rests_until = max(lane.rests_until, monotonic + seconds)
        if seconds > backoff.BREATH and not resting:
            log.warning(
                "destination rests",
                destination=lane.name,
                status_code=result.status_code,
                seconds=round(seconds, 1),
            )

    async def _send(self, sender: base.Sender, claim: model.Claim) -> attempts.Result:
        number = claim.attempts_made + 1
        try:
            body = claim.body if claim.format is sender.format else await self._composed_anew(claim)
            outgoing = base.Outgoing(
                delivery_id=claim.delivery_id, type=claim.type, body=body, attempt=number
            )
            async with asyncio.timeout(sender.time_limit + lanes.LEASE_MARGIN):
                return await sender.send(outgoing)
        except errors.SendError as failure:
            return failure
        except Exception as unexpected:
            # A fault of ours, one that outlives every limit of its own included, must not lose the
            # delivery, nor stop the others.
            log.exception(
                "send failed unexpectedly", delivery=claim.delivery_id, destination=claim.destination
            )
            return errors.SendError(
                f"internal error ({type(unexpected).__name__})",
                reason=reasons.Reason.INTERNAL_ERROR,
                charged=False,
            )

    async def _composed_anew(self, claim: model.Claim) -> bytes:
        """The body for a destination that became another kind since, or was not known at that time."""
        delivery = await self._store.delivery(claim.delivery_id)
        view = None
        if delivery is not None and delivery.upstream is not None and delivery.task_id is not None:
            view = await self._store.task(delivery.upstream, delivery.task_id)
        if view is None:
            return self._outbox.notice_again(claim)
        return self._outbox.change_again(claim, view.task, view.registrations)

    async def _give_back(self, claim: model.Claim) -> None:
        """An attempt cut by a drain is released, not counted."""
        with contextlib.suppress(errors.StoreError, TimeoutError):
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._store.release([(claim.delivery_id, claim.fence)], now=self._clock.now())

    def drain(self) -> None:
        """Start nothing more. What is in flight goes on."""
        self._draining = True
        self._trials.drain()

    # -- asked for by people --------------------------------------------------------------------

    async def test(self, name: str, *, wait: float) -> str:
        """Send a test to ``name`` on the real path; the delivery's id.

        Waits up to ``wait`` seconds for its first attempt. ``KeyError`` for an unknown name.
        """
        return await self._trials.test(name, wait=wait)

    async def notify_operator(self, kind: str, *, key: str, text: str) -> None:
        """Tell ``[operator] notify``; the same kind and key once."""
        notices = self._outbox.operator_notices(kind, key=key, text=text, now=self._clock.now())
        if not notices:
            return
        notices = [self._lanes.addressed(notice) for notice in notices]
        added = await self._store.add_deliveries(notices)
        for notice, new in zip(notices, added, strict=True):
            if new:
                self._owed_fresh(notice)

    async def redeliver(self, delivery_id: str) -> model.Delivery | None:
        """Send it again with a fresh budget; ``None`` if there is no such delivery."""
        now = self._clock.now()
        delivery = await self._store.redeliver(delivery_id, now=now)
        if delivery is None or delivery.next_attempt_at is None:
            return delivery
        lane = self._lanes.get(delivery.destination)
        held = model.HoldReason.DESTINATION_MISSING if lane is None else lane.held
        if held is not None:
            await self._store.hold(delivery.destination, held)
            return await self._store.delivery(delivery_id)
        self.owed(delivery.destination, delivery.next_attempt_at)
        return delivery


def _request(destination: str, sitting: Sequence[seats.Seat]) -> store_base.ClaimRequest:
    """What may be claimed with these seats."""
    fresh = sum(not seat.retry for seat in sitting)
    return store_base.ClaimRequest(destination=destination, limit=len(sitting) - fresh, fresh=fresh)


def _first_claim(delivery: model.NewDelivery) -> model.Claim:
    """The lease that ``lease`` stored: fence 1, nothing attempted yet."""
    return model.Claim(
        delivery_id=delivery.id,
        destination=delivery.destination,
        type=delivery.type,
        format=delivery.notification.format,
        body=delivery.notification.body,
        fence=1,
        attempts_made=0,
        attempts_base=0,
        unknowns_made=0,
        created_at=delivery.created_at,
        task_id=delivery.task_id,
        upstream=delivery.upstream,
    )


def _arrived(claim: model.Claim, result: attempts.Result) -> bool:
    """Whether it was a test and its peer took it, and wants more."""
    return claim.type == outbox.TEST_TYPE and isinstance(result, base.Accepted) and not result.disable
