"""Bad input over raw sockets: a problem for each where HTTP allows, one line in the log, and then on."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
import structlog.testing

from relay.web import app as web_app
from relay.web import reading, serving
from tests.web.conftest import ADMIN_KEY

LIMIT = 65536
"""``body_max_bytes`` of the daemon under test."""


@dataclass
class Wire:
    """Raw connections to the daemon."""

    api: Any

    async def open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        port = int(self.api.running.url.rpartition(":")[2])
        return await asyncio.open_connection("127.0.0.1", port)

    async def send(self, *pieces: bytes) -> tuple[int, dict[str, str], bytes]:
        """Send; the first answer. ``(0, {}, b"")`` where the peer hung up without one."""
        reader, writer = await self.open()
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            return await answer(reader)
        except ConnectionError:
            return 0, {}, b""
        finally:
            await hang_up(writer)

    async def alive(self) -> None:
        """Others are served as before."""
        assert (await self.api.call("GET", "/tasks")).status == 200


async def hang_up(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    async with asyncio.timeout(15):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        except asyncio.IncompleteReadError:
            return 0, {}, b""
        first, *lines = head.strip().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        return int(first.split()[1]), headers, body


@pytest.fixture
async def wire(api: Any) -> AsyncIterator[Wire]:
    wire = Wire(api)
    yield wire
    await wire.alive()


def request(
    body: bytes,
    *,
    method: str = "POST",
    path: str = "/api/v1/tasks",
    kind: str = "application/json",
    **more: str,
) -> bytes:
    headers = {
        "Host": "relay",
        "Authorization": f"Bearer {ADMIN_KEY}",
        "Content-Type": kind,
        "Content-Length": str(len(body)),
    } | {name.replace("_", "-"): value for name, value in more.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode("latin-1") + body


def problem(reply: tuple[int, dict[str, str], bytes]) -> dict[str, Any]:
    """The body, which must be a whole problem."""
    status, headers, raw = reply
    assert headers["content-type"].startswith("application/problem+json"), (status, headers)
    body: dict[str, Any] = json.loads(raw)
    assert body["status"] == status
    assert body["instance"] == f"urn:relay:request:{headers['x-request-id']}"
    assert body["title"]
    assert body["detail"]
    return body


# -- bodies -----------------------------------------------------------------------------------------

BODIES: dict[str, tuple[bytes, int]] = {
    "not JSON": (b'{"model": ', 400),
    "not UTF-8": (b'{"model": "\xff\xfe"}', 400),
    "a BOM": (b"\xef\xbb\xbf{}", 400),
    "raw NUL": (b'{"model": "a\x00b"}', 400),
    "escaped NUL": (b'{"x": "a\\u0000b"}', 422),
    "escaped NUL in a name": (b'{"a\\u0000b": 1}', 422),
    "a lone surrogate": (b'{"x": "\\ud800"}', 422),
    "a surrogate in UTF-8": (b'{"x": "\xed\xa0\x80"}', 400),
    "nested arrays": (b"[" * 30_000 + b"]" * 30_000, 400),
    "nested objects": (b'{"x":' * 9_000 + b"1" + b"}" * 9_000, 400),
    "nested a little too deep": (b'{"x":' + b"[" * 64 + b"]" * 64 + b"}", 422),
    "a long number": (b'{"x": ' + b"9" * 60_000 + b"}", 422),
    "a number over 64 bits": (b'{"x": 9223372036854775808}', 422),
    "an infinite number": (b'{"x": 1e999}', 422),
    "NaN": (b'{"x": NaN}', 400),
    "a member twice": (b'{"x": 1, "x": 2}', 422),
    "no object": (b"[]", 422),
    "a bare word": (b"null", 422),
    "many unknown members": (
        b"{" + b",".join(b'"%d": 0' % n for n in range(6_000)) + b"}",
        422,
    ),
    "over the limit": (b'"' + b"x" * LIMIT + b'"', 413),
}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        (each.method, re.sub(r"\{\w+\}", "x", each.path))
        for each in web_app.ENDPOINTS
        if each.body is not None
    ],
)
@pytest.mark.parametrize("name", list(BODIES))
async def test_every_route_with_a_body_refuses_it(wire: Wire, method: str, path: str, name: str) -> None:
    body, status = BODIES[name]
    with structlog.testing.capture_logs() as lines:
        reply = await wire.send(request(body, method=method, path=path))
    assert reply[0] == status, reply
    found = problem(reply)
    assert len(reply[2]) < 20_000
    assert len(found.get("errors", [])) <= 50
    assert lines == []


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16", "x" * 200]
)
async def test_another_type_is_refused(wire: Wire, kind: str) -> None:
    assert problem(await wire.send(request(b"{}", kind=kind)))["status"] == 415


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "gzip, gzip", "nonsense"])
async def test_what_is_compressed_is_refused_and_never_inflated(wire: Wire, coding: str) -> None:
    bomb = gzip.compress(b" " * 40_000_000, compresslevel=9)
    reply = await wire.send(request(bomb, Content_Encoding=coding))
    assert reply[0] in (413, 415)
    assert problem(reply)


async def test_a_chunked_body_over_the_limit_is_refused(wire: Wire) -> None:
    head = request(b"").replace(b"Content-Length: 0", b"Transfer-Encoding: chunked")
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    assert problem(await wire.send(head, *[chunk] * 8))["status"] == 413


# -- heads ------------------------------------------------------------------------------------------

HEADS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "no HTTP": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", (400,)),
    "a long line": (b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", (400, 431)),
    "a huge header": (
        b"GET /api/v1/tasks HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
        (400, 431),
    ),
    "many headers": (
        b"GET /api/v1/tasks HTTP/1.1\r\nHost: x\r\n"
        + b"".join(b"X-%d: 1\r\n" % n for n in range(5_000))
        + b"\r\n",
        (400, 431),
    ),
    "two lengths": (
        b"PUT /api/v1/tasks/t HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        (400,),
    ),
    "length and chunks": (
        b"PUT /api/v1/tasks/t HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
        b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        (400,),
    ),
    "chunks twice": (
        b"PUT /api/v1/tasks/t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        (400,),
    ),
    "chunks hidden": (
        b"PUT /api/v1/tasks/t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        (400,),
    ),
    "an unknown transfer": (
        b"PUT /api/v1/tasks/t HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: identity\r\n\r\n",
        (400, 401),
    ),
    "a negative length": (b"PUT /api/v1/tasks/t HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", (400,)),
    "a length that is none": (
        b"PUT /api/v1/tasks/t HTTP/1.1\r\nHost: x\r\nContent-Length: 1_0\r\n\r\n",
        (400,),
    ),
    "a length over all": (
        b"PUT /api/v1/tasks/t HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999999999999999\r\n\r\n",
        (400,),
    ),
    "a bare CR": (b"GET /api/v1/tasks HTTP/1.1\r\nHost: x\r\nX: a\rInjected: b\r\n\r\n", (400,)),
    "a folded header": (b"GET /api/v1/tasks HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n", (400,)),
    "a NUL in a header": (b"GET /api/v1/tasks HTTP/1.1\r\nHost: x\r\nX: a\x00b\r\n\r\n", (400,)),
    "a space in a name": (b"GET /api/v1/tasks HTTP/1.1\r\nHost: x\r\nX Y: a\r\n\r\n", (400,)),
    "another version": (b"GET /api/v1/tasks HTTP/9.9\r\nHost: x\r\n\r\n", (400,)),
    "an odd method": (b"G@T /api/v1/tasks HTTP/1.1\r\nHost: x\r\n\r\n", (400,)),
    "an odd expectation": (b"GET /api/v1/tasks HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n", (417,)),
    "an odd target": (b"GET http://[::1/x HTTP/1.1\r\nHost: x\r\n\r\n", (400, 404)),
}


@pytest.mark.parametrize("name", list(HEADS))
async def test_a_head_that_cannot_be_read_is_told_in_a_problem_and_one_line(
    wire: Wire, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    raw, statuses = HEADS[name]
    with structlog.testing.capture_logs() as lines:
        reply = await wire.send(raw)
    assert reply[0] in statuses, reply
    problem(reply)
    assert len(lines) <= 1
    assert "Traceback" not in str(lines)
    assert "Injected" not in str(lines) + str(reply)
    assert caplog.records == []


async def test_a_second_request_cannot_be_smuggled(wire: Wire) -> None:
    """After a head that has two readings the connection is closed, whatever follows."""
    hidden = request(b"{}", method="PUT", path="/api/v1/tasks/smuggled")
    raw = (
        b"PUT /api/v1/tasks/t HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"0\r\n\r\n" + hidden
    )
    reader, writer = await wire.open()
    writer.write(raw)
    assert (await answer(reader))[0] == 400
    assert await asyncio.wait_for(reader.read(), 15) == b""
    await hang_up(writer)
    assert (await wire.api.call("GET", "/tasks/smuggled")).status == 404


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("Authorization", "Bearer \xff\xfe"),
        ("Authorization", "Bearer " + "x" * 7000),
        ("Authorization", "Basic eDp4"),
        ("Authorization", "Bearer"),
    ],
)
async def test_odd_credentials_are_strangers(wire: Wire, header: str, value: str) -> None:
    assert problem(await wire.send(request(b"{}", **{header: value})))["status"] == 401


@pytest.mark.parametrize("value", ["\x01", "a\x7f", "x" * 300, "é"])
async def test_odd_idempotency_keys_are_refused(wire: Wire, value: str) -> None:
    body = json.dumps({"model": "m", "input": {}}).encode()
    assert problem(await wire.send(request(body, Idempotency_Key=value)))["status"] == 400


@pytest.mark.parametrize(
    "path",
    ["/api/v1/tasks/%00", "/api/v1/tasks/..%2f..", "/api/v1/tasks/%ff", "/api/v1/tasks?limit=%00&limit=1"],
)
async def test_odd_paths_are_refused(wire: Wire, path: str) -> None:
    assert problem(await wire.send(request(b"{}", method="GET", path=path)))["status"] in (404, 422)


# -- slow -------------------------------------------------------------------------------------------


async def test_a_slow_body_is_cut_off(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BODY_TIMEOUT", 0.3)
    head = request(b"x" * 100)[:-100]
    assert problem(await wire.send(head, b"{"))["status"] == 408


async def test_a_slow_head_is_cut_off(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "HEAD_TIMEOUT", 0.3)
    async with start("http://127.0.0.1:9") as api:
        wire = Wire(api)
        reader, writer = await wire.open()
        async with asyncio.timeout(15):
            writer.write(b"GET / HTTP/1.1\r\nX: ")
            while not reader.at_eof():
                writer.write(b"a")
                try:
                    await asyncio.wait_for(reader.read(1), 0.02)
                except TimeoutError:
                    continue
                except ConnectionError:
                    break
        await hang_up(writer)
        await wire.alive()


async def test_who_goes_away_in_the_middle_leaves_no_trace(wire: Wire) -> None:
    with structlog.testing.capture_logs() as lines:
        for raw in (b"GET / HT", request(b"{}" * 100)[:-150], request(b"{}", path="/api/v1/registrations")):
            _, writer = await wire.open()
            writer.write(raw)
            await writer.drain()
            await hang_up(writer)
        await wire.alive()
    assert lines == []


async def test_many_bad_connections_at_once_hurt_nobody(wire: Wire) -> None:
    held = [await wire.open() for _ in range(100)]
    for _, writer in held:
        writer.write(b"POST /api/v1/tasks HTTP/1.1\r\nHost: x\r\nContent-Length: 60000\r\n\r\n{")
    await wire.alive()
    timeout = aiohttp.ClientTimeout(total=10)
    async with wire.api.session.get(f"{wire.api.running.url}/livez", timeout=timeout) as reply:
        assert reply.status == 200
    for _, writer in held:
        await hang_up(writer)
