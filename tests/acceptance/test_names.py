"""Receivers whose names nobody resolves: they hurt nobody else, and do not keep the daemon from stopping.

Shown by order, not by the clock: what must go on does so while those names hang, which lasts until the
test lets them.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests import harness
from tests.fakes import names as fakes
from tests.fakes import receivers, sandbox

HANGING = [f"hang{number}" for number in range(8)]


@dataclass
class Named:
    """An upstream, by a name."""

    url: str
    key: str


@pytest.fixture
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[fakes.Names]:
    made = fakes.Names()
    monkeypatch.setattr(socket, "getaddrinfo", made.getaddrinfo)
    yield made
    made.answers.set()


@pytest.fixture
async def hook() -> AsyncIterator[receivers.Receiver]:
    async with receivers.serve() as receiver:
        yield receiver


def by_name(url: str, host: str) -> str:
    return url.replace("127.0.0.1", f"{host}{fakes.DOMAIN}")


def destinations(hook: receivers.Receiver) -> dict[str, Mapping[str, Any]]:
    """One that is fine, and those that hang; each at a host of its own."""
    return {
        name: {"url": by_name(f"{hook.url}/{name}", name), "secret": harness.SECRET}
        for name in ("fine", *HANGING)
    }


@contextlib.asynccontextmanager
async def being_tested(relay: harness.Client) -> AsyncIterator[None]:
    """Have every destination that hangs be sent a test: of these the upstream need not know."""
    calls = [
        asyncio.create_task(relay.call("POST", f"/destinations/{name}/test", json={})) for name in HANGING
    ]
    try:
        yield
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


async def test_polling_telling_and_changing_go_on_while_eight_names_hang(
    tmp_path: Path, hook: receivers.Receiver, names: fakes.Names
) -> None:
    async with sandbox.running_sandbox(speed=1000) as upstream:
        named = Named(by_name(upstream.url, "upstream"), upstream.key)
        async with (
            harness.running(tmp_path, named, destinations(hook)) as relay,
            being_tested(relay),
        ):
            await names.until_asked(*(f"{name}{fakes.DOMAIN}" for name in HANGING))
            task = await relay.submit(notify=["fine", *HANGING])
            [request] = await hook.wait_for(1)
            assert request.path == "/fine"
            [delivery] = await relay.until_state("delivered", destination="fine")
            assert (delivery["task_id"], delivery["attempts_made"]) == (task, 1)
            made = {"name": "made", "url": f"{hook.url}/made"}
            for method, path, body in (
                ("POST", "/destinations", made),
                ("POST", "/destinations/fine/pause", None),
                ("POST", "/destinations/fine/resume", None),
            ):
                async with asyncio.timeout(10):
                    status, answer = await relay.call(method, path, json=body)
                assert status in (200, 201), answer
            assert not names.answers.is_set()
            assert await relay.deliveries(state="delivered", destination=HANGING[0]) == []
            names.answers.set()


async def test_the_process_ends_while_names_hang(tmp_path: Path, hook: receivers.Receiver) -> None:
    async with sandbox.running_sandbox(speed=1000) as upstream:
        named = Named(by_name(upstream.url, "upstream"), upstream.key)
        config = harness.overrides(tmp_path, named, destinations(hook))
        config["server"]["drain_timeout"] = 0.2
        process = harness.Process(tmp_path, config)
        process.command = ("-m", "tests.acceptance.deaf", "serve", "--config")
        process.environment = {"PYTHONPATH": str(Path(__file__).parents[2])}
        try:
            await process.start()
            async with harness.caller(process.url) as session:
                relay = harness.Client(process.url, session)
                await relay.submit(notify=["fine", *HANGING])
                await hook.wait_for(1)
            async with asyncio.timeout(30):
                while not all(f"asked for {name}." in process.log.read_text() for name in HANGING):
                    await asyncio.sleep(0.02)
            process.signal(signal.SIGTERM)
            assert await process.wait(timeout=30) == 0
            assert "drained" in process.log.read_text()
        finally:
            await process.stop()
