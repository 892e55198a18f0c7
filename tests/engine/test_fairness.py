"""Pace, and whose turn it is: nobody waits behind what another destination, or yesterday, is owed."""

from __future__ import annotations

from pathlib import Path

import pytest

from relay.domain import backoff, ids, model
from relay.engine import lanes, seats
from relay.senders import base
from tests.engine import sending

State = model.DeliveryState
WIDE = base.Capacity(name="wide", seats=64, seats_hanging=32)


def lane_of(known: lanes.Lanes, name: str, **changes: object) -> seats.Lane:
    """A lane without a daemon around it."""
    peer = sending.Peer(name, **changes)  # type: ignore[arg-type]
    definition = lanes.Definition(sender=peer, options=peer.options, health=model.Health(destination=name))
    return known.configure(definition, monotonic=0.0)


def states(label: str) -> dict[str, float | None]:
    """What the metrics show of a destination."""
    return {
        state: lanes.metrics.REGISTRY.get_sample_value(
            "relay_destination_state", {"destination": label, "state": state}
        )
        for state in lanes.STATES
    }


def took(known: lanes.Lanes, now: float = 10.0) -> dict[str, list[seats.Seat]]:
    return known.take(now=now, monotonic=now)


async def test_a_rate_is_kept_by_fresh_deliveries_and_by_a_backlog(tmp_path: Path) -> None:
    peer = sending.Peer("a", capacity=WIDE, concurrency=50, options=model.DestinationOptions(rate=0.1))
    async with sending.running(tmp_path, {"a": peer}) as bench:
        ids = [(await bench.fresh("a"))[0] for _ in range(4)]
        for told, seconds in ((1, 0.0), (2, 10.0), (3, 1000.0), (4, 10.0)):  # a pause saves nothing up
            bench.advance(seconds)
            await peer.asked(told)
            await bench.idle()
            assert len(peer.taken) == told
            if told < len(ids):
                assert bench.dispatcher.keeps_back("a"), "its pace keeps it back"
        for one in ids:
            await bench.until(one, State.DELIVERED)


async def test_one_that_refuses_everything_is_not_sent_to_as_fast_as_it_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(backoff, "BREATH", 30.0)
    peer = sending.Peer("a", concurrency=1, fault=sending.failure())
    async with sending.running(tmp_path, {"a": peer}, schedule=(0.0, 1e6)) as bench:
        await bench.pending("a", count=40)
        bench.dispatcher.owed("a", bench.clock.now())
        for sent in range(backoff.FAILURES_MIN, backoff.FAILURES_MIN + 3):
            await peer.asked(sent)
            await bench.idle()
            assert bench.dispatcher.keeps_back("a")
            assert len(peer.taken) == sent
            bench.advance(30)
        await peer.asked(backoff.FAILURES_MIN + 3)
        await bench.idle()
        peer.fault = None
        bench.advance(30)
        await peer.asked(40)


async def test_retries_that_are_due_leave_a_quarter_of_a_lane_to_what_is_fresh(tmp_path: Path) -> None:
    peer = sending.Peer("a", capacity=WIDE, concurrency=8)
    peer.open.clear()
    async with sending.running(tmp_path, {"a": peer}) as bench:
        await bench.pending("a", count=20, attempted=True)
        bench.dispatcher.owed("a", bench.clock.now())
        await peer.asked(6)
        fresh = [(await bench.fresh("a"))[0] for _ in range(3)]
        await peer.asked(8)
        assert [one.delivery_id for one in peer.taken[6:]] == fresh[:2]
        assert bench.taken()["a"] == (8, 8, 0, 6)
        peer.open.set()
        for one in fresh:
            await bench.until(one, State.DELIVERED)
        await peer.asked(23)
        waited = [one.delivery_id for one in peer.taken].index(fresh[2])
        assert waited < 16, "the third did not wait for every retry that is due"
        await bench.idle()
        bench.assert_no_seat_is_taken()


async def test_fresh_and_retries_take_turns_where_there_is_one_seat(tmp_path: Path) -> None:
    peer = sending.Peer("chat", concurrency=1, format=model.Format.CHAT)
    peer.open.clear()
    async with sending.running(tmp_path, {"chat": peer}) as bench:
        retries = await bench.pending("chat", count=12, attempted=True)
        bench.dispatcher.owed("chat", bench.clock.now())
        await peer.asked(1)
        fresh = [(await bench.fresh("chat"))[0] for _ in range(4)]
        peer.open.set()
        await peer.asked(16)
        order = [one.delivery_id for one in peer.taken]
        assert max(order.index(one) for one in fresh) <= 10, "the backlog did not go first"
        assert [one for one in order if one in fresh] == fresh
        assert sorted(order) == sorted([*retries, *fresh])


