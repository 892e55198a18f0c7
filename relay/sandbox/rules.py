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
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from relay.domain import model as domain
from relay.sandbox import catalogue

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

_WORD: Final = re.compile(r"\[(fail|cancel)\]")
_OUTCOMES: Final = {"fail": domain.Status.FAILED, "cancel": domain.Status.CANCELLED}


@dataclass(frozen=True, slots=True)
class Step:
    """The task is in ``status`` from ``at`` (epoch seconds) on."""

    at: float
    status: domain.Status


@dataclass(frozen=True, slots=True)
class Plan:
    """A task's future: its steps in order of time, the first at its creation.

    A plan whose last step is not terminal describes a task that never ends.
    """

    steps: tuple[Step, ...]

    def reached(self, now: float) -> int:
        """How many steps were taken by ``now``; at least one."""
        return max(1, sum(step.at <= now for step in self.steps))

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


def median_seconds(model: catalogue.Model, task_input: Mapping[str, object]) -> float:
    """How long half of such tasks take at speed 1."""
    if model.output_kind == "images":
        return IMAGE_SECONDS
    seconds = next((s for prefix, s in FAMILY_SECONDS if model.slug.startswith(prefix)), VIDEO_SECONDS)
    for prefix, member, values in SLOW_SETTINGS:
        if model.slug.startswith(prefix) and task_input.get(member) in values:
            return seconds * 2
    return seconds


def outcome(task_input: Mapping[str, object]) -> domain.Status:
    """How a task with this input ends: as the first word in its prompt says, else well."""
    prompt = task_input.get("prompt")
    word = _WORD.search(prompt) if isinstance(prompt, str) else None
    return _OUTCOMES[word[1]] if word else domain.Status.SUCCEEDED


def outputs(task_input: Mapping[str, object]) -> int:
    """How many files a task makes: its ``n`` or ``sample_count``, 1 to ``OUTPUTS_MAX``."""
    wanted = task_input.get("n", task_input.get("sample_count"))
    if not isinstance(wanted, int) or isinstance(wanted, bool):
        return 1
    return min(max(wanted, 1), OUTPUTS_MAX)


def plan(
    model: catalogue.Model,
    task_input: Mapping[str, object],
    *,
    now: float,
    speed: float,
    rng: random.Random,
) -> Plan:
    """The future of a task created at ``now``, ``speed`` times faster than life."""
    total = median_seconds(model, task_input) * rng.lognormvariate(0.0, SIGMA) / speed
    waiting = total * rng.uniform(*QUEUED_SHARE)
    return Plan(
        (
            Step(now, domain.Status.QUEUED),
            Step(now + waiting, domain.Status.PROCESSING),
            Step(now + total, outcome(task_input)),
        )
    )


def cost_actual(status: domain.Status, estimate: float) -> float | None:
    """What a task in ``status`` has cost: as estimated if it succeeded, nothing if it did not.

    ``None`` until it ends. The documentation shows equal figures for a success and is silent on
    the rest.
    """
    if not status.terminal:
        return None
    return estimate if status is domain.Status.SUCCEEDED else 0.0
