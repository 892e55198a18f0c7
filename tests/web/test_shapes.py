"""What is answered of a task is written without its model: here the two are held against each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jsonschema_rs

from relay.web import app, openapi

DESCRIBED = openapi.document(app.ENDPOINTS)


def assert_fits(answered: Mapping[str, Any], schema: str) -> None:
    """It is valid, and has every member that is described but for those that may be left out."""
    whole = {"$ref": f"#/components/schemas/{schema}", "components": DESCRIBED["components"]}
    jsonschema_rs.Draft202012Validator(whole, validate_formats=True).validate(answered)
    described = DESCRIBED["components"]["schemas"][schema]["properties"]
    assert answered.keys() | {"error"} == described.keys() | {"error"}


def assert_task_fits(answered: Mapping[str, Any], schema: str = "Task") -> None:
    assert_fits(answered, schema)
    assert_fits(answered["relay"], "Relay")
    for registration in answered["relay"]["registrations"]:
        assert_fits(registration, "Registration")


async def test_a_task_is_answered_as_it_is_described(api: Any) -> None:
    wishes = {"notify": ["pipeline"], "statuses": ["failed", "succeeded"], "metadata": {"order": 1.5}}
    for body, status in (({}, 201), (wishes, 200)):
        answered = await api.call("PUT", "/tasks/task_1", json=body)
        assert answered.status == status
        assert_task_fits(answered.body)
    [registration] = answered.body["relay"]["registrations"]
    assert registration["statuses"] == ["succeeded", "failed"]
    assert (registration["notify"], registration["metadata"]) == (["pipeline"], {"order": 1.5})


async def test_an_ended_task_is_answered_as_it_is_described(api: Any) -> None:
    seed = {"model": "minimax-hailuo-2-3", "input": {"prompt": "A cat"}}
    created = await api.call("POST", "/tasks", json=seed)
    assert created.status == 201, created.body
    task_id = created.body["task_id"]
    api.upstream.finish()
    shown = await api.call("GET", f"/tasks/{task_id}", headers={"Prefer": "wait=20"})
    assert (shown.body["status"], shown.body["relay"]["verdict"]) == ("succeeded", "ended")
    assert isinstance(shown.body["cost_actual"], float)
    assert_task_fits(shown.body)
    listed = await api.call("GET", "/tasks")
    assert_fits(listed.body, "Tasks")
    assert [each["task_id"] for each in listed.body["tasks"]] == [task_id]
    assert_task_fits(listed.body["tasks"][0])
    events = await api.call("GET", f"/tasks/{task_id}/events")
    assert_task_fits(events.body, "TaskEvents")
    assert events.body["events"]
    for event in events.body["events"]:
        assert_fits(event, "Event")
