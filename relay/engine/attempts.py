"""What becomes of an attempt: judged, recorded, reported. One transaction holds all of it.

What the peer said decides about the delivery (``domain/backoff.py``) and about the destination's health
(``domain/health.py``). Most attempts deliver and change no health: that way is kept short.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
from collections.abc import Callable
from typing import Final

import structlog

from relay import metrics
from relay.domain import backoff, errors, health, model, reasons, wording
from relay.engine import batcher, outbox, seats
from relay.engine import clock as clocks
from relay.senders import base
from relay.store import base as store_base

log = structlog.get_logger(__name__)

RECORD_RETRY_CAP: Final = 10.0
"""Longest wait between two tries to record an outcome while the database cannot be written."""

DETAIL_MAX: Final = 500
"""Characters of what the peer said that are kept."""

Result = base.Accepted | errors.SendError


class Attempts:
    """Stateless but for what it was made with; a lane's health is changed through ``set_health``."""

    def __init__(
        self,
        *,
        recorder: batcher.Batcher[store_base.Write, store_base.Written],
        box: outbox.Outbox,
        policy: health.Policy,
        clock: clocks.Clock,
        rng: random.Random,
        set_health: Callable[[seats.Lane, model.Health], None],
        held: Callable[[str], model.HoldReason | None],
        addressed: Callable[[model.NewDelivery], model.NewDelivery],
    ) -> None:
        self._recorder = recorder
        self._outbox = box
        self._policy = policy
        self._clock = clock
        self._rng = rng
        self._set_health = set_health
        self._held = held
        self._addressed = addressed
        self._log = log.bind()  # an unbound one is bound anew for every line

    # -- judging --------------------------------------------------------------------------------

    def judge(
        self,
        lane: seats.Lane,
        claim: model.Claim,
        result: Result,
        *,
        current: bool,
        started_at: float,
        duration: float,
    ) -> store_base.AttemptWrite:
        """Decide, and have a lane that is disabled by it closed at once. ``duration`` is in seconds.

        ``current`` is false where the destination was changed or replaced while it was sent to: what a former
        peer said then concerns this delivery alone, which is tried again with the present one.
        """
        if not current and isinstance(result, errors.SendError):
            result.decision = _about_the_delivery(result.decision)
        step = self._step(lane, claim, result) if current else None
        if step is not None:
            self._set_health(lane, step.health)
        if isinstance(result, base.Accepted):
            verdict = _DELIVERED
            detail = result.detail
        else:
            verdict = self._verdict(lane, claim, result)
            detail = str(result)
        because = None
        if verdict.state is model.DeliveryState.PENDING or verdict.state is model.DeliveryState.HELD:
            if (
                claim.type == outbox.TEST_TYPE
            ):  # once: whoever sent it looks at what came of it, and sends another
                verdict = _given_up(verdict)
            else:
                verdict, because = self._kept(lane, claim, verdict)
        attempt = store_base.AttemptWrite(
            delivery_id=claim.delivery_id,
            fence=claim.fence,
            started_at=started_at,
            duration_ms=duration * 1000.0,
            outcome=verdict.outcome,
            state=verdict.state,
            next_attempt_at=verdict.next_attempt_at,
            reason=verdict.reason or None,
            status_code=result.status_code,
            detail=detail[:DETAIL_MAX] if detail else None,
            delivery_reason=because,
        )
        return attempt if step is None else self._with_step(attempt, step)

    def _verdict(self, lane: seats.Lane, claim: model.Claim, failure: errors.SendError) -> backoff.Verdict:
        options = lane.options
        return backoff.after_failure(
            failure,
            claim,
            schedule=options.schedule,
            limit_unknowns=lane.sender.format is model.Format.CHAT,
            now=self._clock.now(),
            rng=self._rng,
            retry_after_max=options.retry_after_max,
        )

    def _kept(
        self, lane: seats.Lane, claim: model.Claim, verdict: backoff.Verdict
    ) -> tuple[backoff.Verdict, str | None]:
        """What is to be tried again is held if its lane is, or given up if it would be too old by then.

        Also why, where that is not the attempt's own reason.
        """
        held = self._held(claim.destination)  # of whatever has that name now
        if held is not None:
            kept = dataclasses.replace(verdict, state=model.DeliveryState.HELD, next_attempt_at=None)
            return kept, held.value
        due = verdict.next_attempt_at
        if due is not None and claim.too_old(lane.options.age_max, at=due):
            return _given_up(verdict), reasons.Reason.TOO_OLD
        return verdict, None

    # -- the destination's health ---------------------------------------------------------------

    def _step(self, lane: seats.Lane, claim: model.Claim, result: Result) -> health.Step | None:
        """What the attempt did to the destination's health; ``None`` for nothing, which is the rule."""
        known = lane.health
        if isinstance(result, base.Accepted):
            if known.failing_since is None and not result.disable:
                return None
            step = health.Step(health=health.delivered(known))
            if result.disable:
                wish = reasons.Reason.DISABLED_BY_RECEIVER
                step = health.disabled(step.health, reason=wish, now=self._clock.now())
        elif result.decision is errors.Decision.DISABLE:
            step = health.disabled(known, reason=result.reason, now=self._clock.now())
        elif result.charged and known.disabled_at is None and claim.type != outbox.TEST_TYPE:
            step = health.failed(known, claim.delivery_id, now=self._clock.now(), policy=self._policy)
        else:
            return None
        return None if step.health is known else step

    def _with_step(self, attempt: store_base.AttemptWrite, step: health.Step) -> store_base.AttemptWrite:
        """The attempt with what it did to its destination, and whom to tell of that."""
        name = step.health.destination
        reason = attempt.reason or reasons.Reason.DISABLED_BY_RECEIVER
        notices: list[model.NewDelivery] = []
        if step.disabled:
            log.warning("destination disabled", destination=name, reason=step.health.disabled_reason)
            since = step.health.failing_since if step.health.disabled_reason == health.FAILING else None
            text = wording.destination_disabled(name, reason=reason, since=since)
            key = f"{name} {step.health.disabled_at}"
            notices = self._notices("destination_disabled", name, key=key, text=text)
        elif step.warning is not None and step.health.failing_since is not None:
            since = step.health.failing_since
            disabled_at = health.disabled_from(step.health, policy=self._policy)
            assert disabled_at is not None, "it was warned of just now"
            text = wording.destination_failing(
                name,
                share=step.warning,
                since=since,
                failures=_at_least(len(step.health.failing), self._policy),
                reason=reason,
                disabled_at=disabled_at,
            )
            key = f"{name} {since} {step.warning}"
            notices = self._notices("destination_failing", name, key=key, text=text)
        return dataclasses.replace(
            attempt,
            health=step.health,
            hold=model.HoldReason.DISABLED if step.disabled else None,
            notices=notices,
        )

    def _notices(self, kind: str, name: str, *, key: str, text: str) -> list[model.NewDelivery]:
        """To every operator destination but the one it is about, which would not hear of it."""
        notices = self._outbox.operator_notices(kind, key=key, text=text, now=self._clock.now())
        told = [self._addressed(notice) for notice in notices if notice.destination != name]
        if not told:
            log.error("nobody else to tell", kind=kind, destination=name, text=text)
        return told

    # -- recording ------------------------------------------------------------------------------

    async def record(
        self, lane: seats.Lane, claim: model.Claim, attempt: store_base.AttemptWrite
    ) -> store_base.AttemptWrite:
        """Record the outcome, however long the database cannot be written: it is kept until then.

        What the peer said is given up before the outcome is: an outcome that is never recorded
        would be sent again, and again. What became of the delivery in the end is returned.
        """
        failures = 0
        while True:
            try:
                settled = await self._recorder.put(attempt)
                assert not isinstance(settled, store_base.Recorded)
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
        if settled is not None and settled.state is not attempt.state:  # its task ended meanwhile
            attempt = dataclasses.replace(attempt, state=settled.state, next_attempt_at=None)
        self._report(lane.label, claim, attempt, None if settled is None else settled.number)
        return attempt

    def _report(
        self, label: str, claim: model.Claim, attempt: store_base.AttemptWrite, number: int | None
    ) -> None:
        """The one canonical line, and the counters."""
        reason = attempt.reason or "ok"
        metrics.ATTEMPTS.labels(label, attempt.outcome.value, reason).inc()
        lost = attempt.state is model.DeliveryState.DEAD and claim.type != outbox.TEST_TYPE
        if lost and number is not None:
            metrics.DEAD.labels(label, attempt.delivery_reason or reason).inc()
        metrics.ATTEMPT_SECONDS.labels(label).observe(attempt.duration_ms / 1000.0)
        now = self._clock.now()
        if attempt.outcome is model.Outcome.DELIVERED:
            metrics.DELIVERY_SECONDS.labels(label).observe(max(0.0, now - claim.created_at))
        level = self._log.info if attempt.outcome is model.Outcome.DELIVERED else self._log.warning
        level(
            "attempt",
            delivery=claim.delivery_id,
            destination=claim.destination,
            type=claim.type,
            task=claim.task_id,
            upstream=claim.upstream,
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


_DELIVERED: Final = backoff.Verdict(
    state=model.DeliveryState.DELIVERED, outcome=model.Outcome.DELIVERED, reason=""
)


def _about_the_delivery(decision: errors.Decision) -> errors.Decision:
    return errors.Decision.RETRY if decision is errors.Decision.DISABLE else decision


def _given_up(verdict: backoff.Verdict) -> backoff.Verdict:
    return dataclasses.replace(verdict, state=model.DeliveryState.DEAD, next_attempt_at=None)


def _at_least(known: int, policy: health.Policy) -> str:
    """How many deliveries failed, of which no more are remembered than matter."""
    more = "At least " if known >= max(policy.changes_min, health.WARNING_DELIVERIES_MIN) else ""
    return f"{more}{known} deliver{'y' if known == 1 else 'ies'}"
