"""Polling: every shape, the cursor at every level of trust, validators, the fall back."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from relay.domain import errors, model
from relay.upstreams import base, mindvideo
from tests.fakes import upstream
from tests.upstreams.conftest import KEY, Clock, Looks

QUEUED = {"id": "e1", "type": "status", "status": "queued", "timestamp": 1_750_000_001}
PROCESSING = {"id": "e2", "type": "status", "status": "processing", "timestamp": 1_750_000_002_500}
SUCCEEDED = {"id": "e3", "type": "status", "status": "succeeded", "timestamp": "2025-06-15T15:06:43Z"}
EVENTS = [QUEUED, PROCESSING, SUCCEEDED]
BODY = {
    "request_id": "req_demo_model",
    "task_id": "t1",
    "status": "succeeded",
    "cost_estimate": 0.3294,
    "cost_actual": 0.3294,
    "output": {"videos": [{"url": "https://example.com/output/demo.mp4"}]},
}


def sse(*events: Any, ids: bool = True) -> bytes:
    return b"".join(
        (f"id: {number}\n" if ids else "").encode() + b"data: " + json.dumps(event).encode() + b"\n\n"
        for number, event in enumerate(events, 1)
    )


def ndjson(*events: Any) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def statuses(page: model.Page) -> list[str | None]:
    return [event.snapshot.status for event in page.events]


SHAPES = {
    "bare list": upstream.Json(EVENTS),
    "events": upstream.Json({"events": EVENTS}),
    "data": upstream.Json({"data": EVENTS}),
    "items": upstream.Json({"items": EVENTS}),
    "nested": upstream.Json({"code": 0, "data": {"events": EVENTS}}),
    "with cursor": upstream.Json({"events": EVENTS, "next_cursor": "c3"}),
    "in a task body": upstream.Json({**BODY, "events": EVENTS, "next_cursor": None}),
    "json as text": upstream.Status(200, json.dumps(EVENTS).encode(), content_type="text/plain"),
    "byte order mark": upstream.Status(200, b"\xef\xbb\xbf" + json.dumps(EVENTS).encode()),
    "ndjson": upstream.Status(200, ndjson(*EVENTS), content_type="application/x-ndjson; charset=utf-8"),
    "ndjson without last end": upstream.Status(
        200, ndjson(*EVENTS).rstrip(), content_type="application/jsonl"
    ),
    "sse": upstream.Trickle([sse(*EVENTS)]),
    "sse that stays open": upstream.Trickle([sse(*EVENTS)], stay_open=True),
    "sse in pieces": upstream.Trickle([bytes([byte]) for byte in sse(*EVENTS)]),
}


def test_it_is_an_upstream() -> None:
    adapter: base.Upstream = mindvideo.MindVideo(name="m", base_url="https://example.com", api_key="k")
    assert adapter.name == "m"


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES.keys())
async def test_every_shape_gives_the_same_events_once(
    fake: upstream.FakeUpstream, look: Looks, shape: upstream.Answer
) -> None:
    fake.events("t1", shape)
    page = await look()
    assert statuses(page) == ["queued", "processing", "succeeded"]
    assert [event.id for event in page.events] == ["e1", "e2", "e3"]
    assert [event.timestamp for event in page.events] == [1_750_000_001.0, 1_750_000_002.5, 1_750_000_003.0]
    assert {event.type for event in page.events} == {"status"}
    assert page.events[0].data == QUEUED
    assert len({event.key for event in page.events}) == 3
    assert not page.authoritative
    again = await look()
    assert not again.news
    assert again.cursor == page.cursor
    look.restart()
    assert not (await look()).events, "the cursor alone must be enough after a restart"


async def test_requests_are_as_documented(fake: upstream.FakeUpstream, look: Looks) -> None:
    fake.events("t1", upstream.Json([]))
    await look()
    (request,) = fake.requests
    assert request.method == "GET"
    assert request.path == "/api/v1/tasks/t1/events"
    assert request.headers["Authorization"] == f"Bearer {KEY}"
    assert request.headers["Accept"].startswith("application/json, text/event-stream")


async def test_the_task_body_itself(fake: upstream.FakeUpstream, look: Looks) -> None:
    body = {**BODY, "status": "processing", "output": None}
    fake.events(
        "t1", upstream.Json(body), upstream.Json({**body, "request_id": "other"}), upstream.Json(BODY)
    )
    page = await look()
    assert page.events == ()
    assert page.snapshot is not None
    assert page.snapshot.status is model.Status.PROCESSING
    assert not page.authoritative
    assert not (await look()).news, "a new request_id is no news"
    end = await look()
    assert end.snapshot is not None
    assert end.snapshot.status is model.Status.SUCCEEDED
    assert end.snapshot.output == BODY["output"]
    assert end.snapshot.cost_actual == Decimal("0.3294")
    assert not (await look()).news


async def test_a_body_around_events_counts_when_it_changes(fake: upstream.FakeUpstream, look: Looks) -> None:
    first = {**BODY, "status": "processing", "events": [QUEUED], "next_cursor": "a"}
    fake.events(
        "t1",
        upstream.Json(first),
        upstream.Json({**first, "events": []}),
        upstream.Json({**BODY, "events": [], "next_cursor": "a"}),
    )
    page = await look()
    assert statuses(page) == ["queued"]
    assert page.snapshot is not None
    assert not (await look()).news
    end = await look()
    assert end.events == ()
    assert end.snapshot is not None
    assert end.snapshot.status is model.Status.SUCCEEDED


async def test_money_is_exact(fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo) -> None:
    fake.task(
        "t1",
        upstream.Json(
            '{"task_id":"t1","status":"failed","cost_estimate":0.12345678901234567,"cost_actual":"1.10"}'
        ),
    )
    snapshot = await adapter.fetch("t1")
    assert str(snapshot.cost_estimate) == "0.12345678901234567"
    assert str(snapshot.cost_actual) == "1.10"


# ── cursors ──


async def test_next_cursor_is_sent_back(fake: upstream.FakeUpstream, look: Looks) -> None:
    pages = {
        None: {"events": [QUEUED], "next_cursor": "a b&c=ä/?"},
        "a b&c=ä/?": {"events": [PROCESSING, SUCCEEDED], "next_cursor": "z"},
        "z": {"events": [], "next_cursor": None},
    }
    fake.events("t1", lambda request: upstream.Json(pages[request.query.get("cursor")]))
    assert statuses(await look()) == ["queued"]
    assert statuses(await look()) == ["processing", "succeeded"]
    page = await look()
    assert not page.news
    assert page.cursor is not None
    assert [request.query.get("cursor") for request in fake.requests] == [None, "a b&c=ä/?", "z"]


@pytest.mark.parametrize("ids", [True, False])
async def test_an_upstream_that_ignores_the_cursor(
    fake: upstream.FakeUpstream, look: Looks, ids: bool
) -> None:
    events = [dict(event) for event in EVENTS]
    if not ids:
        for event in events:
            del event["id"]
    for length in (1, 2, 3):
        fake.events("t1", upstream.Json({"events": events[:length], "next_cursor": f"c{length}"}))
        assert len((await look()).events) == 1
        look.restart()
        assert not (await look()).news


async def test_a_cursor_the_upstream_forgot_starts_over(fake: upstream.FakeUpstream, look: Looks) -> None:
    def answer(request: upstream.Recorded) -> upstream.Answer:
        if "cursor" in request.query:
            return upstream.Json({"error": "unknown cursor"}, status=400)
        return upstream.Json({"events": fake_events, "next_cursor": "a"})

    fake_events: list[Any] = [QUEUED]
    fake.events("t1", answer)
    assert statuses(await look()) == ["queued"]
    fake_events.append(SUCCEEDED)
    assert statuses(await look()) == ["queued", "succeeded"]
    assert not (await look()).news


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "v1:abc", "c1.zz.zz.", "n99999999999.0.0.", "s1." + "0" * 32 + "..a\nb", "ä" * 1000, "c0..."],
)
async def test_a_foreign_cursor_starts_over(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, cursor: str
) -> None:
    fake.events("t1", upstream.Json(EVENTS))
    page = await adapter.poll("t1", cursor=cursor, validator="nonsense")
    assert len(page.events) == 3
    assert not fake.requests[0].query


async def test_own_ids_find_their_place_in_a_window(fake: upstream.FakeUpstream, look: Looks) -> None:
    fake.events("t1", upstream.Json([QUEUED, PROCESSING]), upstream.Json([PROCESSING, SUCCEEDED]))
    await look()
    assert statuses(await look()) == ["succeeded"]


async def test_a_rewritten_list_starts_over(fake: upstream.FakeUpstream, look: Looks) -> None:
    plain = [{"status": "queued"}, {"status": "processing"}]
    fake.events("t1", upstream.Json(plain), upstream.Json([{"status": "failed"}, {"status": "processing"}]))
    await look()
    assert statuses(await look()) == ["failed", "processing"]


async def test_a_reused_id_cannot_swallow_an_end(fake: upstream.FakeUpstream, look: Looks) -> None:
    log = {"id": "e9", "type": "log"}
    fake.events(
        "t1",
        upstream.Json([QUEUED, log]),
        upstream.Json([{**QUEUED, "status": "failed"}, log]),
        upstream.Json([log, {**QUEUED, "status": "cancelled"}]),
    )
    first = await look()
    second = await look()
    assert statuses(second) == ["failed", None]
    assert second.events[0].id == first.events[0].id
    assert second.events[0].key != first.events[0].key
    assert second.events[1].key == first.events[1].key, "the same event keeps its key"
    assert "cancelled" in statuses(await look())


async def test_newest_first_is_noticed(fake: upstream.FakeUpstream, look: Looks) -> None:
    fake.events("t1", upstream.Json([QUEUED]), upstream.Json([SUCCEEDED, PROCESSING, QUEUED]))
    await look()
    assert "succeeded" in statuses(await look())


async def test_equal_events_without_ids_have_keys_of_their_own(
    fake: upstream.FakeUpstream, look: Looks
) -> None:
    fake.events("t1", upstream.Json([{"status": "queued"}]), upstream.Json([{"status": "queued"}] * 2))
    first, second = (await look()).events[0], (await look()).events[0]
    assert first.key != second.key


async def test_sse_ids_are_sent_back(fake: upstream.FakeUpstream, look: Looks) -> None:
    def answer(request: upstream.Recorded) -> upstream.Answer:
        after = int(request.headers.get("Last-Event-ID", "0"))
        plain = [{"status": event["status"]} for event in EVENTS]
        frames = sse(*plain[: after + 1]).split(b"\n\n")
        return upstream.Trickle([frame + b"\n\n" for frame in frames[after : after + 1]], stay_open=True)

    fake.events("t1", answer)
    assert statuses(await look()) == ["queued"]
    assert statuses(await look()) == ["processing"]
    look.restart()
    assert statuses(await look()) == ["succeeded"]
    assert [request.headers.get("Last-Event-ID") for request in fake.requests] == [None, "1", "2"]


async def test_a_stream_that_ignores_last_event_id(fake: upstream.FakeUpstream, look: Looks) -> None:
    fake.events(
        "t1",
        upstream.Trickle([sse(QUEUED)]),
        upstream.Trickle([sse(QUEUED)]),
        upstream.Trickle([sse(QUEUED, SUCCEEDED)]),
    )
    assert statuses(await look()) == ["queued"]
    assert not (await look()).news
    assert statuses(await look()) == ["succeeded"]


async def test_many_events_come_in_portions(fake: upstream.FakeUpstream, look: Looks) -> None:
    many = [{"id": number, "type": "progress"} for number in range(2 * mindvideo.PAGE_MAX + 1)]
    fake.events("t1", upstream.Json({"events": many, "next_cursor": "end"}))
    assert [len((await look()).events) for _ in range(4)] == [mindvideo.PAGE_MAX, mindvideo.PAGE_MAX, 1, 0]


# ── validators ──


async def test_an_etag_is_sent_back_verbatim_and_304_is_no_news(
    fake: upstream.FakeUpstream, look: Looks
) -> None:
    def answer(request: upstream.Recorded) -> upstream.Answer:
        if request.headers.get("If-None-Match") == 'W/"one"':
            return upstream.Status(304, headers={"ETag": 'W/"one"'})
        return upstream.Json([QUEUED], headers={"ETag": 'W/"one"'})

    fake.events("t1", answer)
    page = await look()
    assert len(page.events) == 1
    for _ in range(2):
        page = await look()
        assert not page.news
    assert [request.headers.get("If-None-Match") for request in fake.requests] == [None] + ['W/"one"'] * 2


async def test_an_etag_belongs_to_the_question_it_answered(fake: upstream.FakeUpstream, look: Looks) -> None:
    fake.events(
        "t1",
        upstream.Json({"events": [QUEUED], "next_cursor": "a"}, headers={"ETag": '"1"'}),
        upstream.Json({"events": [], "next_cursor": "a"}, headers={"ETag": '"2"'}),
        upstream.Status(304),
    )
    assert (await look()).news
    assert not (await look()).news
    assert not (await look()).news
    assert [request.headers.get("If-None-Match") for request in fake.requests] == [None, None, '"2"']


async def test_a_validator_is_worth_nothing_with_another_cursor(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo
) -> None:
    fake.events("t1", upstream.Json([QUEUED], headers={"ETag": '"1"'}))
    page = await adapter.poll("t1", cursor=None, validator=None)
    again = await adapter.poll("t1", cursor=None, validator=page.validator)
    assert again.events == page.events, "what was not stored is given again"
    assert "If-None-Match" not in fake.requests[1].headers


async def test_an_etag_that_cannot_be_a_header_is_dropped(fake: upstream.FakeUpstream, look: Looks) -> None:
    fake.events("t1", upstream.Json([QUEUED], headers={"ETag": "no quotes, ä"}))
    await look()
    await look()
    assert "If-None-Match" not in fake.requests[1].headers


# ── without events ──


@pytest.mark.parametrize(
    "refusal",
    [
        upstream.Json({}, status=404),
        upstream.Json({}, status=405),
        upstream.Json({}, status=501),
        upstream.Status(200, b"<html>app</html>", content_type="text/html"),
    ],
    ids=["404", "405", "501", "web page"],
)
async def test_without_events_the_task_endpoint_is_polled(
    fake: upstream.FakeUpstream,
    make: Callable[..., Any],
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    refusal: upstream.Answer,
) -> None:
    adapter = await make()
    caplog.set_level(logging.INFO, "relay.upstreams")
    for task_id in ("t1", "t2", "t3"):
        fake.events(task_id, refusal)
        fake.task(task_id, upstream.Json({"task_id": task_id, "status": "processing"}))
    looks = [Looks(adapter, task_id) for task_id in ("t1", "t2", "t3")]
    for look in looks:
        page = await look()
        assert page.authoritative
        assert page.snapshot is not None
        assert not (await look()).news
    assert len(fake.asked("/events")) == 5
    for look in looks * 3:
        assert not (await look()).news
    assert len(fake.asked("/events")) == 5
    warnings = [record for record in caplog.records if "no events endpoint" in record.message]
    assert len(warnings) == 1

    clock.now += mindvideo.EVENTS_RETRY - 1
    assert not (await looks[0]()).news
    assert len(fake.asked("/events")) == 5
    clock.now += 2
    for look in looks:
        assert not (await look()).news
    assert len(fake.asked("/events")) == 6, "one poll an hour asks again"
    fake.events("t1", upstream.Json([QUEUED]))
    fake.events("t2", upstream.Json([PROCESSING]))
    clock.now += mindvideo.EVENTS_RETRY + 1
    assert statuses(await looks[0]()) == ["queued"]
    assert statuses(await looks[1]()) == ["processing"]
    assert len([record for record in caplog.records if "no events endpoint" in record.message]) == 1


async def test_one_task_without_events_does_not_condemn_the_upstream(
    fake: upstream.FakeUpstream, make: Callable[..., Any]
) -> None:
    adapter = await make()
    fake.task("t1", upstream.Json({"task_id": "t1", "status": "queued"}))
    look = Looks(adapter, "t1")
    for _ in range(5):
        await look()
    assert len(fake.asked("/events")) == 5


async def test_a_success_between_clears_the_count(
    fake: upstream.FakeUpstream, make: Callable[..., Any]
) -> None:
    adapter = await make()
    fake.events("good", upstream.Json([]))
    for task_id in ("t1", "t2", "good", "t3", "t4"):
        fake.task(task_id, upstream.Json({"task_id": task_id, "status": "queued"}))
        await adapter.poll(task_id, cursor=None, validator=None)
    assert len(fake.asked("/events")) == 5
    await adapter.poll("t1", cursor=None, validator=None)
    assert len(fake.asked("/events")) == 6


async def test_a_lost_task_is_lost_by_the_task_endpoint_only(
    fake: upstream.FakeUpstream, look: Looks
) -> None:
    with pytest.raises(errors.TaskNotFound) as caught:
        await look()
    assert caught.value.status_code == 404
    assert [request.path for request in fake.requests] == ["/api/v1/tasks/t1/events", "/api/v1/tasks/t1"]
    fake.task("t1", upstream.Json({}, status=503))
    with pytest.raises(errors.UpstreamTransient):
        await look()


async def test_304_and_etag_work_in_task_mode(fake: upstream.FakeUpstream, look: Looks) -> None:
    fake.task(
        "t1",
        upstream.Json({"task_id": "t1", "status": "queued"}, headers={"ETag": '"t"'}),
        upstream.Status(304),
    )
    assert (await look()).authoritative
    page = await look()
    assert not page.news
    assert not page.authoritative
    assert fake.requests[-1].headers["If-None-Match"] == '"t"'
    assert "If-None-Match" not in fake.requests[-2].headers, "it is not the events endpoint's"


async def test_a_stream_of_news_only_is_checked_against_the_task(
    fake: upstream.FakeUpstream, look: Looks
) -> None:
    fake.events("t1", upstream.Trickle([b": hello\n\n"], stay_open=True))
    fake.task("t1", upstream.Json({"task_id": "t1", "status": "processing"}), upstream.Json(BODY))
    assert (await look()).authoritative
    end = await look()
    assert end.authoritative
    assert end.snapshot is not None
    assert end.snapshot.status is model.Status.SUCCEEDED


async def test_the_cursor_survives_a_page_from_the_task_endpoint(
    fake: upstream.FakeUpstream, look: Looks
) -> None:
    fake.events(
        "t1", upstream.Json([QUEUED]), upstream.Json({}, status=404), upstream.Json([QUEUED, SUCCEEDED])
    )
    fake.task("t1", upstream.Json({"task_id": "t1", "status": "processing"}))
    await look()
    assert (await look()).authoritative
    assert statuses(await look()) == ["succeeded"]


# ── ids ──


@pytest.mark.parametrize(
    "task_id", ["", ".", "..", "a/b", "a?b", "a#b", "a b", "ä", "%2e%2e", "x" * 201, "a\n"]
)
async def test_ids_that_could_leave_the_path_are_refused(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, task_id: str
) -> None:
    with pytest.raises(ValueError, match="not a task id"):
        await adapter.poll(task_id, cursor=None, validator=None)
    with pytest.raises(ValueError, match="not a task id"):
        await adapter.fetch(task_id)
    assert fake.requests == []


@pytest.mark.parametrize("task_id", ["...", "~", "a:b", "task_1.2-3", ":", "-", "x" * 200])
async def test_odd_ids_arrive_as_they_are(
    fake: upstream.FakeUpstream, adapter: mindvideo.MindVideo, task_id: str
) -> None:
    fake.task(task_id, upstream.Json({"task_id": task_id, "status": "queued"}))
    assert (await adapter.fetch(task_id)).status is model.Status.QUEUED
    assert fake.requests[0].path == f"/api/v1/tasks/{task_id}"
