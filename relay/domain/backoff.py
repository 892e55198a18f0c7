"""When a failed send is tried again. Pure: the clock's reading and the rng are arguments.

The default schedule is the example of Standard Webhooks: ten attempts over 75 h 35 min.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relay.domain import errors, model, reasons

if TYPE_CHECKING:
    import random

SCHEDULE: Final = model.SCHEDULE
RETRY_AFTER_MAX: Final = model.RETRY_AFTER_MAX

JITTER: Final = 0.1
"""Up to a tenth is added to each delay, never taken away: a peer's Retry-After is a floor."""

REST: Final = 1.0
"""Seconds for which a destination is left alone that is busy and names no time."""

FAILURES_MIN: Final = 16
"""Failures in a row after which a destination is not sent to as fast as it refuses."""

BREATH: Final = 0.1
"""Seconds that it is then left alone after each."""

_BUSY: Final = frozenset({429, 502, 504})
"""Statuses that ask for less, by Standard Webhooks."""

UNKNOWN_RETRIES_MAX: Final = 2
"""How often an unknown outcome is tried again for chat and mail: nobody wants the same mail ten times."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What becomes of a delivery after an attempt that did not deliver it.

    ``next_attempt_at`` is set exactly when ``state`` is pending. ``disable`` says that the
    destination itself is to be disabled; the delivery is then held, whatever is left of its schedule.
    """

    state: model.DeliveryState
    outcome: model.Outcome
    reason: str
    next_attempt_at: float | None = None
    disable: bool = False


_OUTCOMES: Final = {
    errors.Decision.RETRY: model.Outcome.RETRY,
    errors.Decision.DEAD: model.Outcome.DEAD,
    errors.Decision.DISABLE: model.Outcome.DISABLE,
    errors.Decision.UNKNOWN: model.Outcome.UNKNOWN,
}


def after_failure(
    failure: errors.SendError,
    claim: model.Claim,
    *,
    schedule: Sequence[float],
    limit_unknowns: bool,
    now: float,
    rng: random.Random,
    retry_after_max: float = RETRY_AFTER_MAX,
) -> Verdict:
    """Decide about one failed attempt.

    ``schedule`` holds a delay per attempt; its length is the budget. ``limit_unknowns`` says that
    an unknown outcome may be repeated only ``UNKNOWN_RETRIES_MAX`` times (chat and mail; a webhook's
    receiver recognises a duplicate by its id). ``claim`` counts without this attempt.
    ``retry_after_max`` is in seconds, and the only limit on what a peer may ask for.
    """
    used = claim.attempts_made - claim.attempts_base + 1
    outcome = _OUTCOMES[failure.decision]
    if failure.decision is errors.Decision.DISABLE:
        return Verdict(state=model.DeliveryState.HELD, outcome=outcome, reason=failure.reason, disable=True)
    dead = Verdict(state=model.DeliveryState.DEAD, outcome=outcome, reason=failure.reason)
    if failure.decision is errors.Decision.DEAD or used >= len(schedule):
        return dead
    if (
        failure.decision is errors.Decision.UNKNOWN
        and limit_unknowns
        and claim.unknowns_made >= UNKNOWN_RETRIES_MAX
    ):
        return Verdict(state=model.DeliveryState.DEAD, outcome=outcome, reason=reasons.Reason.UNKNOWN)
    wait = delay(schedule[used], failure.retry_after, rng=rng, retry_after_max=retry_after_max)
    return Verdict(
        state=model.DeliveryState.PENDING, outcome=outcome, reason=failure.reason, next_attempt_at=now + wait
    )


def delay(
    scheduled: float,
    retry_after: float | None,
    *,
    rng: random.Random,
    retry_after_max: float = RETRY_AFTER_MAX,
) -> float:
    """Seconds to wait: the larger of schedule and Retry-After (capped), plus jitter.

    >>> import random
    >>> delay(5.0, None, rng=random.Random(1)) >= 5.0
    True
    """
    asked = 0.0
    if retry_after is not None and retry_after > 0:  # NaN compares false
        asked = min(retry_after, retry_after_max)
    base = max(scheduled, asked)
    return base + rng.uniform(0.0, JITTER * base)


def rest(failure: errors.SendError, *, in_a_row: int = 1, retry_after_max: float = RETRY_AFTER_MAX) -> float:
    """Seconds for which nothing at all is sent to the destination that failed so; 0.0 for most failures.

    ``in_a_row`` is how many sends to it failed since one arrived, this one included.

    A ``Retry-After`` of a destination that is busy or not available (503) is about all that it is sent,
    not about one delivery: each of a backlog would use up its schedule to hear the same. One that refuses
    everything is sent a few at a time: it takes nothing anyway, and whoever is well has the machine.

    >>> rest(errors.SendError("busy", reason="http_429", status_code=429, retry_after=30.0))
    30.0
    """
    if failure.decision is not errors.Decision.RETRY:
        return 0.0
    busy = failure.status_code in _BUSY
    if failure.retry_after is not None and failure.retry_after > 0 and (busy or failure.status_code == 503):
        return min(failure.retry_after, retry_after_max)
    if busy:
        return REST
    return BREATH if in_a_row >= FAILURES_MIN else 0.0


def restart(failures: int, *, base: float, cap: float) -> float:
    """Seconds before something that failed ``failures`` times in a row (from 1) is tried again."""
    return min(cap, base * 2.0 ** min(failures - 1, 30))
