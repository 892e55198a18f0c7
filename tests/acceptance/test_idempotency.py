"""One create, one task, one charge: whatever is lost, repeated or killed on the way."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path
from typing import Any

import aiohttp

from tests import harness
from tests.fakes import receivers, sandbox, upstream

DROPPED: dict[str, Any] = {
    **sandbox.SEED_REQUEST,
    "input": {**sandbox.SEED_REQUEST["input"], "prompt": "a cat [drop-reply]"},
}


async def create(
    session: aiohttp.ClientSession, url: str, *, key: str = "order-1", **body: Any
) -> tuple[int, dict[str, Any]]:
    """Status and body of one create."""
    headers = {"Idempotency-Key": key}
    async with session.post(
        f"{url}/api/v1/tasks", json=body or sandbox.SEED_REQUEST, headers=headers
    ) as reply:
        return reply.status, await reply.json(content_type=None)


async def until_created(
    session: aiohttp.ClientSession, url: str, *, timeout: float = 20.0, **body: Any
) -> dict[str, Any]:
    """Ask with the same key until the task is there."""
    async with asyncio.timeout(timeout):
        while (reply := await create(session, url, **body))[0] not in (200, 201):
            await asyncio.sleep(0.05)
        return reply[1]


async def test_fifty_copies_at_once_are_one_task(tmp_path: Path) -> None:
    async with sandbox.running_sandbox() as api, harness.running(tmp_path, api) as relay:
        replies = await asyncio.gather(*(create(relay.session, relay.url) for _ in range(50)))
        assert api.created == 1
        assert sorted(status for status, _ in replies) == [200] * 49 + [201]
        assert len({answer["task_id"] for _, answer in replies}) == 1


async def test_a_lost_reply_is_one_task(tmp_path: Path) -> None:
    async with sandbox.running_sandbox() as api, harness.running(tmp_path, api) as relay:
        replies = await asyncio.gather(*(create(relay.session, relay.url, **DROPPED) for _ in range(50)))
        assert api.created == 1
        assert len({answer["task_id"] for _, answer in replies}) == 1


async def test_a_kill_in_the_middle_and_a_retry_are_one_task(tmp_path: Path) -> None:
    async with sandbox.running_sandbox() as api, contextlib.AsyncExitStack() as stack:
        process = harness.Process(tmp_path, harness.overrides(tmp_path, api, {}))
        stack.push_async_callback(process.stop)
        await process.start()
        session = await stack.enter_async_context(harness.caller(process.url))
        copies = [asyncio.ensure_future(create(session, process.url, **DROPPED)) for _ in range(50)]
        async with asyncio.timeout(20):
            while not api.created:  # and its reply is lost
                await asyncio.sleep(0.01)
        process.signal(signal.SIGKILL)
        await process.wait()
        lost = await asyncio.gather(*copies, return_exceptions=True)
        assert all(isinstance(each, aiohttp.ClientError) for each in lost)
        await process.start()
        again = await stack.enter_async_context(harness.caller(process.url))
        answer = await until_created(again, process.url, **DROPPED)
        assert api.created == 1
        assert (await create(again, process.url, **DROPPED)) == (200, answer)


async def test_two_callers_with_the_same_key_are_two_tasks(tmp_path: Path) -> None:
    async with sandbox.running_sandbox() as api, harness.running(tmp_path, api) as relay:
        _, made = await relay.call("POST", "/keys", json={"name": "other"})
        async with harness.caller(relay.url, made["key"]) as other:
            first = await create(relay.session, relay.url)
            second = await create(other, relay.url)
        assert (first[0], second[0]) == (201, 201)
        assert first[1]["task_id"] != second[1]["task_id"]
        assert api.created == 2


async def test_at_the_start_only_creates_with_a_key_of_their_callers_are_asked_again(tmp_path: Path) -> None:
    """Nobody could come back for the others; whether they may cost is for the operator to decide."""
    options = {"submit_timeout": 0.2, "idempotency_window": 600}
    settings: dict[str, Any] = {"operator": {"notify": ["ops"]}, "upstream_options": options}
    async with receivers.serve() as operator, upstream.running() as fake:
        destinations = {"ops": harness.webhook(operator)}
        fake.create(upstream.Status(503, b""))
        large = {**sandbox.SEED_REQUEST, "input": {"prompt": "x", "first_frame_image": LARGE}}
        async with harness.running(tmp_path, fake, destinations, **settings) as relay:
            assert (await create(relay.session, relay.url, key="own"))[0] == 504
            assert (await create(relay.session, relay.url, key="large", **large))[0] == 504
            status, _ = await relay.call("POST", "/tasks", json=sandbox.SEED_REQUEST)
            assert status == 504
        answer = {"request_id": "r", "task_id": "t1", "status": "queued", "cost_estimate": 0.5}
        fake.create(upstream.Json(answer, status=201))
        before = len(fake.requests)
        async with harness.running(tmp_path, fake, destinations, **settings) as relay:
            notices = await operator.wait_for(2)
            assert {notice.json["type"] for notice in notices} == {  # type: ignore[index]
                "relay.operator.submission_unresolved"
            }
            assert (await until_created(relay.session, relay.url, key="own"))["task_id"] == "t1"
            sent = [r for r in fake.requests[before:] if r.method == "POST"]
            assert len(sent) == 1
            status, listed = await relay.call("GET", "/submissions", params={"state": "unresolved"})
            assert status == 200
            assert {each["idempotency_key"] for each in listed["submissions"]} == {None, "large"}
            # What was not kept comes with who asks again, and goes out under the key it had.
            assert (await create(relay.session, relay.url, key="large", **large))[0] == 200
            keys = [r.headers["Idempotency-Key"] for r in fake.requests if LARGE.encode() in r.body]
            assert len(keys) >= 2
            assert len(set(keys)) == 1
            other = {**large, "input": {"prompt": "y", "first_frame_image": LARGE}}
            assert (await create(relay.session, relay.url, key="large", **other))[0] == 409


LARGE = "data:image/png;base64," + "A" * 100_000


async def test_a_key_is_forgotten_after_thirty_days_and_not_before(tmp_path: Path) -> None:
    day = 86400.0
    settings = {"retention": {"tasks_days": 1, "events_days": 1, "attempts_days": 1}}
    async with (
        sandbox.running_sandbox(speed=1000) as api,
        harness.running(tmp_path, api, **settings) as relay,
    ):
        _, first = await create(relay.session, relay.url)
        await relay.until_verdict(first["task_id"], "ended")
        relay.advance(29 * day)
        async with asyncio.timeout(15):
            while (await relay.call("GET", f"/tasks/{first['task_id']}"))[0] != 404:
                await asyncio.sleep(0.02)
        assert await create(relay.session, relay.url) == (200, first)
        relay.advance(2 * day)
        async with asyncio.timeout(15):
            while (again := await create(relay.session, relay.url))[0] == 200:
                await asyncio.sleep(0.05)
        assert again[0] == 201
        assert api.created == 2
