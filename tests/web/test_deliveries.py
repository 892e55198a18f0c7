"""Destinations and what was told to them, as an admin and as a client see it."""

from __future__ import annotations

from typing import Any

import pytest

from relay.domain import model
from tests.web.conftest import ADMIN_KEY

DELIVERY = [
    "id",
    "task_id",
    "upstream",
    "destination",
    "type",
    "state",
    "attempts_made",
    "next_attempt_at",
    "reason",
    "created_at",
    "delivered_at",
]


async def ended_task(api: Any, key: str, *notify: str) -> str:
    task: str = await api.upstream.submit()
    await api.call("PUT", f"/tasks/{task}", key=key, json={"notify": list(notify)})
    api.upstream.finish()
    await api.until(
        f"/deliveries?state=delivered&task={task}", lambda body: len(body["deliveries"]) == len(notify)
    )
    return task


async def test_destinations_are_shown_without_their_secrets(api: Any) -> None:
    key, _ = await api.client_key()
    listed = await api.call("GET", "/destinations", key=key)
    assert [one["name"] for one in listed.body["destinations"]] == ["archive", "pipeline"]
    archive, pipeline = listed.body["destinations"]
    assert archive == {
        "name": "archive",
        "source": "configuration",
        "owner": None,
        "format": "webhook",
        "service": "signed webhook",
        "address": api.receiver.url,
        "statuses": ["succeeded", "failed"],
        "prompt": False,
        "schedule": [*model.SCHEDULE],
        "timeout": 15,
        "concurrency": 8,
        "rate": None,
        "age_max": None,
        "retry_after_max": model.RETRY_AFTER_MAX,
        "headers": [],
        "signatures": ["v1"],
        "old_until": None,
        "state": "active",
        "paused_at": None,
        "disabled_at": None,
        "disabled_reason": None,
        "failing_since": None,
        "problem": None,
    }
    assert pipeline["statuses"] == ["succeeded", "failed", "cancelled", "stalled", "lost"]
    assert (await api.call("GET", "/destinations/archive", key=key)).body == archive
    for secret in ("whsec", "/hook"):
        assert secret not in str(listed.body)


async def test_an_unknown_destination_names_the_nearest(api: Any) -> None:
    reply = await api.call("GET", "/destinations/pipelin")
    assert reply.status == 404
    assert "'pipeline'" in reply.body["detail"]
    assert (await api.call("POST", "/destinations/zzz/test")).status == 404


async def test_a_test_tells_how_it_went(api: Any) -> None:
    reply = await api.call("POST", "/destinations/pipeline/test")
    assert reply.status == 200
    assert list(reply.body) == [*DELIVERY, "attempts"]
    assert (reply.body["type"], reply.body["state"], reply.body["task_id"]) == (
        "relay.test",
        "delivered",
        None,
    )
    [attempt] = reply.body["attempts"]
    assert (attempt["number"], attempt["outcome"], attempt["status_code"]) == (1, "delivered", 204)
    [request] = api.receiver.requests
    assert request.headers["webhook-id"] == reply.body["id"]


async def test_a_test_that_fails_says_why(api: Any) -> None:
    api.receiver.answer = type(api.receiver.answer)(status=500)
    reply = await api.call("POST", "/destinations/pipeline/test")
    assert reply.status == 200
    assert reply.body["state"] == "dead"
    assert reply.body["attempts"][0]["status_code"] == 500


async def test_deliveries_are_listed_shown_and_filtered(api: Any) -> None:
    key, _ = await api.client_key()
    task = await ended_task(api, key, "pipeline", "archive")
    listed = (await api.call("GET", "/deliveries", key=key)).body
    assert {one["destination"] for one in listed["deliveries"]} == {"pipeline", "archive"}
    one = listed["deliveries"][0]
    assert list(one) == DELIVERY
    assert (one["task_id"], one["type"], one["attempts_made"]) == (task, "task.succeeded", 1)
    shown = (await api.call("GET", f"/deliveries/{one['id']}", key=key)).body
    assert [attempt["number"] for attempt in shown.pop("attempts")] == [1]
    assert shown == one
    for query, count in {
        "destination=archive": 1,
        "destination=nobody": 0,
        "state=dead": 0,
        "state=delivered&limit=1": 1,
    }.items():
        assert len((await api.call("GET", f"/deliveries?{query}", key=key)).body["deliveries"]) == count, (
            query
        )


async def test_deliveries_are_paged(api: Any) -> None:
    await ended_task(api, ADMIN_KEY, "pipeline", "archive")
    first = (await api.call("GET", "/deliveries?limit=1")).body
    second = (await api.call("GET", f"/deliveries?limit=1&cursor={first['next_cursor']}")).body
    assert second["next_cursor"] is None
    assert {first["deliveries"][0]["destination"], second["deliveries"][0]["destination"]} == {
        "pipeline",
        "archive",
    }


@pytest.mark.parametrize("query", ["state=sent", "cursor=zzz", "task=a%20b", "limit=-1"])
async def test_bad_filters_are_refused(api: Any, query: str) -> None:
    assert (await api.call("GET", f"/deliveries?{query}")).status == 422


async def test_a_filter_by_an_unknown_task_is_a_404(api: Any) -> None:
    assert (await api.call("GET", "/deliveries?task=task_nowhere")).status == 404


async def test_a_client_sees_the_deliveries_of_its_tasks_only(api: Any) -> None:
    mine, _ = await api.client_key("mine")
    theirs, _ = await api.client_key("theirs")
    task = await ended_task(api, theirs, "pipeline")
    test = (await api.call("POST", "/destinations/pipeline/test")).body["id"]
    [told] = (await api.call("GET", "/deliveries", key=theirs)).body["deliveries"]
    assert (await api.call("GET", "/deliveries", key=mine)).body["deliveries"] == []
    assert len((await api.call("GET", "/deliveries")).body["deliveries"]) == 2
    for delivery in (told["id"], test, "msg_nowhere"):
        assert (await api.call("GET", f"/deliveries/{delivery}", key=mine)).status == 404
        assert (await api.call("POST", f"/deliveries/{delivery}/redeliver", key=mine)).status == 404
    assert (await api.call("GET", f"/deliveries?task={task}", key=mine)).status == 404


async def test_redeliver_sends_it_again_under_the_same_id(api: Any) -> None:
    key, _ = await api.client_key()
    await ended_task(api, key, "pipeline")
    [told] = (await api.call("GET", "/deliveries", key=key)).body["deliveries"]
    reply = await api.call("POST", f"/deliveries/{told['id']}/redeliver", key=key)
    assert reply.status == 202
    assert reply.body["id"] == told["id"]
    await api.until(f"/deliveries/{told['id']}", lambda body: len(body["attempts"]) == 2)
    requests = await api.receiver.wait_for(2)
    assert [request.headers["webhook-id"] for request in requests] == [told["id"]] * 2
    assert requests[0].body == requests[1].body
