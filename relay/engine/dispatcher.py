"""Tells destinations: claim, send, record. Deliver, then record; at least once.

Owns seats and leases. A seat is taken before anything is claimed, so no lease ticks while waiting.
Each destination has its own lane; lanes whose peer used up its time limit share fewer seats, so
peers that hang leave room for those that do not. Retry decisions are ``domain/backoff.py``'s.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import structlog

from relay import metrics
from relay.domain import backoff, errors, ids, model
from relay.engine import batcher, outbox, seats, supervisor
from relay.engine import clock as clocks
from relay.senders import base
from relay.store import base as store_base

log = structlog.get_logger(__name__)

LEASE_MARGIN: Final = 30.0
"""Seconds by which a lease outlives the longest send: room for a slow commit."""

RECHECK: Final = 30.0
"""Seconds after which due times are read from the store again, whatever memory says."""

GATHER: Final = 0.005
"""Seconds that a claim waits while seats are short: they come free one after the other, and one claim
for several is cheaper than several."""

RECORD_RETRY_CAP: Final = 10.0
"""Longest wait between two tries to record an outcome while the database cannot be written."""

CLOCK_STEP: Final = 2.0
"""Seconds by which the clock must have been set back between two passes to be taken note of."""

RELEASE_TIMEOUT: Final = 1.0
"""Seconds for giving a lease back during a drain; the next start takes back what is left."""


class Dispatcher:
    """A supervised loop over all lanes."""

    name = "dispatcher"

    def __init__(
        self,
        *,
        store: store_base.Deliveries,
        senders: Mapping[str, base.Sender],
        schedules: Mapping[str, Sequence[float]],
        box: outbox.Outbox,
        supervisor: supervisor.Supervisor,
        recorder: batcher.Batcher[store_base.AttemptWrite, int | None],
        clock: clocks.Clock,
        rng: random.Random,
        randomness: Callable[[int], bytes],
    ) -> None:
        self.wake = asyncio.Event()
        self._store = store
        self._outbox = box
        self._supervisor = supervisor
        self._recorder = recorder
        self._clock = clock
        self._rng = rng
        self._randomness = randomness
        self._senders = senders
        self._log = log.bind()  # an unbound one is bound anew for every line
        self._draining = False
        self._checked_at = float("-inf")
        self._ahead = clock.now() - clock.monotonic()
        self._starved = False
        self._owed_meanwhile: dict[str, float] | None = None
        self._waiters: dict[str, asyncio.Event] = {}
        shared: dict[str, seats.Seats] = {}
        self._lanes = {
            name: seats.Lane(
                sender=sender,
                schedule=schedules[name],
                seats=shared.setdefault(sender.capacity.name, seats.Seats(sender.capacity)),
            )
            for name, sender in senders.items()
        }

    @property
    def destinations(self) -> Mapping[str, base.Sender]:
        """Every configured destination by name."""
        return self._senders

    # -- fresh deliveries: stored already leased where a seat is free ---------------------------

    def lease(self, delivery: model.NewDelivery) -> tuple[model.NewDelivery, seats.Seat | None]:
        """Take a seat for a delivery that is about to be stored.

        Without a free seat, or behind others that are due, it is stored as pending.
        """
        lane = self._lanes.get(delivery.destination)
        now = self._clock.now()
        if lane is None or self._draining or lane.free() <= 0:
            return delivery, None
        if lane.next_due is not None and lane.next_due <= now:
            return delivery, None
        until = now + lane.sender.time_limit + LEASE_MARGIN
        leased = model.NewDelivery(
            id=delivery.id,
            task=delivery.task,
            destination=delivery.destination,
            type=delivery.type,
            notification=delivery.notification,
            created_at=delivery.created_at,
            leased_until=until,
        )
        return leased, lane.sit()

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
            else:
                self.owed(delivery.destination, delivery.created_at)

    def unstored(self, leased: Sequence[tuple[model.NewDelivery, seats.Seat | None]]) -> None:
        """The commit lost or failed: nothing is owed."""
        for _, seat in leased:
            if seat is not None:
                seat.give_back()

    def owed(self, destination: str, due: float) -> None:
        """Something for ``destination`` is pending from ``due`` on (epoch seconds)."""
        lane = self._lanes.get(destination)
        if lane is None:
            return
        lane.next_due = _earliest(lane.next_due, due)
        if self._owed_meanwhile is not None:
            self._owed_meanwhile[destination] = _earliest(self._owed_meanwhile.get(destination), due)
        self.wake.set()

    # -- the loop -------------------------------------------------------------------------------

    async def tick(self) -> float | None:
        """Claim what is due for every lane with a free seat, and start sending it."""
        if self._draining:
            return None
        await self._follow_clock()
        if self._clock.monotonic() - self._checked_at >= RECHECK:
            await self._read_due()
        if self._starved:
            await asyncio.sleep(GATHER)
        now = self._clock.now()
        requests = self._requests(now)
        if requests:
            await self._claim(requests, now=now)
            await self._read_due()
        return self._delay()

    async def _follow_clock(self) -> None:
        """A clock that was set back must not make what is due wait until it has caught up."""
        ahead = self._clock.now() - self._clock.monotonic()
        back = self._ahead - ahead
        if back > CLOCK_STEP:
            moved = await self._store.shift_due(seconds=back)
            log.warning("the clock was set back", seconds=round(back, 1), deliveries=moved)
            self._checked_at = float("-inf")
        self._ahead = ahead

    async def _claim(self, requests: Sequence[store_base.ClaimRequest], *, now: float) -> None:
        """Lease and start sending. The seats are taken first: fresh deliveries look for some meanwhile."""
        limit = max(self._lanes[r.destination].sender.time_limit for r in requests)
        taken = {r.destination: [self._lanes[r.destination].sit() for _ in range(r.limit)] for r in requests}
        try:
            claims = await self._store.claim(requests, now=now, leased_until=now + limit + LEASE_MARGIN)
            for claim in claims:
                self._start(taken[claim.destination].pop(), claim)
        finally:
            for unused in taken.values():
                for seat in unused:
                    seat.give_back()

    def _requests(self, now: float) -> list[store_base.ClaimRequest]:
        """Ask for as much as there are seats, counting shared seats as they are given out."""
        given: dict[int, int] = {}
        found = []
        for name, lane in sorted(self._lanes.items(), key=lambda item: item[1].next_due or 0.0):
            if lane.next_due is None or lane.next_due > now:
                continue
            promised = given.get(id(lane.seats), 0)
            limit = min(lane.free(), lane.seats.free(hanging=lane.hanging) - promised)
            if limit > 0:
                given[id(lane.seats)] = promised + limit
                found.append(store_base.ClaimRequest(destination=name, limit=limit))
        return found

    async def _read_due(self) -> None:
        """Read due times from the store, keeping those that were announced while it answered."""
        meanwhile: dict[str, float] = {}
        self._owed_meanwhile = meanwhile
        try:
            due = await self._store.due()
        finally:
            self._owed_meanwhile = None
        self._checked_at = self._clock.monotonic()
        for name, lane in self._lanes.items():
            lane.next_due = due.get(name)
            if name in meanwhile:
                lane.next_due = _earliest(lane.next_due, meanwhile[name])

    def _delay(self) -> float | None:
        """Seconds until a lane with a free seat has something due."""
        now = self._clock.now()
        waiting = [lane for lane in self._lanes.values() if lane.next_due is not None]
        self._starved = any(lane.free() <= 0 for lane in waiting)
        times = [lane.next_due for lane in waiting if lane.next_due is not None and lane.free() > 0]
        return max(0.001, min(times) - now) if times else None

    # -- one delivery ---------------------------------------------------------------------------

    def _start(self, seat: seats.Seat, claim: model.Claim) -> None:
        self._supervisor.spawn(self._deliver(seat, claim), name=f"send {claim.delivery_id}", patient=True)

    async def _deliver(self, seat: seats.Seat, claim: model.Claim) -> None:
        lane = seat.lane
        started_at, started = self._clock.now(), self._clock.monotonic()
        try:
            try:
                accepted: base.Accepted | errors.SendError = await self._send(lane, claim)
            except asyncio.CancelledError:
                await self._give_up(claim)
                raise
            if isinstance(accepted, errors.SendError):
                lane.hanging = accepted.hung
            else:
                lane.hanging = False
            seat.give_back()
            if self._starved:
                self.wake.set()
            attempt = self._attempt(lane, claim, accepted, started_at, self._clock.monotonic() - started)
            await self._record(claim, attempt)
            if attempt.next_attempt_at is not None:
                self.owed(claim.destination, attempt.next_attempt_at)
        finally:
            seat.give_back()
            if (waiter := self._waiters.get(claim.delivery_id)) is not None:
                waiter.set()

    async def _send(self, lane: seats.Lane, claim: model.Claim) -> base.Accepted | errors.SendError:
        number = claim.attempts_made + 1
        outgoing = base.Outgoing(
            delivery_id=claim.delivery_id, type=claim.type, body=claim.body, attempt=number
        )
        try:
            return await lane.sender.send(outgoing)
        except errors.SendError as failure:
            return failure
        except Exception as unexpected:
            # A fault of ours must not lose the delivery, nor stop the others.
            log.exception(
                "send failed unexpectedly", delivery=claim.delivery_id, destination=claim.destination
            )
            return errors.SendError(f"internal error ({type(unexpected).__name__})", reason="internal_error")

    def _attempt(
        self,
        lane: seats.Lane,
        claim: model.Claim,
        result: base.Accepted | errors.SendError,
        started_at: float,
        duration: float,
    ) -> store_base.AttemptWrite:
        if isinstance(result, base.Accepted):
            state, outcome, reason, next_at = (
                model.DeliveryState.DELIVERED,
                model.Outcome.DELIVERED,
                None,
                None,
            )
            detail = result.detail
        else:
            verdict = backoff.after_failure(
                result,
                claim,
                schedule=lane.schedule,
                limit_unknowns=lane.sender.format is model.Format.CHAT,
                now=self._clock.now(),
                rng=self._rng,
            )
            state, outcome, reason = verdict.state, verdict.outcome, verdict.reason
            next_at, detail = verdict.next_attempt_at, str(result)
        return store_base.AttemptWrite(
            delivery_id=claim.delivery_id,
            fence=claim.fence,
            started_at=started_at,
            duration_ms=duration * 1000.0,
            outcome=outcome,
            state=state,
            next_attempt_at=next_at,
            reason=reason,
            status_code=result.status_code,
            detail=detail[:500] if detail else None,
        )

    async def _record(self, claim: model.Claim, attempt: store_base.AttemptWrite) -> None:
        """Record the outcome, however long the database cannot be written: it is kept until then.

        What the peer said is given up before the outcome is: an outcome that is never recorded
        would be sent again, and again.
        """
        failures = 0
        while True:
            try:
                number = await self._recorder.put(attempt)
                break
            except errors.StoreUnavailable as exc:
                failures += 1
                delay = backoff.restart(failures, base=0.5, cap=RECORD_RETRY_CAP)
                log.error(
                    "outcome not recorded yet", delivery=claim.delivery_id, error=str(exc), retry_in=delay
                )
                await asyncio.sleep(delay)
            except errors.StoreRejected:
                if attempt.detail is None and attempt.status_code is None:
                    raise
                attempt = dataclasses.replace(attempt, detail=None, status_code=None)
        self._report(claim, attempt, number)

    def _report(self, claim: model.Claim, attempt: store_base.AttemptWrite, number: int | None) -> None:
        """The one canonical line, and the counters."""
        reason = attempt.reason or "ok"
        metrics.ATTEMPTS.labels(claim.destination, attempt.outcome.value, reason).inc()
        metrics.ATTEMPT_SECONDS.labels(claim.destination).observe(attempt.duration_ms / 1000.0)
        now = self._clock.now()
        if attempt.outcome is model.Outcome.DELIVERED:
            metrics.DELIVERY_SECONDS.labels(claim.destination).observe(max(0.0, now - claim.created_at))
        level = self._log.info if attempt.outcome is model.Outcome.DELIVERED else self._log.warning
        level(
            "attempt",
            delivery=claim.delivery_id,
            destination=claim.destination,
            type=claim.type,
            number=number,
            outcome=attempt.outcome.value,
            state=attempt.state.value,
            reason=reason,
            status_code=attempt.status_code,
            detail=attempt.detail,
            duration_ms=round(attempt.duration_ms, 1),
            retry_in=None if attempt.next_attempt_at is None else round(attempt.next_attempt_at - now, 1),
            lease_lost=number is None,
        )

    async def _give_up(self, claim: model.Claim) -> None:
        """An attempt cut by a drain is released, not counted."""
        with contextlib.suppress(errors.StoreError, TimeoutError):
            async with asyncio.timeout(RELEASE_TIMEOUT):
                await self._store.release([(claim.delivery_id, claim.fence)], now=self._clock.now())

    # -- asked for by people --------------------------------------------------------------------

    async def test(self, name: str, *, wait: float) -> str:
        """Send a test to ``name`` on the real path; the delivery's id.

        Waits up to ``wait`` seconds for its first attempt. ``KeyError`` for an unknown name.
        """
        if name not in self._lanes:
            raise KeyError(name)
        delivery_id = ids.make("msg", self._randomness(ids.RANDOM_BYTES))
        now = self._clock.now()
        attempted = self._waiters[delivery_id] = asyncio.Event()
        try:
            await self._store.add_deliveries([self._outbox.test(name, delivery_id, now=now)])
            self.owed(name, now)
            async with asyncio.timeout(wait):
                await attempted.wait()
        except TimeoutError:
            pass
        finally:
            del self._waiters[delivery_id]
        return delivery_id

    async def notify_operator(self, kind: str, *, key: str, text: str) -> None:
        """Tell ``[operator] notify``; the same kind and key once."""
        now = self._clock.now()
        notices = self._outbox.operator_notices(kind, key=key, text=text, now=now)
        if not notices:
            return
        added = await self._store.add_deliveries(notices)
        for notice, new in zip(notices, added, strict=True):
            if new:
                self.owed(notice.destination, now)

    async def redeliver(self, delivery_id: str) -> model.Delivery | None:
        """Send it again with a fresh budget; ``None`` if there is no such delivery."""
        now = self._clock.now()
        delivery = await self._store.redeliver(delivery_id, now=now)
        if delivery is not None and delivery.next_attempt_at is not None:
            self.owed(delivery.destination, delivery.next_attempt_at)
        return delivery

    def keeps_back(self, destination: str) -> bool:
        """Whether what is due for ``destination`` rightly waits: no free seat, or not configured."""
        lane = self._lanes.get(destination)
        return lane is None or lane.free() <= 0

    def drain(self) -> None:
        """Start nothing more. What is in flight goes on."""
        self._draining = True


def _first_claim(delivery: model.NewDelivery) -> model.Claim:
    """The lease that ``lease`` stored: fence 1, nothing attempted yet."""
    return model.Claim(
        delivery_id=delivery.id,
        destination=delivery.destination,
        type=delivery.type,
        body=delivery.notification.body,
        fence=1,
        attempts_made=0,
        attempts_base=0,
        unknowns_made=0,
        created_at=delivery.created_at,
    )


def _earliest(known: float | None, other: float) -> float:
    return other if known is None else min(known, other)