def test_shared_seats_go_round() -> None:
    known = lanes.Lanes()
    shared = base.Capacity(name="shared", seats=9, seats_hanging=9)
    for name in ("a", "b", "c", "d"):
        known.owe(lane_of(known, name, capacity=shared, concurrency=8), 1.0)
    first = took(known)
    # A quarter of the seats is kept for what is fresh, which each of them may have.
    assert sorted(len(sitting) for sitting in first.values()) == [2, 2, 2, 3]
    for sitting in first.values():
        for seat in sitting:
            seat.give_back()
    narrow = base.Capacity(name="narrow", seats=1, seats_hanging=1)
    for name in ("x", "y", "z"):
        known.owe(lane_of(known, name, capacity=narrow), 1.0)
    order = []
    for _ in range(6):
        taken = took(known)
        [name] = [name for name in taken if name in ("x", "y", "z")]
        order.append(name)
        for sitting in taken.values():
            for seat in sitting:
                seat.give_back()
    assert order == ["x", "y", "z", "x", "y", "z"]


def test_retries_of_all_lanes_leave_a_quarter_of_the_shared_seats() -> None:
    known = lanes.Lanes()
    shared = base.Capacity(name="shared", seats=8, seats_hanging=8)
    for name in ("a", "b", "c"):
        lane = lane_of(known, name, capacity=shared, concurrency=8)
        lane.fresh_waits = False
        known.owe(lane, 1.0)
    assert sum(map(len, took(known).values())) == 6
    healthy = lane_of(known, "healthy", capacity=shared, concurrency=8)
    assert healthy.takes_fresh(10.0)
    assert known.keeps_back("a", monotonic=10.0), "no seat is free for what it is owed"
    assert not known.keeps_back("healthy", monotonic=10.0)


def test_a_fresh_delivery_does_not_take_a_seat_that_another_lane_waits_for() -> None:
    known = lanes.Lanes()
    narrow = base.Capacity(name="narrow", seats=1, seats_hanging=1)
    busy, waits = (lane_of(known, name, capacity=narrow) for name in ("busy", "waits"))
    seat = busy.sit()
    known.owe(waits, 1.0)
    assert not took(known)
    assert known.delay(now=10.0, monotonic=10.0) == (None, True)
    seat.give_back()
    assert not busy.takes_fresh(10.0)
    assert list(took(known)) == ["waits"]


def test_inline_destinations_share_a_label() -> None:
    known = lanes.Lanes()
    for number in range(3):
        peer = sending.Peer(f"inline_{number}")
        known.configure(
            lanes.Definition(
                sender=peer,
                options=peer.options,
                health=model.Health(destination=peer.name, paused_at=1.0 if number else None),
                source=model.Source.INLINE,
            ),
            monotonic=0.0,
        )
    known.measure(now=5.0)
    assert {known.label(f"inline_{number}") for number in range(3)} == {"(inline)"}
    assert known.label("inline_9") == "(missing)"
    assert states("(inline)") == {"active": 1, "paused": 2, "disabled": 0}
    for number in range(3):
        known.remove(f"inline_{number}")
    known.measure(now=5.0)
    assert states("(inline)") == {"active": 0, "paused": 0, "disabled": 0}


def test_destinations_may_be_named_as_those_labels_read() -> None:
    known = lanes.Lanes()
    for name in ("inline", "missing"):
        lane_of(known, name)
        assert known.label(name) == name
        assert not ids.is_name(known.label(f"{name}_9"))
    known.measure(now=5.0)
    for name in ("inline", "missing"):
        assert states(name) == {"active": 1, "paused": 0, "disabled": 0}
        known.remove(name)
        assert states(name) == {"active": None, "paused": None, "disabled": None}


@pytest.mark.parametrize(("rate", "at_once"), [(0.5, 1), (5.0, 1), (40.0, 4)])
def test_a_tenth_of_a_seconds_worth_goes_at_once(rate: float, at_once: int) -> None:
    lane = lane_of(lanes.Lanes(), "a", options=model.DestinationOptions(rate=rate))
    assert lane.budget is not None
    taken = [lane.budget.take(1000.0) for _ in range(at_once + 1)]
    assert taken == [0.0] * at_once + [pytest.approx(1 / rate)]


def test_a_change_of_something_else_gives_no_new_burst() -> None:
    known = lanes.Lanes()
    lane = lane_of(known, "a", options=model.DestinationOptions(rate=1.0))
    assert lane.budget is not None
    assert lane.budget.take(0.0) == 0.0
    lane_of(known, "a", options=model.DestinationOptions(rate=1.0, age_max=5.0))
    assert lane.budget.take(0.0) > 0.0
    lane_of(known, "a", options=model.DestinationOptions(rate=3.0))
    assert lane.budget.take(0.0) == 0.0
