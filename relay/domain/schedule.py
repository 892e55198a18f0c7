"""When a task is asked about next, and how fast a credential may be used. Pure.

A young task is asked often, an old one slowly: the interval is a fraction of its age between the
configured bounds, so the delay of noticing an end stays a constant share of the waiting time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from relay.domain import model

if TYPE_CHECKING:
    import random

AGE_SHARE: Final = 0.1
"""Ask again after a tenth of the task's age: vendors advise 10 → 30 → 60 s as a task grows older."""

CONFIRM_INTERVAL: Final = 2.0
"""Seconds between two questions about an end that is not certain yet."""

LOST_AFTER_MISSES: Final = 3
"""How many 404s in a row make a task lost, if they are far enough apart …"""

LOST_AFTER_SECONDS: Final = 60.0
"""… and this is far enough: seconds between the first and the last of them."""

JITTER: Final = 0.1
"""Up to a tenth is added to each interval, so that tasks registered together drift apart."""


RESOLUTION: Final = 1e-6
"""Seconds that are not waited for: adding less to a clock's reading may leave it where it was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """The bounds of one upstream, seconds."""

    interval_min: float
    interval_max: float
    stall_timeout: float


def poll_delay(task: model.Task, pace: Pace, *, now: float, failures: int, rng: random.Random) -> float:
    """Seconds until ``task`` is due again; ``now`` is epoch seconds.

    ``failures`` counts failed looks in a row: each doubles the interval, up to the maximum.
    """
    age = max(0.0, now - (task.submitted_at or task.created_at))
    interval = min(max(pace.interval_min, age * AGE_SHARE), pace.interval_max)
    if task.verdict is model.Verdict.STALLED:
        interval = pace.interval_max
    if failures:
        interval = min(pace.interval_max, interval * 2.0 ** min(failures, 16))
    return interval * (1.0 + rng.uniform(0.0, JITTER))


def stalled(task: model.Task, pace: Pace, *, now: float) -> bool:
    """Whether the deadline passed and that was not told yet."""
    if task.verdict is not model.Verdict.RUNNING:
        return False
    return now - (task.submitted_at or task.created_at) >= pace.stall_timeout


@dataclass(frozen=True, slots=True)
class Misses:
    """404s of the task endpoint in a row."""

    count: int = 0
    first_at: float = 0.0

    def another(self, now: float) -> Misses:
        """One more at ``now``."""
        return Misses(self.count + 1, self.first_at if self.count else now)

    def lost(self, now: float) -> bool:
        """Whether they are enough, and far enough apart, to give the task up."""
        return self.count >= LOST_AFTER_MISSES and now - self.first_at >= LOST_AFTER_SECONDS


class Budget:
    """A token bucket on somebody else's clock: ``rate`` per second, ``burst`` (at least 1) at once.

    Not frozen: it is the one piece of state here, and it is owned by one loop.
    """

    __slots__ = ("_tokens", "_updated_at", "burst", "rate")

    def __init__(self, rate: float, *, burst: float, now: float) -> None:
        assert rate > 0
        assert burst >= 1.0, "a bucket that cannot hold a token never gives one"
        self.rate = rate
        self.burst = burst
        self._tokens = burst
        self._updated_at = now

    @property
    def left(self) -> float:
        """Tokens there were when one was last asked for, after it was taken."""
        return self._tokens

    @property
    def updated_at(self) -> float:
        """When that was."""
        return self._updated_at

    def take(self, now: float) -> float:
        """Take one token. 0.0 when it was there; otherwise seconds until one is, and none is taken."""
        wait = self.wait(now)
        if wait == 0.0:
            self._tokens -= 1.0
        return wait

    def _fill(self, now: float) -> None:
        if now > self._updated_at:
            self._tokens = min(self.burst, self._tokens + (now - self._updated_at) * self.rate)
        # A clock stepped backwards must not freeze the bucket until it has caught up.
        self._updated_at = now

    def ready(self, now: float) -> float:
        """Tokens there are, none taken. Less than 1: ``wait`` says for how long."""
        self._fill(now)
        return self._tokens + RESOLUTION * self.rate

    def wait(self, now: float) -> float:
        """Seconds until there is a token; 0.0 when there is one. None is taken."""
        self._fill(now)
        wait = (1.0 - self._tokens) / self.rate
        return wait if wait > RESOLUTION else 0.0

    def spend(self) -> None:
        """Take one token that may not be there yet: what must be asked now delays what comes later."""
        self._tokens -= 1.0
