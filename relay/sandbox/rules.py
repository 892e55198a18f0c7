"""What becomes of a task: how long it takes, how it ends, what it costs. Pure.

A task's whole future is planned when it is created; every answer is then worked out from the
plan and the time of asking. So nothing runs in the background, however many tasks there are, and
the same seed gives the same history.

The documentation states no durations. The medians are those seen by users of these families (30
to 540 s altogether), spread log-normally with σ = 0.5, which fits what they saw.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from relay.catalogue import models
from relay.domain import model as domain
from relay.sandbox import injection

SIGMA: Final = 0.5
"""Spread of the log-normal durations."""

IMAGE_SECONDS: Final = 25.0
"""Median for image models (10–45 s seen)."""

VIDEO_SECONDS: Final = 120.0
"""Median for families of which nothing was seen."""

FAMILY_SECONDS: Final[tuple[tuple[str, float], ...]] = (
    ("veo3-1-fast", 40.0),
    ("veo3-1-quality", 90.0),
    ("doubao-seedance-1-0-pro-quality", 115.0),
    ("doubao-seedance", 45.0),
    ("minimax-hailuo", 120.0),
    ("kling", 160.0),
    ("viduq3-pro", 240.0),
    ("viduq3", 120.0),
    ("wan", 120.0),
)
"""Median seconds by the first prefix that a slug has, for the cheapest setting."""

SLOW_SETTINGS: Final = (("minimax-hailuo", "resolution", ("1080p",)), ("kling", "mode", ("pro", "4k")))
"""Settings that double a family's median: (prefix, member of the input, values)."""

QUEUED_SHARE: Final = (0.05, 0.15)
"""The part of its time that a task waits before it is processed (chosen, not seen)."""

OUTPUTS_MAX: Final = 4
"""Outputs of one task: the largest ``n`` that a documented schema allows."""

LATE_SECONDS: Final = 30.0
"""How long after its success a task with ``[late-output]`` gets its output, at speed 1."""

LINK_SECONDS: Final = 60.0
"""How long the output links of a task with ``[expired-url]`` work, at speed 1."""

_ENDS: Final = {
    injection.Word.FAIL: domain.Status.FAILED,
    injection.Word.MODERATED: domain.Status.FAILED,
    injection.Word.CANCEL: domain.Status.CANCELLED,
    injection.Word.STALL: None,
}
"""How a task ends that does not succeed; ``None`` means never."""


@dataclass(frozen=True, slots=True)
class Step:
    """The task is in ``status`` from ``at`` (epoch seconds) on."""

    at: float
    status: domain.Status


@dataclass(frozen=True, slots=True)
class Moment:
    """What of a plan has come true: the number of steps taken, and whether the output is there."""

    reached: int
    has_output: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """A task's future: its steps in order of time, the first at its creation.

    A plan whose last step is not terminal describes a task that never ends. ``output_at`` is when
    the output appears (infinity: never), not before the end; its links work until ``links_until``.
    """

    steps: tuple[Step, ...]
    output_at: float = math.inf
    links_until: float = math.inf

    def moment(self, now: float) -> Moment:
        """Where the task is at ``now``; at least one step was taken."""
        return Moment(max(1, sum(step.at <= now for step in self.steps)), self.output_at <= now)

    def ended(self, reached: int) -> bool:
        """Whether the task is over once ``reached`` steps were taken."""
        return self.steps[reached - 1].status.terminal

    def next_at(self, reached: int) -> float:
        """When the step after the first ``reached`` is due; infinity where there is none."""
        return self.steps[reached].at if reached < len(self.steps) else math.inf

    @property
    def ends_at(self) -> float:
        """When the task ends; infinity where it never does."""
        last = self.steps[-1]
        return last.at if last.status.terminal else math.inf


def median_seconds(model: models.Model, task_input: Mapping[str, object]) -> float:
    """How long half of such tasks take at speed 1."""
    if model.output_kind == "images":
        return IMAGE_SECONDS
    seconds = next((s for prefix, s in FAMILY_SECONDS if model.slug.startswith(prefix)), VIDEO_SECONDS)
    for prefix, member, values in SLOW_SETTINGS:
        if model.slug.startswith(prefix) and task_input.get(member) in values:
            return seconds * 2
    return seconds


def end(words: injection.Words) -> domain.Status | None:
    """How a task with these words ends: as the first word of that kind says, else well."""
    return next((_ENDS[word] for word in words if word in _ENDS), domain.Status.SUCCEEDED)


def outputs(task_input: Mapping[str, object]) -> int:
    """How many files a task makes: its ``n`` or ``sample_count``, 1 to ``OUTPUTS_MAX``."""
    wanted = task_input.get("n", task_input.get("sample_count"))
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        return 1
    return min(max(wanted, 1), OUTPUTS_MAX)


def plan(
    model: models.Model,
    task_input: Mapping[str, object],
    *,
    words: injection.Words = (),
    now: float,
    speed: float,
    rng: random.Random,
) -> Plan:
    """The future of a task created at ``now``, ``speed`` times faster than life."""
    total = median_seconds(model, task_input) * rng.lognormvariate(0.0, SIGMA) / speed
    waiting = total * rng.uniform(*QUEUED_SHARE)
    begun = (Step(now, domain.Status.QUEUED), Step(now + waiting, domain.Status.PROCESSING))
    status = end(words)
    if status is None:
        return Plan(begun)
    ends_at = now + total
    steps = (*begun, Step(ends_at, status))
    if status is not domain.Status.SUCCEEDED or injection.Word.NO_OUTPUT in words:
        return Plan(steps)
    late = LATE_SECONDS / speed if injection.Word.LATE_OUTPUT in words else 0.0
    lasting = LINK_SECONDS / speed if injection.Word.EXPIRED_URL in words else math.inf
    return Plan(steps, output_at=ends_at + late, links_until=ends_at + late + lasting)


def cost_actual(status: domain.Status, estimate: Decimal) -> Decimal | None:
    """What a task in ``status`` has cost: as estimated if it succeeded, nothing if it did not.

    ``None`` until it ends. The documentation shows equal figures for a success and is silent on
    the rest.
    """
    if not status.terminal:
        return None
    return estimate if status is domain.Status.SUCCEEDED else Decimal(0)
