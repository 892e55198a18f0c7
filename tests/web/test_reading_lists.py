"""Filters, pages and validators of what is read, as a caller sees them."""

from __future__ import annotations

import urllib.parse
from typing import Any

import pytest

from relay.store.sql import walking
from relay.web import cursors, filters


async def register(api: Any, *names: str, key: str | None = None, **metadata: Any) -> None:
    for name in names:
        given = {"key": key} if key else {}
        reply = await api.call(
            "PUT", f"/tasks/{name}", json={"metadata": metadata} if metadata else {}, **given
        )
        assert reply.status in (200, 201), reply.body


async def listed(api: Any, query: str, **options: Any) -> list[str]:
    reply = await api.call("GET", f"/tasks?{query}", **options)
    assert reply.status == 200, reply.body
    return [task["task_id"] for task in reply.body["tasks"]]


async def test_tasks_are_filtered_by_metadata_of_ones_own_registration(api: Any) -> None:
    mine, _ = await api.client_key("mine")
    theirs, _ = await api.client_key("theirs")
    await register(api, "task_a", key=mine, order=7, shop="north", deep={"order": 8}, flag=True)
    await register(api, "task_b", key=mine, order="7", shop="south")
    await register(api, "task_b", key=theirs, shop="north")
    for query, expected in {
        "metadata.order=7": ["task_b", "task_a"],  # a text and a number
        "metadata.shop=north": ["task_a"],
        "metadata.shop=north&metadata.order=7": ["task_a"],
        "metadata.shop=north&metadata.order=8": [],
        "metadata.flag=true": ["task_a"],
        "metadata.deep=8": [],
        "metadata.deep.order=8": None,
        "metadata.other=1": [],
        "metadata.shop=": [],
        "metadata.shop=north%27%22%5C": [],
    }.items():
        if expected is None:
            assert (await api.call("GET", f"/tasks?{query}", key=mine)).status == 422
        else:
            assert await listed(api, query, key=mine) == expected, query
    assert await listed(api, "metadata.shop=north", key=theirs) == ["task_b"]
    assert sorted(await listed(api, "metadata.shop=north")) == ["task_a", "task_b"]  # an admin: anybody's


async def test_tasks_are_filtered_by_model_text_and_time(api: Any) -> None:
    body = {"model": "minimax-hailuo-2-3", "input": {"prompt": "A Portrait in teal", "duration": 6}}
    made = await api.call("POST", "/tasks", json=body)
    assert made.status == 201, made.body
    task = made.body["task_id"]
    await register(api, "task_other")
    at = (await api.call("GET", f"/tasks/{task}")).body["relay"]["created_at"]
    long_ago, far = "2020-01-01T00:00:00Z", "2096-01-01T00:00:00%2B02:00"
    for query, expected in {
        "model=minimax-hailuo-2-3": {task},
        "model=minimax-*": {task},
        "model=minimax": set(),
        "model=*": {task},  # of the other no model is known
        "text=portrait+IN": {task},
        f"text={task[2:]}": {task},
        f"text={made.body['request_id'][1:]}": {task},
        "text=hailuo": {task},
        "text=%25": set(),
        "text=other": {"task_other"},
        f"created_after={long_ago}": {task, "task_other"},
        f"created_before={long_ago}": set(),
        f"created_after={long_ago}&created_before={far}": {task, "task_other"},
        f"created_before={at}": set(),
    }.items():
        assert set(await listed(api, query)) == expected, query


async def test_deliveries_are_filtered_by_type_reason_and_time(api: Any) -> None:
    task = await api.upstream.submit()
    await api.call("PUT", f"/tasks/{task}", json={"notify": ["pipeline", "archive"]})
    api.upstream.finish()
    await api.until("/deliveries?state=delivered", lambda body: len(body["deliveries"]) == 2)
    for query, count in {
        "type=task.succeeded": 2,
        "type=task.failed": 0,
        "type=task.succeeded&destination=archive": 1,
        "reason=http_status": 0,
        "created_after=2020-01-01T00:00:00Z": 2,
        "created_before=2020-01-01T00:00:00Z": 0,
    }.items():
        reply = await api.call("GET", f"/deliveries?{query}")
        assert len(reply.body["deliveries"]) == count, query


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("created_after=yesterday", "created_after"),
        ("created_after=1700000000", "created_after"),
        ("created_after=2026-02-30T00:00:00Z", "created_after"),
        ("created_before=2026-01-01T00:00:00", "created_before"),
        ("created_before=2026-01-01T00:00:00+02:00", "created_before"),
        ("text=", "text"),
        ("text=" + "x" * 101, "text"),
        ("model=", "model"),
        ("metadata=x", "metadata"),
        ("metadata.=x", "metadata."),
        ("metadata.a.b=x", "metadata.a.b"),
        ("metadata.a%22=x", 'metadata.a"'),
        ("metadata.0=x", "metadata.0"),
        ("metadata.%C3%A9=x", "metadata.é"),
        ("metadata.a=1&metadata.a=2", "metadata.a"),
        ("&".join(f"metadata.m{n}=1" for n in range(6)), "metadata"),
    ],
)
async def test_bad_filters_are_refused_by_name(api: Any, query: str, parameter: str) -> None:
    reply = await api.call("GET", f"/tasks?{query}")
    assert reply.status == 422
    assert {error["parameter"] for error in reply.body["errors"]} == {parameter}


