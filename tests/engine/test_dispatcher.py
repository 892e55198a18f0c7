"""Seats, leases and outcomes: nobody takes more than is there, and everything is given back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from structlog import testing

from relay.domain import errors, model
from relay.engine import lanes
from relay.senders import base
from relay.store import base as store_base
from tests import harness
from tests.engine import sending

DELIVERED = model.DeliveryState.DELIVERED
ONE_SEAT = base.Capacity(name="narrow", seats=1, seats_hanging=1)


async def test_a_backlog_goes_out_in_order_within_the_lanes_concurrency(tmp_path: Path) -> None:
    peer = sending.Peer("a")
    async with sending.running(tmp_path, {"a": peer}) as bench:
        peer.open.clear()
        ids = await bench.pending("a", count=20)
        bench.dispatcher.owed("a", bench.clock.now())
        await peer.asked(peer.concurrency)
        peer.open.set()
        await bench.until(ids[-1], DELIVERED)
        await bench.idle()
        assert [one.delivery_id for one in peer.taken] == ids
        assert peer.most_in_flight == peer.concurrency
        bench.assert_no_seat_is_taken()


async def test_fresh_deliveries_take_no_seat_that_a_claim_under_way_will_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers = {name: sending.Peer(name, capacity=ONE_SEAT) for name in ("a", "b")}
    async with sending.running(tmp_path, peers) as bench:
        claim, claiming, go_on = bench.store.claim, asyncio.Event(), asyncio.Event()

        async def slow(*arguments: Any, **more: Any) -> list[model.Claim]:
            claiming.set()
            await go_on.wait()
            return await claim(*arguments, **more)

        monkeypatch.setattr(bench.store, "claim", slow)
        for peer in peers.values():
            peer.open.clear()
        [waiting] = await bench.pending("a")
        bench.dispatcher.owed("a", bench.clock.now())
        await asyncio.wait_for(claiming.wait(), 10)
        [fresh] = await bench.fresh("b")
        go_on.set()
        await peers["a"].asked(1)
        assert bench.taken()["a"][1] == 1, "one seat is one send"
        assert not peers["b"].taken
        for peer in peers.values():
            peer.open.set()
        await bench.until(waiting, DELIVERED)
        await bench.until(fresh, DELIVERED)
        await bench.idle()
        bench.assert_no_seat_is_taken()


async def test_destinations_that_hang_share_fewer_seats(tmp_path: Path) -> None:
    capacity = base.Capacity(name="shared", seats=4, seats_hanging=1)
    slow = {f"slow{n}": sending.Peer(f"slow{n}", capacity=capacity, concurrency=4) for n in range(3)}
    healthy = sending.Peer("healthy", capacity=capacity, concurrency=4)
    async with sending.running(tmp_path, {**slow, "healthy": healthy}, schedule=[0, 1, 1]) as bench:
        for name, peer in slow.items():
            peer.answers.append(sending.failure(**sending.HUNG))
            await bench.fresh(name)
        await bench.idle()
        for name, peer in slow.items():
            peer.open.clear()
            await bench.fresh(name)
        # One of them has the one seat there is for such; the others wait, and nobody waits for them.
        ids = [(await bench.fresh("healthy"))[0] for _ in range(6)]
        for one in ids:
            await bench.until(one, DELIVERED)
        assert sum(peer.in_flight for peer in slow.values()) == 1
        for peer in slow.values():
            peer.open.set()
        for peer in slow.values():
            await peer.asked(2)
        await bench.idle()
        bench.assert_no_seat_is_taken()


@pytest.mark.parametrize(
    "fault", [sending.failure(), sending.failure(**sending.HUNG), RuntimeError("a fault of the sender's")]
)
async def test_a_failed_send_gives_its_seat_back_and_is_tried_again(tmp_path: Path, fault: Exception) -> None:
    peer = sending.Peer("a", answers=[fault])
    async with sending.running(tmp_path, {"a": peer}) as bench:
        [delivery_id] = await bench.fresh("a")
        pending = await bench.until(delivery_id, model.DeliveryState.PENDING)
        await bench.idle()
        bench.assert_no_seat_is_taken()
        assert pending.next_attempt_at is not None
        assert pending.next_attempt_at > bench.clock.now()
        bench.advance(6)
        done = await bench.until(delivery_id, DELIVERED)
        assert (done.attempts_made, [one.attempt for one in peer.taken]) == (2, [1, 2])


async def test_what_could_not_be_stored_gives_its_seats_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = sending.Peer("a")
    async with sending.running(tmp_path, {"a": peer}) as bench:
        writes = bench.recorder._writes
        commit = writes._write

        async def failing(batch: Sequence[store_base.TaskWrite]) -> Any:
            raise errors.StoreUnavailable("locked")

        monkeypatch.setattr(writes, "_write", failing)
        for _ in range(5):
            with pytest.raises(errors.StoreUnavailable):
                await bench.fresh("a")

        async def losing(batch: Sequence[store_base.TaskWrite]) -> Any:
            return [None] * len(batch)

        monkeypatch.setattr(writes, "_write", losing)
        with pytest.raises(AssertionError):  # lost to another writer
            await bench.fresh("a")
        bench.assert_no_seat_is_taken()
        monkeypatch.setattr(writes, "_write", commit)
        [delivery_id] = await bench.fresh("a")
        await bench.until(delivery_id, DELIVERED)
        assert len(peer.taken) == 1


async def test_a_claim_that_fails_gives_its_seats_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = sending.Peer("a")
    async with sending.running(tmp_path, {"a": peer}) as bench:
        claim, failed = bench.store.claim, asyncio.Event()

        async def failing(*arguments: Any, **more: Any) -> list[model.Claim]:
            failed.set()
            raise errors.StoreUnavailable("locked")

        monkeypatch.setattr(bench.store, "claim", failing)
        [delivery_id] = await bench.pending("a")
        bench.dispatcher.owed("a", bench.clock.now())
        await asyncio.wait_for(failed.wait(), 10)
        await asyncio.sleep(0)
        bench.assert_no_seat_is_taken()
        monkeypatch.setattr(bench.store, "claim", claim)
        await bench.until(delivery_id, DELIVERED)


async def test_an_outcome_waits_for_the_database_and_is_not_sent_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = sending.Peer("a")
    async with sending.running(tmp_path, {"a": peer}) as bench:
        write, failures = bench.writes._write, 0

        async def failing(batch: Sequence[store_base.Write]) -> Any:
            nonlocal failures
            failures += any(isinstance(each, store_base.AttemptWrite) for each in batch)
            if 0 < failures < 3:
                raise errors.StoreUnavailable("locked")
            return await write(batch)

        monkeypatch.setattr(bench.writes, "_write", failing)
        [delivery_id] = await bench.fresh("a")
        done = await bench.until(delivery_id, DELIVERED)
        assert (failures, done.attempts_made, len(peer.taken)) == (3, 1, 1)


async def test_an_outcome_that_the_database_refuses_is_recorded_without_what_the_peer_said(
    tmp_path: Path,
) -> None:
    peer = sending.Peer("a", detail="zero \x00 inside")
    async with sending.running(tmp_path, {"a": peer}) as bench:
        [delivery_id] = await bench.fresh("a")
        done = await bench.until(delivery_id, DELIVERED)
        [attempt] = await bench.store.attempts(delivery_id)
        assert attempt.detail is None
        assert (done.attempts_made, len(peer.taken)) == (1, 1)


@pytest.mark.parametrize("accepted", [True, False])
async def test_after_a_lost_lease_only_a_success_counts(tmp_path: Path, accepted: bool) -> None:
    """The row was taken back while the send was under way: it goes out again, under the same id."""
    peer = sending.Peer("a", answers=[] if accepted else [sending.failure()])
    peer.open.clear()
    async with sending.running(tmp_path, {"a": peer}) as bench:
        [delivery_id] = await bench.fresh("a")
        await peer.asked(1)
        bench.advance(60)  # time limit and margin are past
        async with asyncio.timeout(10):
            while await bench.store.expire_leases(now=bench.clock.now()):
                pass
        bench.advance(31)  # the dispatcher reads due times anew
        await peer.asked(2)
        peer.open.set()
        done = await bench.until(delivery_id, DELIVERED)
        await bench.idle()
        assert {one.delivery_id for one in peer.taken} == {delivery_id}
        assert len(peer.taken) == 2
        kinds = [one.outcome for one in await bench.store.attempts(delivery_id)]
        assert kinds == [model.Outcome.DELIVERED] * len(kinds), "a failure under a lost lease is not told"
        assert done.attempts_made == len(kinds)
        bench.assert_no_seat_is_taken()


async def test_a_clock_that_is_set_forward_has_nothing_sent_twice(tmp_path: Path) -> None:
    """Only what nobody sends any more is owed again, in one go with what would be owed by mistake."""
    peer = sending.Peer("a", concurrency=4)
    peer.open.clear()
    async with sending.running(tmp_path, {"a": peer}) as bench:
        [delivery_id] = await bench.fresh("a")
        await peer.asked(1)
        [forgotten] = await bench.pending("a")
        now = bench.clock.now()
        request = store_base.ClaimRequest(destination="a", limit=1)
        assert await bench.store.claim([request], now=now, leased_until=now + 60)
        bench.clock.stepped += 3600
        async with asyncio.timeout(10):
            while len(peer.taken) < 2:
                bench.advance(61)
                await asyncio.sleep(0.005)
        peer.open.set()
        await bench.until(forgotten, DELIVERED)
        await bench.idle()
        assert sorted(one.delivery_id for one in peer.taken) == sorted([delivery_id, forgotten])


async def test_a_send_that_never_ends_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Senders keep their own limits. Should one not, its lease is kept all the same, and its seat with it."""
    monkeypatch.setattr(lanes, "LEASE_MARGIN", 0.05)
    peer = sending.Peer("a", time_limit=0.05)
    peer.open.clear()
    async with sending.running(tmp_path, {"a": peer}, schedule=(0.0, 1e6)) as bench:
        [delivery_id] = await bench.fresh("a")
        left = await bench.until(delivery_id, model.DeliveryState.PENDING)
        assert (left.reason, left.attempts_made) == ("internal_error", 1)
        await bench.idle()
        bench.assert_no_seat_is_taken()


