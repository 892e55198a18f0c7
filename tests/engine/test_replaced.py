"""Destinations that are changed, removed or replaced while they are being sent to."""

from __future__ import annotations

from pathlib import Path

from relay.domain import model
from relay.engine import outbox
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
