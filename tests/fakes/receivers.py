"""A receiver on loopback that answers as told, records what it was sent, and can be waited for.

    async with receivers.serve() as receiver:
        receiver.answer = receivers.Answer(status=503, headers={"Retry-After": "7"})
        ... send something to receiver.url ...
        [request] = await receiver.wait_for(1)

``receiver.script`` holds answers that are given first, one per request; ``receiver.connections``
counts accepted connections, whether or not a request came. Give ``ssl_context`` for https.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum

from aiohttp import web

TRICKLE_PAUSE = 0.05
OVERSIZE_BYTES = 8 * 1024 * 1024


class Manner(StrEnum):
    """How an answer is given."""

    PLAIN = "plain"
    HANG = "hang"
    """The request is read and nothing is ever answered."""
    TRICKLE = "trickle"
    """Status and headers at once, then a byte of the body now and then, for ever."""
    TRICKLE_HEAD = "trickle_head"
    """Not even the status line comes at once."""
    RESET = "reset"
    """The connection is closed without an answer."""
    GARBAGE = "garbage"
    """Bytes that are not HTTP."""
    OVERSIZE = "oversize"
    """The status, then far more body than anyone wants."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What to answer."""

    status: int = 204
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    manner: Manner = Manner.PLAIN


@dataclass(frozen=True, kw_only=True)
class Request:
    """What was received; header names are in lower case, ``path`` is as in the request line."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> object:
        """The body as JSON."""
        return json.loads(self.body)


class Receiver:
    """See the module. Made by ``serve``."""

    def __init__(self) -> None:
        self.url = ""
        self.port = 0
        self.answer = Answer()
        self.script: list[Answer] = []
        self.requests: list[Request] = []
        self.connections = 0
        self.closed_by_peer = 0
        self._news = asyncio.Event()
        self._closing = asyncio.Event()
        self._server: asyncio.Server | None = None
        self._protocols: web.Server | None = None

    def stop_listening(self) -> None:
        """From now on connections are refused."""
        assert self._server is not None
        self._server.close()

    def close_idle(self) -> None:
        """Close every connection on which nothing is being answered, as servers do after a while."""
        assert self._protocols is not None
        for connection in list(self._protocols.connections):
            if connection.transport is not None:
                connection.transport.close()

    async def wait_for(self, count: int, *, timeout: float = 10.0) -> list[Request]:
        """The requests, as soon as there are ``count`` of them."""
        await self._until(lambda: len(self.requests) >= count, timeout)
        return self.requests

    async def wait_until_dropped(self, count: int = 1, *, timeout: float = 10.0) -> None:
        """Return once peers have given up ``count`` requests that were not answered to the end."""
        await self._until(lambda: self.closed_by_peer >= count, timeout)

    async def _until(self, fact: Callable[[], bool], timeout: float) -> None:
        async with asyncio.timeout(timeout):
            while not fact():
                self._news.clear()
                await self._news.wait()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Record and answer one request."""
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.requests.append(
            Request(method=request.method, path=request.raw_path, headers=headers, body=body)
        )
        self._news.set()
        answer = self.script.pop(0) if self.script else self.answer
        if answer.manner in (Manner.PLAIN, Manner.OVERSIZE):
            return await self._whole(request, answer)
        if answer.manner is not Manner.RESET:
            await self._partial(request, answer)
        if request.transport is not None:
            request.transport.close()
        return web.Response()

    async def _whole(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        if answer.manner is Manner.PLAIN:
            return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        with contextlib.suppress(ConnectionError):
            await response.prepare(request)
            for _ in range(OVERSIZE_BYTES // 65536):
                await response.write(b"x" * 65536)
            await response.write_eof()
        return response

    async def _partial(self, request: web.BaseRequest, answer: Answer) -> None:
        transport = request.transport
        assert isinstance(transport, asyncio.Transport)
        if answer.manner is Manner.GARBAGE:
            transport.write(b"\x00\x01 this is no HTTP\r\n\r\n")
            return
        if answer.manner is Manner.TRICKLE:
            transport.write(f"HTTP/1.1 {answer.status} Told\r\nContent-Length: 100000\r\n\r\n".encode())
        head = _slow_head(answer.status)
        while not self._closing.is_set() and not transport.is_closing():
            if answer.manner is not Manner.HANG:
                transport.write(next(head) if answer.manner is Manner.TRICKLE_HEAD else b".")
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TRICKLE_PAUSE):
                    await self._closing.wait()
        if not self._closing.is_set():
            self.closed_by_peer += 1
            self._news.set()


def _slow_head(status: int) -> Iterator[bytes]:
    for byte in f"HTTP/1.1 {status} Told\r\nX-Padding: ".encode():
        yield bytes((byte,))
    while True:
        yield b"."


@contextlib.asynccontextmanager
async def serve(*, ssl_context: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Receiver]:
    """A receiver on 127.0.0.1, until the block ends. Requests that still hang are dropped then."""
    receiver = Receiver()
    # An answer is given whatever the peer does meanwhile, so handlers are not cancelled.
    protocols = web.Server(receiver.handle, access_log=None, handler_cancellation=False)

    def accept() -> asyncio.Protocol:
        receiver.connections += 1
        return protocols()

    server = await asyncio.get_running_loop().create_server(
        accept, "127.0.0.1", port, ssl=ssl_context, reuse_address=True
    )
    receiver._server, receiver._protocols = server, protocols
    receiver.port = server.sockets[0].getsockname()[1]
    receiver.url = f"{'https' if ssl_context else 'http'}://127.0.0.1:{receiver.port}"
    try:
        yield receiver
    finally:
        receiver._closing.set()
        server.close()
        await protocols.shutdown(1.0)
        await server.wait_closed()
