"""Registering, reading and letting go of tasks, as a caller sees it."""

from __future__ import annotations

import re
from typing import Any

import pytest
from yarl import URL

from relay.web.schemas import common as schemas
from tests.web.conftest import ADMIN_KEY

INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
MEMBERS = ["request_id", "task_id", "status", "cost_estimate", "cost_actual", "output", "relay"]


def test_instants_are_utc_with_milliseconds() -> None:
    assert schemas.instant(0.0) == "1970-01-01T00:00:00.000Z"
    assert schemas.instant(1_750_000_000.1234) == "2025-06-15T15:06:40.123Z"


async def test_put_registers_a_task_that_nothing_is_known_of(api: Any) -> None:
    reply = await api.call("PUT", "/tasks/task_x", json={"notify": ["pipeline"], "metadata": {"order": 7}})
    assert reply.status == 201
    assert list(reply.body) == MEMBERS
    assert reply.body["status"] == "queued"
    relay = reply.body["relay"]
    assert relay["id"].startswith("tsk_")
    assert relay["upstream"] == "mindvideo"
    assert relay["verdict"] == "running"
    assert relay["registrations"] == [
        {"key": "key_admin", "notify": ["pipeline"], "statuses": None, "metadata": {"order": 7}}
    ]
    assert relay["events_seen"] == 0
    assert relay["finished_at"] is None
    assert INSTANT.fullmatch(relay["created_at"])
    assert INSTANT.fullmatch(relay["next_poll_at"])


async def test_put_again_adds_and_answers_200(api: Any) -> None:
    task = await api.upstream.submit()
    assert (await api.call("PUT", f"/tasks/{task}", json={"notify": ["pipeline"]})).status == 201
    again = await api.call("PUT", f"/tasks/{task}", json={"notify": ["archive"], "statuses": ["failed"]})
    assert again.status == 200
    [registration] = again.body["relay"]["registrations"]
    assert registration["notify"] == ["pipeline", "archive"]
    assert registration["statuses"] == ["failed"]


async def test_put_of_a_task_that_another_key_registered_is_a_201(api: Any) -> None:
    task = await api.upstream.submit()
    key, key_id = await api.client_key()
    await api.call("PUT", f"/tasks/{task}")
    await api.until(f"/tasks/{task}", lambda body: body["relay"]["events_seen"] >= 1)
    reply = await api.call("PUT", f"/tasks/{task}", key=key)
    assert reply.status == 201
    assert [r["key"] for r in reply.body["relay"]["registrations"]] == [key_id]
    assert reply.body["relay"]["events_seen"] >= 1


async def test_a_task_that_ended_shows_what_the_upstream_said(api: Any) -> None:
    task = await api.upstream.submit()
    await api.call("PUT", f"/tasks/{task}")
    api.upstream.finish()
    body = await api.until(f"/tasks/{task}", lambda body: body["relay"]["verdict"] == "ended")
    said = await api.upstream.task(task)
    assert {name: body[name] for name in said} == said
    assert "error" not in body
    assert isinstance(body["cost_actual"], float)
    assert INSTANT.fullmatch(body["relay"]["finished_at"])
    assert body["relay"]["next_poll_at"] is None


async def test_a_failed_task_has_its_error(api: Any) -> None:
    task = await api.upstream.submit(prompt="a cat [fail]")
    await api.call("PUT", f"/tasks/{task}")
    api.upstream.finish()
    body = await api.until(f"/tasks/{task}", lambda body: body["status"] == "failed")
    assert body["error"] == (await api.upstream.task(task))["error"]


async def test_events_can_be_read_on_and_on(api: Any) -> None:
    task = await api.upstream.submit()
    await api.call("PUT", f"/tasks/{task}")
    empty = await api.call("GET", f"/tasks/{task}/events")
    assert empty.status == 200
    assert empty.body["next_cursor"]
    first = await api.until(f"/tasks/{task}/events", lambda body: len(body["events"]) == 1)
    assert list(first) == [*MEMBERS, "events", "next_cursor"]
    api.upstream.finish()
    path = f"/tasks/{task}/events?cursor={first['next_cursor']}"
    rest = await api.until(path, lambda body: len(body["events"]) == 2)
    assert [event["status"] for event in first["events"] + rest["events"]] == [
        "queued",
        "processing",
        "succeeded",
    ]
    event = rest["events"][-1]
    assert list(event) == ["id", "type", "status", "timestamp", "data"]
    assert event["id"].startswith("evt_")
    assert INSTANT.fullmatch(event["timestamp"])
    end = await api.call("GET", f"/tasks/{task}/events?cursor={rest['next_cursor']}")
    assert end.body["events"] == []
    assert end.body["next_cursor"] == rest["next_cursor"]


