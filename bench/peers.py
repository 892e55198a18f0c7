"""The peers, each a process of its own: as little as is needed to speak HTTP/1.1 with keep-alive.

    async with peers.running(peers.ENDED) as upstream:
        ... upstream.url ...

A peer ends when its standard input does, so none outlives the benchmark. It is no HTTP server for
anything but the clients measured here: no chunked requests, no partial reads across connections.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import aiohttp
import uvloop

UNCHANGED: Final = "unchanged"
"""An upstream that always answers the same page of a running task, 200 without an ETag."""

NOT_MODIFIED: Final = "not-modified"
"""The same page with an ETag; 304 to whoever sends it back."""

ENDED: Final = "ended"
"""An upstream whose every task has ended; it answers nothing until it is told to ``start``."""

RECEIVER: Final = "receiver"
"""Takes every POST with 204."""

RECORDER: Final = "recorder"
"""Takes every POST with 204 and remembers when each ``webhook-id`` came first."""

TROUBLE: Final = "trouble"
"""Receivers that hurt, by path: ``/hang`` never answers, ``/trickle`` bit by bit, ``/fail`` with 500."""

TRICKLE_EVERY: Final = 0.5
"""Seconds between two bytes."""

ETAG: Final = '"1"'
START_TIMEOUT: Final = 10.0

Answer = Callable[[bytes, bytes], bytes]
"""From path and head to the whole answer."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A running peer."""

    url: str

    async def start(self) -> None:
        """Let an upstream that waits answer, from now on and whoever waits."""
        await self._control("start")

    async def taken(self) -> int:
        """How many requests it has answered."""
        return int(await self._control("taken"))

    async def arrivals(self) -> dict[str, float]:
        """When each ``webhook-id`` came first: readings of ``time.monotonic``, which processes share."""
        return dict(json.loads(await self._control("arrivals")))

    async def _control(self, what: str) -> str:
        async with aiohttp.request("GET", f"{self.url}/control/{what}") as response:
            return await response.text()


@contextlib.asynccontextmanager
async def running(role: str) -> AsyncIterator[Peer]:
    """Run a peer until the block ends."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.peers", role),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        async with asyncio.timeout(START_TIMEOUT):
            port = int(await process.stdout.readline())
        yield Peer(f"http://127.0.0.1:{port}")
    finally:
        process.stdin.close()
        await process.wait()


# -- what they answer -------------------------------------------------------------------------------


def task(task_id: str, status: str) -> dict[str, object]:
    """The documented task body."""
    ended = status == "succeeded"
    return {
        "request_id": f"req_{task_id}",
        "task_id": task_id,
        "status": status,
        "cost_estimate": 0.3294,
        "cost_actual": 0.3294 if ended else None,
        "output": {"videos": [{"url": f"https://example.com/output/{task_id}.mp4"}]} if ended else None,
    }


def event(task_id: str, number: int, status: str) -> dict[str, object]:
    """An event that carries the task body."""
    return {
        "id": f"evt_{task_id}_{number}",
        "type": f"task.{status}",
        "status": status,
        "timestamp": f"2026-01-31T12:00:0{number}.000Z",
        "data": task(task_id, status),
    }


def page(task_id: str, *statuses: str) -> bytes:
    """A page of events, the task body around them."""
    events = [event(task_id, number, status) for number, status in enumerate(statuses)]
    return json.dumps(task(task_id, statuses[-1]) | {"events": events}).encode()


def _answer(status: str, body: bytes = b"", *headers: str) -> bytes:
    lines = [f"HTTP/1.1 {status}", *headers]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


_RUNNING: Final = page("task_running", "queued", "processing")


def _unchanged(path: bytes, head: bytes) -> bytes:
    return _answer("200 OK", _RUNNING)


def _not_modified(path: bytes, head: bytes) -> bytes:
    if b"\r\nif-none-match:" in head.lower():
        return _answer("304 Not Modified", b"", f"ETag: {ETAG}")
    return _answer("200 OK", _RUNNING, f"ETag: {ETAG}")


def _ended(path: bytes, head: bytes) -> bytes:
    end = event(path.split(b"/")[4].decode(), 3, "succeeded")
    return _answer("200 OK", json.dumps({"events": [end]}).encode())


def _receive(path: bytes, head: bytes) -> bytes:
    return _answer("204 No Content")


_ARRIVED: Final[dict[str, float]] = {}


def _record(path: bytes, head: bytes) -> bytes:
    now = time.monotonic()
    _, found, rest = head.lower().partition(b"\r\nwebhook-id:")
    if found:
        _ARRIVED.setdefault(rest.partition(b"\r\n")[0].strip().decode(), now)
    return _answer("204 No Content")


def _trouble(path: bytes, head: bytes) -> bytes:
    if path == b"/fail":
        return _answer("500 Internal Server Error", b"{}")
    return _answer("200 OK", b"{}") if path == b"/trickle" else b""


ANSWERS: Final[dict[str, Answer]] = {
    UNCHANGED: _unchanged,
    NOT_MODIFIED: _not_modified,
    ENDED: _ended,
    RECEIVER: _receive,
    RECORDER: _record,
    TROUBLE: _trouble,
}


# -- the process ------------------------------------------------------------------------------------


class _State:
    """What the connections of one peer share."""

    def __init__(self, answer: Answer, *, started: bool) -> None:
        self.answer = answer
        self.taken = 0
        self.started = started
        self.waiting: list[_Connection] = []

    def start(self) -> None:
        """Answer whoever waits."""
        self.started = True
        waiting, self.waiting = self.waiting, []
        for connection in waiting:
            connection.serve()


class _Connection(asyncio.Protocol):
    def __init__(self, state: _State) -> None:
        self._state = state
        self._received = b""
        self._write: Callable[[bytes], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write = transport.write  # type: ignore[attr-defined] # uvloop's has its own base

    def connection_lost(self, exc: Exception | None) -> None:
        self._write = None

    def data_received(self, data: bytes) -> None:
        self._received += data
        self.serve()

    def serve(self) -> None:
        """Answer every request that is there whole."""
        while (end := self._received.find(b"\r\n\r\n")) >= 0:
            head = self._received[:end]
            whole = end + 4 + _length(head)
            if len(self._received) < whole:
                return
            path = head.split(b" ", 2)[1]
            if path.startswith(b"/control/"):
                answer = self._control(path)
            elif not self._state.started:
                self._state.waiting.append(self)
                return
            else:
                self._state.taken += 1
                answer = self._state.answer(path, head)
            self._received = self._received[whole:]
            assert self._write is not None
            if path == b"/trickle":
                self._trickle(answer)
            else:
                self._write(answer)

    def _trickle(self, answer: bytes) -> None:
        if answer and self._write is not None:
            self._write(answer[:1])
            asyncio.get_running_loop().call_later(TRICKLE_EVERY, self._trickle, answer[1:])

    def _control(self, path: bytes) -> bytes:
        if path == b"/control/start":
            self._state.start()
        if path == b"/control/arrivals":
            return _answer("200 OK", json.dumps(_ARRIVED).encode())
        return _answer("200 OK", str(self._state.taken).encode())


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    return int(rest.partition(b"\r\n")[0]) if found else 0


async def _serve(role: str) -> None:
    state = _State(ANSWERS[role], started=role != ENDED)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(state), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin, ended.set)
    await ended.wait()


if __name__ == "__main__":
    uvloop.run(_serve(sys.argv[1]))
