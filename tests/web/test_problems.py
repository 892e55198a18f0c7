"""Every error leaves as a problem with an instance, through the one middleware, on a real server."""

from __future__ import annotations

import asyncio
import gzip
import os
import time
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import structlog.testing
from aiohttp import test_utils, typedefs, web

from relay.domain import errors
from relay.web import problems, reading
from relay.web.schemas import registrations as schemas

RAISED: dict[str, Exception] = {
    "refused": errors.RequestRefused("no destination named 'x'", pointer="/notify/0"),
    "conflict": errors.IdempotencyConflict("this key was used before"),
    "unresolved": errors.SubmissionUnresolved("no definite answer", idempotency_key="k-1"),
    "unauthorized": errors.UpstreamUnauthorized(
        "mindvideo refuses the API key", reason="unauthorized", status_code=401
    ),
    "transient": errors.UpstreamTransient("mindvideo cannot be reached", reason="network"),
    "rejected": errors.UpstreamRejected(
        "mindvideo refused the create",
        reason="rejected",
        status_code=422,
        problem={
            "detail": "resolution is not supported",
            "errors": [{"detail": "not one of 768p", "pointer": "/input/resolution"}, "noise", {"detail": 3}],
        },
    ),
    "rejected_oddly": errors.UpstreamRejected("refused", reason="rejected", status_code=499, problem=["?"]),
    "store": errors.StoreUnavailable("database is locked at /var/lib/relay"),
    "bug": ZeroDivisionError("rk_secret_in_a_message"),
}


async def raising(request: web.Request) -> web.Response:
    raise RAISED[request.match_info["what"]]


REACHED = web.AppKey("reached", asyncio.Event)
ENDED = web.AppKey("ended", asyncio.Event)


@web.middleware
async def seen(request: web.Request, handler: typedefs.Handler) -> web.StreamResponse:
    """Outside of the middleware under test: tells when a request came and when all was said of it."""
    request.app[REACHED].set()
    try:
        return await handler(request)
    finally:
        request.app[ENDED].set()


async def echo(request: web.Request) -> web.Response:
    wishes = await reading.body(request, schemas.Wishes)
    return web.json_response({"notify": wishes.notify})


@pytest.fixture
async def client() -> AsyncIterator[test_utils.TestClient[web.Request, web.Application]]:
    app = web.Application(
        middlewares=[seen, problems.middleware(os.urandom, time.monotonic)], client_max_size=64 * 1024
    )
    app[REACHED], app[ENDED] = asyncio.Event(), asyncio.Event()
    app.router.add_get("/raise/{what}", raising)
    app.router.add_put("/echo", echo)
    server = test_utils.TestServer(app, host="127.0.0.1", handler_cancellation=False)
    async with test_utils.TestClient(server) as client:
        yield client


async def problem_of(response: aiohttp.ClientResponse) -> dict[str, Any]:
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = await response.json(content_type=None)
    assert body["status"] == response.status
    assert body["instance"] == f"urn:relay:request:{response.headers['X-Request-Id']}"
    assert body["type"] == "about:blank"
    assert body["title"]
    assert body["detail"]
    return body


@pytest.mark.parametrize(
    ("what", "status"),
    [
        ("refused", 422),
        ("conflict", 409),
        ("unresolved", 504),
        ("unauthorized", 502),
        ("transient", 502),
        ("rejected", 422),
        ("rejected_oddly", 499),
        ("store", 503),
        ("bug", 500),
    ],
)
async def test_every_error_has_its_status(client: Any, what: str, status: int) -> None:
    response = await client.get(f"/raise/{what}")
    assert response.status == status
    await problem_of(response)


async def test_a_refusal_carries_its_pointer(client: Any) -> None:
    body = await problem_of(await client.get("/raise/refused"))
    assert body["errors"] == [{"detail": "no destination named 'x'", "pointer": "/notify/0"}]


async def test_an_unresolved_create_names_the_key_to_ask_again_with(client: Any) -> None:
    response = await client.get("/raise/unresolved")
    assert response.headers["Idempotency-Key"] == "k-1"


async def test_an_upstreams_refusal_keeps_its_words(client: Any) -> None:
    body = await problem_of(await client.get("/raise/rejected"))
    assert body["detail"] == "resolution is not supported"
    assert body["errors"] == [{"detail": "not one of 768p", "pointer": "/input/resolution"}]


async def test_an_unusable_database_is_told_without_its_details(client: Any) -> None:
    response = await client.get("/raise/store")
    assert int(response.headers["Retry-After"]) > 0
    assert "/var/lib" not in await response.text()