async def test_redelivering_what_is_being_sent_changes_nothing(tmp_path: Path) -> None:
    peer = sending.Peer("a")
    peer.open.clear()
    async with sending.running(tmp_path, {"a": peer}) as bench:
        [delivery_id] = await bench.fresh("a")
        await peer.asked(1)
        found = await bench.dispatcher.redeliver(delivery_id)
        assert found is not None
        assert found.state is model.DeliveryState.SENDING
        peer.open.set()
        await bench.until(delivery_id, DELIVERED)
        await bench.idle()
        assert len(peer.taken) == 1
        await bench.dispatcher.redeliver(delivery_id)
        await peer.asked(2)
        assert await bench.dispatcher.redeliver("msg_unknown") is None


async def test_a_test_send_waits_for_its_attempt_and_leaves_nothing_behind(tmp_path: Path) -> None:
    peer = sending.Peer("a")
    async with sending.running(tmp_path, {"a": peer}) as bench:
        done = await bench.store.delivery(await bench.dispatcher.test("a", wait=10))
        assert done is not None
        assert done.state is DELIVERED
        peer.open.clear()
        hanging = await bench.store.delivery(await bench.dispatcher.test("a", wait=0.05))
        assert hanging is not None
        assert hanging.state in (model.DeliveryState.SENDING, model.DeliveryState.PENDING)
        with pytest.raises(KeyError):
            await bench.dispatcher.test("b", wait=1)
        assert not bench.dispatcher._trials._attempted


