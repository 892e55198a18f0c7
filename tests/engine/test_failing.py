"""Destinations that fail: warned of, disabled, forgiven; and what is not charged to them."""

from __future__ import annotations

from pathlib import Path

import pytest
from structlog import testing

from relay import metrics
from relay.domain import errors, model
from tests import harness
from tests.engine import sending

State = model.DeliveryState
WINDOW = sending.POLICY.window


def of(peer: sending.Peer) -> list[str]:
    return [one.type.removeprefix("relay.operator.") for one in peer.taken]


def dead_of(destination: str, reason: str) -> float:
    """How many deliveries were counted as given up."""
    labels = {"destination": destination, "reason": reason}
    return metrics.REGISTRY.get_sample_value("relay_deliveries_dead_total", labels) or 0.0


async def fail(bench: sending.Bench, peer: sending.Peer) -> str:
    """A fresh delivery that fails once; it is left pending, or held."""
    peer.answers.append(sending.failure())
    before = len(peer.taken)
    [delivery_id] = await bench.fresh(peer.name)
    await peer.asked(before + 1)
    await bench.idle()
    return delivery_id


async def test_warned_of_at_shares_of_the_window_then_disabled(tmp_path: Path) -> None:
    failing, oncall = sending.Peer("failing"), sending.Peer("oncall")
    peers = {"failing": failing, "oncall": oncall}
    far = (0.0, *[1e6] * 9)
    async with sending.running(tmp_path, peers, schedule=far, operator=["oncall"]) as bench:
        ids = [await fail(bench, failing)]
        began = bench.dispatcher.health("failing").failing_since
        for share, expected in ((0.3, 0), (0.55, 1), (0.6, 1), (0.71, 2), (0.95, 3)):
            bench.clock.offset += began + share * WINDOW - bench.clock.now()
            ids.append(await fail(bench, failing))
            await oncall.asked(expected)
            await bench.idle()
            assert len(oncall.taken) == expected, share
        assert of(oncall) == ["destination_failing"] * 3
        assert b"At least 3 deliveries failed; the last reason was http_500" in oncall.taken[-1].body
        for share, told in zip((50, 70, 90), oncall.taken, strict=True):
            assert f"{share} % of the time".encode() in told.body
        assert bench.dispatcher.health("failing").failing_since == began

        bench.clock.offset += 0.1 * WINDOW
        ids.append(await fail(bench, failing))
        await oncall.asked(4)
        assert of(oncall)[-1] == "destination_disabled"
        assert b"nothing has reached it since" in oncall.taken[-1].body
        for one in ids:
            found = await bench.until(one, State.HELD)
            assert (found.reason, found.attempts_made) == ("disabled", 1)
        [stored] = await bench.store.healths()
        assert (stored.disabled_reason, stored.warned) == ("failing", 90)


async def test_a_delivery_that_arrives_forgives(tmp_path: Path) -> None:
    peer = sending.Peer("a")
    async with sending.running(tmp_path, {"a": peer}, schedule=(0.0, 1e6)) as bench:
        await fail(bench, peer)
        [stored] = await bench.store.healths()
        assert stored.failing_since is not None
        bench.dispatcher.measure()
        [told] = await bench.fresh("a")
        await bench.until(told, State.DELIVERED)
        [stored] = await bench.store.healths()
        assert (stored.failing_since, stored.failing) == (None, ())


@pytest.mark.parametrize("fault", [sending.failure(charged=False), RuntimeError("a fault of ours")])
async def test_our_own_faults_are_not_charged(tmp_path: Path, fault: Exception) -> None:
    peer = sending.Peer("a", fault=fault)
    async with sending.running(tmp_path, {"a": peer}) as bench:
        [delivery_id] = await bench.fresh("a")
        await bench.until(delivery_id, State.PENDING)
        await bench.idle()
        assert await bench.store.healths() == []


async def test_a_test_that_fails_is_not_charged(tmp_path: Path) -> None:
    peer = sending.Peer("a", fault=sending.failure())
    async with sending.running(tmp_path, {"a": peer}) as bench:
        await bench.dispatcher.test("a", wait=10)
        await bench.idle()
        assert await bench.store.healths() == []


