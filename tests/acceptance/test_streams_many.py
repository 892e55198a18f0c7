"""Five hundred readers of the live stream, one of which never reads.

What waits for a reader is bounded, the one that reads nothing is cut, and every other one gets every
event, once and in the order of commits.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import pytest
from aiohttp import web

from relay.domain import model
from relay.engine import feed
from relay.store import base
from relay.web import app, streams
from tests import harness
from tests.fakes import sandbox
from tests.store import making

READERS: Final = 499
EVENTS: Final = 160
TEXT: Final = "x" * 2_000
"""Of each event, so that all of them are more than the kernel takes for one who does not read."""

PATIENCE: Final = 1.0
"""Seconds for which a reader may take nothing, here."""

AIOHTTP_LIMIT: Final = 64 * 1024
"""Bytes that aiohttp writes before it looks whether they were taken."""

HELD_MAX: Final = AIOHTTP_LIMIT + feed.BATCH_BYTES + streams.BUFFER

REQUEST: Final = (
    "GET /api/v1/events HTTP/1.0\r\nHost: relay\r\n"
    f"Authorization: Bearer {harness.ADMIN_KEY}\r\nAccept: text/event-stream\r\n\r\n"
).encode()


@pytest.fixture
def many_files() -> Iterator[None]:
    """Both ends of every connection are in this process."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 4096)), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@contextlib.asynccontextmanager
async def front(services: app.Services) -> AsyncIterator[tuple[web.AppRunner, int]]:
    """The API once more over the same daemon, with its connections in view; the port."""
    runner = web.AppRunner(app.create_app(services), access_log=None, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield runner, runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def connect(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A reader whose stream has begun."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(REQUEST)
    assert b" 200 " in await reader.readline()
    await reader.readuntil(b"\n\n")
    return reader, writer


async def read_all(reader: asyncio.StreamReader) -> list[str]:
    """What the events said, in the order in which they came."""
    found: list[str] = []
    while len(found) < EVENTS:
        line = await reader.readline()
        assert line, "the stream of one that reads was cut"
        if line.startswith(b"data: "):
            found.append(json.loads(line[6:])["data"]["key"])
    return found


async def never_reading(port: int) -> socket.socket:
    held = socket.socket()
    held.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    held.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(held, ("127.0.0.1", port))
    await loop.sock_sendall(held, REQUEST)
    return held


async def happen(live: feed.Feed) -> list[str]:
    """One commit for each event; what they say."""
    write = making.new("task")
    await live.write([write])
    task: model.Task = write.task
    for number in range(EVENTS):
        changed = dataclasses.replace(task, version=task.version + 1)
        event = making.event(str(number), data={"key": str(number), "text": TEXT})
        await live.write(
            [
                base.TaskWrite(
                    task=changed, expected_version=task.version, events=[event], recorded_at=making.NOW
                )
            ]
        )
        task = changed
    return [str(number) for number in range(EVENTS)]


def waiting_bytes(runner: web.AppRunner) -> int:
    """The most that waits in this process for one connection."""
    assert runner.server is not None
    transports = [connection.transport for connection in runner.server.connections]
    return max((each.get_write_buffer_size() for each in transports if each is not None), default=0)


@pytest.mark.usefixtures("many_files")
async def test_one_that_never_reads_costs_the_others_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(streams, "WRITE_TIMEOUT", PATIENCE)
    async with (
        sandbox.running_sandbox(stepped=True) as upstream,
        harness.running(tmp_path, upstream) as relay,
        front(relay.running.services) as (runner, port),
    ):
        live = relay.running.services.feed
        stuck = await never_reading(port)
        readers = [await connect(port) for _ in range(READERS)]
        assert live.readers(None) == READERS + 1
        most = 0
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            reading = [group.create_task(read_all(reader)) for reader, _ in readers]
            said = group.create_task(happen(live))
            while not all(each.done() for each in reading):
                most = max(most, waiting_bytes(runner))
                kept, size = live.kept
                assert kept <= feed.RING_MAX
                assert size <= feed.RING_BYTES
                await asyncio.sleep(0.05)
        assert most <= HELD_MAX
        for each in reading:
            assert each.result() == said.result()
        async with asyncio.timeout(10 * PATIENCE):
            while live.readers(None) > READERS:  # the one that never reads is cut
                await asyncio.sleep(0.05)
            for _, writer in readers:
                writer.close()
        stuck.close()