async def test_a_cursor_of_other_filters_is_refused(api: Any) -> None:
    await register(api, *(f"task_{number}" for number in range(4)), shop="north")
    query = "limit=1&metadata.shop=north&verdict=running&created_after=2020-01-01T00:00:00Z"
    first = (await api.call("GET", f"/tasks?{query}")).body
    cursor = first["next_cursor"]
    reordered = "created_after=2020-01-01T00:00:00Z&verdict=running&metadata.shop=north"
    second = await listed(api, f"{reordered}&limit=3&cursor={cursor}")  # the size may change
    assert [first["tasks"][0]["task_id"], *second] == ["task_3", "task_2", "task_1", "task_0"]
    for other in ("", "verdict=running", f"{reordered}&status=queued", reordered.replace("2020", "2021")):
        reply = await api.call("GET", f"/tasks?{other}&cursor={cursor}")
        assert reply.status == 422, other
        assert reply.body["errors"][0]["parameter"] == "cursor"
        assert "other filters" in reply.body["detail"]


@pytest.mark.parametrize("resource", ["tasks", "deliveries"])
async def test_a_cursor_of_another_list_is_refused(api: Any, resource: str) -> None:
    prefix = "msg" if resource == "tasks" else "tsk"
    cursor = cursors.of_row(1.0, f"{prefix}_aaaa")
    assert (await api.call("GET", f"/{resource}?cursor={cursor}")).status == 422


async def test_pages_hold_still_while_tasks_are_added(api: Any) -> None:
    await register(api, *(f"task_{number}" for number in range(6)))
    seen: list[str] = []
    path = "/tasks?limit=2&verdict=running"
    for step in range(3):
        body = (await api.call("GET", path)).body
        seen += [task["task_id"] for task in body["tasks"]]
        await register(api, f"task_new_{step}")
        path = f"/tasks?limit=2&verdict=running&cursor={body['next_cursor']}"
    assert body["next_cursor"] is None
    assert seen == [f"task_{number}" for number in range(5, -1, -1)]


def test_an_instant_is_read_as_it_is_written() -> None:
    for text in ("2026-11-23T01:02:03.500Z", "2026-11-23t03:02:03.5+02:00", "2026-11-22T23:02:03.5-02:00"):
        query = filters.TasksQuery.model_validate({"created_after": text})
        assert query.created_after == 1795395723.5


# -- ETag -------------------------------------------------------------------------------------------


async def test_what_did_not_change_is_not_sent_again(api: Any) -> None:
    task = await api.upstream.submit()
    await api.call("PUT", f"/tasks/{task}")
    await api.until(f"/tasks/{task}", lambda body: body["relay"]["events_seen"] >= 1)
    tags = {}
    for path in (f"/tasks/{task}", "/tasks", f"/tasks/{task}/events"):
        reply = await api.call("GET", path)
        tags[path] = reply.headers["etag"]
        assert tags[path].startswith('W/"')
        for sent in (tags[path], tags[path].removeprefix("W/"), f'"x", {tags[path]}', "*"):
            again = await api.call("GET", path, headers={"If-None-Match": sent})
            assert (again.status, again.body, again.headers["etag"]) == (304, None, tags[path])
        assert (await api.call("GET", path, headers={"If-None-Match": '"other"'})).status == 200
    api.upstream.finish()
    await api.until(f"/tasks/{task}", lambda body: body["relay"]["verdict"] == "ended")
    for path, tag in tags.items():
        changed = await api.call("GET", path, headers={"If-None-Match": tag})
        assert changed.status == 200
        assert changed.headers["etag"] != tag


async def test_looks_without_news_do_not_change_the_tag(api: Any) -> None:
    task = await api.upstream.submit()
    await api.call("PUT", f"/tasks/{task}")
    await api.until(f"/tasks/{task}", lambda body: body["relay"]["events_seen"] >= 1)
    first = await api.call("GET", f"/tasks/{task}")
    polled = first.body["relay"]["last_polled_at"]
    later = await api.until(f"/tasks/{task}", lambda body: body["relay"]["last_polled_at"] != polled)
    assert later["relay"]["last_polled_at"] > polled
    again = await api.call("GET", f"/tasks/{task}", headers={"If-None-Match": first.headers["etag"]})
    assert again.status == 304


async def test_a_registration_changes_the_tag_and_keys_have_their_own(api: Any) -> None:
    key, _ = await api.client_key()
    await register(api, "task_x")
    await register(api, "task_x", key=key)
    mine = (await api.call("GET", "/tasks/task_x", key=key)).headers["etag"]
    all_of_it = (await api.call("GET", "/tasks/task_x")).headers["etag"]
    assert mine != all_of_it
    await register(api, "task_x", key=key, order=7)
    reply = await api.call("GET", "/tasks/task_x", key=key, headers={"If-None-Match": mine})
    assert reply.status == 200
    assert reply.body["relay"]["registrations"][0]["metadata"] == {"order": 7}


async def test_a_held_answer_can_be_unchanged(api: Any) -> None:
    await register(api, "task_x")
    tag = (await api.call("GET", "/tasks/task_x")).headers["etag"]
    headers = {"If-None-Match": tag, "Prefer": "wait=1"}
    reply = await api.call("GET", "/tasks/task_x", headers=headers)
    assert (reply.status, reply.headers["preference-applied"]) == (304, "wait=1")


async def test_a_page_of_a_search_may_be_short_and_go_on(api: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walking, "CHUNK", 2)
    monkeypatch.setattr(walking, "WALK_MAX", 2)
    await register(api, *(f"task_{number}" for number in range(5)))
    path, pages = "/tasks?text=task_0", []
    for _ in range(5):
        body = (await api.call("GET", path)).body
        pages.append([task["task_id"] for task in body["tasks"]])
        if body["next_cursor"] is None:
            break
        path = f"/tasks?text=task_0&cursor={urllib.parse.quote(body['next_cursor'])}"
    assert pages == [[], [], ["task_0"]]