async def test_an_events_cursor_of_another_task_is_refused(api: Any) -> None:
    one, other = "task_one", "task_other"
    for task in (one, other):
        await api.call("PUT", f"/tasks/{task}")
    cursor = (await api.call("GET", f"/tasks/{one}/events")).body["next_cursor"]
    reply = await api.call("GET", f"/tasks/{other}/events?cursor={cursor}")
    assert reply.status == 422
    assert reply.body["errors"][0]["parameter"] == "cursor"


async def test_a_list_is_paged_newest_first(api: Any) -> None:
    for number in range(5):
        await api.call("PUT", f"/tasks/task_{number}")
    seen: list[str] = []
    path = "/tasks?limit=2"
    for expected in (2, 2, 1):
        reply = await api.call("GET", path)
        assert len(reply.body["tasks"]) == expected
        seen += [task["task_id"] for task in reply.body["tasks"]]
        path = f"/tasks?limit=2&cursor={reply.body['next_cursor']}"
    assert reply.body["next_cursor"] is None
    assert sorted(seen) == [f"task_{n}" for n in range(5)]
    created = [task["relay"]["created_at"] for task in (await api.call("GET", "/tasks")).body["tasks"]]
    assert created == sorted(created, reverse=True)


async def test_a_list_is_filtered(api: Any) -> None:
    good, bad = await api.upstream.submit(), await api.upstream.submit(prompt="[fail]")
    for task in (good, bad, "task_unknown"):
        await api.call("PUT", f"/tasks/{task}")
    api.upstream.finish()
    await api.until("/tasks?verdict=ended", lambda body: len(body["tasks"]) == 2)
    for query, expected in {
        "status=failed": {bad},
        "status=succeeded&verdict=ended": {good},
        "verdict=running": {"task_unknown"},
        "upstream=mindvideo": {good, bad, "task_unknown"},
    }.items():
        reply = await api.call("GET", f"/tasks?{query}")
        assert {task["task_id"] for task in reply.body["tasks"]} == expected, query


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("limit=0", "limit"),
        ("limit=201", "limit"),
        ("limit=ten", "limit"),
        ("status=done", "status"),
        ("upstream=other", "upstream"),
        ("verdict=x", "verdict"),
        ("cursor=xyz", "cursor"),
        ("stauts=failed", "stauts"),
        ("limit=1&limit=2", "limit"),
    ],
)
async def test_a_bad_query_is_refused_by_name(api: Any, query: str, parameter: str) -> None:
    reply = await api.call("GET", f"/tasks?{query}")
    assert reply.status == 422
    assert [error["parameter"] for error in reply.body["errors"]] == [parameter]


async def test_odd_text_in_a_query_is_refused(api: Any) -> None:
    for query in ("upstream=%00", "upstream=%ED%A0%80", "cursor=%00"):
        assert (await api.call("GET", f"/tasks?{query}")).status in (200, 422), query


async def test_delete_drops_ones_own_registration_only(api: Any) -> None:
    key, _ = await api.client_key()
    await api.call("PUT", "/tasks/task_x", json={"notify": ["pipeline"]})
    await api.call("PUT", "/tasks/task_x", key=key)
    gone = await api.call("DELETE", "/tasks/task_x", key=key)
    assert (gone.status, gone.body) == (204, None)
    assert (await api.call("GET", "/tasks/task_x", key=key)).status == 404
    assert (await api.call("DELETE", "/tasks/task_x", key=key)).status == 404
    kept = (await api.call("GET", "/tasks/task_x")).body
    assert [r["key"] for r in kept["relay"]["registrations"]] == ["key_admin"]


