"""Telling many again over the API: preview, run, pause, cancel, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from relay import metrics
from tests.web.conftest import ADMIN_KEY

REDELIVERY = [
    "id",
    "state",
    "filter",
    "rate",
    "count",
    "done",
    "skipped",
    "eta_seconds",
    "position",
    "created_by",
    "created_at",
    "changed_at",
    "finished_at",
]


async def told(api: Any, count: int, destination: str = "archive") -> list[str]:
    """Deliveries that arrived, oldest first."""
    made = []
    for _ in range(count):
        made.append((await api.call("POST", f"/destinations/{destination}/test")).body["id"])
    return made


async def create(api: Any, **body: Any) -> Any:
    reply = await api.call("POST", "/redeliveries", json={"state": "delivered"} | body)
    assert reply.status == 201, reply.body
    assert reply.headers["location"] == f"/api/v1/redeliveries/{reply.body['id']}"
    return reply.body


async def test_a_preview_counts_and_shows_and_sends_nothing(api: Any) -> None:
    made = await told(api, 12)
    await told(api, 1, "pipeline")
    preview = await create(api, destination="archive", rate=4)
    assert list(preview) == [*REDELIVERY, "sample"]
    assert [each["id"] for each in preview.pop("sample")] == made[:10]
    assert (preview["state"], preview["count"], preview["done"], preview["position"]) == (
        "preview",
        12,
        0,
        None,
    )
    assert (preview["rate"], preview["eta_seconds"]) == (4, 3.0)
    assert preview["filter"] == {
        "destination": "archive",
        "state": "delivered",
        "reason": None,
        "type": None,
        "task": None,
        "created_after": None,
        "created_before": None,
    }
    assert (await api.call("GET", f"/redeliveries/{preview['id']}")).body == preview
    assert (await api.call("GET", "/redeliveries?state=preview")).body == {
        "redeliveries": [preview],
        "next_cursor": None,
    }
    assert (await api.call("GET", "/deliveries?state=delivered")).body["deliveries"][0]["attempts_made"] == 1
    assert len(api.receiver.requests) == 13


async def test_it_runs_to_its_end_under_the_same_ids(api: Any) -> None:
    made = await told(api, 5)
    with capture_logs() as logs:
        preview = await create(api, destination="archive", rate=1000)
        running = await api.call("POST", f"/redeliveries/{preview['id']}/run")
    assert (running.status, running.body["state"]) == (200, "running")
    path = f"/redeliveries/{preview['id']}"
    done = await api.until(path, lambda body: body["state"] == "done")
    assert (done["count"], done["done"], done["skipped"], done["eta_seconds"]) == (5, 5, 0, None)
    assert done["finished_at"] is not None
    requests = await api.receiver.wait_for(10)
    assert [request.headers["webhook-id"] for request in requests] == [*made, *made]
    assert [request.body for request in requests[5:]] == [request.body for request in requests[:5]]
    for delivery in made:
        await api.until(f"/deliveries/{delivery}", lambda body: body["attempts_made"] == 2)
        shown = (await api.call("GET", f"/deliveries/{delivery}")).body
        assert [attempt["number"] for attempt in shown["attempts"]] == [1, 2]
        assert shown["state"] == "delivered"
    audited = [(line["event"], line["target"]) for line in logs if "target" in line]
    assert audited == [("redelivery.created", preview["id"]), ("redelivery.run", preview["id"])]


async def test_it_can_be_paused_gone_on_with_and_cancelled(api: Any) -> None:
    await told(api, 5)
    one = (await create(api, destination="archive", rate=0.1))["id"]
    states = []
    for action in ("run", "pause", "pause", "run", "cancel", "cancel"):
        reply = await api.call("POST", f"/redeliveries/{one}/{action}")
        assert reply.status == 200
        states.append(reply.body["state"])
        if len(states) == 1:
            await api.until(f"/redeliveries/{one}", lambda body: body["done"] == 1)
    assert states == ["running", "paused", "paused", "running", "cancelled", "cancelled"]
    reply = await api.call("POST", f"/redeliveries/{one}/run")
    assert reply.status == 409
    assert "This redelivery is cancelled" in reply.body["detail"]
    shown = (await api.call("GET", f"/redeliveries/{one}")).body
    assert (shown["state"], shown["eta_seconds"]) == ("cancelled", None)
    assert 1 <= shown["done"] < 5


async def test_the_rate_can_be_changed_while_it_runs(api: Any) -> None:
    await told(api, 4)
    one = (await create(api, destination="archive", rate=0.1))["id"]
    await api.call("POST", f"/redeliveries/{one}/run")
    faster = await api.call("POST", f"/redeliveries/{one}/run", json={"rate": 1000})
    assert faster.body["rate"] == 1000
    await api.until(f"/redeliveries/{one}", lambda body: body["state"] == "done")
    await api.receiver.wait_for(8)


async def test_one_that_selects_nothing_is_done_at_once(api: Any) -> None:
    preview = await create(api, all=True)
    assert (preview["count"], preview["sample"]) == (0, [])
    await api.call("POST", f"/redeliveries/{preview['id']}/run")
    done = await api.until(f"/redeliveries/{preview['id']}", lambda body: body["state"] == "done")
    assert done["position"] is None


async def test_those_of_a_task_are_selected_and_dead_ones_are_meant(api: Any) -> None:
    task = await api.upstream.submit()
    await api.call("PUT", f"/tasks/{task}", json={"notify": ["archive", "pipeline"]})
    api.upstream.finish()
    await api.until("/deliveries?state=delivered", lambda body: len(body["deliveries"]) == 2)
    await told(api, 1)
    preview = await create(api, task=f"mindvideo:{task}")
    assert preview["count"] == 2
    assert {each["task_id"] for each in preview["sample"]} == {task}
    assert preview["filter"]["task"] == f"mindvideo:{task}"
    dead = (await api.call("POST", "/redeliveries", json={"task": task})).body
    assert (dead["filter"]["state"], dead["count"]) == ("dead", 0)


async def test_lists_are_paged_newest_first(api: Any) -> None:
    made = [(await create(api, all=True))["id"] for _ in range(3)]
    first = (await api.call("GET", "/redeliveries?limit=2")).body
    second = (await api.call("GET", f"/redeliveries?limit=2&cursor={first['next_cursor']}")).body
    assert [one["id"] for one in (*first["redeliveries"], *second["redeliveries"])] == made[::-1]
    assert second["next_cursor"] is None
    refused = await api.call("GET", f"/redeliveries?state=done&cursor={first['next_cursor']}")
    assert (refused.status, refused.body["errors"][0]["parameter"]) == (422, "cursor")


BAD: list[tuple[dict[str, Any], str, str]] = [
    ({}, "", "at least one of destination, task"),
    ({"state": "dead"}, "", '{"all": true}'),
    ({"all": True, "reason": "x"}, "/all", "does not go with reason"),
    ({"all": "yes"}, "/all", "boolean"),
    ({"destination": "pipelin"}, "/destination", "did you mean 'pipeline'?"),
    ({"destination": "zzz"}, "/destination", "archive, pipeline"),
    ({"type": "task.succeded"}, "/type", "did you mean 'task.succeeded'?"),
    ({"task": "a b"}, "/task", "A task id is"),
    ({"task": "task_nowhere"}, "/task", "no such task"),
    ({"all": True, "state": "pending"}, "/state", "'dead'"),
    ({"created_after": "yesterday"}, "/created_after", "an instant such as"),
    ({"created_after": 5}, "/created_after", "an instant such as"),
    (
        {"created_after": "2026-11-23T01:02:03Z", "created_before": "2026-11-23T01:02:03Z"},
        "/created_before",
        "later than created_after",
    ),
    ({"all": True, "rate": 0}, "/rate", "0.1"),
    ({"all": True, "rate": 1001}, "/rate", "1000"),
    ({"all": True, "rate": "10"}, "/rate", "number"),
    ({"al": True}, "/al", "did you mean 'all'?"),
]


@pytest.mark.parametrize(("body", "pointer", "says"), BAD)
async def test_what_cannot_be_meant_is_refused(api: Any, body: Any, pointer: str, says: str) -> None:
    reply = await api.call("POST", "/redeliveries", json=body)
    assert reply.status == 422
    found = {each["pointer"]: each["detail"] for each in reply.body["errors"]}
    assert says in found[pointer], found
    assert (await api.call("GET", "/redeliveries")).body["redeliveries"] == []


async def test_everything_that_is_wrong_is_told_at_once(api: Any) -> None:
    body = {"destination": "zzz", "type": "zzz", "task": "task_nowhere", "all": True}
    reply = await api.call("POST", "/redeliveries", json=body)
    assert {each["pointer"] for each in reply.body["errors"]} == {"/destination", "/type", "/task", "/all"}


async def test_an_unknown_one_is_a_404(api: Any) -> None:
    assert (await api.call("GET", "/redeliveries/rdl_none")).status == 404
    for action in ("run", "pause", "cancel"):
        assert (await api.call("POST", f"/redeliveries/rdl_none/{action}")).status == 404


async def test_only_an_admin_comes_here(api: Any) -> None:
    key, _ = await api.client_key()
    one = (await create(api, all=True))["id"]
    assert one.startswith("rdl_")
    for method, path in (("POST", ""), ("GET", ""), ("GET", f"/{one}"), ("POST", f"/{one}/run")):
        assert (await api.call(method, f"/redeliveries{path}", key=key)).status == 403
    assert (await api.call("GET", f"/redeliveries/{one}", key=ADMIN_KEY)).body["created_by"]


def value(registry: CollectorRegistry, name: str, **labels: str) -> float:
    return registry.get_sample_value(name, labels) or 0.0


async def test_it_is_measured(api: Any) -> None:
    await told(api, 3)
    before = value(metrics.REGISTRY, "relay_redelivered_total")
    one = (await create(api, destination="archive", rate=1000))["id"]
    await create(api, all=True)
    await api.call("POST", f"/redeliveries/{one}/run")
    await api.receiver.wait_for(6)
    assert value(metrics.REGISTRY, "relay_redelivered_total") == before + 3
    text = await api.until("/metrics", lambda text: 'relay_redeliveries{state="done"} 1.0' in text, key=None)
    assert 'relay_redeliveries{state="preview"} 1.0' in text
    assert 'relay_redeliveries{state="running"} 0.0' in text
