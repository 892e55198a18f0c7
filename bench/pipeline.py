"""A task's whole way, against its GET and POST alone.

Poll with news, record, signed delivery, record: every task has ended upstream, and its page carries
the whole end, so each is polled once and owes one delivery. Tasks are registered while the upstream
does not answer yet, which is not measured; the time ends when the last delivery is recorded.

Measured twice: with enough destinations that a fresh delivery usually finds a seat and is stored
already leased (the figure), and with a single one, where most have to be claimed.
"""

from __future__ import annotations

import asyncio
from typing import Final

import uvloop

from bench import measuring, peers, product
from relay import metrics

TASKS: Final = 3_000
ROUNDS: Final = 5
DESTINATIONS: Final = 8
ROUNDS_ALONE: Final = 3
TIMEOUT: Final = 30.0

BODY: Final = b"x" * 500
"""As long as the product's."""

HOOK_HEADERS: Final = {
    "content-type": "application/json",
    "user-agent": product.HEADERS["User-Agent"],
    "accept-encoding": "identity",
    "webhook-id": "msg_" + "a" * 24,
    "webhook-timestamp": "1769860800",
    "webhook-signature": "v1," + "a" * 44,
}
"""What the product sends with each delivery."""


def main() -> None:
    """Print every round and the figure."""
    uvloop.run(_run())


async def _run() -> None:
    await measuring.alternate(
        "pipeline (1 destination)", rounds=ROUNDS_ALONE, bare=_bare, product=lambda: _product(1)
    )
    ratio = await measuring.alternate(
        f"pipeline ({DESTINATIONS} destinations)",
        rounds=ROUNDS,
        bare=_bare,
        product=lambda: _product(DESTINATIONS),
    )
    measuring.conclude("pipeline", ratio)


async def _bare() -> float:
    async with (
        peers.running(peers.ENDED) as upstream,
        peers.running(peers.RECEIVER) as receiver,
        product.session(product.HEADERS) as asking,
        product.session(HOOK_HEADERS) as telling,
        asyncio.TaskGroup() as workers,
    ):
        hook = f"{receiver.url}/hooks/render"
        task_ids = iter(range(TASKS))

        async def work() -> None:
            for task_id in task_ids:
                url = f"{upstream.url}/api/v1/tasks/task_{task_id}/events"
                async with asking.get(url, allow_redirects=False) as response:
                    await response.read()
                async with telling.post(hook, data=BODY, allow_redirects=False) as response:
                    await response.read()

        tasks = [workers.create_task(work()) for _ in range(product.CONCURRENCY)]
        await asyncio.sleep(0.1)  # they are connected and wait, as the product is
        stopwatch = measuring.Stopwatch()
        await upstream.start()
        await asyncio.wait(tasks)
        return stopwatch.per(TASKS)


async def _product(destinations: int) -> float:
    async with (
        peers.running(peers.ENDED) as upstream,
        peers.running(peers.RECEIVER) as receiver,
    ):
        hooks = {f"pipeline_{number}": f"{receiver.url}/hooks/render" for number in range(destinations)}
        async with product.running(upstream, hooks) as process:
            before = product.count(metrics.ATTEMPTS, outcome="delivered")
            task_ids = [f"task_{number}" for number in range(TASKS)]
            await product.register(process, task_ids, notify=[*hooks])
            stopwatch = measuring.Stopwatch()
            await upstream.start()
            await product.until(metrics.ATTEMPTS, before + TASKS, timeout=TIMEOUT, outcome="delivered")
            used = stopwatch.per(TASKS)
            await _check(process, receiver)
            return used


async def _check(process: product.Running, receiver: peers.Peer) -> None:
    """Nothing was skipped: everything is delivered, each once."""
    left = await process.services.store.count_deliveries()
    taken = await receiver.taken()
    if left or taken != TASKS:
        raise RuntimeError(f"{taken} of {TASKS} deliveries were received; not delivered: {left}")
