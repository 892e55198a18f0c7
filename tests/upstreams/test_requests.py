"""What answers and peers mean: creating, errors, Retry-After, limits, hostile peers, secrets."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Awaitable, Callable
from decimal import Decimal
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiohttp import web

from relay.domain import errors, model
from relay.upstreams import http, mindvideo
from tests.fakes import upstream
from tests.upstreams.conftest import KEY, Looks

REQUEST = b'{"model": "minimax-hailuo-2-3",  "input": {"prompt": "\\u00e4"}}'
ANSWER = {
    "request_id": "req_1",
    "task_id": "t1",
    "status": "queued",
    "cost_estimate": 0.3294,
    "unknown": {"kept": [1, None, "x"]},
}


async def poll(adapter: mindvideo.MindVideo) -> model.Page:
    return await adapter.poll("t1", cursor=None, validator=None)


async def fetch(adapter: mindvideo.MindVideo) -> model.Snapshot:
    return await adapter.fetch("t1")


async def create(adapter: mindvideo.MindVideo) -> Any:
    return await adapter.create(REQUEST, idempotency_key="key-1")


CALLS = [poll, fetch, create]
Call = Callable[[mindvideo.MindVideo], Awaitable[Any]]


def everywhere(fake: upstream.FakeUpstream, *answers: upstream.Answer) -> None:
    fake.events("t1", *answers)
    fake.task("t1", *answers)
    fake.create(*answers)


def chain(error: BaseException) -> str:
    """Everything a log may show of an error."""
    import traceback

    return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))


# ── creating ──


@pytest.mark.parametrize("status", [200, 201, 202])
async def test_create(fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, status: int) -> None:
    fake.create(upstream.Json(ANSWER, status=status))
    created = await create(adapter)
    assert created.task_id == "t1"
    assert created.body == ANSWER
    assert created.status_code == status
    assert created.replayed is (status == 200)
    assert created.snapshot.status is model.Status.QUEUED
    assert created.snapshot.cost_estimate == Decimal("0.3294")
    (request,) = fake.requests
    assert request.body == REQUEST
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["Idempotency-Key"] == "key-1"
    assert request.headers["Authorization"] == f"Bearer {KEY}"


async def test_a_replay_is_known_by_its_header(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo
) -> None:
    fake.create(upstream.Json(ANSWER, status=201, headers={"Idempotent-Replayed": "true"}))
    assert (await create(adapter)).replayed


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "bad_request"),
        (402, "payment_required"),
        (404, "not_found"),
        (409, "idempotency_mismatch"),
        (413, "too_large"),
        (415, "unsupported_media_type"),
        (418, "refused"),
        (422, "invalid_input"),
    ],
)
async def test_a_refusal_carries_the_upstreams_own_words(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, status: int, reason: str
) -> None:
    problem = {"detail": "duration", "errors": [{"pointer": "/input/duration"}]}
    fake.create(upstream.Json(problem, status=status))
    with pytest.raises(errors.UpstreamRejected) as caught:
        await create(adapter)
    assert caught.value.reason == reason
    assert caught.value.status_code == status
    assert caught.value.problem == problem
    assert len(fake.requests) == 1


@pytest.mark.parametrize("task_id", ["../../admin", "a/b", "", "..", None, 5.5, {"a": 1}, "x" * 300])
async def test_a_created_task_with_an_unusable_id_is_told_as_such(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, task_id: Any
) -> None:
    fake.create(upstream.Json({**ANSWER, "task_id": task_id}, status=201))
    if task_id == 5.5:
        assert (await create(adapter)).task_id == "5.5"
        return
    with pytest.raises(errors.UpstreamRejected) as caught:
        await create(adapter)
    assert caught.value.reason == "bad_answer"
    assert caught.value.status_code == 201
    assert "may have been created and charged" in str(caught.value)


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b"[]", b"null", b'"t1"', b"[" * 100_000])
async def test_an_unreadable_answer_to_a_create_is_asked_again(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, body: bytes
) -> None:
    fake.create(upstream.Status(201, body))
    with pytest.raises(errors.UpstreamTransient) as caught:
        await create(adapter)
    assert caught.value.reason == "unreadable_body"


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "ä", "x" * 256])
async def test_a_key_that_is_no_header_is_refused(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, key: str
) -> None:
    with pytest.raises(ValueError, match="not an idempotency key"):
        await adapter.create(REQUEST, idempotency_key=key)
    assert fake.requests == []


async def test_a_create_is_never_sent_twice_by_itself(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo
) -> None:
    fake.create(upstream.Json(ANSWER, status=201), upstream.Reset())
    await create(adapter)
    with pytest.raises(errors.UpstreamTransient):
        await create(adapter)  # on the connection kept from the first
    assert len(fake.requests) == 2


# ── statuses ──


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("status", [401, 403])
async def test_a_bad_credential(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, call: Call, status: int
) -> None:
    everywhere(fake, upstream.Json({"error": f"key {KEY} is disabled"}, status=status))
    with pytest.raises(errors.UpstreamUnauthorized) as caught:
        await call(adapter)
    assert caught.value.status_code == status
    assert "upstreams.mindvideo.api_key" in str(caught.value)
    assert KEY not in chain(caught.value)


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (408, "timeout"),
        (425, "too_early"),
        (429, "rate_limited"),
        *((status, "server_error") for status in (500, 502, 503, 504, 520, 521, 524, 527)),
        (301, "redirect"),
        (302, "redirect"),
        (307, "redirect"),
        (308, "redirect"),
    ],
)
async def test_what_passes(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, call: Call, status: int, reason: str
) -> None:
    page = upstream.Status(
        status,
        b"<html>cloudflare</html>",
        {"Retry-After": "17", "Location": f"{fake.url}/api/v1/tasks/t2"},
        content_type="text/html",
    )
    everywhere(fake, page)
    with pytest.raises(errors.UpstreamTransient) as caught:
        await call(adapter)
    assert caught.value.reason == reason
    assert caught.value.status_code == status
    assert caught.value.retry_after == 17.0
    assert len(fake.requests) == 1


async def test_a_redirect_never_takes_the_key_elsewhere(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo
) -> None:
    async with upstream.running() as other:
        everywhere(fake, upstream.Status(307, headers={"Location": f"{other.url}/api/v1/tasks"}))
        for call in CALLS:
            with pytest.raises(errors.UpstreamTransient, match="never followed"):
                await call(adapter)
        assert other.requests == []


@pytest.mark.parametrize("status", [400, 410, 422])
async def test_only_404_means_lost(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, status: int
) -> None:
    everywhere(fake, upstream.Json({}, status=status))
    for call in (poll, fetch):
        with pytest.raises(errors.UpstreamTransient) as caught:
            await call(adapter)
        assert caught.value.reason == "unexpected_status"


@pytest.mark.parametrize("call", [poll, fetch])
@pytest.mark.parametrize(
    "body",
    [b"", b"{", b'{"a": 1}', b"null", b"7", b'"x"', b"[" * 200_000, b'{"status": 500, "title": "x"}'],
)
async def test_an_unreadable_success_passes(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, call: Call, body: bytes
) -> None:
    everywhere(fake, upstream.Status(200, body))
    with pytest.raises(errors.UpstreamTransient) as caught:
        await call(adapter)
    assert caught.value.reason == "unreadable_body"
    assert caught.value.status_code == 200


async def test_deep_nesting_is_refused_below_a_task_too(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo
) -> None:
    everywhere(
        fake, upstream.Json('{"task_id":"t1","status":"queued","output":' + "[" * 200 + "]" * 200 + "}")
    )
    for call in CALLS:
        with pytest.raises(errors.UpstreamTransient) as caught:
            await call(adapter)
        assert caught.value.reason == "unreadable_body"


# ── Retry-After ──


@pytest.mark.parametrize(
    ("header", "date", "seconds"),
    [
        ("5", None, 5.0),
        ("0", None, 1.0),
        ("86400", None, 3600.0),
        ("9" * 5000, None, 3600.0),
        ("1.5", None, None),
        ("-3", None, None),
        ("soon", None, None),
        ("", None, None),
        ("٣", None, None),
        (formatdate(1000.0, usegmt=True), formatdate(970.0, usegmt=True), 30.0),
        (formatdate(1000.0, usegmt=True), formatdate(2000.0, usegmt=True), 1.0),
        (formatdate(1000.0, usegmt=True), "nonsense", 40.0),
        (formatdate(1000.0, usegmt=True), None, 40.0),
        ("Mon, 99 Foo 20999 99:99:99 GMT", None, None),
    ],
)
def test_retry_after(header: str, date: str | None, seconds: float | None) -> None:
    headers = {"Retry-After": header} | ({"Date": date} if date is not None else {})
    assert http.retry_after(headers, now=960.0) == seconds


# ── hostile peers ──


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    ("answer", "reasons"),
    [
        (upstream.Hang(), {"timeout"}),
        (upstream.Trickle([b" "] * 1000, 0.05, content_type="application/json"), {"timeout"}),
        (upstream.Truncated(b'{"task_id":'), {"truncated"}),
        (upstream.Reset(), {"disconnected"}),
        (upstream.Raw(b""), {"disconnected"}),
        (upstream.Raw(b"SSH-2.0-OpenSSH\r\n\r\n"), {"protocol"}),
        (upstream.Raw(b"HTTP/1.1 200 OK\r\nX: " + b"a" * 100_000 + b"\r\n\r\n"), {"protocol"}),
        (upstream.Status(200, b"abc", {"Content-Encoding": "br"}), {"protocol", "truncated"}),
        (upstream.Status(200, b"abc", {"Content-Encoding": "gzip"}), {"truncated"}),
        (upstream.Json(" " * 70_000), {"body_too_large"}),
        (upstream.Trickle([b" " * 9_000] * 9, content_type="application/json"), {"body_too_large"}),
        (upstream.Bomb(20_000_000), {"body_too_large"}),
    ],
    ids=[
        "hangs", "trickles", "truncated", "resets", "closes", "not http", "huge header", "br", "bad gzip",
        "large", "large in chunks", "bomb",
    ],
)  # fmt: skip
async def test_a_hostile_peer_costs_bounded_time_and_memory(
    fake: upstream.FakeUpstream,
    make: Callable[..., Any],
    call: Call,
    answer: upstream.Answer,
    reasons: set[str],
) -> None:
    adapter = await make(timeout=0.5, submit_timeout=0.5, body_max=65_536)
    everywhere(fake, answer)
    with pytest.raises(errors.UpstreamTransient) as caught:
        async with asyncio.timeout(20):
            await call(adapter)
    assert caught.value.reason in reasons
    assert KEY not in chain(caught.value)
    everywhere(fake, upstream.Json(ANSWER))
    await call(adapter)  # the pool is not poisoned


@pytest.mark.parametrize(
    "stream",
    [
        upstream.Trickle([b":\n\n"] * 1000, 0.05),
        upstream.Trickle([b"data: x" * 20_000]),
        upstream.Trickle([b"data: " + b"[" * 50_000 + b"\n\n"]),
        upstream.Trickle([b"{"], stay_open=True, content_type="application/x-ndjson"),
        upstream.Trickle([b"{\n", b'{"status":"queued"}\n'], content_type="application/x-ndjson"),
        upstream.Trickle([b"\n" * 60_000] * 3, content_type="application/x-ndjson"),
        upstream.Truncated(b"data: {", content_type="text/event-stream"),
        upstream.Bomb(10_000_000, content_type="text/event-stream"),
    ],
)
async def test_a_stream_that_says_nothing_leaves_it_to_the_task_endpoint(
    fake: upstream.FakeUpstream, make: Callable[..., Any], stream: upstream.Answer
) -> None:
    adapter = await make(timeout=5.0, stream_window=0.5, body_max=65_536)
    fake.events("t1", stream)
    fake.task("t1", upstream.Json({"task_id": "t1", "status": "processing"}))
    look = Looks(adapter, "t1")
    page = await look()
    assert page.authoritative
    assert page.snapshot is not None
    assert page.snapshot.status is model.Status.PROCESSING
    assert not (await look()).news


async def test_a_cut_stream_gives_what_came_before(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo
) -> None:
    fake.events(
        "t1", upstream.Truncated(b'data: {"status":"queued"}\n\ndata: {"st', content_type="text/event-stream")
    )
    page = await poll(adapter)
    assert [event.snapshot.status for event in page.events] == [model.Status.QUEUED]


async def test_reading_a_stream_stops_at_an_end(
    fake: upstream.FakeUpstream, make: Callable[..., Any]
) -> None:
    adapter = await make(timeout=120.0, stream_quiet=60.0, stream_window=60.0)
    frames = [b'event: task.succeeded\ndata: {"output": {"videos": []}}\n\n']
    fake.events("t1", upstream.Trickle(frames, stay_open=True))
    async with asyncio.timeout(20):
        page = await poll(adapter)
    assert page.events[0].type == "task.succeeded"
    assert page.events[0].snapshot.status is model.Status.SUCCEEDED
    assert page.events[0].snapshot.output == {"videos": []}


async def test_an_upstream_that_is_not_there(make: Callable[..., Any], unused_tcp_port: int) -> None:
    adapter = await make(base_url=f"http://127.0.0.1:{unused_tcp_port}")
    for call in CALLS:
        with pytest.raises(errors.UpstreamTransient) as caught:
            await call(adapter)
        assert caught.value.reason == "unreachable"
        assert caught.value.status_code is None


async def test_tls_needs_a_known_authority(make: Callable[..., Any], tmp_path: Path) -> None:
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))

    async def answer(_: web.Request) -> web.Response:
        return web.json_response({"task_id": "t1", "status": "queued"})

    app = web.Application()
    app.router.add_get("/api/v1/tasks/t1", answer)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        url = f"https://127.0.0.1:{runner.addresses[0][1]}"
        assert (await fetch(await make(base_url=url, ca_file=tmp_path / "ca.pem"))).status
        with pytest.raises(errors.UpstreamTransient) as caught:
            await fetch(await make(base_url=url))
        assert caught.value.reason == "tls"
    finally:
        await runner.cleanup()


async def test_proxies_and_cookies_of_the_environment_are_not_used(
    fake: upstream.FakeUpstream, make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    adapter = await make()
    fake.task("t1", upstream.Json(ANSWER, headers={"Set-Cookie": "a=b"}))
    await fetch(adapter)
    await fetch(adapter)
    assert "Cookie" not in fake.requests[1].headers


# ── configuration and secrets ──


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example.com",
        "ftp://x",
        "http://",
        "http://u:p@x",
        "http://x?a=1",
        "http://x#f",
        "http://x:99999",
    ],
)
def test_a_bad_base_url_is_one_clear_line_without_its_value(url: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"^upstreams\.m\.base_url: must") as caught:
        mindvideo.MindVideo(name="m", base_url=url, api_key="k")
    assert "u:p" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "ä", "a\n"])
def test_a_bad_key_is_one_clear_line_without_its_value(key: str) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"^upstreams\.m\.api_key: must"):
        mindvideo.MindVideo(name="m", base_url="http://x", api_key=key)


@pytest.mark.parametrize("suffix", ["", "/", "/api/v1", "/api/v1/"])
async def test_base_urls_with_and_without_the_api_path(
    fake: upstream.FakeUpstream, make: Callable[..., Any], suffix: str
) -> None:
    fake.task("t1", upstream.Json(ANSWER))
    assert (await fetch(await make(base_url=fake.url + suffix))).status is model.Status.QUEUED


async def test_a_ca_file_that_is_none(make: Callable[..., Any], tmp_path: Path) -> None:
    with pytest.raises(errors.ConfigurationError, match=r"^network\.ca_file"):
        await make(ca_file=tmp_path / "absent.pem")


async def test_the_key_is_in_no_text(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    assert KEY not in repr(adapter) + str(adapter)
    everywhere(fake, upstream.Json({"you sent": f"Bearer {KEY}"}, status=404))
    for call in CALLS:
        with pytest.raises(errors.UpstreamError) as caught:
            await call(adapter)
        assert KEY not in chain(caught.value)
    assert KEY not in caplog.text


async def test_closing_twice_and_using_it_closed(adapter: mindvideo.MindVideo) -> None:
    await adapter.open()
    await adapter.aclose()
    await adapter.aclose()
    with pytest.raises(RuntimeError, match="open"):
        await fetch(adapter)
