"""Time per page of a list at ten thousand tasks, for each filter, as a caller waits for it.

The daemon serves over loopback; a page is the default size. Filters that no index serves alone are
the expensive ones: a search that finds nothing looks at every task that one page may look at.
"""

from __future__ import annotations

import math
import secrets
import statistics
import time
from collections.abc import Iterator
from typing import Final

import aiohttp
import uvloop

from bench import peers, product
from relay import daemon
from relay.domain import api_keys, ids, model
from relay.store import base

TASKS: Final = 10_000
ROUNDS: Final = 40
BATCH: Final = 500
NOW: Final = 1_760_000_000.0
RARE: Final = 997
UPSTREAM: Final = product.UPSTREAMS[0]

LISTS: Final = (
    "/tasks",
    "/tasks?status=failed",
    "/tasks?status=succeeded",
    "/tasks?verdict=running",
    "/tasks?verdict=ended",
    "/tasks?model=veo3-fast",
    "/tasks?model=veo3-*",
    f"/tasks?upstream={UPSTREAM}",
    "/tasks?metadata.order=4711",
    "/tasks?text=a+fox",
    "/tasks?text=nowhere",
    "/tasks?created_after=2025-10-09T10:00:00Z",
    "/deliveries",
    "/deliveries?state=pending",
    "/deliveries?state=dead",
    "/deliveries?destination=hook",
    "/deliveries?type=task.failed",
    "/deliveries?created_before=2025-10-09T10:00:00Z",
)


def main() -> None:
    """Print the time of each list and the figure."""
    uvloop.run(_run())


async def _run() -> None:
    worst = 0.0
    async with (
        peers.running(peers.NOT_MODIFIED) as upstream,
        product.running(upstream) as process,
        aiohttp.ClientSession() as session,
    ):
        keys = {role: await _key(process, role) for role in (model.Role.ADMIN, model.Role.CLIENT)}
        await _fill(process, keys[model.Role.CLIENT].id)
        for role, key in keys.items():
            for path in LISTS:
                took = [await _ask(session, process, path, key.text) for _ in range(ROUNDS)]
                p95 = sorted(took)[math.ceil(0.95 * len(took)) - 1] * 1000
                worst = max(worst, p95)
                print(f"{role:6} {path:55} p50 {statistics.median(took) * 1000:6.1f} ms, p95 {p95:6.1f} ms")
    print(f"bench lists p95_ms={worst:.1f}", flush=True)


async def _ask(session: aiohttp.ClientSession, process: daemon.Running, path: str, key: str) -> float:
    began = time.perf_counter()
    async with session.get(
        f"{process.url}/api/v1{path}", headers={"Authorization": f"Bearer {key}"}
    ) as response:
        await response.read()
        assert response.status == 200, await response.text()
    return time.perf_counter() - began


async def _key(process: daemon.Running, role: model.Role) -> api_keys.Minted:
    minted = api_keys.mint(secrets.token_bytes)
    made = model.Key(id=minted.id, name="bench", role=role, enabled=True, created_at=NOW)
    await process.services.store.create_key(made, secret_hash=minted.secret_hash)
    return minted


async def _fill(process: daemon.Running, key_id: str) -> None:
    writes = list(_tasks(key_id))
    for start in range(0, TASKS, BATCH):
        await process.services.store.record(writes[start : start + BATCH])


def _tasks(key_id: str) -> Iterator[base.TaskWrite]:
    """Ended tasks of a key, each with an event and a delivery; every 997th failed, one in a hundred runs."""
    models = ("veo3-fast", "veo3-quality", "kling-2", "wan-2-5")
    for number in range(TASKS):
        running = number % 100 == 0
        status = model.Status.FAILED if number % RARE == 0 else model.Status.SUCCEEDED
        task = model.Task(
            id=ids.derive("tsk", str(number)),
            upstream=UPSTREAM,
            task_id=f"task_{number}",
            version=1,
            request_id=f"req_{number}",
            model=models[number % len(models)],
            status=model.Status.QUEUED if running else status,
            verdict=model.Verdict.RUNNING if running else model.Verdict.ENDED,
            output=None if running else {"videos": [{"url": f"https://cdn.example/{number}.mp4"}]},
            prompt="A cinematic portrait shot with smooth camera movement of "
            + ("a fox", "a cat")[number % 2],
            created_at=NOW + number,
            finished_at=None if running else NOW + number + 60,
        )
        registration = model.Registration(
            key_id=key_id, notify=("hook",), metadata={"order": number}, created_at=NOW
        )
        event = model.Event(key="end", type="status", timestamp=NOW, snapshot=model.Snapshot(status=status))
        yield base.TaskWrite(
            task=task,
            expected_version=None,
            register=registration,
            events=[event],
            deliveries=[] if running else [_delivery(task)],
            recorded_at=NOW,
        )


def _delivery(task: model.Task) -> model.NewDelivery:
    body = b'{"type":"task.ended"}'
    kind = f"task.{task.status.value}"
    return model.NewDelivery(
        id=ids.delivery_id(task.upstream, task.task_id, task.status, "hook"),
        task=task.id,
        destination="hook",
        type=kind,
        notification=model.Notification(
            id=ids.derive("ntf", task.id), format=model.Format.WEBHOOK, type=kind, body=body
        ),
        created_at=task.created_at,
    )
