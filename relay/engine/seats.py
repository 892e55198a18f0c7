"""Who may send now: seats shared by senders of one kind, and a lane for each destination.

Bookkeeping only: no I/O, no clock. The dispatcher decides who sits and when.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from relay.senders import base


@dataclass(slots=True)
class Seats:
    """The seats of one ``Capacity``, and who sits."""

    capacity: base.Capacity
    taken: int = 0
    taken_hanging: int = 0

    def free(self, *, hanging: bool) -> int:
        """How many more sends may start."""
        free = self.capacity.seats - self.taken
        if hanging:
            free = min(free, self.capacity.seats_hanging - self.taken_hanging)
        return free


@dataclass(slots=True)
class Lane:
    """One destination. ``next_due`` is epoch seconds or ``None`` when nothing is known to be owed."""

    sender: base.Sender
    schedule: Sequence[float]
    seats: Seats
    in_flight: int = 0
    hanging: bool = False
    next_due: float | None = None

    def free(self) -> int:
        """How many sends to this destination may start now."""
        return min(self.sender.concurrency - self.in_flight, self.seats.free(hanging=self.hanging))

    def sit(self) -> Seat:
        """Take a seat, which must be free."""
        self.in_flight += 1
        self.seats.taken += 1
        if self.hanging:
            self.seats.taken_hanging += 1
        return Seat(self, self.hanging)


@dataclass(slots=True)
class Seat:
    """A seat that was taken, remembered as it was, so that it is given back as it was."""

    lane: Lane
    hanging: bool
    given_back: bool = field(default=False)

    def give_back(self) -> None:
        """Free it. Idempotent."""
        if self.given_back:
            return
        self.given_back = True
        self.lane.in_flight -= 1
        self.lane.seats.taken -= 1
        if self.hanging:
            self.lane.seats.taken_hanging -= 1
