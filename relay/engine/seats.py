"""Who may send now: seats shared by senders of one kind, and a lane for each destination.

Bookkeeping only: no I/O, no clock. The dispatcher decides who sits and when; ``lanes.py`` knows all lanes.

Three quarters of the seats, of a lane and of what lanes share, may be held by deliveries that were
attempted before; the others are kept for fresh ones. So a destination that is owed thousands of retries
does not make its own news wait behind them, and many such destinations leave seats to the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum

from relay.domain import model, schedule
from relay.senders import base


class Kind(Enum):
    """What a seat is for."""

    FRESH = "fresh"
    """A delivery that was never attempted."""
    ANY = "any"
    """Whatever has been due for longest; counted as a retry until it is known to be fresh."""


def retries_max(seats: int) -> int:
    """How many of ``seats`` may be held by deliveries that were attempted before.

    >>> [retries_max(seats) for seats in (1, 2, 4, 8, 256)]
    [1, 1, 3, 6, 192]
    """
    return max(1, seats * 3 // 4)


@dataclass(slots=True)
class Seats:
    """The seats of one ``Capacity``, and who sits. ``crowded`` says that some lane waits for a seat here."""

    capacity: base.Capacity
    taken: int = 0
    taken_hanging: int = 0
    taken_retries: int = 0
    crowded: bool = False

    def free(self, *, hanging: bool) -> int:
        """How many more sends may start."""
        free = self.capacity.seats - self.taken
        if hanging:
            free = min(free, self.capacity.seats_hanging - self.taken_hanging)
        return free

    @property
    def free_for_retries(self) -> int:
        """How many more may be retries."""
        return retries_max(self.capacity.seats) - self.taken_retries


@dataclass(slots=True)
class Lane:
    """One destination.

    ``held`` is why nothing is sent to it, if so. ``next_due`` is epoch seconds, or ``None`` when nothing
    is known to be owed. ``fresh_waits`` says that a delivery that was never attempted may be pending.
    ``budget`` is its pace, on the monotonic clock, ``None`` without one. ``rests_until``, on the same clock,
    is until when its peer wants nothing. ``failures`` counts sends that may be tried again since one arrived.
    ``label`` stands for it in metrics.
    """

    sender: base.Sender
    options: model.DestinationOptions
    seats: Seats
    health: model.Health
    label: str
    concurrency: int
    budget: schedule.Budget | None = None
    rests_until: float = float("-inf")
    failures: int = 0
    held: model.HoldReason | None = None
    in_flight: int = 0
    retries: int = 0
    hanging: bool = False
    next_due: float | None = None
    fresh_waits: bool = True
    turn: bool = False

    @property
    def name(self) -> str:
        """The destination's."""
        return self.sender.name

    def free(self) -> int:
        """How many sends to this destination may start now."""
        return min(self.concurrency - self.in_flight, self.seats.free(hanging=self.hanging))

    def free_for_retries(self) -> int:
        """How many of them may be retries."""
        return min(self.free(), retries_max(self.concurrency) - self.retries, self.seats.free_for_retries)

    def wait(self, monotonic: float) -> float:
        """Seconds until its pace and its peer let one more be sent; 0.0 for now."""
        pace = 0.0 if self.budget is None else self.budget.wait(monotonic)
        return max(0.0, pace, self.rests_until - monotonic)

    def takes_fresh(self, now: float) -> bool:
        """Whether a delivery that is about to be stored may be sent at once, past what is pending.

        While something is due it may only where seats are kept for fresh ones: the others go to
        whatever has been due for longest.
        """
        if self.seats.crowded or self.free() <= 0:
            return False
        if self.next_due is None or self.next_due > now:
            return True
        kept = self.concurrency - retries_max(self.concurrency)
        return not self.fresh_waits and self.in_flight - self.retries < kept

    def wants(self) -> Kind | None:
        """What the next seat that is free would be used for; ``None`` when there is none.

        Where no seat is kept for fresh ones (a lane of one), they take turns with the rest.
        """
        if self.free() <= 0:
            return None
        room = self.free_for_retries() > 0
        if self.fresh_waits and (not room or (self.turn and self.concurrency == 1)):
            return Kind.FRESH
        return Kind.ANY if room else None

    def sit(self, kind: Kind = Kind.FRESH) -> Seat:
        """Take a seat."""
        retry = kind is Kind.ANY
        self.in_flight += 1
        self.seats.taken += 1
        if retry:
            self.retries += 1
            self.seats.taken_retries += 1
        if self.hanging:
            self.seats.taken_hanging += 1
        return Seat(self, self.seats, self.hanging, retry)


@dataclass(slots=True)
class Seat:
    """A seat that was taken, remembered as it was, so that it is given back as it was."""

    lane: Lane
    seats: Seats
    hanging: bool
    retry: bool
    given_back: bool = field(default=False)

    def is_for_fresh(self) -> None:
        """Whoever sits here turned out to be fresh."""
        if self.retry and not self.given_back:
            self.retry = False
            self.lane.retries -= 1
            self.seats.taken_retries -= 1

    def give_back(self) -> None:
        """Free it. Idempotent."""
        if self.given_back:
            return
        self.given_back = True
        self.lane.in_flight -= 1
        self.seats.taken -= 1
        if self.retry:
            self.lane.retries -= 1
            self.seats.taken_retries -= 1
        if self.hanging:
            self.seats.taken_hanging -= 1
