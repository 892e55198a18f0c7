"""The daemon dies at each named point between a poll and its recorded attempt; the next one goes on.

``dying.py`` is the daemon that dies. Afterwards the ends that were told are reconciled with the tasks
that ended: none is missing, and what came twice carries the same ``webhook-id``.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.acceptance import dying
from tests.fakes import receivers, sandbox

TASKS = 12

ON_THE_WAY = ("after_poll", "after_commit", "after_claim", "while_sending", "after_answer", "after_record")


@dataclass
class Stage:
    """An upstream, a receiver, and daemons that come and go on one database."""

    upstream: sandbox.RunningSandbox
    hook: receivers.Receiver
    directory: Path
    config: dict[str, Any]
    started: list[harness.Process] = field(default_factory=list)

    async def daemon(self, point: str | None = None, nth: int = 1) -> harness.Process:
        """Start one that dies at ``point``, or the product itself."""
        process = harness.Process(self.directory, self.config)
        self.started.append(process)
        if point is not None:
            process.command = ("-m", "tests.acceptance.dying", point, str(nth))
            process.environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
        await process.start()
        return process

    async def died(self, process: harness.Process) -> None:
        """It came by its point."""
        assert await process.wait() == dying.KILLED, process.log.read_text()[-2000:]

    def told(self) -> dict[str, set[str]]:
        """Every ``webhook-id`` under which each task's end was told."""
        found: dict[str, set[str]] = defaultdict(set)
        for request in self.hook.requests:
            body = request.json
            assert isinstance(body, dict)
            if body["type"] == "task.succeeded":
                found[body["data"]["task_id"]].add(request.headers["webhook-id"])
        return found

    async def until_told(self, tasks: list[str]) -> None:
        """Each of ``tasks`` was told, and always under one id."""
        async with asyncio.timeout(60):
            while not set(tasks) <= set(self.told()):
                await asyncio.sleep(0.05)
        assert all(len(ids) == 1 for ids in self.told().values()), self.told()


@pytest.fixture
async def stage(tmp_path: Path) -> AsyncIterator[Stage]:
    async with receivers.serve() as hook, sandbox.running_sandbox(stepped=True) as upstream:
        config = harness.overrides(
            tmp_path,
            upstream,
            {"hook": harness.webhook(hook, schedule=[0, 0.1, 0.2, 0.5, 1, 1, 1, 1])},
            failing={"resume_rate": 1000.0},
        )
        stage = Stage(upstream, hook, tmp_path, config)
        yield stage
        for process in stage.started:
            await process.stop()


async def _submitted(client: harness.Client, count: int) -> list[str]:
    return [await client.submit(key=f"k{number}", notify=["hook"]) for number in range(count)]


@pytest.mark.parametrize("nth", [1, 5])
@pytest.mark.parametrize("point", ON_THE_WAY)
async def test_no_end_is_lost_on_its_way(stage: Stage, point: str, nth: int) -> None:
    if point == "while_sending":
        stage.hook.script = [receivers.Answer(manner=receivers.Manner.HANG)] * nth
    if point == "after_claim":
        # What fails is claimed again; fresh ones are stored leased.
        stage.hook.script = [receivers.Answer(status=500)] * TASKS
    process = await stage.daemon(point, nth)
    async with harness.caller(process.url) as session:
        tasks = await _submitted(harness.Client(process.url, session), TASKS)
        stage.upstream.finish()
        await stage.died(process)
    process = await stage.daemon()
    await stage.until_told(tasks)
    async with harness.caller(process.url) as session:
        client = harness.Client(process.url, session)
        delivered = await client.until_state("delivered")
        async with asyncio.timeout(30):
            while len(delivered) < TASKS:
                delivered = await client.deliveries(state="delivered")


@pytest.mark.parametrize("point", ["before_disabling", "after_disabling"])
async def test_what_is_owed_to_one_that_is_being_disabled_is_held_and_told_later(
    stage: Stage, point: str
) -> None:
    stage.hook.answer = receivers.Answer(status=410)
    process = await stage.daemon(point)
    async with harness.caller(process.url) as session:
        tasks = await _submitted(harness.Client(process.url, session), TASKS)
        stage.upstream.finish()
        await stage.died(process)
    process = await stage.daemon()
    async with harness.caller(process.url) as session:
        client = harness.Client(process.url, session)
        async with asyncio.timeout(30):
            while len(await client.deliveries(state="held")) < TASKS:
                await asyncio.sleep(0.05)
        _, shown = await client.call("GET", "/destinations/hook")
        assert (shown["state"], shown["disabled_reason"]) == ("disabled", "http_410")
        stage.hook.answer = receivers.Answer()
        stage.hook.requests.clear()
        status, resumed = await client.call("POST", "/destinations/hook/resume", json={})
        assert (status, resumed["released"]) == (200, TASKS)
        await stage.until_told(tasks)


@pytest.mark.parametrize("point", ["before_redelivery_batch", "after_redelivery_batch"])
async def test_a_redelivery_goes_on_where_it_was(stage: Stage, point: str) -> None:
    stage.config["destinations"]["hook"]["schedule"] = [0]
    stage.hook.answer = receivers.Answer(status=500)
    process = await stage.daemon(point, 2)
    async with harness.caller(process.url) as session:
        client = harness.Client(process.url, session)
        tasks = await _submitted(client, TASKS)
        stage.upstream.finish()
        async with asyncio.timeout(30):
            while len(await client.deliveries(state="dead")) < TASKS:
                await asyncio.sleep(0.05)
        stage.hook.answer = receivers.Answer()
        stage.hook.requests.clear()
        status, made = await client.call("POST", "/redeliveries", json={"destination": "hook", "rate": 5})
        assert (status, made["count"]) == (201, TASKS)
        await client.call("POST", f"/redeliveries/{made['id']}/run")
        await stage.died(process)
    process = await stage.daemon()
    await stage.until_told(tasks)
    async with harness.caller(process.url) as session:
        client = harness.Client(process.url, session)
        async with asyncio.timeout(30):
            while (await client.call("GET", f"/redeliveries/{made['id']}"))[1]["state"] != "done":
                await asyncio.sleep(0.05)
