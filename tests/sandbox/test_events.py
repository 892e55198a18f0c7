"""``/events`` in each of its shapes, over real HTTP and in stepped time."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import aiohttp
import pytest

from tests.fakes import sandbox as fake


async def get(
    sandbox: fake.RunningSandbox, task_id: str, query: str = "", **headers: str
) -> tuple[int, bytes, Any]:
    url = f"{sandbox.url}/api/v1/tasks/{task_id}/events{query}"
    async with sandbox.session.get(url, headers=sandbox.headers | headers) as reply:
        return reply.status, await reply.read(), reply.headers


async def page(sandbox: fake.RunningSandbox, task_id: str, cursor: str | None = None) -> dict[str, Any]:
    status, body, headers = await get(sandbox, task_id, f"?cursor={cursor}" if cursor else "")
    assert status == 200
    assert headers["Content-Type"].startswith("application/json")
    decoded: dict[str, Any] = json.loads(body)
    return decoded


def parse_sse(text: str) -> list[dict[str, Any]]:
    """The events of a whole stream; each is (fields) with ``data`` decoded."""
    found = []
    for block in text.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines() if not line.startswith(":"))
        if fields:
            found.append(fields | {"data": json.loads(fields["data"])})
    return found


async def until(reader: aiohttp.StreamReader, wanted: bytes) -> bytes:
    """Read until ``wanted`` came."""
    got = b""
    async with asyncio.timeout(10):
        while wanted not in got:
            chunk = await reader.readany()
            assert chunk, f"the stream ended before {wanted!r}"
            got += chunk
    return got


async def test_json_pages_hold_the_task_body_and_what_happened_so_far() -> None:
    async with fake.running_sandbox(stepped=True) as sandbox:
        task_id = await sandbox.submit()
        first = await page(sandbox, task_id)
        assert {name: value for name, value in first.items() if name not in ("events", "next_cursor")} == (
            await sandbox.task(task_id)
        )
        (queued,) = first["events"]
        assert set(queued) == {"id", "type", "status", "timestamp", "data"}
        assert (queued["type"], queued["status"]) == ("task.queued", "queued")
        assert queued["timestamp"] == "2025-06-15T15:06:40.000Z"

        sandbox.finish()
        last = await page(sandbox, task_id)
        assert [event["status"] for event in last["events"]] == ["queued", "processing", "succeeded"]
        assert last["events"][0] == queued
        assert len({event["id"] for event in last["events"]}) == 3
        assert last["events"][-1]["data"] == await sandbox.task(task_id)
        assert last["events"][0]["data"]["output"] is None
        assert last["status"] == "succeeded"


async def test_the_cursor_gives_only_what_is_new() -> None:
    async with fake.running_sandbox(stepped=True) as sandbox:
        task_id = await sandbox.submit(prompt="[fail]")
        cursor = (await page(sandbox, task_id))["next_cursor"]
        idle = await page(sandbox, task_id, cursor)
        assert (idle["events"], idle["next_cursor"]) == ([], cursor)

        sandbox.finish()
        rest = await page(sandbox, task_id, cursor)
        assert [event["status"] for event in rest["events"]] == ["processing", "failed"]
        assert rest["events"][-1]["data"]["error"]["code"] == "generation_failed"
        assert (await page(sandbox, task_id, rest["next_cursor"]))["events"] == []


@pytest.mark.parametrize("cursor", ["", "nonsense", "evt_1", "evt_x_99999999999999999999"])
async def test_a_cursor_that_was_never_given_out_is_refused(cursor: str) -> None:
    async with fake.running_sandbox(stepped=True) as sandbox:
        task_id = await sandbox.submit()
        sandbox.finish()
        other = (await page(sandbox, await sandbox.submit()))["next_cursor"]
        for tried in (cursor, other):
            status, body, _ = await get(sandbox, task_id, f"?cursor={tried}")
            assert status == 400
            assert "cursor" in json.loads(body)["detail"]


@pytest.mark.parametrize("shape", ["json", "ndjson"])
async def test_no_news_is_304(shape: str) -> None:
    async with fake.running_sandbox(stepped=True, events=shape) as sandbox:
        task_id = await sandbox.submit()
        _, _, headers = await get(sandbox, task_id)
        etag = headers["ETag"]
        for offered in (etag, f"W/{etag}", f'"other", {etag}', "*"):
            status, body, again = await get(sandbox, task_id, **{"If-None-Match": offered})
            assert (status, body, again["ETag"]) == (304, b"", etag)
        assert (await get(sandbox, task_id, **{"If-None-Match": '"other"'}))[0] == 200
        sandbox.finish()
        status, _, headers = await get(sandbox, task_id, **{"If-None-Match": etag})
        assert status == 200
        assert headers["ETag"] != etag


async def test_ndjson_is_one_event_per_line() -> None:
    async with fake.running_sandbox(stepped=True, events="ndjson") as sandbox:
        task_id = await sandbox.submit(prompt="line\nbreak")
        sandbox.finish()
        _, body, headers = await get(sandbox, task_id)
        assert headers["Content-Type"].startswith("application/x-ndjson")
        events = [json.loads(line) for line in body.splitlines()]
        assert [event["status"] for event in events] == ["queued", "processing", "succeeded"]
        assert events[-1]["data"] == await sandbox.task(task_id)
        assert (await get(sandbox, task_id, f"?cursor={events[1]['id']}"))[1] == body.splitlines(True)[2]
        assert (await get(sandbox, task_id, f"?cursor={events[2]['id']}"))[1] == b""


async def test_absent_events_leave_the_task_endpoint() -> None:
    async with fake.running_sandbox(stepped=True, events="absent") as sandbox:
        task_id = await sandbox.submit()
        status, _, headers = await get(sandbox, task_id)
        assert status == 404
        assert headers["Content-Type"].startswith("application/problem+json")
        assert (await sandbox.task(task_id))["status"] == "queued"


async def test_sse_tells_each_step_as_it_comes_and_closes_at_the_end() -> None:
    async with fake.running_sandbox(stepped=True, events="sse") as sandbox:
        task_id = await sandbox.submit()
        url = f"{sandbox.url}/api/v1/tasks/{task_id}/events"
        async with sandbox.session.get(url, headers=sandbox.headers) as reply:
            assert reply.content_type == "text/event-stream"
            assert reply.headers["Cache-Control"] == "no-store"
            got = await until(reply.content, b"\n\n")
            assert [event["event"] for event in parse_sse(got.decode())] == ["task.queued"]
            sandbox.finish()
            async with asyncio.timeout(10):
                got += await reply.content.read()
        events = parse_sse(got.decode())
        assert [event["event"] for event in events] == ["task.queued", "task.processing", "task.succeeded"]
        assert all(event["id"] == event["data"]["id"] for event in events)
        assert events[-1]["data"]["data"] == await sandbox.task(task_id)


async def test_a_silent_stream_is_kept_alive() -> None:
    async with fake.running_sandbox(stepped=True, events="sse", speed=0.001) as sandbox:
        task_id = await sandbox.submit()
        url = f"{sandbox.url}/api/v1/tasks/{task_id}/events"
        async with sandbox.session.get(url, headers=sandbox.headers) as reply:
            await until(reply.content, b"\n\n")
            for _ in range(3):
                sandbox.advance(15)
                assert b"\n\n" in await until(reply.content, b": ")


async def test_a_reconnecting_reader_gets_the_rest_once_and_is_then_told_to_stop() -> None:
    async with fake.running_sandbox(stepped=True, events="sse") as sandbox:
        task_id = await sandbox.submit()
        sandbox.finish()
        _, body, _ = await get(sandbox, task_id)
        ids = [event["id"] for event in parse_sse(body.decode())]
        assert len(ids) == 3
        _, body, _ = await get(sandbox, task_id, f"?cursor={ids[0]}", **{"Last-Event-ID": ids[1]})
        assert [event["id"] for event in parse_sse(body.decode())] == ids[2:]
        status, body, _ = await get(sandbox, task_id, **{"Last-Event-ID": ids[2]})
        assert (status, body) == (204, b"")
        _, body, _ = await get(sandbox, task_id, **{"Last-Event-ID": "of another task"})
        assert [event["id"] for event in parse_sse(body.decode())] == ids


async def test_readers_that_leave_and_a_stop_with_readers_are_quiet(caplog: pytest.LogCaptureFixture) -> None:
    async with fake.running_sandbox(stepped=True, events="sse") as sandbox:
        task_id = await sandbox.submit()
        url = f"{sandbox.url}/api/v1/tasks/{task_id}/events"
        async with sandbox.session.get(url, headers=sandbox.headers) as reply:
            await until(reply.content, b"\n\n")
        stays = await sandbox.session.get(url, headers=sandbox.headers)
        await until(stays.content, b"\n\n")
        sandbox.advance(0.01)
    stays.close()
    assert caplog.records == []
