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

from relay.catalogue import models
from relay.domain import ids
from relay.sandbox import injection, rules


class Full(Exception):
    """As many tasks as may be kept are running."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task. ``owner`` is the digest of the key that made it."""

    id: str
    request_id: str
    owner: bytes
    model: models.Model
    plan: rules.Plan
    outputs: int
    words: injection.Words


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
        self.created = 0
        """Tasks made since the start, those that were dropped included."""
        self._tasks: dict[str, Task] = {}
        self._made: dict[tuple[bytes, str], Made] = {}
        self._key_of: dict[str, tuple[bytes, str]] = {}
        self._refusals: dict[str, list[injection.Word]] = {}
        self._by_end: list[tuple[float, str]] = []

    def create(
        self,
        *,
        owner: bytes,
        model: models.Model,
        task_input: Mapping[str, object],
        words: injection.Words = (),
    ) -> Task:
        """A new task, queued now. Raises ``Full``."""
        now = self._clock()
        self._make_room(now)
        self.created += 1
        number = str(self.created)
        rng = random.Random(f"{self._seed}:{number}")  # noqa: S311 - repeatable, not secret
        task = Task(
            id=ids.derive("task", self._seed, number),
            request_id=ids.derive("req", self._seed, number),
            owner=owner,
            model=model,
            plan=rules.plan(model, task_input, words=words, now=now, speed=self._speed, rng=rng),
            outputs=rules.outputs(task_input),
            words=words,
        )
        self._tasks[task.id] = task
        refusals: list[injection.Word] = [word for word in injection.LOOK_REFUSALS if word in words]
        if refusals:
            self._refusals[task.id] = refusals
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

    def moment(self, task: Task) -> rules.Moment:
        """Where ``task`` is by now."""
        return task.plan.moment(self._clock())

    def links_work(self, task: Task) -> bool:
        """Whether the output links of ``task`` have not expired yet."""
        return self._clock() < task.plan.links_until

    def refusal(self, task: Task) -> injection.Word | None:
        """How this look at ``task`` is to be refused; each way is given once in a task's life."""
        refusals = self._refusals.get(task.id)
        if not refusals:
            return None
        word = refusals.pop(0)
        if not refusals:
            del self._refusals[task.id]
        return word

    def _make_room(self, now: float) -> None:
        if len(self._tasks) < self._tasks_max:
            return
        ends_at, task_id = self._by_end[0]
        if ends_at > now:
            raise Full
        heapq.heappop(self._by_end)
        del self._tasks[task_id]
        self._refusals.pop(task_id, None)
        made = self._key_of.pop(task_id, None)
        if made is not None:
            del self._made[made]