async def test_what_is_too_old_is_given_up_instead_of_sent(tmp_path: Path) -> None:
    peer = sending.Peer("a", options=model.DestinationOptions(age_max=100.0))
    before = dead_of("a", "too_old")
    async with sending.running(tmp_path, {"a": peer}, schedule=(0.0, 60.0, 60.0)) as bench:
        [old] = await bench.pending("a", age=101.0)
        [young] = await bench.pending("a", age=50.0)
        bench.dispatcher.owed("a", bench.clock.now())
        await bench.until(young, State.DELIVERED)
        found = await bench.until(old, State.DEAD)
        assert (found.reason, found.attempts_made) == ("too_old", 0)
        assert await bench.store.attempts(old) == []
        assert [one.delivery_id for one in peer.taken] == [young]

        peer.fault = sending.failure()
        [late] = await bench.fresh("a")
        assert (await bench.until(late, State.PENDING)).reason == "http_500"
        bench.advance(70)
        dead = await bench.until(late, State.DEAD)
        assert (dead.reason, dead.attempts_made) == ("too_old", 2), "the next try would come too late"
        assert [one.reason for one in await bench.store.attempts(late)] == ["http_500"] * 2
        assert dead_of("a", "too_old") == before + 2, "with an attempt and without"
        await bench.idle()
        bench.assert_no_seat_is_taken()


async def test_the_age_of_what_is_asked_for_again_counts_from_then(tmp_path: Path) -> None:
    peer = sending.Peer("a", options=model.DestinationOptions(age_max=100.0))
    async with sending.running(tmp_path, {"a": peer}, schedule=(0.0, 60.0, 60.0)) as bench:
        [old] = await bench.pending("a", age=101.0)
        bench.dispatcher.owed("a", bench.clock.now())
        assert (await bench.until(old, State.DEAD)).reason == "too_old"
        await bench.dispatcher.redeliver(old)
        assert (await bench.until(old, State.DELIVERED)).attempts_made == 1

        peer.fault = sending.failure()
        await bench.dispatcher.redeliver(old)
        await peer.asked(2)
        again = await bench.until(old, State.PENDING)
        assert (again.reason, again.attempts_made) == ("http_500", 2)
        bench.advance(70)
        dead = await bench.until(old, State.DEAD)
        assert (dead.reason, dead.attempts_made) == ("too_old", 3), "the next try would come too late again"


async def test_what_is_given_up_unsent_is_logged_with_its_task(tmp_path: Path) -> None:
    peer = sending.Peer("a", fault=sending.failure(), options=model.DestinationOptions(age_max=100.0))
    async with sending.running(tmp_path, {"a": peer}, schedule=(0.0,)) as bench:
        [owed] = await bench.fresh("a")
        assert (await bench.until(owed, State.DEAD)).reason == "http_500"
        await bench.store.redeliver(owed, now=bench.clock.now())
        with testing.capture_logs() as logged:
            bench.advance(150)
            assert (await bench.until(owed, State.DEAD)).reason == "too_old"
            await harness.passed(bench.supervisor.loops["dispatcher"])  # the line follows the commit
        [line] = [line for line in logged if line["event"] == "given up"]
        assert (line["delivery"], line["task"], line["upstream"]) == (owed, "t1", sending.UPSTREAM)
        assert len(peer.taken) == 1


async def test_a_peer_may_ask_to_wait_as_long_as_its_destination_allows(tmp_path: Path) -> None:
    peer = sending.Peer("a", options=model.DestinationOptions(retry_after_max=100.0))
    peer.answers.append(errors.SendError("busy", reason="http_429", retry_after=5000.0))
    async with sending.running(tmp_path, {"a": peer}) as bench:
        [delivery_id] = await bench.fresh("a")
        found = await bench.until(delivery_id, State.PENDING)
        assert found.next_attempt_at is not None
        assert 90 < found.next_attempt_at - bench.clock.now() <= 110
