"""Polls without news, against a bare loop of the same GETs.

Two kinds of upstream, because the vendor does not say which it is: one that answers 304 to an ETag,
and one that sends the same page again. The figure is the worse of the two.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop
import yarl

from bench import measuring, peers, product
from relay import metrics

TASKS: Final = 256
EACH: Final = 200
"""Requests of each worker in a round: 6,400 in all."""

ROUNDS: Final = 11
TIMEOUT: Final = 20.0


def main() -> None:
    """Print every round and the figure."""
    uvloop.run(_run())


async def _run() -> None:
    ratios = [await _variant(role) for role in (peers.NOT_MODIFIED, peers.UNCHANGED)]
    measuring.conclude("polls", min(ratios))


async def _variant(role: str) -> float:
    async with peers.running(role) as upstream:
        return await measuring.alternate(
            f"polls ({role})",
            rounds=ROUNDS,
            bare=lambda: _bare(upstream, role),
            product=lambda: _product(upstream),
        )


async def _bare(upstream: peers.Peer, role: str) -> float:
    headers = {"If-None-Match": peers.ETAG} if role == peers.NOT_MODIFIED else None
    urls = [
        yarl.URL(f"{upstream.url}/api/v1/tasks/task_{number}/events", encoded=True) for number in range(TASKS)
    ]
    async with product.session(product.HEADERS) as session:

        async def work(requests: int) -> None:
            for number in range(requests):
                url = urls[number % TASKS]
                async with session.get(url, headers=headers, allow_redirects=False) as response:
                    await response.read()

        await _together(work, 4)  # connections are open then, as the product's are
        stopwatch = measuring.Stopwatch()
        await _together(work, EACH)
        return stopwatch.per(EACH * product.CONCURRENCY)


async def _together(work: Callable[[int], Awaitable[None]], requests: int) -> None:
    await asyncio.gather(*(work(requests) for _ in range(product.CONCURRENCY)))


async def _product(upstream: peers.Peer) -> float:
    async with product.running(upstream) as process:
        before = product.count(metrics.POLLS, outcome="no_news")
        await product.register(process, [f"task_{number}" for number in range(TASKS)])
        # Everybody was asked, and has a validator.
        await product.until(metrics.POLLS, before + 4 * TASKS, timeout=TIMEOUT, outcome="no_news")
        stopwatch = measuring.Stopwatch()
        began = product.count(metrics.POLLS, outcome="no_news")
        target = began + EACH * product.CONCURRENCY
        ended = await product.until(metrics.POLLS, target, timeout=TIMEOUT, outcome="no_news")
        return stopwatch.per(ended - began)
