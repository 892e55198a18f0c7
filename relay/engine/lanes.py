"""Every lane there is, and whose turn it is. Lanes come and go while the daemon runs.

Bookkeeping only, like ``seats.py``: no I/O; the clock's reading is an argument.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from relay import metrics
from relay.domain import model, schedule
from relay.engine import seats
from relay.senders import base

LEASE_MARGIN: Final = 30.0
"""Seconds by which a lease outlives the longest send: room for a slow commit."""

BURST: Final = 0.1
"""Seconds whose worth of a destination's rate may go at once, or one delivery: no second has more than that
beyond the rate."""

INLINE: Final = "(inline)"
"""What all inline destinations are called in metrics: callers make as many as they like. No name is so."""

MISSING: Final = "(missing)"
"""What destinations are called there that are not known (any more)."""

STATES: Final = ("active", "paused", "disabled")

_STATE_OF: Final = {None: "active", model.HoldReason.PAUSED: "paused", model.HoldReason.DISABLED: "disabled"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Definition:
    """A destination as the dispatcher knows it."""

    sender: base.Sender
    options: model.DestinationOptions
    health: model.Health
    source: model.Source = model.Source.CONFIGURATION


class Lanes:
    """The lanes by destination name, and the seats they share."""

    def __init__(self) -> None:
        self._lanes: dict[str, seats.Lane] = {}
        self._shared: dict[str, seats.Seats] = {}
        # Those that something is owed to; who was served last stands last.
        self._owing: dict[str, seats.Lane] = {}
        self._inline_seen = False

    def get(self, name: str) -> seats.Lane | None:
        """The lane of a destination, ``None`` for one that is not known."""
        return self._lanes.get(name)

    def __getitem__(self, name: str) -> seats.Lane:
        return self._lanes[name]

    def __iter__(self) -> Iterator[seats.Lane]:
        return iter(self._lanes.values())

    def configure(self, definition: Definition, *, monotonic: float) -> seats.Lane:
        """Add a destination, or replace what is known of it. What is in flight ends as it began."""
        sender, options = definition.sender, definition.options
        shared = self._shared.setdefault(sender.capacity.name, seats.Seats(sender.capacity))
        budget = None
        if options.rate is not None:
            budget = schedule.Budget(options.rate, burst=max(1.0, options.rate * BURST), now=monotonic)
        inline = definition.source is model.Source.INLINE
        concurrency = options.concurrency or sender.concurrency
        lane = self._lanes.get(sender.name)
        if lane is None:
            lane = self._lanes[sender.name] = seats.Lane(
                sender=sender,
                options=options,
                seats=shared,
                health=definition.health,
                label=INLINE if inline else sender.name,
                concurrency=concurrency,
                budget=budget,
            )
        else:
            if lane.sender is not sender:
                lane.hanging, lane.failures = False, 0  # that was another peer
            if lane.budget is not None and lane.options.rate == options.rate:
                budget = lane.budget  # a change of something else gives no new burst
            lane.sender, lane.options, lane.seats = sender, options, shared
            lane.concurrency, lane.budget = concurrency, budget
        self.set_health(lane, definition.health)
        return lane

    def remove(self, name: str) -> None:
        """Forget a destination. What is in flight ends, and says nothing of one that comes under its name."""
        lane = self._lanes.pop(name, None)
        if lane is None:
            return
        lane.held = model.HoldReason.DESTINATION_MISSING
        self._owing.pop(name, None)
        if lane.label != INLINE:
            for state in STATES:
                metrics.DESTINATION_STATE.remove(lane.label, state)
            metrics.DESTINATION_FAILING_SECONDS.remove(lane.label)

    def set_health(self, lane: seats.Lane, health: model.Health) -> None:
        """What is known of it now; one that is held claims nothing from this moment on."""
        lane.health = health
        lane.held = health.hold_reason
        if lane.label != INLINE:
            _show(lane.label, {_STATE_OF[lane.held]: 1})

    def held(self, name: str) -> model.HoldReason | None:
        """Why nothing is sent to it at this moment, if so."""
        lane = self._lanes.get(name)
        return model.HoldReason.DESTINATION_MISSING if lane is None else lane.held

    def addressed(self, delivery: model.NewDelivery) -> model.NewDelivery:
        """The delivery as it is stored without a seat: held, where its destination takes nothing now."""
        held = self.held(delivery.destination)
        return delivery if held is None else dataclasses.replace(delivery, held=held)

    # -- what is owed ---------------------------------------------------------------------------

    def owe(self, lane: seats.Lane, due: float) -> None:
        """Something is pending for it from ``due`` on (epoch seconds)."""
        lane.next_due = earliest(lane.next_due, due)
        self._owing.setdefault(lane.name, lane)

    def know_due(self, due: Mapping[str, float]) -> None:
        """All that is pending, by destination: nothing else is owed."""
        for name in [name for name in self._owing if name not in due]:
            self._owing.pop(name).next_due = None
        for name, at in due.items():
            if (lane := self._lanes.get(name)) is not None:
                lane.next_due = at
                self._owing.setdefault(name, lane)

    def held_and_owing(self) -> list[tuple[str, model.HoldReason]]:
        """Lanes that are held although something is pending for them."""
        return [(name, lane.held) for name, lane in self._owing.items() if lane.held is not None]

    def take(self, *, now: float, monotonic: float) -> dict[str, list[seats.Seat]]:
        """Take a seat for each send that may start, by destination: one for each lane in turn.

        Who was served longest ago begins, so that no lane waits for those that are owed more.
        """
        taken: dict[str, list[seats.Seat]] = {}
        left: dict[str, float] = {}
        for shared in self._shared.values():
            shared.crowded = False
        waiting = deque(
            lane for lane in self._owing.values() if _due(lane, now) and lane.rests_until <= monotonic
        )
        while waiting:
            lane = waiting.popleft()
            if lane.budget is not None:
                left.setdefault(lane.name, lane.budget.ready(monotonic))
                if left[lane.name] < 1.0:
                    continue
                left[lane.name] -= 1.0
            kind = lane.wants()
            if kind is None:
                lane.seats.crowded |= lane.seats.free(hanging=False) <= 0
                continue
            taken.setdefault(lane.name, []).append(lane.sit(kind))
            waiting.append(lane)
        for name in taken:
            lane = self._owing[name] = self._owing.pop(name)
            lane.turn = not lane.turn
        return taken

    def delay(self, *, now: float, monotonic: float) -> tuple[float | None, bool]:
        """Seconds until something is due that may be sent, and whether something due waits for a seat."""
        soonest: float | None = None
        starved = False
        for lane in self._owing.values():
            assert lane.next_due is not None
            if lane.held is not None:
                continue
            wait = lane.next_due - now
            if wait <= 0:
                if lane.wants() is None:
                    starved = True
                    continue
                wait = lane.wait(monotonic)
            soonest = earliest(soonest, wait)
        return (None if soonest is None else max(0.001, soonest)), starved

    def keeps_back(self, name: str, *, monotonic: float) -> bool:
        """Whether what is due for it rightly waits: unknown, held, no seat, its pace, its peer's wish."""
        lane = self._lanes.get(name)
        if lane is None or lane.held is not None or lane.wants() is None:
            return True
        return lane.wait(monotonic) > 0

    # -- metrics --------------------------------------------------------------------------------

    def label(self, name: str) -> str:
        """What the destination is called in metrics: labels are bounded."""
        lane = self._lanes.get(name)
        return MISSING if lane is None else lane.label

    def measure(self, now: float) -> None:
        """Bring the gauges of destinations up to date."""
        inline = dict.fromkeys(STATES, 0)
        longest = 0.0
        for lane in self._lanes.values():
            since = lane.health.failing_since
            failing = 0.0 if since is None else max(0.0, now - since)
            if lane.label == INLINE:
                inline[_STATE_OF[lane.held]] += 1
                longest = max(longest, failing)
            else:
                metrics.DESTINATION_FAILING_SECONDS.labels(lane.label).set(failing)
        self._inline_seen |= any(inline.values())
        if self._inline_seen:  # when the last one is gone, too
            _show(INLINE, inline)
            metrics.DESTINATION_FAILING_SECONDS.labels(INLINE).set(longest)


def leased(delivery: model.NewDelivery, lane: seats.Lane, *, now: float) -> model.NewDelivery:
    """The delivery as it is stored with a seat: leased for as long as a send may take."""
    return model.NewDelivery(
        id=delivery.id,
        task=delivery.task,
        destination=delivery.destination,
        type=delivery.type,
        notification=delivery.notification,
        created_at=delivery.created_at,
        leased_until=now + lane.sender.time_limit + LEASE_MARGIN,
        task_id=delivery.task_id,
        upstream=delivery.upstream,
    )


def _due(lane: seats.Lane, now: float) -> bool:
    return lane.held is None and lane.next_due is not None and lane.next_due <= now


def _show(label: str, counts: Mapping[str, int]) -> None:
    for state in STATES:
        metrics.DESTINATION_STATE.labels(label, state).set(counts.get(state, 0))


def earliest(known: float | None, other: float) -> float:
    """The earlier of two instants, of which the first may not be known."""
    return other if known is None else min(known, other)