async def test_an_unforeseen_error_tells_nothing_and_is_logged_once(client: Any) -> None:
    with structlog.testing.capture_logs() as lines:
        response = await client.get("/raise/bug?token=secret")
    body = await problem_of(response)
    assert "rk_secret" not in str(body)
    [line] = lines
    assert line["log_level"] == "error"
    assert line["exc_info"] is RAISED["bug"]
    assert line["status"] == 500
    assert line["request_id"] == response.headers["X-Request-Id"]
    assert line["route"] == "/raise/{what}"
    assert "secret" not in str({k: v for k, v in line.items() if k != "exc_info"})


async def test_foreseen_failures_are_logged_without_a_traceback(client: Any) -> None:
    with structlog.testing.capture_logs() as lines:
        await client.get("/raise/unauthorized")
        await client.get("/raise/conflict")
    [line] = lines
    assert line["reason"] == "mindvideo refuses the API key"
    assert "exc_info" not in line


async def test_unknown_routes_and_methods(client: Any) -> None:
    missing = await client.get("/nowhere")
    assert missing.status == 404
    await problem_of(missing)
    wrong = await client.delete("/echo")
    assert wrong.status == 405
    assert wrong.headers["Allow"] == "PUT"
    await problem_of(wrong)


@pytest.mark.parametrize("own", ["abc-123", "A" * 64, "a.b_c:d"])
async def test_a_fit_request_id_of_the_callers_is_kept(client: Any, own: str) -> None:
    response = await client.get("/nowhere", headers={"X-Request-Id": own})
    assert response.headers["X-Request-Id"] == own


@pytest.mark.parametrize("own", ["", "A" * 65, "a b", "<script>", "é"])
async def test_any_other_is_replaced(client: Any, own: str) -> None:
    response = await client.get("/nowhere", headers={"X-Request-Id": own})
    assert response.headers["X-Request-Id"].startswith("req_")
    await problem_of(response)


async def put(client: Any, body: bytes, **headers: str) -> aiohttp.ClientResponse:
    sent = {"Content-Type": "application/json"} | {k.replace("_", "-"): v for k, v in headers.items()}
    response: aiohttp.ClientResponse = await client.put("/echo", data=body, headers=sent)
    return response


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "application/json; charset=utf-8",
        "APPLICATION/JSON",
        "application/merge-patch+json",
    ],
)
async def test_json_types_are_read(client: Any, kind: str) -> None:
    assert (await put(client, b'{"notify": ["a"]}', Content_Type=kind)).status == 200


@pytest.mark.parametrize(
    "kind",
    ["application/x-www-form-urlencoded", "text/plain", "application/json; charset=utf-16", "nonsense"],
)
async def test_other_types_are_refused_with_advice(client: Any, kind: str) -> None:
    response = await put(client, b'{"notify": ["a"]}', Content_Type=kind)
    assert response.status == 415
    assert "JSON" in (await problem_of(response))["detail"]


async def test_no_body_is_an_empty_object(client: Any) -> None:
    assert (await client.put("/echo")).status == 200


async def test_a_body_over_the_limit_is_refused_before_it_is_read(client: Any) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999999\r\n\r\n{"
    )
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert b" 413 " in answer
    writer.close()


async def test_a_chunked_body_over_the_limit_is_refused(client: Any) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(20):
            yield b" " * 8192

    response = await client.put("/echo", data=endless(), headers={"Content-Type": "application/json"})
    assert response.status == 413
    await problem_of(response)


async def test_a_compressed_bomb_is_refused(client: Any) -> None:
    bomb = gzip.compress(b" " * 10_000_000)
    response = await put(client, bomb, Content_Encoding="gzip")
    assert response.status == 415


async def test_a_caller_who_goes_away_is_no_error(client: Any) -> None:
    reached, ended = client.app[REACHED], client.app[ENDED]
    with structlog.testing.capture_logs() as lines:
        _, writer = await asyncio.open_connection("127.0.0.1", client.port)
        writer.write(
            b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
        )
        await asyncio.wait_for(reached.wait(), 10)
        writer.close()
        await asyncio.wait_for(ended.wait(), 10)
    assert lines == []


async def test_a_body_that_trickles_is_cut_off(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BODY_TIMEOUT", 0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", client.port)
    writer.write(
        b"PUT /echo HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
    )
    answer = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert b" 408 " in answer
    writer.close()


async def test_one_fault_is_told_whole_and_many_are_capped(client: Any) -> None:
    one = await problem_of(await put(client, b'{"notify": "renders"}'))
    assert one["detail"] == "/notify: must be a list"
    raw = b'{"metadata": {' + b",".join(b'"k%d": 1e999' % n for n in range(80)) + b"}}"
    many = await problem_of(await put(client, raw))
    assert len(many["errors"]) == problems.FAULTS_MAX
