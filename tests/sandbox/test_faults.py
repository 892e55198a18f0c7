"""Faults on demand, over real HTTP: by words in the prompt and by option."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import aiohttp
import multidict
import pytest

from relay.sandbox import rules
from tests.fakes import sandbox as fake

SHAPES = ["json", "sse", "ndjson"]
TASKS = "/api/v1/tasks"


async def create(
    sandbox: fake.RunningSandbox, prompt: str, *, key: str | None = None, **task_input: object
) -> tuple[int, dict[str, Any], multidict.CIMultiDictProxy[str]]:
    headers = sandbox.headers | ({"Idempotency-Key": key} if key else {})
    body = {"model": fake.MODEL, "input": {"prompt": prompt, **task_input}}
    async with sandbox.session.post(sandbox.url + TASKS, json=body, headers=headers) as reply:
        return reply.status, await reply.json(content_type=None), reply.headers


async def look(
    sandbox: fake.RunningSandbox, task_id: str, route: str = "", **headers: str
) -> tuple[int, bytes, multidict.CIMultiDictProxy[str]]:
    url = f"{sandbox.url}{TASKS}/{task_id}{route}"
    async with sandbox.session.get(url, headers=sandbox.headers | headers) as reply:
        return reply.status, await reply.read(), reply.headers


async def events(sandbox: fake.RunningSandbox, task_id: str, query: str = "") -> list[dict[str, Any]]:
    """The events as listed, whatever the shape."""
    status, body, headers = await look(sandbox, task_id, f"/events{query}")
    if status == 204:
        return []
    assert status == 200
    if headers["Content-Type"].startswith("application/json"):
        listed: list[dict[str, Any]] = json.loads(body)["events"]
        return listed
    if headers["Content-Type"].startswith("application/x-ndjson"):
        return [json.loads(line) for line in body.splitlines()]
    blocks = [block.splitlines() for block in body.decode().split("\n\n") if block]
    found = [json.loads(block[2].removeprefix("data: ")) for block in blocks]
    assert [block[0] for block in blocks] == [f"id: {event['id']}" for event in found]
    return found


# Creates and looks


@pytest.mark.parametrize("key", ["k", None])
@pytest.mark.parametrize(("word", "refusal"), [("[429]", 429), ("[5xx]", 503)])
async def test_the_first_create_and_the_first_look_are_refused(
    word: str, refusal: int, key: str | None
) -> None:
    async with fake.running_sandbox(stepped=True) as sandbox:
        status, problem, headers = await create(sandbox, word, key=key)
        assert (status, problem["status"], sandbox.created) == (refusal, refusal, 0)
        assert headers.get("Retry-After") == ("1" if refusal == 429 else None)
        assert headers["Content-Type"].startswith("application/problem+json")
        status, created, _ = await create(sandbox, word, key=key)
        assert status == 201
        statuses = [
            (await look(sandbox, created["task_id"], route))[0] for route in ("/events", "", "/events")
        ]
        assert statuses == [refusal, 200, 200]
        status, again, _ = await create(sandbox, word, key=key)
        if key:
            assert (status, again) == (200, created)
        else:  # another create, not a repetition
            assert status == refusal
        assert sandbox.created == 1


async def test_refusals_come_one_after_the_other() -> None:
    async with fake.running_sandbox(stepped=True) as sandbox:
        answers = [(await create(sandbox, "[5xx] [429]", key="k"))[0] for _ in range(4)]
        assert answers == [429, 503, 201, 200]


async def test_a_refused_create_leaves_its_key_free_for_another_input() -> None:
    async with fake.running_sandbox(stepped=True) as sandbox:
        assert (await create(sandbox, "[429]", key="k"))[0] == 429
        assert (await create(sandbox, "another", key="k"))[0] == 201


async def test_a_dropped_reply_has_made_its_task_and_the_key_gets_the_answer() -> None:
    async with fake.running_sandbox(stepped=True) as sandbox:
        for count, key in enumerate(("a", "b"), start=1):
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await create(sandbox, "[drop-reply]", key=key)
            assert sandbox.created == count
            status, created, headers = await create(sandbox, "[drop-reply]", key=key)
            assert (status, headers["Idempotent-Replayed"], sandbox.created) == (200, "true", count)
            assert (await sandbox.task(created["task_id"]))["status"] == "queued"


async def test_a_dropped_reply_without_a_key_makes_a_second_task() -> None:
    async with fake.running_sandbox(stepped=True) as sandbox:
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await create(sandbox, "[drop-reply]")
        assert (await create(sandbox, "[drop-reply]"))[0] == 201
        assert sandbox.created == 2


# Ends and outputs


@pytest.mark.parametrize(
    ("word", "end", "code"),
    [
        ("[fail]", "failed", "generation_failed"),
        ("[moderated]", "failed", "content_moderated"),
        ("[cancel]", "cancelled", None),
    ],
)
@pytest.mark.parametrize("shape", SHAPES)
async def test_ends_other_than_success_cost_nothing(
    shape: str, word: str, end: str, code: str | None
) -> None:
    async with fake.running_sandbox(stepped=True, events=shape) as sandbox:
        task_id = await sandbox.submit(prompt=f"a {word} b")
        sandbox.finish()
        body = await sandbox.task(task_id)
        assert (body["status"], body["cost_actual"], body["output"]) == (end, 0, None)
        assert body.get("error", {}).get("code") == code
        assert (await events(sandbox, task_id))[-1]["data"] == body


@pytest.mark.parametrize("shape", ["json", "ndjson"])
async def test_a_stalled_task_never_ends(shape: str) -> None:
    async with fake.running_sandbox(stepped=True, events=shape) as sandbox:
        task_id = await sandbox.submit(prompt="[stall]")
        for _ in range(3):
            sandbox.finish()
            body = await sandbox.task(task_id)
            assert (body["status"], body["cost_actual"]) == ("processing", None)
        assert [event["status"] for event in await events(sandbox, task_id)] == ["queued", "processing"]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_late_output_appears_at_the_task_and_not_in_the_events(shape: str) -> None:
    async with fake.running_sandbox(stepped=True, events=shape) as sandbox:
        task_id = await sandbox.submit(prompt="[late-output]")
        while (early := await sandbox.task(task_id))["status"] != "succeeded":
            sandbox.advance(1)
        assert (early["output"], early["cost_actual"]) == (None, 0.3294)
        etag = (await look(sandbox, task_id, "/events"))[2].get("ETag")
        sandbox.advance(rules.LATE_SECONDS)
        late = await sandbox.task(task_id)
        url = late["output"]["videos"][0]["url"]
        assert late == early | {"output": {"videos": [{"url": url}]}}
        async with sandbox.session.get(url) as reply:
            assert reply.status == 200
        assert (await events(sandbox, task_id))[-1]["data"] == early
        if etag:
            status, body, _ = await look(sandbox, task_id, "/events", **{"If-None-Match": etag})
            assert status == 200
            if shape == "json":
                assert json.loads(body)["output"] == late["output"]


@pytest.mark.parametrize("shape", SHAPES)
async def test_no_output_ever(shape: str) -> None:
    async with fake.running_sandbox(stepped=True, events=shape) as sandbox:
        task_id = await sandbox.submit(prompt="[no-output]")
        for _ in range(2):
            sandbox.finish()
            body = await sandbox.task(task_id)
            assert (body["status"], body["output"], body["cost_actual"]) == ("succeeded", None, 0.3294)
            assert (await events(sandbox, task_id))[-1]["data"] == body
        async with sandbox.session.get(f"{sandbox.url}/outputs/{task_id}/0.mp4") as reply:
            assert reply.status == 404


async def test_links_that_expire() -> None:
    async with fake.running_sandbox(stepped=True, speed=10) as sandbox:
        task_id = await sandbox.submit(prompt="[expired-url]")
        while (body := await sandbox.task(task_id))["status"] != "succeeded":
            sandbox.advance(0.1)
        url = body["output"]["videos"][0]["url"]
        for seconds, expected in [(0, 200), (rules.LINK_SECONDS / 10, 410)]:
            sandbox.advance(seconds)
            async with sandbox.session.get(url) as reply:
                assert reply.status == expected
        assert await sandbox.task(task_id) == body  # the task still names it


# Events


@pytest.mark.parametrize("shape", SHAPES)
async def test_events_twice(shape: str) -> None:
    async with fake.running_sandbox(stepped=True, events=shape) as sandbox:
        task_id = await sandbox.submit(prompt="[duplicate-events]")
        sandbox.finish()
        listed = await events(sandbox, task_id)
        assert [event["status"] for event in listed] == [
            *("queued", "queued", "processing", "processing", "succeeded", "succeeded")
        ]
        assert listed[0::2] == listed[1::2]
        assert await events(sandbox, task_id, f"?cursor={listed[1]['id']}") == listed[2:]


@pytest.mark.parametrize("shape", SHAPES)
async def test_events_out_of_order(shape: str) -> None:
    async with fake.running_sandbox(stepped=True, events=shape) as sandbox:
        task_id = await sandbox.submit(prompt="[out-of-order]")
        while (await sandbox.task(task_id))["status"] != "processing":
            sandbox.advance(1)
        if shape != "sse":  # a stream would wait for the end
            assert [event["status"] for event in await events(sandbox, task_id)] == ["queued"]
        sandbox.finish()
        listed = await events(sandbox, task_id)
        assert [event["status"] for event in listed] == ["queued", "succeeded", "processing"]
        assert [event["timestamp"] for event in listed] != sorted(event["timestamp"] for event in listed)
        for count, event in enumerate(listed, start=1):
            assert await events(sandbox, task_id, f"?cursor={event['id']}") == listed[count:]


async def test_nothing_is_out_of_order_in_a_task_that_never_ends() -> None:
    async with fake.running_sandbox(stepped=True) as sandbox:
        task_id = await sandbox.submit(prompt="[out-of-order] [stall]")
        sandbox.finish()
        assert [event["status"] for event in await events(sandbox, task_id)] == ["queued", "processing"]


@pytest.mark.parametrize("shape", SHAPES)
async def test_ids_used_again(shape: str) -> None:
    async with fake.running_sandbox(stepped=True, events=shape) as sandbox:
        task_id = await sandbox.submit(prompt="[reused-ids]")
        sandbox.finish()
        listed = await events(sandbox, task_id)
        queued, processing, succeeded = (event["id"] for event in listed)
        assert queued == succeeded != processing
        assert listed[0] != listed[2]
        # An id that means two events goes on behind the first: nothing is ever passed over.
        assert await events(sandbox, task_id, f"?cursor={queued}") == listed[1:]
        assert await events(sandbox, task_id, f"?cursor={processing}") == listed[2:]


# By option


async def test_an_option_applies_to_every_task() -> None:
    async with fake.running_sandbox(stepped=True, faults=("429", "fail", "duplicate-events")) as sandbox:
        for number in range(3):
            assert (await create(sandbox, "x", key=str(number)))[0] == 429
            status, created, _ = await create(sandbox, "x", key=str(number))
            assert status == 201
            sandbox.finish()
            assert (await look(sandbox, created["task_id"]))[0] == 429
            assert (await sandbox.task(created["task_id"]))["status"] == "failed"
            assert len(await events(sandbox, created["task_id"])) == 6


async def test_the_word_in_the_prompt_goes_before_the_option() -> None:
    async with fake.running_sandbox(stepped=True, faults=("stall",)) as sandbox:
        cancelled, stalled = await sandbox.submit(prompt="[cancel]"), await sandbox.submit()
        sandbox.finish()
        assert (await sandbox.task(cancelled))["status"] == "cancelled"
        assert (await sandbox.task(stalled))["status"] == "processing"


async def test_an_option_applies_to_a_share_of_tasks_and_the_seed_repeats_which() -> None:
    async def story(seed: int) -> list[str]:
        async with fake.running_sandbox(stepped=True, seed=seed, faults=("fail:0.3",)) as sandbox:
            made = [await sandbox.submit() for _ in range(60)]
            sandbox.finish()
            return [(await sandbox.task(task_id))["status"] for task_id in made]

    told = await story(1)
    assert told == await story(1)
    assert told != await story(2)
    assert set(Counter(told)) == {"failed", "succeeded"}
    assert 5 < told.count("failed") < 35
