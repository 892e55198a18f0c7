"""Each fault that the sandbox can be asked for, through a whole daemon: told once, and rightly.

The sandbox counts the tasks that it made, so a create sent twice shows.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks

from tests import harness
from tests.fakes import receivers, sandbox

SHAPES = ["json", "sse", "ndjson", "absent"]
SEED = 29
"""Makes a quick first task: a quarter of the median."""

UPSTREAM = {"confirm_timeout": 1.0, "poll_interval_max": 0.3, "request_timeout": 10.0}


@dataclass
class House:
    """Receiver, sandbox and daemon."""

    hook: receivers.Receiver
    upstream: sandbox.RunningSandbox
    relay: harness.Relay

    async def told(self, count: int = 1) -> list[dict[str, Any]]:
        """The verified bodies, as soon as there are ``count``."""
        verifier = standardwebhooks.Webhook(harness.SECRET)
        requests = await self.hook.wait_for(count, timeout=30)
        return [verifier.verify(request.body, request.headers) for request in requests]

    async def told_once(self, task: str) -> dict[str, Any]:
        """The only notification of a task that relay has stopped asking about."""
        await self.told()
        await self.relay.until_verdict(task, "ended")
        await self.relay.until_state("delivered")
        [delivery] = await self.relay.deliveries()
        [body] = await self.told()
        assert delivery["type"] == body["type"]
        assert body["data"]["task_id"] == task
        assert self.upstream.created == 1
        return body


@contextlib.asynccontextmanager
async def house(
    directory: Path, *, speed: float = 400, upstream_options: dict[str, Any] | None = None, **options: Any
) -> AsyncIterator[House]:
    async with (
        receivers.serve() as hook,
        sandbox.running_sandbox(speed=speed, seed=SEED, **options) as upstream,
        harness.running(
            directory,
            upstream,
            {"pipeline": harness.webhook(hook)},
            upstream_options=UPSTREAM | (upstream_options or {}),
        ) as relay,
    ):
        yield House(hook, upstream, relay)


async def until_asked_again(upstream: sandbox.RunningSandbox, times: int = 3) -> None:
    """Return once the upstream was asked so often more."""
    before = len(upstream.requests)
    async with asyncio.timeout(30):
        while len(upstream.requests) < before + times:
            await asyncio.sleep(0.02)


@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("[fail]", "task.failed"),
        ("[cancel]", "task.cancelled"),
        ("[moderated]", "task.failed"),
        ("[429]", "task.succeeded"),
        ("[5xx]", "task.succeeded"),
        ("[drop-reply]", "task.succeeded"),
        ("[expired-url]", "task.succeeded"),
        ("[429] [5xx] [drop-reply] [duplicate-events] [fail]", "task.failed"),
    ],
)
@pytest.mark.parametrize("key", ["a-key-of-the-caller", None])
async def test_one_task_and_its_end_told_once(tmp_path: Path, word: str, kind: str, key: str | None) -> None:
    async with house(tmp_path) as at:
        task = await at.relay.submit(notify=["pipeline"], prompt=f"a cat {word}", key=key)
        told = await at.told_once(task)
        assert told["type"] == kind
        if kind == "task.succeeded":
            assert told["data"]["cost_actual"] == 0.3294
            assert told["data"]["output"]["videos"][0]["url"].startswith(at.upstream.url)
        else:
            assert (told["data"]["cost_actual"], told["data"]["output"]) == (0, None)
        if "moderated" in word:
            assert told["data"]["error"]["code"] == "content_moderated"


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("end", ["", "[fail]"])
@pytest.mark.parametrize("word", ["[duplicate-events]", "[out-of-order]", "[reused-ids]"])
async def test_disorderly_events_are_one_end(tmp_path: Path, word: str, end: str, shape: str) -> None:
    async with house(tmp_path, events=shape) as at:
        task = await at.relay.submit(notify=["pipeline"], prompt=f"{word} {end}")
        told = await at.told_once(task)
        assert told["type"] == ("task.failed" if end else "task.succeeded")
        assert bool(told["data"]["output"]) == (not end)
        assert (await at.relay.task(task))["status"] == told["data"]["status"]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_success_is_told_with_the_output_that_came_late(tmp_path: Path, shape: str) -> None:
    # A second and a half between the status and the output: several looks.
    options = {"poll_interval_max": 0.2, "confirm_timeout": 30.0}
    async with house(tmp_path, events=shape, speed=20, upstream_options=options) as at:
        task = await at.relay.submit(notify=["pipeline"], prompt="[late-output]")
        told = await at.told_once(task)
        assert told["type"] == "task.succeeded"
        assert told["data"]["output"]["videos"][0]["url"].startswith(at.upstream.url)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_success_without_output_is_told_as_what_it_is(tmp_path: Path, shape: str) -> None:
    async with house(tmp_path, events=shape) as at:
        task = await at.relay.submit(notify=["pipeline"], prompt="[no-output]")
        told = await at.told_once(task)
        assert told["type"] == "task.succeeded"
        assert (told["data"]["output"], told["data"]["cost_actual"]) == (None, 0.3294)


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_task_that_never_ends_is_told_as_stalled_once_and_watched_on(
    tmp_path: Path, shape: str
) -> None:
    async with house(tmp_path, events=shape, upstream_options={"stall_timeout": 1.0}) as at:
        task = await at.relay.submit(notify=["pipeline"], prompt="[stall]")
        [told] = await at.told()
        assert (told["type"], told["data"]["task_id"]) == ("task.stalled", task)
        assert (told["data"]["status"], told["data"]["verdict"]) == ("processing", "stalled")
        await until_asked_again(at.upstream)
        assert len(await at.relay.deliveries()) == len(at.hook.requests) == 1
        assert (await at.relay.task(task))["relay"]["verdict"] == "stalled"


async def test_a_reply_dropped_on_fifty_copies_at_once_is_one_task(tmp_path: Path) -> None:
    async with house(tmp_path) as at:
        made = await asyncio.gather(
            *(at.relay.submit(notify=["pipeline"], prompt="[drop-reply]", key="k") for _ in range(50))
        )
        assert len(set(made)) == 1
        assert (await at.told_once(made[0]))["type"] == "task.succeeded"


async def test_a_disabled_key_is_told_to_the_caller_and_makes_nothing(tmp_path: Path) -> None:
    async with house(tmp_path, disabled_keys=("mv_test_sandbox",)) as at:
        body = {"model": sandbox.MODEL, "input": {"prompt": "x"}}
        status, problem = await at.relay.call("POST", "/tasks", json=body)
        assert (status, at.upstream.created) == (502, 0)
        assert "refused the API key (403)" in problem["detail"]
