"""Telling at volume: how soon, how many, at what cost in CPU and disk.

The ratio is the CPU of a bare aiohttp loop per POST over the product's per delivery, in which storing
the task's end, signing, sending and recording the attempt are included. Where Debian's
``prometheus-alertmanager`` is installed it sends as many webhooks, and its CPU is printed beside.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from dataclasses import dataclass
from typing import Final

import uvloop

from bench import alertmanager, measuring, peers, pipeline, product, telling
from relay import metrics

DESTINATIONS: Final = 8
RATE: Final = 200.0
SECONDS: Final = 10.0
SUSTAINED_SECONDS: Final = 60.0
OUTSTANDING: Final = 64
"""Ends under way at once while the rate is what the daemon sustains: as many as there are seats."""

BARE: Final = 10_000
GROWN: Final = 3_000
WEBHOOKS: Final = 5_000
TIMEOUT: Final = 30.0

P95_GOAL: Final = 0.10
RATE_GOAL: Final = 500.0
GROWTH_GOAL: Final = 3_000.0


@dataclass(frozen=True, slots=True)
class _Sustained:
    """Deliveries per second, and CPU seconds per delivery."""

    rate: float
    cpu: float


def main() -> None:
    """Print every figure."""
    uvloop.run(_run())


async def _run() -> None:
    lags = await _latency()
    p50, p95, worst = (telling.quantile(lags, share) * 1e3 for share in (0.5, 0.95, 1.0))
    print(
        f"deliveries at {RATE:.0f}/s: commit to receiver p50 {p50:.1f} ms, p95 {p95:.1f} ms, worst"
        f" {worst:.1f} ms{_goal(p95 <= P95_GOAL * 1e3, f'p95 at most {P95_GOAL * 1e3:.0f} ms')}",
        flush=True,
    )
    bare = await _bare()
    sustained = await _sustained()
    print(
        f"deliveries sustained for {SUSTAINED_SECONDS:.0f} s: {sustained.rate:.0f}/s, none lost"
        f"{_goal(sustained.rate >= RATE_GOAL, f'at least {RATE_GOAL:.0f}/s')}",
        flush=True,
    )
    growth = await _growth()
    print(
        f"deliveries on disk: {growth:.0f} bytes per event with its task and delivery"
        f"{_goal(growth <= GROWTH_GOAL, f'at most {GROWTH_GOAL:.0f}')}",
        flush=True,
    )
    print(f"deliveries CPU: bare {bare * 1e6:.0f} µs, product {sustained.cpu * 1e6:.0f} µs", flush=True)
    if (binary := shutil.which(alertmanager.NAME)) is None:
        print(f"deliveries CPU of Alertmanager: {alertmanager.NAME} is not installed", flush=True)
    else:
        async with peers.running(peers.RECEIVER) as receiver:
            cpu = await alertmanager.cpu_per_webhook(binary, receiver, webhooks=WEBHOOKS)
        print(f"deliveries CPU of Alertmanager: {cpu * 1e6:.0f} µs per webhook", flush=True)
    measuring.conclude("deliveries", bare / sustained.cpu)


def _goal(reached: bool, goal: str) -> str:
    return f" (goal: {goal}{'' if reached else ', NOT reached'})"


@asynccontextmanager
async def _telling(title: str) -> AsyncIterator[tuple[telling.Teller, peers.Peer, product.Running]]:
    async with (
        peers.running(peers.NOT_MODIFIED) as upstream,
        peers.running(peers.RECORDER) as receiver,
    ):
        hooks = {f"{title}_{number}": f"{receiver.url}/hooks/{number}" for number in range(DESTINATIONS)}
        async with product.running(upstream, hooks) as process:
            await telling.Teller(process, [*hooks], title="warm").at(RATE, seconds=1.0)
            await telling.settled(process, timeout=TIMEOUT)
            yield telling.Teller(process, [*hooks], title=title), receiver, process


async def _latency() -> list[float]:
    async with _telling("latency") as (told, receiver, _):
        await told.at(RATE, seconds=SECONDS)
        return told.lags(await telling.arrived(receiver, told, timeout=TIMEOUT))


async def _sustained() -> _Sustained:
    async with _telling("sustained") as (told, receiver, process):
        stopwatch = measuring.Stopwatch()
        before = product.count(metrics.ATTEMPTS, outcome="delivered")
        began = time.monotonic()

        async def keep_ending() -> None:
            while time.monotonic() - began < SUSTAINED_SECONDS:
                await told.end_one()
                # As many are ended as are told: what is sustained is no queue that grows.
                while len(told.committed) - _told_since(before) > OUTSTANDING:  # noqa: ASYNC110 - a counter
                    await asyncio.sleep(product.LOOK_EVERY)

        async with asyncio.TaskGroup() as group:
            for _ in range(OUTSTANDING):
                group.create_task(keep_ending())
        await telling.settled(process, timeout=TIMEOUT)
        elapsed = time.monotonic() - began
        cpu = stopwatch.per(len(told.committed))
        told.lags(await telling.arrived(receiver, told, timeout=TIMEOUT))
        return _Sustained(len(told.committed) / elapsed, cpu)


def _told_since(before: int) -> int:
    return product.count(metrics.ATTEMPTS, outcome="delivered") - before


async def _bare() -> float:
    """CPU seconds per POST of a loop that does nothing else."""
    async with (
        peers.running(peers.RECEIVER) as receiver,
        product.session(pipeline.HOOK_HEADERS) as session,
    ):
        numbers = iter(range(BARE))
        stopwatch = measuring.Stopwatch()

        async def work() -> None:
            for _ in numbers:
                url = f"{receiver.url}/hooks/render"
                async with session.post(url, data=pipeline.BODY, allow_redirects=False) as response:
                    await response.read()

        async with asyncio.TaskGroup() as group:
            for _ in range(product.CONCURRENCY):
                group.create_task(work())
        return stopwatch.per(BARE)


async def _growth() -> float:
    """Bytes by which the database grows for a task that is registered, polled, ends and is told."""
    async with (
        peers.running(peers.ENDED) as upstream,
        peers.running(peers.RECEIVER) as receiver,
    ):
        hooks = {f"growth_{number}": f"{receiver.url}/hooks/{number}" for number in range(DESTINATIONS)}
        async with product.running(upstream, hooks) as process:
            path = process.services.settings.store.url.removeprefix("sqlite:///")
            empty = _size(path)
            before = product.count(metrics.ATTEMPTS, outcome="delivered")
            await product.register(process, [f"task_{number}" for number in range(GROWN)], notify=[*hooks])
            await upstream.start()
            await product.until(metrics.ATTEMPTS, before + GROWN, timeout=TIMEOUT, outcome="delivered")
            return (_size(path) - empty) / GROWN


def _size(path: str) -> int:
    """Bytes of the database, what is still in its log included."""
    with closing(sqlite3.connect(path)) as connection:
        [[pages]] = connection.execute("PRAGMA page_count").fetchall()
        [[size]] = connection.execute("PRAGMA page_size").fetchall()
        return int(pages) * int(size)
