"""Time, injected. The engine reads it nowhere else."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Two readings: one for people and the database, one for measuring."""

    def now(self) -> float:
        """Epoch seconds, UTC. May step."""
        ...

    def monotonic(self) -> float:
        """Seconds that only ever grow, from an arbitrary start."""
        ...


class SystemClock:
    """The machine's."""

    def now(self) -> float:
        """See ``Clock``."""
        return time.time()

    def monotonic(self) -> float:
        """See ``Clock``."""
        return time.monotonic()
