"""A redelivery survives whatever happens to the daemon: everything selected arrives, recognisably."""

from __future__ import annotations

import asyncio
import collections
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from relay.domain import ids, model
from relay.store import base, opening
from tests import harness
from tests.fakes import receivers

COUNT = 300
RATE = 60.0
KILLS = 3


class Nobody:
    """An upstream that is never asked."""

    url = "http://127.0.0.1:9"


async def given_up(directory: Path, count: int) -> list[str]:
    """A database in which so many deliveries were tried once and are dead; their ids, oldest first."""
    now = time.time() - 1.0
    made = [
        model.NewDelivery(
            id=ids.derive("msg", str(number)),
            task=None,
            destination="pipeline",
            type="task.failed",
            notification=model.Notification(
                id=ids.derive("ntf", str(number)),
                format=model.Format.WEBHOOK,
                type="task.failed",
                body=f'{{"number": {number}}}'.encode(),
            ),
            created_at=now - count + number,
        )
        for number in range(count)
    ]
    store = await opening.open_store(f"sqlite:///{directory}/relay.db", exclusive=True, migrate=True)
    try:
        await store.add_deliveries(made)
        wanted = [base.ClaimRequest(destination="pipeline", limit=count)]
        claims = await store.claim(wanted, now=now, leased_until=now + 60.0)
        await store.record_attempts(
            [
                base.AttemptWrite(
                    delivery_id=claim.delivery_id,
                    fence=claim.fence,
                    started_at=now,
                    duration_ms=1.0,
                    outcome=model.Outcome.DEAD,
                    state=model.DeliveryState.DEAD,
                    next_attempt_at=None,
                    reason="http_503",
                    status_code=503,
                    detail=None,
                )
                for claim in claims
            ]
        )
    finally:
        await store.aclose()
    return [delivery.id for delivery in made]


async def until(client: harness.Client, path: str, state: str) -> dict[str, Any]:
    async with asyncio.timeout(60):
        while True:
            _, body = await client.call("GET", path)
            if body["state"] == state:
                return dict(body)
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_a_daemon_that_is_killed_goes_on_where_it_was(tmp_path: Path, number: signal.Signals) -> None:
    wanted = await given_up(tmp_path, COUNT)
    async with receivers.serve() as hook:
        process = harness.Process(
            tmp_path, harness.overrides(tmp_path, Nobody(), {"pipeline": harness.webhook(hook)})
        )
        try:
            await process.start()
            async with harness.caller(process.url) as session:
                client = harness.Client(process.url, session)
                body = {"destination": "pipeline", "reason": "http_503", "rate": RATE}
                status, made = await client.call("POST", "/redeliveries", json=body)
                assert (status, made["count"]) == (201, COUNT)
                path = f"/redeliveries/{made['id']}"
                assert (await client.call("POST", f"{path}/run"))[0] == 200
            for _ in range(KILLS):
                await hook.wait_for(len(hook.requests) + 10, timeout=60)
                process.signal(number)
                await process.wait()
                await process.start()
                async with harness.caller(process.url) as session:
                    _, shown = await harness.Client(process.url, session).call("GET", path)
                assert shown["state"] == "running"
                assert shown["done"] < COUNT
            async with harness.caller(process.url) as session:
                client = harness.Client(process.url, session)
                done = await until(client, path, "done")
                assert (done["count"], done["done"], done["skipped"]) == (COUNT, COUNT, 0)
                for delivery in wanted:
                    shown = await until(client, f"/deliveries/{delivery}", "delivered")
                    assert [each["number"] for each in shown["attempts"]] == list(
                        range(1, shown["attempts_made"] + 1)
                    )
                    assert shown["attempts"][0]["outcome"] == "dead"
        finally:
            await process.stop()
    told: dict[bytes, set[str]] = collections.defaultdict(set)
    for request in hook.requests:
        told[request.body].add(request.headers["webhook-id"])
    assert [told[f'{{"number": {place}}}'.encode()] for place in range(COUNT)] == [{each} for each in wanted]
    assert "Traceback" not in process.log.read_text()


async def test_a_receiver_that_still_fails_gets_the_whole_schedule_again(tmp_path: Path) -> None:
    [delivery] = await given_up(tmp_path, 1)
    async with receivers.serve() as hook:
        hook.answer = receivers.Answer(status=503)
        destinations = {"pipeline": harness.webhook(hook, schedule=[0.0, 0.05, 0.05])}
        async with harness.running(tmp_path, Nobody(), destinations) as relay:
            _, made = await relay.call("POST", "/redeliveries", json={"all": True})
            await relay.call("POST", f"/redeliveries/{made['id']}/run")
            await hook.wait_for(3)
            shown = await until(relay, f"/deliveries/{delivery}", "dead")
            assert [each["number"] for each in shown["attempts"]] == [1, 2, 3, 4]
            assert {request.headers["webhook-id"] for request in hook.requests} == {delivery}


async def test_previews_and_what_ended_are_kept_for_their_time(tmp_path: Path) -> None:
    await given_up(tmp_path, 1)
    async with receivers.serve() as hook:
        options = {"retention": {"attempts_days": 2}}
        destinations = {"pipeline": harness.webhook(hook)}
        async with harness.running(tmp_path, Nobody(), destinations, **options) as relay:
            _, preview = await relay.call("POST", "/redeliveries", json={"all": True})
            _, ended = await relay.call("POST", "/redeliveries", json={"all": True})
            await relay.call("POST", f"/redeliveries/{ended['id']}/run")
            await until(relay, f"/redeliveries/{ended['id']}", "done")
            assert await left(relay, 2) == {preview["id"], ended["id"]}
            relay.advance(86_400 + 60)
            assert await left(relay, 1) == {ended["id"]}
            relay.advance(86_400 + 60)
            assert await left(relay, 0) == set()


async def left(relay: harness.Relay, count: int) -> set[str]:
    """The redeliveries there are, once there are so many."""
    async with asyncio.timeout(20):
        while True:
            _, body = await relay.call("GET", "/redeliveries")
            if len(body["redeliveries"]) <= count:
                return {one["id"] for one in body["redeliveries"]}
            await asyncio.sleep(0.02)
