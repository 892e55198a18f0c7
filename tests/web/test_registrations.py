"""Registering many tasks at once: a result each, in order, and the good ones are registered."""

from __future__ import annotations

from typing import Any

import pytest


async def register(api: Any, *tasks: dict[str, Any], key: str | None = None) -> list[dict[str, Any]]:
    more = {} if key is None else {"key": key}
    reply = await api.call("POST", "/registrations", json={"tasks": list(tasks)}, **more)
    assert reply.status == 200, reply.body
    results: list[dict[str, Any]] = reply.body["registrations"]
    return results


async def test_each_has_its_result_in_order(api: Any) -> None:
    await api.call("PUT", "/tasks/known", json={"notify": ["pipeline"]})
    results = await register(
        api,
        {"task": "new", "notify": ["pipeline"], "metadata": {"n": 1}},
        {"task": "known", "notify": ["archive"]},
        {"task": "bad id"},
        {"task": "mindvideo:other", "notify": ["pipeline", "nobody"]},
        {"task": "large", "metadata": {"x": "y" * 5000}},
        {"task": "last", "statuses": ["failed"]},
    )
    assert [result["task"] for result in results] == [
        "new",
        "known",
        "bad id",
        "mindvideo:other",
        "large",
        "last",
    ]
    assert [result["result"] for result in results] == [
        "created",
        "updated",
        "refused",
        "refused",
        "refused",
        "created",
    ]
    assert results[0].keys() == {"task", "result", "id", "status", "verdict"}
    refused = results[3]["error"]
    assert refused["status"] == 422
    assert refused["instance"].startswith("urn:relay:request:")
    assert refused["errors"][0]["pointer"] == "/notify/1"
    assert results[4]["error"]["errors"][0]["pointer"] == "/metadata"
    listed = (await api.call("GET", "/tasks")).body["tasks"]
    assert {task["task_id"] for task in listed} == {"new", "known", "last"}
    [known] = [task for task in listed if task["task_id"] == "known"]
    assert known["relay"]["registrations"][0]["notify"] == ["pipeline", "archive"]


async def test_a_task_named_twice_is_registered_once_with_all_that_was_asked(api: Any) -> None:
    results = await register(
        api,
        {"task": "t", "notify": ["pipeline"], "metadata": {"n": 1}},
        {"task": "mindvideo:t", "notify": ["archive"], "metadata": {"n": 2}},
    )
    assert [result["result"] for result in results] == ["created", "updated"]
    assert results[0]["id"] == results[1]["id"]
    [registration] = (await api.call("GET", "/tasks/t")).body["relay"]["registrations"]
    assert (registration["notify"], registration["metadata"]) == (["pipeline", "archive"], {"n": 2})


async def test_a_thousand_are_taken_and_again(api: Any) -> None:
    tasks = [{"task": f"t{number}", "notify": ["pipeline"]} for number in range(1000)]
    assert {result["result"] for result in await register(api, *tasks)} == {"created"}
    assert {result["result"] for result in await register(api, *tasks)} == {"updated"}


@pytest.mark.parametrize(
    ("tasks", "pointer"),
    [
        ([], "/tasks"),
        ([{"task": "t"}] * 1001, "/tasks"),
        ([{"task": "t"}, {"tsak": "t"}], "/tasks/1/task"),
        ([{"task": "t", "notify": "pipeline"}], "/tasks/0/notify"),
    ],
)
async def test_a_body_of_the_wrong_shape_is_refused_whole(api: Any, tasks: Any, pointer: str) -> None:
    reply = await api.call("POST", "/registrations", json={"tasks": tasks})
    assert reply.status == 422
    assert pointer in [error["pointer"] for error in reply.body["errors"]]
    assert (await api.call("GET", "/tasks")).body["tasks"] == []


async def test_those_that_ended_are_told_at_once(api: Any) -> None:
    task_id = await api.upstream.submit()
    api.upstream.finish()
    await api.call("PUT", f"/tasks/{task_id}", json={"notify": ["pipeline"]})
    await api.receiver.wait_for(1)
    key, _ = await api.client_key()
    [result] = await register(api, {"task": task_id, "notify": ["archive"]}, key=key)
    assert (result["result"], result["status"], result["verdict"]) == ("created", "succeeded", "ended")
    told = await api.receiver.wait_for(2)
    assert [request.path for request in told] == ["/hook", "/archive"]