async def test_a_drain_releases_what_it_cuts_uncounted(tmp_path: Path) -> None:
    peer = sending.Peer("a")
    peer.open.clear()
    async with sending.running(tmp_path, {"a": peer}) as bench:
        ids = [(await bench.fresh("a"))[0] for _ in range(3)]
        await peer.asked(2)
        bench.dispatcher.drain()
        assert await bench.supervisor.drain(0.05) == 2
        for one in ids:
            left = await bench.until(one, model.DeliveryState.PENDING)
            assert left.attempts_made == 0
        bench.assert_no_seat_is_taken()
        [late] = await bench.fresh("a")
        await bench.until(late, model.DeliveryState.PENDING)
        assert len(peer.taken) == 2


async def test_a_drain_does_not_wait_for_a_database_that_is_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peer = sending.Peer("a")
    peer.open.clear()
    async with sending.running(tmp_path, {"a": peer}) as bench:
        await bench.fresh("a")
        await peer.asked(1)

        async def never(*arguments: Any, **more: Any) -> None:
            await asyncio.Event().wait()

        monkeypatch.setattr(bench.store, "release", never)
        bench.dispatcher.drain()
        async with asyncio.timeout(10):
            assert await bench.supervisor.drain(0.05) == 1
        bench.assert_no_seat_is_taken()


