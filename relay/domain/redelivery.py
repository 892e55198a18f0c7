"""Telling many deliveries again: which ones, how far it is, what may be done with it, and its pace.

A redelivery is made as a preview, runs batch by batch in order of (``created_at``, ``id``), and can be
paused and cancelled. Pure: the store writes what the functions here answer.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from relay.domain import errors, model

RATE: Final = 10.0
"""Deliveries per second unless told otherwise: a receiver that just came back is not run over."""

RATE_MIN: Final = 0.1
RATE_MAX: Final = 1000.0
"""Deliveries per second that may be asked for."""

SELECTABLE: Final = (
    model.DeliveryState.DEAD,
    model.DeliveryState.DELIVERED,
    model.DeliveryState.HELD,
    model.DeliveryState.SUPERSEDED,
)
"""States of what can be told again; what is pending or being sent is owed anyway."""

SPAN: Final = 1.0
"""Seconds that one batch is spread over: what is given out is no longer to be stopped by a pause."""

BATCH_MAX: Final = 500
"""Deliveries in one transaction."""

LEAD: Final = 0.1
"""Seconds before the last batch is due out at which the next is made, so that the flow has no gaps."""


class State(StrEnum):
    """Where a redelivery stands."""

    PREVIEW = "preview"
    """Nothing is sent yet."""
    RUNNING = "running"
    PAUSED = "paused"
    DONE = "done"
    """All that was found is owed again; whether it arrived, the deliveries say."""
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing more becomes of it."""
        return self in (State.DONE, State.CANCELLED)


class Action(StrEnum):
    """What can be done with a redelivery."""

    RUN = "run"
    PAUSE = "pause"
    CANCEL = "cancel"


_ALLOWED: Final = {
    Action.RUN: (State.PREVIEW, State.RUNNING, State.PAUSED),
    Action.PAUSE: (State.RUNNING, State.PAUSED),
    Action.CANCEL: (State.PREVIEW, State.RUNNING, State.PAUSED, State.CANCELLED),
}
"""From which states; doing again what was done changes nothing."""

_BECOMES: Final = {
    Action.RUN: State.RUNNING,
    Action.PAUSE: State.PAUSED,
    Action.CANCEL: State.CANCELLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which deliveries are told again; ``None`` does not narrow.

    ``task`` is relay's id, ``reference`` the same task as ``upstream:id``, for people.
    ``created_after`` includes its instant (epoch seconds), ``created_before`` does not.
    """

    state: model.DeliveryState = model.DeliveryState.DEAD
    destination: str | None = None
    reason: str | None = None
    type: str | None = None
    task: str | None = None
    reference: str | None = None
    created_after: float | None = None
    created_before: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Redelivery:
    """Many deliveries told again, as one durable piece of work.

    ``count`` is how many the preview found; ``done`` are owed again since, ``skipped`` were left as
    they were (held by their destination, or no longer in the state asked for). When it is done the
    three agree. ``rate`` is in deliveries per second. ``position`` is (``created_at``, ``id``) of the
    last delivery that was looked at, ``paced_until`` the instant up to which due times are given out;
    both ``None`` before it ran. ``created_by`` is an API key's id; ``finished_at`` is set exactly when
    the state is an end.
    """

    id: str
    state: State = State.PREVIEW
    selection: Selection
    rate: float = RATE
    count: int
    done: int = 0
    skipped: int = 0
    position: tuple[float, str] | None = None
    paced_until: float | None = None
    created_by: str
    created_at: float
    changed_at: float
    finished_at: float | None = None

    @property
    def left(self) -> int:
        """How many are still to be looked at, as far as the preview knew."""
        return 0 if self.state.ended else max(0, self.count - self.done - self.skipped)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """What the next batch may be: up to ``limit`` deliveries, the first due at ``start``, ``pause`` apart."""

    start: float
    pause: float
    limit: int


def after(redelivery: Redelivery, action: Action, *, rate: float | None, now: float) -> Redelivery:
    """``redelivery`` once ``action`` was done; ``rate`` of ``None`` stays as it is.

    Raises ``errors.WrongState`` where its state does not allow it.
    """
    if redelivery.state not in _ALLOWED[action]:
        raise errors.WrongState(
            f"This redelivery is {redelivery.state}; {action} takes one that is "
            f"{', '.join(_ALLOWED[action][:-1])} or {_ALLOWED[action][-1]}."
        )
    state, pace = _BECOMES[action], redelivery.rate if rate is None else rate
    if (state, pace) == (redelivery.state, redelivery.rate):
        return redelivery
    return dataclasses.replace(
        redelivery, state=state, rate=pace, changed_at=now, finished_at=now if state.ended else None
    )


def wait(redelivery: Redelivery, *, now: float) -> float:
    """Seconds until its next batch may be made; 0.0 when that is now."""
    return max(0.0, _paced_until(redelivery, now) - LEAD - now)


def turn(redelivery: Redelivery, *, now: float) -> Turn:
    """Its next batch, once ``wait`` is over."""
    return Turn(
        start=_paced_until(redelivery, now),
        pause=1.0 / redelivery.rate,
        limit=min(BATCH_MAX, max(1, int(redelivery.rate * SPAN))),
    )


def advanced(
    redelivery: Redelivery,
    *,
    moved: int,
    skipped: int,
    position: tuple[float, str] | None,
    paced_until: float,
    ended: bool,
    now: float,
) -> Redelivery:
    """``redelivery`` behind a batch of which ``moved`` are owed again.

    ``ended`` says that nothing is left to look at. What the preview found and the walk no longer did
    had left the state meanwhile: it counts as skipped.
    """
    done, passed, count = redelivery.done + moved, redelivery.skipped + skipped, redelivery.count
    if ended:
        passed = max(passed, count - done)
        count = done + passed
    return dataclasses.replace(
        redelivery,
        state=State.DONE if ended else redelivery.state,
        count=count,
        done=done,
        skipped=passed,
        position=position,
        paced_until=paced_until,
        changed_at=now,
        finished_at=now if ended else None,
    )


def _paced_until(redelivery: Redelivery, now: float) -> float:
    """When the next delivery may be due. What lies further ahead than a batch reaches is not believed:
    the clock was set back, or the rate was raised."""
    reach = now + LEAD + max(SPAN, 1.0 / redelivery.rate)
    until = redelivery.paced_until
    return now if until is None or not now < until <= reach else until
