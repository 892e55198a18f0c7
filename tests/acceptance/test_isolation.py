"""Receivers that hang or trickle hurt nobody else, and do not keep the daemon from stopping.

Shown by order, not by the clock: the healthy receiver is told while those that trickle still hold
the sends that they were given, which takes a whole time limit (10 s) each.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

import pytest

from tests import harness
from tests.fakes import receivers, sandbox

TRICKLERS = 6


@pytest.mark.timeout(180)
async def test_a_healthy_chat_receiver_beside_six_that_trickle(tmp_path: Path) -> None:
    async with contextlib.AsyncExitStack() as stack:
        destinations = {}
        for number in range(TRICKLERS):
            trickler = await stack.enter_async_context(receivers.serve())
            trickler.answer = receivers.Answer(manner=receivers.Manner.TRICKLE_HEAD)
            destinations[f"trickler{number}"] = {"url": f"ntfy://127.0.0.1:{trickler.port}/t"}
        healthy = await stack.enter_async_context(receivers.serve())
        healthy.answer = receivers.Answer(status=200, body=b"{}")
        destinations["healthy"] = {"url": f"ntfy://127.0.0.1:{healthy.port}/t"}
        upstream = await stack.enter_async_context(sandbox.running_sandbox(stepped=True))
        process = harness.Process(tmp_path, harness.overrides(tmp_path, upstream, destinations))
        stack.push_async_callback(process.stop)
        await process.start()
        session = await stack.enter_async_context(harness.caller(process.url))
        relay = harness.Client(process.url, session)

        everybody = sorted(destinations)
        first = await relay.submit(notify=everybody)
        upstream.finish()
        await healthy.wait_for(1, timeout=60)
        assert await _attempts(relay, first) == 0

        # Now they are known to hang: every one has used up a time limit.
        async with asyncio.timeout(60):
            while await _attempts(relay, first) < TRICKLERS:
                await asyncio.sleep(0.1)
        second = await relay.submit(notify=everybody)
        upstream.finish()
        await healthy.wait_for(2, timeout=60)
        assert await _attempts(relay, second) == 0

        process.signal(signal.SIGTERM)
        assert await process.wait(timeout=60) == 0
        assert "drained" in process.log.read_text()
        await process.until_gone()


async def _attempts(relay: harness.Client, task: str) -> int:
    """Attempts that ended, of the deliveries of ``task`` to receivers that trickle."""
    deliveries = await relay.deliveries()
    return sum(
        one["attempts_made"]
        for one in deliveries
        if one["task_id"] == task and one["destination"] != "healthy"
    )


async def test_what_a_drain_cuts_is_sent_after_the_restart_and_was_not_counted(tmp_path: Path) -> None:
    async with receivers.serve() as hook, sandbox.running_sandbox(speed=1000) as upstream:
        destinations = {"pipeline": harness.webhook(hook)}
        server = {"port": 0, "drain_timeout": 0.2}
        hook.answer = receivers.Answer(manner=receivers.Manner.HANG)
        async with harness.running(tmp_path, upstream, destinations, server=server) as relay:
            await relay.submit(notify=["pipeline"])
            await hook.wait_for(1)
        hook.answer = receivers.Answer()
        async with harness.running(tmp_path, upstream, destinations, server=server) as relay:
            [_, again] = await hook.wait_for(2)
            [delivery] = await relay.until_state("delivered")
            assert delivery["attempts_made"] == 1
            assert delivery["id"] == again.headers["webhook-id"]


async def test_a_second_signal_ends_the_process_at_once(tmp_path: Path) -> None:
    async with receivers.serve() as hook, sandbox.running_sandbox(speed=1000) as upstream:
        hook.answer = receivers.Answer(manner=receivers.Manner.HANG)
        config = harness.overrides(tmp_path, upstream, {"pipeline": harness.webhook(hook)})
        config["server"]["drain_timeout"] = 60.0
        process = harness.Process(tmp_path, config)
        try:
            await process.start()
            async with harness.caller(process.url) as session:
                await harness.Client(process.url, session).submit(notify=["pipeline"])
            await hook.wait_for(1)
            process.signal(signal.SIGTERM)
            async with asyncio.timeout(10):
                while "stopping" not in process.log.read_text():
                    await asyncio.sleep(0.02)
            process.signal(signal.SIGTERM)
            assert await process.wait(timeout=10) == 1
        finally:
            await process.stop()
