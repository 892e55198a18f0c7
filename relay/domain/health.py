"""When a destination that fails is warned of, and when it is disabled. Pure: the clock is an argument.

Disabling takes a window of time and several distinct deliveries, never a mere count: a receiver that
is down for a night loses nothing, and one message that it cannot digest does not silence it. The
first failure's time is kept until a delivery arrives, so that neither a restart nor another failure
moves the window. What a fault of relay's own made fail says nothing about the destination.

Nobody's destination is disabled unwarned. Where nothing was tried for long, because relay was down or
nothing was owed, the first failure after it may find that the window is over: it warns, and what the
warning says is left of the window has to pass first.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Final

from relay.domain import model

WARNINGS: Final = (50, 70, 90)
"""Percent of the window after which the operator is told, each once."""

WARNING_DELIVERIES_MIN: Final = 2
"""Distinct deliveries that must have failed for a warning: one alone may be about the message."""

FAILING: Final = "failing"
"""Why a destination is disabled to which nothing arrived for the whole window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """``[failing]``: seconds of nothing but failures, and how many distinct deliveries, that disable."""

    window: float
    changes_min: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What an attempt did to a destination's health.

    ``warning`` is a share of the window that the operator is to be told of now, percent, or ``None``.
    ``disabled`` says that this attempt disabled it.
    """

    health: model.Health
    warning: int | None = None
    disabled: bool = False


def delivered(health: model.Health) -> model.Health:
    """Something arrived: whatever failed before is forgotten."""
    if health.failing_since is None:
        return health
    return _changed(health, failing_since=None, failing=(), warned=0, warned_at=None)


def disabled_from(health: model.Health, *, policy: Policy) -> float | None:
    """When a failing destination that was warned of is disabled at the earliest; ``None`` for another."""
    if health.failing_since is None or not health.warned:
        return None
    end = health.failing_since + policy.window
    if health.warned_at is None:
        return end
    return max(end, health.warned_at + policy.window * (100 - health.warned) / 100.0)


def failed(health: model.Health, delivery_id: str, *, now: float, policy: Policy) -> Step:
    """An attempt failed by the destination's own doing. ``now`` is epoch seconds."""
    since = now if health.failing_since is None else health.failing_since
    failing = health.failing
    if delivery_id not in failing and len(failing) < max(policy.changes_min, WARNING_DELIVERIES_MIN):
        failing = (*failing, delivery_id)
    share = 100.0 * (now - since) / policy.window
    due = disabled_from(health, policy=policy)
    if due is not None and now >= due and len(failing) >= policy.changes_min:
        known = dataclasses.replace(health, failing_since=since, failing=failing)
        return disabled(known, reason=FAILING, now=now)
    warning = None
    if len(failing) >= min(WARNING_DELIVERIES_MIN, policy.changes_min):
        reached = max((percent for percent in WARNINGS if share >= percent), default=0)
        warning = reached if reached > health.warned else None
    if warning is None and failing == health.failing and since == health.failing_since:
        return Step(health=health)
    after = _changed(health, failing_since=since, failing=failing)
    if warning is not None:
        after = dataclasses.replace(after, warned=warning, warned_at=now)
    return Step(health=after, warning=warning)


def disabled(health: model.Health, *, reason: str, now: float) -> Step:
    """It said that it is gone, or failed for the whole window. One that is disabled stays as it is."""
    if health.disabled_at is not None:
        return Step(health=health)
    return Step(health=_changed(health, disabled_at=now, disabled_reason=reason), disabled=True)


def paused(health: model.Health, *, now: float) -> model.Health:
    """Somebody paused it; one that is paused already stays so since then."""
    return health if health.paused_at is not None else _changed(health, paused_at=now)


def resumed(health: model.Health) -> model.Health:
    """Somebody wants it told again: neither paused nor disabled, with a clean record."""
    return _changed(
        health,
        paused_at=None,
        disabled_at=None,
        disabled_reason=None,
        failing_since=None,
        failing=(),
        warned=0,
        warned_at=None,
    )


def enabled(health: model.Health) -> model.Health:
    """A test arrived: no longer disabled. A pause is somebody's wish and stays."""
    after = resumed(health)
    return dataclasses.replace(after, paused_at=health.paused_at)


def _changed(health: model.Health, **values: object) -> model.Health:
    return dataclasses.replace(health, version=health.version + 1, **values)  # type: ignore[arg-type]
