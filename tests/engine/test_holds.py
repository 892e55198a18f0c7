"""Paused, disabled, gone: what is owed is held, and nothing but tests is sent."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from structlog import testing

from relay import metrics
from relay.domain import errors, health, ids, model
from relay.senders import base
from relay.store import destinations
from tests.engine import sending

State = model.DeliveryState
GONE = {"reason": "http_410", "decision": errors.Decision.DISABLE, "status_code": 410}


async def held(bench: sending.Bench, delivery_id: str, reason: str) -> None:
    found = await bench.until(delivery_id, State.HELD)
    assert (found.reason, found.next_attempt_at) == (reason, None)


def gauge(name: str, **labels: str) -> float | None:
    return metrics.REGISTRY.get_sample_value(name, labels)


async def test_what_is_owed_to_a_paused_destination_is_held_until_it_is_resumed(tmp_path: Path) -> None:
    paused, other = sending.Peer("paused"), sending.Peer("other")
    async with sending.running(tmp_path, {"paused": paused, "other": other}) as bench:
        after = bench.pause("paused")
        waiting = await bench.pending("paused", count=3)
        await bench.store.pause(after)
        for one in waiting:
            await held(bench, one, "paused")
        [fresh, told] = await bench.fresh("paused", "other")
        await held(bench, fresh, "paused")
        await bench.until(told, State.DELIVERED)
        assert not paused.taken
        assert gauge("relay_destination_state", destination="paused", state="paused") == 1
        assert gauge("relay_destination_state", destination="paused", state="active") == 0
        assert bench.dispatcher.keeps_back("paused")

        resumed = health.resumed(after)
        bench.dispatcher.set_health(resumed)
        await bench.store.resume(resumed, which=destinations.Which.ALL, now=bench.clock.now(), rate=1000.0)
        bench.dispatcher.owed("paused", bench.clock.now())
        for one in (*waiting, fresh):
            await bench.until(one, State.DELIVERED)
        assert gauge("relay_destination_state", destination="paused", state="active") == 1


async def test_what_was_on_its_way_while_the_pause_was_made_is_held_too(tmp_path: Path) -> None:
    """Composed before the pause, stored after it: pending for a moment, never sent."""
    peer = sending.Peer("a", concurrency=1)
    peer.open.clear()
    async with sending.running(tmp_path, {"a": peer}) as bench:
        [first] = await bench.fresh("a")
        await peer.asked(1)
        writes, commit, go_on = bench.recorder._writes, bench.recorder._writes._write, asyncio.Event()

        async def slow(batch):  # type: ignore[no-untyped-def]
            await go_on.wait()
            return await commit(batch)

        writes._write = slow
        coming = asyncio.ensure_future(bench.fresh("a"))
        while not len(writes) and not writes._waiting:
            await asyncio.sleep(0)
        await bench.store.pause(bench.pause("a"))
        go_on.set()
        [second] = await coming
        await held(bench, second, "paused")
        peer.answers.append(sending.failure())
        peer.open.set()
        await held(bench, first, "paused")
        [attempt] = await bench.store.attempts(first)
        assert (attempt.outcome, attempt.reason) == (model.Outcome.RETRY, "http_500")
        assert len(peer.taken) == 1


async def test_nobody_knows_the_destination(tmp_path: Path) -> None:
    peers = {name: sending.Peer(name) for name in ("known", "late")}
    async with sending.running(tmp_path, peers, known=["known"]) as bench:
        [delivery_id] = await bench.fresh("late")
        await held(bench, delivery_id, "destination_missing")
        again = await bench.dispatcher.redeliver(delivery_id)
        assert again is not None
        assert (again.state, again.reason) == (State.HELD, "destination_missing")


async def test_a_destination_comes_and_goes_while_its_sends_are_under_way(tmp_path: Path) -> None:
    first, second = sending.Peer("a"), sending.Peer("a", concurrency=1)
    second.capacity = base.Capacity(name="another kind", seats=1, seats_hanging=1)
    first.open.clear()
    async with sending.running(tmp_path, {"a": first}) as bench:
        begun = [(await bench.fresh("a"))[0] for _ in range(2)]
        await first.asked(2)
        bench.dispatcher.configure(second, second.options, bench.dispatcher.health("a"))
        assert bench.taken()["a"][:2] == (2, 0), "the old kind's seats are not the new kind's"
        [waits] = await bench.fresh("a")
        assert not second.taken, "its concurrency is the destination's, not the sender's"
        first.open.set()
        for one in (*begun, waits):
            await bench.until(one, State.DELIVERED)
        await bench.idle()
        assert (len(first.taken), len(second.taken)) == (2, 1)
        bench.assert_no_seat_is_taken()

        second.open.clear()
        second.answers.append(sending.failure())
        [cut] = await bench.fresh("a")
        await second.asked(2)
        bench.dispatcher.remove("a")
        assert "a" not in bench.dispatcher.destinations
        assert gauge("relay_destination_state", destination="a", state="active") is None
        second.open.set()
        await held(bench, cut, "destination_missing")
        with pytest.raises(KeyError):
            await bench.dispatcher.test("a", wait=1)


async def test_a_destination_that_is_gone_is_disabled_and_the_operator_told(tmp_path: Path) -> None:
    gone, oncall = sending.Peer("gone", concurrency=1), sending.Peer("oncall")
    gone.answers.append(sending.failure(**GONE))
    gone.open.clear()
    peers = {"gone": gone, "oncall": oncall}
    async with sending.running(tmp_path, peers, operator=["gone", "oncall"]) as bench:
        [first] = await bench.fresh("gone")
        await gone.asked(1)
        [waits] = await bench.fresh("gone")
        gone.open.set()
        await held(bench, first, "disabled")
        await held(bench, waits, "disabled")
        [attempt] = await bench.store.attempts(first)
        assert (attempt.outcome, attempt.reason) == (model.Outcome.DISABLE, "http_410")
        [stored] = await bench.store.healths()
        assert stored == bench.dispatcher.health("gone")
        assert stored.disabled_reason == "http_410"
        await oncall.asked(1)
        [notice] = oncall.taken
        assert notice.type == "relay.operator.destination_disabled"
        for words in (b"gone was disabled: http_410", b"relay destinations test gone"):
            assert words in notice.body
        assert len(gone.taken) == 1, "a notice about a destination is not for that destination"


async def test_who_accepts_and_wants_no_more_is_disabled(tmp_path: Path) -> None:
    peer = sending.Peer("a", answers=[base.Accepted(status_code=200, disable=True)])
    async with sending.running(tmp_path, {"a": peer}) as bench:
        with testing.capture_logs() as logged:
            [told] = await bench.fresh("a")
            await bench.until(told, State.DELIVERED)
            [kept] = await bench.fresh("a")
        await held(bench, kept, "disabled")
        [stored] = await bench.store.healths()
        assert stored.disabled_reason == "disabled_by_receiver"
        assert [one["kind"] for one in logged if one["event"] == "nobody else to tell"] == [
            "destination_disabled"
        ]


async def test_a_test_that_arrives_enables_a_disabled_destination_and_sends_what_was_held(
    tmp_path: Path,
) -> None:
    peer = sending.Peer("a", answers=[sending.failure(**GONE), sending.failure()])
    async with sending.running(tmp_path, {"a": peer}) as bench:
        [first] = await bench.fresh("a")
        await held(bench, first, "disabled")
        [second] = await bench.fresh("a")
        await held(bench, second, "disabled")
        failed = await bench.store.delivery(await bench.dispatcher.test("a", wait=10))
        assert failed is not None
        assert (failed.state, failed.reason) == (State.DEAD, "http_500"), "nobody wants it once this is over"
        assert bench.dispatcher.health("a").disabled_at is not None, "a test that fails changes nothing"

        done = await bench.store.delivery(await bench.dispatcher.test("a", wait=10))
        assert done is not None
        assert done.state is State.DELIVERED
        assert bench.dispatcher.health("a").hold_reason is None
        bench.advance(1)  # what was held is released at a limited rate
        for one in (first, second):
            await bench.until(one, State.DELIVERED)
        [stored] = await bench.store.healths()
        assert stored == bench.dispatcher.health("a")
        tests = ["relay.test", "relay.test"]
        assert await bench.told(peer) == ["task.succeeded", *tests, "task.succeeded", "task.succeeded"]


async def test_a_test_does_not_resume_what_somebody_paused(tmp_path: Path) -> None:
    peer = sending.Peer("a", answers=[sending.failure(**GONE)])
    async with sending.running(tmp_path, {"a": peer}) as bench:
        [first] = await bench.fresh("a")
        await held(bench, first, "disabled")
        await bench.store.pause(bench.pause("a"))
        done = await bench.store.delivery(await bench.dispatcher.test("a", wait=10))
        assert done is not None
        assert done.state is State.DELIVERED
        assert bench.dispatcher.health("a").hold_reason is model.HoldReason.PAUSED
        [second] = await bench.fresh("a")
        await held(bench, second, "paused")
        assert (await bench.until(first, State.HELD)).attempts_made == 1
        again = await bench.dispatcher.redeliver(first)
        assert again is not None
        assert (again.state, again.reason) == (State.HELD, "paused")
        assert len(peer.taken) == 2


async def test_a_test_goes_before_a_backlog_but_waits_for_a_shared_seat(tmp_path: Path) -> None:
    one_seat = base.Capacity(name="narrow", seats=1, seats_hanging=1)
    busy, tested = (sending.Peer(name, capacity=one_seat) for name in ("busy", "tested"))
    async with sending.running(tmp_path, {"busy": busy, "tested": tested}) as bench:
        busy.open.clear()
        backlog = [*await bench.pending("busy", count=5), *await bench.pending("tested", count=5)]
        bench.dispatcher.owed("busy", bench.clock.now())
        await busy.asked(1)
        testing_it = asyncio.ensure_future(bench.dispatcher.test("tested", wait=10))
        while not bench.dispatcher._trials.waiting:
            await asyncio.sleep(0)
        assert not tested.taken
        busy.open.set()
        delivery_id = await testing_it
        assert tested.taken[0].delivery_id == delivery_id
        for one in backlog:
            await bench.until(one, State.DELIVERED)
        await bench.idle()

        busy.open.clear()
        await bench.pending("busy")
        bench.dispatcher.owed("busy", bench.clock.now())
        await busy.asked(6)
        late = await bench.store.delivery(await bench.dispatcher.test("tested", wait=0.05))
        assert late is not None
        assert late.state is State.PENDING
        busy.open.set()
        await bench.until(late.id, State.DELIVERED)
        await bench.idle()
        bench.assert_no_seat_is_taken()


async def test_an_end_supersedes_what_was_not_told_before_it(tmp_path: Path) -> None:
    """One is being sent and ends as it ends; one waits; one is found in the same look as the end."""
    peer = sending.Peer("a", concurrency=1)
    peer.open.clear()
    async with sending.running(tmp_path, {"a": peer}) as bench:
        await bench.tell("t", "a", changes=[model.Change.QUEUED])
        await peer.asked(1)
        await bench.tell("t", "a", changes=[model.Change.PROCESSING], version=2)
        both = [model.Change.PROCESSING, model.Change.SUCCEEDED]
        await bench.tell("t", "a", changes=both, version=3)
        await bench.tell("other", "a", changes=both)
        peer.open.set()
        for name in ("t", "other"):
            processing = ids.delivery_id(sending.UPSTREAM, name, "processing", "a")
            assert (await bench.until(processing, State.SUPERSEDED)).reason == "newer_told"
            ended = ids.delivery_id(sending.UPSTREAM, name, "succeeded", "a")
            await bench.until(ended, State.DELIVERED)
        assert await bench.told(peer) == ["task.queued", "task.succeeded", "task.succeeded"]


async def test_what_fails_after_the_end_was_told_is_not_tried_again(tmp_path: Path) -> None:
    """Nobody hears of a task's start behind its end."""
    peer = sending.Peer("a", concurrency=1)
    peer.open.clear()
    peer.answers = [sending.failure()]
    async with sending.running(tmp_path, {"a": peer}) as bench:
        await bench.tell("t", "a", changes=[model.Change.PROCESSING])
        await peer.asked(1)
        await bench.tell("t", "a", changes=[model.Change.PROCESSING, model.Change.SUCCEEDED], version=2)
        peer.open.set()
        processing = ids.delivery_id(sending.UPSTREAM, "t", "processing", "a")
        assert (await bench.until(processing, State.SUPERSEDED)).reason == "newer_told"
        assert [attempt.reason for attempt in await bench.store.attempts(processing)] == ["http_500"]
        await bench.until(ids.delivery_id(sending.UPSTREAM, "t", "succeeded", "a"), State.DELIVERED)
        bench.advance(100_000)
        assert await bench.told(peer) == ["task.processing", "task.succeeded"]
