"""The product under measurement: the daemon as ``relay serve`` composes it, with pace out of the way.

Everything is as in operation but for three settings: a request budget that is never the limit, the
shortest interval between polls, and leave to dial loopback. Logs are written as under a service
manager: JSON lines at the default level, to a file.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import aiohttp
import prometheus_client

import relay
from bench import peers
from relay import daemon, logs, settings
from relay.engine import intake

API_KEY: Final = "mv_test_bench"
CONCURRENCY: Final = 32
"""Polls in flight, which is the default; the bare loops have as many workers."""

CREDENTIALS: Final = 4
"""Upstreams configured, all of them the same peer: one credential's budget ends at 10,000 requests/s,
which the loop exceeds. They share ``CONCURRENCY``."""

UPSTREAMS: Final = tuple(f"mindvideo_{number}" for number in range(CREDENTIALS))

LOOK_EVERY: Final = 0.02
"""Seconds between two looks at a counter, which take some microseconds."""

SECRET: Final = "whsec_" + base64.b64encode(b"a secret of exactly thirty-two b").decode()
METADATA: Final[dict[str, object]] = {"order": "2026-000123", "scene": 7}

HEADERS: Final = {
    "Accept": "application/json, text/event-stream, application/x-ndjson",
    "Authorization": f"Bearer {API_KEY}",
    "Accept-Encoding": "identity",
    "User-Agent": f"relay/{relay.__version__}",
}
"""What the product sends with each poll."""

Running = daemon.Running


def session(headers: Mapping[str, str]) -> aiohttp.ClientSession:
    """A session for a bare loop: what the product's have that costs less, and nothing that costs more."""
    return aiohttp.ClientSession(
        headers=headers,
        connector=aiohttp.TCPConnector(limit=CONCURRENCY),
        cookie_jar=aiohttp.DummyCookieJar(),
    )


@contextlib.asynccontextmanager
async def running(upstream: peers.Peer, hooks: Mapping[str, str] | None = None) -> AsyncIterator[Running]:
    """A daemon on a new database. ``hooks`` are webhooks' URLs by destination."""
    with tempfile.TemporaryDirectory(prefix="relay-bench-") as directory:
        chosen = settings.load(
            environ={},
            overrides={
                "server": {"port": 0, "requests_per_second_per_key": 100_000},
                "store": {"url": f"sqlite:///{directory}/relay.db"},
                "upstreams": {
                    name: {
                        "base_url": upstream.url,
                        "api_key": API_KEY,
                        "requests_per_second": 10_000,
                        "concurrency": CONCURRENCY // CREDENTIALS,
                        "poll_interval_min": 0.001,
                        "poll_interval_max": 0.001,
                    }
                    for name in UPSTREAMS
                },
                "destinations": {name: {"url": url, "secret": SECRET} for name, url in (hooks or {}).items()},
                "network": {"allow_private": ["127.0.0.0/8"]},
            },
        )
        with _logging_to(Path(directory) / "relay.log", level=chosen.logs.level):
            async with daemon.running(chosen) as process:
                yield process


@contextlib.contextmanager
def _logging_to(path: Path, *, level: str) -> Iterator[None]:
    with path.open("w", encoding="utf-8") as file:
        with contextlib.redirect_stderr(file):
            logs.configure(level=level, style="json")
        try:
            yield
        finally:
            logs.configure(level="error", style="json")


async def register(process: Running, task_ids: Sequence[str], *, notify: Sequence[str] = ()) -> None:
    """Watch tasks through the intake, spread over the upstreams; each tells one of ``notify``, in turn."""
    wanted = [
        intake.Wanted(
            upstream=UPSTREAMS[number // len(notify or (0,)) % CREDENTIALS],
            task_id=task_id,
            notify=(notify[number % len(notify)],) if notify else (),
            metadata=METADATA,
        )
        for number, task_id in enumerate(task_ids)
    ]
    # Several at once, so that they share commits.
    parts = [wanted[start::CONCURRENCY] for start in range(CONCURRENCY)]
    await asyncio.gather(*(process.services.intake.register("key_bench", part) for part in parts))


def count(counter: prometheus_client.Counter, **labels: str) -> int:
    """What ``counter`` has counted so far under these labels."""
    [family] = counter.collect()
    found = (
        sample.value
        for sample in family.samples
        if sample.name.endswith("_total") and labels.items() <= sample.labels.items()
    )
    return int(sum(found))


async def until(counter: prometheus_client.Counter, target: int, *, timeout: float, **labels: str) -> int:
    """Wait until ``counter`` has reached ``target``; what it has reached."""
    async with asyncio.timeout(timeout):
        while (reached := count(counter, **labels)) < target:  # noqa: ASYNC110 - nothing to wait for
            await asyncio.sleep(LOOK_EVERY)
    return reached