async def test_a_client_sees_its_own_tasks_and_its_own_registration(api: Any) -> None:
    one, one_id = await api.client_key("one")
    other, _ = await api.client_key("other")
    await api.call("PUT", "/tasks/task_shared", key=one, json={"metadata": {"mine": 1}})
    await api.call("PUT", "/tasks/task_shared", key=other, json={"metadata": {"theirs": 2}})
    await api.call("PUT", "/tasks/task_theirs", key=other)
    listed = (await api.call("GET", "/tasks", key=one)).body["tasks"]
    assert [task["task_id"] for task in listed] == ["task_shared"]
    [registration] = listed[0]["relay"]["registrations"]
    assert (registration["key"], registration["metadata"]) == (one_id, {"mine": 1})
    for path in ("/tasks/task_theirs", "/tasks/task_theirs/events", "/tasks/task_nowhere"):
        assert (await api.call("GET", path, key=one)).status == 404
    assert len((await api.call("GET", "/tasks")).body["tasks"]) == 2
    assert len((await api.call("GET", "/tasks/task_shared")).body["relay"]["registrations"]) == 2


@pytest.mark.parametrize("bad", ["a" * 201, "a%20b", "a%2Fb", "%C3%A9", "a%00b", "a%3Fb", "%25"])
@pytest.mark.parametrize(("method", "tail"), [("GET", ""), ("PUT", ""), ("DELETE", ""), ("GET", "/events")])
async def test_a_bad_id_is_a_422(api: Any, method: str, tail: str, bad: str) -> None:
    url = URL(f"{api.running.url}/api/v1/tasks/{bad}{tail}", encoded=True)
    headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
    async with api.session.request(method, url, headers=headers) as response:
        assert response.status == 422
        assert response.content_type == "application/problem+json"


async def test_an_id_may_name_its_upstream(api: Any) -> None:
    await api.call("PUT", "/tasks/mindvideo:task_x")
    assert (await api.call("GET", "/tasks/task_x")).status == 200
    assert (await api.call("GET", "/tasks/mindvideo:task_x")).status == 200
    assert (await api.call("PUT", "/tasks/other:task_x")).status == 201
    assert (await api.call("GET", "/tasks/other:task_x")).body["task_id"] == "other:task_x"


async def test_with_two_upstreams_and_no_default_one_must_be_named(start: Any) -> None:
    second = {"base_url": "http://127.0.0.1:9", "api_key": "x"}
    upstreams = {"mindvideo": second, "other": second}
    async with start("http://127.0.0.1:9", upstreams=upstreams) as api:
        for method in ("PUT", "GET", "DELETE"):
            reply = await api.call(method, "/tasks/task_x")
            assert reply.status == 422
            assert "mindvideo, other" in reply.body["detail"]
        assert (await api.call("PUT", "/tasks/other:task_x")).status == 201
        listed = (await api.call("GET", "/tasks?upstream=other")).body["tasks"]
        assert [task["relay"]["upstream"] for task in listed] == ["other"]
        misspelt = await api.call("GET", "/tasks?upstream=othr")
        assert misspelt.body["detail"] == "upstream: is no configured upstream; did you mean 'other'?"
        create = await api.call("POST", "/tasks", json={"model": "m", "input": {}, "upstream": "othr"})
        assert create.status == 422
        assert create.body["errors"][0]["pointer"] == "/upstream"
        assert "'other'" in create.body["detail"]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({"notify": ["pipeline", "nobody"]}, ["/notify/1"]),
        ({"notify": "pipeline"}, ["/notify"]),
        ({"notify": [""]}, ["/notify/0"]),
        ({"statuses": ["done"], "metadata": 5}, ["/statuses/0", "/metadata"]),
        ({"statuses": []}, ["/statuses"]),
        ({"notfy": ["pipeline"]}, ["/notfy"]),
        ({"upstream": "mindvideo"}, ["/upstream"]),
        ({"metadata": {"x": "y" * 4096}}, ["/metadata"]),
        ([], [""]),
    ],
)
async def test_a_bad_registration_is_refused_and_nothing_is_stored(
    api: Any, body: Any, pointers: list[str]
) -> None:
    reply = await api.call("PUT", "/tasks/task_x", json=body)
    assert reply.status == 422
    assert [error["pointer"] for error in reply.body["errors"]] == pointers
    assert (await api.call("GET", "/tasks/task_x")).status == 404


async def test_a_body_over_the_limit_is_a_413(api: Any) -> None:
    reply = await api.call("PUT", "/tasks/task_x", raw=b" " * 70_000)
    assert reply.status == 413
    assert "over the limit of " in reply.body["detail"]
    assert " bytes; give large media" in reply.body["detail"]
    assert reply.body["instance"].startswith("urn:relay:request:")


async def test_put_never_calls_the_upstream_itself(start: Any) -> None:
    async with start("http://127.0.0.1:9") as api:
        assert (await api.call("PUT", "/tasks/task_x", json={"notify": ["pipeline"]})).status == 201
