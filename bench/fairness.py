"""What seventeen healthy destinations notice of three that are not.

Of 20 destinations one hangs, one trickles its answers, and one answers 500 to everything while it is
owed 10,000 deliveries. The figure is the p95 from commit to receiver of the other 17 while all that goes
on, over the same without it, measured one after the other on the same daemon; the median of the rounds.
"""

from __future__ import annotations

import statistics
from typing import Final

import uvloop

from bench import measuring, peers, product, telling
from relay import metrics
from relay.domain import ids, model

HEALTHY: Final = 17
OWED: Final = 10_000
OWED_TO_HANGING: Final = 500
RATE: Final = 100.0
SECONDS: Final = 8.0
ROUNDS: Final = 3
TIMEOUT: Final = 30.0
BATCH: Final = 1_000
BUSY: Final = 200
"""Attempts at the failing destination after which it counts as being told."""


def main() -> None:
    """Print every round and the figure."""
    uvloop.run(_run())


async def _run() -> None:
    ratios = []
    for number in range(1, ROUNDS + 1):
        alone, disturbed, failed = await _round()
        ratios.append(disturbed / alone)
        print(
            f"fairness round {number}: p95 {alone * 1e3:.1f} ms undisturbed, {disturbed * 1e3:.1f} ms beside"
            f" {failed} failing attempts, ratio {ratios[-1]:.2f}",
            flush=True,
        )
    measuring.conclude("fairness", statistics.median(ratios))


async def _round() -> tuple[float, float, int]:
    """p95 undisturbed and disturbed, seconds; and how many attempts failed in the second part."""
    async with (
        peers.running(peers.NOT_MODIFIED) as upstream,
        peers.running(peers.RECORDER) as receiver,
        peers.running(peers.TROUBLE) as trouble,
    ):
        healthy = {f"healthy_{number}": f"{receiver.url}/hooks/{number}" for number in range(HEALTHY)}
        bad = {name: f"{trouble.url}/{name}" for name in ("hang", "trickle", "fail")}
        async with product.running(upstream, healthy | bad) as process:
            # What is slow once (connections, caches) is not what is measured.
            await telling.Teller(process, [*healthy], title="warm").at(RATE, seconds=1.0)
            await telling.settled(process, timeout=TIMEOUT)
            alone = await _measure(process, receiver, [*healthy], title="alone")
            before = product.count(metrics.ATTEMPTS, destination="fail")
            for name, count in (("hang", OWED_TO_HANGING), ("trickle", OWED_TO_HANGING), ("fail", OWED)):
                await _owe(process, name, count)
            await product.until(metrics.ATTEMPTS, before + BUSY, timeout=TIMEOUT, destination="fail")
            began = product.count(metrics.ATTEMPTS, destination="fail")
            disturbed = await _measure(process, receiver, [*healthy], title="disturbed")
            failed = product.count(metrics.ATTEMPTS, destination="fail") - began
            left = await process.services.store.count_deliveries()
            if left.get(("fail", model.DeliveryState.PENDING), 0) < OWED // 2:
                raise RuntimeError("the failing destination is not owed enough any more")
            return alone, disturbed, failed


async def _measure(
    process: product.Running, receiver: peers.Peer, healthy: list[str], *, title: str
) -> float:
    told = telling.Teller(process, healthy, title=title)
    await told.at(RATE, seconds=SECONDS)
    return telling.quantile(told.lags(await telling.arrived(receiver, told, timeout=TIMEOUT)), 0.95)


async def _owe(process: product.Running, name: str, count: int) -> None:
    """Put deliveries into the outbox that are due now."""
    now = process.services.clock.now()
    body = model.Notification(
        id=ids.derive("ntf", name), format=model.Format.WEBHOOK, type="task.failed", body=b'{"type":"x"}'
    )
    owed = [
        model.NewDelivery(
            id=ids.derive("msg", name, str(number)),
            task=None,
            destination=name,
            type="task.failed",
            notification=body,
            created_at=now,
        )
        for number in range(count)
    ]
    for start in range(0, count, BATCH):
        await process.services.store.add_deliveries(owed[start : start + BATCH])
    process.services.dispatcher.owed(name, now)
