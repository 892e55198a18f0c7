"""Destinations that are changed, removed or replaced while they are being sent to."""

from __future__ import annotations

import asyncio
from pathlib import Path

from relay.domain import health, model
from relay.engine import outbox
from relay.store import destinations
from tests.engine import sending
from tests.engine.test_holds import GONE

State = model.DeliveryState


OPTIONS = model.DestinationOptions(schedule=(0.0, 5.0, 60.0))


def replace(bench: sending.Bench, peer: sending.Peer) -> None:
    """Give the destination another address, as a change by API or a reload does."""
    bench.dispatcher.configure(peer, OPTIONS, bench.dispatcher.health(peer.name))


async def test_a_former_address_that_is_gone_does_not_disable_the_present_one(tmp_path: Path) -> None:
    """That is why it was changed."""
    former, present = sending.Peer("a", answers=[sending.failure(**GONE)]), sending.Peer("a")
    former.open.clear()
    async with sending.running(tmp_path, {"a": former}) as bench:
        [told] = await bench.fresh("a")
        await former.asked(1)
        replace(bench, present)
        former.open.set()
        await bench.idle()
        assert bench.dispatcher.health("a") == model.Health(destination="a")
        assert await bench.store.healths() == []
        bench.advance(10)
        await bench.until(told, State.DELIVERED)
        assert [outgoing.delivery_id for outgoing in present.taken] == [told]


async def test_a_former_address_neither_hangs_nor_rests_nor_charges_the_present_one(tmp_path: Path) -> None:
    busy = sending.failure("http_429", status_code=429, retry_after=300.0, hung=True)
    former, present = sending.Peer("a", answers=[busy]), sending.Peer("a")
    former.open.clear()
    async with sending.running(tmp_path, {"a": former}) as bench:
        await bench.fresh("a")
        await former.asked(1)
        replace(bench, present)
        former.open.set()
        await bench.idle()
        [told] = await bench.fresh("a")
        await bench.until(told, State.DELIVERED)
        assert bench.dispatcher.health("a").failing_since is None


async def test_a_test_of_the_former_address_does_not_enable_the_present_one(tmp_path: Path) -> None:
    former, present = sending.Peer("a", answers=[sending.failure(**GONE)]), sending.Peer("a")
    async with sending.running(tmp_path, {"a": former}) as bench:
        await bench.fresh("a")
        await bench.idle()
        former.open.clear()
        bench.supervisor.spawn(bench.dispatcher.test("a", wait=10), name="test")
        await former.asked(2)
        replace(bench, present)
        former.open.set()
        await bench.idle()
        assert bench.dispatcher.health("a").disabled_at is not None


async def test_what_was_being_sent_while_its_destination_was_away_for_a_moment_is_not_held(
    tmp_path: Path,
) -> None:
    former, present = sending.Peer("a", answers=[sending.failure()]), sending.Peer("a")
    former.open.clear()
    async with sending.running(tmp_path, {"a": former}) as bench:
        [told] = await bench.fresh("a")
        await former.asked(1)
        bench.dispatcher.remove("a")
        bench.dispatcher.configure(present, OPTIONS, model.Health(destination="a"))
        former.open.set()
        await bench.idle()
        bench.advance(10)
        await bench.until(told, State.DELIVERED)


async def test_a_test_is_sent_once(tmp_path: Path) -> None:
    """Whoever sent it looks at what came of it; nobody wants it a day later."""
    peer = sending.Peer("a", answers=[sending.failure(), sending.failure(reason="timeout")])
    async with sending.running(tmp_path, {"a": peer}) as bench:
        for reason in ("http_500", "timeout"):
            done = await bench.store.delivery(await bench.dispatcher.test("a", wait=10))
            assert done is not None
            assert (done.type, done.state, done.reason) == (outbox.TEST_TYPE, State.DEAD, reason)
        bench.advance(100_000)
        assert await bench.told(peer) == [outbox.TEST_TYPE] * 2


async def test_an_outcome_that_a_resume_overtook_is_not_held_for_good(tmp_path: Path) -> None:
    """It was judged under the pause and is written after the resume."""
    peer = sending.Peer("a", concurrency=1, answers=[sending.failure()])
    peer.open.clear()
    async with sending.running(tmp_path, {"a": peer}) as bench:
        [told] = await bench.fresh("a")
        await peer.asked(1)
        paused = bench.pause("a")
        await bench.store.pause(paused)
        commit, go_on, judged = bench.writes._write, asyncio.Event(), asyncio.Event()

        async def slow(batch):  # type: ignore[no-untyped-def]
            judged.set()
            await go_on.wait()
            return await commit(batch)

        bench.writes._write = slow
        peer.open.set()
        await judged.wait()
        resumed = health.resumed(paused)
        bench.dispatcher.set_health(resumed)
        now = bench.clock.now()
        await bench.store.resume(resumed, which=destinations.Which.ALL, now=now, rate=1000.0)
        go_on.set()
        await bench.until(told, State.DELIVERED)


async def test_what_the_last_process_left_held_at_an_active_destination_is_owed(tmp_path: Path) -> None:
    async with sending.running(tmp_path, {}) as bench:
        held = model.NewDelivery(
            id="msg_left",
            task=None,
            destination="a",
            type="task.failed",
            notification=model.Notification(
                id="ntf_left", format=model.Format.WEBHOOK, type="task.failed", body=b"{}"
            ),
            created_at=bench.clock.now(),
            held=model.HoldReason.PAUSED,
        )
        await bench.store.add_deliveries([held])
    async with sending.running(tmp_path, {"a": sending.Peer("a")}) as bench:
        await bench.until("msg_left", State.DELIVERED)


async def test_what_is_registered_while_a_destination_is_paused_and_resumed_is_told(tmp_path: Path) -> None:
    peer = sending.Peer("a")
    async with sending.running(tmp_path, {"a": peer}) as bench:
        owed: list[str] = []
        for _ in range(20):
            paused = bench.pause("a")
            await bench.store.pause(paused)
            coming = asyncio.gather(*(bench.fresh("a") for _ in range(10)))
            await asyncio.sleep(0)
            resumed = health.resumed(paused)
            bench.dispatcher.set_health(resumed)
            now = bench.clock.now()
            await bench.store.resume(resumed, which=destinations.Which.ALL, now=now, rate=1e6)
            bench.dispatcher.owed("a", now)
            owed += [one for [one] in await coming]
        bench.advance(1)
        for one in owed:
            await bench.until(one, State.DELIVERED)
