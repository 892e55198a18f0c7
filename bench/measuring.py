"""How CPU time is taken and reported.

Bare and product rounds alternate, because a shared machine is faster one minute than the next; the
figure is the median of the rounds' ratios. CPU time is the process's own, all threads: what the
database's thread does counts for the product, what the peers do counts for nobody.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from relay import daemon

Side = Callable[[], Awaitable[float]]
"""One round of one side: CPU seconds per unit of work."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """CPU seconds per unit, the two sides measured one after the other."""

    bare: float
    product: float

    @property
    def ratio(self) -> float:
        """1.0 where the product costs no more than the bare loop."""
        return self.bare / self.product


class Stopwatch:
    """CPU time of this process since it was made.

    What was there before is set aside as ``relay serve`` does once it is up, for both sides alike.
    """

    def __init__(self) -> None:
        gc.unfreeze()
        daemon.set_aside_what_is()
        self._began = time.process_time()

    def per(self, units: int) -> float:
        """CPU seconds so far per unit."""
        return (time.process_time() - self._began) / units


async def alternate(title: str, *, rounds: int, bare: Side, product: Side) -> float:
    """Measure ``rounds`` rounds, print each, and give the median ratio."""
    measured: list[Round] = []
    for number in range(1, rounds + 1):
        one = Round(bare=await bare(), product=await product())
        measured.append(one)
        print(
            f"{title} round {number}: bare {one.bare * 1e6:.0f} µs, product {one.product * 1e6:.0f} µs,"
            f" ratio {one.ratio:.2f}",
            flush=True,
        )
    return median(measured)


def median(rounds: Sequence[Round]) -> float:
    """The median of the ratios."""
    return statistics.median(one.ratio for one in rounds)


def conclude(name: str, ratio: float) -> None:
    """The last line of a benchmark."""
    print(f"bench {name} ratio={ratio:.2f}", flush=True)
