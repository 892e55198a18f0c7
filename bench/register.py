"""Durable registrations over HTTP, against a bare aiohttp handler that parses the same body.

Both serve in this process, one after the other; the client is another process with 32 connections.
The bare handler reads the body, decodes it and answers as many bytes; the product also knows who
asks, checks every member and has the registration on disk before it answers. Every task is new. Its
upstream never answers, so that nothing but registering is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import sys
from collections.abc import AsyncIterator
from typing import Final

import uvloop
from aiohttp import web

from bench import measuring, peers, product
from relay.domain import api_keys, model

REQUESTS: Final = 8_000
ROUNDS: Final = 5
CONNECTIONS: Final = 32
TIMEOUT: Final = 60.0

_UPSTREAM: Final = product.UPSTREAMS[0].encode()

BODY: Final = json.dumps(
    {"notify": ["pipeline"], "statuses": ["succeeded", "failed"], "metadata": product.METADATA}
).encode()


def main() -> None:
    """Print every round and the figure."""
    uvloop.run(_run())


async def _run() -> None:
    ratio = await measuring.alternate("register", rounds=ROUNDS, bare=_bare, product=_product)
    measuring.conclude("register", ratio)


async def _bare() -> float:
    answer = b"x" * 620

    async def handle(request: web.Request) -> web.Response:
        json.loads(await request.read())
        return web.Response(status=201, body=answer, content_type="application/json")

    app = web.Application()
    app.router.add_put("/api/v1/tasks/{task}", handle)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return await _measured(runner.addresses[0][1], key="rk_none")
    finally:
        await runner.cleanup()


async def _product() -> float:
    minted = api_keys.mint(secrets.token_bytes)
    key = model.Key(id=minted.id, name="bench", role=model.Role.CLIENT, enabled=True, created_at=0.0)
    async with (
        peers.running(peers.ENDED) as upstream,
        product.running(upstream, {"pipeline": f"{upstream.url}/hooks/render"}) as process,
    ):
        await process.services.store.create_key(key, secret_hash=minted.secret_hash)
        return await _measured(int(process.url.rpartition(":")[2]), key=minted.text)


async def _measured(port: int, *, key: str) -> float:
    """CPU seconds of this process per request, while the client sends them all."""
    async with _client(port, key) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        stopwatch = measuring.Stopwatch()
        client.stdin.write(b"go\n")
        async with asyncio.timeout(TIMEOUT):
            created = int(await client.stdout.readline())
        used = stopwatch.per(REQUESTS)
        assert created == REQUESTS, f"{created} of {REQUESTS} were answered with 201"
        return used


@contextlib.asynccontextmanager
async def _client(port: int, key: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """The client's process, connected and waiting for a line."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.register", str(port), key),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(TIMEOUT):
            assert await process.stdout.readline() == b"ready\n"
        yield process
    finally:
        process.stdin.close()
        await process.wait()


# -- the client's process ---------------------------------------------------------------------------


class _Connection(asyncio.Protocol):
    """One connection with one request in flight, until no number is left."""

    def __init__(self, client: _Client) -> None:
        self._client = client
        self._received = b""
        self._transport: asyncio.WriteTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # uvloop's has its own base

    def ask(self) -> None:
        """Send the next request, if there is one."""
        request = self._client.next()
        if request is not None:
            assert self._transport is not None
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._received[:end].lower()
        length = int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(self._received) < end + 4 + length:
            return
        self._received = b""
        self._client.answered(created=head.startswith(b"http/1.1 201 "))
        self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        self._client.ended.set()


class _Client:
    def __init__(self, key: str) -> None:
        self.ended = asyncio.Event()
        self.created = 0
        self._numbers = iter(range(REQUESTS))
        self._left = REQUESTS
        self._head = (
            f"Host: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n"
        ).encode() + BODY

    def next(self) -> bytes | None:
        """The next request, ``None`` when all were sent."""
        number = next(self._numbers, None)
        if number is None:
            return None
        return b"PUT /api/v1/tasks/%s:task_%d HTTP/1.1\r\n" % (_UPSTREAM, number) + self._head

    def answered(self, *, created: bool) -> None:
        """One answer has come."""
        self.created += created
        self._left -= 1
        if not self._left:
            self.ended.set()


async def _ask(port: int, key: str) -> None:
    loop = asyncio.get_running_loop()
    client = _Client(key)
    connections = [
        (await loop.create_connection(lambda: _Connection(client), "127.0.0.1", port))[1]
        for _ in range(CONNECTIONS)
    ]
    print("ready", flush=True)
    go = asyncio.Event()
    loop.add_reader(sys.stdin, go.set)
    await go.wait()
    loop.remove_reader(sys.stdin)
    for connection in connections:
        connection.ask()
    await client.ended.wait()
    print(client.created, flush=True)


if __name__ == "__main__":
    uvloop.run(_ask(int(sys.argv[1]), sys.argv[2]))
