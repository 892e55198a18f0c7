"""A destination added at the very moment the task ends is told, whoever commits first.

A commit of something else is held up, so that the end and the registration are both made from the
same version of the task and wait for the next commit together, in the order that the test chose.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from relay.store import base as store_base
from tests import harness
from tests.fakes import receivers, sandbox


async def _waiting(relay: harness.Relay, count: int) -> None:
    """Return once ``count`` writes wait for the next commit."""
    writes = relay.running.services.intake._recorder._writes
    async with asyncio.timeout(10):
        while len(writes) < count:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("first_in_line", ["the end", "the registration"])
async def test_a_destination_added_while_the_task_ends_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first_in_line: str
) -> None:
    async with (
        receivers.serve() as early,
        receivers.serve() as late,
        sandbox.running_sandbox(stepped=True) as upstream,
        harness.running(
            tmp_path, upstream, {"early": harness.webhook(early), "late": harness.webhook(late)}
        ) as relay,
    ):
        task = await relay.submit(notify=["early"])
        writes = relay.running.services.intake._recorder._writes
        commit, held_up, go_on = writes._write, asyncio.Event(), asyncio.Event()
        batches: list[list[bool]] = []

        async def held(batch: Sequence[store_base.TaskWrite]) -> Any:
            held_up.set()
            await go_on.wait()
            results = await commit(batch)
            batches.append([one is not None for one in results])
            return results

        monkeypatch.setattr(writes, "_write", held)
        blocker = asyncio.create_task(relay.watch("some-other-task"))
        await held_up.wait()
        if first_in_line == "the end":
            upstream.finish()
            await _waiting(relay, 1)
            registering = asyncio.create_task(relay.watch(task, notify=["late"]))
        else:
            registering = asyncio.create_task(relay.watch(task, notify=["late"]))
            await _waiting(relay, 1)
            upstream.finish()
        await _waiting(relay, 2)
        go_on.set()
        await asyncio.gather(blocker, registering)
        await early.wait_for(1)
        await late.wait_for(1)
        await relay.until_verdict(task, "ended")
        assert [True, False] in batches, "both must have been made from the same version"
        assert len(early.requests) == len(late.requests) == 1
