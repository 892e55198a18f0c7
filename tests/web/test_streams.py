"""Server-sent events and held answers, as a caller sees them."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

import aiohttp
import pytest
from aiohttp import test_utils
from multidict import CIMultiDict

from relay.web import cursors, streams, waiting
from tests.web import sse
from tests.web.conftest import ADMIN_KEY


def reading(
    api: Any, path: str, *, key: str = ADMIN_KEY, last_id: str | None = None
) -> contextlib.AbstractAsyncContextManager[sse.Stream]:
    return sse.opened(api.session, f"{api.running.url}/api/v1{path}", key=key, last_id=last_id)


async def ended_task(api: Any, key: str = ADMIN_KEY) -> str:
    task: str = await api.upstream.submit()
    await api.call("PUT", f"/tasks/{task}", key=key)
    api.upstream.finish()
    await api.until(f"/tasks/{task}", lambda body: body["relay"]["verdict"] == "ended", key=key)
    return task


async def test_a_task_is_streamed_from_its_first_event_to_its_end(api: Any) -> None:
    task = await api.upstream.submit()
    await api.call("PUT", f"/tasks/{task}")
    async with reading(api, f"/tasks/{task}/events") as stream:
        assert stream.response.status == 200
        assert stream.response.content_type == "text/event-stream"
        assert stream.response.headers["Cache-Control"] == "no-store"
        assert stream.response.headers["X-Accel-Buffering"] == "no"
        assert stream.response.headers["X-Request-Id"].startswith("req_")
        name, first = await stream.next()
        assert list(first) == ["id", "type", "status", "timestamp", "data", "task_id", "upstream"]
        assert (first["task_id"], first["upstream"], first["status"]) == (task, "mindvideo", "queued")
        assert name == first["type"]
        api.upstream.finish()
        rest = await stream.rest()
        last_id = stream.last_id
    assert [each["status"] for each in [first, *rest]] == ["queued", "processing", "succeeded"]
    listed = (await api.call("GET", f"/tasks/{task}/events")).body
    assert [each["id"] for each in listed["events"]] == [each["id"] for each in [first, *rest]]
    assert listed["next_cursor"] == last_id  # one kind of cursor for both ways of reading
    async with reading(api, f"/tasks/{task}/events", last_id=last_id) as again:
        assert again.response.status == 204  # a browser stops coming back


async def test_an_ended_task_is_streamed_whole_and_ends(api: Any) -> None:
    task = await ended_task(api)
    async with reading(api, f"/tasks/{task}/events") as stream:
        first = await stream.take(1)
        one = stream.last_id
        rest = await stream.rest()
    async with reading(api, f"/tasks/{task}/events", last_id=one) as stream:
        assert await stream.rest() == rest
    async with reading(api, f"/tasks/{task}/events?cursor={one}") as stream:
        assert await stream.rest() == rest
    assert first + rest


async def test_all_tasks_are_streamed_from_now_on_and_from_an_id_on(api: Any) -> None:
    await ended_task(api)
    async with reading(api, "/events") as stream:
        task = await ended_task(api)
        live = await stream.take(2)
        resume_at = stream.last_id
        live += await stream.take(1)
        await stream.response.content.readline()  # the connection breaks somewhere
    assert {each["task_id"] for each in live} == {task}
    other = await ended_task(api)
    async with reading(api, "/events", last_id=resume_at) as stream:
        resumed = await stream.take(4)
    assert resumed[0] == live[2]
    assert {each["task_id"] for each in resumed[1:]} == {other}


async def test_who_breaks_off_before_the_first_event_can_resume(api: Any) -> None:
    async with reading(api, "/events") as stream:
        line = await stream.response.content.readuntil(b"\n\n")
    [last_id] = [each[4:] for each in line.decode().splitlines() if each.startswith("id: ")]
    task = await ended_task(api)
    async with reading(api, "/events", last_id=last_id) as stream:
        assert {each["task_id"] for each in await stream.take(3)} == {task}


async def test_a_client_reads_its_own_tasks_and_those_that_it_registers_later(api: Any) -> None:
    mine, _ = await api.client_key("mine")
    theirs, _ = await api.client_key("theirs")
    async with reading(api, "/events", key=mine) as stream, reading(api, "/events", key=theirs) as other:
        hidden = await ended_task(api, theirs)
        shown = await ended_task(api, mine)
        assert {each["task_id"] for each in await stream.take(3)} == {shown}
        assert {each["task_id"] for each in await other.take(3)} == {hidden}
    assert (await api.call("GET", f"/tasks/{hidden}/events", key=mine)).status == 404
    headers = {"Accept": "text/event-stream"}
    assert (await api.call("GET", f"/tasks/{hidden}/events", key=mine, headers=headers)).status == 404


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("text/event-stream", True),
        ("text/event-stream;q=0.9, */*;q=0.1", True),
        ("application/json;q=0.5, text/event-stream", True),
        ("application/json, text/event-stream", False),
        ("text/event-stream;q=0", False),
        ("text/event-stream;q=nan", True),
        ("*/*", False),
        ("", False),
    ],
)
async def test_a_stream_is_for_who_prefers_one(api: Any, accept: str, expected: bool) -> None:
    task = await ended_task(api)
    reply = await api.call("GET", f"/tasks/{task}/events", headers={"Accept": accept})
    kind = "text/event-stream" if expected else "application/json"
    assert reply.headers["content-type"].split(";")[0] == kind
    assert expected or reply.headers["vary"] == "Accept"


@pytest.mark.parametrize("bad", ["nonsense", "LTEsdHNrX2E", "!!"])
async def test_a_bad_id_to_resume_at_is_refused(api: Any, bad: str) -> None:
    task = await ended_task(api)
    for path in ("/events", f"/tasks/{task}/events"):
        async with reading(api, path, last_id=bad) as stream:
            assert stream.response.status == 422
            assert stream.response.content_type == "application/problem+json"


async def test_an_id_of_another_task_resumes_the_stream_of_all_but_not_of_one(api: Any) -> None:
    one, other = await ended_task(api), await ended_task(api)
    async with reading(api, f"/tasks/{one}/events") as stream:
        await stream.rest()
        last_id = stream.last_id
    async with reading(api, f"/tasks/{other}/events", last_id=last_id) as stream:
        assert stream.response.status == 422
    async with reading(api, "/events", last_id=last_id) as stream:
        assert {each["task_id"] for each in await stream.take(3)} == {other}


async def test_an_id_beyond_the_end_is_the_end(api: Any) -> None:
    async with reading(api, "/events", last_id=cursors.of_any_event(10**9)) as stream:
        task = await ended_task(api)
        assert {each["task_id"] for each in await stream.take(3)} == {task}


async def test_silence_is_broken_by_comments_and_a_disabled_key_ends_it(
    api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT", 0.05)
    monkeypatch.setattr("relay.web.auth.CACHE_SECONDS", 0.0)
    key, key_id = await api.client_key()
    async with reading(api, "/events", key=key) as stream:
        async with asyncio.timeout(5):
            while (await stream.response.content.readline()) != b":\n":
                pass
        assert (await api.call("POST", f"/keys/{key_id}/disable")).status == 200
        assert await stream.rest() == []


async def test_a_drain_ends_streams_and_waits(start: Any) -> None:
    async with contextlib.AsyncExitStack() as stack, aiohttp.ClientSession() as session:
        api = await stack.enter_async_context(start("http://127.0.0.1:9"))
        api.session, its_own = session, api.session
        await api.call("PUT", "/tasks/task_x")
        async with reading(api, "/events") as stream, reading(api, "/tasks/task_x/events") as other:
            async with asyncio.timeout(10), asyncio.TaskGroup() as group:
                held = group.create_task(api.call("GET", "/tasks/task_x", headers={"Prefer": "wait=60"}))
                ends = [group.create_task(each.rest()) for each in (stream, other)]
                while api.running.services.feed.readers(None) < 3:
                    await asyncio.sleep(0.01)
                group.create_task(stack.aclose())
            assert [end.result() for end in ends] == [[], []]
            assert held.result().status == 200
        assert its_own.closed


async def test_head_answers_without_streaming(api: Any) -> None:
    reply = await api.call("HEAD", "/events")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/event-stream")


async def test_the_number_of_streams_of_a_key_is_bounded(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "READERS_MAX", 1)
    key, _ = await api.client_key()
    async with reading(api, "/events", key=key):
        async with reading(api, "/events", key=key) as second:
            assert second.response.status == 429
            assert second.response.headers["Retry-After"]
        async with reading(api, "/events") as another_key:
            assert another_key.response.status == 200


# -- Prefer: wait -----------------------------------------------------------------------------------


async def test_an_answer_is_held_until_the_task_has_ended(api: Any) -> None:
    task = await api.upstream.submit()
    await api.call("PUT", f"/tasks/{task}")
    async with asyncio.timeout(20), asyncio.TaskGroup() as group:
        held = group.create_task(api.call("GET", f"/tasks/{task}", headers={"Prefer": "wait=60"}))
        while not api.running.services.feed.readers(None):
            await asyncio.sleep(0.01)
        api.upstream.finish()
    assert held.result().body["relay"]["verdict"] == "ended"
    assert held.result().headers["preference-applied"] == "wait=60"
    assert api.running.services.feed.readers(None) == 0


async def test_a_held_answer_comes_when_the_time_is_over(api: Any) -> None:
    await api.call("PUT", "/tasks/task_x")
    reply = await api.call("GET", "/tasks/task_x", headers={"Prefer": "wait=1"})
    assert (reply.status, reply.body["relay"]["verdict"]) == (200, "running")


async def test_an_ended_task_is_answered_at_once(api: Any) -> None:
    task = await ended_task(api)
    async with asyncio.timeout(10):
        reply = await api.call("GET", f"/tasks/{task}", headers={"Prefer": "wait=60"})
    assert reply.body["status"] == "succeeded"


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        (["wait=10"], 10),
        (["respond-async, wait=5"], 5),
        (["respond-async", "Wait = 5"], 5),
        (['wait="7"; foo=bar'], 7),
        (["wait=600"], 60),
        (["wait=3, wait=9"], 3),
        (["wait=0"], None),
        (["wait=-1"], None),
        (["wait=1.5"], None),
        (["wait"], None),
        (["wait=" + "9" * 500], None),
        (["await=5"], None),
        ([], None),
    ],
)
def test_what_can_be_preferred(lines: list[str], seconds: int | None) -> None:
    headers = CIMultiDict([("Prefer", line) for line in lines])
    assert waiting.asked(test_utils.make_mocked_request("GET", "/", headers=headers)) == seconds