@pytest.mark.parametrize("step", [3600.0, -3600.0])
async def test_deliveries_go_on_when_the_clock_is_set(tmp_path: Path, step: float) -> None:
    peer = sending.Peer("a")
    async with sending.running(tmp_path, {"a": peer}) as bench:
        peer.open.clear()
        [before] = await bench.fresh("a")
        await peer.asked(1)
        bench.clock.stepped = step
        bench.wake()
        peer.open.set()
        await bench.until(before, DELIVERED)
        for _ in range(4):
            [after] = await bench.fresh("a")
            await bench.until(after, DELIVERED)
        await bench.idle()
        bench.assert_no_seat_is_taken()


async def test_a_backlog_goes_on_when_the_clock_is_set_back(tmp_path: Path) -> None:
    """What was due before the step is due after it, not an hour later."""
    peer = sending.Peer("a", concurrency=1)
    peer.open.clear()
    async with sending.running(tmp_path, {"a": peer}) as bench:
        ids = [(await bench.fresh("a"))[0] for _ in range(3)]
        await peer.asked(1)
        bench.clock.stepped = -3600.0
        bench.wake()
        peer.open.set()
        for one in ids:
            await bench.until(one, DELIVERED)


@pytest.mark.parametrize(
    ("step", "said", "attempts"),
    [
        (3600.0, {"event": "the clock jumped ahead", "effect": "what is due by it is sent now"}, 2),
        (-3600.0, {"event": "the clock was set back", "deliveries": 1}, 1),
    ],
)
async def test_a_step_of_the_clock_is_told_once_with_how_far_and_what_is_done(
    tmp_path: Path, step: float, said: dict[str, Any], attempts: int
) -> None:
    """A retry that is due in ten minutes is sent when the clock says so, and not an hour late either."""
    peer = sending.Peer("a", answers=[sending.failure()])
    async with sending.running(tmp_path, {"a": peer}, schedule=[0, 600, 600]) as bench:
        [owed] = await bench.fresh("a")
        await bench.until(owed, model.DeliveryState.PENDING)
        await bench.idle()
        with testing.capture_logs() as logged:
            bench.clock.stepped = step
            for _ in range(2):
                await harness.passed(bench.supervisor.loops["dispatcher"])
            bench.advance(30)  # time that merely passes is none
            await harness.passed(bench.supervisor.loops["dispatcher"])
        await bench.idle()
        [line] = [line for line in logged if "the clock" in line["event"]]
        assert line == {**said, "log_level": "warning", "seconds": pytest.approx(3600.0, abs=2.0)}
        assert len(peer.taken) == attempts
        bench.advance(700)
        await bench.until(owed, DELIVERED)


BUSY = {"reason": "http_429", "status_code": 429, "retry_after": 300.0}


async def test_a_destination_that_asks_for_time_gets_it_for_all_that_it_is_owed(tmp_path: Path) -> None:
    """Otherwise each of a backlog would use up its schedule to hear the same."""
    busy, other = sending.Peer("busy", answers=[sending.failure(**BUSY)]), sending.Peer("other")
    async with sending.running(tmp_path, {"busy": busy, "other": other}) as bench:
        with testing.capture_logs() as logged:
            [first] = await bench.fresh("busy")
            await bench.idle()
        assert [line["seconds"] for line in logged if line["event"] == "destination rests"] == [300.0]
        owed = [first] + [(await bench.fresh("busy"))[0] for _ in range(5)]
        [told] = await bench.fresh("other")
        await bench.until(told, DELIVERED)
        await bench.idle()
        assert len(busy.taken) == 1
        assert bench.dispatcher.keeps_back("busy"), "nothing is overdue: it waits as it was asked to"
        bench.advance(301)
        for one in owed[1:]:
            await bench.until(one, DELIVERED)
        bench.advance(60)
        assert (await bench.until(first, DELIVERED)).attempts_made == 2


async def test_a_test_that_arrives_ends_a_destination_s_rest(tmp_path: Path) -> None:
    busy = sending.Peer("busy", answers=[sending.failure(**BUSY)])
    async with sending.running(tmp_path, {"busy": busy}) as bench:
        await bench.fresh("busy")
        await bench.idle()
        [waiting] = await bench.fresh("busy")
        await bench.dispatcher.test("busy", wait=10)
        await bench.until(waiting, DELIVERED)
