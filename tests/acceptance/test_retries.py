"""Receivers that fail, for a while or for good, and what an operator can do about it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from tests import harness
from tests.fakes import receivers, sandbox


async def test_a_receiver_that_fails_for_a_while_is_told_later(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=1000) as upstream,
        harness.running(
            tmp_path, upstream, {"pipeline": harness.webhook(hook, schedule=[0, 0.1, 0.1, 0.1])}
        ) as relay,
    ):
        hook.script = [receivers.Answer(status=500), receivers.Answer(status=503)]
        await relay.submit(notify=["pipeline"])
        requests = await hook.wait_for(3)
        [delivery] = await relay.until_state("delivered")
        assert len({r.headers["webhook-id"] for r in requests}) == 1
        assert len({r.body for r in requests}) == 1
        attempts = (await relay.delivery(delivery["id"]))["attempts"]
        assert [(a["number"], a["outcome"], a["reason"]) for a in attempts] == [
            (1, "retry", "http_500"),
            (2, "retry", "http_503"),
            (3, "delivered", None),
        ]


async def test_a_receiver_that_never_answers_ends_dead_and_redeliver_brings_it(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=1000) as upstream,
        harness.running(
            tmp_path, upstream, {"pipeline": harness.webhook(hook, schedule=[0, 0.1], timeout=0.3)}
        ) as relay,
    ):
        hook.answer = receivers.Answer(manner=receivers.Manner.HANG)
        await relay.submit(notify=["pipeline"])
        [dead] = await relay.until_state("dead")
        assert dead["attempts_made"] == 2
        assert dead["reason"] == "timeout"
        hook.answer = receivers.Answer()
        status, _ = await relay.call("POST", f"/deliveries/{dead['id']}/redeliver")
        assert status == 202
        [delivered] = await relay.until_state("delivered")
        assert delivered["id"] == dead["id"] == hook.requests[-1].headers["webhook-id"]
        assert delivered["attempts_made"] == 3


async def test_what_is_given_up_is_counted_for_the_alert(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=1000) as upstream,
        harness.running(tmp_path, upstream, {"spent": harness.webhook(hook, schedule=[0, 0.1])}) as relay,
    ):
        hook.answer = receivers.Answer(status=500)
        await relay.submit(notify=["spent"])
        [dead] = await relay.until_state("dead")
        counted = f'relay_deliveries_dead_total{{destination="spent",reason="{dead["reason"]}"}} 1.0'
        async with asyncio.timeout(10):  # it is counted once it is recorded
            while counted not in await measurements(relay):
                await asyncio.sleep(0.01)
        # Somebody's wish is counted as such.
        await relay.call("POST", "/destinations/spent/pause")
        await relay.submit(notify=["spent"])
        await relay.until_state("held")
        await relay.call("POST", "/destinations/spent/resume", json={"which": "none"})
        assert 'relay_deliveries_dead_total{destination="spent",reason="not_resumed"} 1.0' in (
            await measurements(relay)
        )


async def measurements(relay: harness.Relay) -> str:
    """What Prometheus reads."""
    async with relay.session.get(f"{relay.url}/metrics") as reply:
        return await reply.text()


async def test_what_is_owed_survives_a_restart(tmp_path: Path) -> None:
    async with receivers.serve() as hook, sandbox.running_sandbox(speed=1000) as upstream:
        destinations = {"pipeline": harness.webhook(hook, schedule=[0, 0.5, 0.5])}
        hook.script = [receivers.Answer(status=500)]
        async with harness.running(tmp_path, upstream, destinations) as relay:
            await relay.submit(notify=["pipeline"])
            await hook.wait_for(1)
            await relay.until_state("pending")
        async with harness.running(tmp_path, upstream, destinations) as relay:
            await hook.wait_for(2)
            [delivery] = await relay.until_state("delivered")
            assert delivery["attempts_made"] == 2


async def test_deliveries_of_a_destination_that_left_the_configuration_are_held_until_it_is_back(
    tmp_path: Path,
) -> None:
    async with receivers.serve() as hook, sandbox.running_sandbox(speed=1000) as upstream:
        destinations = {"pipeline": harness.webhook(hook, schedule=[0, 0.2, 0.2])}
        hook.script = [receivers.Answer(status=500)]
        async with harness.running(tmp_path, upstream, destinations) as relay:
            await relay.submit(notify=["pipeline"])
            await relay.until_state("pending")
        async with harness.running(tmp_path, upstream) as relay:
            [held] = await relay.until_state("held")
            assert held["reason"] == "destination_missing"
        async with harness.running(tmp_path, upstream, destinations) as relay:
            await relay.until_state("delivered")
            await hook.wait_for(2)


async def test_a_test_send_takes_the_real_path_and_says_what_happened(tmp_path: Path) -> None:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox() as upstream,
        harness.running(tmp_path, upstream, {"pipeline": harness.webhook(hook)}) as relay,
    ):
        status, delivery = await relay.call("POST", "/destinations/pipeline/test")
        assert status == 200
        assert delivery["type"] == "relay.test"
        assert delivery["state"] == "delivered"
        hook.answer = receivers.Answer(status=500)
        status, delivery = await relay.call("POST", "/destinations/pipeline/test")
        assert status == 200
        assert delivery["state"] == "dead"
        assert delivery["attempts"][0]["reason"] == "http_500"
