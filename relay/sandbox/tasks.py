"""The tasks that the sandbox remembers, and which ``Idempotency-Key`` made which.

Everything lives in memory and is bounded: where ``tasks_max`` are kept, the one that ended first
makes room, with its idempotency key and its output links. Tasks that run are never dropped.
All methods are synchronous, so each is one step for the event loop. Read ``wire.py`` for how a
task is shown.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from relay.domain import ids
from relay.domain import model as domain
from relay.sandbox import catalogue, rules


class Full(Exception):
    """As many tasks as may be kept are running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. ``owner`` is the digest of the key that made it."""

    id: str
    request_id: str
    owner: bytes
    model: catalogue.Model
    plan: rules.Plan
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What an idempotency key stands for: the input's fingerprint and the first answer."""

    fingerprint: bytes
    answer: bytes


class Tasks:
    """Tasks by id, and creations by (owner, idempotency key).

    ``seed`` decides ids and durations. ``clock`` gives epoch seconds and must not go back.
    """

    def __init__(self, *, seed: str, speed: float, clock: Callable[[], float], tasks_max: int) -> None:
        self._seed = seed
        self._speed = speed
        self._clock = clock
        self._tasks_max = tasks_max
        self._created = 0
        self._tasks: dict[str, Task] = {}
        self._made: dict[tuple[bytes, str], Made] = {}
        self._key_of: dict[str, tuple[bytes, str]] = {}
        self._by_end: list[tuple[float, str]] = []

    def create(self, *, owner: bytes, model: catalogue.Model, task_input: Mapping[str, object]) -> Task:
        """A new task, queued now. Raises ``Full``."""
        now = self._clock()
        self._make_room(now)
        self._created += 1
        number = str(self._created)
        rng = random.Random(f"{self._seed}:{number}")  # noqa: S311 - repeatable, not secret
        task = Task(
            id=ids.derive("task", self._seed, number),
            request_id=ids.derive("req", self._seed, number),
            owner=owner,
            model=model,
            plan=rules.plan(model, task_input, now=now, speed=self._speed, rng=rng),
            outputs=rules.outputs(task_input),
        )
        self._tasks[task.id] = task
        heapq.heappush(self._by_end, (task.plan.ends_at, task.id))
        return task

    def find(self, task_id: str) -> Task | None:
        """The task with this id, whoever owns it."""
        return self._tasks.get(task_id)

    def remember(self, task: Task, *, key: str, made: Made) -> None:
        """Note that ``key`` made ``task``, for as long as the task is kept."""
        self._made[task.owner, key] = made
        self._key_of[task.id] = (task.owner, key)

    def made(self, *, owner: bytes, key: str) -> Made | None:
        """What ``owner`` made with ``key`` before."""
        return self._made.get((owner, key))

    def reached(self, task: Task) -> int:
        """How many of its steps ``task`` has taken by now."""
        return task.plan.reached(self._clock())

    def status(self, task: Task) -> domain.Status:
        """The status of ``task`` by now."""
        return task.plan.steps[self.reached(task) - 1].status

    def _make_room(self, now: float) -> None:
        if len(self._tasks) < self._tasks_max:
            return
        ends_at, task_id = self._by_end[0]
        if ends_at > now:
            raise Full
        heapq.heappop(self._by_end)
        del self._tasks[task_id]
        made = self._key_of.pop(task_id, None)
        if made is not None:
            del self._made[made]
