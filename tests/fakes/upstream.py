"""A scriptable MindVideo API on loopback: answers as told, route by route, and records requests.

    async with upstream.running() as fake:
        fake.on("GET", "/api/v1/tasks/t1/events", upstream.Json([...]), upstream.Status(304))
        ...
        assert fake.requests[0].headers["Authorization"] == "Bearer key"

Answers of one route are used in order; the last one repeats. A route that was not scripted
answers 404 with a JSON body. ``on`` again replaces what was scripted before. An answer may also be
a function of the ``Recorded`` request that returns one. Misbehaving peers: ``Hang`` (never
answers), ``Later`` (once an event is set), ``Trickle`` (piece by piece, then silent or closed),
``Truncated`` (less than declared), ``Reset`` (TCP RST), ``Bomb`` (small when compressed), ``Raw``
(any bytes instead of HTTP).
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import socket
import struct
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web


@dataclass(frozen=True)
class Recorded:
    """One request as it came. ``path`` is as sent, without the query."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Status:
    """An answer of any status."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    content_type: str = "application/json"


class Json(Status):
    """A JSON answer; ``value`` may be text that is sent as it is."""

    def __init__(self, value: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        text = value if isinstance(value, str) else json.dumps(value)
        super().__init__(status, text.encode("utf-8", "surrogatepass"), headers or {})


@dataclass(frozen=True)
class Trickle:
    """``chunks`` with ``pause`` seconds before each but the first; then closed, or open for ever."""

    chunks: Sequence[bytes]
    pause: float = 0.0
    content_type: str = "text/event-stream"
    stay_open: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Truncated:
    """Declares more than it sends, then closes."""

    body: bytes
    missing: int = 100
    content_type: str = "application/json"


@dataclass(frozen=True)
class Bomb:
    """``size`` bytes of white space that compress a thousandfold."""

    size: int
    content_type: str = "application/json"


@dataclass(frozen=True)
class Raw:
    """Bytes instead of an HTTP answer."""

    data: bytes


class Hang:
    """Takes the request and never answers."""


class Reset:
    """Takes the request and resets the connection."""


@dataclass(frozen=True)
class Later:
    """``answer``, as soon as ``until`` is set."""

    answer: Status
    until: asyncio.Event


Answer = Status | Trickle | Truncated | Bomb | Raw | Hang | Reset | Later
Script = Answer | Callable[[Recorded], Answer]


class FakeUpstream:
    """See the module. ``url`` is its base, without a path."""

    def __init__(self) -> None:
        self.requests: list[Recorded] = []
        self.url = ""
        self.cut = 0
        """Streams and answers that the client stopped reading."""
        self._scripts: dict[tuple[str, str], list[Script]] = {}
        self._stopping = asyncio.Event()

    def on(self, method: str, path: str, *answers: Script) -> None:
        """Script one route; at least one answer."""
        assert answers
        self._scripts[method, path] = list(answers)

    def task(self, task_id: str, *answers: Script) -> None:
        """Script the task endpoint of one task."""
        self.on("GET", f"/api/v1/tasks/{task_id}", *answers)

    def events(self, task_id: str, *answers: Script) -> None:
        """Script the events endpoint of one task."""
        self.on("GET", f"/api/v1/tasks/{task_id}/events", *answers)

    def create(self, *answers: Script) -> None:
        """Script the creating of tasks."""
        self.on("POST", "/api/v1/tasks", *answers)

    def asked(self, path_end: str) -> list[Recorded]:
        """The requests whose path ends so."""
        return [request for request in self.requests if request.path.endswith(path_end)]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        recorded = Recorded(
            request.method,
            request.raw_path.partition("?")[0],
            dict(request.query),
            request.headers.copy(),
            await request.read(),
        )
        self.requests.append(recorded)
        script = self._scripts.get((recorded.method, recorded.path))
        if script is None:
            answer: Script = Json({"error": "no such route"}, status=404)
        else:
            answer = script[0] if len(script) == 1 else script.pop(0)
        if callable(answer):
            answer = answer(recorded)
        return await self._give(request, answer)

    async def _give(self, request: web.Request, answer: Answer) -> web.StreamResponse:
        transport = request.transport
        assert transport is not None
        if isinstance(answer, Later):
            await answer.until.wait()
            answer = answer.answer
        if isinstance(answer, Status):
            headers = {"Content-Type": answer.content_type, **answer.headers}
            return web.Response(status=answer.status, body=answer.body, headers=headers)
        if isinstance(answer, Trickle):
            return await self._trickle(request, answer)
        if isinstance(answer, Bomb):
            headers = {"Content-Type": answer.content_type, "Content-Encoding": "gzip"}
            return web.Response(body=gzip.compress(b" " * answer.size), headers=headers)
        if isinstance(answer, Hang):
            await self._stopping.wait()
        elif isinstance(answer, Raw):
            transport.write(answer.data)  # type: ignore[attr-defined]
            transport.close()
        elif isinstance(answer, Truncated):
            length = len(answer.body) + answer.missing
            head = (
                f"HTTP/1.1 200 OK\r\nContent-Type: {answer.content_type}\r\nContent-Length: {length}\r\n\r\n"
            )
            transport.write(head.encode() + answer.body)  # type: ignore[attr-defined]
            transport.close()
        elif isinstance(answer, Reset):
            sock = transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            transport.abort()  # type: ignore[attr-defined]
        return web.Response()

    async def _trickle(self, request: web.Request, answer: Trickle) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": answer.content_type, **answer.headers})
        try:
            await response.prepare(request)
            for number, chunk in enumerate(answer.chunks):
                if number and answer.pause:
                    await asyncio.sleep(answer.pause)
                await response.write(chunk)
            if answer.stay_open:
                await self._stopping.wait()
        except (ConnectionError, asyncio.CancelledError):
            self.cut += 1
            raise
        return response

    def stop(self) -> None:
        """Let go of every answer that hangs."""
        self._stopping.set()


@contextlib.asynccontextmanager
async def running() -> AsyncIterator[FakeUpstream]:
    """A fake upstream on 127.0.0.1, until the block ends."""
    fake = FakeUpstream()
    app = web.Application(client_max_size=2**24)
    app.router.add_route("*", "/{path:.*}", fake.handle)
    runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        fake.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield fake
    finally:
        fake.stop()
        await runner.cleanup()
